"""Users who go before their answer begins: nothing of them stays, neither at the worker nor in the proxy."""

import asyncio
import json
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator

import httpx2
import pytest
from world import WAIT, EchoEngine, World, world

from strongroom.client.client import AsyncClient
from strongroom.services.proxy import Proxy, Relayed
from strongroom.services.server import BackgroundServer

BODY = json.dumps({"model": "m", "stream": True, "messages": [{"role": "user", "content": "x"}]}).encode()
REQUEST = b"POST /v1/chat/completions HTTP/1.1\r\nhost: p\r\ncontent-length: %d\r\n\r\n" % len(BODY) + BODY


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with world(tmp_path_factory.mktemp("world")) as found:
        yield found


class Noting(httpx2.AsyncHTTPTransport):
    """The way to the worker; notes a sealed request that was sent, and one that was called off."""

    def __init__(self) -> None:
        super().__init__()
        self.sent, self.called_off = threading.Event(), threading.Event()

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        if not request.url.path.endswith("/sealed"):
            return await super().handle_async_request(request)
        self.sent.set()
        try:
            return await super().handle_async_request(request)
        except asyncio.CancelledError:
            self.called_off.set()
            raise


class Waiting(EchoEngine):
    """Says nothing until it is let."""

    async def generate(self, *words: object) -> AsyncIterator[bytes]:  # type: ignore[override]
        self.gate = self.gate or asyncio.Event()
        async for piece in super().generate(*words):  # type: ignore[arg-type]
            yield piece


def test_a_request_whose_user_went_waits_no_more(made: World):
    way = Noting()
    with made.serving(Waiting()) as served:
        client = AsyncClient(
            served.url,
            policy=made.policy,
            anchor=made.anchor_file,
            broker=made.broker.identity.fingerprint,
            accept_simulated=True,
            transport=way,
        )
        with BackgroundServer(Proxy(client).app) as proxy:
            with socket.create_connection(("127.0.0.1", proxy.port)) as user:
                user.sendall(REQUEST)
                assert way.sent.wait(WAIT)
                assert not way.called_off.is_set()
            assert way.called_off.wait(WAIT)
            until = time.monotonic() + WAIT
            while httpx2.get(served.url + "/healthz").json()["under_way"] and time.monotonic() < until:
                time.sleep(0.05)
            assert httpx2.get(served.url + "/healthz").json()["under_way"] == 0


def test_an_answer_that_nobody_takes_is_closed():
    async def pieces() -> AsyncIterator[bytes]:
        yield b"never"

    async def never(_: object) -> None:
        await asyncio.Event().wait()

    async def gone() -> dict[str, str]:
        return {"type": "http.disconnect"}

    async def take() -> httpx2.Response:
        answer = httpx2.Response(200, content=pieces())
        await Relayed(pieces(), answer)({"type": "http", "asgi": {"spec_version": "2.3"}}, gone, never)  # type: ignore[arg-type]
        return answer

    assert asyncio.run(take()).is_closed
