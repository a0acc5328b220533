"""The time by which a broker decides: it never goes below the last time in its log (release protocol, time).

Knows: when a clock cannot be right. Does not know: what is decided, or where the last logged time is kept (`log`). A clock
that is a little behind, as after it was set by a time server, stands still at the logged time until it has caught up: leases
only get shorter by that. One that is further behind decides nothing, because nobody can say any more how old a piece of
evidence or a revocation list is. One that runs ahead within a run is refused before anything of that time is logged; after
that there would be no way back.
Not covered: a clock that is wrong from the start on and later than the log; it is believed.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from strongroom.errors import ClockWrong

BEHIND_SECONDS = 60
AHEAD_SECONDS = 3600


def decision_time(now: int, logged: int) -> int:
    """The time to decide by, where the clock says `now` and the newest leaf `logged` (Unix seconds). Raises `ClockWrong`."""
    if logged - now > BEHIND_SECONDS:
        raise ClockWrong(
            f"this broker's clock is {logged - now} seconds behind what it logged before", detail="clock.behind"
        )
    return max(now, logged)


def boot_clock() -> float:
    """Seconds since the machine started, sleep included (CLOCK_BOOTTIME); nobody sets it."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class WatchedClock:
    """Unix seconds of `wall`, watched by `boot` since the first reading. May be shared by threads."""

    def __init__(self, wall: Callable[[], float] = time.time, boot: Callable[[], float] = boot_clock) -> None:
        self._wall, self._boot = wall, boot
        self._lock = threading.Lock()
        self._began: tuple[float, float] | None = None

    def __call__(self) -> float:
        """Raises `ClockWrong` where `wall` went ahead by more than an hour beyond what has passed."""
        wall, boot = self._wall(), self._boot()
        with self._lock:
            began = self._began = self._began or (wall, boot)
        if (wall - began[0]) - (boot - began[1]) > AHEAD_SECONDS:
            raise ClockWrong(
                "this broker's clock jumped ahead while it ran",
                detail="clock.ahead",
                remedy="Set the machine's clock. If it is right now and was wrong before, start the broker again.",
            )
        return wall
