"""A request that may be sent again is answered once: ASGI middleware inside the seal, before the application.

A client that does not know whether its request came through seals it anew and sends it again, with the same random identity in
a sealed header. The identity is remembered as long as the keys of this process: a second request with it is refused, while the first is
under way and after it was answered. One that ended in an error was not answered, and may come again.

Safety: identities in the clear are not looked at, since whoever reads one could spend it. They are random, so nobody meets
another's. The memory is bounded and never makes room: then requests that name an identity are refused, and others go on.

Knows: identities. Does not know: sealing, what is asked.
Not covered: an answer that was sent and lost on the way is gone; two workers do not know of each other.
"""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable

from strongroom.channel.server import SEALED_FIELDS, Application, Message, Receive, Scope, Send, values
from strongroom.errors import RequestReplayed, WorkerBusy

REQUEST_HEADER = "strongroom-request"
"""A random identity of 16 bytes in hexadecimal, sealed; the same for each sending of one request."""
IDENTITY_BYTES = 16
CAPACITY = 1_000_000
"""Identities, about 100 bytes of memory each."""

_FIRST_ERROR = 400
_IDENTITY = re.compile(r"[0-9a-f]{32}")


class Once:
    """Wraps the ASGI application `app`; one for one worker's keys."""

    def __init__(self, app: Application, *, capacity: int = CAPACITY) -> None:
        self._app, self._capacity = app, capacity
        self._seen: set[bytes] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        named = values(scope, REQUEST_HEADER) if scope.get(SEALED_FIELDS) else []
        if len(named) != 1 or _IDENTITY.fullmatch(named[0]) is None:
            await self._app(scope, receive, send)
            return
        identity = bytes.fromhex(named[0])
        if identity in self._seen:
            await _refuse(send, 409, RequestReplayed.code, "this request was sent before, and is answered once")
        elif len(self._seen) >= self._capacity:
            await _refuse(send, 503, WorkerBusy.code, "the worker remembers as many requests as it may")
        else:
            await self._answer_once(identity, scope, receive, send)

    async def _answer_once(self, identity: bytes, scope: Scope, receive: Receive, send: Send) -> None:
        answered = False

        def watched(
            message: Message,
        ) -> Awaitable[None]:  # no coroutine of its own: it stands in the way of every token
            nonlocal answered
            answered = answered or (message["type"] == "http.response.start" and message["status"] < _FIRST_ERROR)
            return send(message)

        self._seen.add(identity)
        try:
            await self._app(scope, receive, watched)
        finally:
            if not answered:
                self._seen.discard(identity)


async def _refuse(send: Send, status: int, code: str, title: str) -> None:
    body = json.dumps({"error": {"message": title, "code": code, "type": "invalid_request_error"}}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    if status == 503:  # noqa: PLR2004 (come back)
        headers.append((b"retry-after", b"1"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})
