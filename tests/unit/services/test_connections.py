"""Peers that hold connections and say nothing, or too little: others are served all the same."""

import asyncio
import contextlib
import resource
import socket
import threading
import time

import httpx2
import pytest

from strongroom.errors import Unavailable
from strongroom.records import codec
from strongroom.records.release import Challenge
from strongroom.services import connections
from strongroom.services.broker import broker_app
from strongroom.services.problems import Bodies
from strongroom.services.server import BackgroundServer

CHALLENGE = b'{"purpose":"release","type":"strongroom/challenge-request/v1"}'
HALF_A_HEAD = b"POST /v1/challenges HTTP/1.1\r\nhost: x\r\n"
HALF_A_BODY = HALF_A_HEAD + b"content-length: %d\r\n\r\n{" % len(CHALLENGE)
SILENT = connections.MAX_CONNECTIONS + 88
WAIT = 30


@pytest.fixture(autouse=True)
def enough_files():
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(8192, before[1]), before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


@contextlib.contextmanager
def peers(url, number, said):
    """So many connections that said this much and stay open."""
    address = httpx2.URL(url).host, httpx2.URL(url).port
    with contextlib.ExitStack() as stack:
        held = []
        for _ in range(number):
            held.append(stack.enter_context(socket.create_connection(address, timeout=WAIT)))
            if said:
                held[-1].sendall(said)
        yield held


def ended(peer):
    """Wait until the server has closed this connection; what it said before."""
    said = b""
    with contextlib.suppress(ConnectionError):
        while part := peer.recv(65536):
            said += part
    return said


def drip(peer):
    """A byte now and then, until the server closes."""
    for _ in range(1000):
        peer.sendall(b"x")
        time.sleep(0.01)


@pytest.mark.parametrize("said", [b"", HALF_A_HEAD, HALF_A_BODY], ids=["nothing", "half a head", "half a body"])
def test_600_peers_that_hold_a_connection_keep_no_worker_out(url, client, said):
    with peers(url, SILENT, said) as held:
        for _ in range(3):
            assert client.challenge("release").purpose == "release"
            answer = httpx2.post(f"{url}/v1/challenges", content=CHALLENGE)  # a connection of its own
            assert isinstance(codec.decode(Challenge, answer.content), Challenge)
        assert ended(held[0]) == b""  # who has held one longest made room


def test_a_request_that_is_begun_is_ended_in_time_or_cut_off(url, monkeypatch):
    monkeypatch.setattr(connections, "REQUEST_SECONDS", 0.3)
    for said in (b"", HALF_A_HEAD, HALF_A_BODY):
        with peers(url, 1, said) as (peer,):
            assert ended(peer) == b""


def test_a_drop_now_and_then_buys_no_more_time(url, monkeypatch):
    monkeypatch.setattr(connections, "REQUEST_SECONDS", 0.3)
    with peers(url, 1, HALF_A_HEAD) as (peer,), pytest.raises(ConnectionError):
        drip(peer)


def test_what_comes_behind_an_early_answer_is_not_read_for_ever(url, monkeypatch):
    monkeypatch.setattr(connections, "REQUEST_SECONDS", 0.5)
    head = b"POST /v1/challenges HTTP/1.1\r\nhost: x\r\ncontent-length: 99999999\r\n\r\n"
    with peers(url, 1, head) as (peer,):
        assert peer.recv(64).startswith(b"HTTP/1.1 413 ")
        with pytest.raises(ConnectionError):
            drip(peer)


def test_who_waits_for_an_answer_is_never_cut_off(monkeypatch):
    monkeypatch.setattr(connections, "REQUEST_SECONDS", 0.1)
    monkeypatch.setattr(connections, "MAX_CONNECTIONS", 2)

    at_work = threading.Event()

    async def slow(_scope, receive, send):
        await receive()
        at_work.set()
        await asyncio.sleep(0.5)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"done"})

    with BackgroundServer(slow) as server, peers(server.url, 1, b"GET / HTTP/1.1\r\nhost: x\r\n\r\n") as (first,):
        assert at_work.wait(WAIT)
        with peers(server.url, 4, b""):
            assert first.recv(4096).startswith(b"HTTP/1.1 200 ")


def test_where_everybody_waits_for_an_answer_one_more_is_told_503(monkeypatch):
    monkeypatch.setattr(connections, "MAX_CONNECTIONS", 2)
    at_work, go = threading.Semaphore(0), threading.Event()

    async def slow(_scope, receive, send):
        await receive()
        at_work.release()
        await asyncio.to_thread(go.wait, WAIT)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"done"})

    with BackgroundServer(slow) as server, peers(server.url, 2, b"GET / HTTP/1.1\r\nhost: x\r\n\r\n") as held:
        assert at_work.acquire(timeout=WAIT)
        assert at_work.acquire(timeout=WAIT)
        assert httpx2.get(server.url).status_code == 503
        go.set()
        assert all(peer.recv(4096).startswith(b"HTTP/1.1 200 ") for peer in held)
        assert httpx2.get(server.url).status_code == 200


def test_who_does_not_read_an_answer_makes_room_too(monkeypatch):
    monkeypatch.setattr(connections, "MAX_CONNECTIONS", 3)

    async def large(_scope, receive, send):
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(400):
            await send({"type": "http.response.body", "body": b"x" * 65536, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    ask = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"
    with BackgroundServer(large) as server, peers(server.url, 3, ask) as held:
        for peer in held:  # each has begun, and is stuck
            assert peer.recv(1)
        assert len(httpx2.get(server.url).content) == 400 * 65536


def test_many_requests_on_one_connection_are_answered(url, monkeypatch):
    monkeypatch.setattr(connections, "REQUEST_SECONDS", 0.2)
    whole = HALF_A_HEAD + b"content-length: %d\r\n\r\n" % len(CHALLENGE) + CHALLENGE
    with peers(url, 1, whole * 3) as (peer,):  # three at once, one after the other
        assert ended(peer).count(b"HTTP/1.1 200 ") == 3  # and then it says nothing for too long


def test_all_bodies_together_are_bounded_and_the_room_comes_back(world):
    app = broker_app(world.broker, clock=lambda: world.now)
    limit = 300_000
    body = b"x" * 200_000

    async def both():
        reading, go = asyncio.Event(), asyncio.Event()
        seen = []

        async def inner(_scope, receive, _send):
            await receive()
            reading.set()
            await go.wait()

        bodies = Bodies(inner, limit)

        async def receive():
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message):
            seen.append(message)

        first = asyncio.create_task(bodies({"type": "http"}, receive, send))
        await reading.wait()
        with pytest.raises(Unavailable):
            await bodies({"type": "http"}, receive, send)
        go.set()
        await first
        await bodies({"type": "http"}, receive, send)  # there is room again

    asyncio.run(both())
    assert any(middleware.cls is Bodies for middleware in app.user_middleware)


def test_a_broker_whose_room_for_bodies_is_taken_says_503(world, monkeypatch):
    monkeypatch.setattr(Bodies.__init__, "__defaults__", (10,))
    with BackgroundServer(broker_app(world.broker, clock=lambda: world.now)) as server:
        answer = httpx2.post(f"{server.url}/v1/challenges", content=CHALLENGE)
    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
    assert answer.json()["remedy"]
