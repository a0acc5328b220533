"""Whose words lie in which slot of an engine: a prefix is found again by who left it, and by nobody else.

Knows: slots by number, namespaces by name. Does not know: the engine, what lies in a slot.
Safety: a slot counts as somebody's only after an answer of theirs came to its good end in it. From when it is given away until then,
and after whatever went wrong, it is nobody's: the engine may still hold what lay there before.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator


class Slots:
    """The slots of one engine; from any thread."""

    def __init__(self, count: int) -> None:
        self._free = list(range(count))  # the one that rested longest comes first
        self._owners = [""] * count
        self._changed = threading.Condition()

    @contextlib.contextmanager
    def held(self, namespace: str) -> Iterator[tuple[int, bool]]:
        """A free slot, waited for, and whether what lies in it may be used. "" is the namespace of nobody: used by none."""
        with self._changed:
            while not self._free:
                self._changed.wait()
            slot = self._choose(namespace)
            self._free.remove(slot)
            own, self._owners[slot] = self._owners[slot] == namespace != "", ""
        good = False
        try:
            yield slot, own
            good = True
        finally:
            with self._changed:
                self._owners[slot] = namespace if good else ""
                self._free.append(slot)
                self._changed.notify()

    def _choose(self, namespace: str) -> int:
        """One's own, else one that is nobody's, else the one that rested longest."""
        for wanted in (namespace, ""):
            for slot in self._free:
                if self._owners[slot] == wanted:
                    return slot
        return self._free[0]
