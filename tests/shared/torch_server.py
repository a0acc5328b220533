"""A server of OpenAI's API on PyTorch as a program: `torch_server.py PORT FOLDER NAME DEVICE`. It knows nothing of strongroom.

Its model reads bytes: each is turned into a vector, mixed into what was read before, and the likeliest next byte is the answer.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

WIDTH, LETTERS = 256, 64
FIRST = 33
"""The first of the letters that it answers in."""


def tokens(weights: dict[str, torch.Tensor], prompt: str, many: int) -> Iterator[str]:
    """The answer to `prompt`, letter by letter."""
    state = torch.zeros(WIDTH, device=weights["mix"].device)
    read = [byte % LETTERS for byte in prompt.encode()]
    for number in range(len(read) + many):
        state = torch.tanh(weights["mix"] @ state + weights["letters"][read[number]])
        if number >= len(read) - 1:
            read.append(int(torch.argmax(weights["letters"] @ state)))
            yield chr(FIRST + read[-1])
        if number == len(read) + many - 2:
            return


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    weights: dict[str, torch.Tensor]
    name: str

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        self._say({"object": "list", "data": [{"id": self.name}]})

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        texts = tokens(self.weights, asked["prompt"], asked.get("max_tokens", 16))
        device = str(self.weights["mix"].device.type)
        if not asked.get("stream"):
            usage = {"prompt_tokens": len(asked["prompt"]), "completion_tokens": asked.get("max_tokens", 16)}
            choice = {"index": 0, "text": "".join(texts), "finish_reason": "length"}
            self._say({"choices": [choice], "usage": usage, "system_fingerprint": device})
            return
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("connection", "close")
        self.end_headers()
        for text in texts:
            self._event({"choices": [{"index": 0, "text": text}], "system_fingerprint": device})
        self.wfile.write(b"data: [DONE]\n\n")
        self.close_connection = True

    def _event(self, value: dict[str, Any]) -> None:
        self.wfile.write(b"data: " + json.dumps(value).encode() + b"\n\n")
        self.wfile.flush()

    def _say(self, value: dict[str, Any]) -> None:
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


if __name__ == "__main__":
    port, folder, Handler.name, device = sys.argv[1:5]
    Handler.weights = {
        name: tensor.to(device) for name, tensor in load_file(Path(folder) / "model.safetensors").items()
    }
    ThreadingHTTPServer(("127.0.0.1", int(port)), Handler).serve_forever()
