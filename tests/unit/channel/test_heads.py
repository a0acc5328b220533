"""Heads inside the seal: what an honest end says, and nothing that could smuggle."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strongroom.channel import heads
from strongroom.errors import MalformedMessage
from strongroom.records import codec


def test_headers_of_one_hop_and_of_the_wire_stay_outside():
    sent = [(b"Host", b"x"), (b"Connection", b"close"), (b"Content-Length", b"3"), (b"Transfer-Encoding", b"chunked")]
    sent += [(b"Authorization", b" Bearer caf\xe9 "), (b"X-Api-Key", b"k"), (b"Strongroom-Keyset", b"x")]
    kept = heads.inner(sent)
    assert kept == (("authorization", "Bearer caf\xe9"), ("x-api-key", "k"))
    assert heads.outer(kept) == [(b"authorization", b"Bearer caf\xe9"), (b"x-api-key", b"k")]


def test_heads_travel():
    request = heads.RequestHead("GET", "/v1/models?limit=2", (("accept", "*/*"), ("x-empty", "")))
    answer = heads.AnswerHead(404, (("retry-after", "1"), ("retry-after", "2")))
    assert heads.decode_request(codec.encode(request)) == request
    assert heads.decode_answer(codec.encode(answer)) == answer


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"{}",
        b"[]",
        b'{"method":"GET","target":"/","headers":[],"more":1}',
        b'{"method":"GET","target":"/","headers":[],"method":"PUT"}',
        b'{"method":"GET","target":"/"}',
        b'{"method":"get","target":"/","headers":[]}',
        b'{"method":"GET /x","target":"/","headers":[]}',
        b'{"method":"","target":"/","headers":[]}',
        b'{"method":"GET","target":"","headers":[]}',
        b'{"method":"GET","target":"v1","headers":[]}',
        b'{"method":"GET","target":"http://other/","headers":[]}',
        b'{"method":"GET","target":"/ HTTP/1.1","headers":[]}',
        b'{"method":"GET","target":"/#f","headers":[]}',
        b'{"method":"GET","target":"/\\u00e9","headers":[]}',
        b'{"method":"GET","target":"/","headers":[["a"]]}',
        b'{"method":"GET","target":"/","headers":[["a","b","c"]]}',
        b'{"method":"GET","target":"/","headers":[["A","b"]]}',
        b'{"method":"GET","target":"/","headers":[["a b","b"]]}',
        b'{"method":"GET","target":"/","headers":[["","b"]]}',
        b'{"method":"GET","target":"/","headers":[["a","b\\r\\nc: d"]]}',
        b'{"method":"GET","target":"/","headers":[["a"," b"]]}',
        b'{"method":"GET","target":"/","headers":[["a","\\u0000"]]}',
        b'{"method":"GET","target":"/","headers":[["a","\\u0100"]]}',
        b'{"method":"GET","target":"/","headers":[["content-length","5"]]}',
        b'{"method":"GET","target":"/","headers":[["transfer-encoding","chunked"]]}',
        b'{"method":"GET","target":"/","headers":[["ehbp-encapsulated-key","00"]]}',
        b'{"method":"GET","target":"/","headers":[["host","other"]]}',
        b'{"method":"GET","target":"/","headers":[' + b",".join([b'["a","b"]'] * 101) + b"]}",
        b'{"method":"GET","target":"/' + b"a" * 9000 + b'","headers":[]}',
    ],
    ids=range(30),
)
def test_a_request_that_no_honest_client_sends_is_malformed(head: bytes):
    with pytest.raises(MalformedMessage):
        heads.decode_request(head)


@pytest.mark.parametrize("status", ["100", "101", "199", "600", "-1", "true", '"200"', "200.0", "null"])
def test_a_status_that_is_no_final_one_is_malformed(status: str):
    with pytest.raises(MalformedMessage):
        heads.decode_answer(b'{"status":' + status.encode() + b',"headers":[]}')


@given(st.binary(max_size=300))
def test_any_bytes_are_a_head_or_malformed(data: bytes):
    for decode in (heads.decode_request, heads.decode_answer):
        try:
            decode(data)
        except MalformedMessage:
            continue
