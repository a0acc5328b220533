import json

import pytest

from strongroom.engines.forced import CallsOut, NotForced, as_call, constrained, is_forced, without_tools

WEATHER = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}
CLOCK = {"type": "function", "function": {"name": "clock"}}
BOTH = {"messages": [{"role": "user", "content": "x"}], "tools": [WEATHER, CLOCK], "tool_choice": "required"}
CALL = '{"name": "weather", "arguments": {"city": "Paris"}}'


def test_only_a_call_that_must_be_is_forced():
    assert is_forced(BOTH)
    assert is_forced({"tool_choice": {"type": "function", "function": {"name": "clock"}}})
    assert not any(is_forced({"tool_choice": choice}) for choice in ("auto", "none", None))
    assert not is_forced({"tools": [CLOCK]})


def test_the_answer_must_have_the_shape_of_one_of_the_tools():
    made = constrained(BOTH)
    assert not {"tools", "tool_choice"} & made.keys()
    shapes = made["response_format"]["json_schema"]["schema"]["anyOf"]
    assert [shape["properties"]["name"] for shape in shapes] == [{"const": "weather"}, {"const": "clock"}]
    assert "clock" in made["messages"][0]["content"]
    assert made["messages"][1:] == BOTH["messages"]


def test_a_tool_chosen_by_name_is_the_only_one_and_the_systems_words_stay():
    talk = [{"role": "system", "content": "be brief"}, *BOTH["messages"]]
    choice = {"type": "function", "function": {"name": "clock"}}
    made = constrained({**BOTH, "messages": talk, "tool_choice": choice})
    assert made["response_format"]["json_schema"]["schema"]["properties"]["name"] == {"const": "clock"}
    assert made["messages"][0]["content"].startswith("be brief\n\n")
    assert len(made["messages"]) == len(talk)


@pytest.mark.parametrize(
    "wrong",
    [{"tools": []}, {"tools": None}, {"tools": [5]}, {"tools": [{"function": {"name": 5}}]}, {"messages": "x"},
     {"messages": [5]}, {"tool_choice": {"type": "function", "function": {"name": "other"}}}, {"tool_choice": {}},
     {"response_format": {"type": "text"}}, {"grammar": "root ::= [a]"}, {"n": 2}],
    ids=str,
)  # fmt: skip
def test_what_cannot_be_forced_is_refused(wrong: dict[str, object]):
    with pytest.raises(NotForced):
        constrained({**BOTH, **wrong})


def test_who_wants_no_call_gets_words():
    assert without_tools({**BOTH, "tool_choice": "none"}) == {"messages": BOTH["messages"]}
    assert without_tools({"messages": [], "tools": [], "tool_choice": "auto"}) == {"messages": []}


@pytest.mark.parametrize("choice", [{}, {"tool_choice": "auto"}, {"tool_choice": None}], ids=str)
def test_a_call_that_is_left_to_the_model_is_refused_with_what_may_be_asked(choice: dict[str, object]):
    with pytest.raises(NotForced, match='"required", to a function, or to "none"'):
        without_tools({"messages": [], "tools": [CLOCK], **choice})


@pytest.mark.parametrize("text", ["", "{", "[]", "5", '{"name": "x"}', '{"arguments": {}}'])
def test_half_a_call_is_none(text: str):
    assert as_call(text) == []


def emitted(*answers: dict[str, object]) -> list[dict[str, object]]:
    told: list[dict[str, object]] = []
    out = CallsOut(lambda text: bool(told.append(json.loads(text))))
    for answer in answers:
        assert out(json.dumps(answer)) is False
    return told


def test_a_whole_answer_becomes_a_call():
    (told,) = emitted({"choices": [{"finish_reason": "stop", "message": {"role": "assistant", "content": CALL}}]})
    choice = told["choices"][0]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["content"] is None
    assert choice["message"]["tool_calls"][0]["function"] == {"name": "weather", "arguments": '{"city": "Paris"}'}


def test_a_streamed_answer_becomes_a_call_in_its_last_piece_and_no_text():
    pieces = [
        {"choices": [{"finish_reason": None, "delta": {"content": CALL[at : at + 5]}}]} for at in range(0, len(CALL), 5)
    ]
    *told, last, usage = emitted(
        *pieces, {"choices": [{"finish_reason": "stop", "delta": {}}]}, {"choices": [], "usage": {}}
    )
    assert all(piece["choices"][0]["delta"] == {} for piece in told)
    assert last["choices"][0]["delta"]["tool_calls"][0]["function"]["name"] == "weather"
    assert last["choices"][0]["finish_reason"] == "tool_calls"
    assert usage == {"choices": [], "usage": {}}


def test_an_answer_that_was_cut_is_no_call():
    cut = {"choices": [{"finish_reason": "length", "message": {"role": "assistant", "content": CALL[:20]}}]}
    assert emitted(cut) == [cut]
