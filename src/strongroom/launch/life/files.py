"""Files that are there after a power cut, and files that are overwritten before they go.

Knows: fsync of files and folders, digests while reading, what overwriting reaches. Does not know: which file is which.
Not covered: what a file system or a disk keeps of a file besides (journals, snapshots, blocks that an SSD has set aside).
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path

from strongroom.errors import FileUnreadable
from strongroom.records.digest import Digest

BLOCK = 1 << 20
ZEROS = bytes(BLOCK)
MOST_OVERWRITTEN = 64 << 20
"""Bytes of a file that are read and overwritten when it is wiped; larger ones, which a guest encrypts itself, are unlinked."""


def durable(path: Path, data: bytes, *, mode: int = 0o600) -> None:
    """`data` as the whole of `path`, there after a power cut or not at all. Raises `FileUnreadable`."""
    write_parts(path, (data,), mode=mode)


def part_of(path: Path) -> Path:
    """What a file is called until it is whole."""
    return path.with_name(f".{path.name}.part")


def write_parts(path: Path, parts: Iterable[bytes | memoryview], *, mode: int = 0o600) -> None:
    """As `durable`, piece by piece; a piece that is all zeros, of up to `BLOCK`, is not written where the file system has holes."""
    part = part_of(path)
    try:
        part.unlink(missing_ok=True)
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
        with os.fdopen(descriptor, "wb", buffering=0) as file:
            size = 0
            for piece in parts:
                _write(file.fileno(), piece)
                size += len(piece)
            file.truncate(size)
            os.fsync(file.fileno())
        part.rename(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise FileUnreadable(f"{path}: {error.strerror}") from None
    sync_folder(path.parent)


def _write(descriptor: int, piece: bytes | memoryview) -> None:
    if piece[:64] == ZEROS[: len(piece[:64])] and bytes(piece) == ZEROS[: len(piece)]:
        os.lseek(descriptor, len(piece), os.SEEK_CUR)
        return
    rest = memoryview(piece)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def sync_folder(folder: Path) -> None:
    """Make names in `folder` durable. Raises `FileUnreadable`."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise FileUnreadable(f"{folder}: {error.strerror}") from None


def make_folder(folder: Path, *, mode: int = 0o700) -> None:
    """`folder`, made where there is none. Raises `FileUnreadable`."""
    try:
        folder.mkdir(mode=mode, exist_ok=True)
    except OSError as error:
        raise FileUnreadable(f"{folder}: {error.strerror}") from None


def digest_file(path: Path) -> tuple[int, Digest]:
    """Size and SHA-256 of a regular file. Raises `FileUnreadable`."""
    try:
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb", buffering=0) as file:
            return _digest(file.fileno())
    except OSError as error:
        raise FileUnreadable(f"{path}: {error.strerror}") from None


def _digest(descriptor: int) -> tuple[int, Digest]:
    running, size, block = sha256(), 0, memoryview(bytearray(BLOCK))
    while count := os.readv(descriptor, [block]):
        running.update(block[:count])
        size += count
    return size, Digest(f"sha256:{running.hexdigest()}")


def can_be_overwritten(kept: os.stat_result) -> bool:
    """Whether a file is regular, small enough, and has no other name: what somebody else calls his is only unlinked."""
    return stat.S_ISREG(kept.st_mode) and kept.st_nlink == 1 and kept.st_size <= MOST_OVERWRITTEN


def destroy(path: Path, *, overwrite: bool) -> str:
    """Overwrite a file once with zeros where asked for and `can_be_overwritten`, then unlink it; how it was done.

    Raises `FileUnreadable`. A link is unlinked and never followed.
    """
    try:
        kept = path.lstat()
        how = "unlinked"
        if overwrite and can_be_overwritten(kept):
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "wb", buffering=0) as file:
                rest = kept.st_size
                while rest:
                    rest -= os.write(file.fileno(), ZEROS[: min(rest, BLOCK)])
                os.fsync(file.fileno())
            how = "overwritten"
        path.unlink()
    except OSError as error:
        raise FileUnreadable(f"{path}: {error.strerror}") from None
    sync_folder(path.parent)
    return how
