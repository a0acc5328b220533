"""Binary HTTP: the examples of RFC 9292, every chunking alike, every cut and every bad byte refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strongroom.channel import bhttp
from strongroom.errors import MalformedMessage, StreamTruncated, StrongroomError

HELLO = (b"user-agent", b"curl/7.16.3 libcurl/7.16.3 OpenSSL/0.9.7l zlib/1.2.3")
FIELDS = (HELLO, (b"host", b"www.example.com"), (b"accept-language", b"en, mi"))
KNOWN = bytes.fromhex(
    "00034745540568747470 73000a2f68656c6c6f2e747874406c0a757365722d6167656e74346375726c2f372e31362e33206c69626375726c"
    "2f372e31362e33204f70656e53534c2f302e392e376c207a6c69622f312e322e3304686f73740f7777772e6578616d706c652e636f6d0f61"
    "63636570742d6c616e677561676506656e2c206d690000"
)
OPEN = bytes.fromhex(
    "02034745540568747470 73000a2f68656c6c6f2e7478740a757365722d6167656e74346375726c2f372e31362e33206c69626375726c2f37"
    "2e31362e33204f70656e53534c2f302e392e376c207a6c69622f312e322e3304686f73740f7777772e6578616d706c652e636f6d0f616363"
    "6570742d6c616e677561676506656e2c206d6900000000000000000000000000"
)
CHUNKED = bytes.fromhex(
    "0140c8001d5468697320636f6e74656e7420636f6e7461696e732043524c462e0d0a0d07747261696c65720474657874"
)
INTERIM = bytes.fromhex(
    "034066 0772756e6e696e670a22736c65657020313522 00 4067 046c696e6b013c 00 40c8 00 0568656c6c6f 00 00"
)
TOKENS = st.text("abcdefghijklmnopqrstuvwxyz0123456789-_", min_size=1, max_size=12).map(str.encode)
VALUES = st.text("abc xyz:/;=\x80", max_size=20).map(lambda text: text.strip().encode("latin-1"))
REQUESTS = st.builds(
    bhttp.Request,
    method=st.sampled_from([b"GET", b"POST", b"DELETE"]),
    scheme=st.sampled_from([b"http", b"https"]),
    authority=st.sampled_from([b"", b"worker.example", b"[::1]:8443"]),
    path=st.sampled_from([b"/", b"/v1/models?limit=2", b"/%20"]),
    fields=st.lists(st.tuples(TOKENS, VALUES), max_size=4).map(tuple),
    content=st.binary(max_size=300),
)


def read(message: bytes, step: int = 1 << 20) -> tuple[int, bhttp.Fields, bytes]:
    reader = bhttp.ResponseReader()
    content = b"".join(reader.feed(message[at : at + step]) for at in range(0, len(message), step))
    reader.finish()
    return reader.status, reader.fields, content


@pytest.mark.parametrize("example", [KNOWN, OPEN], ids=["known", "indeterminate"])
def test_the_request_of_the_specification_is_read_in_both_framings(example):
    wanted = bhttp.Request(b"GET", b"https", b"", b"/hello.txt", FIELDS, b"")
    assert bhttp.decode_request(example) == wanted
    assert bhttp.encode_request(wanted) == KNOWN


@pytest.mark.parametrize(("example", "removable"), [(KNOWN, 2), (OPEN, 12)], ids=["known", "indeterminate"])
def test_what_is_empty_at_the_end_may_lack_and_nothing_more(example, removable):
    whole = bhttp.decode_request(example)
    for cut in range(removable + 1):
        assert bhttp.decode_request(example[: len(example) - cut]) == whole
    after_control = example.index(b"/hello.txt") + len(b"/hello.txt")
    for length in range(len(example) - removable - 1):
        if length == after_control:
            assert bhttp.decode_request(example[:length]).fields == ()
        else:
            with pytest.raises(StreamTruncated):
                bhttp.decode_request(example[:length])


def test_the_answers_of_the_specification_are_read_with_trailers_and_interim_answers():
    assert read(CHUNKED) == (200, (), b"This content contains CRLF.\r\n")
    assert read(INTERIM) == (200, (), b"hello")
    with pytest.raises(MalformedMessage):
        read(bytes.fromhex("03") + bytes.fromhex("406600") * 9 + bytes.fromhex("40c8000000"))


@given(REQUESTS, st.sampled_from([1, 64, 512]))
def test_a_request_survives_the_way_and_its_length_is_a_multiple_of_the_bucket(request, bucket):
    message = bhttp.encode_request(request, bucket=bucket)
    assert len(message) % bucket == 0
    assert bhttp.decode_request(message) == request


@given(
    st.integers(200, 599),
    st.lists(st.tuples(TOKENS, VALUES), max_size=4),
    st.lists(st.binary(max_size=90), max_size=5),
    st.integers(1, 70),
    st.integers(0, 9),
)
def test_an_answer_in_any_pieces_is_the_same_answer(status, fields, pieces, step, padding):
    known = bhttp.encode_response(status, fields, b"".join(pieces)) + bytes(padding)
    opened = bhttp.response_head(status, fields) + b"".join(map(bhttp.content_piece, pieces)) + bhttp.RESPONSE_END
    for message in (known, opened + bytes(padding)):
        assert read(message, step) == (status, tuple(fields), b"".join(pieces))


@given(st.binary(max_size=60), st.data())
def test_an_open_answer_cut_anywhere_before_its_last_empty_parts_is_refused(content, data):
    message = bhttp.response_head(200, [(b"a", b"b")]) + bhttp.content_piece(content or b"x") + bhttp.RESPONSE_END
    cut = data.draw(st.integers(0, len(message) - 3))
    head = bhttp.response_head(200, [(b"a", b"b")])
    if cut in {3, len(head)}:
        return  # control data without fields, head without content: empty parts may lack
    with pytest.raises(StreamTruncated):
        read(message[:cut])


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data):
    for attempt in (bhttp.decode_request, read):
        try:
            attempt(data)
        except StrongroomError:
            pass


@pytest.mark.parametrize(
    "field",
    [
        (b"", b"v"),
        (b"Upper", b"v"),
        (b":path", b"/"),
        (b"a b", b"v"),
        (b"a", b"v\r\nx: y"),
        (b"a", b"\x00"),
        (b"a", b" v"),
    ],
)
def test_a_field_that_http_does_not_allow_is_neither_written_nor_read(field):
    with pytest.raises(MalformedMessage):
        bhttp.response_head(200, [field])
    line = b"".join(bhttp.varint(len(part)) + part for part in field)
    if field[0]:
        with pytest.raises(MalformedMessage):
            read(b"\x01\x40\xc8" + bhttp.varint(len(line)) + line)
        with pytest.raises(MalformedMessage):
            read(b"\x03\x40\xc8" + line + b"\x00\x00\x00")


@pytest.mark.parametrize(
    "changed",
    [
        {"method": b"GE T"},
        {"scheme": b"ftp"},
        {"authority": b"a b"},
        {"path": b"x"},
        {"path": b"/a b"},
        {"path": b"/a\r\n"},
    ],
)
def test_control_data_that_http_does_not_allow_is_refused(changed):
    good = {"method": b"GET", "scheme": b"https", "authority": b"", "path": b"/", "fields": (), "content": b""}
    with pytest.raises(MalformedMessage):
        bhttp.encode_request(bhttp.Request(**(good | changed)))
    control = [(good | changed)[name] for name in ("method", "scheme", "authority", "path")]
    with pytest.raises(MalformedMessage):
        bhttp.decode_request(b"\x00" + b"".join(bhttp.varint(len(part)) + part for part in control))


def test_a_scheme_that_the_sender_left_out_is_read_as_http():
    assert bhttp.decode_request(b"\x00\x03GET\x00\x01a\x01/").scheme == b"http"


def test_limits_hold_before_anything_is_taken_in():
    long = bhttp.varint(bhttp.MAX_HEAD + 1)
    many = (b"\x01a\x01b") * (bhttp.MAX_FIELDS + 1)
    for message in (b"\x00" + long, b"\x01\x40\xc8" + long, b"\x03\x40\xc8" + long, b"\x03\x40\xc8" + many):
        with pytest.raises(MalformedMessage):
            (bhttp.decode_request if message[0] == 0 else read)(message)
    with pytest.raises(MalformedMessage):
        read(bhttp.encode_response(200, (), b"x") + b"\x01\x00")
    with pytest.raises(MalformedMessage):
        read(b"\x01\x40\xc8\x00\x00\x00\x00\x00\x01")


def test_integers_have_one_shortest_form_and_are_read_in_every_form():
    for number in (0, 63, 64, 16383, 16384, (1 << 30) - 1, 1 << 30, (1 << 62) - 1):
        data = bhttp.varint(number)
        assert bhttp.read_varint(data, 0) == (number, len(data))
        assert bhttp.read_varint(data[:-1], 0) is None
    assert bhttp.read_varint(bytes.fromhex("4025"), 0) == (37, 2)
    with pytest.raises(MalformedMessage):
        bhttp.varint(1 << 62)
