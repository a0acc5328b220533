"""The forms of the API: for each path, how a request reaches the engine and how its answer is told.

Knows: what a form is, and OpenAI's own that an engine speaks as they are. Does not know: receipts and padding (`answers`), HTTP.
Every form but `embeddings` and `tokenize` comes down to a chat completion or a completion, so that an engine needs no other words, and its
list of members that a request may have (`engines`) judges all of them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from strongroom.engines import steering
from strongroom.errors import StrongroomError
from strongroom.workloads.inference import chat, faults, messages, requests, responses, tokens

BROKEN = 500
"""The status that an answer which broke off would have had."""
DONE = b"data: [DONE]\n\n"
_STEERING = frozenset(
    {
        *("id_slot", "cache_prompt", "cache_salt", "lora", "model", "timings_per_token", "return_tokens", "slot_id"),
        steering.MEMBER,
    }
)
"""Members that steer the engine itself; a client has no say in these. The model is the one that is served."""


class Events(Protocol):
    """One streamed answer on its way from an engine's chunks to the events of a form."""

    def feed(self, chunk: bytes) -> bytes:
        """The events, each whole, that a chunk gives rise to; perhaps none. Raises `EngineUnavailable` for what is no chunk."""
        ...

    def finish(self) -> bytes:
        """The last events, among them the form's own end. Raises `EngineUnavailable` if the answer has none."""
        ...

    def fail(self, error: StrongroomError, status: int) -> bytes:
        """The form's own event for an answer that breaks off."""
        ...


@dataclass(frozen=True, slots=True)
class Form:
    """One path of the API.

    `operation` is the engine's; `translate` makes the engine's request and raises `UsageError`;
    `render` makes a whole answer of the engine's, given the request and the model's name; `events` is None where nothing is
    streamed; `fault` makes an error's body for a status; `ping` is the event that says nothing.
    """

    operation: str
    translate: Callable[[dict[str, Any]], dict[str, Any]]
    render: Callable[[bytes, dict[str, Any], str], bytes]
    events: Callable[[dict[str, Any], str], Events] | None
    fault: Callable[[StrongroomError, int], bytes] = faults.openai
    ping: bytes = b": ping\n\n"


class _AsTheyAre:
    """OpenAI's chunks, which engines make; the one with the usage only for whoever asked for it, since it has no choice in it."""

    def __init__(self, asked: dict[str, Any], _: str) -> None:
        options = asked.get("stream_options")
        self._usage = isinstance(options, dict) and options.get("include_usage") is True

    def feed(self, chunk: bytes) -> bytes:
        if not self._usage and b'"usage"' in chunk and _only_usage(chunk):
            return b""
        return b"data: " + chunk + b"\n\n"

    def finish(self) -> bytes:
        return DONE

    def fail(self, error: StrongroomError, status: int) -> bytes:
        return b"data: " + faults.openai(error, status) + b"\n\n"


def _only_usage(chunk: bytes) -> bool:
    try:
        return bool(json.loads(chunk).get("choices") == [])
    except (ValueError, AttributeError, RecursionError):
        return False


def _without_steering(asked: dict[str, Any]) -> dict[str, Any]:
    return {name: member for name, member in asked.items() if name not in _STEERING}


def _as_it_is(answer: bytes, _asked: dict[str, Any], _model: str) -> bytes:
    return answer


def _counting(translate: Callable[[dict[str, Any]], dict[str, Any]]) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """An engine counts a prompt by reading it; it goes on for one token, which nobody sees."""

    def counted(asked: dict[str, Any]) -> dict[str, Any]:
        if asked.get("stream"):
            raise requests.invalid("stream", "has no meaning here")
        return {**translate(asked), "max_tokens": 1}

    return counted


def _count(head: Mapping[str, Any]) -> Callable[[bytes, dict[str, Any], str], bytes]:
    def render(answer: bytes, _asked: dict[str, Any], _model: str) -> bytes:
        usage = chat.read(answer).usage
        if usage is None:
            raise chat.unfinished()
        return faults.encode({**head, "input_tokens": usage.prompt})

    return render


def _optional_limit(asked: dict[str, Any]) -> dict[str, Any]:
    """A request whose tokens are counted need not say how long the answer may be."""
    return messages.translate({"max_tokens": 1, **asked})


FORMS: Mapping[str, Form] = {
    "/v1/chat/completions": Form("chat.completions", _without_steering, _as_it_is, _AsTheyAre),
    "/v1/completions": Form("completions", _without_steering, _as_it_is, _AsTheyAre),
    "/v1/embeddings": Form("embeddings", _without_steering, _as_it_is, None),
    "/v1/responses": Form("chat.completions", responses.translate, responses.render, responses.ResponseEvents),
    "/v1/responses/input_tokens": Form(
        "chat.completions", _counting(responses.translate), _count({"object": "response.input_tokens"}), None
    ),
    "/v1/tokenize": Form(tokens.OPERATION, tokens.translate, tokens.render, None),
    "/v1/messages": Form(
        "chat.completions",
        messages.translate,
        messages.render,
        messages.MessageEvents,
        faults.anthropic,
        messages.PING,
    ),
    "/v1/messages/count_tokens": Form(
        "chat.completions", _counting(_optional_limit), _count({}), None, faults.anthropic
    ),
}
"""By path."""


def form_of(path: str) -> Form:
    """The form in which whoever asks for `path` expects its errors, also where there is nothing."""
    if path in FORMS:
        return FORMS[path]
    return FORMS["/v1/messages" if path.startswith("/v1/messages") else "/v1/chat/completions"]


def broken_off(path: str, error: StrongroomError) -> bytes:
    """The event of an answer that broke off on its way, for who is between a client and the worker."""
    form = form_of(path)
    events = form.events or _AsTheyAre
    return events({}, "").fail(error, BROKEN)
