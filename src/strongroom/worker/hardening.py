"""What a worker's own process does so that its secrets stay in memory, and a holder for those that can be wiped.

Knows: core dumps, dumpability, locked memory. Does not know: which secrets there are.
Not covered: copies that Python and its libraries make (an immutable `bytes`, a key inside OpenSSL); they end with the process. A
paused or migrated machine writes memory where it likes: only an encrypted one helps.
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import resource
from dataclasses import dataclass
from types import TracebackType
from typing import ClassVar, NoReturn, Self

from strongroom.engines import linux
from strongroom.engines.measures import Attempts, Measures

_CAP_IPC_LOCK = 14


@dataclass(frozen=True, slots=True)
class Hardening(Measures):
    """What came of each measure: `yes`, or the reason why not."""

    SUBJECT: ClassVar[str] = "worker's process"
    NAMES: ClassVar[tuple[str, ...]] = ("no-core-dump", "not-dumpable", "never-swapped")


@dataclass(frozen=True, slots=True)
class Protection(Measures):
    """What protects the pages of one `SecretBytes`."""

    SUBJECT: ClassVar[str] = "holder of a secret"
    NAMES: ClassVar[tuple[str, ...]] = ("locked", "not-forked", "not-dumped")


def harden() -> Hardening:
    """Harden this process. No measure that fails raises; `Hardening.require` does, for those who demand all."""
    attempts = Attempts()
    attempts.attempt("no-core-dump", lambda: resource.setrlimit(resource.RLIMIT_CORE, (0, 0)))
    attempts.attempt("not-dumpable", lambda: linux.prctl(linux.PR_SET_DUMPABLE, 0))
    attempts.attempt("never-swapped", _stay_in_memory)
    return Hardening(attempts.outcomes)


def _stay_in_memory() -> None:
    """Lock what there is and will be; where the account may not, it is enough that there is no swap to go to."""
    locked = _may_lock_everything()
    if locked:
        linux.lock_all_memory()
    elif linux.swap_in_use():
        raise OSError("this machine has swap and the account may not lock its memory")


def _may_lock_everything() -> bool:
    """Under a limit the lock would hold at first, and later make an allocation fail in the middle of work."""
    soft, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    return soft == resource.RLIM_INFINITY or linux.has_capability(_CAP_IPC_LOCK)


class SecretBytes:
    """A secret of fixed size on pages of its own: locked, absent from core dumps and from forked children, and wiped at the end.

    `view` is writable; hand it to whatever takes buffers. It has no representation, cannot be pickled, copied or compared.
    """

    __slots__ = ("_pages", "_size", "protection")

    def __init__(self, size: int) -> None:
        """`size` zero bytes, to be filled through `view`."""
        if size <= 0:
            raise ValueError("a secret without bytes")
        self._size = size
        self._pages: mmap.mmap | None = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self.protection = self._protect(self._pages)

    @classmethod
    def take(cls, source: bytearray) -> Self:
        """Move a secret in: `source` is overwritten with zeros."""
        held = cls(len(source))
        held.view[:] = source
        source[:] = bytes(len(source))
        return held

    @property
    def view(self) -> memoryview:
        """The bytes themselves, until `wipe`. Raises `ValueError` afterwards."""
        if self._pages is None:
            raise ValueError("this secret was wiped")
        return memoryview(self._pages)[: self._size]

    @property
    def wiped(self) -> bool:
        """Whether it is gone."""
        return self._pages is None

    def wipe(self) -> None:
        """Overwrite and give back. Views that are still held see zeros. Never fails, also when called twice."""
        pages, self._pages = self._pages, None
        if pages is None:
            return
        pages[:] = bytes(len(pages))
        with contextlib.suppress(BufferError):  # somebody holds a view; the pages go with it, and hold zeros until then
            pages.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.wipe()

    def __len__(self) -> int:
        return self._size

    def __repr__(self) -> str:
        return "SecretBytes(…)"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret is not copied or pickled")

    @staticmethod
    def _protect(pages: mmap.mmap) -> Protection:
        attempts = Attempts()
        attempts.attempt("not-forked", lambda: pages.madvise(mmap.MADV_DONTFORK))
        attempts.attempt("not-dumped", lambda: pages.madvise(mmap.MADV_DONTDUMP))
        address = ctypes.addressof(ctypes.c_char.from_buffer(pages))
        attempts.attempt("locked", lambda: linux.lock_memory(address, len(pages)))
        return Protection(attempts.outcomes)
