"""The file of an audit: a POSIX tar (ustar, IEEE 1003.1 pax "ustar Interchange Format") of a manifest and its parts.

Knows: which names there are, in which order they lie, and that every part is the one the manifest lists. Does not know:
what any part says (`verify`). Total and canonical: a header is read for a name and a size and then must be, byte for
byte, the one that `write` makes of them; so there are no links, no folders, no paths that climb, no second name, no
padding with content, nothing behind the end. Not covered: compression; a file larger than `MAX_BYTES`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar

from strongroom.crypto.signatures import PublicKey, SigningKey, open_envelope, sign_envelope
from strongroom.errors import MalformedRecord, SignatureInvalid, UsageError
from strongroom.records import codec
from strongroom.records.digest import Digest, digest_bytes
from strongroom.records.envelope import Envelope

MAX_BYTES = 512 * 1024 * 1024
MAX_PART_BYTES = 2 * 1024 * 1024
MAX_PARTS = 20_000
MANIFEST, SIGNATURE = "manifest.json", "manifest.dsse.json"
MAX_MANIFEST_BYTES = codec.MAX_BYTES
PAYLOAD_TYPE = "application/vnd.strongroom.audit-manifest.v1+json"
BROKER, CHECKPOINT, COSIGNED = "broker.json", "checkpoint.txt", "cosigned.json"
LEAVES, DECISIONS, COLLATERAL, POLICIES, RECEIPTS = "leaves", "decisions", "collateral", "policies", "receipts"

BLOCK = 512
END = bytes(2 * BLOCK)
_NAME = re.compile(
    rf"{BROKER}|{CHECKPOINT}|{COSIGNED}|(?:{LEAVES}|{DECISIONS})/[0-9]{{16}}\.json"
    rf"|(?:{COLLATERAL}|{POLICIES}|{RECEIPTS})/[0-9a-f]{{64}}\.json"
)
_SIZE = slice(124, 136)


@dataclass(frozen=True, slots=True)
class Scope:
    """What a bundle is about: a lease, a policy, or the span from `since` to `until` (Unix seconds, both included)."""

    lease: str | None
    policy: str | None
    since: int
    until: int


@dataclass(frozen=True, slots=True)
class Part:
    """One part by its name, with the SHA-256 of its bytes."""

    name: str
    sha256: Digest


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a bundle is about, whose log it is from, and every part in it, by name."""

    TYPE: ClassVar[str] = "strongroom/audit-manifest/v1"
    broker: Digest
    scope: Scope
    parts: tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle whose parts are those of its manifest; `signature`, over that manifest, is the exporter's, unverified."""

    manifest: Manifest
    parts: Mapping[str, bytes]
    signature: Envelope | None = None

    def folder(self, name: str) -> dict[str, bytes]:
        """The parts in one folder, by full name, in order."""
        return {path: data for path, data in self.parts.items() if path.startswith(f"{name}/")}

    def check_signature(self, exporter: PublicKey) -> None:
        """Return if `exporter` signed this manifest. Raises `SignatureInvalid`."""
        if self.signature is None:
            raise SignatureInvalid("nobody signed this bundle")
        open_envelope(self.signature, PAYLOAD_TYPE, [exporter])


def numbered(folder: str, index: int) -> str:
    """The name of the part in `folder` for leaf number `index`."""
    return f"{folder}/{index:016d}.json"


def addressed(folder: str, digest: Digest) -> str:
    """The name of the part in `folder` for a record with this digest."""
    return f"{folder}/{digest.removeprefix('sha256:')}.json"


def make(parts: Mapping[str, bytes], *, broker: Digest, scope: Scope) -> Bundle:
    """A bundle of these parts. Raises `UsageError` where they are too many, too large, or have names of their own."""
    if len(parts) > MAX_PARTS or sum(map(len, parts.values())) > MAX_BYTES // 2:
        raise UsageError("this is too much for one bundle", remedy="Export a shorter span, or one lease at a time.")
    for name, data in parts.items():
        if _NAME.fullmatch(name) is None or len(data) > MAX_PART_BYTES:
            raise UsageError(f"{name[:80]} cannot be part of a bundle")
    ordered = dict(sorted(parts.items()))
    listed = tuple(Part(name, digest_bytes(data)) for name, data in ordered.items())
    return Bundle(Manifest(broker, scope, listed), ordered)


def write(bundle: Bundle, key: SigningKey | None = None) -> bytes:
    """The bytes of a bundle, the same for the same; signed by `key` if there is one."""
    manifest = codec.encode(bundle.manifest)
    signature = sign_envelope(PAYLOAD_TYPE, manifest, key) if key is not None else bundle.signature
    entries = {MANIFEST: manifest, **({SIGNATURE: signature.to_bytes()} if signature else {}), **bundle.parts}
    return b"".join(piece for name, data in entries.items() for piece in _entry(name, data)) + END


def read(data: bytes) -> Bundle:
    """The bundle in `data`, if it is exactly what its manifest says. Raises `MalformedRecord`."""
    if len(data) > MAX_BYTES:
        raise MalformedRecord(f"a bundle of {len(data)} bytes exceeds the limit of {MAX_BYTES}")
    entries = dict(_entries(memoryview(data)))
    text = entries.pop(MANIFEST, b"")
    manifest = codec.decode(Manifest, text)
    signature = Envelope.from_bytes(entries.pop(SIGNATURE)) if SIGNATURE in entries else None
    if codec.encode(manifest) != text:
        raise MalformedRecord("the manifest of a bundle is in its canonical form", detail=MANIFEST)
    if signature is not None and signature.payload != text:
        raise MalformedRecord("what was signed is another manifest than this bundle's", detail=SIGNATURE)
    names = [part.name for part in manifest.parts]
    if list(entries) != names or names != sorted(set(names)):
        raise MalformedRecord(
            "the parts of this bundle are not those of its manifest", detail=_differing(entries, names)
        )
    for part in manifest.parts:
        if digest_bytes(entries[part.name]) != part.sha256:
            raise MalformedRecord("a part of this bundle is not the one that its manifest lists", detail=part.name)
    return Bundle(manifest, entries, signature)


def _entries(data: memoryview) -> Iterable[tuple[str, bytes]]:
    """Name and content of each entry, in order, each name once."""
    at, seen = 0, set[str]()
    while data[at : at + BLOCK] != END[:BLOCK]:
        name, size = _header(bytes(data[at : at + BLOCK]))
        if name in seen or len(seen) >= MAX_PARTS + 2:
            raise MalformedRecord("a bundle has every part once, and not too many", detail=name)
        seen.add(name)
        start, end = at + BLOCK, at + BLOCK + size
        at = end + -size % BLOCK
        if at > len(data) or any(data[end:at]):
            raise MalformedRecord("this bundle ends inside a part, or has content between parts", detail=name)
        yield name, bytes(data[start:end])
    if data[at:] != END:
        raise MalformedRecord("a bundle ends with two empty blocks and nothing behind them")


def _header(block: bytes) -> tuple[str, int]:
    """Name and size in a header that is exactly ours."""
    name = block[:100].rstrip(b"\0").decode("ascii", "replace")
    digits = block[_SIZE][:11]
    if name not in {MANIFEST, SIGNATURE} and _NAME.fullmatch(name) is None:
        raise MalformedRecord("this is not an audit bundle, or it has a part of an unknown name")
    if re.fullmatch(rb"[0-7]{11}", digits) is None:
        raise MalformedRecord("a part of this bundle has no size", detail=name)
    size = int(digits, 8)
    if size > (MAX_MANIFEST_BYTES if name in {MANIFEST, SIGNATURE} else MAX_PART_BYTES):
        raise MalformedRecord(f"a part of {size} bytes is too large for a bundle", detail=name)
    if block != _header_of(name, size):
        raise MalformedRecord("a part of this bundle has a header that is not ours", detail=name)
    return name, size


def _header_of(name: str, size: int) -> bytes:
    """A ustar header: a regular file, mode 0644, of nobody, at the beginning of time."""
    head = b"%s%s%s%s%011o\0%011o\0" % (
        name.encode().ljust(100, b"\0"), b"0000644\0", b"0000000\0", b"0000000\0", size, 0,
    )  # fmt: skip
    tail = b"0" + bytes(100) + b"ustar\x0000" + bytes(64) + b"0000000\0" * 2 + bytes(155 + 12)
    total = sum(head) + sum(b" " * 8) + sum(tail)
    return head + b"%06o\0 " % total + tail


def _entry(name: str, data: bytes) -> tuple[bytes, bytes, bytes]:
    return _header_of(name, len(data)), data, bytes(-len(data) % BLOCK)


def _differing(entries: Mapping[str, bytes], names: list[str]) -> str:
    """The first name that is only on one side."""
    return next(iter(sorted(set(entries) ^ set(names))), "order")
