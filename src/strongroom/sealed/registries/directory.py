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
    parse_index,
    referrers_of,
    tagged,
    with_referrer,
    with_tag,
)
from strongroom.sealed.registries.port import (
    IMAGE_INDEX,
    IMAGE_MANIFEST,
    MAX_MANIFEST_BYTES,
    Descriptor,
    checked,
    write_small,
)

_PARTIAL = ".partial-"


@dataclass(slots=True)
class FileBlob:
    """A blob that is open as a file."""

    fd: int
    size: int

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
    size: int = 0
    _hash: Any = field(default_factory=hashlib.sha256)

    def write(self, data: memoryview | bytes, /) -> None:
        with file_errors("a blob cannot be written"):
            write_all(self.fd, data)
        self._hash.update(data)
        self.size += len(data)

    def commit(self) -> tuple[Digest, int]:
        digest = Digest("sha256:" + self._hash.hexdigest())
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
        folder = self.root / "blobs" / "sha256"
        with file_errors(f"{self.root} cannot be written"):
            folder.mkdir(parents=True, exist_ok=True)
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
    """Remove what writers left that were killed: partial files that nobody holds locked. The folder is locked."""
    for partial in folder.glob(_PARTIAL + "*"):
        with suppress(OSError):
            fd = os.open(partial, os.O_RDONLY | os.O_CLOEXEC)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                partial.unlink()
            finally:
                os.close(fd)
