"""Work for somebody who asked: called off when they go, so that nobody holds a place for nobody.

Knows: how ASGI tells that a client went. Does not know: what is asked.
Not covered: what has begun to be answered; a streamed answer watches for itself (Starlette's `StreamingResponse`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from starlette.requests import Request

T = TypeVar("T")
GONE = 499
"""The status for a client that went away; it reads it no more."""


async def while_there(
    request: Request,
    work: Coroutine[Any, Any, T],
    let_go: Callable[[T], Awaitable[None]] | None = None,
    *,
    read: asyncio.Event | None = None,
) -> T | None:
    """What `work` gives, or None once the client has gone: then `work` was cancelled, and waited for.

    The body must have been read, or `read` says when `work` has. `let_go` is given what came all the same while `work` was being called
    off.
    """

    async def gone() -> None:
        if read is not None:
            await read.wait()
        while (await request.receive())["type"] != "http.disconnect":
            pass

    working, leaving = asyncio.create_task(work), asyncio.create_task(gone())
    taken = False
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if taken := working.done():
            return working.result()
        return None
    finally:
        working.cancel()
        leaving.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)
        if let_go is not None and not taken and not working.cancelled() and working.exception() is None:
            await let_go(working.result())
