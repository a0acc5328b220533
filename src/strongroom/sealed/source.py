"""What is to be sealed: the files of a folder, or one file, in a fixed order, and each read once.

Files without a name, such as a memfd, come as open descriptors (`described`).

Knows: plain files. Does not know: encryption. Not covered: empty folders, owners, modes and times, which are not kept.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from blake3 import blake3

from strongroom.errors import FileUnreadable, UsageError
from strongroom.records.artifact import MAX_FILES, SealedFile, is_plain_path
from strongroom.records.digest import Digest
from strongroom.sealed.files import file_errors
from strongroom.sealed.tensors import tensors_of

SAFETENSORS = "application/vnd.safetensors"
_MEDIA = {
    ".gguf": "application/vnd.gguf",
    ".safetensors": SAFETENSORS,
    ".json": "application/json",
    ".jsonl": "application/jsonl",
    ".txt": "text/plain",
    ".md": "text/markdown",
    ".csv": "text/csv",
    ".py": "text/x-python",
    ".whl": "application/vnd.python.wheel",
}


@dataclass(frozen=True, slots=True)
class PlainFile:
    """One file to seal: its path inside the artifact, where it lies, its size when it was looked at.

    A place that is a number is an open descriptor; it stays its caller's to close.
    """

    path: str
    place: Path | int
    size: int

    @property
    def media(self) -> str:
        """The media type, by the end of the name."""
        return _MEDIA.get(Path(self.path).suffix.lower(), "application/octet-stream")


def find_files(source: Path) -> tuple[PlainFile, ...]:
    """The files of `source`, sorted by path. Raises `FileUnreadable`; `UsageError` for what an artifact cannot hold."""
    with file_errors(f"{source} cannot be read"):
        mode = source.stat().st_mode
        places = [source] if stat.S_ISREG(mode) else sorted(_walk(source))
        root = source.parent if stat.S_ISREG(mode) else source
        files = tuple(_plain_file(place, root) for place in places)
    if not 1 <= len(files) <= MAX_FILES:
        raise UsageError(f"{source} holds {len(files)} files", remedy=f"An artifact holds 1 to {MAX_FILES}; pack them.")
    return files


def described(path: str, descriptor: int) -> PlainFile:
    """The file behind an open descriptor, to be sealed as `path`. Raises `UsageError` for what an artifact cannot hold."""
    with file_errors("an open file cannot be read"):
        about = os.fstat(descriptor)
    if not stat.S_ISREG(about.st_mode) or not is_plain_path(path):
        raise UsageError("an open descriptor is not a plain file, or has an impossible path in the artifact")
    return PlainFile(path, descriptor, about.st_size)


def padding(size: int, pad_to: int) -> int:
    """How many zeros bring `size` to a multiple of `pad_to`, and an empty file to one of them."""
    return -size % pad_to if size or pad_to == 1 else pad_to


class FileReader:
    """Reads one file in order, hashes what it reads, and pads it with zeros to a multiple of `pad_to` bytes."""

    def __init__(self, fd: int, file: PlainFile, pad_to: int, on_read: Callable[[int], None]) -> None:
        self._fd = fd
        self._file = file
        self._left = file.size
        self._padding = padding(file.size, pad_to)
        self._on_read = on_read
        self._hashes = blake3(), hashlib.sha256()

    def readinto(self, buffer: memoryview, /) -> int:
        if self._left == 0:
            count = min(self._padding, len(buffer))
            buffer[:count] = bytes(count)
            self._padding -= count
            return count
        with file_errors("a file cannot be read"):
            count = os.readv(self._fd, [buffer[: self._left]])
        if count == 0:
            raise FileUnreadable("a file became shorter while it was sealed")
        for each in self._hashes:
            each.update(buffer[:count])
        self._left -= count
        self._on_read(count)
        return count

    def described(self) -> SealedFile:
        """What the sealed index says of the file, once it was read to its end; the padding is not in the hashes."""
        fast, common = self._hashes
        digest, file = Digest("sha256:" + common.hexdigest()), self._file
        tensors = tensors_of(self._look, file.size) if file.media == SAFETENSORS else ()
        return SealedFile(file.path, file.size, fast.digest(), digest, file.media, tensors)

    def _look(self, offset: int, length: int) -> bytes:
        with file_errors("a file cannot be read"):
            return os.pread(self._fd, length, offset)


@contextmanager
def opened(file: PlainFile, *, pad_to: int, on_read: Callable[[int], None]) -> Iterator[FileReader]:
    """The file, open for one reading. Raises `FileUnreadable` if it is gone or grew since it was found."""
    with file_errors(f"{file.place} cannot be read"):
        fd = _open(file.place)
    try:
        yield FileReader(fd, file, pad_to, on_read)
        if os.fstat(fd).st_size != file.size:
            raise FileUnreadable(
                f"{file.place} changed while it was sealed", remedy="Seal it when nobody writes to it."
            )
    finally:
        os.close(fd)


def _open(place: Path | int) -> int:
    """A descriptor of our own, at the beginning of the file."""
    if isinstance(place, int):
        os.lseek(place, 0, os.SEEK_SET)
        return os.dup(place)
    return os.open(place, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)


def _walk(folder: Path) -> Iterator[Path]:
    for entry in os.scandir(folder):
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(folder / entry.name)
        else:
            yield folder / entry.name


def _plain_file(place: Path, root: Path) -> PlainFile:
    about = place.lstat()
    path = place.relative_to(root).as_posix()
    if not stat.S_ISREG(about.st_mode):
        raise UsageError(f"{place} is not a plain file", remedy="Copy the folder with its links resolved (cp -rL).")
    if not is_plain_path(path):
        raise UsageError(f"an artifact cannot hold a file of the name {path!r}", remedy="Rename it.")
    return PlainFile(path, place, about.st_size)
