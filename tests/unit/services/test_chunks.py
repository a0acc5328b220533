"""The shorter way to frame a piece says what h11 says, byte for byte, and goes wrong where h11 does."""

import h11
import pytest

from strongroom.services.chunks import Chunking

PIECES = (b"a", b"", b"b" * 4096, b"\r\n0\r\n\r\n")
REQUEST = b"%s / HTTP/%s\r\nhost: x\r\n\r\n"


def answers(connection, *, method=b"GET", version=b"1.1", headers=(), pieces=PIECES, times=1):
    """What a connection says to so many requests, one after the other."""
    said = []
    for _ in range(times):
        connection.receive_data(REQUEST % (method, version))
        assert isinstance(connection.next_event(), h11.Request)
        assert isinstance(connection.next_event(), h11.EndOfMessage)
        said.append(connection.send(h11.Response(status_code=200, headers=list(headers))))
        said += [connection.send(h11.Data(data=piece)) for piece in pieces]
        said.append(connection.send(h11.EndOfMessage()))
        if connection.our_state is h11.DONE:
            connection.start_next_cycle()
    return said


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"times": 3},
        {"version": b"1.0"},
        {"headers": [(b"content-length", b"%d" % sum(map(len, PIECES)))]},
        {"method": b"HEAD", "pieces": (b"", b"")},
    ],
    ids=["chunks", "several answers", "HTTP/1.0", "a known length", "HEAD"],
)
def test_it_says_what_h11_says(given):
    assert answers(Chunking(h11.SERVER), **given) == answers(h11.Connection(h11.SERVER), **given)


def test_an_answer_of_known_length_after_one_in_chunks_is_not_framed():
    ours, theirs = Chunking(h11.SERVER), h11.Connection(h11.SERVER)
    known = {"headers": [(b"content-length", b"1")], "pieces": (b"a",)}
    assert answers(ours) + answers(ours, **known) == answers(theirs) + answers(theirs, **known)


def test_a_piece_after_the_end_is_refused():
    connection = Chunking(h11.SERVER)
    answers(connection)
    with pytest.raises(h11.LocalProtocolError):
        connection.send(h11.Data(data=b"late"))


def test_a_piece_after_an_error_of_ours_is_refused():
    connection = Chunking(h11.SERVER)
    connection.receive_data(REQUEST % (b"GET", b"1.1"))
    connection.next_event()
    connection.send(h11.Response(status_code=200, headers=[]))
    connection.send_failed()
    with pytest.raises(h11.LocalProtocolError):
        connection.send(h11.Data(data=b"late"))
