import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from talking import CALLS, chunk, chunks, whole
from world import WORDS

from strongroom.errors import EngineUnavailable
from strongroom.workloads.inference import chat, messages, responses

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
PLACES = (("id",), ("created",), ("choices",), ("usage",), ("choices", 0), ("choices", 0, "message"),
          ("choices", 0, "finish_reason"), ("choices", 0, "message", "tool_calls"), ("choices", 0, "message", "content"),
          ("choices", 0, "message", "tool_calls", 0), ("usage", "prompt_tokens"), ("usage", "prompt_tokens_details"))  # fmt: skip


def test_pieces_add_up_to_the_whole():
    pieces = [chat.read(piece) for piece in chunks(calls=True)]
    answer = chat.read(whole(calls=True))
    assert "".join(piece.text for piece in pieces) == answer.text == "".join(WORDS)
    assert [call.arguments for call in answer.calls] == ["".join(told) for _, _, told in CALLS]
    assert [piece.finish for piece in pieces if piece.finish] == [answer.finish] == ["tool_calls"]
    assert pieces[-1].usage == answer.usage == chat.Usage(5, 2, 7)


@given(st.sampled_from(PLACES), JSON)
def test_an_engine_may_say_anything_and_only_one_error_comes_of_it(place: tuple[str | int, ...], value: object):
    answer = json.loads(whole(calls=True))
    *way, last = place
    inner = answer
    for step in way:
        inner = inner[step]
    inner[last] = value
    data = json.dumps(answer).encode()
    for render in (messages.render, responses.render):
        try:
            told = json.loads(render(data, {}, "m"))
        except EngineUnavailable:
            continue
        assert told["model"] == "m"


@given(st.binary(max_size=100))
def test_whatever_the_bytes_an_engines_answer_is_read_or_refused(data: bytes):
    for events in (messages.MessageEvents({}, "m"), responses.ResponseEvents({}, "m")):
        try:
            events.feed(data)
        except EngineUnavailable:
            continue


@pytest.mark.parametrize("events", [messages.MessageEvents, responses.ResponseEvents])
def test_an_answer_without_its_reason_has_no_end(events):
    told = events({}, "m")
    with pytest.raises(EngineUnavailable):
        told.finish()
    told.feed(chunk({"content": "x"}))
    with pytest.raises(EngineUnavailable):
        told.finish()
    told.feed(chunk({}, "odd"))
    with pytest.raises(EngineUnavailable):
        told.finish()


@pytest.mark.parametrize("events", [messages.MessageEvents, responses.ResponseEvents])
def test_every_event_is_whole_and_named_as_its_type_says(events):
    told = events({}, "m")
    text = b"".join([told.feed(piece) for piece in chunks(calls=True)]) + told.finish()
    assert text.endswith(b"\n\n")
    for event in text[:-2].split(b"\n\n"):
        name, data = event.split(b"\n")
        assert json.loads(data.removeprefix(b"data: "))["type"] == name.removeprefix(b"event: ").decode()


def test_a_tool_called_with_something_that_is_no_object_is_an_error_of_the_engine():
    answer = json.loads(whole(calls=True))
    answer["choices"][0]["message"]["tool_calls"][0]["function"]["arguments"] = "[1"
    with pytest.raises(EngineUnavailable):
        messages.render(json.dumps(answer).encode(), {}, "m")
