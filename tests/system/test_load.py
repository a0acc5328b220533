"""Hostile and unlucky peers before a real worker's gateway, in a process of its own: a good client is served, memory and files are bounded.

The engine is a stand-in in a confined child (`bench.talker`); gateway, channel, padding and receipts are what is shipped. How much time
anything takes is not judged.
"""

from __future__ import annotations

import asyncio
import contextlib
import resource
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
from soak import soak
from world import world

from strongroom.bench.gateway import TALKER
from strongroom.bench.inference import Server, running, sealed_transport
from strongroom.bench.talker import words_of
from strongroom.channel import ehbp, v2
from strongroom.client import chat
from strongroom.engines import process
from strongroom.services.connections import MAX_CONNECTIONS

pytestmark = pytest.mark.timeout(300)

MANY = 10_000
SPARE_FILES = 500
WAIT = 60
GROWTH_MIB = 48
"""What all of this may cost a worker for good: far below what 10,000 peers would take if each were kept."""
WORDS = 24
SLOTS = 64


@dataclass
class Target:
    """A worker under attack."""

    server: Server

    @property
    def address(self) -> tuple[str, int]:
        url = httpx2.URL(self.server.ready["url"])
        return url.host, url.port or 80

    @property
    def resident(self) -> float:
        """MiB in memory."""
        status = Path(f"/proc/{self.server.process}/status").read_text()
        return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS")) / 1024

    @property
    def files(self) -> int:
        return sum(1 for _ in Path(f"/proc/{self.server.process}/fd").iterdir())

    def ask(self, prompt: str) -> str:
        """As a good client does, on a connection of its own, its receipt checked."""
        body = chat.request(prompt, {"max_tokens": WORDS})
        with httpx2.Client(timeout=WAIT, transport=sealed_transport(self.server.ready)) as http:
            answer = http.post(
                self.server.ready["url"] + chat.PATH, content=body, headers={"content-type": "application/json"}
            )
        assert answer.status_code == 200
        return "".join(chat.Lines().feed(answer.content))

    def serves(self, count: int = 3) -> None:
        for number in range(count):
            assert self.ask(f"question {number}") == "".join(words_of(f"question {number}", WORDS))


@pytest.fixture(scope="module")
def files() -> Iterator[int]:
    """How many connections this process can hold: up to MANY."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (before[1], before[1]))
    yield min(MANY, before[1] - SPARE_FILES)
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.fixture(scope="module")
def target() -> Iterator[Target]:
    with running("gateway", Path(TALKER), slots=SLOTS) as server:
        found = Target(server)
        found.serves(10)  # everything is imported, every buffer made
        with peers(found, MAX_CONNECTIONS, b""):
            found.serves()
        yield found


@contextlib.contextmanager
def peers(target: Target, number: int, said: bytes) -> Iterator[list[socket.socket]]:
    """So many connections that said this much and stay open."""
    with contextlib.ExitStack() as stack:
        held = []
        for _ in range(number):
            held.append(stack.enter_context(socket.create_connection(target.address, timeout=WAIT)))
            with contextlib.suppress(ConnectionError):  # who owes longest may be cut off already
                held[-1].sendall(said)
        yield held


def half_bodies(target: Target) -> dict[str, bytes]:
    """Requests that begin well and are never finished, for each way in."""
    second = sealed_transport(target.server.ready)._speaker.second
    assert second is not None
    named = {
        v2.PATH: [(v2.KEYSET_HEADER, second.peer.keyset), ("content-type", v2.MEDIA_TYPE)],
        chat.PATH: [(ehbp.ENCAPSULATION_HEADER, "07" * 32), ("content-type", "application/json")],
        "/.well-known/ohttp-gateway": [("content-type", "message/ohttp-chunked-req")],
        "/.well-known/strongroom/evidence": [("content-type", "application/json")],
    }
    return {
        path: f"POST {path} HTTP/1.1\r\nhost: x\r\n".encode()
        + "".join(f"{name}: {value}\r\n" for name, value in headers).encode()
        + b"content-length: 4000\r\n\r\n"
        + b"x" * 1000
        for path, headers in named.items()
    }


def test_10_000_idle_connections_keep_nobody_out_and_cost_a_bounded_memory(target, files):
    before = target.resident
    with peers(target, files, b""):
        target.serves()
        assert target.files < MAX_CONNECTIONS + 100
        assert target.resident < before + GROWTH_MIB
    target.serves()


def test_half_heads_are_a_slow_loris_that_nobody_notices(target):
    before = target.resident
    head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n"
    with peers(target, 2 * MAX_CONNECTIONS, head) as held:
        for _ in range(3):
            for peer in held:
                with contextlib.suppress(OSError):
                    peer.sendall(b"x-one-more: y\r\n")
            target.serves(1)
        assert target.resident < before + GROWTH_MIB


def test_half_bodies_at_every_way_in_keep_nobody_out(target):
    before = target.resident
    for said in half_bodies(target).values():
        with peers(target, MAX_CONNECTIONS + 100, said) as held:
            target.serves(1)
            for peer in held:
                with contextlib.suppress(OSError):
                    peer.sendall(b"x")
            target.serves(1)
    assert target.resident < before + GROWTH_MIB


def test_half_open_connections_are_let_go(target):
    """Peers that close their side within a request, and peers that vanish: their ends are closed, and the files come back."""
    before = target.files
    for said in (b"", b"POST / HT", *half_bodies(target).values()):
        with peers(target, 100, said) as held:
            for peer in held:
                with contextlib.suppress(OSError):
                    peer.shutdown(socket.SHUT_WR)
            for peer in held:  # the worker hangs up: there is an end
                with contextlib.suppress(ConnectionError):
                    while peer.recv(65536):
                        pass
    target.serves()
    assert target.files <= before + 5


def test_whoever_reads_nothing_of_an_answer_holds_one_place_and_gives_it_back(target):
    """Every place at the engine is held by somebody who does not read; when they leave, the next one is served."""
    before = target.resident
    with contextlib.ExitStack() as stack:
        held = [stack.enter_context(unread(target, f"long {number}")) for number in range(SLOTS)]
        assert all(peer.recv(64).startswith(b"HTTP/1.1 200 ") for peer in held)
        assert httpx2.get(target.server.ready["url"] + "/healthz", timeout=WAIT).json()["state"] == "ready"
    target.serves()
    assert target.resident < before + GROWTH_MIB


@contextlib.contextmanager
def unread(target: Target, prompt: str) -> Iterator[socket.socket]:
    """A connection that asked for a long answer and does not take it."""
    speaker = sealed_transport(target.server.ready)._speaker
    headers = [(b"host", b"x"), (b"content-type", b"application/json")]
    sealed = speaker.seal("POST", (chat.PATH, chat.PATH), headers, chat.request(prompt, {"max_tokens": 20_000}))
    assert sealed is not None
    head = f"POST {sealed.target} HTTP/1.1\r\n".encode()
    with socket.socket() as peer:
        peer.settimeout(WAIT)
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        peer.connect(target.address)
        peer.sendall(head + b"".join(b"%s: %s\r\n" % pair for pair in sealed.headers) + b"\r\n" + sealed.content)
        yield peer


def test_64_streams_while_the_engine_is_killed_each_give_the_right_answer_or_an_honest_end(tmp_path, monkeypatch):
    """Twenty seconds of what `make soak` does for ten minutes."""
    monkeypatch.setattr(process, "_CHILD", process._CHILD)  # put back at the end
    with world(tmp_path) as made:
        tally = asyncio.run(soak(made, seconds=20, every=5, streams=64))
    told: dict[str, Any] = tally.as_json()
    assert tally.broken == 0, told
    assert tally.kills >= 3, told
    assert tally.outcomes["complete"] > 0, told
    assert tally.outcomes["ended in an error"] > 0, told
    assert tally.growth < GROWTH_MIB, told
