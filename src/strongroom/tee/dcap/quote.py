"""What quotes of TDX and SGX have in common, byte by byte: header, enclave report, and how an attestation key is certified.

Knows: the quote header, the SGX enclave report (Intel SDM volume 3D, REPORT; Intel SGX ECDSA QuoteGen Reference,
appendix A), certification data of types 1, 2, 3, 5 and 6. Does not know: bodies of TDs, versions (each kind's `parse`),
or whether any of it is true. Field names follow Intel's. All integers are little-endian. Everything raises
`MalformedEvidence` and nothing else. Not covered: a bare PCK certificate (type 4) and platform manifests (type 7).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeVar

from strongroom.errors import MalformedEvidence

B = TypeVar("B")

MAX_QUOTE_BYTES = 16 * 1024
ECDSA_P256 = 2
ENCLAVE_REPORT_BYTES = 384
REPORT_DATA_AT = 320
PCK_CHAIN = 5
QE_REPORT_CERTIFICATION = 6

_HEADER = struct.Struct("<HHI4x16s20s")
"""Skipped: reserved in TDX quotes, the SVNs of QE and PCE in SGX quotes; signed, and judged by nobody."""
_SIZE = struct.Struct("<I")
_SIGNATURE = "64s64s"
_CERTIFIED = f"{ENCLAVE_REPORT_BYTES}s64sH"
_PLAIN = struct.Struct(f"<{_SIGNATURE}{_CERTIFIED}")
_WRAPPED = struct.Struct(f"<{_SIGNATURE}HI{_CERTIFIED}")
_CERTIFICATION = struct.Struct("<HI")
_WRAPPER_AT = 134
"""Where the content of certification data of type 6 begins in the signature data: behind two keys, type and size."""

_PPID_BYTES = {1: 16, 2: 256, 3: 384}
"""Certification data type -> size of the PPID in it: in the clear, encrypted with RSA-2048, with RSA-3072."""
_PPID_TAILS = (18, 20)
"""CPUSVN and PCESVN, and in newer quotes the PCE-ID too."""


class Header(NamedTuple):
    """The quote header, 48 bytes; the SVNs of QE and PCE are left to the signed report and the PCK extension."""

    version: int
    attestation_key_type: int
    tee_type: int
    qe_vendor_id: bytes
    user_data: bytes


@dataclass(frozen=True, slots=True)
class EnclaveReport:
    """The SGX report of an enclave (384 bytes, kept whole in `raw` because it is signed whole)."""

    raw: bytes

    @property
    def miscselect(self) -> bytes:
        return self.raw[16:20]

    @property
    def isvextprodid(self) -> bytes:
        return self.raw[32:48]

    @property
    def attributes(self) -> bytes:
        """Flags (8 bytes) and XFRM (8 bytes)."""
        return self.raw[48:64]

    @property
    def mrenclave(self) -> bytes:
        return self.raw[64:96]

    @property
    def mrsigner(self) -> bytes:
        return self.raw[128:160]

    @property
    def configid(self) -> bytes:
        return self.raw[192:256]

    @property
    def isvprodid(self) -> int:
        return int.from_bytes(self.raw[256:258], "little")

    @property
    def isvsvn(self) -> int:
        return int.from_bytes(self.raw[258:260], "little")

    @property
    def configsvn(self) -> int:
        return int.from_bytes(self.raw[260:262], "little")

    @property
    def isvfamilyid(self) -> bytes:
        return self.raw[304:320]

    @property
    def reportdata(self) -> bytes:
        return self.raw[320:384]


class DcapQuote(NamedTuple, Generic[B]):
    """A parsed quote. `signed` is what the attestation key signed: header and body as they stood.

    `pck_chain` is the PEM text that the quote carries, empty where it names its platform by PPID only.
    """

    header: Header
    signed: bytes
    signature: bytes
    attestation_key: bytes
    qe_report: EnclaveReport
    qe_report_signature: bytes
    qe_auth_data: bytes
    pck_chain: str
    body: B


class Reader:
    """Bytes from front to back; never past the end."""

    __slots__ = ("_data", "_size", "position")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._size = len(data)
        self.position = 0

    def take(self, length: int) -> bytes:
        start = self.position
        end = self.position = start + length
        if end > self._size:
            raise self._short(end)
        return self._data[start:end]

    def unpack(self, layout: struct.Struct) -> tuple[Any, ...]:
        """The fields of the next `layout.size` bytes."""
        start = self.position
        end = self.position = start + layout.size
        if end > self._size:
            raise self._short(end)
        return layout.unpack_from(self._data, start)

    def end(self, what: str) -> None:
        if self.position != self._size:
            raise MalformedEvidence(f"{self._size - self.position} bytes follow the end of {what}")

    def _short(self, end: int) -> MalformedEvidence:
        return MalformedEvidence(f"the quote ends early, {end - self._size} bytes before a field does")


def open_quote(data: bytes) -> Reader:
    """A reader over a whole quote, once its size is within the limit."""
    if len(data) > MAX_QUOTE_BYTES:
        raise MalformedEvidence(f"a quote of {len(data)} bytes exceeds the limit of {MAX_QUOTE_BYTES}")
    return Reader(data)


def read_header(reader: Reader, *, versions: frozenset[int], tee_type: int, name: str) -> Header:
    """The header, once it is of one of `versions`, of `tee_type` (called `name`), and of a key on P-256."""
    header = Header._make(reader.unpack(_HEADER))
    if header.version not in versions:
        known = " and ".join(map(str, sorted(versions)))
        raise MalformedEvidence(f"a {name} quote of version {header.version}; known: {known}")
    if header.attestation_key_type != ECDSA_P256:
        raise MalformedEvidence(
            f"an attestation key of type {header.attestation_key_type}; only 2 (ECDSA P-256) is known"
        )
    if header.tee_type != tee_type:
        raise MalformedEvidence(f"a quote of TEE type {header.tee_type:#x}, which is not {name}")
    return header


def read_size(reader: Reader) -> int:
    """The size of the signature data, which follows header and body."""
    return int(reader.unpack(_SIZE)[0])


def trim(blob: bytes, reader: Reader) -> bytes:
    """The quote at the start of a device's buffer, without the zeros that some quoting services leave behind it.

    `reader` stands behind header and body. Raises `MalformedEvidence` if anything but zeros follows.
    """
    reader.take(read_size(reader))
    if any(blob[reader.position :]):
        raise MalformedEvidence("the device gave something after its quote")
    return blob[: reader.position]


def read_signature_data(reader: Reader, *, wrapped: bool) -> tuple[bytes, bytes, EnclaveReport, bytes, bytes, str]:
    """Signature, attestation key, QE report, the PCK's signature over it, authentication data, PCK chain; then the end.

    In a quote of version 3 they stand one behind the other; later ones wrap what is the QE's in certification data of
    type 6. Every size that is stated must be exactly what is there.
    """
    size = read_size(reader)
    start = reader.position
    if wrapped:
        signature, key, kind, inner, report, certified, length = reader.unpack(_WRAPPED)
        if kind != QE_REPORT_CERTIFICATION:
            raise MalformedEvidence(f"certification data of type {kind} where {QE_REPORT_CERTIFICATION} is needed")
        if inner != size - _WRAPPER_AT:
            raise MalformedEvidence(f"certification data of {inner} bytes in signature data of {size}")
    else:
        signature, key, report, certified, length = reader.unpack(_PLAIN)
    auth_data = reader.take(length)
    chain = _platform(reader)
    reader.end("the quote")
    if size != reader.position - start:
        raise MalformedEvidence(f"signature data of {size} bytes where {reader.position - start} are")
    return signature, key, EnclaveReport(report), certified, auth_data, chain


def _platform(reader: Reader) -> str:
    """The PCK chain (type 5), or nothing where the platform is only named (types 1 to 3)."""
    kind, size = reader.unpack(_CERTIFICATION)
    content = reader.take(size)
    if kind == PCK_CHAIN:
        return _text(content)
    ppid = _PPID_BYTES.get(kind)
    if ppid is None:
        raise MalformedEvidence(f"certification data of type {kind}; a PCK chain or a PPID is needed")
    if size - ppid not in _PPID_TAILS:
        raise MalformedEvidence(f"certification data of type {kind} in {size} bytes")
    return ""


def _text(chain: bytes) -> str:
    """The PEM text; quoting libraries end it with one NUL or with none."""
    pem = chain.removesuffix(b"\0")
    if not pem or not pem.isascii():
        raise MalformedEvidence("the quote's certificate chain is empty, or not PEM")
    return pem.decode("ascii")
