"""The few shapes of OpenAI's chat completions that a client needs of its own. Pure; no I/O.

Knows: the request, the events of a streamed answer, errors in it. Does not know: sealing, receipts, HTTP.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from strongroom.errors import EngineUnavailable, MalformedMessage, ServiceUnavailable, UsageError

PATH = "/v1/chat/completions"
MAX_LINE = 1024 * 1024
_OUR_FAULT = frozenset({400, 404, 413})
_REMEDIES = {
    401: "Give the key or token that this worker knows you by (`--api-key FILE`, `api_key=`).",
    402: "Give a wallet with a credit that this worker takes (`--credits FILE`, `credits=`).",
    429: "Ask again later.",
    503: "Ask again later.",
}


def request(prompt: str, options: Mapping[str, Any]) -> bytes:
    """A streaming request with one message of the user's."""
    body = {"model": "default", "messages": [{"role": "user", "content": prompt}], "stream": True, **options}
    return json.dumps(body).encode()


def require_ok(status: int, body: bytes) -> None:
    """Raise what a server said instead of an answer: `UsageError` where the request is to blame, else `ServiceUnavailable`."""
    if status == 200:  # noqa: PLR2004 (HTTP)
        return
    message = f"the worker answered with status {status}"
    if status in _OUR_FAULT:
        raise UsageError(message, detail=_message(body), remedy="Change the request.")
    raise ServiceUnavailable(message, detail=_message(body), remedy=_REMEDIES.get(status))


def _message(body: bytes) -> str:
    try:
        document = json.loads(body)
        error = document.get("error", document)
        return str(error.get("message", ""))[:500]
    except (ValueError, AttributeError, RecursionError):
        return ""


class Lines:
    """Text pieces out of a stream of server-sent events, fed in any portions."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[str]:
        """The pieces that `data` completes. Raises `EngineUnavailable` for an error in the protocol."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > MAX_LINE:
            raise MalformedMessage("a line of the answer is too long")
        for line in lines:
            if line.startswith(b"data: ") and line != b"data: [DONE]":
                yield from _pieces(line[6:])


def _pieces(data: bytes) -> Iterator[str]:
    try:
        event = json.loads(data)
        error = event.get("error")
        if error is not None:
            raise EngineUnavailable(str(error.get("message", "the engine failed"))[:500])
        pieces = [choice.get("delta", {}).get("content") for choice in event.get("choices", ())]
    except (ValueError, AttributeError, TypeError, RecursionError):
        raise MalformedMessage("an event of the answer is not one of a chat") from None
    yield from (piece for piece in pieces if isinstance(piece, str) and piece)
