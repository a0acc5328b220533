"""A simulated TDX chip with one TD: registers, and quotes over them.

Knows: the bodies of quotes of versions 4 and 5 (Intel TDX DCAP Quoting Library API, appendix 3). Does not know: how keys
are certified (`quoting`), or how a guest reaches it (`abi`). A TD's registers live as long as the TD, so a new TD is a
new `Chip`. Every quote says `strongroom-sim` in its signed header, besides hanging from an installation root.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from strongroom.errors import UsageError
from strongroom_sim import tcb
from strongroom_sim.ca import Installation
from strongroom_sim.quoting import MARK, QE_VENDOR, QuotingEnclave, header

__all__ = ["MARK", "MRSEAM", "QE_VENDOR", "REPORT_DATA_BYTES", "XFAM", "ZERO", "Chip"]

ZERO = bytes(48)
TEE_TYPE = 0x81
MRSEAM = hashlib.sha384(b"strongroom-sim/tdx-module/v1").digest()
XFAM = bytes.fromhex("e700060000000000")
DEBUG, SEPT_VE_DISABLE = 0, 28
REPORT_DATA_BYTES = 64
REGISTERS = 4
SERVICE_TDS_BYTES = 237
"""What TD report 1.5 extended adds to 1.5."""


class Chip:
    """One simulated TD.

    What is measured of it is fixed at launch, but for its four run-time registers (48 bytes each). With `tee_tcb_svn2`
    its quotes are of version 5 with a TD report 1.5, with `service_tds` besides with an extended one; else of version 4.
    """

    def __init__(
        self,
        installation: Installation,
        *,
        mrtd: bytes,
        mrconfigid: bytes = ZERO,
        mrowner: bytes = ZERO,
        mrownerconfig: bytes = ZERO,
        rtmr0: bytes = ZERO,
        rtmr1: bytes = ZERO,
        rtmr2: bytes = ZERO,
        mrseam: bytes = MRSEAM,
        mrsignerseam: bytes = ZERO,
        xfam: bytes = XFAM,
        sept_ve_disable: bool = True,
        debug: bool = False,
        attributes: Iterable[int] = (),
        tee_tcb_svn: bytes = tcb.TEE_TCB_SVN,
        tee_tcb_svn2: bytes | None = None,
        mr_service_td: bytes = ZERO,
        service_tds: bytes | None = None,
        vendor: bytes = QE_VENDOR,
        qe_svn: int = tcb.QE_SVN,
        quoting_enclave: QuotingEnclave | None = None,
    ) -> None:
        """`attributes` are the numbers of further bits that are set. The last three are for tests."""
        fixed = (mrtd, mrconfigid, mrowner, mrownerconfig, rtmr0, rtmr1, rtmr2, mrseam, mrsignerseam, mr_service_td)
        if any(len(register) != len(ZERO) for register in fixed) or len(tee_tcb_svn) != 16 or len(xfam) != 8:  # noqa: PLR2004
            raise UsageError("a register of the simulated TD has the wrong size")
        flags = {*attributes, *((SEPT_VE_DISABLE,) if sept_ve_disable else ()), *((DEBUG,) if debug else ())}
        bits = sum(1 << flag for flag in flags)
        self._fixed = (
            tee_tcb_svn + mrseam + mrsignerseam + bytes(8) + bits.to_bytes(8, "little") + xfam
            + mrtd + mrconfigid + mrowner + mrownerconfig
        )  # fmt: skip
        self._newer = b"" if tee_tcb_svn2 is None else tee_tcb_svn2 + mr_service_td + (service_tds or b"")
        self._vendor = vendor
        self._rtmrs = [rtmr0, rtmr1, rtmr2, ZERO]
        self._qe = quoting_enclave or QuotingEnclave(installation, tcb.QE_PRODUCT, svn=qe_svn)

    @property
    def rtmrs(self) -> tuple[bytes, ...]:
        """The run-time registers as they are now."""
        return tuple(self._rtmrs)

    def extend(self, register: int, measurement: bytes) -> None:
        """What TDG.MR.RTMR.EXTEND does: SHA-384 over the register and 48 bytes. Raises `UsageError`."""
        if not 0 <= register < REGISTERS or len(measurement) != len(ZERO):
            raise UsageError(f"register {register} cannot be extended by {len(measurement)} bytes")
        self._rtmrs[register] = hashlib.sha384(self._rtmrs[register] + measurement).digest()

    def log(self) -> bytes:
        """No firmware boots here, so it logs nothing."""
        return b""

    def quote(self, report_data: bytes) -> bytes:
        """A quote over 64 bytes and the registers as they are now. Raises `UsageError`."""
        if len(report_data) != REPORT_DATA_BYTES:
            raise UsageError(f"report data of {len(report_data)} bytes where {REPORT_DATA_BYTES} are needed")
        body = self._fixed + b"".join(self._rtmrs) + report_data + self._newer
        if not self._newer:
            return self._qe.quote(header(4, TEE_TYPE, self._vendor) + body, wrapped=True)
        kind = 4 if len(self._newer) > SERVICE_TDS_BYTES else 3
        size = kind.to_bytes(2, "little") + len(body).to_bytes(4, "little")
        return self._qe.quote(header(5, TEE_TYPE, self._vendor) + size + body, wrapped=True)
