"""Checkpoints: the signed state of a log (C2SP tlog-checkpoint v1.0.0) as a signed note (C2SP signed-note v1.0.0).

Knows: the text, its Ed25519 signature lines and the textual form of a log's public key. Does not know: whether a log
stays true to what it signed before (`proof.verify_extension`), or which log to trust.
Stricter than the specification: a log signs under its own origin, and extension lines, which no monitor can audit,
are refused.
Not covered: what witnesses sign (`cosignature`). Lines of other signers are parsed and otherwise ignored.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from strongroom.crypto.merkle import HASH_BYTES
from strongroom.crypto.signatures import ED25519_KEY_BYTES, ed25519_public, raw_public, verify
from strongroom.errors import LogInvalid, MalformedRecord, SignatureInvalid, UsageError

MAX_NOTE_BYTES = 128 * 1024
MAX_SIZE = 2**63 - 1
KEY_ID_BYTES = 4
ED25519 = b"\x01"
COSIGNATURE = b"\x04"
"""Kinds of keys in a note: a log's own, and a witness's (tlog-cosignature, section Format)."""

_SIZE = re.compile(r"0|[1-9][0-9]{0,18}")
_KEY_ID = re.compile(r"[0-9a-f]{8}")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The state of the log named `origin`: `size` entries under `root` (RFC 6962, 32 bytes)."""

    origin: str
    size: int
    root: bytes

    def text(self) -> str:
        """The three lines that are signed."""
        return f"{self.origin}\n{self.size}\n{encode(self.root)}\n"


def sign_checkpoint(checkpoint: Checkpoint, name: str, key: Ed25519PrivateKey) -> str:
    """`checkpoint` as a note signed by the log `name`, which is its origin. Raises `UsageError`."""
    if checkpoint.origin != name or not is_key_name(name):
        raise UsageError("a log signs its checkpoints under its own origin, a name without spaces and plus signs")
    if not 0 <= checkpoint.size <= MAX_SIZE or len(checkpoint.root) != HASH_BYTES:
        raise UsageError("a checkpoint has a size and a root of 32 bytes")
    text = checkpoint.text()
    signature = key_id(name, raw_public(key)) + key.sign(text.encode())
    return f"{text}\n\u2014 {name} {encode(signature)}\n"


def open_checkpoint(text: str, name: str, public: bytes) -> Checkpoint:
    """The checkpoint in `text`, once the log `name` with the Ed25519 key `public` (32 bytes) signed it.

    Raises `MalformedRecord` where `text` is not a signed checkpoint, `LogInvalid` where it is not this log's.
    """
    body, signatures = parse_note(text)
    key = ed25519_public(public)
    own = [signature for signer, signature in signatures if signer == name and signature[:4] == key_id(name, public)]
    if not own:
        raise LogInvalid("this checkpoint is not signed by the log")
    try:
        for signature in own:
            verify(key, signature[KEY_ID_BYTES:], body.encode())
    except SignatureInvalid:
        raise LogInvalid("the log's signature on this checkpoint does not hold") from None
    checkpoint = _parse_body(body)
    if checkpoint.origin != name:
        raise LogInvalid("this checkpoint is of another log than the one that signed it")
    return checkpoint


def key_id(name: str, public: bytes, kind: bytes = ED25519) -> bytes:
    """The 4 bytes that point to an Ed25519 key in a note (signed-note, section Signatures); a hint, no fingerprint."""
    return hashlib.sha256(name.encode() + b"\n" + kind + public).digest()[:KEY_ID_BYTES]


def verifier_key(name: str, public: bytes, kind: bytes = ED25519) -> str:
    """A signer's name and Ed25519 key (32 bytes) as one line, `name+keyid+base64`, as witnesses and monitors take it."""
    if not is_key_name(name) or len(public) != ED25519_KEY_BYTES:
        raise UsageError("a verifier key needs a name without spaces and plus signs, and an Ed25519 key")
    return f"{name}+{key_id(name, public, kind).hex()}+{encode(kind + public)}"


def parse_verifier_key(text: str, kind: bytes = ED25519) -> tuple[str, bytes]:
    """The opposite of `verifier_key`, for a key of that kind alone: name and Ed25519 key. Raises `MalformedRecord`."""
    name, _, rest = text.partition("+")
    identifier, _, encoded = rest.partition("+")
    if not is_key_name(name) or not _KEY_ID.fullmatch(identifier):
        raise MalformedRecord("this is not a verifier key")
    data = decode(encoded)
    algorithm, public = data[:1], data[1:]
    if algorithm != kind or len(public) != ED25519_KEY_BYTES:
        raise MalformedRecord("this verifier key is not of an Ed25519 key, or not of this kind of signer")
    if key_id(name, public, kind).hex() != identifier:
        raise MalformedRecord("this verifier key does not match its own key id")
    return name, public


def is_key_name(name: str) -> bool:
    """Whether a log can have this name: not empty, without white space, plus or control characters."""
    return bool(name) and not any(char.isspace() or char == "+" or not char.isprintable() for char in name)


def parse_note(text: str) -> tuple[str, list[tuple[str, bytes]]]:
    """The signed text and the (name, key id and signature) of each line below it. Raises `MalformedRecord`."""
    if len(text) > MAX_NOTE_BYTES:
        raise MalformedRecord(f"a checkpoint of {len(text)} characters exceeds the limit of {MAX_NOTE_BYTES}")
    if not _is_clean(text):
        raise MalformedRecord("a checkpoint holds no control characters and no broken text")
    body, blank, block = text.rpartition("\n\n")
    if not blank or not block.endswith("\n"):
        raise MalformedRecord("this is not a signed note")
    return body + "\n", [parse_signature(line) for line in block[:-1].split("\n")]


def parse_signature(line: str) -> tuple[str, bytes]:
    """Name of the signer, and key id with signature, of one line without its end. Raises `MalformedRecord`."""
    parts = line.split(" ")
    if len(parts) != 3 or parts[0] != "\u2014" or not is_key_name(parts[1]):  # noqa: PLR2004 (dash, name, signature)
        raise MalformedRecord("this note has a malformed signature line")
    signature = decode(parts[2])
    if len(signature) <= KEY_ID_BYTES:
        raise MalformedRecord("this note has a signature without content")
    return parts[1], signature


def _parse_body(body: str) -> Checkpoint:
    lines = body[:-1].split("\n")
    if len(lines) != 3:  # noqa: PLR2004 (origin, size, root)
        raise MalformedRecord("a checkpoint has exactly three lines")
    origin, size, encoded = lines
    if not origin or not _SIZE.fullmatch(size) or int(size) > MAX_SIZE:
        raise MalformedRecord("this checkpoint has a malformed origin or size")
    root = decode(encoded)
    if len(root) != HASH_BYTES:
        raise MalformedRecord(f"the root of a checkpoint has {HASH_BYTES} bytes, not {len(root)}")
    return Checkpoint(origin, int(size), root)


def _is_clean(text: str) -> bool:
    """No control characters but newline (signed-note, section Format), and nothing that UTF-8 cannot carry."""
    return not any((char < " " and char != "\n") or "\ud800" <= char <= "\udfff" for char in text)


def encode(data: bytes) -> str:
    """Standard base64."""
    return base64.b64encode(data).decode("ascii")


def decode(text: str) -> bytes:
    """Standard base64 (RFC 4648 section 4) in its one canonical form. Raises `MalformedRecord`."""
    try:
        data = base64.b64decode(text, validate=True)
    except (ValueError, binascii.Error):
        raise MalformedRecord("this note has a member that is not base64") from None
    if encode(data) != text:
        raise MalformedRecord("this note has a member whose base64 is not canonical")
    return data
