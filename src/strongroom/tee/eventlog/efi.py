"""The structures of UEFI that stand in events: variables, signature databases, images, descriptions.

Knows: UEFI_VARIABLE_DATA (Platform Firmware Profile, 10.2.6), EFI_SIGNATURE_LIST (UEFI 2.10, 32.4.1), the file path in a
UEFI_IMAGE_LOAD_EVENT (10.2.3), text with one NUL behind it. Does not know: whether an event's digest vouches for them
(`digests`). Raised: `MalformedEvidence` alone, but for what only describes and then is empty.
"""

from __future__ import annotations

import hashlib
import uuid
from dataclasses import dataclass

from strongroom.errors import MalformedEvidence
from strongroom.tee.eventlog.tcg2 import Reader

EFI_GLOBAL = "8be4df61-93ca-11d2-aa0d-00e098032b8c"
IMAGE_SECURITY = "d719b2cb-3d3a-4596-a3bc-dad00e67656f"
SIGNATURE_KINDS = {
    "a5c059a1-94e4-4aa7-87b5-ab155c2bf072": "x509",
    "c1c41626-504c-4092-aca9-41f936934328": "sha256",
}
MAX_NAME_CHARACTERS = 512
GUID_BYTES = 16
IMAGE_HEADER_BYTES = 32
MEDIA, FILE_PATH = 4, 4
NODE_HEADER_BYTES = 4


@dataclass(frozen=True, slots=True)
class Variable:
    """A UEFI variable as it was measured."""

    guid: str
    name: str
    value: bytes


@dataclass(frozen=True, slots=True)
class Signature:
    """One entry of a signature database.

    `kind` is `x509`, `sha256` or the GUID of another type; `value` is the SHA-256 of a certificate's DER or of another
    type's content, and the digest itself of a `sha256` entry, as hexadecimal.
    """

    kind: str
    owner: str
    value: str


def parse_variable(data: bytes, *, exact: bool = True) -> Variable:
    """Read a UEFI_VARIABLE_DATA. Something may follow it only where `exact` is false."""
    reader = Reader(data)
    guid = _guid(reader.take(GUID_BYTES))
    name_length, value_length = reader.integer(8), reader.integer(8)
    if name_length > MAX_NAME_CHARACTERS:
        raise MalformedEvidence(f"a UEFI variable whose name has {name_length} characters")
    name = utf16(reader.take(2 * name_length))
    if name is None or "\0" in name:
        raise MalformedEvidence("a UEFI variable whose name is not text")
    value = reader.take(value_length)
    if exact:
        reader.end("a UEFI variable")
    return Variable(guid, name, value)


def serialise_variable(variable: Variable) -> bytes:
    """The UEFI_VARIABLE_DATA of a variable."""
    name = variable.name.encode("utf-16-le")
    lengths = (len(name) // 2).to_bytes(8, "little") + len(variable.value).to_bytes(8, "little")
    return uuid.UUID(variable.guid).bytes_le + lengths + name + variable.value


def parse_database(value: bytes) -> tuple[Signature, ...]:
    """The entries of PK, KEK, db or dbx, in their order; none if the variable is empty."""
    reader = Reader(value)
    found: list[Signature] = []
    while not reader.done:
        kind = _guid(reader.take(GUID_BYTES))
        list_size, header_size, size = (reader.integer(4) for _ in range(3))
        body = Reader(reader.take(list_size - GUID_BYTES - 12 if list_size >= GUID_BYTES + 12 else len(value) + 1))
        body.take(header_size)
        if size <= GUID_BYTES:
            raise MalformedEvidence(f"a signature list with entries of {size} bytes")
        while not body.done:
            owner, content = _guid(body.take(GUID_BYTES)), body.take(size - GUID_BYTES)
            name = SIGNATURE_KINDS.get(kind, kind)
            text = content.hex() if name == "sha256" else hashlib.sha256(content).hexdigest()
            found.append(Signature(name, owner, text))
    return tuple(found)


def utf16(data: bytes) -> str | None:
    """The text of UTF-16LE bytes, or None."""
    try:
        return data.decode("utf-16-le")
    except UnicodeDecodeError:
        return None


def wide_text(data: bytes) -> str | None:
    """Printable text in UTF-16LE with exactly one NUL at its end, or None."""
    text = utf16(data)
    if text is None or not text.endswith("\0") or not _plain(text[:-1]):
        return None
    return text[:-1]


def narrow_text(data: bytes) -> str | None:
    """Printable text in UTF-8 with at most one NUL at its end, or None."""
    try:
        text = data.removesuffix(b"\0").decode("utf-8")
    except UnicodeDecodeError:
        return None
    return text if _plain(text) else None


def image_path(data: bytes) -> str:
    """The file that a UEFI_IMAGE_LOAD_EVENT names, or nothing. A digest never covers it: it only describes."""
    path = data[IMAGE_HEADER_BYTES:]
    names: list[str] = []
    while len(path) >= NODE_HEADER_BYTES:
        size = int.from_bytes(path[2:NODE_HEADER_BYTES], "little")
        if size < NODE_HEADER_BYTES:
            break
        if (path[0], path[1]) == (MEDIA, FILE_PATH):
            names.append((utf16(path[NODE_HEADER_BYTES:size]) or "").rstrip("\0"))
        path = path[size:]
    return "".join(names)


def _plain(text: str) -> bool:
    """Whether there is text, of printable characters, line ends and tabs."""
    return bool(text) and all(character.isprintable() or character in "\n\r\t" for character in text)


def _guid(raw: bytes) -> str:
    return str(uuid.UUID(bytes_le=raw))
