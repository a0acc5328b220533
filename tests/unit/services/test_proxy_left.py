"""Users who go before their answer begins: nothing of them stays, neither at the worker nor in the proxy."""

import asyncio
import json
import socket
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import ExitStack
from typing import Any

import httpx2
import pytest
from fleets import opened
from world import WAIT, EchoEngine, World, world

from strongroom.client.client import AsyncClient
from strongroom.services.proxy import Proxy, Relayed
from strongroom.services.relay import Relay
from strongroom.services.server import BackgroundServer


def request(*, stream: bool) -> bytes:
    body = json.dumps({"model": "m", "stream": stream, "messages": [{"role": "user", "content": "x"}]}).encode()
    return b"POST /v1/chat/completions HTTP/1.1\r\nhost: p\r\ncontent-length: %d\r\n\r\n" % len(body) + body


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


class Silent(EchoEngine):
    """Says nothing, ever, and notes when nobody waits for it any more."""

    def __init__(self) -> None:
        super().__init__()
        self.busy, self.free = threading.Event(), threading.Event()

    async def generate(self, *_: Any) -> AsyncGenerator[bytes]:
        self.busy.set()
        try:
            await asyncio.Event().wait()
            yield b""
        finally:
            self.free.set()


@pytest.mark.parametrize("stream", [True, False])
def test_a_request_whose_user_went_waits_no_more(made: World, *, stream: bool):
    way, engine = Noting(), Silent()
    with made.serving(engine) as served:
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
                user.sendall(request(stream=stream))
                assert way.sent.wait(WAIT)
                assert not way.called_off.is_set()
            assert way.called_off.wait(WAIT)
            assert engine.free.wait(WAIT)


@pytest.mark.parametrize("way", ["door", "relay"])
def test_nor_does_it_wait_behind_a_door_or_a_relay(made: World, way: str):
    engine = Silent()
    with made.serving(engine) as served, ExitStack() as between:
        url, relay = served.url, None
        if way == "door":
            url = between.enter_context(opened(made, served.url)).url
        else:
            relay = between.enter_context(BackgroundServer(Relay(served.url).app)).url
        client = AsyncClient(
            url,
            policy=made.policy,
            anchor=made.anchor_file,
            broker=made.broker.identity.fingerprint,
            accept_simulated=True,
            relay=relay,
        )
        with BackgroundServer(Proxy(client).app) as proxy:
            with socket.create_connection(("127.0.0.1", proxy.port)) as user:
                user.sendall(request(stream=False))
                assert engine.busy.wait(WAIT)
                assert not engine.free.is_set()
            assert engine.free.wait(WAIT)


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
