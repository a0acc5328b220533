"""Real evidence, and a simulated platform to derive bad evidence from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from strongroom.records.evidence import ArmCollateral
from strongroom.tee.cca import parse_token, verify
from strongroom.tee.genuine import Genuine
from strongroom_sim.cca import CcaPlatform, Realm

NOW = 1_790_000_000
RIM = bytes(range(64))


@pytest.fixture(scope="session")
def vectors(vectors: Path) -> Path:
    """The CCA part of the real evidence."""
    return vectors / "cca"


@dataclass
class Place:
    """A simulated platform and one good realm on it."""

    platform: CcaPlatform
    realm: Realm
    now: int = NOW

    def judge(self, quote: bytes, collateral: ArmCollateral | None = None) -> Genuine:
        return verify(parse_token(quote), collateral or self.platform.collateral, [self.platform.anchor], NOW)


def make_place() -> Place:
    platform = CcaPlatform()
    return Place(platform, Realm(platform, rim=RIM))


@pytest.fixture(scope="session")
def place() -> Place:
    return make_place()


@pytest.fixture(scope="session")
def other_place() -> Place:
    return make_place()
