"""What becomes of a value that is not on the list: an error where somebody is testing, else dropped and counted.

Knows: how many were dropped. Does not know: the lists (`table`). The dropped value itself is kept nowhere: it may be what the lists
are there to keep in. Not covered: telling which call it was; tests do.
"""

from __future__ import annotations

import threading

from strongroom.errors import UsageError

KINDS = ("log", "metric", "span")


class Doubts:
    """Counts of what was dropped, by kind. With `strict`, nothing is dropped: `note` raises."""

    def __init__(self, *, strict: bool = False) -> None:
        self.strict = strict
        self._lock, self._counts = threading.Lock(), dict.fromkeys(KINDS, 0)

    def note(self, kind: str, where: str) -> None:
        """Something at `where` (a name of ours, never a value) was not on the list. Raises `UsageError` with `strict`."""
        if self.strict:
            raise UsageError(f"{where} is not on the list of what may be observed", remedy="Add it to observe.table.")
        with self._lock:
            self._counts[kind] += 1

    def counts(self) -> dict[str, int]:
        """How many were dropped since the process began."""
        with self._lock:
            return dict(self._counts)


DOUBTS = Doubts()
"""The process's own. Tests make it strict."""
