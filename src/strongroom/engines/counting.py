"""How many tokens a text has, by an engine that does not say which: it reads the text for an answer of one token, which nobody sees.

Knows: the request that this takes, and the count in its answer. Does not know: engines.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from strongroom.errors import EngineUnavailable

OPERATION = "tokenize"
MEMBERS = frozenset({"prompt", "messages", "tools"})


def reading(request: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """The operation and the request that read the same text."""
    return ("completions" if "prompt" in request else "chat.completions"), {**request, "max_tokens": 1}


def counted(answer: str | bytes, *, longest: int | None = None) -> dict[str, Any]:
    """What the engine's `answer` to that says of the text. Raises `EngineUnavailable` where it says nothing."""
    try:
        usage = json.loads(answer)["usage"]
        count = usage["prompt_tokens"]
    except (ValueError, LookupError, TypeError, RecursionError):
        count = None
    if type(count) is not int:
        raise EngineUnavailable("the engine did not say how many tokens it read")
    return {"count": count, "max_model_len": longest, "tokens": None, "usage": usage}
