"""Open: a sealed artifact becomes plaintext again, in memory, or in a folder of its owner.

Two steps, apart: `Opener` checks what anybody can check (manifest, outer signature); `Opener.open` takes the data key
and reads the sealed index. Every segment of what is opened is verified by its tag, so hashing serially is not on the way
into memory; `deep=True` compares BLAKE3 as well. Nothing is handed out before all of it was verified.

A store that lies can offer an older artifact, which its owner signed as well: pin the digest, or name the line and its least
edition (`Floor`).

Knows: artifacts. Does not know: where data keys come from.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from blake3 import blake3

from strongroom.crypto import segments
from strongroom.crypto.segments import Sink, Stream
from strongroom.crypto.signatures import PublicKey
from strongroom.errors import (
    EditionRefused,
    FileUnreadable,
    MalformedArtifact,
    MalformedRecord,
    SealBroken,
    SignatureInvalid,
    StrongroomError,
    UsageError,
)
from strongroom.records import codec
from strongroom.records.artifact import ArtifactKind, SealedFile, SealedIndex, SealHeader
from strongroom.records.digest import Digest
from strongroom.records.release import WrappedKey
from strongroom.sealed import signing
from strongroom.sealed.files import file_errors, sync_directory, writing_at
from strongroom.sealed.memory import filled_memfd
from strongroom.sealed.outer import check_signature
from strongroom.sealed.registries.port import Registry
from strongroom.sealed.seal import Progress
from strongroom.sealed.streams import MAX_PADDING, Streams, checked, read_manifest

MAX_READ_BYTES = 64 * 1024 * 1024
MAX_INDEX_BYTES = codec.MAX_BYTES + MAX_PADDING


@dataclass(frozen=True, slots=True)
class Summary:
    """What anybody can see without a key. `layers` are sizes of ciphertext; `signed` is None if no key was named."""

    digest: Digest
    kind: ArtifactKind
    artifact_id: bytes
    line: bytes
    edition: int
    segment_bytes: int
    layers: tuple[int, ...]
    broker_key: str | None
    recipients: tuple[Digest, ...]
    signed: bool | None


def inspect(registry: Registry, reference: str, *, signer_public: PublicKey | signing.Trust | None = None) -> Summary:
    """Read an artifact from outside. Raises for what cannot be read; whether a signature holds is in the answer."""
    manifest = read_manifest(registry, reference)
    header, signed = manifest.header, None
    if signer_public is not None:
        try:
            check_signature(registry, manifest, signer_public)
            signed = True
        except StrongroomError:
            signed = False
    return Summary(
        digest=manifest.digest,
        kind=header.kind,
        artifact_id=header.artifact_id,
        line=header.line,
        edition=header.edition,
        segment_bytes=header.segment_bytes,
        layers=tuple(layer.size for layer in manifest.layers),
        broker_key=header.keys.broker.key_id if header.keys.broker else None,
        recipients=tuple(box.recipient for box in header.keys.recipients),
        signed=signed,
    )


@dataclass(frozen=True, slots=True)
class Floor:
    """Nothing but this line of artifacts will do, and of it no edition before `edition`."""

    line: bytes
    edition: int

    def check(self, header: SealHeader) -> None:
        """Raises `EditionRefused`."""
        if header.line != self.line:
            raise EditionRefused("this is an artifact of another line", detail=header.line.hex())
        if header.edition < self.edition:
            raise EditionRefused(
                f"this is edition {header.edition}, and {self.edition} is the least that will do",
                detail=header.line.hex(),
            )


class Opener:
    """An artifact whose outer signature holds under the owner's key; its data key is still to come.

    Raises `FileUnreadable`, `MalformedArtifact`, `SealBroken`, `SignatureInvalid`, `EditionRefused`.
    """

    def __init__(
        self,
        registry: Registry,
        reference: str,
        *,
        signer_public: PublicKey | signing.Trust,
        floor: Floor | None = None,
    ) -> None:
        self._registry = registry
        self._signer = signer_public
        self.manifest = read_manifest(registry, reference)
        check_signature(registry, self.manifest, signer_public)
        if floor is not None:
            floor.check(self.header)

    @property
    def digest(self) -> Digest:
        return self.manifest.digest

    @property
    def header(self) -> SealHeader:
        """Artifact id, kind and wrapped keys: what to ask a data key with."""
        return self.manifest.header

    @property
    def wrapped(self) -> WrappedKey:
        """The data key as a broker can unwrap it. Raises `UsageError` if it was sealed to recipients alone."""
        if self.header.keys.broker is None:
            raise UsageError("no broker has the key of this artifact", remedy="Open it with a recipient's key.")
        return self.header.keys.broker

    def open(self, data_key: bytes) -> OpenedArtifact:
        """Open the sealed index. Raises `SealBroken` for another artifact's key or a changed index."""
        if len(data_key) != segments.KEY_BYTES:
            raise SealBroken(f"a data key of {len(data_key)} bytes where {segments.KEY_BYTES} are needed")
        streams = Streams(self._registry, self.manifest, bytearray(data_key))
        try:
            return OpenedArtifact(self.digest, self._read_index(streams), self.header, streams)
        except BaseException:
            streams.close()
            raise

    def _read_index(self, streams: Streams) -> SealedIndex:
        if self.manifest.layers[0].size > 2 * MAX_INDEX_BYTES:
            raise MalformedArtifact("the sealed index is too large")
        data = streams.use(0, lambda stream: stream.read(0, stream.shape.plaintext_bytes))
        try:
            index = codec.decode(SealedIndex, bytes(data).rstrip(b"\0"))
        except MalformedRecord as error:
            raise MalformedArtifact(f"the sealed index does not parse: {error.message}") from None
        if index.kind is not self.header.kind or len(index.files) != len(self.manifest.layers) - 1:
            raise MalformedArtifact("the sealed index is about other files than the manifest")
        _check_inner(index, self._signer)
        return index


@dataclass(slots=True, eq=False)
class OpenedArtifact:
    """An artifact with its data key: read what you need, then `close`, which overwrites the key."""

    digest: Digest
    index: SealedIndex
    header: SealHeader
    _streams: Streams = field(repr=False)

    @property
    def streams(self) -> Streams:
        """The streams themselves, for what seals them anew."""
        return self._streams

    @property
    def files(self) -> tuple[SealedFile, ...]:
        return self.index.files

    def file(self, path: str) -> SealedFile:
        """Raises `FileUnreadable` if the artifact holds no such file."""
        return self.files[self._number(path) - 1]

    def into_memfd(
        self, path: str, *, deep: bool = False, threads: int | None = None, progress: Progress | None = None
    ) -> int:
        """The file as a sealed memfd, which the caller closes: decrypted in parallel, on no disk, and once in memory.

        Raises `SealBroken` if any segment was changed; then there is no memfd.
        """
        file = self.file(path)

        def fill(fd: int) -> None:
            self._decrypt(file, fd, deep=deep, threads=threads, progress=progress)

        return filled_memfd(file.size, fill)

    def read_into(self, path: str, buffer: memoryview, offset: int = 0, *, threads: int | None = None) -> None:
        """Fill `buffer` (writable, contiguous) from `offset` of the file; nothing but the segments that hold it is read.

        Whole segments are decrypted in their place in `buffer`. Raises `UsageError` for a range outside the file,
        `SealBroken` if a segment was changed; `buffer` then holds zeros.
        """
        file, room = self.file(path), buffer.cast("B") if buffer.nbytes else memoryview(bytearray())
        if offset < 0 or offset + len(room) > file.size:
            raise UsageError("this range lies outside the file")
        self._streams.read_into(self._number(path), file, room, offset, threads)

    def read(self, path: str, *, limit: int = MAX_READ_BYTES) -> bytes:
        """The whole of a small file. Raises `UsageError` for one larger than `limit`, `SealBroken`."""
        file = self.file(path)
        if file.size > limit:
            raise UsageError(f"a file of {file.size} bytes exceeds the limit of {limit}", remedy="Open it into memory.")
        content = bytearray(file.size)
        self.read_into(path, memoryview(content), threads=1)
        return bytes(content)

    def into_directory(self, target: Path, *, threads: int | None = None, progress: Progress | None = None) -> None:
        """All files as plaintext in the new folder `target`, hashes compared: for owners, at home.

        Raises `UsageError` if there is something at `target`; on any failure nothing of this stays.
        """
        if os.path.lexists(target):
            raise UsageError(f"{target} exists already", remedy="Name a folder that does not exist yet.")
        partial = target.with_name(f".partial-{target.name}-{os.urandom(8).hex()}")
        total, before = sum(file.size for file in self.files), 0
        try:
            with file_errors(f"{target} cannot be written"):
                target.parent.mkdir(parents=True, exist_ok=True)
                partial.mkdir(mode=0o700)
                for file in self.files:
                    told = _shifted(progress, before, total)
                    self._write(file, partial / file.path, threads, told)
                    before += file.size
                partial.rename(target)
                sync_directory(target.parent)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise

    def moved(self) -> OpenedArtifact:
        """The artifact for another owner, who closes it then; this one is as if closed, but the key lives on."""
        taken = OpenedArtifact(self.digest, self.index, self.header, self._streams)
        self._streams = Streams(taken.streams.registry, taken.streams.manifest, bytearray())
        return taken

    def close(self) -> None:
        self._streams.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _number(self, path: str) -> int:
        for number, file in enumerate(self.files, start=1):
            if file.path == path:
                return number
        raise FileUnreadable("this artifact holds no such file", detail=path[:256])

    def _decrypt(
        self, file: SealedFile, fd: int, *, deep: bool, threads: int | None, progress: Progress | None
    ) -> None:
        sink = _counted(writing_at(fd), file.size, progress)

        def work(stream: Stream) -> None:
            segments.decrypt_into(checked(stream, file), sink, threads=threads)

        self._streams.use(self._number(file.path), work)
        if deep:
            os.ftruncate(fd, file.size)
            _check_hash(fd, file)

    def _write(self, file: SealedFile, place: Path, threads: int | None, progress: Progress | None) -> None:
        place.parent.mkdir(parents=True, exist_ok=True)
        fd = os.open(place, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            self._decrypt(file, fd, deep=True, threads=threads, progress=progress)
            os.fsync(fd)
        finally:
            os.close(fd)


def _check_inner(index: SealedIndex, trust: PublicKey | signing.Trust) -> None:
    """The owner's word about the plaintext covers exactly the index's files, git's own excepted (`signing`)."""
    if signing.verify_files(index.signature, trust) != signing.about_files(index.name, index.files):
        raise SignatureInvalid(
            "the inner signature is about other files than the sealed index", detail="inner signature"
        )


def _check_hash(fd: int, file: SealedFile) -> None:
    found = blake3(max_threads=blake3.AUTO).update_mmap(f"/proc/self/fd/{fd}").digest()
    if found != file.blake3:
        raise SealBroken("a file does not have the hash that the sealed index says", detail=file.path[:256])


def _counted(sink: Sink, total: int, progress: Progress | None) -> Sink:
    """`sink`, which tells `progress` after each write; between threads a count may be told late, never too high."""
    if progress is None:
        return sink
    done = 0

    def counting(data: memoryview, offset: int) -> None:
        nonlocal done
        sink(data, offset)
        done += len(data)
        progress(min(done, total), total)

    return counting


def _shifted(progress: Progress | None, before: int, total: int) -> Progress | None:
    return None if progress is None else lambda done, _: progress(before + done, total)
