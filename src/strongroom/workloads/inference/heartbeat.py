"""A sign of life while an engine says nothing: proxies and clients give up on a stream that is silent for long.

Knows: time between pieces. Does not know: what a sign of life looks like in an API (`forms`).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator

QUIET_SECONDS = 10.0
"""How long a stream may say nothing."""


async def with_heartbeats(source: AsyncGenerator[bytes], quiet: float) -> AsyncGenerator[bytes | None]:
    """What `source` gives, and None whenever it gave nothing for `quiet` seconds. Raises what it raises; closes it at the end."""
    pieces: asyncio.Queue[bytes | Exception | None] = asyncio.Queue()

    async def pump() -> None:
        try:
            async with contextlib.aclosing(source):
                async for piece in source:
                    pieces.put_nowait(piece)
        except Exception as error:  # noqa: BLE001  # raised again below, where the pieces are taken
            pieces.put_nowait(error)
        else:
            pieces.put_nowait(None)

    pumping = asyncio.create_task(pump())
    try:
        while True:
            try:
                async with asyncio.timeout(quiet):
                    piece = await pieces.get()
            except TimeoutError:
                yield None
                continue
            if piece is None:
                return
            if isinstance(piece, Exception):
                raise piece
            yield piece
    finally:
        pumping.cancel()
        await asyncio.gather(pumping, return_exceptions=True)
