import json

import pytest

pytest.importorskip("xllamacpp", reason="missing program: libgomp.so.1, which xllamacpp needs", exc_type=ImportError)

from strongroom.engines.child import Rejected
from strongroom.engines.llama import LlamaAdapter, check_request, check_settings
from strongroom.errors import UsageError


def test_settings_have_defaults_but_the_name_must_be_given():
    checked = check_settings({"name": "small"})
    assert checked["jinja"] == 0
    assert checked["cache_prompt"] == 0
    with pytest.raises(UsageError, match="name"):
        check_settings({})


@pytest.mark.parametrize(
    "wrong",
    [{"context": 0}, {"context": "2048"}, {"slots": 0}, {"slots": 65}, {"jinja": 2}, {"threads": True}, {"name": 5},
     {"embeddings": 2}, {"pooling": "odd"}, {"pooling": 1}, {"chat_template": 1}, {"slot_save_path": "slots"}],
    ids=str,
)  # fmt: skip
def test_a_setting_that_is_unknown_or_out_of_bounds_is_refused(wrong: dict[str, object]):
    with pytest.raises(UsageError):
        check_settings({"name": "small"} | wrong)


@pytest.mark.parametrize(
    "member", ["id_slot", "cache_prompt", "slot_id", "lora", "cache_salt", "strongroom", "return_tokens", "n_keep", ""]
)
def test_a_member_that_steers_the_engine_itself_is_rejected(member: str):
    with pytest.raises(Rejected) as rejection:
        check_request("chat.completions", {"messages": [], member: 1})
    assert json.loads(str(rejection.value))["error"]["code"] == 400


def test_a_cache_and_embeddings_exclude_each_other():
    assert check_settings({"name": "small", "cache_prompt": 1})["cache_prompt"] == 1
    with pytest.raises(UsageError, match="cache"):
        check_settings({"name": "small", "cache_prompt": 1, "embeddings": 1})


def test_a_long_unknown_name_is_not_repeated_in_full():
    with pytest.raises(Rejected) as rejection:
        check_request("completions", {"x" * 1000: 1})
    assert "x" * 41 not in str(rejection.value)


def test_bookkeeping_is_dropped_and_the_rest_goes_through():
    asked = {"messages": [], "model": "any", "user": "me", "temperature": 0}
    assert check_request("chat.completions", asked) == {"messages": [], "temperature": 0}


def test_members_of_one_operation_are_unknown_to_the_other():
    with pytest.raises(Rejected):
        check_request("completions", {"messages": []})
    with pytest.raises(Rejected):
        check_request("chat.completions", {"prompt": ""})


def test_embeddings_are_asked_for_without_sampling():
    asked = {"input": ["x"], "model": "any", "encoding_format": "base64"}
    assert check_request("embeddings", asked) == {"input": ["x"], "encoding_format": "base64"}
    for member in ("temperature", "dimensions", "embd_normalize"):
        with pytest.raises(Rejected):
            check_request("embeddings", {"input": "x", member: 1})


def test_tokens_are_counted_of_a_text_or_a_talk_without_sampling():
    for asked in ({"prompt": "x"}, {"messages": [], "tools": []}):
        assert check_request("tokenize", asked) == asked
    with pytest.raises(Rejected):
        check_request("tokenize", {"prompt": "x", "max_tokens": 5})


def test_an_unknown_operation_is_rejected():
    with pytest.raises(Rejected) as rejection:
        check_request("slots", {})
    assert json.loads(str(rejection.value))["error"]["code"] == 404


def test_a_request_before_a_model_is_rejected():
    with pytest.raises(Rejected):
        LlamaAdapter().run("completions", {"prompt": ""}, lambda _: False)
