"""How many tokens a text has, and which, asked and answered as vLLM does (`POST /tokenize`).

    {"prompt": text} or {"messages": […], "tools": […]}  ->  {"count": n, "max_model_len": n or null, "tokens": […] or null}

Knows: the members. Does not know: engines; each says what it can, and null for what it cannot (`engines.port`).
Not covered: tokens as texts. A member that would change what is counted is refused.
"""

from __future__ import annotations

import json
from typing import Any

from strongroom.errors import EngineUnavailable
from strongroom.workloads.inference import faults
from strongroom.workloads.inference.requests import invalid, items, one_of, only, text

OPERATION = "tokenize"
_AS_ANSWERED = {"add_special_tokens": True, "add_generation_prompt": True, "return_token_strs": False}
"""What may be said since it is so anyway: a text is counted as the engine would read it, with all that it puts around."""
_MOST = 1 << 32


def translate(asked: dict[str, Any]) -> dict[str, Any]:
    """What an engine is asked. Raises `UsageError`."""
    only(asked, ("model", "prompt", "messages", "tools", *_AS_ANSWERED))
    for name, so in _AS_ANSWERED.items():
        if asked.get(name, so) not in (so, None):
            raise invalid(name, f"can only be {str(so).lower()} here")
    if ("prompt" in asked) == ("messages" in asked):
        raise invalid("prompt", "or messages: exactly one of them must be there")
    if "prompt" in asked:
        if asked.get("tools"):
            raise invalid("tools", "belong to messages")
        return {"prompt": text(asked["prompt"], "prompt")}
    talk = items(asked["messages"], "messages")
    if not talk:
        raise invalid("messages", "must hold a message")
    for at, message in enumerate(talk):
        one_of(message.get("role"), ("system", "developer", "user", "assistant", "tool"), f"messages.{at}.role")
    tools = {"tools": items(asked["tools"], "tools")} if asked.get("tools") else {}
    return {"messages": talk, **tools}


def render(answer: bytes, _asked: dict[str, Any], _model: str) -> bytes:
    """What the engine said, and nothing else of it. Raises `EngineUnavailable` for what is no such answer."""
    try:
        said = json.loads(answer)
        count, longest, tokens = said["count"], said["max_model_len"], said["tokens"]
    except (ValueError, LookupError, TypeError, RecursionError):
        raise _strange() from None
    listed = isinstance(tokens, list) and len(tokens) == count and all(map(_is_number, tokens))
    if not _is_number(count) or not (longest is None or _is_number(longest)) or not (tokens is None or listed):
        raise _strange()
    return faults.encode({"count": count, "max_model_len": longest, "tokens": tokens})


def _is_number(value: Any) -> bool:
    return type(value) is int and 0 <= value < _MOST


def _strange() -> EngineUnavailable:
    return EngineUnavailable("the engine's answer is no count of tokens")
