"""Files of the cache: whole or not there at all, durable when a call returns, one writer at a time.

Knows: the operating system. Does not know: what the bytes mean. A writer that dies (kill -9, power) leaves at most a file
whose name begins with `PARTIAL`, which nobody reads. Not covered: file systems without rename or flock.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from strongroom.errors import StoreUnavailable

PARTIAL = ".partial-"
MAX_BYTES = 4 * 1024 * 1024
REMEDY = "Check the directory of the cache, its room and its permissions, or name another one."


@contextmanager
def store_errors(what: str) -> Iterator[None]:
    """Turn an `OSError` into `StoreUnavailable`. `what` begins its sentence."""
    try:
        yield
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else type(error).__name__
        raise StoreUnavailable(f"{what}: {reason}", remedy=REMEDY) from None


def read(path: Path) -> bytes | None:
    """A whole file, or None where there is none. Raises `StoreUnavailable`."""
    with store_errors("the collateral cache cannot be read"):
        try:
            with path.open("rb") as file:
                return file.read(MAX_BYTES)
        except FileNotFoundError:
            return None


def replace(path: Path, data: bytes) -> None:
    """Put `data` in place of the file at `path`, wholly and durably. Raises `OSError`; hold the lock."""
    partial = path.with_name(f"{PARTIAL}{path.name}-{os.urandom(8).hex()}")
    fd = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    sync(path.parent)


def sync(directory: Path) -> None:
    """Make the names in `directory` durable. Raises `OSError`."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock file at `path`, which the kernel gives back whatever becomes of its holder. Raises `OSError`."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)
