"""What a log sends to a witness: the body of `add-checkpoint` (C2SP tlog-witness v1.0.0, section add-checkpoint).

Knows: the body, and what a witness must find in it before it signs. Does not know: HTTP, or where a witness keeps what it
saw last (`services.witness`). A consistency proof is for one step only, from the size that the witness holds.
Stricter than the specification: checkpoints with extension lines are refused, as everywhere here (`note`).
Not covered: sign-subtree, bastions, mirrors.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from strongroom.crypto.merkle import HASH_BYTES
from strongroom.errors import MalformedRecord
from strongroom.receipts.note import MAX_NOTE_BYTES, MAX_SIZE, decode, encode, parse_note

MAX_PATH = 63
MAX_BODY_BYTES = MAX_NOTE_BYTES + 4096
SIZE_TYPE = "text/x.tlog.size"

_SIZE = re.compile(r"0|[1-9][0-9]{0,18}")


@dataclass(frozen=True, slots=True)
class Submission:
    """A checkpoint (as a signed note), the size it extends, and the consistency proof between the two."""

    old: int
    path: tuple[bytes, ...]
    checkpoint: str

    @property
    def origin(self) -> str:
        """The first line of the checkpoint: whose log this claims to be."""
        return self.checkpoint.partition("\n")[0]

    def to_bytes(self) -> bytes:
        """The body of the request."""
        return add_checkpoint_body(self.old, self.path, self.checkpoint)


def add_checkpoint_body(old: int, path: Sequence[bytes], checkpoint: str) -> bytes:
    """The body of a request that a witness sign `checkpoint`, which extends the state of size `old` by `path`."""
    return "\n".join([f"old {old}", *(encode(one) for one in path), "", checkpoint]).encode()


def parse_submission(body: bytes) -> Submission:
    """The opposite, of foreign bytes. Only the shape is checked, no signature. Raises `MalformedRecord`."""
    if len(body) > MAX_BODY_BYTES:
        raise MalformedRecord(f"a submission of {len(body)} bytes exceeds the limit of {MAX_BODY_BYTES}")
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError:
        raise MalformedRecord("a submission is text in UTF-8") from None
    head, blank, checkpoint = text.partition("\n\n")
    first, *lines = head.split("\n")
    word, space, size = first.partition(" ")
    if not blank or word != "old" or not space or checkpoint.startswith("\n"):
        raise MalformedRecord("a submission begins with the old size, and has an empty line before its checkpoint")
    if len(lines) > MAX_PATH:
        raise MalformedRecord(f"a consistency proof has at most {MAX_PATH} hashes")
    path = tuple(decode(line) for line in lines)
    if any(len(one) != HASH_BYTES for one in path):
        raise MalformedRecord(f"a hash in a consistency proof has {HASH_BYTES} bytes")
    parse_note(checkpoint)
    return Submission(_parse_size(size), path, checkpoint)


def parse_size(body: bytes) -> int:
    """The size that a witness answers where it holds another one than the log thought. Raises `MalformedRecord`."""
    text = body[: _LONGEST + 1].decode("ascii", "replace")
    if not text.endswith("\n"):
        raise MalformedRecord("a witness names its size in one line")
    return _parse_size(text[:-1])


_LONGEST = len(f"{MAX_SIZE}\n")


def _parse_size(text: str) -> int:
    if not _SIZE.fullmatch(text) or int(text) > MAX_SIZE:
        raise MalformedRecord("the size of a log is a decimal number without leading zeroes")
    return int(text)
