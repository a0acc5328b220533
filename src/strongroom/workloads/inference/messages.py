"""Anthropic's messages, told in chat completions and back.

Knows: the members of a request that have a meaning here, the blocks of an answer, and its events. Does not know: engines, HTTP.
Not covered: pictures, documents, a model's thoughts (those that a client sends back are left out, those of the model are not
told), tools that a server would run, and which of the words in `stop_sequences` ended an answer: chat completions do not say,
so that it is `end_turn`.
"""

from __future__ import annotations

import json
from typing import Any

from strongroom.errors import EngineUnavailable, StrongroomError
from strongroom.workloads.inference import chat, faults
from strongroom.workloads.inference.requests import invalid, items, mapping, one_of, only, text

PING = faults.event("ping", {})
_SAME = ("max_tokens", "temperature", "top_p", "top_k", "stream")
_IGNORED = ("model", "metadata", "service_tier", "inference_geo", "cache_control")
_OWN = ("messages", "system", "stop_sequences", "tools", "tool_choice", "thinking", "output_config")
_THOUGHTS = frozenset({"thinking", "redacted_thinking"})
_REASONS = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use", "content_filter": "refusal"}
_CHOICES = {"auto": "auto", "any": "required", "none": "none"}


def translate(asked: dict[str, Any]) -> dict[str, Any]:
    """The chat completion that a request comes down to. Raises `UsageError`."""
    only(asked, (*_SAME, *_IGNORED, *_OWN))
    limit = asked.get("max_tokens")
    if type(limit) is not int or limit < 1:
        raise invalid("max_tokens", "must be a whole number from 1")
    request: dict[str, Any] = {name: asked[name] for name in _SAME if name in asked}
    talk: list[dict[str, Any]] = []
    if asked.get("system") is not None:
        talk.append({"role": "system", "content": _texts(asked["system"], "system")})
    for at, message in enumerate(items(asked.get("messages"), "messages")):
        talk += _message(message, f"messages.{at}")
    if not talk or talk[-1]["role"] == "system":
        raise invalid("messages", "must hold a message")
    request["messages"] = talk
    if "stop_sequences" in asked:
        request["stop"] = _stops(asked["stop_sequences"])
    if asked.get("tools"):
        request["tools"] = [_tool(tool, f"tools.{at}") for at, tool in enumerate(items(asked["tools"], "tools"))]
    if asked.get("tool_choice") is not None:
        request |= _choice(mapping(asked["tool_choice"], "tool_choice"))
    if asked.get("output_config") is not None:
        request |= _output(mapping(asked["output_config"], "output_config"))
    if asked.get("thinking") is not None:
        one_of(mapping(asked["thinking"], "thinking").get("type"), ("disabled", "adaptive"), "thinking.type")
    return request


def render(answer: bytes, _asked: dict[str, Any], model: str) -> bytes:
    """A whole message. Raises `EngineUnavailable`."""
    said = chat.read(answer)
    content: list[dict[str, Any]] = [{"type": "text", "text": said.text}] if said.text else []
    content += [
        {"type": "tool_use", "id": call.id, "name": call.name, "input": _arguments(call.arguments)}
        for call in said.calls
    ]
    head = _head(said, model)
    return faults.encode(head | {"content": content, "stop_reason": _reason(said.finish), "usage": _usage(said.usage)})


class MessageEvents:
    """A streamed message. Blocks come one after the other: text, then tool calls, each opened and closed."""

    def __init__(self, _: dict[str, Any], model: str) -> None:
        self._model = model
        self._begun = False
        self._blocks = 0
        self._open = ""
        self._finish = ""
        self._usage: chat.Usage | None = None

    def feed(self, chunk: bytes) -> bytes:
        said = chat.read(chunk)
        told = b"" if self._begun else self._begin(said)
        self._finish, self._usage = said.finish or self._finish, said.usage or self._usage
        if said.text:
            told += self._block("text", {"type": "text", "text": ""})
            told += self._delta({"type": "text_delta", "text": said.text})
        for call in said.calls:
            told += self._block(
                f"call {call.index}", {"type": "tool_use", "id": call.id, "name": call.name, "input": {}}
            )
            if call.arguments:
                told += self._delta({"type": "input_json_delta", "partial_json": call.arguments})
        return told

    def finish(self) -> bytes:
        if not self._begun or not self._finish:
            raise chat.unfinished()
        delta = {"stop_reason": _reason(self._finish), "stop_sequence": None}
        told = self._close() + faults.event("message_delta", {"delta": delta, "usage": _usage(self._usage)})
        return told + faults.event("message_stop", {})

    def fail(self, error: StrongroomError, status: int) -> bytes:
        return b"event: error\ndata: " + faults.anthropic(error, status) + b"\n\n"

    def _begin(self, said: chat.Said) -> bytes:
        self._begun = True
        head = _head(said, self._model)
        message = head | {"content": [], "stop_reason": None, "usage": _usage(said.usage)}
        return faults.event("message_start", {"message": message})

    def _block(self, name: str, block: dict[str, Any]) -> bytes:
        """Open a block, and close the one before it, unless it is the one that is open."""
        if name == self._open:
            return b""
        told = self._close()
        self._open = name
        return told + faults.event("content_block_start", {"index": self._blocks, "content_block": block})

    def _delta(self, delta: dict[str, Any]) -> bytes:
        return faults.event("content_block_delta", {"index": self._blocks, "delta": delta})

    def _close(self) -> bytes:
        if not self._open:
            return b""
        told = faults.event("content_block_stop", {"index": self._blocks})
        self._open, self._blocks = "", self._blocks + 1
        return told


def _head(said: chat.Said, model: str) -> dict[str, Any]:
    return {"id": f"msg_{said.name}", "type": "message", "role": "assistant", "model": model, "stop_sequence": None}


def _reason(finish: str) -> str:
    if finish not in _REASONS:
        raise chat.unfinished()
    return _REASONS[finish]


def _usage(usage: chat.Usage | None) -> dict[str, int]:
    """In this form, tokens that a cache held are not among those of the input."""
    found = usage or chat.Usage(0, 0, 0)
    return {
        "input_tokens": found.prompt - min(found.cached, found.prompt),
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": min(found.cached, found.prompt),
        "output_tokens": found.completion,
    }


def _arguments(arguments: str) -> dict[str, Any]:
    try:
        value = json.loads(arguments or "{}")
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise EngineUnavailable("the model called a tool with something that is not an object")
    return value


def _message(message: dict[str, Any], where: str) -> list[dict[str, Any]]:
    """One message as one or more: results of tools stand apart, before what the user says besides."""
    only(message, ("role", "content"), f"{where}.")
    role = one_of(message.get("role"), ("user", "assistant", "system"), f"{where}.role")
    content = message.get("content")
    if isinstance(content, str):
        return [{"role": role, "content": text(content, f"{where}.content")}]
    told, calls, results = list[str](), list[dict[str, Any]](), list[dict[str, Any]]()
    for at, block in enumerate(items(content, f"{where}.content")):
        place = f"{where}.content.{at}"
        kind = block.get("type")
        if kind == "text":
            told.append(text(block.get("text"), f"{place}.text"))
        elif kind == "tool_use" and role == "assistant":
            calls.append(_call(block, place))
        elif kind == "tool_result" and role == "user":
            results.append(_result(block, place))
        elif kind not in _THOUGHTS or role != "assistant":
            raise invalid(f"{place}.type", "is not supported")
    said: dict[str, Any] = {"role": role, "content": "\n".join(told)}
    if calls:
        said["tool_calls"] = calls
    return [*results, said] if told or calls or not results else results


def _call(block: dict[str, Any], where: str) -> dict[str, Any]:
    arguments = json.dumps(mapping(block.get("input"), f"{where}.input"))
    function = {"name": text(block.get("name"), f"{where}.name"), "arguments": arguments}
    return {"id": text(block.get("id"), f"{where}.id"), "type": "function", "function": function}


def _result(block: dict[str, Any], where: str) -> dict[str, Any]:
    content = _texts(block.get("content", ""), f"{where}.content")
    if block.get("is_error") is True:
        content = f"Error: {content}"
    return {"role": "tool", "tool_call_id": text(block.get("tool_use_id"), f"{where}.tool_use_id"), "content": content}


def _texts(content: Any, where: str) -> str:
    """Text, or blocks of nothing but text."""
    if isinstance(content, str):
        return text(content, where)
    pieces = []
    for at, block in enumerate(items(content, where)):
        one_of(block.get("type"), ("text",), f"{where}.{at}.type")
        pieces.append(text(block.get("text"), f"{where}.{at}.text"))
    return "\n".join(pieces)


def _stops(stops: Any) -> list[str]:
    if not isinstance(stops, list):
        raise invalid("stop_sequences", "must be a list of texts")
    return [text(stop, f"stop_sequences.{at}") for at, stop in enumerate(stops)]


def _tool(tool: dict[str, Any], where: str) -> dict[str, Any]:
    only(tool, ("name", "description", "input_schema", "type", "strict", "cache_control"), f"{where}.")
    one_of(tool.get("type") or "custom", ("custom",), f"{where}.type")
    function = {
        "name": text(tool.get("name"), f"{where}.name"),
        "description": text(tool.get("description") or "", f"{where}.description"),
        "parameters": mapping(tool.get("input_schema"), f"{where}.input_schema"),
    }
    return {"type": "function", "function": function}


def _choice(choice: dict[str, Any]) -> dict[str, Any]:
    only(choice, ("type", "name", "disable_parallel_tool_use"), "tool_choice.")
    kind = one_of(choice.get("type"), (*_CHOICES, "tool"), "tool_choice.type")
    chosen: Any = _CHOICES.get(kind)
    if kind == "tool":
        chosen = {"type": "function", "function": {"name": text(choice.get("name"), "tool_choice.name")}}
    alone = choice.get("disable_parallel_tool_use") is True
    return {"tool_choice": chosen} | ({"parallel_tool_calls": False} if alone else {})


def _output(output: dict[str, Any]) -> dict[str, Any]:
    only(output, ("format", "effort"), "output_config.")
    if output.get("format") is None:
        return {}
    wanted = mapping(output["format"], "output_config.format")
    one_of(wanted.get("type"), ("json_schema",), "output_config.format.type")
    schema = mapping(wanted.get("schema"), "output_config.format.schema")
    return {"response_format": {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}}
