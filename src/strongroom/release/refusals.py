"""How many refusals are written down: a flood of bad evidence must not grow the log without bound.

Knows: a budget for each minute. Does not know: why something was refused. What is over budget is counted, and the next
leaf says how many there were.
"""

from __future__ import annotations

REFUSALS_PER_MINUTE = 60


class RefusalBudget:
    """Not for several threads at once: it is asked inside the store's writer."""

    def __init__(self, per_minute: int = REFUSALS_PER_MINUTE) -> None:
        self._per_minute, self._minute, self._spent, self._unlogged = per_minute, 0, 0, 0

    def take(self, now: int) -> int | None:
        """Whether a refusal at `now` may be written down: how many before it were not, or None if it may not."""
        if now // 60 != self._minute:
            self._minute, self._spent = now // 60, 0
        if self._spent >= self._per_minute:
            self._unlogged += 1
            return None
        self._spent += 1
        unlogged, self._unlogged = self._unlogged, 0
        return unlogged
