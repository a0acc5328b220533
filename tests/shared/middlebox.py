"""Somebody between a client and a worker: passes everything on, counts it, and does what such machines are known to do."""

from __future__ import annotations

import socket
import threading
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any, Self

import httpx2
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from strongroom.channel import v2

NONCE, PREFIX = v2.NONCE_BYTES, 5
METHODS = ["GET", "POST"]


@dataclass
class Middlebox:
    """Before the worker at `worker`. `rewrap` may change an answer that is no stream; after `frames` a sealed answer ends, cleanly."""

    worker: str
    rewrap: Callable[[int, bytes], tuple[int, bytes, str] | None] = lambda _status, _body: None
    frames: int | None = None
    seen: list[tuple[str, bytes]] = field(default_factory=list)

    @property
    def app(self) -> Starlette:
        return Starlette(routes=[Route("/{path:path}", self._pass_on, methods=METHODS)])

    def asked(self, path: str) -> int:
        """How many requests for a path came by."""
        return sum(seen == path for seen, _ in self.seen)

    async def _pass_on(self, request: Request) -> Response:
        body = await request.body()
        self.seen.append((request.url.path, body))
        headers = [(name, value) for name, value in request.headers.raw if name not in {b"host", b"content-length"}]
        http = httpx2.AsyncClient(timeout=30)
        answer = await http.send(
            http.build_request(request.method, self.worker + request.url.path, content=body, headers=headers),
            stream=True,
        )
        media = answer.headers.get("content-type", "")
        if media == v2.MEDIA_TYPE:
            return StreamingResponse(self._stream(answer), answer.status_code, {"content-type": media})
        content = await answer.aread()
        status, content, media = self.rewrap(answer.status_code, content) or (answer.status_code, content, media)
        return Response(content, status, {"content-type": media})

    async def _stream(self, answer: httpx2.Response) -> AsyncIterator[bytes]:
        held, left = b"", self.frames
        async for data in answer.aiter_raw():
            if left is None:
                yield data
                continue
            held += data
            if (end := end_of_frames(held, left)) is not None:
                yield held[:end]
                await answer.aclose()
                return  # and the last chunk of HTTP says that this was all


def end_of_frames(data: bytes, count: int) -> int | None:
    """Where the frame number `count` of a sealed answer ends, once it is there."""
    at = NONCE
    for _ in range(count):
        at += PREFIX + int.from_bytes(data[at : at + 4])
        if at > len(data):
            return None
    return at


class Hangup:
    """Takes connections, reads what comes, passes it to a worker where there is one, and closes without a word."""

    def __init__(self, worker: tuple[str, int] | None = None) -> None:
        self._worker = worker
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.received: list[bytes] = []
        self._thread = threading.Thread(target=self._live, daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()

    def _live(self) -> None:
        while True:
            try:
                peer, _ = self._listener.accept()
            except OSError:
                return
            with peer:
                peer.settimeout(30)
                self.received.append(read_request(peer))
                if self._worker is not None:
                    with socket.create_connection(self._worker, timeout=30) as onwards:
                        onwards.sendall(self.received[-1])
                        onwards.recv(1)  # the worker has begun to answer


def read_request(peer: Any) -> bytes:
    """One whole HTTP request with a length."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += peer.recv(65536)
    head, _, body = data.partition(b"\r\n\r\n")
    fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
    while len(body) < int(fields.get(b"content-length", b"0")):
        body += peer.recv(65536)
    return head + b"\r\n\r\n" + body
