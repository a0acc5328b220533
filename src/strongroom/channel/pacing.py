"""Pacing: how a stream of events becomes messages whose sizes and times say little.

Each event on the way is a token seen: its length tells which, its moment tells how hard it was to find. Events are therefore padded to
a bucket (`padding`), and may wait for the next tick of a clock that began with the first of them, to travel as one message with
whatever else came meanwhile. The first is never held back.

Safety: what still shows is how many buckets each tick carried, and when the answer began and ended, to a tick. `bench.padding` says
how much that is. What waits is bounded, so a slow reader still slows its engine.

Knows: time and order. Does not know: what the events say.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")

BUCKETS = (64, 128, 256, 512, 1024, 2048, 4096)
"""The sizes to choose from, in bytes; each divides the frames of version 2."""
MAX_FLUSH_MS = 5000
MAX_WAITING = 256
"""Events that wait for one tick at most."""


@dataclass(frozen=True, slots=True)
class Pacing:
    """A worker's setting: `bucket` in bytes (one of BUCKETS), `flush_ms` between messages in milliseconds; 0 sends each event at once."""

    bucket: int = 256
    flush_ms: int = 0

    def __post_init__(self) -> None:
        if self.bucket not in BUCKETS or not 0 <= self.flush_ms <= MAX_FLUSH_MS:
            raise ValueError(f"no pacing: buckets of {self.bucket} bytes each {self.flush_ms} ms")


async def paced(source: AsyncGenerator[T], flush_ms: int) -> AsyncGenerator[list[T]]:
    """The items of `source` in order, those of one tick together. Raises what `source` raises, after what came before it.

    `source` is closed when this ends, however it ends.
    """
    seconds = flush_ms / 1000
    held = _Held(source)
    try:
        if not seconds:
            async for item in source:
                yield [item]
            return
        loop, began = asyncio.get_running_loop(), 0.0
        while await held.any():
            if began:
                ticks = math.floor((loop.time() - began) / seconds) + 1
                await asyncio.sleep(began + ticks * seconds - loop.time())
            items = held.take()
            began = began or loop.time()
            yield items
    finally:
        await held.close()


class _Held(Generic[T]):
    """What came from a source and waits, pulled by a task of its own."""

    def __init__(self, source: AsyncGenerator[T]) -> None:
        self._source = source
        self._waiting: list[T] = []
        self._changed = asyncio.Event()
        self._room = asyncio.Event()
        self._pulling: asyncio.Task[None] | None = None

    async def any(self) -> bool:
        """Whether anything waits, once something does or nothing can come. Raises what the source raised, when nothing waits."""
        if self._pulling is None:
            self._pulling = asyncio.create_task(self._pull())
        await self._changed.wait()
        if not self._waiting and self._pulling.done():
            self._pulling.result()
        return bool(self._waiting)

    def take(self) -> list[T]:
        """All that waits."""
        items, self._waiting = self._waiting, []
        self._room.set()
        if self._pulling is not None and not self._pulling.done():
            self._changed.clear()
        return items

    async def close(self) -> None:
        if self._pulling is not None:
            self._pulling.cancel()
            await asyncio.gather(self._pulling, return_exceptions=True)
        await self._source.aclose()

    async def _pull(self) -> None:
        try:
            async for item in self._source:
                self._waiting.append(item)
                self._changed.set()
                if len(self._waiting) >= MAX_WAITING:
                    self._room.clear()
                    await self._room.wait()
        finally:
            asyncio.get_running_loop().call_soon(self._changed.set)  # when the task is done
