"""Real evidence, and simulated installations to derive bad evidence from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from strongroom.crypto import x509
from strongroom.records.evidence import AmdCollateral
from strongroom.tee.anchors import TrustAnchor, installation_anchor
from strongroom.tee.genuine import Genuine
from strongroom.tee.snp import parse_report, verify
from strongroom_sim.snp import SnpChip, SnpInstallation

NOW = 1_790_000_000
MEASUREMENT = bytes(range(48))


@pytest.fixture(scope="session")
def vectors(vectors: Path) -> Path:
    """The SEV-SNP part of the real evidence."""
    return vectors / "snp"


@pytest.fixture(scope="session")
def read_report(vectors: Path) -> Callable[[str], bytes]:
    """The report in a vector: raw, in hexadecimal, or inside a SCALE container behind four bytes."""

    def read(name: str) -> bytes:
        data = (vectors / name).read_bytes()
        if name.endswith(".hex"):
            return bytes.fromhex(data.decode("ascii"))
        return data[4 : 4 + 1184] if name.endswith(".scale.bin") else data

    return read


@pytest.fixture(scope="session")
def read_collateral(vectors: Path) -> Callable[[str, str], AmdCollateral]:
    """A leaf and the certificates above it as our record; no revocation list is among the vectors."""

    def read(leaf: str, chain: str) -> AmdCollateral:
        data = (vectors / leaf).read_bytes()
        der = data if leaf.endswith(".der") else x509.load_chain(data)[0].public_bytes(Encoding.DER)
        return AmdCollateral(der, (vectors / f"amd_{chain}.pem").read_bytes().decode("ascii"), b"")

    return read


@dataclass
class Place:
    """A simulated installation, its anchor, and one good chip with its collateral at `now`."""

    installation: SnpInstallation
    anchor: TrustAnchor
    chip: SnpChip
    collateral: AmdCollateral
    now: int = NOW

    def make(self, **said: Any) -> tuple[SnpChip, AmdCollateral]:
        chip = SnpChip(self.installation, measurement=MEASUREMENT, now=self.now, **said)
        return chip, replace(chip.collateral(self.now), crl=self.collateral.crl)

    def judge(self, report: bytes, collateral: AmdCollateral | None = None, now: int = NOW) -> Genuine:
        return verify(parse_report(report), collateral or self.collateral, [self.anchor], now)

    def judge_chip(self, **said: Any) -> Genuine:
        chip, collateral = self.make(**said)
        return self.judge(chip.report(bytes(64)), collateral)


def make_place(installation: SnpInstallation) -> Place:
    chip = SnpChip(installation, measurement=MEASUREMENT, now=NOW)
    return Place(installation, installation_anchor("snp", installation.root_pem), chip, chip.collateral(NOW))


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    directory = tmp_path_factory.mktemp("snp") / "installation"
    SnpInstallation.create(directory, now=NOW)
    return make_place(SnpInstallation.load(directory))


@pytest.fixture(scope="session")
def places(place: Place) -> dict[str, Place]:
    """One place for each product; they share keys, not certificates."""
    keys = place.installation.keys
    others = {p: make_place(SnpInstallation.generate(now=NOW, product=p, keys=keys)) for p in ("Genoa", "Turin")}
    return {"Milan": place, **others}
