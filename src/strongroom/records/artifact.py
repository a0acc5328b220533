"""A sealed artifact: what anybody may see of it, and what only the holder of its data key sees.

Knows: the shapes and which paths, numbers and sizes are possible. Does not know: how streams are encrypted
(`crypto.segments`), how they are packaged and signed (`sealed`). Format: docs/reference/sealed-format.md.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import ClassVar

from strongroom.records import codec
from strongroom.records.digest import Digest
from strongroom.records.release import WrappedKey

ARTIFACT_ID_BYTES = 16
BLAKE3_BYTES = 32
MAX_FILES = 4096
MAX_RECIPIENTS = 64
MAX_PATH_BYTES = 1024


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
    """What anybody may see: the artifact's random id and kind, the segment size of its streams, its wrapped data key."""

    TYPE: ClassVar[str] = "strongroom/seal/v1"
    artifact_id: bytes
    kind: ArtifactKind
    segment_bytes: int
    keys: KeyWrap

    def __post_init__(self) -> None:
        if len(self.artifact_id) != ARTIFACT_ID_BYTES:
            raise ValueError(f"an artifact id has {ARTIFACT_ID_BYTES} bytes")
        if self.keys.broker is not None and self.keys.broker.artifact_id != self.artifact_id:
            raise ValueError("a wrapped key of another artifact")


@dataclass(frozen=True, slots=True)
class SealedFile:
    """One file: its path below the artifact (POSIX, relative), size in bytes, hashes of the plaintext, media type.

    BLAKE3 is for readers in a hurry, SHA-256 is what the inner signature is about.
    """

    path: str
    size: int
    blake3: bytes
    sha256: Digest
    media: str

    def __post_init__(self) -> None:
        if not is_plain_path(self.path):
            raise ValueError("a path that is empty, absolute, too long, or climbs")
        if self.size < 0 or len(self.blake3) != BLAKE3_BYTES:
            raise ValueError("a file with an impossible size or hash")


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
