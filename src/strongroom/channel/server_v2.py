"""The worker's end of version 2: ASGI middleware that stands before an application, behind that of version 1 or alone.

A request to `v2.PATH` is opened; the application sees the method, path and headers that were sealed, and nothing of the outer
ones. Its status, headers and body are sealed, the last frame marked as the end. Everything else passes untouched.

Safety: as in `server`: bounded before anything is decrypted, judged whole before anything goes on, one answer for each head,
refusals that say too little for an oracle, failures of the application logged by their type alone. What came sealed by
version 1 is not opened a second time.

Knows: ASGI, the form of version 2. Does not know: what is asked, receipts.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from urllib.parse import unquote

from strongroom.channel import heads, v2
from strongroom.channel.padding import BUCKET
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
    read_sealed,
    refuse,
    values,
)
from strongroom.crypto.hpke import ReleaseKey
from strongroom.errors import ChannelKeyMismatch, ChannelRefused, MalformedMessage, StrongroomError
from strongroom.observe.log import log
from strongroom.records import codec
from strongroom.records.digest import Digest

_OUTER_HEADERS = [
    (b"content-type", v2.MEDIA_TYPE.encode()),
    (b"cache-control", b"no-store, no-transform"),
    (b"x-accel-buffering", b"no"),  # nginx would hold the tokens back
]


class SealedMiddleware:
    """Wraps the ASGI application `app` with the channel of one private key."""

    def __init__(
        self,
        app: Application,
        private_key: ReleaseKey,
        keyset: Digest,
        *,
        used: UsedEncapsulations | None = None,
        max_body: int = MAX_BODY,
        bucket: int = BUCKET,
        random: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        """`keyset`: the digest of the keyset with this key; the others as in `server.EhbpMiddleware` and `v2.FrameSealer`."""
        self._app, self._private_key, self._keyset = app, private_key, keyset
        self._used = used if used is not None else UsedEncapsulations()
        self._max_body, self._bucket, self._random = max_body, bucket, random

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] != v2.PATH or scope.get(SEALED):
            await self._app(scope, receive, send)
            return
        try:
            self._check(scope)  # before a byte of the body is taken in
            async with asyncio.timeout(READ_SECONDS):
                body = await read_sealed(scope, receive, self._max_body)
            if body is None:
                return
            request = v2.RequestOpener(self._private_key, self._keyset, body)
            head = heads.decode_request(request.head)
            self._used.use(request.identity)
        except TimeoutError:
            await refuse(send, MalformedMessage("the request did not come to its end in time"))
            return
        except StrongroomError as error:
            await refuse(send, error)
            return
        nonce = self._random(v2.NONCE_BYTES)
        answer = _SealedAnswer(send, nonce, request.respond(nonce, bucket=self._bucket))
        try:
            await self._app(_inner_scope(scope, head, len(request.body)), Replay(request.body, receive), answer)
        except Exception as error:  # noqa: BLE001 (whatever it says may be plaintext, and must not reach a log)
            log("application-failed", wire="v2", kind=type(error).__name__)
            await answer.fail()

    def _check(self, scope: Scope) -> None:
        if scope["method"] != v2.METHOD:
            raise ChannelRefused("sealed requests are posted")
        keysets = values(scope, v2.KEYSET_HEADER)
        if len(keysets) != 1:
            raise MalformedMessage(f"the header {v2.KEYSET_HEADER} was not given once")
        if keysets[0] != self._keyset:
            raise ChannelKeyMismatch("the request was not sealed to this worker's keyset")


class _SealedAnswer:
    """An ASGI `send` that seals what the application sends. For a piece of the body, which each token is, it is no coroutine of its own."""

    def __init__(self, send: Send, nonce: bytes, sealer: v2.FrameSealer) -> None:
        self._send, self._nonce, self._sealer = send, nonce, sealer
        self._started = False

    def __call__(self, message: Message) -> Awaitable[None]:
        if message["type"] != "http.response.body":
            return self._begin(message)
        more = message.get("more_body", False)
        sealed = self._sealer.seal(message.get("body", b""), final=not more)
        return self._send({"type": "http.response.body", "body": sealed, "more_body": more})

    async def _begin(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            head = heads.AnswerHead(message["status"], heads.inner(message.get("headers", ())))
            self._started = True
            await self._send({"type": message["type"], "status": 200, "headers": list(_OUTER_HEADERS)})
            sealed = self._nonce + self._sealer.seal(codec.encode(head))
            await self._send({"type": "http.response.body", "body": sealed, "more_body": True})

    async def fail(self) -> None:
        """The application gave up. An answer that has begun stays without its final frame: the server breaks the connection."""
        if not self._started:
            headers = [(b"content-type", b"application/problem+json")]
            await self({"type": "http.response.start", "status": 500, "headers": headers})
            problem = b'{"type":"about:blank","title":"internal error","status":500,"code":"worker.failed"}'
            await self({"type": "http.response.body", "body": problem})


def _inner_scope(scope: Scope, head: heads.RequestHead, length: int) -> Scope:
    """The scope of the opened request, all of it from inside the seal. Extensions go: they could send something past it."""
    path, _, query = head.target.partition("?")
    headers = [*heads.outer(head.headers), (b"content-length", str(length).encode())]
    return {
        **scope,
        "method": head.method,
        "path": unquote(path),
        "raw_path": path.encode("ascii"),
        "query_string": query.encode("ascii"),
        "headers": headers,
        "extensions": {},
        SEALED: True,
        SEALED_FIELDS: True,
    }
