import os
import socket
import struct
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strongroom.errors import MalformedMessage
from strongroom.workloads.job.link import MAX_TEXT, Link


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def test_messages_arrive_in_order_and_each_file_with_its_own(pair: tuple[socket.socket, socket.socket]):
    sender, receiver = Link(pair[0]), Link(pair[1])
    files = [os.memfd_create("test") for _ in range(3)]
    for number, file in enumerate(files):
        os.write(file, f"content {number}".encode())
        sender.send("plain", {"number": number})
        sender.send("file", {"path": f"ü/{number}"}, file)
        os.close(file)
    for number in range(3):
        plain, with_file = receiver.receive(), receiver.receive()
        assert plain is not None
        assert with_file is not None
        assert (plain.kind, plain.members, plain.descriptor) == ("plain", {"number": number}, None)
        assert with_file.text("path") == f"ü/{number}"
        taken = with_file.take()
        assert os.pread(taken, 100, 0) == f"content {number}".encode()
        assert not os.get_inheritable(taken)
        os.close(taken)


def test_the_end_between_messages_is_the_end(pair: tuple[socket.socket, socket.socket]):
    pair[0].close()
    assert Link(pair[1]).receive() is None


@pytest.mark.parametrize(
    "data",
    [
        b"\0",
        struct.pack("!IB", 10, 0) + b'{"kind":',
        struct.pack("!IB", MAX_TEXT + 1, 0),
        struct.pack("!IB", 2, 2) + b"{}",
        struct.pack("!IB", 2, 0) + b"{}",
        struct.pack("!IB", 2, 0) + b"[]",
        struct.pack("!IB", 10, 0) + b'{"kind":1}',
        struct.pack("!IB", 14, 1) + b'{"kind":"file"}',
        struct.pack("!IB", 5, 0) + b"\xff\xff\xff\xff\xff",
        struct.pack("!IB", 60_000, 0) + b"[" * 60_000,
    ],
)
def test_what_is_not_a_message_is_refused(pair: tuple[socket.socket, socket.socket], data: bytes):
    pair[0].sendall(data)
    pair[0].close()
    with pytest.raises(MalformedMessage):
        Link(pair[1]).receive()


def test_files_that_were_not_announced_are_closed(pair: tuple[socket.socket, socket.socket]):
    before = open_files()
    text = b'{"kind":"x"}'
    with Path(os.devnull).open("rb") as file:
        socket.send_fds(pair[0], [struct.pack("!IB", len(text), 0) + text], [file.fileno()] * 5)
    with pytest.raises(MalformedMessage):
        Link(pair[1]).receive()
    assert open_files() == before


def test_a_message_without_its_file_or_its_text_is_refused(pair: tuple[socket.socket, socket.socket]):
    Link(pair[0]).send("plain", {"path": 1})
    message = Link(pair[1]).receive()
    assert message is not None
    with pytest.raises(MalformedMessage):
        message.take()
    with pytest.raises(MalformedMessage):
        message.text("path")


def test_a_message_that_is_too_long_is_not_sent(pair: tuple[socket.socket, socket.socket]):
    with pytest.raises(MalformedMessage):
        Link(pair[0]).send("plain", {"text": "x" * MAX_TEXT})


@given(data=st.binary(max_size=300))
@settings(max_examples=50, deadline=None)
def test_any_bytes_are_messages_or_are_refused(data: bytes):
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.sendall(data)
        ours.close()
        link = Link(theirs)
        with suppress(MalformedMessage):
            while link.receive() is not None:
                pass
