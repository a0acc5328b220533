"""An oblivious relay (RFC 9458, section 2): it hides from a worker who asks, and cannot read what.

Knows: one worker's address, three paths, sizes and rates. Does not know: keys, and so nothing of what it carries. Whoever
runs it sees addresses, times and sizes, and must not be who runs the worker: together they know what each alone does not.

Of a request nothing goes on but its path, its media type and its bytes; of an answer the same and its status. Both
stream. A user's question for evidence goes the same way, in the clear: it holds a nonce and nothing else.

Safety: it forwards to the address it was given and to no other, and follows no redirection. Nothing of a request is
logged or kept. Sizes, concurrency and rate are bounded, for all askers together: a bound for each would need a memory of
addresses.
Not covered: TLS, which ends before it; padding and delaying, so that who watches both sides can match them by time.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable

import httpx2
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from strongroom.channel import ohttp
from strongroom.channel.away import why
from strongroom.channel.completion import media_type
from strongroom.errors import MalformedMessage, ServiceUnavailable
from strongroom.records.session import EVIDENCE_PATH
from strongroom.services.carry import Carried, bounded, origin
from strongroom.services.presence import GONE, while_there
from strongroom.services.problems import HANDLERS, Defects, Oversize, problem

MAX_REQUEST = 20 << 20
"""The longest encapsulated request, in bytes; what a worker takes."""
MAX_QUESTION = 4096
"""The longest question for evidence, in bytes."""
MAX_ANSWER = 256 << 20
"""The longest answer, in bytes; a longer one is broken off, which its reader notices."""
MAX_UNDER_WAY = 256
RATE = 100
"""Requests a second, of all askers."""
READ_SECONDS = 60.0
"""How long a request may take to arrive."""

_CARRIED = {
    ohttp.GATEWAY_PATH: frozenset({ohttp.REQUEST_TYPE, ohttp.CHUNKED_REQUEST_TYPE}),
    EVIDENCE_PATH: frozenset({"application/json"}),
}
_ANSWERS = frozenset(
    {ohttp.RESPONSE_TYPE, ohttp.CHUNKED_RESPONSE_TYPE, ohttp.KEYS_MEDIA_TYPE, "application/json"}
    | {"application/problem+json"}
)
_CHUNKED = frozenset({ohttp.CHUNKED_REQUEST_TYPE, ohttp.CHUNKED_RESPONSE_TYPE})
_TIMEOUT = httpx2.Timeout(10.0, read=300.0)


class Relay:
    """A relay before the worker at `target`, as an ASGI application (`app`). Raises `UsageError`."""

    def __init__(
        self,
        target: str,
        *,
        rate: int = RATE,
        transport: httpx2.AsyncBaseTransport | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`rate` bounds the requests a second, `transport` replaces the network in tests."""
        self._target = origin(target)
        self._http = httpx2.AsyncClient(transport=transport, timeout=_TIMEOUT, follow_redirects=False)
        self._rate, self._clock = rate, clock
        self._left, self._at = float(rate), clock()
        self._under_way = 0
        routes = [
            Route("/healthz", self.health),
            Route(ohttp.GATEWAY_PATH, self.keys, methods=["GET"]),
            *(Route(path, self.carry, methods=["POST"]) for path in _CARRIED),
        ]
        self.app = Starlette(routes=routes, exception_handlers=HANDLERS, middleware=[Middleware(Defects)])

    async def health(self, _: Request) -> Response:
        return JSONResponse({"state": "ready"})

    async def keys(self, request: Request) -> Response:
        """The worker's key configurations, for clients of others; ours take the key from evidence."""
        return await self._forwarded(request, httpx2.Request("GET", self._target + ohttp.GATEWAY_PATH, headers=_BARE))

    async def carry(self, request: Request) -> Response:
        """One request on, one answer back."""
        path = request.url.path
        kind = media_type(request.headers.get("content-type", ""))
        if kind not in _CARRIED[path]:
            return problem(MalformedMessage("a relay does not carry this type"), 415)
        limit = MAX_QUESTION if path == EVIDENCE_PATH else MAX_REQUEST
        declared = request.headers.get("content-length", "")
        if declared.isascii() and declared.isdigit() and int(declared) > limit:
            raise Oversize(f"a request of more than {limit} bytes")
        read = asyncio.Event()
        body = bounded(request, limit, READ_SECONDS, read)
        headers = {**_BARE, "content-type": kind, **_incremental(kind)}
        if declared.isascii() and declared.isdigit():
            headers["content-length"] = declared
        outgoing = httpx2.Request("POST", self._target + path, headers=headers, content=body)
        return await self._forwarded(request, outgoing, read)

    async def _forwarded(
        self, request: Request, outgoing: httpx2.Request, read: asyncio.Event | None = None
    ) -> Response:
        if not self._admitted():
            refusal = problem(ServiceUnavailable("the relay carries as much as it may"), 503)
            refusal.headers["retry-after"] = "1"
            return refusal
        async with contextlib.AsyncExitStack() as stack:
            self._under_way += 1
            stack.callback(self._done)
            try:
                sending = self._http.send(outgoing, stream=True)
                answer = await while_there(request, sending, httpx2.Response.aclose, read=read)
            except httpx2.HTTPError as error:
                raise ServiceUnavailable(f"the worker does not answer ({why(error)})") from None
            if answer is None:
                return Response(status_code=GONE)
            stack.push_async_callback(answer.aclose)
            kind = media_type(answer.headers.get("content-type", ""))
            if kind not in _ANSWERS:
                return problem(ServiceUnavailable("the worker answered with what a relay does not carry"), 502)
            headers = {"content-type": kind, "cache-control": "no-store", **_incremental(kind)}
            return Carried(answer, headers, MAX_ANSWER, stack.pop_all())

    def _admitted(self) -> bool:
        now = self._clock()
        self._left = min(self._rate, self._left + (now - self._at) * self._rate)
        self._at = now
        if self._left < 1 or self._under_way >= MAX_UNDER_WAY:
            return False
        self._left -= 1
        return True

    def _done(self) -> None:
        self._under_way -= 1


def _incremental(kind: str) -> dict[str, str]:
    return {"incremental": "?1"} if kind in _CHUNKED else {}


_BARE = {"accept-encoding": "identity"}
