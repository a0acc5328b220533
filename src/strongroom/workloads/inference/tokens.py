"""How many tokens a text has, asked as vLLM is asked (`POST /tokenize`) and answered as far as every engine can.

    {"prompt": text} or {"messages": […], "tools": […]}  ->  {"count": n, "max_model_len": null, "tokens": null}

Knows: the members. Does not know: engines; whoever counts reads the text as it would for an answer (`forms`).
Not covered: the tokens' numbers and the longest text that a model takes. An engine tells neither to who has it answer, so both are
null, never a guess; a member that would change what is counted is refused.
"""

from __future__ import annotations

from typing import Any

from strongroom.workloads.inference import chat, faults
from strongroom.workloads.inference.requests import invalid, items, one_of, only, text

PROMPT = "prompt"
_AS_ANSWERED = {"add_special_tokens": True, "add_generation_prompt": True, "return_token_strs": False}
"""What may be said since it is so anyway: a text is counted as the engine would read it, with all that it puts around."""


def operation(asked: dict[str, Any]) -> str:
    """The engine's operation that reads the same text."""
    return "completions" if PROMPT in asked else "chat.completions"


def translate(asked: dict[str, Any]) -> dict[str, Any]:
    """The completion whose prompt is counted. Raises `UsageError`."""
    only(asked, ("model", PROMPT, "messages", "tools", "stream", *_AS_ANSWERED))
    for name, so in _AS_ANSWERED.items():
        if asked.get(name, so) not in (so, None):
            raise invalid(name, f"can only be {str(so).lower()} here")
    if (PROMPT in asked) == ("messages" in asked):
        raise invalid(PROMPT, "or messages: exactly one of them must be there")
    if PROMPT not in asked:
        talk = items(asked["messages"], "messages")
        for at, message in enumerate(talk):
            one_of(message.get("role"), ("system", "developer", "user", "assistant", "tool"), f"messages.{at}.role")
        tools = {"tools": items(asked["tools"], "tools")} if asked.get("tools") else {}
        return {"messages": talk, **tools}
    if asked.get("tools"):
        raise invalid("tools", "belong to messages")
    return {PROMPT: text(asked[PROMPT], PROMPT)}


def render(answer: bytes, _asked: dict[str, Any], _model: str) -> bytes:
    """The count. Raises `EngineUnavailable` for an answer without one."""
    usage = chat.read(answer).usage
    if usage is None:
        raise chat.unfinished()
    return faults.encode({"count": usage.prompt, "max_model_len": None, "tokens": None})
