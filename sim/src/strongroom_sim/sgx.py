"""A simulated SGX enclave: its identity, and quotes of version 3 over it.

Knows: the SGX report as the body of a quote. Does not know: how keys are certified (`quoting`). Every quote says
`strongroom-sim` in its signed header, besides hanging from an installation root. There is no ABI to imitate here: an
enclave is handed its quote by its own runtime.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from strongroom.errors import UsageError
from strongroom_sim import tcb
from strongroom_sim.ca import Installation
from strongroom_sim.quoting import QE_VENDOR, QuotingEnclave, enclave_report, header

MRSIGNER = hashlib.sha256(b"strongroom-sim/enclave-signer/v1").digest()
INIT, DEBUG, MODE64, PROVISION_KEY, EINITTOKEN_KEY, KSS = 0, 1, 2, 4, 5, 7
XFRM = bytes.fromhex("e700000000000000")
REPORT_DATA_BYTES = 64


class SgxEnclave:
    """One simulated enclave. `attributes` are the numbers of bits that are set besides INIT and MODE64."""

    def __init__(
        self,
        installation: Installation,
        *,
        mrenclave: bytes,
        mrsigner: bytes = MRSIGNER,
        attributes: Iterable[int] = (),
        xfrm: bytes = XFRM,
        miscselect: bytes = bytes(4),
        isvprodid: int = 1,
        isvsvn: int = 1,
        config_id: bytes = bytes(64),
        config_svn: int = 0,
        vendor: bytes = QE_VENDOR,
        quoting_enclave: QuotingEnclave | None = None,
    ) -> None:
        """The last two are for tests of what a verifier must notice."""
        bits = sum(1 << flag for flag in {INIT, MODE64, *attributes})
        self._platform = installation.platform
        self._qe = quoting_enclave or QuotingEnclave(installation, tcb.SGX_QE_PRODUCT)
        self._header = header(3, 0, vendor)
        self._report = enclave_report(
            attributes=bits.to_bytes(8, "little") + xfrm,
            mrenclave=mrenclave,
            mrsigner=mrsigner,
            isvprodid=isvprodid,
            isvsvn=isvsvn,
            report_data=bytes(REPORT_DATA_BYTES),
            miscselect=miscselect,
            config_id=config_id,
            config_svn=config_svn,
        )

    def quote(self, report_data: bytes, *, by_ppid: bool = False) -> bytes:
        """A quote over 64 bytes. With `by_ppid` it only names its platform, and the chain must come as collateral.

        Raises `UsageError`.
        """
        if len(report_data) != REPORT_DATA_BYTES:
            raise UsageError(f"report data of {len(report_data)} bytes where {REPORT_DATA_BYTES} are needed")
        signed = self._header + self._report[:-REPORT_DATA_BYTES] + report_data
        pcesvn, components = self._platform.pcesvn.to_bytes(2, "little"), bytes(self._platform.components)
        named = self._platform.ppid + components + pcesvn + self._platform.pceid
        return self._qe.quote(signed, wrapped=False, named=named if by_ppid else None)
