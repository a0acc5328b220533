"""A tool that must be called: where a library takes `tool_choice` and does not see to it, a schema does.

Knows: how a request that forces a call becomes one whose answer has the call's shape, and how that answer becomes a call again.
Does not know: any library. Not covered: a call in pieces: it is told at once, when it is whole.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Mapping
from typing import Any

_FORCING = ("tools", "tool_choice", "parallel_tool_calls")
_CONSTRAINTS = ("response_format", "grammar", "json_schema")


class NotForced(ValueError):
    """A request for a call that cannot be forced: of no tool there is, with what it cannot go with, or left to the model.

    The message says which.
    """


def is_forced(request: Mapping[str, Any]) -> bool:
    """Whether the answer must be a call."""
    return request.get("tool_choice") == "required" or isinstance(request.get("tool_choice"), dict)


def constrained(request: Mapping[str, Any]) -> dict[str, Any]:
    """The request for an answer of the call's shape, in place of one that forces a call. Raises `NotForced`."""
    clash = [name for name in _CONSTRAINTS if name in request]
    if clash or request.get("n", 1) != 1:
        raise NotForced(f"a forced tool call cannot be combined with {clash[0] if clash else 'n'}")
    functions = _functions(request)
    shapes = [_shape(function) for function in functions]
    schema = shapes[0] if len(shapes) == 1 else {"anyOf": shapes}
    kept = {name: member for name, member in request.items() if name not in _FORCING}
    kept["messages"] = _told(request.get("messages"), functions)
    kept["response_format"] = {"type": "json_schema", "json_schema": {"name": "call", "schema": schema}}
    return kept


def without_tools(request: Mapping[str, Any]) -> dict[str, Any]:
    """The request of somebody who wants no call, for a model that is told of no tools.

    Raises `NotForced` where the model should choose: it would never call anything, and nobody would know why.
    """
    if request.get("tools") and request.get("tool_choice") != "none":
        raise NotForced(
            'this model cannot choose whether to call a tool: set tool_choice to "required", to a function, or to "none"'
        )
    return {name: member for name, member in request.items() if name not in _FORCING}


def as_call(text: str) -> list[dict[str, Any]]:
    """The one call in an answer of the call's shape; none if the answer ended before it was whole."""
    try:
        said = json.loads(text)
        function = {"name": said["name"], "arguments": json.dumps(said["arguments"])}
    except (ValueError, LookupError, TypeError, RecursionError):
        return []
    return [{"id": f"call_{secrets.token_hex(12)}", "type": "function", "function": function}]


class CallsOut:
    """Stands before an `emit` (see `child.Adapter`) and turns answers of the call's shape into calls, whole or streamed."""

    def __init__(self, emit: Callable[[str], bool]) -> None:
        self._emit = emit
        self._text = ""

    def __call__(self, text: str) -> bool:
        answer = json.loads(text)
        for choice in answer.get("choices", ()):
            if "message" in choice:
                self._text = choice["message"].get("content") or ""
                self._end(choice, choice["message"])
            else:
                self._text += choice["delta"].pop("content", None) or ""
                if choice.get("finish_reason") is not None:
                    self._end(choice, choice["delta"])
        return self._emit(json.dumps(answer, separators=(",", ":")))

    def _end(self, choice: dict[str, Any], said: dict[str, Any]) -> None:
        if calls := as_call(self._text):
            said |= {"content": None, "tool_calls": [{"index": at, **call} for at, call in enumerate(calls)]}
            choice["finish_reason"] = "tool_calls"


def _functions(request: Mapping[str, Any]) -> list[dict[str, Any]]:
    tools, choice = request.get("tools"), request.get("tool_choice")
    found = [tool.get("function") for tool in tools if isinstance(tool, dict)] if isinstance(tools, list) else []
    functions = [function for function in found if isinstance(function, dict) and isinstance(function.get("name"), str)]
    if isinstance(choice, dict):
        named = choice.get("function")
        wanted = named.get("name") if isinstance(named, dict) else None
        functions = [function for function in functions if function["name"] == wanted]
    if not functions:
        raise NotForced("tool_choice names no tool that there is")
    return functions


def _shape(function: Mapping[str, Any]) -> dict[str, Any]:
    arguments = function.get("parameters") or {"type": "object"}
    members = {"name": {"const": function["name"]}, "arguments": arguments}
    return {"type": "object", "properties": members, "required": list(members), "additionalProperties": False}


def _told(messages: Any, functions: list[dict[str, Any]]) -> list[Any]:
    """The messages, with the functions told in the system's: not every model's template has a place for them."""
    if not isinstance(messages, list) or not all(isinstance(message, dict) for message in messages):
        raise NotForced("messages must be a list of objects")
    told = "Answer by calling one of these functions:\n" + "\n".join(json.dumps(function) for function in functions)
    first = messages[0] if messages else {}
    if first.get("role") == "system" and isinstance(first.get("content"), str):
        return [{**first, "content": f"{first['content']}\n\n{told}"}, *messages[1:]]
    return [{"role": "system", "content": told}, *messages]
