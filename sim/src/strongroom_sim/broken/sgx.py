"""SGX quotes that are wrong in one way each: for every check the one that fails it, and fails nothing else."""

from __future__ import annotations

from collections.abc import Mapping

from strongroom_sim import tcb
from strongroom_sim.broken import dcap
from strongroom_sim.broken.dcap import Broken, Maker
from strongroom_sim.ca import Installation
from strongroom_sim.quoting import QuotingEnclave
from strongroom_sim.sgx import SgxEnclave

MRENCLAVE = bytes(32)
REPORT_DATA = bytes(range(64))


def broken(installation: Installation, now: int) -> Mapping[str, Broken]:
    """Check -> what fails exactly this check under the root of `installation`."""
    return dcap.broken(MAKER, installation, now)


def _with_enclave(installation: Installation, quoting_enclave: QuotingEnclave) -> bytes:
    return SgxEnclave(installation, mrenclave=MRENCLAVE, quoting_enclave=quoting_enclave).quote(REPORT_DATA)


def _with_vendor(installation: Installation, vendor: bytes) -> bytes:
    return SgxEnclave(installation, mrenclave=MRENCLAVE, vendor=vendor).quote(REPORT_DATA)


MAKER = Maker(
    "sgx",
    tcb.SGX_QE_PRODUCT,
    lambda installation: SgxEnclave(installation, mrenclave=MRENCLAVE).quote(REPORT_DATA),
    _with_enclave,
    _with_vendor,
)
