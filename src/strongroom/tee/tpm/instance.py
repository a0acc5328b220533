"""What Google's certificates of virtual TPMs say of the machine (extension 1.3.6.1.4.1.11129.2.1.21, in DER).

Knows: the extension's form: SEQUENCE {zone, project number, project id, instance id, instance name, [0] SEQUENCE
{[0] version, [1] production, further booleans}}, as Google's own verifier reads it. Does not know: whether the certificate
holds (`trust`). Raises `MalformedEvidence` for any other form.
"""

from __future__ import annotations

from cryptography import x509

from strongroom.errors import MalformedEvidence

INSTANCE = x509.ObjectIdentifier("1.3.6.1.4.1.11129.2.1.21")
MAX_BYTES = 1024
MAX_TEXT = 256
SEQUENCE, UTF8, INTEGER, BOOLEAN, CONTEXT_0, CONTEXT_1 = 0x30, 0x0C, 0x02, 0x01, 0xA0, 0xA1
TRUE = b"\xff"


def instance_of(certificate: x509.Certificate) -> dict[str, str]:
    """The claims about a Google machine, empty where the certificate has no such extension.

    Numbers are decimal text, because they exceed what JSON carries exactly. Raises `MalformedEvidence`.
    """
    try:
        extension = certificate.extensions.get_extension_for_oid(INSTANCE).value
    except x509.ExtensionNotFound:
        return {}
    if not isinstance(extension, x509.UnrecognizedExtension):
        raise MalformedEvidence("the extension about a Google machine is of another form")
    return parse_instance(extension.value)


def parse_instance(data: bytes) -> dict[str, str]:
    """Read the extension's content. Raises `MalformedEvidence`."""
    if len(data) > MAX_BYTES:
        raise MalformedEvidence(f"an extension about a Google machine of {len(data)} bytes")
    members = _members(_only(data, SEQUENCE))
    if [tag for tag, _ in members[:5]] != [UTF8, INTEGER, UTF8, INTEGER, UTF8] or len(members) > 6:  # noqa: PLR2004
        raise MalformedEvidence("the extension about a Google machine is of another form")
    zone, project_number, project, instance_id, name = (content for _, content in members[:5])
    production = len(members) == 6 and members[5][0] == CONTEXT_0 and _production(members[5][1])  # noqa: PLR2004
    return {
        "gce_zone": _text(zone),
        "gce_project_number": _number(project_number),
        "gce_project": _text(project),
        "gce_instance_id": _number(instance_id),
        "gce_instance": _text(name),
        "gce_production": "1" if production else "0",
    }


def _production(security: bytes) -> bool:
    members = dict(_members(_only(security, SEQUENCE)))
    return CONTEXT_1 in members and _only(members[CONTEXT_1], BOOLEAN) == TRUE


def _text(content: bytes) -> str:
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        raise MalformedEvidence("a name of a Google machine is not UTF-8") from None
    if not text.isprintable() or len(text) > MAX_TEXT:
        raise MalformedEvidence("a name of a Google machine is not one that can be shown")
    return text


def _number(content: bytes) -> str:
    if not 1 <= len(content) <= 9 or content[0] >= 0x80:  # noqa: PLR2004 (64 bits and a sign)
        raise MalformedEvidence("a number of a Google machine is out of range")
    return str(int.from_bytes(content, "big"))


def _only(data: bytes, tag: int) -> bytes:
    members = _members(data)
    if len(members) != 1 or members[0][0] != tag:
        raise MalformedEvidence("the extension about a Google machine is of another form")
    return members[0][1]


def _members(data: bytes) -> list[tuple[int, bytes]]:
    """The DER elements side by side in `data`, as (tag, content); lengths in their shortest form only."""
    members: list[tuple[int, bytes]] = []
    at = 0
    while at < len(data):
        header = data[at : at + 3]
        if len(header) < 2 or (header[1] > 0x7F and (len(header) < 3 or header[1] != 0x81 or header[2] < 0x80)):  # noqa: PLR2004
            raise MalformedEvidence("the extension about a Google machine is not DER")
        length, start = (header[1], at + 2) if header[1] < 0x80 else (header[2], at + 3)  # noqa: PLR2004
        if start + length > len(data):
            raise MalformedEvidence("the extension about a Google machine ends early")
        members.append((header[0], data[start : start + length]))
        at = start + length
    return members
