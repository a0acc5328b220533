"""TDX quotes that are wrong in one way each: for every check the one that fails it, and fails nothing else."""

from __future__ import annotations

from collections.abc import Mapping

from strongroom_sim import tcb
from strongroom_sim.broken import dcap
from strongroom_sim.broken.dcap import Broken, Maker
from strongroom_sim.ca import Installation
from strongroom_sim.chip import Chip
from strongroom_sim.quoting import QuotingEnclave

MRTD = bytes(48)
REPORT_DATA = bytes(range(64))


def broken(installation: Installation, now: int) -> Mapping[str, Broken]:
    """Check -> what fails exactly this check under the root of `installation`."""
    foreign_module = Chip(installation, mrtd=MRTD, mrsignerseam=bytes([1]) * 48)
    downgraded = Chip(installation, mrtd=MRTD, tee_tcb_svn2=tcb.TEE_TCB_SVN_REVOKED)
    collateral = installation.collateral(now)
    return {
        **dcap.broken(MAKER, installation, now),
        "tdx.tcb.module": Broken(foreign_module.quote(REPORT_DATA), collateral, now),
        "tdx.tcb.current": Broken(downgraded.quote(REPORT_DATA), collateral, now),
    }


def _with_enclave(installation: Installation, quoting_enclave: QuotingEnclave) -> bytes:
    return Chip(installation, mrtd=MRTD, quoting_enclave=quoting_enclave).quote(REPORT_DATA)


def _with_vendor(installation: Installation, vendor: bytes) -> bytes:
    return Chip(installation, mrtd=MRTD, vendor=vendor).quote(REPORT_DATA)


MAKER = Maker(
    "tdx",
    tcb.QE_PRODUCT,
    lambda installation: Chip(installation, mrtd=MRTD).quote(REPORT_DATA),
    _with_enclave,
    _with_vendor,
)
