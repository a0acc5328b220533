"""What every service has in common: bodies of bounded size in, records out, errors as application/problem+json.

Knows: which status goes with which branch of the tree of errors. Does not know: any service. Whatever goes wrong, the
answer is one problem with a code and a remedy, never a traceback; what is logged is a code and a path's shape, never
content.
"""

from __future__ import annotations

from collections.abc import Awaitable

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, ExceptionHandler, Message, Receive, Scope, Send

from strongroom.errors import (
    MalformedRecord,
    NotAuthorised,
    Refused,
    StrongroomError,
    Unavailable,
    Unreadable,
    UsageError,
)
from strongroom.observe.log import log
from strongroom.records import codec
from strongroom.release.problem import MEDIA_TYPE, to_problem

_STATUS: tuple[tuple[type[StrongroomError], int], ...] = (
    (NotAuthorised, 401),
    (Refused, 403),
    (UsageError, 400),
    (Unreadable, 400),
    (Unavailable, 503),
)


MAX_BODIES_BYTES = 64 * 1024 * 1024
"""Of all bodies that a service holds at once, from their first byte to their answers."""


class Oversize(MalformedRecord):
    """A body that is larger than the path takes; it was not read to its end."""

    default_remedy = "Send less at once."


class Busy(Unavailable):
    """More work than may wait."""


async def read_body(request: Request, limit: int) -> bytes:
    """The whole body, if it has at most `limit` bytes; a longer one is refused before it is read.

    Raises `MalformedRecord`.
    """
    announced = request.headers.get("content-length", "")
    if announced.isascii() and announced.isdigit() and int(announced) > limit:
        raise Oversize(f"a request of {int(announced)} bytes exceeds the limit of {limit}")
    body = bytearray()
    try:
        async for part in request.stream():
            body += part
            if len(body) > limit:
                raise Oversize(f"a request exceeds the limit of {limit} bytes")
    except ClientDisconnect:
        raise MalformedRecord("the request ended before its end") from None
    return bytes(body)


def answer(record: object) -> Response:
    """A record as the body of a yes."""
    return Response(codec.encode(record), media_type="application/json", headers={"cache-control": "no-store"})


def status_of(error: StrongroomError) -> int:
    """The status of an error; 401 means only "who are you?"."""
    if isinstance(error, Oversize):
        return 413
    return next((status for kind, status in _STATUS if isinstance(error, kind)), 500)


def problem(error: StrongroomError, status: int | None = None) -> Response:
    """An error as the body of a no."""
    found = status or status_of(error)
    headers = {"www-authenticate": "Bearer"} if found == 401 else None  # noqa: PLR2004 (RFC 9110 section 15.5.2)
    return Response(to_problem(error), found, headers, media_type=MEDIA_TYPE)


async def _ours(_: Request, error: Exception) -> Response:
    if not isinstance(error, StrongroomError):
        raise error
    log("no", code=error.code, status=status_of(error))
    return problem(error)


async def _http(_: Request, error: Exception) -> Response:
    """An unknown path or method."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    remedy = "Check the address: host, path and method."
    return problem(UsageError("there is nothing at this path, or not by this method", remedy=remedy), status)


class Defects:
    """The outermost layer: an exception that is none of ours ends here, in one problem and one line without its content."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        begun = False

        def noted(message: Message) -> Awaitable[None]:  # no coroutine of its own: it stands in the way of every token
            nonlocal begun
            begun = begun or message["type"] == "http.response.start"
            return send(message)

        try:
            await self._app(scope, receive, noted)
        except Exception as error:  # noqa: BLE001 (what it says may hold a secret, and nobody above may print it)
            log("defect", kind=type(error).__name__)
            if not begun:
                await problem(StrongroomError("the service failed"), 500)(scope, receive, send)


class Bodies:
    """A layer that bounds what all requests together hold: one more byte than that is told to come again later."""

    def __init__(self, app: ASGIApp, limit: int = MAX_BODIES_BYTES) -> None:
        self._app, self._limit, self._held = app, limit, 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        own = 0

        async def counted() -> Message:
            nonlocal own
            message = await receive()
            size = len(message.get("body", b""))
            if self._held + size > self._limit:
                raise Busy("too many requests are under way", remedy="Send this one again soon.")
            self._held, own = self._held + size, own + size
            return message

        try:
            await self._app(scope, counted, send)
        finally:
            self._held -= own


HANDLERS: dict[int | type[Exception], ExceptionHandler] = {
    StrongroomError: _ours,
    HTTPException: _http,
}
