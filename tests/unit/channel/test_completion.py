"""The proof of completeness, at once and in pieces."""

import hashlib
import json
from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strongroom.channel import completion
from strongroom.channel.completion import Splitter, append_to_json, split, sse_trailer
from strongroom.channel.padding import pad_event, pad_json
from strongroom.errors import ChannelRefused, MalformedMessage, StreamTruncated

JSON, EVENTS = "application/json", "text/event-stream; charset=utf-8"
DONE = b"data: [DONE]\n\n"

modest = settings(max_examples=50, deadline=None)
documents = st.dictionaries(st.text(max_size=5), st.text(max_size=30) | st.integers() | st.none(), max_size=4)
receipts = st.binary(min_size=1, max_size=200)
cuts = st.lists(st.integers(0, 4000), max_size=8)
event_lists = st.lists(
    st.text(max_size=40).map(lambda text: b"data: " + json.dumps(text).encode() + b"\n\n"), max_size=6
)


def in_pieces(content_type: str, body: bytes, cuts: list[int]) -> tuple[bytes, completion.Completion]:
    splitter = Splitter(content_type)
    edges = [0, *sorted(min(cut, len(body)) for cut in cuts), len(body)]
    forwarded = b"".join(splitter.feed(body[start:end]) for start, end in pairwise(edges))
    rest, proof = splitter.finish()
    return forwarded + rest, proof


@modest
@given(document=documents, after=st.sampled_from([b"", b"\n", b" \t\r\n"]), receipt=receipts, cuts=cuts)
def test_a_document_is_what_it_was_before_its_receipt(document: dict, after: bytes, receipt: bytes, cuts: list[int]):
    body = json.dumps(document).encode() + after
    finished = pad_json(append_to_json(body, receipt))
    assert {name: value for name, value in json.loads(finished).items() if name != "strongroom"} == document
    assert split(JSON, finished) == (body, receipt)
    forwarded, proof = in_pieces(JSON, finished, cuts)
    assert forwarded == finished
    assert proof == completion.Completion(hashlib.sha256(body).digest(), receipt)


@modest
@given(
    events=event_lists,
    done=st.sampled_from([[], [DONE]]),
    pad=st.sampled_from([pad_event, bytes]),
    receipt=receipts,
    cuts=cuts,
)
def test_a_stream_is_all_that_came_before_its_receipt(
    events: list[bytes], done: list[bytes], pad: Callable[[bytes], bytes], receipt: bytes, cuts: list[int]
):
    body = b"".join(pad(event) for event in [*events, *done])
    finished = body + pad(sse_trailer(receipt))
    assert split(EVENTS, finished) == (body, receipt)
    forwarded, proof = in_pieces(EVENTS, finished, cuts)
    assert forwarded == finished
    assert proof == completion.Completion(hashlib.sha256(body).digest(), receipt)


def test_events_go_on_at_once_but_the_done_mark_waits_for_the_proof():
    splitter = Splitter(EVENTS)
    first = pad_event(b'data: {"token":"The"}\n\n')
    assert splitter.feed(first) == first
    assert splitter.feed(DONE) == b""
    assert splitter.feed(sse_trailer(b"receipt")) == b""
    assert splitter.finish()[0] == DONE + sse_trailer(b"receipt")


def test_only_whole_lines_go_on():
    splitter = Splitter(EVENTS)
    assert splitter.feed(b"data: one\n\ndata: [DO") == b"data: one\n\n"
    assert splitter.feed(b"OR]\n") == b"data: [DOOR]\n"


def test_a_long_document_goes_on_before_its_end():
    splitter = Splitter(JSON)
    body = b'{"text":"' + b"x" * 200_000 + b'"}'
    assert len(splitter.feed(body)) == len(body) - completion.MAX_TRAILER


@pytest.mark.parametrize("keep", range(1, 5))
def test_a_stream_cut_at_any_event_is_truncated(keep: int):
    events = [pad_event(event) for event in (b"data: 1\n\n", b"data: 2\n\n", DONE, sse_trailer(b"receipt"))]
    splitter = Splitter(EVENTS)
    for event in events[:keep]:
        splitter.feed(event)
    if keep == len(events):
        assert splitter.finish()[1].sealed_receipt == b"receipt"
    else:
        with pytest.raises(StreamTruncated):
            splitter.finish()


def test_a_body_cut_at_any_byte_is_truncated():
    for content_type, body in (
        (JSON, append_to_json(b'{"a":1}', b"receipt")),
        (EVENTS, b"data: 1\n\n" + sse_trailer(b"receipt")),
    ):
        for length in range(len(body)):
            splitter = Splitter(content_type)
            splitter.feed(body[:length])
            with pytest.raises(StreamTruncated):
                splitter.finish()


def test_a_receipt_that_is_not_at_the_end_does_not_count():
    assert split(EVENTS, sse_trailer(b"receipt") + b"data: more\n\n")[1] is None
    assert split(JSON, b'{"strongroom":"cmVjZWlwdA","more":1}')[1] is None
    assert split(JSON, append_to_json(b'{"a":1}', b"receipt") + b"x")[1] is None


@pytest.mark.parametrize(
    ("content_type", "text"),
    [
        (EVENTS, b'data: {"text":": strongroom-receipt cmVjZWlwdA\\n\\n"}\n\n'),
        (EVENTS, b"data: : strongroom-receipt cmVjZWlwdA\n\n"),
        (JSON, json.dumps({"text": ',"strongroom":"cmVjZWlwdA"}'}).encode()),
        (JSON, json.dumps({"text": ',"strongroom":"cmVjZWlwdA"}'}).encode()[:-2]),
    ],
)
def test_what_a_model_says_is_never_taken_for_a_receipt(content_type: str, text: bytes):
    assert split(content_type, text) == (text, None)


def test_a_stream_is_no_document_and_a_document_no_stream():
    """The content type travels in the clear; changing it on the way does not make an end of something."""
    assert split(JSON, DONE + sse_trailer(b"receipt"))[1] is None
    assert split(EVENTS, append_to_json(b'{"a":1}', b"receipt"))[1] is None


@pytest.mark.parametrize("content_type", ["", "text/plain", "application/octet-stream", "application/jsonp"])
def test_types_that_carry_no_receipt_are_refused(content_type: str):
    with pytest.raises(ChannelRefused):
        Splitter(content_type)
    with pytest.raises(ChannelRefused):
        split(content_type, b"")


@pytest.mark.parametrize("text", [b"A", b"AB==", b"AB"])
def test_receipts_that_are_no_canonical_base64url_are_no_receipts(text: bytes):
    body = b": strongroom-receipt " + text + b"\n\n"
    try:
        found = split(EVENTS, body)[1]
    except MalformedMessage:
        return
    assert found is None


def test_lines_and_endings_without_end_are_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(completion, "MAX_LINE", 1000)
    splitter = Splitter(EVENTS)
    splitter.feed(b"data: short\n\n" + b"x" * 900)
    with pytest.raises(MalformedMessage):
        splitter.feed(b"x" * 200)
    splitter = Splitter(EVENTS)
    splitter.feed(DONE)
    with pytest.raises(MalformedMessage):
        splitter.feed(b": \n" * completion.MAX_TRAILER)


LAST_EVENTS = [
    b"event: response.completed\ndata: {}\n\n",
    b"event: response.incomplete\ndata: {}\n\n",
    b'event: message_stop\ndata: {"type":"message_stop"}\n\n',
]


@pytest.mark.parametrize("last", LAST_EVENTS)
@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_each_apis_own_last_event_is_held_back_until_the_end(last: bytes, size: int):
    first = b"event: response.completed.not\ndata: event: message_stop\n\n"
    body = first + last + completion.sse_trailer(b"receipt")
    splitter = Splitter(EVENTS)
    told = b"".join(splitter.feed(body[at : at + size]) for at in range(0, len(body), size))
    assert told == first
    rest, proof = splitter.finish()
    assert told + rest == body
    assert proof.sealed_receipt == b"receipt"
    assert proof.response_sha256 == hashlib.sha256(first + last).digest()


def test_a_last_event_may_repeat_the_whole_answer():
    splitter = Splitter(EVENTS)
    long = b"event: response.completed\ndata: " + b"x" * 2 * completion.MAX_TRAILER + b"\n\n"
    assert splitter.feed(long) == b""
    rest, _ = splitter.finish() if splitter.feed(completion.sse_trailer(b"receipt")) == b"" else (b"", None)
    assert rest.startswith(long)


@pytest.mark.parametrize("body", [b"", b"[]", b"null", b"{", b'"{}"'])
def test_only_objects_take_a_receipt(body: bytes):
    with pytest.raises(MalformedMessage):
        append_to_json(body, b"receipt")
