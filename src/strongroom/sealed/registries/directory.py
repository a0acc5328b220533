"""A registry in a folder: an OCI image layout (image-spec 1.1, image-layout.md).

Blobs appear under their digest only when whole and durable; `index.json` is replaced at once, under a lock.

Knows: files. Does not know: what it keeps. Not covered: collecting blobs that nothing refers to; file systems without
locks.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from strongroom.errors import FileUnreadable, MalformedArtifact, SealBroken
from strongroom.records.digest import Digest, is_digest
from strongroom.sealed.files import file_errors, replace_durably, sync_directory, write_all
from strongroom.sealed.registries.layout import (
    LAYOUT,
    Entries,
    fallback_tag,
    index_bytes,
    named,
    parse_index,
    referrers_of,
    tagged,
    with_referrer,
    with_tag,
    without,
)
from strongroom.sealed.registries.port import (
    IMAGE_INDEX,
    IMAGE_MANIFEST,
    MAX_MANIFEST_BYTES,
    Descriptor,
    UploadLost,
    check_expected,
    checked,
    write_small,
)

_PARTIAL = ".partial-"
_KNOWN = ".known-"
_BLOCK = 1 << 20


@dataclass(slots=True)
class FileBlob:
    """A blob that is open as a file."""

    fd: int
    size: int
    lanes: int | None = None

    def read_into(self, buffer: memoryview, offset: int, /) -> None:
        with file_errors("a blob cannot be read"):
            while buffer:
                count = os.preadv(self.fd, [buffer], offset)
                if count == 0:
                    raise SealBroken("a blob ends before its size")
                buffer, offset = buffer[count:], offset + count


@dataclass(slots=True)
class FileWriter:
    """A blob on its way into `folder`, in a file of its own that is locked as long as somebody writes to it."""

    folder: Path
    fd: int
    partial: Path
    expected: Descriptor | None = None
    taken_up: int = 0
    size: int = 0
    _hash: Any = field(default_factory=hashlib.sha256)

    def write(self, data: memoryview | bytes, /) -> None:
        with file_errors("a blob cannot be written"):
            write_all(self.fd, data)
        self._hash.update(data)
        self.size += len(data)

    def commit(self) -> tuple[Digest, int]:
        digest = Digest("sha256:" + self._hash.hexdigest())
        try:
            check_expected(self.expected, digest, self.size)
        except SealBroken:
            self.partial.unlink(missing_ok=True)  # nobody shall go on with it
            if self.taken_up:
                raise UploadLost("what an earlier attempt left of a blob was not its beginning") from None
            raise
        with file_errors("a blob cannot be kept"):
            os.fsync(self.fd)
            self.partial.replace(self.folder / self._hash.hexdigest())
            sync_directory(self.folder)
        return digest, self.size


@dataclass(frozen=True, slots=True)
class DirectoryRegistry:
    """The OCI layout at `root`, which is made when something is put there."""

    root: Path

    @contextmanager
    def push_blob(self) -> Iterator[FileWriter]:
        folder = self._blobs()
        with file_errors(f"{self.root} cannot be written"):
            partial = folder / (_PARTIAL + os.urandom(8).hex())
            with _locked(folder):
                _sweep(folder)
                fd = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
                fcntl.flock(fd, fcntl.LOCK_EX)
        try:
            yield FileWriter(folder, fd, partial)
        finally:
            partial.unlink(missing_ok=True)
            os.close(fd)

    @contextmanager
    def push_known(self, descriptor: Descriptor) -> Iterator[FileWriter]:
        """As the port has it; what is written stays under a name of its own if the writer ends early or is killed.

        The next one takes it up where it ends, after hashing it again. Somebody else who writes the same is not waited for.
        """
        folder = self._blobs()
        partial = folder / (_KNOWN + descriptor.digest.removeprefix("sha256:"))
        with file_errors(f"{self.root} cannot be written"):
            fd = os.open(partial, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, 0o644)
        try:
            if not _alone(fd, partial):
                with self.push_blob() as other:
                    other.expected = descriptor
                    yield other
                return
            writer = FileWriter(folder, fd, partial, descriptor)
            with file_errors("the beginning of a blob cannot be read"):
                _take_up(writer, descriptor.size)
            try:
                yield writer
            finally:
                if writer.size == 0:
                    partial.unlink(missing_ok=True)
        finally:
            os.close(fd)

    def has_blob(self, descriptor: Descriptor) -> bool:
        try:
            return self._path(descriptor.digest).stat().st_size == descriptor.size
        except OSError:
            return False

    @contextmanager
    def open_blob(self, digest: Digest) -> Iterator[FileBlob]:
        with file_errors(f"the blob {digest} cannot be read"):
            fd = os.open(self._path(digest), os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a pipe would wait for ever
        try:
            yield FileBlob(fd, os.fstat(fd).st_size)
        finally:
            os.close(fd)

    def put_manifest(self, data: bytes, *, media_type: str, tag: str | None = None) -> Digest:
        digest = write_small(self, data)
        if tag is not None:
            with _locked(self.root):
                self._name(Descriptor(media_type, digest, len(data)), tag)
        return digest

    def get_manifest(self, digest: Digest) -> bytes:
        with self.open_blob(digest) as blob:
            if blob.size > MAX_MANIFEST_BYTES:
                raise MalformedArtifact(f"a manifest of {blob.size} bytes exceeds the limit of {MAX_MANIFEST_BYTES}")
            data = bytearray(blob.size)
            blob.read_into(memoryview(data), 0)
        return checked(bytes(data), digest)

    def resolve(self, reference: str) -> Digest:
        if is_digest(reference):
            return Digest(reference)
        found = tagged(self._index(), reference)
        if found is None:
            raise FileUnreadable(
                f"{self.root} has nothing by the name {reference!r}", remedy="Check the reference and its tag."
            )
        return found.digest

    def attach(self, subject: Digest, data: bytes, *, artifact_type: str) -> Digest:
        digest = write_small(self, data)
        with _locked(self.root):
            entries = with_referrer(
                self._referrer_entries(subject), Descriptor(IMAGE_MANIFEST, digest, len(data)), artifact_type
            )
            listing = index_bytes(entries)
            write_small(self, listing)
            self._name(Descriptor.of(IMAGE_INDEX, listing), fallback_tag(subject))
        return digest

    def referrers(self, subject: Digest, artifact_type: str) -> tuple[Digest, ...]:
        return referrers_of(self._referrer_entries(subject), artifact_type)

    def discard(self, digests: tuple[Digest, ...]) -> None:
        for digest in digests:
            with suppress(OSError):  # what failed before is what matters
                self._path(digest).unlink(missing_ok=True)
        for place in (self.root / "blobs" / "sha256", self.root / "blobs", self.root):
            with suppress(OSError):  # others keep something there
                place.rmdir()

    def named(self) -> tuple[Digest, ...]:
        return named(self._index())

    def forget(self, digest: Digest) -> None:
        with _locked(self.root):
            entries = self._index()
            listing = tagged(entries, fallback_tag(digest))
            with file_errors(f"{self.root} cannot be written"):
                replace_durably(self.root / "index.json", index_bytes(without(entries, digest)))
                for gone in (digest, *(() if listing is None else (listing.digest,))):
                    self._path(gone).unlink(missing_ok=True)

    @property
    def remains(self) -> tuple[str, ...]:
        return ("snapshots and backups of this folder, and blocks of its disk until they are written again",)

    def _blobs(self) -> Path:
        """The folder of blobs, which is there then."""
        folder = self.root / "blobs" / "sha256"
        with file_errors(f"{self.root} cannot be written"):
            folder.mkdir(parents=True, exist_ok=True)
        return folder

    def _path(self, digest: Digest) -> Path:
        return self.root / "blobs" / "sha256" / digest.removeprefix("sha256:")

    def _referrer_entries(self, subject: Digest) -> Entries:
        listed = tagged(self._index(), fallback_tag(subject))
        return [] if listed is None else parse_index(self.get_manifest(listed.digest))

    def _index(self) -> Entries:
        place = self.root / "index.json"
        with file_errors(f"{self.root} is not an OCI layout"):
            try:
                with place.open("rb") as file:
                    data = file.read(MAX_MANIFEST_BYTES + 1)
            except FileNotFoundError:
                return []
        return parse_index(data)

    def _name(self, descriptor: Descriptor, tag: str) -> None:
        """Point `tag` at `descriptor`; the lock is held."""
        data = index_bytes(with_tag(self._index(), descriptor, tag))
        with file_errors(f"{self.root} cannot be written"):
            replace_durably(self.root / "oci-layout", LAYOUT)
            replace_durably(self.root / "index.json", data)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder; other writers wait, readers do not."""
    with file_errors(f"{folder} cannot be locked"):
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _sweep(folder: Path) -> None:
    """Remove what writers left that were killed: partial files that nobody holds locked. The folder is locked.

    What has a digest for a name waits for somebody to go on with it, unless the whole has come another way.
    """
    done = (partial for partial in folder.glob(_KNOWN + "*") if (folder / partial.name.removeprefix(_KNOWN)).exists())
    for partial in (*folder.glob(_PARTIAL + "*"), *done):
        with suppress(OSError):
            fd = os.open(partial, os.O_RDONLY | os.O_CLOEXEC)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                partial.unlink()
            finally:
                os.close(fd)


def _alone(fd: int, partial: Path) -> bool:
    """Whether we hold this file alone, and it is still the one by that name."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.path.samestat(os.fstat(fd), partial.stat())
    except OSError:
        return False


def _take_up(writer: FileWriter, limit: int) -> None:
    """Go on at the end of what is there, its hash included; from the beginning, if that is more than there can be."""
    if os.fstat(writer.fd).st_size > limit:
        os.ftruncate(writer.fd, 0)
    while block := os.read(writer.fd, _BLOCK):
        writer._hash.update(block)  # noqa: SLF001 (one thing in two functions)
        writer.size += len(block)
    writer.taken_up = writer.size
