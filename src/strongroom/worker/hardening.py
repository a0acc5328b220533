"""What a worker's own process does so that its secrets stay in memory: all of it, not single keys.

Knows: core dumps, dumpability, locked memory. Does not know: which secrets there are.
Not covered: copies that Python and its libraries make (an immutable `bytes`, a key inside OpenSSL); they end with the process. A
paused or migrated machine writes memory where it likes: only an encrypted one helps.
"""

from __future__ import annotations

import resource
from dataclasses import dataclass
from typing import ClassVar

from strongroom.engines import linux
from strongroom.engines.measures import Attempts, Measures

_CAP_IPC_LOCK = 14


@dataclass(frozen=True, slots=True)
class Hardening(Measures):
    """What came of each measure: `yes`, or the reason why not."""

    SUBJECT: ClassVar[str] = "worker's process"
    NAMES: ClassVar[tuple[str, ...]] = ("no-core-dump", "not-dumpable", "never-swapped")


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
