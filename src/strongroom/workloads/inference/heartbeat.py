"""A sign of life while an engine says nothing: proxies and clients give up on a stream that is silent for long.

What a slow reader has not taken waits, up to `MAX_WAITING` pieces; then the source waits, too.

Knows: time between pieces. Does not know: what a sign of life looks like in an API (`forms`).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator

from strongroom.engines.inbox import Inbox

QUIET_SECONDS = 10.0
"""How long a stream may say nothing."""
MAX_WAITING = 64


async def with_heartbeats(source: AsyncGenerator[bytes], quiet: float) -> AsyncGenerator[bytes | None]:
    """What `source` gives, and None whenever it gave nothing for `quiet` seconds. Raises what it raises; closes it at the end."""
    pieces, room = Inbox[bytes | Exception | None](), asyncio.Event()
    pulse = _Pulse(pieces, quiet)

    async def pump() -> None:
        try:
            async with contextlib.aclosing(source):
                async for piece in source:
                    pulse.put(piece)
                    if len(pieces) >= MAX_WAITING:
                        room.clear()
                        await room.wait()
        except Exception as error:  # noqa: BLE001  # raised again below, where the pieces are taken
            pulse.put(error)
        else:
            pulse.put(StopAsyncIteration())

    pumping = asyncio.create_task(pump())
    try:
        while not isinstance(piece := await pieces.get(), Exception):
            room.set()
            yield piece
        if not isinstance(piece, StopAsyncIteration):
            raise piece
    finally:
        pulse.end()
        pumping.cancel()
        await asyncio.gather(pumping, return_exceptions=True)


class _Pulse:
    """One timer for all the pieces of a stream, which are many: it looks how long ago the last one was."""

    def __init__(self, pieces: Inbox[bytes | Exception | None], quiet: float) -> None:
        self._pieces, self._quiet = pieces, quiet
        self._loop = asyncio.get_running_loop()
        self._last = self._loop.time()
        self._timer = self._loop.call_at(self._last + quiet, self._look)

    def put(self, piece: bytes | Exception | None) -> None:
        self._last = self._loop.time()
        self._pieces.put_nowait(piece)

    def end(self) -> None:
        self._timer.cancel()

    def _look(self) -> None:
        """Whoever has waited for long enough is told so; whoever has something to take is not."""
        now = self._loop.time()
        if now >= self._last + self._quiet and not len(self._pieces):
            self.put(None)
        self._timer = self._loop.call_at(max(self._last, now - self._quiet / 2) + self._quiet, self._look)
