import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strongroom.errors import EngineUnavailable, MalformedMessage, UsageError
from strongroom.workloads.inference import messages, requests, responses
from strongroom.workloads.inference.forms import FORMS

SAY = [{"role": "user", "content": "x"}]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
TALK = {
    "/v1/messages": {"messages": SAY, "max_tokens": 1},
    "/v1/messages/count_tokens": {"messages": SAY},
    "/v1/responses": {"input": "x"},
    "/v1/responses/input_tokens": {"input": "x"},
    "/v1/tokenize": {"messages": SAY},
}
BLOCKS = st.fixed_dictionaries(
    {"type": st.sampled_from(["text", "tool_use", "tool_result", "thinking", "image", "function_call", "message"])},
    optional={
        "text": JSON,
        "id": JSON,
        "name": JSON,
        "input": JSON,
        "content": JSON,
        "role": JSON,
        "tool_use_id": JSON,
    },
)


@given(st.binary(max_size=200))
def test_whatever_the_bytes_the_outcome_is_an_object_or_our_error(body: bytes):
    try:
        found = requests.parse(body)
    except MalformedMessage:
        return
    assert isinstance(found, dict)


@pytest.mark.parametrize("path", TALK)
@given(st.data())
def test_whatever_the_object_the_outcome_is_a_request_or_our_error(path: str, data: st.DataObject):
    form, base = FORMS[path], TALK[path]
    name = data.draw(st.sampled_from(sorted({*messages._OWN, *messages._SAME, *responses._OWN, *responses._SAME})))
    value = data.draw(JSON | st.lists(BLOCKS, max_size=3) | st.just([{"role": "user", "content": data.draw(JSON)}]))
    try:
        request = form.translate({**base, name: value})
    except UsageError:
        return
    assert request["messages"]
    json.dumps(request, allow_nan=False).encode()


WRONG = {
    "/v1/messages": [
        {"max_tokens": None}, {"max_tokens": "9"}, {"max_tokens": True}, {"messages": []}, {"messages": "x"}, {"messages": [5]},
        {"messages": [{"role": "tool", "content": "x"}]}, {"messages": [{"role": "user", "content": None}]},
        {"messages": [{"role": "user", "content": [{"type": "image", "source": {}}]}]},
        {"messages": [{"role": "user", "content": [{"type": "tool_use", "id": "a", "name": "b", "input": {}}]}]},
        {"messages": [{"role": "assistant", "content": [{"type": "tool_result", "tool_use_id": "a"}]}]},
        {"messages": [{"role": "user", "content": "\ud800"}]}, {"messages": [{"role": "user", "content": "x", "odd": 1}]},
        {"system": 5}, {"system": [{"type": "image"}]}, {"stop_sequences": "x"}, {"stop_sequences": [5]},
        {"tools": 5}, {"tools": [{"name": "a"}]}, {"tools": [{"type": "bash_20250124", "name": "bash"}]},
        {"tool_choice": "auto"}, {"tool_choice": {"type": "tool"}}, {"output_config": {"format": {"type": "odd"}}},
        {"output_config": {"odd": 1}}, {"thinking": {"type": "enabled", "budget_tokens": 1024}}, {"container": "c"},
        {"id_slot": 1}, {"cache_prompt": True},
    ],
    "/v1/responses": [
        {"input": None}, {"input": []}, {"input": 5}, {"input": [5]}, {"input": "\ud800"}, {"input": [{"role": "tool", "content": "x"}]},
        {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}]},
        {"input": [{"type": "item_reference", "id": "x"}]}, {"input": [{"type": "function_call", "name": "x"}]},
        {"instructions": 5}, {"tools": [{"type": "web_search"}]}, {"tools": "x"}, {"tool_choice": "odd"},
        {"tool_choice": {"type": "web_search"}}, {"text": 5}, {"text": {"format": {"type": "grammar"}}}, {"text": {"odd": 1}},
        {"text": {"format": {"type": "json_schema", "schema": 5}}}, {"previous_response_id": "r"}, {"background": True},
        {"conversation": "c"}, {"truncation": "auto"}, {"include": ["file_search_call.results"]}, {"include": 5},
        {"id_slot": 1}, {"cache_prompt": True},
    ],
    "/v1/tokenize": [
        {"prompt": "x"}, {"messages": 5}, {"messages": []}, {"messages": [5]}, {"messages": [{"role": "odd"}]},
        {"messages": [{"role": []}]}, {"tools": "x"}, {"stream": True}, {"add_special_tokens": False},
        {"add_generation_prompt": 0.5}, {"return_token_strs": True}, {"max_tokens": 5}, {"chat_template": "x"},
        {"id_slot": 1}, {"cache_prompt": True},
    ],
}  # fmt: skip


@pytest.mark.parametrize(
    ("path", "wrong"), [(path, wrong) for path, all_of in WRONG.items() for wrong in all_of], ids=str
)
def test_a_member_of_the_wrong_type_or_without_a_meaning_is_refused_by_its_name(path: str, wrong: dict[str, object]):
    base = {**TALK[path], **wrong}
    with pytest.raises(UsageError) as refused:
        FORMS[path].translate({name: value for name, value in base.items() if value is not None})
    assert next(iter(wrong)) in refused.value.message
    assert "\ud800" not in refused.value.message


def test_depth_is_bounded_and_width_is_not():
    at_most = b"[" * (requests.MAX_DEPTH - 1) + b"]" * (requests.MAX_DEPTH - 1)
    assert requests.parse(b'{"x":' + at_most + b"}")
    with pytest.raises(MalformedMessage):
        requests.parse(b'{"x":[' + at_most + b"]}")
    assert len(requests.parse(b'{"x":[' + b"{}," * 1000 + b"{}]}")["x"]) == 1001


def test_what_openai_and_anthropic_keep_books_with_is_taken_and_left_out():
    asked = {**TALK["/v1/responses"], "model": "m", "store": True, "user": "u", "metadata": {"a": "b"}, "reasoning": {}}
    assert responses.translate(asked) == {"messages": SAY}
    asked = {**TALK["/v1/messages"], "model": "m", "metadata": {"user_id": "u"}, "thinking": {"type": "disabled"}}
    assert messages.translate(asked) == {"messages": SAY, "max_tokens": 1}


def test_to_count_tokens_a_text_or_a_talk_is_read_and_one_of_them_alone():
    form = FORMS["/v1/tokenize"]
    as_it_is_anyway = {
        "model": "m",
        "add_special_tokens": True,
        "add_generation_prompt": None,
        "return_token_strs": False,
    }
    assert form.translate({"prompt": "", **as_it_is_anyway}) == {"prompt": ""}
    asked = {"messages": SAY, "tools": [{"type": "function"}]}
    assert form.translate({**asked, **as_it_is_anyway}) == asked
    for wrong in ({}, {"prompt": 5}, {"prompt": [1, 2]}, {"prompt": "\ud800"}, {"prompt": "x", "tools": [{}]}):
        with pytest.raises(UsageError):
            form.translate(wrong)


@pytest.mark.parametrize(
    "said",
    [{}, [], {"count": -1}, {"count": True}, {"count": 2, "tokens": [1]}, {"count": 1, "tokens": ["x"]},
     {"count": 1, "tokens": "x"}, {"count": 1, "max_model_len": "9"}, {"count": 1.0}],
    ids=str,
)  # fmt: skip
def test_a_count_that_no_engine_gave_is_no_count(said):
    answer = {"max_model_len": None, "tokens": None, **said} if isinstance(said, dict) else said
    with pytest.raises(EngineUnavailable):
        FORMS["/v1/tokenize"].render(json.dumps(answer).encode(), {}, "m")
    good = {"count": 1, "max_model_len": 9, "tokens": [7]}
    assert json.loads(FORMS["/v1/tokenize"].render(json.dumps({**good, "usage": {}}).encode(), {}, "m")) == good


@pytest.mark.parametrize("value", ["yes", 1, [], {}])
def test_a_wish_for_events_is_yes_or_no(value):
    assert requests.streams({"stream": True})
    assert not requests.streams({"stream": None})
    assert not requests.streams({})
    with pytest.raises(UsageError, match="stream must be"):
        requests.streams({"stream": value})


@pytest.mark.parametrize("limit", [0, -1, 1.5, True, "9"])
def test_a_response_of_no_length_is_refused_and_not_taken_for_one_without_end(limit):
    with pytest.raises(UsageError, match="max_output_tokens must be"):
        responses.translate({"input": "x", "max_output_tokens": limit})
