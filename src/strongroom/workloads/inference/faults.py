"""Errors in each API's own form, so that its official clients raise what their users expect.

Knows: the two forms and which type goes with which status. Does not know: which error has which status (`services`).
An engine's own words on a request go to whoever asked, and nowhere else.
"""

from __future__ import annotations

import json
from typing import Any

from strongroom.engines.port import RequestRejected
from strongroom.errors import StrongroomError

# fmt: off
_OPENAI = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error"}
_ANTHROPIC = {
    401: "authentication_error", 403: "permission_error", 404: "not_found_error", 413: "request_too_large",
    429: "rate_limit_error", 503: "overloaded_error", 529: "overloaded_error",
}
# fmt: on
_SERVER = 500


def openai(error: StrongroomError, status: int) -> bytes:
    """`{"error": {…}}`. What an engine said is in this form already."""
    return error.reply if isinstance(error, RequestRejected) else encode({"error": openai_fields(error, status)})


def openai_fields(error: StrongroomError, status: int) -> dict[str, Any]:
    """The members of OpenAI's error."""
    if isinstance(error, RequestRejected):
        return {"message": words(error), "type": error.kind, "param": None, "code": error.code}
    kind = _OPENAI.get(status, "server_error" if status >= _SERVER else "invalid_request_error")
    return {"message": words(error), "type": kind, "param": None, "code": error.code}


def anthropic(error: StrongroomError, status: int) -> bytes:
    """`{"type": "error", "error": {…}}`."""
    kind = _ANTHROPIC.get(status, "api_error" if status >= _SERVER else "invalid_request_error")
    return encode({"type": "error", "error": {"type": kind, "message": words(error), "code": error.code}})


def words(error: StrongroomError) -> str:
    """Our own explanation with its remedy, or the engine's."""
    if isinstance(error, RequestRejected):
        try:
            return str(json.loads(error.reply)["error"]["message"])
        except (ValueError, LookupError, TypeError, RecursionError):
            return error.message
    return error.explain()


def encode(value: Any) -> bytes:
    """JSON in ASCII, without spaces."""
    return json.dumps(value, separators=(",", ":")).encode()


def event(name: str, members: dict[str, Any]) -> bytes:
    """A server-sent event that has a name, which is repeated as its member `type`."""
    return b"event: " + name.encode() + b"\ndata: " + encode({"type": name, **members}) + b"\n\n"
