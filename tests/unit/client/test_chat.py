import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strongroom.client import chat
from strongroom.errors import EngineUnavailable, MalformedMessage, ServiceUnavailable, StrongroomError, UsageError

ANSWER = b'data: {"choices":[{"delta":{"content":"a"}}]}\n:   \n\ndata: {"choices":[{"delta":{"content":"b"}}]}\n\ndata: [DONE]\n\n'


@given(st.lists(st.integers(0, len(ANSWER)), max_size=6))
def test_pieces_come_out_the_same_however_the_answer_was_cut(cuts):
    edges = [0, *sorted(cuts), len(ANSWER)]
    lines = chat.Lines()
    assert [p for a, b in itertools.pairwise(edges) for p in lines.feed(ANSWER[a:b])] == ["a", "b"]


@given(st.recursive(st.none() | st.integers() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)))
def test_an_event_of_any_shape_is_read_or_refused(value):
    for event in (value, {"choices": value}, {"error": value}, {"choices": [value]}, {"choices": [{"delta": value}]}):
        try:
            list(chat.Lines().feed(b"data: " + json.dumps(event).encode() + b"\n"))
        except StrongroomError:
            pass


def test_an_error_in_the_protocol_is_raised():
    with pytest.raises(EngineUnavailable, match="broken"):
        list(chat.Lines().feed(b'data: {"error":{"message":"broken"}}\n'))


def test_a_line_without_an_end_is_refused():
    with pytest.raises(MalformedMessage):
        list(chat.Lines().feed(b"x" * (chat.MAX_LINE + 1)))


def test_a_status_that_is_no_yes_is_raised_with_its_reason():
    chat.require_ok(200, b"")
    for body in (b"", b"nonsense", b'{"error":{"message":"no"}}', b'{"error":"no"}', b"[]"):
        with pytest.raises(ServiceUnavailable):
            chat.require_ok(503, body)


@pytest.mark.parametrize("status", [400, 404, 413])
def test_a_request_that_is_to_blame_is_not_told_that_the_worker_is_away(status: int):
    with pytest.raises(UsageError) as refused:
        chat.require_ok(status, b'{"error":{"message":"too many words"}}')
    assert (refused.value.detail, refused.value.remedy) == ("too many words", "Change the request.")


@pytest.mark.parametrize(("status", "word"), [(401, "key"), (402, "wallet"), (429, "later"), (500, "service runs")])
def test_each_other_no_says_what_to_do(status: int, word: str):
    with pytest.raises(ServiceUnavailable) as refused:
        chat.require_ok(status, b"")
    assert word in refused.value.remedy
