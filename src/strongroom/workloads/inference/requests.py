"""Reading what a user asks: strict JSON, and members of the types that they must have.

Knows: the limits (bytes, depth), and how a wrong member is named to whoever sent it. Does not know: any API. Total: whatever
the bytes, the outcome is an object of JSON or `MalformedMessage`; whatever the object, a value or `UsageError`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from typing import Any, NoReturn

from strongroom.channel import credential
from strongroom.channel.credit import MEMBER as CREDIT
from strongroom.errors import MalformedMessage, UsageError

MAX_REQUEST = 8 * 1024 * 1024
MAX_DEPTH = 64
"""How deep lists and objects may nest: an engine's own readers of schemas call themselves for each level."""
_LONGEST_NAME = 40
_OURS = frozenset({CREDIT, credential.MEMBER, credential.CACHE_MEMBER})


def parse(body: bytes) -> dict[str, Any]:
    """A request's JSON object, without what paid for it and who asks.

    Raises `MalformedMessage` for anything that RFC 8259 or a limit of this module rules out.
    """
    if len(body) > MAX_REQUEST:
        raise MalformedMessage(f"a request of {len(body)} bytes exceeds the limit of {MAX_REQUEST}")
    try:
        request = json.loads(body.decode("utf-8"), parse_constant=_no_number, parse_float=_finite)
    except (ValueError, RecursionError):
        raise MalformedMessage("the request is not JSON", remedy="Send a JSON object in UTF-8.") from None
    if not isinstance(request, dict):
        raise MalformedMessage("the request is not a JSON object", remedy="Send a JSON object.")
    if body.count(b"[") + body.count(b"{") > MAX_DEPTH:
        _bound_depth(request)
    return {name: member for name, member in request.items() if name not in _OURS}


def streams(asked: Mapping[str, Any]) -> bool:
    """Whether the answer is wanted in events. Raises `UsageError` for what is neither yes nor no."""
    if not isinstance(asked.get("stream"), bool | None):
        raise invalid("stream", "must be true or false")
    return asked.get("stream") is True


def invalid(where: str, what: str) -> UsageError:
    """What is wrong with a member; `where` is its path and `what` our own words, so that no content gets into either."""
    return UsageError(f"{where} {what}", remedy="Change the request.", detail=where)


def only(given: Mapping[str, Any], known: Iterable[str], where: str = "") -> None:
    """Raise `UsageError` for a member that is not in the list."""
    unknown = sorted(set(given) - set(known))
    if unknown:
        raise invalid(f"{where}{unknown[0][:_LONGEST_NAME]!r}", "is not supported")


def mapping(value: Any, where: str) -> dict[str, Any]:
    """A JSON object."""
    if not isinstance(value, dict):
        raise invalid(where, "must be an object")
    return value


def items(value: Any, where: str) -> list[dict[str, Any]]:
    """A list of JSON objects."""
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise invalid(where, "must be a list of objects")
    return value


def text(value: Any, where: str) -> str:
    """A string that UTF-8 can hold: JSON lets half a surrogate pair through."""
    if not isinstance(value, str):
        raise invalid(where, "must be text")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise invalid(where, "must be text of whole characters") from None
    return value


def one_of(value: Any, allowed: Iterable[str], where: str) -> str:
    """One of some words."""
    words = tuple(allowed)
    if value not in words:
        raise invalid(where, f"must be one of: {', '.join(words)}")
    return str(value)


def _no_number(_: str) -> NoReturn:
    raise ValueError("JSON knows no such number")


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError("a number beyond any float")
    return number


def _bound_depth(request: dict[str, Any]) -> None:
    level: list[Any] = [request]
    for _ in range(MAX_DEPTH):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, dict | list)
        ]
        if not level:
            return
    raise MalformedMessage(f"the request nests deeper than {MAX_DEPTH} levels", remedy="Send something flatter.")
