"""An engine's double that says what OpenAI's chat completions say in full: reasons, usage, tool calls, embeddings; and pauses."""

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping
from typing import Any

from world import WORDS, EchoEngine

from strongroom.engines.port import RequestRejected
from strongroom.errors import EngineUnavailable

USAGE = {"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12, "prompt_tokens_details": {"cached_tokens": 2}}
HEAD = {"id": "chatcmpl-Abc123", "created": 1_700_000_000, "model": "engine"}
CALLS = [("call_a", "weather", ['{"city":', '"Paris"}']), ("call_b", "clock", ["{}"])]
VECTOR = [0.5, -0.25, 1.0]
TOKENS = {"count": 3, "max_model_len": 256, "tokens": [7, 1, 9]}


def chunk(delta: Mapping[str, Any], finish: str | None = None) -> bytes:
    """One piece of a streamed chat completion."""
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return json.dumps({**HEAD, "object": "chat.completion.chunk", "choices": [choice]}).encode()


def call_piece(index: int, arguments: str, **first: str) -> dict[str, Any]:
    """A delta with a piece of a tool call."""
    function = {"arguments": arguments} | ({"name": first["name"]} if first else {})
    call = {"index": index, "function": function} | ({"id": first["id"], "type": "function"} if first else {})
    return {"tool_calls": [call]}


def chunks(*, calls: bool = False, finish: str | None = None) -> list[bytes]:
    """All pieces of one answer: words, and with `calls` two tool calls after them."""
    told = [chunk({"role": "assistant", "content": None}), *(chunk({"content": word}) for word in WORDS)]
    if calls:
        for index, (identity, name, pieces) in enumerate(CALLS):
            told.append(chunk(call_piece(index, "", id=identity, name=name)))
            told += [chunk(call_piece(index, piece)) for piece in pieces]
    told.append(chunk({}, finish or ("tool_calls" if calls else "stop")))
    return [*told, json.dumps({**HEAD, "choices": [], "usage": USAGE}).encode()]


def whole(*, calls: bool = False, finish: str | None = None) -> bytes:
    """The same answer in one piece."""
    message: dict[str, Any] = {"role": "assistant", "content": "".join(WORDS)}
    if calls:
        message["tool_calls"] = [
            {"id": identity, "type": "function", "function": {"name": name, "arguments": "".join(pieces)}}
            for identity, name, pieces in CALLS
        ]
    choice = {"index": 0, "message": message, "finish_reason": finish or ("tool_calls" if calls else "stop")}
    return json.dumps({**HEAD, "object": "chat.completion", "choices": [choice], "usage": USAGE}).encode()


class TalkingEngine(EchoEngine):
    """`pause` seconds before each piece; `reject` makes it refuse; `fail_after` pieces it breaks."""

    def __init__(self) -> None:
        super().__init__()
        self.pause = 0.0
        self.finish: str | None = None
        self.reject = False

    async def generate(self, operation: str, request: Mapping[str, Any]) -> AsyncGenerator[bytes]:
        self.requests.append({"operation": operation, **request})
        if self.reject:
            reply = {"error": {"code": 422, "message": "the engine's words", "type": "odd_error"}}
            raise RequestRejected(reply, json.dumps(reply).encode())
        if operation == "embeddings":
            data = [{"object": "embedding", "index": 0, "embedding": VECTOR}]
            usage = {"prompt_tokens": 2, "total_tokens": 2}
            yield json.dumps({"object": "list", "model": "engine", "data": data, "usage": usage}).encode()
            return
        if operation == "tokenize":
            yield json.dumps({**TOKENS, "usage": {"prompt_tokens": 3}}).encode()
            return
        calls = "tools" in request
        if not request.get("stream"):
            yield whole(calls=calls, finish=self.finish)
            return
        for number, piece in enumerate(chunks(calls=calls, finish=self.finish)):
            if self.fail_after == number:
                raise EngineUnavailable("the engine ended before its answer did")
            await asyncio.sleep(self.pause)
            yield piece
