"""The bytes of a TDX quote (Intel TDX DCAP Quoting Library API, appendix 3), versions 4 and 5, read totally.

Knows: TD report bodies 1.0, 1.5 and 1.5 extended (with what is bound of service TDs), and signature data with QE report
certification data (type 6) around a PCK chain or a PPID. Does not know: whether any of it is true (`verify`). Field
names follow Intel's. All integers are little-endian. Refused, with `MalformedEvidence`: every other version, key type,
TEE type, body and certification data type; a length that is not exact; anything after the end. Not covered: quotes in
CWT format.
"""

from __future__ import annotations

import struct
from typing import NamedTuple, TypeAlias

from strongroom.errors import MalformedEvidence
from strongroom.tee.dcap import quote as layout
from strongroom.tee.dcap.quote import MAX_QUOTE_BYTES, DcapQuote, EnclaveReport, Header, Reader

__all__ = ["MAX_QUOTE_BYTES", "EnclaveReport", "Header", "Quote", "ServiceTds", "TdReport", "parse_quote", "trim"]

TEE_TYPE_TDX = 0x81
VERSIONS = frozenset({4, 5})

_BODY = struct.Struct("<HI")
_REPORT_10 = struct.Struct("<16s48s48s8s8s8s48s48s48s48s48s48s48s48s64s")
_REPORT_15 = struct.Struct(_REPORT_10.format + "16s48s")
_REPORT_15_EXTENDED = struct.Struct(_REPORT_15.format + "B32s48s48s8s16s16s12s48s8s")
_BODIES = {2: _REPORT_10, 3: _REPORT_15, 4: _REPORT_15_EXTENDED}
"""Body type (version 5): TD report 1.0, 1.5, 1.5 extended. In version 4 a 1.0 report stands without type and size."""
_PLAIN_FIELDS = 17
"""Of TD report 1.5; what follows is of the extended one."""


class ServiceTds(NamedTuple):
    """What TD report 1.5 extended adds: where the TD is, and which service TDs were bound, at first and now.

    All zeros where the TD's SERVTD_EXT attribute (bit 17) is clear. `init_model` is CPU model data, not an FMSPC.
    """

    vmid: int
    td_id: bytes
    devinfo: bytes
    init_hash: bytes
    init_attributes: bytes
    init_cpusvn: bytes
    init_tee_tcb_svn: bytes
    init_model: bytes
    current_hash: bytes
    current_attributes: bytes


class TdReport(NamedTuple):
    """The TD report body: what the TDX module says of the TD.

    `tee_tcb_svn2` and `mrservicetd` are of TD report 1.5, `service_tds` of 1.5 extended, else None.
    """

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
    service_tds: ServiceTds | None = None


Quote: TypeAlias = DcapQuote[TdReport]
"""A parsed TDX quote."""


def parse_quote(data: bytes) -> Quote:
    """Read a quote of version 4 or 5, nothing after it. Raises `MalformedEvidence`."""
    reader = layout.open_quote(data)
    header = _header(reader)
    body = _body(reader, header.version)
    signed = data[: reader.position]
    return DcapQuote(header, signed, *layout.read_signature_data(reader, wrapped=True), body)


def trim(blob: bytes) -> bytes:
    """The quote at the start of a device's buffer, without the zeros behind it. Only for whoever collects a quote.

    Raises `MalformedEvidence` if anything but zeros follows.
    """
    reader = Reader(blob)
    _body(reader, _header(reader).version)
    return layout.trim(blob, reader)


def _header(reader: Reader) -> Header:
    return layout.read_header(reader, versions=VERSIONS, tee_type=TEE_TYPE_TDX, name="TDX")


def _body(reader: Reader, version: int) -> TdReport:
    kind, size = (2, _REPORT_10.size) if version == 4 else reader.unpack(_BODY)  # noqa: PLR2004
    body = _BODIES.get(kind)
    if body is None or body.size != size:
        raise MalformedEvidence(f"a quote body of type {kind} and {size} bytes, which is no TD report 1.0 or 1.5")
    fields = reader.unpack(body)
    if body is _REPORT_15_EXTENDED:
        fields = (*fields[:_PLAIN_FIELDS], ServiceTds(*fields[_PLAIN_FIELDS:]))
    return TdReport(*fields)
