"""The worker as an oblivious gateway (RFC 9458): a pure ASGI middleware before any application.

It shows the key configurations (RFC 9540), opens encapsulated requests, whole or in chunks, hands the inner request on as
one that came sealed, and seals the answer, piece by piece where it came in chunks. Everything else passes.

Safety: as in `server`. A request is bounded before anything is decrypted, and nothing of it reaches the application
before its last chunk was judged and the encapsulation found new. Refusals before that are in the clear and say too
little to serve as an oracle; those after it are sealed. Nothing of the outer request but its opened content reaches the
application: no field, no address. An answer that breaks off stays without its last chunk.

Knows: ASGI, the statuses of RFC 9458. Does not know: who relayed, what is asked, receipts.
Not covered: nested encapsulation; interim answers; a request that is worked on before it has wholly arrived.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Callable
from urllib.parse import unquote

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from strongroom.channel import bhttp, ohttp
from strongroom.channel.completion import media_type
from strongroom.channel.replay import UsedEncapsulations
from strongroom.channel.server import (
    MAX_BODY,
    READ_SECONDS,
    SEALED,
    SEALED_FIELDS,
    Application,
    Message,
    Receive,
    Replay,
    Scope,
    Send,
)
from strongroom.errors import (
    ChannelKeyMismatch,
    ChannelRefused,
    MalformedMessage,
    RequestReplayed,
    StrongroomError,
    Unavailable,
)
from strongroom.observe.log import log

MAX_WHOLE_ANSWER = 16 << 20
"""The longest answer, in bytes, to a request that did not come in chunks: it is sealed at once."""

_FRAMING = frozenset(
    {
        b"connection",
        b"content-length",
        b"host",
        b"keep-alive",
        b"proxy-connection",
        b"te",
        b"transfer-encoding",
        b"upgrade",
        b"expect",
    }
)
_KINDS = {
    ohttp.REQUEST_TYPE: (ohttp.WHOLE, ohttp.RESPONSE_TYPE),
    ohttp.CHUNKED_REQUEST_TYPE: (ohttp.CHUNKED, ohttp.CHUNKED_RESPONSE_TYPE),
}


class OhttpMiddleware:
    """Wraps `app`; what was encapsulated goes to `inner` as requests that came sealed."""

    def __init__(
        self,
        app: Application,
        inner: Application,
        private_key: X25519PrivateKey,
        *,
        used: UsedEncapsulations | None = None,
        max_body: int = MAX_BODY,
        random: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        """`used` is the memory of this key (a new one if None), `max_body` bounds an encapsulated request in bytes."""
        self._app, self._inner = app, inner
        self._private_key = private_key
        self._key_list = ohttp.encode_key_list(private_key.public_key().public_bytes_raw())
        self._used = used if used is not None else UsedEncapsulations()
        self._max_body = max_body
        self._random = random

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] != ohttp.GATEWAY_PATH:
            await self._app(scope, receive, send)
        elif scope["method"] == "GET":
            await _answer(send, 200, ohttp.KEYS_MEDIA_TYPE, self._key_list)
        elif scope["method"] == "POST":
            await self._encapsulated(scope, receive, send)
        else:
            await _refuse(send, 405, "only GET and POST", MalformedMessage.code)

    async def _encapsulated(self, scope: Scope, receive: Receive, send: Send) -> None:
        kind = _KINDS.get(media_type(_field(scope, b"content-type")))
        if kind is None:
            await _refuse(send, 415, "not an encapsulated request", MalformedMessage.code)
            return
        labels, answer_type = kind
        try:
            async with asyncio.timeout(READ_SECONDS):
                body = await self._read(scope, receive)
            if body is None:
                return
            opener = ohttp.RequestOpener(self._private_key, body[: ohttp.OPENING_BYTES], labels=labels)
            message = opener.open(body[ohttp.OPENING_BYTES :])
            self._used.use(opener.encapsulation)  # without a pause since it was judged: of two equal ones, one goes on
        except (StrongroomError, TimeoutError) as error:
            await _refuse(send, *_refusal(error))
            return
        nonce = self._random(opener.nonce_bytes)
        sealed = _Chunked if labels is ohttp.CHUNKED else _Whole
        answer = sealed(send, answer_type, nonce, opener.respond(nonce))
        try:
            request = bhttp.decode_request(message)
        except StrongroomError:
            await answer.problem(400, "the inner request is malformed", MalformedMessage.code)
            return
        try:
            await self._inner(_inner_scope(scope, request), Replay(request.content, receive), answer)
        except Exception as error:  # noqa: BLE001 (whatever it says may be plaintext, and must not reach a log)
            log("application-failed", wire="ohttp", kind=type(error).__name__)
            await answer.fail()

    async def _read(self, scope: Scope, receive: Receive) -> bytes | None:
        """The encapsulated request, bounded; None if the relay went away."""
        declared = _field(scope, b"content-length")
        self._check_size(int(declared) if declared.isdecimal() else 0)
        body = bytearray()
        while True:
            message = await receive()
            if message["type"] != "http.request":
                return None
            body += message.get("body", b"")
            self._check_size(len(body))
            if not message.get("more_body", False):
                return bytes(body)

    def _check_size(self, size: int) -> None:
        if size > self._max_body:
            raise _TooLarge(f"an encapsulated request of more than {self._max_body} bytes", remedy="Send less at once.")


class _TooLarge(ChannelRefused):
    """Becomes status 413."""


class _Sealed:
    """An ASGI `send` that seals what passes."""

    def __init__(self, send: Send, media: str, nonce: bytes, sealer: ohttp.ResponseSealer) -> None:
        self._send, self._media, self._nonce, self._sealer = send, media, nonce, sealer
        self._head: tuple[int, list[tuple[bytes, bytes]]] | None = None
        self._begun = False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            fields = [(name.lower(), value) for name, value in message.get("headers", ())]
            self._head = message["status"], [field for field in fields if field[0] not in _FRAMING]
        elif message["type"] == "http.response.body" and self._head is not None:
            await self._body(*self._head, message.get("body", b""), more=message.get("more_body", False))

    async def problem(self, status: int, title: str, code: str) -> None:
        """A sealed problem as the whole answer."""
        self._head = status, [(b"content-type", b"application/problem+json")]
        await self._body(*self._head, _problem(status, title, code), more=False)

    async def fail(self) -> None:
        """The application gave up. An answer that has begun stays without its end: the server breaks the connection."""
        if not self._begun:
            await self.problem(500, "internal error", "worker.failed")

    async def _begin(self) -> None:
        self._begun = True
        headers = [(b"content-type", self._media.encode()), (b"cache-control", b"no-store"), (b"incremental", b"?1")]
        await self._send({"type": "http.response.start", "status": 200, "headers": headers})

    async def _body(self, status: int, fields: list[tuple[bytes, bytes]], body: bytes, *, more: bool) -> None:
        raise NotImplementedError


class _Chunked(_Sealed):
    """Piece by piece; the head travels with the first piece."""

    async def _body(self, status: int, fields: list[tuple[bytes, bytes]], body: bytes, *, more: bool) -> None:
        piece = bhttp.content_piece(body) + (b"" if more else bhttp.RESPONSE_END)
        if self._begun:
            sealed = self._sealer.chunks(piece)
        else:
            sealed = self._nonce + self._sealer.chunks(bhttp.response_head(status, fields) + piece)
            await self._begin()
        sealed += b"" if more else self._sealer.final()
        await self._send({"type": "http.response.body", "body": sealed, "more_body": more})


class _Whole(_Sealed):
    """All at once, at the end."""

    def __init__(self, send: Send, media: str, nonce: bytes, sealer: ohttp.ResponseSealer) -> None:
        super().__init__(send, media, nonce, sealer)
        self._held = bytearray()

    async def _body(self, status: int, fields: list[tuple[bytes, bytes]], body: bytes, *, more: bool) -> None:
        self._held += body
        if len(self._held) > MAX_WHOLE_ANSWER:
            raise ChannelRefused("an answer too long to be sealed at once", remedy="Ask in chunks.")
        if more:
            return
        message = bhttp.encode_response(status, fields, bytes(self._held))
        await self._begin()
        sealed = self._nonce + self._sealer.whole(message)
        await self._send({"type": "http.response.body", "body": sealed, "more_body": False})

    async def problem(self, status: int, title: str, code: str) -> None:
        self._held.clear()
        await super().problem(status, title, code)


def _inner_scope(scope: Scope, request: bhttp.Request) -> Scope:
    """The scope of the inner request: of the outer one nothing is left but the server's own affairs."""
    path, _, query = request.path.partition(b"?")
    fields = [field for field in request.fields if field[0] not in _FRAMING]
    length = str(len(request.content)).encode()
    host = request.authority or dict(request.fields).get(b"host", b"")
    return {
        **{name: value for name, value in scope.items() if name in {"type", "asgi", "http_version", "server", "state"}},
        "method": request.method.decode("ascii"),
        "scheme": request.scheme.decode("ascii"),
        "path": unquote(path.decode("ascii")),
        "raw_path": path,
        "root_path": "",
        "query_string": query,
        "headers": [(b"host", host), *fields, (b"content-length", length)],
        "client": None,
        "extensions": {},
        SEALED: True,
        SEALED_FIELDS: True,
    }


def _field(scope: Scope, wanted: bytes) -> str:
    return next((value.decode("latin-1") for name, value in scope["headers"] if name.lower() == wanted), "")


def _refusal(error: Exception) -> tuple[int, str, str, str]:
    """Status, title, code and type. All failures of form and cryptography look alike."""
    if isinstance(error, ChannelKeyMismatch):
        return 400, "the request was sealed to another key", error.code, ohttp.KEY_PROBLEM
    if isinstance(error, RequestReplayed):
        return 409, "this encapsulated request was sent before", error.code, "about:blank"
    if isinstance(error, _TooLarge):
        return 413, "the encapsulated request is too long", error.code, "about:blank"
    if isinstance(error, Unavailable):
        return 503, error.message, error.code, "about:blank"
    return 400, "the encapsulated request is malformed", MalformedMessage.code, "about:blank"


async def _refuse(send: Send, status: int, title: str, code: str, kind: str = "about:blank") -> None:
    """The answer in the clear to a request that goes no further."""
    await _answer(send, status, "application/problem+json", _problem(status, title, code, kind))


def _problem(status: int, title: str, code: str, kind: str = "about:blank") -> bytes:
    """A problem of RFC 9457, with strongroom's own code."""
    return json.dumps({"type": kind, "title": title, "status": status, "code": code}).encode()


async def _answer(send: Send, status: int, media: str, body: bytes) -> None:
    headers = [(b"content-type", media.encode()), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})
