"""Padding in the slack of two formats."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai._streaming import SSEDecoder

from strongroom.channel.padding import closing_brace, pad_event, pad_json
from strongroom.errors import MalformedMessage

modest = settings(max_examples=50, deadline=None)
documents = st.dictionaries(st.text(max_size=5), st.text(max_size=200) | st.integers() | st.none(), max_size=4)


@modest
@given(text=st.text(max_size=600), bucket=st.integers(1, 600))
def test_events_become_multiples_of_the_bucket_and_mean_the_same(text: str, bucket: int):
    event = b"data: " + json.dumps(text).encode() + b"\n\n"
    padded = pad_event(event, bucket)
    assert len(padded) % bucket == 0
    assert 0 <= len(padded) - len(event) <= bucket + 1
    assert [sse.data for sse in SSEDecoder().iter_bytes(iter([padded]))] == [json.dumps(text)]


def test_every_event_shorter_than_the_bucket_has_one_length():
    assert {len(pad_event(b"data: " + b"x" * n + b"\n\n", 64)) for n in range(55)} == {64}


def test_an_event_that_fits_stays_as_it_is():
    event = b"data: 12345678\n\n"
    assert pad_event(event, 16) is event


@pytest.mark.parametrize("missing", [1, 2, 3])
def test_where_too_little_room_is_left_for_a_comment_the_next_bucket_is_taken(missing: int):
    event = b"data: " + b"x" * (64 - missing - 8) + b"\n\n"
    assert len(pad_event(event, 64)) == (128 if missing == 1 else 64)


@pytest.mark.parametrize("event", [b"", b"\n", b"data: half", b"data: half\n"])
def test_half_an_event_is_not_padded(event: bytes):
    with pytest.raises(MalformedMessage):
        pad_event(event)


@modest
@given(document=documents, indent=st.none() | st.integers(0, 2), after=st.sampled_from(["", "\n", " \r\n"]))
def test_objects_become_multiples_of_the_bucket_and_mean_the_same(document: dict, indent: int | None, after: str):
    body = (json.dumps(document, indent=indent) + after).encode()
    padded = pad_json(body, 128)
    assert len(padded) % 128 == 0
    assert json.loads(padded) == document


@pytest.mark.parametrize("body", [b"", b"}", b"[]", b"null", b'"}"', b"{", b"{} x", b" } "])
def test_what_is_no_object_has_no_closing_brace(body: bytes):
    with pytest.raises(MalformedMessage):
        closing_brace(body)
