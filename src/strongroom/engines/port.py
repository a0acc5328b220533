"""The port: what a worker asks of anything that generates text, and the one error that is the request's fault.

Knows: the shape. Does not know: processes, models, HTTP. `process.EngineProcess` is the implementation; which library runs
inside is chosen there by name.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Mapping
from typing import Any, Protocol

from strongroom.errors import UsageError

_MAX_REPLY = 64 * 1024


class Generator(Protocol):
    """A loaded model."""

    @property
    def alive(self) -> bool:
        """Whether it can still answer."""
        ...

    def generate(self, operation: str, request: Mapping[str, Any]) -> AsyncGenerator[bytes]:
        """Answer one request; any number may run at once.

        `operation` is `chat.completions`, `completions`, `embeddings` or `tokenize`; `request` is OpenAI's JSON object, to tokenize a
        `prompt` or `messages` and `tools` alone, which is answered by `count`, `max_model_len`, `tokens` (each of the latter two null where
        the engine cannot say it) and `usage`. Yields JSON texts (UTF-8): with
        `"stream": true` one for each event, else exactly one; usage and finish reason are in them. Closing the generator
        (`aclose`, or cancelling the task) stops the request. Raises `RequestRejected`, and `EngineUnavailable` if the engine is
        not there or dies on the way, however much was yielded.
        """
        ...

    def kill(self) -> None:
        """End it at once; its memory is given back when this returns. Never fails, also when called twice."""
        ...


class RequestRejected(UsageError):
    """The engine would not do this request; others go on.

    `reply` is the engine's own JSON (`{"error": {…}}`), for the one who asked: it may quote the request, so it is never logged.
    `status` is the HTTP status it belongs to.
    """

    code = "engine.request_rejected"
    default_remedy = "Change the request; the engine's own words are in the answer."

    def __init__(self, reply: Mapping[str, Any], encoded: bytes) -> None:
        error = reply.get("error")
        fields = error if isinstance(error, dict) else {}
        status, kind = fields.get("code"), fields.get("type")
        self.status = status if type(status) is int and 400 <= status <= 599 else 400  # noqa: PLR2004  # HTTP's errors
        self.kind = kind if isinstance(kind, str) and re.fullmatch(r"[a-z_]{1,40}", kind) else "invalid_request_error"
        self.reply = encoded if len(encoded) <= _MAX_REPLY else b'{"error":{"code":400,"message":"rejected"}}'
        super().__init__(f"the engine rejected the request: {self.kind}")
