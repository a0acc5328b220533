"""Digests, and the framing that keeps the hashes of different things apart.

Knows: how a tag and a payload become one unambiguous string. Does not know: which records are hashed.
"""

from __future__ import annotations

import hashlib
import re
from typing import NewType

from strongroom.records import codec

Digest = NewType("Digest", str)
"""`sha256:` and 64 lower-case hexadecimal digits, as OCI writes it (image-spec descriptor, section Digests)."""

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
codec.NEW_TYPES["Digest"] = lambda value: _DIGEST.fullmatch(value) is not None


def frame(tag: str, payload: bytes) -> bytes:
    """`tag` and `payload` as one string no other pair can make: u16 length, tag, u64 length, payload (big-endian)."""
    name = tag.encode("ascii")
    return len(name).to_bytes(2, "big") + name + len(payload).to_bytes(8, "big") + payload


def digest_bytes(data: bytes) -> Digest:
    """SHA-256 of plain bytes: files, blobs, manifests."""
    return Digest("sha256:" + hashlib.sha256(data).hexdigest())


def digest_record(record: object) -> Digest:
    """SHA-256 of a record: of its own type as the tag and its canonical bytes as the payload."""
    tag = codec.record_type(type(record))
    if tag is None:
        raise TypeError(f"{type(record).__name__} has no type of its own and is hashed only inside another record")
    return digest_bytes(frame(tag, codec.encode(record)))


def raw(digest: Digest) -> bytes:
    """The 32 bytes of a digest."""
    return bytes.fromhex(digest.removeprefix("sha256:"))


def is_digest(text: str) -> bool:
    """Whether `text` is written as a digest."""
    return _DIGEST.fullmatch(text) is not None
