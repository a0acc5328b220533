"""The till: an ASGI layer inside the seal that takes one credit for each request, once, and refuses without (402).

Knows: where a credit travels, the errors' forms of both APIs. Does not know: who asks, which it cannot; prices (one credit
a request).
A credit counts as spent when its request is handed on, and is given back where the worker then fails (5xx, 429) or
breaks before its answer began: nothing was sold. A credit in a field that came in the clear is not looked at, since
others could have read it: that is a client's mistake, and refused as if it were not there.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from strongroom.channel.credit import FIELD, MEMBER, Credit, Issuers, parse_credit
from strongroom.channel.server import SEALED, SEALED_FIELDS
from strongroom.errors import CreditRefused, StrongroomError
from strongroom.services.credits.spent import Spent

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

PRICED = "/v1/"
ANTHROPIC = "/v1/messages"
MAX_BODY = 20 << 20
TOO_MANY, FAILED = 429, 500


class Till:
    """Wraps `app`; what comes unsealed passes, for `app` to refuse."""

    def __init__(self, app: Application, issuers: Issuers, spent: Spent) -> None:
        self._app, self._issuers, self._spent = app, issuers, spent

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        priced = scope["type"] == "http" and scope["method"] == "POST" and scope["path"].startswith(PRICED)
        if not priced or not scope.get(SEALED):
            await self._app(scope, receive, send)
            return
        body = await _read(receive)
        if body is None:
            return
        try:
            credit = self._judged(scope, body)
            if not await asyncio.to_thread(self._spent.add, credit.spent_as):
                raise CreditRefused("this credit was spent before")
        except StrongroomError as error:
            await _refuse(send, scope["path"], error)
            return
        await self._serve(credit, scope, _Once(body, receive), send)

    async def _serve(self, credit: Credit, scope: Scope, receive: Receive, send: Send) -> None:
        status = 0

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                if status >= FAILED or status == TOO_MANY:
                    await asyncio.to_thread(self._spent.remove, credit.spent_as)
            await send(message)

        try:
            await self._app(scope, receive, noted)
        except BaseException:
            if not status:
                await asyncio.shield(asyncio.to_thread(self._spent.remove, credit.spent_as))
            raise

    def _judged(self, scope: Scope, body: bytes) -> Credit:
        """The credit of a request, genuine but perhaps spent. Raises `CreditRefused`."""
        text = _field(scope) if scope.get(SEALED_FIELDS) else None
        text = _member(body) if text is None else text
        if text is None:
            raise CreditRefused("a request costs one credit, and brought none")
        credit = parse_credit(text)
        self._issuers.check(credit)
        return credit


class _Once:
    """An ASGI `receive` that gives the body once, then whatever the server has to say."""

    def __init__(self, body: bytes, receive: Receive) -> None:
        self._body: bytes | None = body
        self._receive = receive

    async def __call__(self) -> Message:
        if self._body is None:
            return await self._receive()
        message = {"type": "http.request", "body": self._body, "more_body": False}
        self._body = None
        return message


async def _read(receive: Receive) -> bytes | None:
    """The body, which the channel has bounded already; None if the client went away."""
    body = bytearray()
    while len(body) <= MAX_BODY:
        message = await receive()
        if message["type"] != "http.request":
            return None
        body += message.get("body", b"")
        if not message.get("more_body", False):
            return bytes(body)
    return None


def _field(scope: Scope) -> str | None:
    values = [value.decode("latin-1") for name, value in scope["headers"] if name.lower() == FIELD.encode()]
    if len(values) > 1:
        raise CreditRefused("a request costs one credit, and brought several")
    return values[0] if values else None


def _member(body: bytes) -> str | None:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return None
    text = document.get(MEMBER) if isinstance(document, dict) else None
    return text if isinstance(text, str) else None


async def _refuse(send: Send, path: str, error: StrongroomError) -> None:
    """402 in the form of the API that was asked; 503 where the till itself does not work."""
    status = 402 if isinstance(error, CreditRefused) else 503
    said = {"type": "billing_error" if status == 402 else "api_error", "message": f"{error.message}. {error.remedy}"}  # noqa: PLR2004
    if path.startswith(ANTHROPIC):
        document: dict[str, Any] = {"type": "error", "error": said}
    else:
        document = {"error": {"message": said["message"], "type": error.code, "code": error.code}}
    body = json.dumps(document).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})
