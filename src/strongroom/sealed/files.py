"""Files of this machine: errors by their name, durable and atomic writes, writes at any place.

Knows: the operating system. Does not know: what the bytes mean. Not covered: file systems without rename or flock.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from strongroom.errors import FileUnreadable, StoreUnavailable

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.ENOMEM}


@contextmanager
def file_errors(what: str) -> Iterator[None]:
    """Turn an `OSError` into `FileUnreadable`, or `StoreUnavailable` where room ran out. `what` begins its sentence."""
    try:
        yield
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else type(error).__name__
        if error.errno in _FULL:
            raise StoreUnavailable(
                f"{what}: {reason}", remedy="Make room on this disk or in memory, then try again."
            ) from None
        raise FileUnreadable(f"{what}: {reason}") from None


def write_all(fd: int, data: memoryview | bytes) -> None:
    """Write all of `data` at the file's position."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def writing_at(fd: int) -> Callable[[memoryview, int], None]:
    """A sink that writes plaintext to its own place in the file; safe from several threads."""

    def sink(data: memoryview, offset: int) -> None:
        while data:
            count = os.pwrite(fd, data, offset)
            data, offset = data[count:], offset + count

    return sink


def sync_directory(place: Path) -> None:
    """Make the names in `place` durable."""
    fd = os.open(place, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def replace_durably(target: Path, data: bytes) -> None:
    """Put `data` in place of `target`, wholly or not at all."""
    partial = target.with_name(f".partial-{target.name}-{os.urandom(8).hex()}")
    fd = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    try:
        write_all(fd, data)
        os.fsync(fd)
        partial.replace(target)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    finally:
        os.close(fd)
    sync_directory(target.parent)
