"""An engine's chat completion, whole or in pieces, as the other forms of the API read it.

Knows: which members of OpenAI's chat completions the other forms are made of. Does not know: those forms.
An engine runs what a stranger sealed, so its words are foreign bytes: anything else than a chat completion raises
`EngineUnavailable`. Not covered: several choices, log probabilities, and a model's thoughts (`reasoning_content`), which are left out.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from strongroom.errors import EngineUnavailable

_NAME = re.compile(r"[A-Za-z0-9]{1,64}\Z")
_MAX_CALLS = 128


@dataclass(frozen=True, slots=True)
class Usage:
    """Counts of tokens: of the prompt, of it those found in a cache, and of the answer."""

    prompt: int
    cached: int
    completion: int


@dataclass(frozen=True, slots=True)
class Call:
    """A tool call or a piece of one: in pieces, `id` and `name` stand in the first alone, `arguments` is what is added."""

    index: int
    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Said:
    """A whole answer or one piece of it. `finish` is "" in all pieces but one; `name` tells this answer from others."""

    name: str
    created: int
    text: str
    calls: tuple[Call, ...]
    finish: str
    usage: Usage | None


def read(data: bytes) -> Said:
    """A chat completion or a chunk of one. Raises `EngineUnavailable` for anything else."""
    try:
        answer = json.loads(data)
        choices = answer["choices"]
        choice = choices[0] if choices else {}
        message = choice.get("delta") or choice.get("message") or {}
        return Said(
            name=_name(answer.get("id")),
            created=_count(answer.get("created", 0)),
            text=_text(message.get("content")),
            calls=tuple(_call(at, call) for at, call in enumerate(message.get("tool_calls") or ())),
            finish=_text(choice.get("finish_reason")),
            usage=_usage(answer.get("usage")),
        )
    except (ValueError, LookupError, AttributeError, TypeError, RecursionError):
        raise EngineUnavailable("the engine's answer is not a chat completion") from None


def unfinished() -> EngineUnavailable:
    """The error of an answer that ends without saying why."""
    return EngineUnavailable("the engine's answer ended without its reason")


def _call(at: int, call: dict[str, Any]) -> Call:
    function = call.get("function") or {}
    index = _count(call.get("index", at))
    if index >= _MAX_CALLS:
        raise ValueError("more calls than anybody needs")
    return Call(index, _text(call.get("id")), _text(function.get("name")), _text(function.get("arguments")))


def _usage(usage: dict[str, Any] | None) -> Usage | None:
    if usage is None:
        return None
    cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0
    return Usage(_count(usage["prompt_tokens"]), _count(cached), _count(usage.get("completion_tokens", 0)))


def _name(identity: Any) -> str:
    """The part of an identity after its prefix: each form has a prefix of its own."""
    found = identity.rpartition("-")[2] if isinstance(identity, str) else ""
    return found if _NAME.match(found) else "0"


def _text(value: Any) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        raise TypeError("no text")
    return value


def _count(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 1 << 53:
        raise ValueError("no count")
    return value
