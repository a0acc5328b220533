"""A worker behind the sealed channel, without sockets: a fake chat application, and a wire to tamper with."""

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import httpx2
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from strongroom.channel import completion, padding
from strongroom.channel.server import SEALED, EhbpMiddleware

EVENTS = [b'data: {"token":"The"}\n\n', b'data: {"token":" capital"}\n\n', b"data: [DONE]\n\n"]


async def chat(scope: dict[str, Any], receive: Callable[..., Any], send: Callable[..., Any]) -> None:
    """Streams if asked, else one document. Its "receipt" is the SHA-256 of what it committed to."""
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            break

    async def begin(status: int, kind: str) -> None:
        headers = [(b"content-type", kind.encode()), (b"content-length", b"7")]
        await send({"type": "http.response.start", "status": status, "headers": headers})

    async def say(data: bytes, *, more: bool) -> None:
        await send({"type": "http.response.body", "body": data, "more_body": more})

    if scope["path"] == "/v1/models":
        await begin(200, "application/json")
        return await say(b'{"data":[]}', more=False)
    if not scope[SEALED]:
        await begin(403, "application/json")
        return await say(b'{"error":"content is taken only sealed"}', more=False)
    request = json.loads(body)
    if request.get("fail") == "before":
        raise RuntimeError("canary: the prompt was " + request["prompt"])
    if request.get("status"):
        await begin(request["status"], "application/json")
        return await say(b'{"error":{"message":"no such model"}}', more=False)
    if request.get("stream"):
        await begin(200, "text/event-stream; charset=utf-8")
        committed = hashlib.sha256()
        for event in EVENTS:
            padded = padding.pad_event(event)
            committed.update(padded)
            await say(padded, more=True)
            if request.get("fail") == "midway":
                raise RuntimeError("canary: the prompt was " + request["prompt"])
        return await say(padding.pad_event(completion.sse_trailer(committed.digest())), more=False)
    answer = json.dumps({"echo": request.get("prompt"), "content_length": _header(scope, b"content-length")}).encode()
    await begin(200, "application/json")
    return await say(padding.pad_json(completion.append_to_json(answer, hashlib.sha256(answer).digest())), more=False)


def _header(scope: dict[str, Any], name: bytes) -> str:
    return next(value.decode() for key, value in scope["headers"] if key == name)


@dataclass
class Answer:
    """What came back over the wire: `pieces` are the bodies of the single ASGI messages, that is, frames."""

    status: int = 0
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    pieces: list[bytes] = field(default_factory=list)
    complete: bool = False

    @property
    def body(self) -> bytes:
        return b"".join(self.pieces)

    def header(self, name: str) -> str | None:
        return next((value.decode() for key, value in self.headers if key == name.encode()), None)


@dataclass
class Request:
    """What went over the wire."""

    method: str
    path: str
    headers: list[tuple[bytes, bytes]]
    body: bytes


class Worker:
    """A worker's application and the wire to it: `tamper` changes what comes back, `on_the_wire` keeps what went."""

    chat = staticmethod(chat)

    def __init__(self, **options: Any) -> None:
        self.private = X25519PrivateKey.generate()
        self.public = self.private.public_key().public_bytes_raw()
        self.app = EhbpMiddleware(options.pop("app", chat), self.private, **options)
        self.tamper: Callable[[Answer], None] = lambda _: None
        self.on_the_wire: list[Request] = []
        self.sent_twice = False
        self.closed = 0

    async def asked(
        self, method: str, path: str, headers: list[tuple[bytes, bytes]], body: bytes, pieces: int = 2
    ) -> Answer:
        """One request in `pieces`, as a server would deliver it; the answer after tampering."""
        self.on_the_wire.append(Request(method, path, headers, body))
        for _ in range(2 if self.sent_twice else 1):
            answer = await self._deliver(method, path, headers, body, pieces)
        self.tamper(answer)
        return answer

    async def _deliver(
        self, method: str, path: str, headers: list[tuple[bytes, bytes]], body: bytes, pieces: int
    ) -> Answer:
        size = max(1, -(-len(body) // pieces))
        parts = [body[i : i + size] for i in range(0, len(body), size)] or [b""]
        incoming = [
            {"type": "http.request", "body": part, "more_body": i + 1 < len(parts)} for i, part in enumerate(parts)
        ]
        answer = Answer()

        async def receive() -> dict[str, Any]:
            return incoming.pop(0) if incoming else {"type": "http.disconnect"}

        async def send(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.start":
                answer.status, answer.headers = message["status"], list(message["headers"])
            else:
                answer.pieces.append(message["body"])
                answer.complete = not message["more_body"]

        lowered = [(name.lower(), value) for name, value in headers]
        scope = {"type": "http", "method": method, "path": path, "headers": lowered, "extensions": {"zero-copy": {}}}
        await self.app(scope, receive, send)
        return answer

    def ask(self, method: str, path: str, headers: list[tuple[bytes, bytes]], body: bytes) -> Answer:
        return asyncio.run(self.asked(method, path, headers, body))

    def transport(self, library: Any) -> Any:
        """The network to this worker, as a transport of `library` (httpx2 or httpx)."""
        return TRANSPORTS[library][0](self)

    def async_transport(self, library: Any) -> Any:
        return TRANSPORTS[library][1](self)


def _transports(library: Any) -> tuple[Any, Any]:
    class Pieces(library.SyncByteStream, library.AsyncByteStream):  # type: ignore[misc]
        def __init__(self, worker: Worker, pieces: list[bytes]) -> None:
            self.worker, self.pieces = worker, pieces

        def __iter__(self) -> Iterator[bytes]:
            yield from self.pieces

        async def __aiter__(self) -> AsyncIterator[bytes]:
            for piece in self.pieces:
                yield piece

        def close(self) -> None:
            self.worker.closed += 1

        async def aclose(self) -> None:
            self.worker.closed += 1

    def response(worker: Worker, answer: Answer) -> Any:
        return library.Response(answer.status, headers=answer.headers, stream=Pieces(worker, answer.pieces))

    class Sync(library.BaseTransport):  # type: ignore[misc]
        def __init__(self, worker: Worker) -> None:
            self.worker = worker

        def handle_request(self, request: Any) -> Any:
            answer = self.worker.ask(request.method, request.url.path, request.headers.raw, request.read())
            return response(self.worker, answer)

    class Async(library.AsyncBaseTransport):  # type: ignore[misc]
        def __init__(self, worker: Worker) -> None:
            self.worker = worker

        async def handle_async_request(self, request: Any) -> Any:
            body = await request.aread()
            answer = await self.worker.asked(request.method, request.url.path, request.headers.raw, body)
            return response(self.worker, answer)

    return Sync, Async


TRANSPORTS = {library: _transports(library) for library in (httpx2, httpx)}


@pytest.fixture
def worker() -> Worker:
    """A worker with the fake chat application."""
    return Worker()


@pytest.fixture
def make_worker() -> type[Worker]:
    """For a worker with options of its own (those of `EhbpMiddleware`, and `app`)."""
    return Worker
