"""Real evidence, and a simulated installation to derive bad evidence from."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from strongroom.records.evidence import Collateral
from strongroom.tee.anchors import TrustAnchor, installation_anchor
from strongroom.tee.tdx import Genuine, parse_quote, verify
from strongroom_sim import Chip, Installation

NOW = 1_790_000_000


@pytest.fixture(scope="session")
def vectors(vectors: Path) -> Path:
    """The TDX part of the real evidence."""
    return vectors / "tdx"


def collateral_of(bundle: str | bytes) -> Collateral:
    """A bundle in the shape of QuoteCollateralV3 as our record."""
    found = json.loads(bundle)
    octets = {
        name: bytes.fromhex(found[name])
        for name in ("tcb_info_signature", "qe_identity_signature", "root_ca_crl", "pck_crl")
    }
    return Collateral(
        tcb_info=found["tcb_info"],
        tcb_info_chain=found["tcb_info_issuer_chain"],
        qe_identity=found["qe_identity"],
        qe_identity_chain=found["qe_identity_issuer_chain"],
        pck_crl_chain=found["pck_crl_issuer_chain"],
        **octets,
    )


@pytest.fixture(scope="session")
def read_collateral(vectors: Path) -> Callable[[str], Collateral]:
    return lambda name: collateral_of((vectors / name).read_bytes())


@dataclass
class Place:
    """A simulated installation, its anchor, its collateral at `NOW`, and one good chip."""

    installation: Installation
    anchor: TrustAnchor
    collateral: Collateral
    chip: Chip
    now: int = NOW

    def judge(self, quote: bytes, collateral: Collateral | None = None, now: int = NOW) -> Genuine:
        return verify(parse_quote(quote), collateral or self.collateral, [self.anchor], now)


def make_place(directory: Path) -> Place:
    installation = Installation.create(directory, now=NOW)
    anchor = installation_anchor("tdx", installation.root_pem)
    return Place(installation, anchor, installation.collateral(NOW), Chip(installation, mrtd=bytes(48)))


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return make_place(tmp_path_factory.mktemp("place") / "installation")


@pytest.fixture(scope="session")
def other_place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return make_place(tmp_path_factory.mktemp("other") / "installation")
