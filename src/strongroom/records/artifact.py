"""A sealed artifact: what anybody may see of it, and what only the holder of its data key sees.

Knows: the shapes and which paths, numbers and sizes are possible. Does not know: how streams are encrypted
(`crypto.segments`), how they are packaged and signed (`sealed`). Format: docs/reference/sealed-format.md.
"""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass
from typing import ClassVar

from strongroom.records import codec
from strongroom.records.digest import Digest
from strongroom.records.release import Edition, WrappedKey

ARTIFACT_ID_BYTES = 16
BLAKE3_BYTES = 32
MAX_FILES = 4096
MAX_RECIPIENTS = 64
MAX_PATH_BYTES = 1024
MAX_TENSORS = 1 << 16
MAX_DIMENSIONS = 8
ELEMENT_BITS = {
    **dict.fromkeys(("F4",), 4),
    **dict.fromkeys(("F6_E2M3", "F6_E3M2"), 6),
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2", "F8_E8M0"), 8),
    **dict.fromkeys(("U16", "I16", "F16", "BF16"), 16),
    **dict.fromkeys(("U32", "I32", "F32"), 32),
    **dict.fromkeys(("U64", "I64", "F64", "C64"), 64),
}
"""Element types of safetensors, and how many bits one element has."""


class ArtifactKind(enum.StrEnum):
    """What a sealed artifact is for."""

    MODEL = "model"
    ADAPTER = "adapter"
    DATASET = "dataset"
    INDEX = "index"
    CHECKPOINT = "checkpoint"
    OUTPUT = "output"


@dataclass(frozen=True, slots=True)
class StreamContext:
    """Where one stream belongs; its canonical bytes are the stream's associated data. File 0 is the sealed index."""

    TYPE: ClassVar[str] = "strongroom/stream/v1"
    artifact_id: bytes
    file: int

    def to_bytes(self) -> bytes:
        return codec.encode(self)


@dataclass(frozen=True, slots=True)
class DataKeyContext:
    """What a data key opens; its canonical bytes are the HPKE `info` under which it is sealed to a recipient."""

    TYPE: ClassVar[str] = "strongroom/data-key/v1"
    artifact_id: bytes

    def to_bytes(self) -> bytes:
        return codec.encode(self)


@dataclass(frozen=True, slots=True)
class RecipientKey:
    """The data key sealed to one recipient (MLKEM768-X25519), who is named by the SHA-256 of the public key (1216 bytes)."""

    recipient: Digest
    encapsulation: bytes
    ciphertext: bytes


@dataclass(frozen=True, slots=True)
class KeyWrap:
    """Who can give the data key back: a broker, recipients, or both; never nobody."""

    broker: WrappedKey | None
    recipients: tuple[RecipientKey, ...]

    def __post_init__(self) -> None:
        if self.broker is None and not self.recipients:
            raise ValueError("a data key that nobody can unwrap")
        if (
            len({box.recipient for box in self.recipients}) != len(self.recipients)
            or len(self.recipients) > MAX_RECIPIENTS
        ):
            raise ValueError(f"recipients are named once each, and at most {MAX_RECIPIENTS}")


@dataclass(frozen=True, slots=True)
class SealHeader:
    """What anybody may see: the artifact's random id and kind, the segment size of its streams, its wrapped data key.

    `line` is the id of the first artifact of which this one is a later edition (its own id for the first), `edition` its
    place in that line, from 1. Both are under the outer signature, and what a broker wraps is bound to them.
    """

    TYPE: ClassVar[str] = "strongroom/seal/v1"
    artifact_id: bytes
    line: bytes
    edition: int
    kind: ArtifactKind
    segment_bytes: int
    keys: KeyWrap

    def __post_init__(self) -> None:
        if len(self.artifact_id) != ARTIFACT_ID_BYTES or len(self.line) != ARTIFACT_ID_BYTES:
            raise ValueError(f"an artifact id has {ARTIFACT_ID_BYTES} bytes")
        if self.edition < 1 or (self.edition == 1) != (self.line == self.artifact_id):
            raise ValueError("the first edition of a line has the line's own id, and no other has")
        if self.keys.broker is not None and self.keys.broker.of != self.of:
            raise ValueError("a wrapped key of another artifact")

    @property
    def of(self) -> Edition:
        """Which artifact this is."""
        return Edition(self.artifact_id, self.line, self.edition)


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor of a safetensors file: name, element type, shape; its bytes lie from `start` to `end` of the file."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int

    def __post_init__(self) -> None:
        bits = ELEMENT_BITS.get(self.dtype)
        if bits is None or len(self.shape) > MAX_DIMENSIONS or any(length < 0 for length in self.shape):
            raise ValueError("a tensor of an unknown type or an impossible shape")
        if not 0 <= self.start <= self.end or 8 * (self.end - self.start) != bits * math.prod(self.shape):
            raise ValueError("a tensor whose bytes are not those of its type and shape")


@dataclass(frozen=True, slots=True)
class SealedFile:
    """One file: its path below the artifact (POSIX, relative), size in bytes, hashes of the plaintext, media type.

    BLAKE3 is for readers in a hurry, SHA-256 is what the inner signature is about. `tensors` is the map of a safetensors
    file, in the order of their bytes; empty for other files.
    """

    path: str
    size: int
    blake3: bytes
    sha256: Digest
    media: str
    tensors: tuple[Tensor, ...] = ()

    def __post_init__(self) -> None:
        if not is_plain_path(self.path):
            raise ValueError("a path that is empty, absolute, too long, or climbs")
        if self.size < 0 or len(self.blake3) != BLAKE3_BYTES:
            raise ValueError("a file with an impossible size or hash")
        names = {tensor.name for tensor in self.tensors}
        if len(names) != len(self.tensors) or len(names) > MAX_TENSORS:
            raise ValueError(f"tensors of one name, or more than {MAX_TENSORS} of them")
        if any(tensor.end > self.size for tensor in self.tensors):
            raise ValueError("a tensor beyond the end of its file")


@dataclass(frozen=True, slots=True)
class SealedIndex:
    """File 0: what the artifact is called and holds. File n is `files[n - 1]`; `signature` the inner bundle, as text."""

    TYPE: ClassVar[str] = "strongroom/sealed-index/v1"
    name: str
    kind: ArtifactKind
    files: tuple[SealedFile, ...]
    signature: str

    def __post_init__(self) -> None:
        if not 1 <= len(self.files) <= MAX_FILES:
            raise ValueError(f"an artifact holds 1 to {MAX_FILES} files")
        paths = {file.path for file in self.files}
        parents = {path[:at] for path in paths for at, letter in enumerate(path) if letter == "/"}
        if len(paths) != len(self.files) or paths & parents:
            raise ValueError("two files in one place")


def is_plain_path(path: str) -> bool:
    """Whether `path` names a place below a folder and no other: relative, normal, printable, without a backslash."""
    parts = path.split("/")
    return (
        path.isprintable()
        and "\\" not in path
        and not any(part in {"", ".", ".."} for part in parts)
        and len(path.encode("utf-8", "replace")) <= MAX_PATH_BYTES
    )
