"""Simulated vendors, their anchors, and services that answer for them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from vendors import Service, amd, intel, served

from strongroom.collateral.cache import Cache
from strongroom.collateral.checks import Checks
from strongroom.collateral.fetchers import AmdFetcher, IntelFetcher
from strongroom.collateral.http import Backoff, Http
from strongroom.collateral.items import Item, Part
from strongroom.collateral.needs import AmdNeeds, IntelNeeds
from strongroom.records.evidence import IntelCollateral
from strongroom.tee.anchors import TrustAnchor, installation_anchor
from strongroom.tee.snp import parse_report
from strongroom_sim import Installation
from strongroom_sim.snp import SnpChip, SnpInstallation
from strongroom_sim.tcb import FMSPC

NOW = 1_790_000_000


@pytest.fixture(autouse=True)
def no_proxy_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture(scope="session")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Installation:
    return Installation.create(tmp_path_factory.mktemp("intel") / "installation", now=NOW)


@pytest.fixture(scope="session")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Installation:
    return Installation.create(tmp_path_factory.mktemp("stranger") / "installation", now=NOW)


@pytest.fixture(scope="session")
def snp() -> SnpInstallation:
    return SnpInstallation.generate(now=NOW)


@pytest.fixture(scope="session")
def chip(snp: SnpInstallation) -> SnpChip:
    return SnpChip(snp, measurement=bytes(48), now=NOW)


@pytest.fixture(scope="session")
def collateral(installation: Installation) -> IntelCollateral:
    return installation.collateral(NOW)


@pytest.fixture(scope="session")
def anchors(installation: Installation, snp: SnpInstallation) -> tuple[TrustAnchor, ...]:
    return (installation_anchor("tdx", installation.root_pem), installation_anchor("snp", snp.root_pem))


@pytest.fixture(scope="session")
def checks(anchors: tuple[TrustAnchor, ...]) -> Checks:
    return Checks(anchors)


@pytest.fixture(scope="session")
def intel_needs() -> IntelNeeds:
    return IntelNeeds("tdx", FMSPC, "platform")


@pytest.fixture(scope="session")
def amd_needs(chip: SnpChip) -> AmdNeeds:
    report = parse_report(chip.quote(bytes(64)))
    return AmdNeeds("Milan", report.chip_id, report.reported_tcb)


@pytest.fixture
def pcs(collateral: IntelCollateral) -> Service:
    return Service(dict(intel(collateral)))


@pytest.fixture
def kds(snp: SnpInstallation, chip: SnpChip, amd_needs: AmdNeeds) -> Service:
    levels = amd_needs.tcb
    target = f"{amd_needs.chip_id.hex()}?blSPL={levels[0]}&teeSPL={levels[1]}&snpSPL={levels[6]}&ucodeSPL={levels[7]}"
    return Service(dict(amd(snp, NOW, {target: chip.collateral(NOW).leaf})))


@dataclass
class Hurry:
    """A clientele that never really waits, and remembers how long it would have."""

    waits: list[float]

    def http(self, *, attempts: int = 4, first: float = 1.0, longest: float = 30.0, **limits: float) -> Http:
        return Http(backoff=Backoff(attempts, first, longest), sleep=self.waits.append, **limits)


@pytest.fixture
def hurry() -> Hurry:
    return Hurry([])


@pytest.fixture
def serve() -> Iterator[Callable[[object], str]]:
    """Serve an application until the test ends."""
    with ExitStack() as stack:
        yield lambda service: stack.enter_context(served(service))


@pytest.fixture
def intel_at(hurry: Hurry) -> Callable[[str], IntelFetcher]:
    return lambda url: IntelFetcher(url, http=hurry.http())


@pytest.fixture
def amd_at(hurry: Hurry) -> Callable[[str], AmdFetcher]:
    return lambda url: AmdFetcher(url, http=hurry.http())


@pytest.fixture
def cache(tmp_path: Path, checks: Checks) -> Cache:
    return Cache(tmp_path / "cache", checks)


@pytest.fixture(scope="session")
def parts(collateral: IntelCollateral, snp: SnpInstallation, chip: SnpChip, intel_needs: IntelNeeds,
          amd_needs: AmdNeeds) -> dict[Item, Part]:  # fmt: skip
    """Good parts for all items of both needs."""
    tcb_info, identity, pck_crl, root_crl = intel_needs.items
    chain, crl, leaf = amd_needs.items
    c = collateral
    return {
        tcb_info: Part(c.tcb_info.encode(), c.tcb_info_signature, c.tcb_info_chain),
        identity: Part(c.qe_identity.encode(), c.qe_identity_signature, c.qe_identity_chain),
        pck_crl: Part(c.pck_crl, b"", c.pck_crl_chain),
        root_crl: Part(c.root_ca_crl, b"", c.pck_crl_chain),
        chain: Part(b"", b"", snp.chain("ask")),
        crl: Part(snp.crl(NOW), b"", snp.chain("ask")),
        leaf: Part(chip.collateral(NOW).leaf, b"", snp.chain("ask")),
    }
