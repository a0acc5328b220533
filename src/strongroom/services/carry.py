"""What services share that carry sealed bytes between two others: bodies on, answers back, nothing held.

Knows: sizes, and that what breaks off on one side breaks off on the other. Does not know: who may carry what (`relay`, `door`).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import httpx2
from starlette.requests import ClientDisconnect, Request
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from strongroom.errors import MalformedRecord, ServiceUnavailable, UsageError
from strongroom.services.problems import Oversize


async def bounded(request: Request, limit: int, seconds: float, read: asyncio.Event) -> AsyncIterator[bytes]:
    """The body as it arrives, of at most `limit` bytes and within `seconds`; `read` is set at its end.

    What breaks off here breaks off there: no last chunk, no request.
    """
    seen = 0
    try:
        async with asyncio.timeout(seconds):
            async for part in request.stream():
                seen += len(part)
                if seen > limit:
                    raise Oversize(f"a request of more than {limit} bytes")
                if part:
                    yield part
        read.set()
    except (ClientDisconnect, TimeoutError):
        raise MalformedRecord("the request ended before its end") from None


class Carried(StreamingResponse):
    """The answer as it arrives, of at most `limit` bytes. `held` is let go whether or not anybody takes the answer."""

    def __init__(
        self, answer: httpx2.Response, headers: dict[str, str], limit: int, held: contextlib.AsyncExitStack[bool | None]
    ) -> None:
        super().__init__(_pieces(answer, limit), answer.status_code, headers)
        self._held = held

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self._held:
            await super().__call__(scope, receive, send)


async def _pieces(answer: httpx2.Response, limit: int) -> AsyncIterator[bytes]:
    """One that breaks off, or is too long, is broken off here."""
    seen = 0
    async for part in answer.aiter_raw():
        seen += len(part)
        if seen > limit:
            raise ServiceUnavailable(f"an answer of more than {limit} bytes")
        yield part


def origin(target: str) -> str:
    """The scheme, host and port of an address. Raises `UsageError`."""
    try:
        url = httpx2.URL(target)
    except httpx2.InvalidURL:
        url = httpx2.URL("")
    if url.scheme not in {"http", "https"} or not url.host or url.userinfo or url.path not in {"", "/"} or url.query:
        raise UsageError(f"{target!r} is not the address of a worker", remedy="Give http://HOST:PORT.")
    return f"{url.scheme}://{url.netloc.decode('ascii')}"
