"""An engine's stand-in that costs nothing: a child process that says a word for every stream at each beat, as a batching engine does.

What it says is a function of the prompt alone (`words_of`), so whoever asks knows whether the answer is the right one. It runs where an
engine runs, confined, at the other end of the socket pair, in the worker's own frames (`engines.wire`).

Knows: prompts, beats. Does not know: models. `process._CHILD` is set to this module where it is wanted; nothing else names it.
"""

from __future__ import annotations

import hashlib
import json
import os
import select
import socket
import time
from collections.abc import Iterator, Mapping
from typing import Any, NoReturn

from strongroom.engines import wire
from strongroom.engines.confine import Bounds, confine
from strongroom.engines.wire import Kind

_WORDS = (
    "the",
    "sea",
    "lamp",
    "keeper",
    "and",
    "a",
    "lighthouse",
    "of",
    "storm",
    "winter",
    "gull",
    "stair",
    "in",
    "night",
    "bell",
    "rope",
)
BEAT_SECONDS = 0.01
_READ = 1 << 16


def words_of(prompt: str, count: int) -> Iterator[str]:
    """The answer to a prompt: `count` words, each with a space before it."""
    for block in range(-(-count // 32)):
        digest = hashlib.sha256(f"{block} {prompt}".encode()).digest()
        for byte in digest[: count - 32 * block]:
            yield f" {_WORDS[byte % len(_WORDS)]}"


def prompt_of(request: Mapping[str, Any]) -> str:
    """What was asked, in a chat's last message or in a completion."""
    messages = request.get("messages")
    found = messages[-1].get("content") if isinstance(messages, list) and messages else request.get("prompt")
    return found if isinstance(found, str) else json.dumps(found)


def pieces(operation: str, request: Mapping[str, Any]) -> Iterator[bytes]:
    """The JSON texts of one answer, in the form and length of llama.cpp's own."""
    count = request.get("max_tokens")
    count = count if type(count) is int and 0 < count <= 100_000 else 16  # noqa: PLR2004
    usage = {"prompt_tokens": 8, "completion_tokens": count, "total_tokens": count + 8}
    head = {"created": 1_790_000_000, "id": "chatcmpl-0123456789abcdef0123456789abcdef", "model": "talker"}
    chat = operation == "chat.completions"
    words = words_of(prompt_of(request), count)
    if not request.get("stream"):
        text = "".join(words)
        said: dict[str, Any] = {"message": {"role": "assistant", "content": text}} if chat else {"text": text}
        choice = {"index": 0, "finish_reason": "stop", **said}
        yield wire.to_json({"choices": [choice], **head, "object": "chat.completion", "usage": usage})
        return
    tail = {**head, "system_fingerprint": "b0-talker", "object": "chat.completion.chunk"}
    for word in words:
        said = {"delta": {"content": word}} if chat else {"text": word}
        yield wire.to_json({"choices": [{"finish_reason": None, "index": 0, **said}], **tail})
    ended: dict[str, Any] = {"delta": {}} if chat else {"text": ""}
    yield wire.to_json({"choices": [{"finish_reason": "stop", "index": 0, **ended}], **tail})
    yield wire.to_json({"choices": [], **tail, "usage": usage})


class Talker:
    """All streams of one worker; each says one thing at each beat."""

    def __init__(self, control: socket.socket, beat: float) -> None:
        self._control, self._beat = control, beat
        self._reader = wire.FrameReader(wire.FROM_WORKER)
        self._streams: dict[int, Iterator[bytes]] = {}

    def serve(self) -> None:
        """Until the worker hangs up."""
        due = time.monotonic()
        while True:
            wait = max(0.0, due - time.monotonic()) if self._streams else None
            if select.select([self._control], [], [], wait)[0]:
                data, descriptors, _, _ = socket.recv_fds(self._control, _READ, 1)
                for descriptor in descriptors:
                    os.close(descriptor)
                if not data:
                    return
                for frame in self._reader.feed(data):
                    self._take(frame)
            if self._streams and time.monotonic() >= due:
                self._say()
                due = max(due + self._beat, time.monotonic())

    def _take(self, frame: wire.Frame) -> None:
        if frame.kind is Kind.LOAD:
            self._control.sendall(wire.pack(Kind.LOADED))
        elif frame.kind is Kind.CANCEL:
            self._streams.pop(frame.number, None)
        else:
            asked = wire.from_json(frame.payload)
            self._streams[frame.number] = pieces(asked["operation"], asked["request"])

    def _say(self) -> None:
        """One piece of every stream, in one write."""
        said = bytearray()
        for number, answer in list(self._streams.items()):
            piece = next(answer, None)
            said += wire.pack(Kind.END, number) if piece is None else wire.pack(Kind.CHUNK, number, piece)
            if piece is None:
                del self._streams[number]
        self._control.sendall(said)


def main(control: int, arguments: list[str]) -> NoReturn:
    """The process's whole life. `arguments`: where an engine's adapter is named, the seconds between beats may stand."""
    beat = float(arguments[0]) if arguments and arguments[0][:1].isdigit() else BEAT_SECONDS
    confined = confine(Bounds(control=control))
    end = socket.socket(fileno=control)
    try:
        end.sendall(wire.pack(Kind.HELLO, 0, wire.to_json(dict(confined.report.outcomes))))
        Talker(end, beat).serve()
    finally:
        os._exit(0)
