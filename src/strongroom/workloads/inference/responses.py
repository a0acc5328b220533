"""OpenAI's responses, told in chat completions and back.

Knows: the members of a request that have a meaning here, the items of an answer, and its events. Does not know: engines, HTTP.
Nothing is kept: `store` is always false, and what would need an earlier response is refused.
Not covered: pictures, files, a model's thoughts (those that a client sends back are left out, those of the model are not told),
log probabilities, and tools that a server would run.
"""

from __future__ import annotations

from typing import Any

from strongroom.errors import StrongroomError
from strongroom.workloads.inference import chat, faults
from strongroom.workloads.inference.requests import invalid, items, mapping, one_of, only, text

_SAME = ("temperature", "top_p", "stream", "parallel_tool_calls")
_IGNORED = (
    "model", "metadata", "user", "store", "service_tier", "safety_identifier", "prompt_cache_key", "reasoning",
    "stream_options", "prompt_cache_retention",
)  # fmt: skip
_OWN = (
    "input", "instructions", "max_output_tokens", "tools", "tool_choice", "text", "truncation", "include",
    "previous_response_id", "background", "conversation",
)  # fmt: skip
_TEXTS = frozenset({"input_text", "output_text", "text", "refusal"})
_FINISHES = frozenset({"stop", "tool_calls"})
_CUT = {"length": "max_output_tokens", "content_filter": "content_filter"}


def translate(asked: dict[str, Any]) -> dict[str, Any]:
    """The chat completion that a request comes down to. Raises `UsageError`."""
    only(asked, (*_SAME, *_IGNORED, *_OWN))
    _stateless(asked)
    request: dict[str, Any] = {name: asked[name] for name in _SAME if asked.get(name) is not None}
    limit = asked.get("max_output_tokens")
    if limit is not None:
        if type(limit) is not int or limit < 1:
            raise invalid("max_output_tokens", "must be a whole number from 1")  # engines take less for "without end"
        request["max_tokens"] = limit
    talk: list[dict[str, Any]] = []
    if asked.get("instructions") is not None:
        talk.append({"role": "system", "content": text(asked["instructions"], "instructions")})
    request["messages"] = talk + _input(asked.get("input"))
    if asked.get("tools"):
        request["tools"] = [_tool(tool, f"tools.{at}") for at, tool in enumerate(items(asked["tools"], "tools"))]
    if asked.get("tool_choice") is not None:
        request["tool_choice"] = _choice(asked["tool_choice"])
    if asked.get("text") is not None:
        request |= _format(mapping(asked["text"], "text"))
    return request


def render(answer: bytes, asked: dict[str, Any], model: str) -> bytes:
    """A whole response. Raises `EngineUnavailable`."""
    said = chat.read(answer)
    output = [_message_item(said.name, 0, said.text)] if said.text else []
    for at, call in enumerate(said.calls, len(output)):
        output.append(_call_item(said.name, at, call.id, call.name, call.arguments))
    return faults.encode(_response(said, asked, model, output, finish=said.finish))


class ResponseEvents:
    """A streamed response. Items come one after the other: a message, then function calls, each added and done."""

    def __init__(self, asked: dict[str, Any], model: str) -> None:
        self._asked, self._model = asked, model
        self._first: chat.Said | None = None
        self._sequence = 0
        self._done: list[dict[str, Any]] = []
        self._open: dict[str, Any] | None = None
        self._key = ""
        self._parts: list[str] = []
        self._finish = ""
        self._usage: chat.Usage | None = None

    def feed(self, chunk: bytes) -> bytes:
        said = chat.read(chunk)
        told = b"" if self._first else self._begin(said)
        self._finish, self._usage = said.finish or self._finish, said.usage or self._usage
        if said.text:
            told += self._add_message() + self._piece("response.output_text.delta", said.text, logprobs=[])
        for call in said.calls:
            told += self._add_call(call)
            if call.arguments:
                told += self._piece("response.function_call_arguments.delta", call.arguments)
        return told

    def finish(self) -> bytes:
        if self._first is None or not self._finish:
            raise chat.unfinished()
        told = self._close()
        response = _response(self._first, self._asked, self._model, self._done, finish=self._finish, usage=self._usage)
        return told + self._event(f"response.{response['status']}", response=response)

    def fail(self, error: StrongroomError, status: int) -> bytes:
        """The members stand twice: where the reference has them, and where the official client looks for them."""
        fields = faults.openai_fields(error, status)
        return self._event("error", code=fields["code"], message=fields["message"], param=None, error=fields)

    def _begin(self, said: chat.Said) -> bytes:
        self._first = said
        response = _response(said, self._asked, self._model, [], finish=None)
        created = self._event("response.created", response=response)
        return created + self._event("response.in_progress", response=response)

    def _event(self, kind: str, /, **members: Any) -> bytes:
        told = faults.event(kind, {"sequence_number": self._sequence, **members})
        self._sequence += 1
        return told

    def _place(self) -> dict[str, Any]:
        """Which item, and for a message which part of it, an event is about."""
        item = self._open or {}
        place = {"item_id": item["id"], "output_index": len(self._done)}
        return place | ({"content_index": 0} if item["type"] == "message" else {})

    def _piece(self, name: str, piece: str, **members: Any) -> bytes:
        self._parts.append(piece)
        return self._event(name, **self._place(), delta=piece, **members)

    def _add_message(self) -> bytes:
        if self._key == "message":
            return b""
        told = self._close()
        self._key, self._open = "message", _message_item(self._name, len(self._done), "", status="in_progress")
        part, self._open["content"] = self._open["content"][0], []
        told += self._event("response.output_item.added", output_index=len(self._done), item=self._open)
        return told + self._event("response.content_part.added", **self._place(), part=part)

    def _add_call(self, call: chat.Call) -> bytes:
        key = f"call {call.index}"
        if self._key == key:
            return b""
        told = self._close()
        self._key = key
        self._open = _call_item(self._name, len(self._done), call.id, call.name, "", status="in_progress")
        return told + self._event("response.output_item.added", output_index=len(self._done), item=self._open)

    def _close(self) -> bytes:
        if self._open is None:
            return b""
        whole = "".join(self._parts)
        if self._open["type"] == "message":
            item = _message_item(self._name, len(self._done), whole)
            told = self._event("response.output_text.done", **self._place(), text=whole, logprobs=[])
            told += self._event("response.content_part.done", **self._place(), part=item["content"][0])
        else:
            item = self._open | {"arguments": whole, "status": "completed"}
            told = self._event(
                "response.function_call_arguments.done", **self._place(), name=item["name"], arguments=whole
            )
        told += self._event("response.output_item.done", output_index=len(self._done), item=item)
        self._done.append(item)
        self._open, self._key, self._parts = None, "", []
        return told

    @property
    def _name(self) -> str:
        return self._first.name if self._first else ""


def _response(
    said: chat.Said,
    asked: dict[str, Any],
    model: str,
    output: list[dict[str, Any]],
    *,
    finish: str | None,
    usage: chat.Usage | None = None,
) -> dict[str, Any]:
    """The response object; `finish` None while it is made."""
    if finish is not None and finish not in _FINISHES and finish not in _CUT:
        raise chat.unfinished()
    status = "in_progress" if finish is None else "incomplete" if finish in _CUT else "completed"
    return {
        "id": f"resp_{said.name}",
        "object": "response",
        "created_at": said.created,
        "status": status,
        "background": False,
        "error": None,
        "incomplete_details": {"reason": _CUT[finish]} if finish in _CUT else None,
        "instructions": asked.get("instructions"),
        "max_output_tokens": asked.get("max_output_tokens"),
        "metadata": asked.get("metadata") or {},
        "model": model,
        "output": output,
        "parallel_tool_calls": asked.get("parallel_tool_calls", True),
        "previous_response_id": None,
        "store": False,
        "temperature": asked.get("temperature"),
        "text": asked.get("text") or {"format": {"type": "text"}},
        "tool_choice": asked.get("tool_choice") or "auto",
        "tools": asked.get("tools") or [],
        "top_p": asked.get("top_p"),
        "truncation": "disabled",
        "usage": _usage(usage or said.usage),
    }


def _usage(usage: chat.Usage | None) -> dict[str, Any] | None:
    if usage is None:
        return None
    return {
        "input_tokens": usage.prompt,
        "input_tokens_details": {"cached_tokens": usage.cached, "cache_write_tokens": 0},
        "output_tokens": usage.completion,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": usage.prompt + usage.completion,
    }


def _message_item(name: str, at: int, told: str, status: str = "completed") -> dict[str, Any]:
    content = [{"type": "output_text", "text": told, "annotations": [], "logprobs": []}]
    return {"id": f"msg_{name}_{at}", "type": "message", "role": "assistant", "status": status, "content": content}


def _call_item(
    name: str, at: int, call: str, function: str, arguments: str, status: str = "completed"
) -> dict[str, Any]:
    item = {"id": f"fc_{name}_{at}", "type": "function_call", "call_id": call, "name": function}
    return item | {"arguments": arguments, "status": status}


def _stateless(asked: dict[str, Any]) -> None:
    for name in ("previous_response_id", "conversation", "background"):
        if asked.get(name):
            raise invalid(name, "would need what was kept; nothing is kept here")
    if asked.get("truncation") not in (None, "disabled"):
        raise invalid("truncation", "is not supported")
    if asked.get("include") not in (None, [], ["reasoning.encrypted_content"]):
        raise invalid("include", "is not supported")


def _input(given: Any) -> list[dict[str, Any]]:
    """The talk so far. Calls that stand together are one message of the assistant's."""
    if isinstance(given, str):
        return [{"role": "user", "content": text(given, "input")}]
    talk: list[dict[str, Any]] = []
    for at, item in enumerate(items(given, "input")):
        where = f"input.{at}"
        kind = item.get("type") or "message"
        if kind == "message":
            role = one_of(item.get("role"), ("user", "assistant", "system", "developer"), f"{where}.role")
            content = _texts(item.get("content"), f"{where}.content")
            talk.append({"role": "system" if role == "developer" else role, "content": content})
        elif kind == "function_call":
            if not talk or talk[-1]["role"] != "assistant":
                talk.append({"role": "assistant", "content": ""})
            talk[-1].setdefault("tool_calls", []).append(_call(item, where))
        elif kind == "function_call_output":
            told = _texts(item.get("output"), f"{where}.output")
            answered = text(item.get("call_id"), f"{where}.call_id")
            talk.append({"role": "tool", "tool_call_id": answered, "content": told})
        elif kind != "reasoning":
            raise invalid(f"{where}.type", "is not supported")
    if not talk:
        raise invalid("input", "must hold a message")
    return talk


def _call(item: dict[str, Any], where: str) -> dict[str, Any]:
    function = {name: text(item.get(name), f"{where}.{name}") for name in ("name", "arguments")}
    return {"id": text(item.get("call_id"), f"{where}.call_id"), "type": "function", "function": function}


def _texts(content: Any, where: str) -> str:
    """Text, or parts that hold nothing but text."""
    if isinstance(content, str):
        return text(content, where)
    pieces = []
    for at, part in enumerate(items(content, where)):
        kind = one_of(part.get("type"), sorted(_TEXTS), f"{where}.{at}.type")
        pieces.append(text(part.get("refusal" if kind == "refusal" else "text"), f"{where}.{at}.text"))
    return "\n".join(pieces)


def _tool(tool: dict[str, Any], where: str) -> dict[str, Any]:
    one_of(tool.get("type"), ("function",), f"{where}.type")
    only(tool, ("type", "name", "description", "parameters", "strict"), f"{where}.")
    function = {
        "name": text(tool.get("name"), f"{where}.name"),
        "description": text(tool.get("description") or "", f"{where}.description"),
        "parameters": mapping(tool.get("parameters") or {}, f"{where}.parameters"),
    }
    return {"type": "function", "function": function}


def _choice(choice: Any) -> Any:
    if isinstance(choice, str):
        return one_of(choice, ("auto", "none", "required"), "tool_choice")
    chosen = mapping(choice, "tool_choice")
    one_of(chosen.get("type"), ("function",), "tool_choice.type")
    return {"type": "function", "function": {"name": text(chosen.get("name"), "tool_choice.name")}}


def _format(given: dict[str, Any]) -> dict[str, Any]:
    only(given, ("format", "verbosity"), "text.")
    if given.get("format") is None:
        return {}
    wanted = mapping(given["format"], "text.format")
    kind = one_of(wanted.get("type"), ("text", "json_object", "json_schema"), "text.format.type")
    if kind == "text":
        return {}
    if kind == "json_object":
        return {"response_format": {"type": "json_object"}}
    schema = mapping(wanted.get("schema"), "text.format.schema")
    name = text(wanted.get("name") or "answer", "text.format.name")
    return {"response_format": {"type": "json_schema", "json_schema": {"name": name, "schema": schema}}}
