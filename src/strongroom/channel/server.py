"""The worker's end of the sealed channel: a pure ASGI middleware before any application.

It serves the key configuration, opens sealed requests, hands the plaintext on as an ordinary request and seals
whatever the application answers, piece by piece. The application sees in `scope["strongroom.sealed"]` whether a
request came sealed, and refuses others where content passes. Requests in the clear are answered in the clear.

Safety: a body is bounded before anything is decrypted, and nothing of it reaches the application before all of it has
been judged and the encapsulation found new. Refusals say too little to serve as an oracle. An exception of the
application may carry plaintext: it is answered by a sealed, empty error and logged by its type alone. The
encapsulations used are kept beside the key, in one process (see `replay`).

Knows: ASGI, EHBP's statuses. Does not know: what is asked, receipts, padding (the application's own).
Not covered: WebSockets, which pass through unsealed.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from strongroom.channel import ehbp
from strongroom.channel.replay import UsedEncapsulations
from strongroom.errors import (
    ChannelKeyMismatch,
    ChannelRefused,
    MalformedMessage,
    RequestReplayed,
    ServiceUnavailable,
    StreamTruncated,
    StrongroomError,
)
from strongroom.observe.log import log

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

SEALED = "strongroom.sealed"
"""The member of the scope that says whether the request came sealed."""
SEALED_FIELDS = "strongroom.sealed_fields"
"""The member of the scope that says whether the request's fields came sealed too."""
READ_SECONDS = 60.0
"""How long a sealed request may take to arrive."""
MAX_BODY = 20 << 20
"""The longest sealed body, in bytes."""

_FRAMING = frozenset({b"content-length", b"transfer-encoding", b"expect", ehbp.ENCAPSULATION_HEADER.encode()})


class EhbpMiddleware:
    """Wraps the ASGI application `app` with the channel of one private key."""

    def __init__(
        self,
        app: Application,
        private_key: X25519PrivateKey,
        *,
        used: UsedEncapsulations | None = None,
        max_body: int = MAX_BODY,
        random: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        """`used` is the memory of this key (a new one if None), `max_body` bounds a sealed body in bytes."""
        self._app = app
        self._private_key = private_key
        self._key_config = ehbp.encode_key_config(private_key.public_key().public_bytes_raw())
        self._used = used if used is not None else UsedEncapsulations()
        self._max_body = max_body
        self._random = random

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
        elif scope["path"] == ehbp.KEYS_PATH and scope["method"] == "GET":
            await _answer(send, 200, ehbp.KEYS_MEDIA_TYPE, self._key_config)
        elif encapsulations := values(scope, ehbp.ENCAPSULATION_HEADER):
            await self._sealed(encapsulations, scope, receive, send)
        else:
            await self._app({**scope, SEALED: False}, receive, send)

    async def _sealed(self, encapsulations: list[str], scope: Scope, receive: Receive, send: Send) -> None:
        try:
            opener = self._opener(encapsulations)  # before a byte of the body is taken in
            async with asyncio.timeout(READ_SECONDS):
                body = await read_sealed(scope, receive, self._max_body)
            if body is None:
                return
            plaintext = self._open(opener, body)
        except TimeoutError:
            await refuse(send, MalformedMessage("the request did not come to its end in time"))
            return
        except StrongroomError as error:
            await refuse(send, error)
            return
        nonce = self._random(ehbp.NONCE_BYTES)
        answer = _SealedAnswer(send, nonce, opener.respond(nonce))
        try:
            await self._app(_inner_scope(scope, len(plaintext)), Replay(plaintext, receive), answer)
        except Exception as error:  # noqa: BLE001 (whatever it says may be plaintext, and must not reach a log)
            log("application-failed", wire="v1", kind=type(error).__name__)
            await answer.fail()

    def _opener(self, encapsulations: list[str]) -> ehbp.RequestOpener:
        if len(encapsulations) != 1:
            raise MalformedMessage(f"the header {ehbp.ENCAPSULATION_HEADER} was given more than once")
        return ehbp.RequestOpener.from_header(self._private_key, encapsulations[0])

    def _open(self, opener: ehbp.RequestOpener, body: bytes) -> bytes:
        """Without a pause between judging and remembering: of two equal requests, one at most goes on."""
        plaintext = opener.open(body)
        self._used.use(opener.encapsulation)
        return plaintext


async def read_sealed(scope: Scope, receive: Receive, limit: int) -> bytes | None:
    """The sealed body, of at most `limit` bytes; None if the client went away. Raises a ChannelRefused beyond."""
    declared = values(scope, "content-length")
    if declared and declared[0].isdecimal():
        _check_size(int(declared[0]), limit)
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return None
        body += message.get("body", b"")
        _check_size(len(body), limit)
        if not message.get("more_body", False):
            return bytes(body)


def _check_size(size: int, limit: int) -> None:
    if size > limit:
        raise TooLarge(f"a sealed request of more than {limit} bytes", remedy="Send less at once.")


class TooLarge(ChannelRefused):
    """Becomes status 413."""


class _SealedAnswer:
    """An ASGI `send` that seals what passes."""

    def __init__(self, send: Send, nonce: bytes, sealer: ehbp.ResponseSealer) -> None:
        self._send = send
        self._nonce = nonce
        self._sealer = sealer
        self._started = False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._started = True
            headers = [(name, value) for name, value in message.get("headers", ()) if name.lower() not in _FRAMING]
            headers.append((ehbp.NONCE_HEADER.encode(), self._nonce.hex().encode()))
            await self._send({"type": message["type"], "status": message["status"], "headers": headers})
        elif message["type"] == "http.response.body":
            sealed = self._sealer.seal(message.get("body", b""))
            await self._send({"type": message["type"], "body": sealed, "more_body": message.get("more_body", False)})

    async def fail(self) -> None:
        """The application gave up. An answer that has begun stays without its end: the server breaks the connection."""
        if not self._started:
            await _answer(self, 500, ehbp.PROBLEM_MEDIA_TYPE, _problem(500, "internal error", "worker.failed"))


class Replay:
    """An ASGI `receive` that gives the plaintext once, then whatever the server has to say (a disconnection)."""

    def __init__(self, plaintext: bytes, receive: Receive) -> None:
        self._plaintext: bytes | None = plaintext
        self._receive = receive

    async def __call__(self) -> Message:
        if self._plaintext is None:
            return await self._receive()
        message = {"type": "http.request", "body": self._plaintext, "more_body": False}
        self._plaintext = None
        return message


def _inner_scope(scope: Scope, length: int) -> Scope:
    """The scope of the opened request. Extensions go: they could send something past the seal."""
    headers = [(name, value) for name, value in scope["headers"] if name.lower() not in _FRAMING]
    headers.append((b"content-length", str(length).encode()))
    return {**scope, "headers": headers, "extensions": {}, SEALED: True}


def values(scope: Scope, name: str) -> list[str]:
    """What a request gave as the header `name` (lower case), each time it did."""
    wanted = name.encode()
    return [value.decode("latin-1") for key, value in scope["headers"] if key.lower() == wanted]


async def refuse(send: Send, error: StrongroomError) -> None:
    """The unsealed answer to a sealed request that goes no further."""
    status, kind, title, code = _refusal(error)
    await _answer(send, status, ehbp.PROBLEM_MEDIA_TYPE, _problem(status, title, code, kind))


def _refusal(error: StrongroomError) -> tuple[int, str, str, str]:
    """Status, type, title and code. All failures of form and cryptography look alike (SPEC.md, section 5.4.4)."""
    if isinstance(error, ChannelKeyMismatch):
        return 422, ehbp.KEY_CONFIG_PROBLEM, "the request was sealed to another key", error.code
    if isinstance(error, RequestReplayed):
        return 409, "about:blank", "this sealed request was sent before", error.code
    if isinstance(error, TooLarge):
        return 413, "about:blank", "the sealed request is too long", error.code
    if isinstance(error, (MalformedMessage, ChannelRefused, StreamTruncated)):
        return 400, "about:blank", "the sealed request is malformed", MalformedMessage.code
    if isinstance(error, ServiceUnavailable):
        return 503, "about:blank", error.message, error.code
    return 500, "about:blank", "internal error", StrongroomError.code


def _problem(status: int, title: str, code: str, kind: str = "about:blank") -> bytes:
    """A problem of RFC 9457, with strongroom's own code."""
    return json.dumps({"type": kind, "title": title, "status": status, "code": code}).encode()


async def _answer(send: Send, status: int, media_type: str, body: bytes) -> None:
    headers = [(b"content-type", media_type.encode()), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})
