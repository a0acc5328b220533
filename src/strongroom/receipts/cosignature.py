"""What a witness signs of a log: timestamped cosignatures (C2SP tlog-cosignature v1.0.1) of the Ed25519 kind.

Knows: the message, the line in a note, the textual form of a witness's key, and how many of which witnesses are enough.
Does not know: whether a log only grew, which a witness checks before it signs (`witness`), or which witnesses are good.
A witness says: at this time, this was the largest state of this log that I had seen, and it extends all that I saw.
Stricter than the specification: a line under a named witness's key that does not hold refuses the whole note.
Not covered: ML-DSA cosignatures; they are ignored like those of strangers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from strongroom.crypto.signatures import ED25519_KEY_BYTES, ed25519_public, raw_public, verify
from strongroom.errors import LogInvalid, SignatureInvalid, UsageError
from strongroom.receipts.note import (
    COSIGNATURE,
    KEY_ID_BYTES,
    Checkpoint,
    encode,
    is_key_name,
    key_id,
    parse_note,
    parse_signature,
    parse_verifier_key,
    verifier_key,
)

TIME_BYTES, SIGNATURE_BYTES = 8, 64
MAX_TIME = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Witness:
    """A witness as others name it: a name for people, and the Ed25519 key (32 bytes) that counts."""

    name: str
    public: bytes

    @classmethod
    def parse(cls, text: str) -> Self:
        """A witness from its verifier key, `name+keyid+base64`. Raises `MalformedRecord`; a log's key is none."""
        return cls(*parse_verifier_key(text, COSIGNATURE))

    @property
    def key(self) -> str:
        """The verifier key of this witness."""
        return verifier_key(self.name, self.public, COSIGNATURE)


@dataclass(frozen=True, slots=True)
class Cosignature:
    """That `witness` signed a checkpoint at `time` (Unix seconds), by its own clock."""

    witness: Witness
    time: int


@dataclass(frozen=True, slots=True)
class Quorum:
    """How many (`least`) of which witnesses must have signed a checkpoint for it to count. Raises `UsageError`."""

    least: int
    witnesses: tuple[Witness, ...]

    def __post_init__(self) -> None:
        names, keys = ({getattr(one, part) for one in self.witnesses} for part in ("name", "public"))
        if len(names) != len(self.witnesses) or len(keys) != len(self.witnesses):
            raise UsageError("two of these witnesses have one name or one key", remedy="Name each witness once.")
        if not 1 <= self.least <= len(self.witnesses):
            raise UsageError(
                f"{self.least} of {len(self.witnesses)} witnesses is not a number of witnesses that can be demanded",
                remedy="Demand at least one, and no more than are named.",
            )

    def check(self, text: str) -> tuple[Cosignature, ...]:
        """The cosignatures of these witnesses on the note `text`, if they are enough.

        The log's own signature is another question (`note.open_checkpoint`). Raises `LogInvalid`, `MalformedRecord`.
        """
        found = cosignatures(text, self.witnesses)
        if len(found) < self.least:
            raise LogInvalid(
                f"this checkpoint is signed by {len(found)} of the named witnesses, and {self.least} are demanded",
                detail="log.witnesses",
                remedy="Ask again; if it stays so, the log may be showing you what it shows nobody else.",
            )
        return found


def cosign(checkpoint: Checkpoint, name: str, key: Ed25519PrivateKey, *, time: int) -> str:
    """The line, with its end, by which the witness `name` signs `checkpoint` at `time`. Raises `UsageError`."""
    if not is_key_name(name) or not 0 <= time <= MAX_TIME:
        raise UsageError("a witness has a name without spaces and plus signs, and signs at a moment after 1970")
    signature = key.sign(_message(checkpoint.text(), time))
    stamped = key_id(name, raw_public(key), COSIGNATURE) + time.to_bytes(TIME_BYTES, "big") + signature
    return f"\u2014 {name} {encode(stamped)}\n"


def cosignatures(text: str, witnesses: Sequence[Witness]) -> tuple[Cosignature, ...]:
    """Who of `witnesses` signed the note `text`, each once, at its earliest time. Lines of others are ignored.

    Raises `MalformedRecord` where `text` is not a note, `LogInvalid` where a line of a named witness does not hold.
    """
    body, signatures = parse_note(text)
    return _collect(body, signatures, witnesses)


def pick_line(body: str, lines: str, witness: Witness) -> str:
    """The one line of `witness` among signature `lines`, once it holds for the signed text `body`.

    What a witness answers is foreign: more lines of the same witness are refused, lines of others dropped. Raises
    `LogInvalid`, `MalformedRecord`.
    """
    if not lines.endswith("\n"):
        raise LogInvalid("the witness did not answer with signature lines")
    found = [(line, parse_signature(line)) for line in lines[:-1].split("\n")]
    own = [(line, signed) for line, signed in found if _is_of(signed, witness)]
    if len(own) != 1:
        raise LogInvalid(f"the witness answered with {len(own)} cosignatures of its own key")
    ((line, signed),) = own
    _collect(body, [signed], [witness])
    return line + "\n"


def _collect(
    body: str, signatures: Sequence[tuple[str, bytes]], witnesses: Sequence[Witness]
) -> tuple[Cosignature, ...]:
    found = []
    for witness in witnesses:
        times = [_check(body, signed, witness) for signed in signatures if _is_of(signed, witness)]
        found += [Cosignature(witness, min(times))] if times else []
    return tuple(found)


def _is_of(signed: tuple[str, bytes], witness: Witness) -> bool:
    """Whether a line claims to be of this witness, by the name and key id that the specification tells clients to compare."""
    name, signature = signed
    return name == witness.name and signature[:KEY_ID_BYTES] == key_id(name, witness.public, COSIGNATURE)


def _check(body: str, signed: tuple[str, bytes], witness: Witness) -> int:
    """The time of a cosignature that holds. Raises `LogInvalid`."""
    stamped = signed[1][KEY_ID_BYTES:]
    time = int.from_bytes(stamped[:TIME_BYTES], "big")
    if len(stamped) != TIME_BYTES + SIGNATURE_BYTES or time > MAX_TIME or len(witness.public) != ED25519_KEY_BYTES:
        raise LogInvalid("a cosignature does not have the form of one", detail=witness.name)
    try:
        verify(ed25519_public(witness.public), stamped[TIME_BYTES:], _message(body, time))
    except SignatureInvalid:
        raise LogInvalid("a witness's cosignature on this checkpoint does not hold", detail=witness.name) from None
    return time


def _message(body: str, time: int) -> bytes:
    """What is signed (tlog-cosignature, section Ed25519 signed message)."""
    return f"cosignature/v1\ntime {time}\n{body}".encode()
