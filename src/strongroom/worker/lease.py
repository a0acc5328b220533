"""The time for which a worker may hold its keys. No grace.

Knows: when to renew and when to stop, on a clock that also runs while the machine sleeps. Does not know: how a lease is renewed.
The time to live counts from *before* the request that obtained it, so the worker always stops before the broker thinks it does.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

RENEW_AT = 0.5
"""The part of a lease after which it is renewed: early enough for several tries."""

RETRY_SECONDS = 1.0
DRAIN_SECONDS = 5.0
DRAIN_PART = 0.2
"""How long before the end of its term a worker that could not renew begins to drain: this, or this part of the term."""


def boot_clock() -> float:
    """Seconds since boot, sleep included (CLOCK_BOOTTIME); nobody can set it back."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


@dataclass(frozen=True, slots=True)
class Term:
    """One stretch of a lease: `asked` is the boot clock before the request, `seconds` what the broker granted."""

    asked: float
    seconds: int

    @property
    def ends(self) -> float:
        return self.asked + self.seconds

    def until_renewal(self, now: float) -> float:
        """Seconds until the next renewal is due, 0 when it is."""
        return max(0.0, self.asked + self.seconds * RENEW_AT - now)

    @property
    def drains(self) -> float:
        """The boot clock at which draining begins, so that everything is wiped when the term ends."""
        return self.ends - min(DRAIN_SECONDS, self.seconds * DRAIN_PART)

    def over(self, now: float) -> bool:
        """Whether it is time to drain."""
        return now >= self.drains

    def left(self, now: float) -> float:
        """Seconds that what is under way may still take."""
        return max(0.0, min(DRAIN_SECONDS, self.ends - now))

    def until_retry(self, now: float) -> float:
        """Seconds to wait after a failed try, never beyond the moment of draining."""
        return max(0.0, min(RETRY_SECONDS, self.seconds / 10, self.drains - now))


BootClock = Callable[[], float]
