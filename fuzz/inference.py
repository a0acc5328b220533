"""What users ask a worker and what an engine says: requests of each form, chat completions whole and in pieces."""

from contextlib import suppress

from harness import instrumented, run

with instrumented():
    import json

    from strongroom.engines import forced
    from strongroom.errors import StrongroomError
    from strongroom.workloads.inference import requests
    from strongroom.workloads.inference.forms import FORMS

TOLD = tuple(form for path, form in FORMS.items() if path in {"/v1/responses", "/v1/messages"})


def one(data: bytes) -> None:
    for form in TOLD:
        asked = {}
        with suppress(StrongroomError):
            asked = requests.parse(data)
            request = form.translate(asked)
            json.dumps(request, allow_nan=False)
            with suppress(forced.NotForced):
                forced.constrained(request)
        with suppress(StrongroomError):
            json.loads(form.render(data, {}, "m"))
        if form.events is None:
            continue
        with suppress(StrongroomError):
            events = form.events(asked, "m")
            told = events.feed(data) + events.feed(data) + events.finish()
            if not told.endswith(b"\n\n"):
                raise AssertionError(told)


def seeds() -> list[bytes]:
    function = {"name": "weather", "description": "d", "parameters": {"type": "object"}}
    call = {"index": 0, "id": "call_a", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
    usage = {"prompt_tokens": 5, "completion_tokens": 7, "prompt_tokens_details": {"cached_tokens": 2}}
    said = {"content": "Paris", "tool_calls": [call]}
    schema = {"type": "json_schema", "name": "n", "schema": {"type": "object"}}
    asked = [
        {
            "input": [
                {"role": "user", "content": [{"type": "input_text", "text": "x"}]},
                {"type": "function_call", "call_id": "call_a", "name": "weather", "arguments": "{}"},
                {"type": "function_call_output", "call_id": "call_a", "output": "sunny"},
            ],
            "instructions": "i", "max_output_tokens": 9, "text": {"format": schema},
            "tools": [{"type": "function", **function}], "tool_choice": "required",
        },
        {
            "messages": [
                {"role": "user", "content": "x"},
                {"role": "assistant", "content": [{"type": "tool_use", "id": "a", "name": "weather", "input": {}}]},
                {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "a", "content": "sunny"}]},
            ],
            "system": [{"type": "text", "text": "s"}], "max_tokens": 9, "stop_sequences": ["x"],
            "tools": [{"name": "weather", "input_schema": {"type": "object"}}], "tool_choice": {"type": "any"},
            "output_config": {"format": {"type": "json_schema", "schema": {}}},
        },
        {"id": "chatcmpl-A1", "created": 1, "choices": [{"message": said, "finish_reason": "tool_calls"}], "usage": usage},
        {"id": "chatcmpl-A1", "created": 1, "choices": [{"delta": said, "finish_reason": "length"}], "usage": usage},
    ]  # fmt: skip
    return [json.dumps(seed).encode() for seed in asked]


if __name__ == "__main__":
    run(one, seeds)
