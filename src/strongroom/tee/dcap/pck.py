"""The Intel SGX extension of a PCK certificate (OID 1.2.840.113741.1.13.1), read with a strict DER reader of its own.

Knows: the members that a verifier needs, as the Intel SGX PCK Certificate and CRL Profile Specification lays them
out: PPID, TCB (16 components and PCESVN), PCE-ID, FMSPC, SGX type, platform instance, configuration. Does not know:
whether the certificate holds (`crypto.x509`). Members that Intel adds under its own arc are skipped; duplicates, long forms and anything
after the end are refused.
"""

from __future__ import annotations

from dataclasses import dataclass

from cryptography import x509

from strongroom.errors import MalformedEvidence

SGX_EXTENSION = x509.ObjectIdentifier("1.2.840.113741.1.13.1")

# DER contents of the identifiers: 1.2.840.113741.1.13.1 and what follows it.
_ARC = bytes.fromhex("2a864886f84d010d01")
_PPID, _TCB, _PCEID, _FMSPC, _TYPE, _INSTANCE, _CONFIGURATION = (_ARC + bytes([member]) for member in range(1, 8))
_COMPONENTS = tuple(_TCB + bytes([index]) for index in range(1, 17))
_PCESVN = _TCB + bytes([17])
_DYNAMIC, _CACHED, _SMT = (_CONFIGURATION + bytes([member]) for member in (1, 2, 3))

_BOOLEAN, _INTEGER, _OCTETS, _OID, _ENUMERATED, _SEQUENCE = 0x01, 0x02, 0x04, 0x06, 0x0A, 0x30
_TRUTHS = {b"\x00": False, b"\xff": True}


@dataclass(frozen=True, slots=True)
class PckExtension:
    """What Intel certified of one platform.

    `components` are the 16 SVNs of the CPU. `sgx_type` is 0 for standard, 1 for scalable SGX, 2 for scalable with
    integrity. What follows it is stated of platforms with several packages only (those of the Platform CA), else None:
    whether packages can be added (`dynamic_platform`), whether Intel holds platform root keys (`cached_keys`), and
    whether hyper-threading is on (`smt_enabled`).
    """

    ppid: bytes
    components: tuple[int, ...]
    pcesvn: int
    pceid: bytes
    fmspc: bytes
    sgx_type: int
    platform_instance_id: bytes | None
    dynamic_platform: bool | None
    cached_keys: bool | None
    smt_enabled: bool | None


def parse_extension(certificate: x509.Certificate) -> PckExtension:
    """Read the SGX extension of a PCK certificate. Raises `MalformedEvidence`."""
    try:
        extension = certificate.extensions.get_extension_for_oid(SGX_EXTENSION).value
    except x509.ExtensionNotFound:
        raise MalformedEvidence("the PCK certificate has no SGX extension") from None
    if not isinstance(extension, x509.UnrecognizedExtension):
        raise MalformedEvidence("the PCK certificate's SGX extension is of another kind")
    content, rest = _element(extension.value, _SEQUENCE)
    if rest:
        raise MalformedEvidence("something follows the SGX extension")
    members = _members(content)
    tcb = _members(_content(members, _TCB, _SEQUENCE))
    stated = _members(_content(members, _CONFIGURATION, _SEQUENCE)) if _CONFIGURATION in members else {}
    return PckExtension(
        ppid=_octets(members, _PPID, 16),
        components=tuple(_integer(tcb, component, 0xFF) for component in _COMPONENTS),
        pcesvn=_integer(tcb, _PCESVN, 0xFFFF),
        pceid=_octets(members, _PCEID, 2),
        fmspc=_octets(members, _FMSPC, 6),
        sgx_type=_integer(members, _TYPE, 0xFF, _ENUMERATED),
        platform_instance_id=_octets(members, _INSTANCE, 16) if _INSTANCE in members else None,
        dynamic_platform=_truth(stated, _DYNAMIC),
        cached_keys=_truth(stated, _CACHED),
        smt_enabled=_truth(stated, _SMT),
    )


def _members(data: bytes) -> dict[bytes, bytes]:
    """A sequence of {OID, value} pairs as a mapping from the OID's contents to the value's whole element."""
    members: dict[bytes, bytes] = {}
    while data:
        pair, data = _element(data, _SEQUENCE)
        name, value = _element(pair, _OID)
        if name in members:
            raise MalformedEvidence("a member of the SGX extension occurs twice")
        members[name] = value
    return members


def _content(members: dict[bytes, bytes], name: bytes, tag: int) -> bytes:
    """The contents of the one element of a member."""
    if name not in members:
        raise MalformedEvidence("the SGX extension lacks a member")
    content, rest = _element(members[name], tag)
    if rest:
        raise MalformedEvidence("something follows a value in the SGX extension")
    return content


def _octets(members: dict[bytes, bytes], name: bytes, length: int) -> bytes:
    content = _content(members, name, _OCTETS)
    if len(content) != length:
        raise MalformedEvidence(f"a member of the SGX extension has {len(content)} bytes where {length} are needed")
    return content


def _truth(members: dict[bytes, bytes], name: bytes) -> bool | None:
    """A boolean in its one DER form (X.690 section 11.1), None where it is not stated."""
    if name not in members:
        return None
    content = _content(members, name, _BOOLEAN)
    if content not in _TRUTHS:
        raise MalformedEvidence("a truth value in the SGX extension is neither true nor false")
    return _TRUTHS[content]


def _integer(members: dict[bytes, bytes], name: bytes, limit: int, tag: int = _INTEGER) -> int:
    content = _content(members, name, tag)
    padded = len(content) > 1 and content[0] == 0 and content[1] < 0x80  # noqa: PLR2004 (the sign bit)
    value = int.from_bytes(content, "big", signed=True)
    if not content or padded or not 0 <= value <= limit:
        raise MalformedEvidence("a number in the SGX extension is out of range or not in its shortest form")
    return value


def _element(data: bytes, tag: int) -> tuple[bytes, bytes]:
    """The contents of the DER element with `tag` at the start of `data`, and what follows it (X.690 section 8.1)."""
    if len(data) < 2 or data[0] != tag:  # noqa: PLR2004 (tag and length)
        raise MalformedEvidence("the SGX extension is not the DER it should be")
    length, start = data[1], 2
    if length & 0x80:
        width = length & 0x7F
        length, start = int.from_bytes(data[2 : 2 + width], "big"), 2 + width
        if width not in {1, 2} or length < (0x80 if width == 1 else 0x100):
            raise MalformedEvidence("a length in the SGX extension is not in its shortest form")
    if start + length > len(data):
        raise MalformedEvidence("the SGX extension ends early")
    return data[start : start + length], data[start + length :]
