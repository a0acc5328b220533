"""The user's proxy: any OpenAI client on this machine, a verified worker behind it.

Knows: how a plain request on loopback becomes a sealed one. Does not know: how workers are verified (`client`). It verifies before
its first request and again when the worker's keys changed, resending once what the worker could not open (nothing of it was read).
It listens on loopback only, since what comes to it is in the clear.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

import httpx2
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from strongroom.client.client import AsyncClient
from strongroom.errors import (
    ChannelKeyMismatch,
    Refused,
    ServiceUnavailable,
    StrongroomError,
    Unavailable,
    UsageError,
)
from strongroom.services.problems import Defects, read_body

LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
MAX_REQUEST = 16 * 1024 * 1024
METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE"]


class Proxy:
    """One user's proxy, as an ASGI application (`app`)."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client
        routes = [Route("/{path:path}", self.forward, methods=METHODS)]
        self.app = Defects(Starlette(routes=routes, exception_handlers={StrongroomError: _refusal}))

    async def forward(self, request: Request) -> Response:
        body = await read_body(request, MAX_REQUEST)
        try:
            answer = await self._send(request, body)
        except ChannelKeyMismatch:
            self._client.verification = None  # keys were rotated: prove again, then resend once
            answer = await self._send(request, body)
        headers = {"content-type": answer.headers.get("content-type", "application/octet-stream")}
        return StreamingResponse(self._relay(answer), answer.status_code, headers)

    async def _send(self, request: Request, body: bytes) -> httpx2.Response:
        http = httpx2.AsyncClient(transport=await self._client.transport(), timeout=httpx2.Timeout(10.0, read=300.0))
        url = self._client.url + request.url.path + (f"?{request.url.query}" if request.url.query else "")
        outgoing = http.build_request(
            request.method,
            url,
            content=body,
            headers={"content-type": request.headers.get("content-type", "application/json")},
        )
        try:
            return await http.send(outgoing, stream=True)
        except httpx2.HTTPError as error:
            raise ServiceUnavailable(f"the worker does not answer ({type(error).__name__})") from None

    async def _relay(self, answer: httpx2.Response) -> AsyncIterator[bytes]:
        async with contextlib.aclosing(answer):
            async for data in answer.aiter_bytes():
                yield data


def require_loopback(host: str) -> str:
    """`host` if nobody else can reach it. Raises `UsageError`."""
    if host not in LOOPBACK:
        raise UsageError(f"the proxy would listen on {host} in the clear", remedy="Listen on 127.0.0.1.")
    return host


async def _refusal(_: Request, error: Exception) -> Response:
    """Our own errors in OpenAI's form: 502 for a worker that was refused, 503 for one that is away."""
    if not isinstance(error, StrongroomError):
        raise error
    status = 502 if isinstance(error, Refused) else 503 if isinstance(error, Unavailable) else 400
    message = {"message": f"{error.message}. {error.remedy}", "type": error.code, "code": error.code}
    return JSONResponse({"error": message}, status)
