"""The engine's side of the socket, spoken to directly."""

import os
import socket
from collections.abc import Iterator

import pytest

from strongroom.engines import wire
from strongroom.engines.spawn import Child, spawn_child
from strongroom.engines.wire import FrameReader, Kind


@pytest.fixture
def child() -> Iterator[Child]:
    spawned = spawn_child("fake_engine", "fake")
    spawned.socket.settimeout(60)
    try:
        yield spawned
    finally:
        spawned.kill()


def until_it_hangs_up(child: Child) -> list[Kind]:
    """The kinds of all frames that it sends before its end."""
    reader, kinds = FrameReader(wire.FROM_ENGINE), list[Kind]()
    try:
        while data := child.socket.recv(1 << 16):
            kinds += [frame.kind for frame in reader.feed(data)]
    except ConnectionResetError:  # it left what we sent unread
        pass
    return kinds


@pytest.mark.parametrize(
    "sent",
    [
        b"\xff" * 64,
        wire.pack(Kind.CHUNK, 1, b"an engine's frame"),
        wire.pack(Kind.GENERATE, 1, b"{}"),
        wire.pack(Kind.LOAD, 0, b"{}"),
        wire.pack(Kind.LOAD, 0, b"not json"),
    ],
    ids=["garbage", "wrong direction", "a request before a model", "no descriptor", "no settings"],
)
def test_a_worker_that_breaks_the_protocol_ends_the_engine(child: Child, sent: bytes):
    child.socket.sendall(sent)
    assert until_it_hangs_up(child) in ([Kind.HELLO], [])


def test_a_model_is_handed_over_once(child: Child):
    with open("/dev/null", "rb") as other:  # noqa: PTH123
        model = os.memfd_create("model")
        os.write(model, b"model")
        socket.send_fds(child.socket, [wire.pack(Kind.LOAD, 0, b"{}")], [model])
        os.close(model)
        reader, frames = FrameReader(wire.FROM_ENGINE), list[wire.Frame]()
        while len(frames) < 2:
            frames += reader.feed(child.socket.recv(1 << 16))
        assert [frame.kind for frame in frames] == [Kind.HELLO, Kind.LOADED]
        socket.send_fds(child.socket, [wire.pack(Kind.LOAD, 0, b"{}")], [other.fileno()])
    assert until_it_hangs_up(child) == []


def test_an_engine_ends_when_its_worker_hangs_up(child: Child):
    child.socket.shutdown(socket.SHUT_RDWR)
    child.process.wait(60)
