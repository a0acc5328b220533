"""A simulated TDX chip with one TD: registers, and quotes of version 4 over them.

Knows: the bytes of a quote (Intel TDX DCAP Quoting Library API, appendix 3), the chain of keys under an installation.
Does not know: how a guest reaches it (`abi`). A TD's registers live as long as the TD, so a new TD is a new `Chip`.
Every quote says `strongroom-sim` in its signed header, besides hanging from an installation root.
"""

from __future__ import annotations

import hashlib

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from strongroom.crypto import signatures
from strongroom.errors import UsageError
from strongroom_sim import tcb
from strongroom_sim.ca import Installation, sign_raw

ZERO = bytes(48)
QE_VENDOR = bytes.fromhex("939a7233f79c4ca9940a0db3957f0607")
MARK = b"strongroom-sim".ljust(20, b"\0")
MRSEAM = hashlib.sha384(b"strongroom-sim/tdx-module/v1").digest()
XFAM = bytes.fromhex("e700060000000000")
SEPT_VE_DISABLE = 1 << 28
DEBUG = 1 << 0
AUTH_DATA = bytes(range(32))
REPORT_DATA_BYTES = 64
REGISTERS = 4


class Chip:
    """One simulated TD.

    What is measured of it is fixed at launch, but for its four run-time registers (48 bytes each).
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
        xfam: bytes = XFAM,
        sept_ve_disable: bool = True,
        debug: bool = False,
        tee_tcb_svn: bytes = tcb.TEE_TCB_SVN,
        qe_svn: int = tcb.QE_SVN,
    ) -> None:
        """The last four are for tests of what a verifier must notice."""
        fixed = (mrtd, mrconfigid, mrowner, mrownerconfig, rtmr0, rtmr1, rtmr2, mrseam)
        if any(len(register) != len(ZERO) for register in fixed) or len(tee_tcb_svn) != 16 or len(xfam) != 8:  # noqa: PLR2004
            raise UsageError("a register of the simulated TD has the wrong size")
        attributes = (SEPT_VE_DISABLE if sept_ve_disable else 0) | (DEBUG if debug else 0)
        self._installation = installation
        self._fixed = (
            tee_tcb_svn + mrseam + ZERO + bytes(8) + attributes.to_bytes(8, "little") + xfam
            + mrtd + mrconfigid + mrowner + mrownerconfig
        )  # fmt: skip
        self._rtmrs = [rtmr0, rtmr1, rtmr2, ZERO]
        self._qe_svn = qe_svn
        self._key = signatures.generate_p256()

    @property
    def rtmrs(self) -> tuple[bytes, ...]:
        """The run-time registers as they are now."""
        return tuple(self._rtmrs)

    def extend(self, register: int, measurement: bytes) -> None:
        """What TDG.MR.RTMR.EXTEND does: SHA-384 over the register and 48 bytes. Raises `UsageError`."""
        if not 0 <= register < REGISTERS or len(measurement) != len(ZERO):
            raise UsageError(f"register {register} cannot be extended by {len(measurement)} bytes")
        self._rtmrs[register] = hashlib.sha384(self._rtmrs[register] + measurement).digest()

    def quote(self, report_data: bytes) -> bytes:
        """A quote over 64 bytes and the registers as they are now. Raises `UsageError`."""
        if len(report_data) != REPORT_DATA_BYTES:
            raise UsageError(f"report data of {len(report_data)} bytes where {REPORT_DATA_BYTES} are needed")
        header = b"".join((_u16(4), _u16(2), _u32(0x81), bytes(4), QE_VENDOR, MARK))
        signed = header + self._fixed + b"".join(self._rtmrs) + report_data
        point = self._key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)[1:]
        qe_report = self._qe_report(point)
        chain = self._installation.pck_chain
        certification = b"".join(
            (
                qe_report,
                sign_raw(self._installation.keys["pck"], qe_report),
                _u16(len(AUTH_DATA)) + AUTH_DATA,
                _u16(5) + _u32(len(chain)) + chain,
            )
        )
        signature = sign_raw(self._key, signed) + point + _u16(6) + _u32(len(certification)) + certification
        return signed + _u32(len(signature)) + signature

    def _qe_report(self, point: bytes) -> bytes:
        """The quoting enclave's SGX report (384 bytes), which holds the hash of the attestation key."""
        return b"".join(
            (
                bytes(tcb.COMPONENTS),  # CPUSVN
                bytes(4 + 28),  # MISCSELECT, reserved
                tcb.QE_ATTRIBUTES,
                hashlib.sha256(b"strongroom-sim/mrenclave/v1").digest(),
                bytes(32),
                tcb.QE_MRSIGNER,
                bytes(96),
                _u16(tcb.QE_PRODUCT) + _u16(self._qe_svn),
                bytes(60),
                hashlib.sha256(point + AUTH_DATA).digest() + bytes(32),
            )
        )


def _u16(value: int) -> bytes:
    return value.to_bytes(2, "little")


def _u32(value: int) -> bytes:
    return value.to_bytes(4, "little")
