"""The user's proxy: any OpenAI client on this machine, a verified worker behind it.

Knows: how a plain request on loopback becomes a sealed one. Does not know: how workers are verified (`client`). It verifies before
its first request and again when the worker's keys changed; what no worker read is sent again (`client.resending`).
It listens on loopback only, since what comes to it is in the clear.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

import httpx2
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from strongroom.channel import completion
from strongroom.channel.away import why
from strongroom.client.client import AsyncClient
from strongroom.errors import (
    CreditRefused,
    Refused,
    ServiceUnavailable,
    StrongroomError,
    Unavailable,
    UsageError,
)
from strongroom.services.presence import GONE, while_there
from strongroom.services.problems import Defects, Oversize, read_body
from strongroom.workloads.inference.forms import broken_off, form_of

LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
MAX_REQUEST = 16 * 1024 * 1024
_JSON = (b"content-type", b"application/json")
_HOP = frozenset({b"host", b"connection", b"content-length", b"transfer-encoding", b"accept-encoding"})
_ALSO = ("retry-after",)
"""Headers of an answer that the user's client is told besides the type."""
METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE"]


class Proxy:
    """One user's proxy, as an ASGI application (`app`)."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client
        routes = [Route("/{path:path}", self.forward, methods=METHODS)]
        self.app = Defects(Starlette(routes=routes, exception_handlers={StrongroomError: _refusal}))

    async def forward(self, request: Request) -> Response:
        body = await read_body(request, MAX_REQUEST)
        answer = await while_there(request, self._send(request, body), httpx2.Response.aclose)
        if answer is None:
            return Response(status_code=GONE)
        return Relayed(self._relay(request, answer), answer)

    async def _send(self, request: Request, body: bytes) -> httpx2.Response:
        http = httpx2.AsyncClient(transport=self._client.resending(), timeout=httpx2.Timeout(10.0, read=300.0))
        url = self._client.url + request.url.path + (f"?{request.url.query}" if request.url.query else "")
        outgoing = http.build_request(
            request.method,
            url,
            content=body,
            headers=_onwards(request),
        )
        try:
            return await http.send(outgoing, stream=True)
        except httpx2.HTTPError as error:
            raise ServiceUnavailable(f"the worker does not answer ({why(error)})") from None

    async def _relay(self, request: Request, answer: httpx2.Response) -> AsyncIterator[bytes]:
        """What breaks off is told in the stream, in the form of the API that was asked; then the connection breaks, too."""
        try:
            async for data in answer.aiter_bytes():
                yield data
        except (StrongroomError, httpx2.HTTPError) as error:
            if completion.media_type(answer.headers.get("content-type", "")) == completion.EVENT_STREAM:
                yield b"\n\n" + broken_off(request.url.path, _ours(error))
            raise


class Relayed(StreamingResponse):
    """The worker's answer on its way. It is closed at the end, also where the user's client went before its first byte.

    It may break off: that is no defect of this service. Without its last piece, the server breaks the connection.
    """

    def __init__(self, pieces: AsyncIterator[bytes], answer: httpx2.Response) -> None:
        headers = {"content-type": answer.headers.get("content-type", "application/octet-stream")}
        headers |= {name: answer.headers[name] for name in _ALSO if name in answer.headers}
        super().__init__(pieces, answer.status_code, headers)
        self._answer = answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with contextlib.aclosing(self._answer):
            await super().__call__(scope, receive, send)

    async def stream_response(self, send: Send) -> None:
        with contextlib.suppress(StrongroomError, httpx2.HTTPError):
            await super().stream_response(send)


def _onwards(request: Request) -> list[tuple[bytes, bytes]]:
    """What the user's client said; the channel keeps what may not travel (in version 1 nearly everything)."""
    named = request.headers.raw if "content-type" in request.headers else [*request.headers.raw, _JSON]
    return [(name, value) for name, value in named if name not in _HOP]


def require_loopback(host: str) -> str:
    """`host` if nobody else can reach it. Raises `UsageError`."""
    if host not in LOOPBACK:
        raise UsageError(f"the proxy would listen on {host} in the clear", remedy="Listen on 127.0.0.1.")
    return host


def _ours(error: Exception) -> StrongroomError:
    """What a network did, as an error of ours."""
    if isinstance(error, StrongroomError):
        return error
    return ServiceUnavailable(f"the worker went away ({why(error)})")


async def _refusal(request: Request, error: Exception) -> Response:
    """Our own errors in the form of the API that was asked.

    502 for a worker that was refused, 503 for one that is away, 402 for an empty wallet, 413 for what is too long for the proxy.
    """
    if not isinstance(error, StrongroomError):
        raise error
    status = 502 if isinstance(error, Refused) else 503 if isinstance(error, Unavailable) else 400
    status = 402 if isinstance(error, CreditRefused) else 413 if isinstance(error, Oversize) else status
    return Response(form_of(request.url.path).fault(error, status), status, media_type="application/json")
