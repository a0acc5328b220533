"""The bytes of an SGX quote of version 3 (Intel SGX ECDSA QuoteGen Reference, appendix A), read totally.

Knows: header, enclave report, signature data with certification data that is a PCK chain (type 5) or names the platform
by its PPID (types 1 to 3). Does not know: whether any of it is true (`verify`). Refused, with `MalformedEvidence`: every
other version, key type, TEE type and certification data type; a length that is not exact; anything after the end. Not
covered: SGX reports inside quotes of version 4 or 5; EPID quotes (versions 1 and 2).
"""

from __future__ import annotations

from typing import TypeAlias

from strongroom.tee.dcap import quote as layout
from strongroom.tee.dcap.quote import DcapQuote, EnclaveReport, Header, Reader

TEE_TYPE_SGX = 0
VERSIONS = frozenset({3})


SgxQuote: TypeAlias = DcapQuote[EnclaveReport]
"""A parsed SGX quote; `body` is what the CPU says of the enclave."""


def parse_quote(data: bytes) -> SgxQuote:
    """Read a quote of version 3, nothing after it. Raises `MalformedEvidence`."""
    reader = layout.open_quote(data)
    header = _header(reader)
    body = EnclaveReport(reader.take(layout.ENCLAVE_REPORT_BYTES))
    signed = data[: reader.position]
    return DcapQuote(header, signed, *layout.read_signature_data(reader, wrapped=False), body)


def trim(blob: bytes) -> bytes:
    """The quote at the start of a device's buffer, without the zeros behind it. Only for whoever collects a quote.

    Raises `MalformedEvidence` if anything but zeros follows.
    """
    reader = Reader(blob)
    _header(reader)
    reader.take(layout.ENCLAVE_REPORT_BYTES)
    return layout.trim(blob, reader)


def _header(reader: Reader) -> Header:
    return layout.read_header(reader, versions=VERSIONS, tee_type=TEE_TYPE_SGX, name="SGX")
