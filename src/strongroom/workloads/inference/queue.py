"""The line before an engine: so many at it, so many waiting, and an honest word to the next.

503 says that the worker is full, 429 that this client has its share of the line already; both say when to come back, from the pace
at which the line moved lately. Nothing waits without a bound.

Knows: places, turns, pace. Does not know: what a turn is for, nor who the clients are: a name, where there is one.
Not covered: an order other than that of arrival.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable

from strongroom.errors import ServiceUnavailable

LONGEST_WAIT = 60
"""Seconds; nobody is told to stay away for longer."""
_NEWEST = 0.2
"""The weight of the newest turn in the pace."""


class ComeBack(ServiceUnavailable):
    """Not now: `status` is HTTP's, `retry_after` in whole seconds."""

    default_remedy = "Come back in a moment."
    status = 503

    def __init__(self, message: str, retry_after: int = 1) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Full(ComeBack):
    """The line is full, whoever asks."""


class TooMany(ComeBack):
    """This client has its share of the line; others may still come."""

    default_remedy = "Wait for your own requests to end."
    status = 429


class Line:
    """`slots` requests run, `waiting` wait. With a name, a client takes at most half of all places, and always one.

    `clock` gives seconds. For one event loop.
    """

    def __init__(self, slots: int, waiting: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.slots, self.room = slots, waiting
        self._clock = clock
        self._free = asyncio.Semaphore(slots)
        self._waiting = self._running = 0
        self._held: Counter[str] = Counter()
        self._pace: float | None = None

    @property
    def waiting(self) -> int:
        """Requests that wait now."""
        return self._waiting

    @property
    def running(self) -> int:
        """Requests whose turn it is now."""
        return self._running

    @property
    def retry_after(self) -> int:
        """Whole seconds until a place is likely to be free: what is before a newcomer, at the pace of the last turns."""
        seconds = (self._pace or 0.0) * (self._waiting + 1) / self.slots
        return min(max(math.ceil(seconds), 1), LONGEST_WAIT)

    def check(self, whose: str | None = None) -> None:
        """Raises `Full`, or `TooMany` for a named client; else there is room now."""
        if whose is not None and self._held[whose] >= max(1, (self.slots + self.room) // 2):
            raise TooMany("this client has as many requests here as it may", self.retry_after)
        if self._running + self._waiting >= self.slots + self.room:
            raise Full("the worker's queue is full", self.retry_after)

    @contextlib.asynccontextmanager
    async def turn(self, whose: str | None = None) -> AsyncIterator[None]:
        """Wait for a turn, and have it within. Raises as `check`, before any waiting."""
        self.check(whose)
        if whose is not None:
            self._held[whose] += 1
        try:
            self._waiting += 1
            try:
                await self._free.acquire()
            finally:
                self._waiting -= 1
            self._running += 1
            began = self._clock()
            try:
                yield
            finally:
                self._running -= 1
                self._free.release()
                self._note(self._clock() - began)
        finally:
            if whose is not None:
                self._held[whose] -= 1
                self._held += Counter()  # names of clients who left do not stay

    @contextlib.asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        """Wait until everybody before had a turn, and have all turns within."""
        taken = 0
        try:
            for _ in range(self.slots):
                await self._free.acquire()
                taken += 1
            yield
        finally:
            for _ in range(taken):
                self._free.release()

    def _note(self, seconds: float) -> None:
        self._pace = seconds if self._pace is None else (1 - _NEWEST) * self._pace + _NEWEST * seconds
