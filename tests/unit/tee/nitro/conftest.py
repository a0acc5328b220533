"""Real evidence, and a simulated cloud to derive bad evidence from."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from strongroom.records.evidence import AwsCollateral
from strongroom.tee.anchors import TrustAnchor, installation_anchor
from strongroom.tee.genuine import Genuine
from strongroom.tee.nitro import parse_document, verify
from strongroom_sim.nitro import Enclave, NitroCloud

NOW = 1_790_000_000
PCRS = {index: hashlib.sha384(bytes([index])).digest() for index in range(3)}


@pytest.fixture(scope="session")
def vectors(vectors: Path) -> Path:
    """The Nitro part of the real evidence."""
    return vectors / "nitro"


@dataclass
class Place:
    """A simulated cloud, its anchor, and one good enclave at `NOW`."""

    cloud: NitroCloud
    anchor: TrustAnchor
    enclave: Enclave
    now: int = NOW

    def judge(self, quote: bytes, collateral: AwsCollateral | None = None, now: int = NOW) -> Genuine:
        return verify(parse_document(quote), collateral, [self.anchor], now)

    def changed(self, **fields: Any) -> bytes:
        """A document that says otherwise, signed by the enclave."""
        return self.enclave.sign({**self.enclave.payload(now=NOW), **fields})


def make_place() -> Place:
    cloud = NitroCloud.create(now=NOW)
    return Place(cloud, installation_anchor("nitro", cloud.root_pem), Enclave(cloud, PCRS))


@pytest.fixture(scope="session")
def place() -> Place:
    return make_place()


@pytest.fixture(scope="session")
def other_place() -> Place:
    return make_place()
