"""The bytes of a TDX quote (Intel TDX DCAP Quoting Library API, appendix 3), versions 4 and 5, read totally.

Knows: header, TD report body 1.0 and 1.5, signature data with QE report certification data (type 6) around a PEM
chain (type 5). Does not know: whether any of it is true (`verify`). Field names follow Intel's. All integers are
little-endian. Refused, with `MalformedEvidence`: every other version, key type, TEE type, body and certification data
type; a length that is not exact; anything after the end. Not covered: bodies of type 4 (TD 1.5 extended) and quotes
in CWT format.
"""

from __future__ import annotations

from dataclasses import dataclass

from strongroom.errors import MalformedEvidence

MAX_QUOTE_BYTES = 16 * 1024
TEE_TYPE_TDX = 0x81
ECDSA_P256 = 2
HEADER_BYTES = 48
BODY_BYTES = {2: 584, 3: 648}
"""Body type (version 5) -> size: TD report 1.0 and 1.5. A body of version 4 is a 1.0 report without type and size."""
QE_REPORT_CERTIFICATION = 6
PCK_CHAIN = 5
QE_REPORT_BYTES = 384


@dataclass(frozen=True, slots=True)
class Header:
    """The quote header, 48 bytes; the QE's own SVN and the platform's are left to the signed PCK extension."""

    version: int
    attestation_key_type: int
    tee_type: int
    qe_vendor_id: bytes
    user_data: bytes


@dataclass(frozen=True, slots=True)
class TdReport:
    """The TD report body: what the TDX module says of the TD. The last two are of TD report 1.5, else None."""

    tee_tcb_svn: bytes
    mrseam: bytes
    mrsignerseam: bytes
    seamattributes: bytes
    tdattributes: bytes
    xfam: bytes
    mrtd: bytes
    mrconfigid: bytes
    mrowner: bytes
    mrownerconfig: bytes
    rtmr0: bytes
    rtmr1: bytes
    rtmr2: bytes
    rtmr3: bytes
    reportdata: bytes
    tee_tcb_svn2: bytes | None = None
    mrservicetd: bytes | None = None


@dataclass(frozen=True, slots=True)
class QeReport:
    """The SGX report of the quoting enclave (384 bytes, kept whole in `raw` because it is signed whole)."""

    raw: bytes
    miscselect: bytes
    attributes: bytes
    mrenclave: bytes
    mrsigner: bytes
    isvprodid: int
    isvsvn: int
    reportdata: bytes


@dataclass(frozen=True, slots=True)
class Quote:
    """A parsed quote. `signed` is what the attestation key signed: header and body exactly as they stood."""

    header: Header
    body: TdReport
    signed: bytes
    signature: bytes
    attestation_key: bytes
    qe_report: QeReport
    qe_report_signature: bytes
    qe_auth_data: bytes
    pck_chain: str


def parse_quote(data: bytes) -> Quote:
    """Read a quote of version 4 or 5, nothing after it. Raises `MalformedEvidence`."""
    if len(data) > MAX_QUOTE_BYTES:
        raise MalformedEvidence(f"a quote of {len(data)} bytes exceeds the limit of {MAX_QUOTE_BYTES}")
    reader = _Reader(data)
    header = _header(reader)
    body = _body(reader, header.version)
    signed = data[: reader.position]
    signature_data = reader.nested("signature data")
    reader.end("the quote")

    signature, key = signature_data.take(64), signature_data.take(64)
    certification = signature_data.certification(QE_REPORT_CERTIFICATION)
    signature_data.end("the signature data")

    qe_report = _qe_report(certification.take(QE_REPORT_BYTES))
    qe_signature = certification.take(64)
    auth_data = certification.take(certification.integer(2))
    chain = certification.certification(PCK_CHAIN)
    certification.end("the certification data")
    return Quote(header, body, signed, signature, key, qe_report, qe_signature, auth_data, _text(chain.rest()))


def trim(blob: bytes) -> bytes:
    """The quote at the start of a device's buffer, without the zeros that some quoting services leave behind it.

    Only for whoever collects a quote. Raises `MalformedEvidence` if anything but zeros follows.
    """
    reader = _Reader(blob)
    _body(reader, _header(reader).version)
    reader.nested("signature data")
    if any(blob[reader.position :]):
        raise MalformedEvidence("the device gave something after its quote")
    return blob[: reader.position]


def _header(reader: _Reader) -> Header:
    version, key_type, tee_type = reader.integer(2), reader.integer(2), reader.integer(4)
    if version not in {4, 5}:
        raise MalformedEvidence(f"a quote of version {version}; 4 and 5 are known")
    if key_type != ECDSA_P256:
        raise MalformedEvidence(f"an attestation key of type {key_type}; only 2 (ECDSA P-256) is known")
    if tee_type != TEE_TYPE_TDX:
        raise MalformedEvidence(f"a quote of TEE type {tee_type:#x}, which is not TDX")
    reader.take(4)  # reserved in version 4, SVNs in SGX quotes of version 3; signed, and judged by nobody
    return Header(version, key_type, tee_type, qe_vendor_id=reader.take(16), user_data=reader.take(20))


def _body(reader: _Reader, version: int) -> TdReport:
    kind, size = (2, BODY_BYTES[2]) if version == 4 else (reader.integer(2), reader.integer(4))  # noqa: PLR2004
    if BODY_BYTES.get(kind) != size:
        raise MalformedEvidence(f"a quote body of type {kind} and {size} bytes; TD reports 1.0 and 1.5 are known")
    fixed = [reader.take(length) for length in (16, 48, 48, 8, 8, 8, 48, 48, 48, 48, 48, 48, 48, 48, 64)]
    newer = [reader.take(16), reader.take(48)] if kind == 3 else []  # noqa: PLR2004 (body type 3: TD report 1.5)
    return TdReport(*fixed, *newer)


def _qe_report(raw: bytes) -> QeReport:
    return QeReport(
        raw=raw,
        miscselect=raw[16:20],
        attributes=raw[48:64],
        mrenclave=raw[64:96],
        mrsigner=raw[128:160],
        isvprodid=int.from_bytes(raw[256:258], "little"),
        isvsvn=int.from_bytes(raw[258:260], "little"),
        reportdata=raw[320:384],
    )


def _text(chain: bytes) -> str:
    """The PEM text; quoting libraries end it with one NUL or with none."""
    try:
        return chain.removesuffix(b"\0").decode("ascii")
    except UnicodeDecodeError:
        raise MalformedEvidence("the quote's certificate chain is not PEM") from None


class _Reader:
    """Bytes from front to back; never past the end."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.position = 0

    def take(self, length: int) -> bytes:
        end = self.position + length
        if end > len(self._data):
            raise MalformedEvidence(f"the quote ends early, {end - len(self._data)} bytes before a field does")
        taken = self._data[self.position : end]
        self.position = end
        return taken

    def integer(self, length: int) -> int:
        return int.from_bytes(self.take(length), "little")

    def nested(self, what: str) -> _Reader:
        """A part preceded by its size in 4 bytes."""
        size = self.integer(4)
        if size > MAX_QUOTE_BYTES:
            raise MalformedEvidence(f"{what} of {size} bytes")
        return _Reader(self.take(size))

    def certification(self, kind: int) -> _Reader:
        """Certification data: type in 2 bytes, size in 4, content."""
        found = self.integer(2)
        if found != kind:
            raise MalformedEvidence(f"certification data of type {found} where {kind} is needed")
        return self.nested("certification data")

    def rest(self) -> bytes:
        return self.take(len(self._data) - self.position)

    def end(self, what: str) -> None:
        if self.position != len(self._data):
            raise MalformedEvidence(f"{len(self._data) - self.position} bytes follow the end of {what}")
