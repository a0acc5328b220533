"""Errors as they travel over HTTP (RFC 9457, application/problem+json), and back into the same classes.

Knows: the tree of errors and its codes. Does not know: which status a server chooses (`services`).
What comes from a peer is cut to a bounded length and never chooses more than one of our own classes.
"""

from __future__ import annotations

from typing import Any

from strongroom.appraisal.explain import cause_of
from strongroom.errors import (
    AppraisalRefused,
    NotAuthorised,
    ReleaseRefused,
    ServiceUnavailable,
    StrongroomError,
    Unavailable,
    Unreadable,
)
from strongroom.records import codec

MEDIA_TYPE = "application/problem+json"
MAX_TEXT = 1024
MAX_CHECKS = 256


def to_problem(error: StrongroomError) -> bytes:
    """The body of a refusal: code, message, detail, remedy and, after an appraisal, the checks that did not pass."""
    members: dict[str, Any] = dict(error.as_dict())
    if isinstance(error, AppraisalRefused):
        members["checks"] = list(error.failed)
    return codec.encode(members)


def from_problem(body: bytes, status: int) -> StrongroomError:
    """The error that a server raised, in the class of its code.

    Where the body says nothing useful, the status decides.
    """
    try:
        members = codec.parse_json(body, limit=256 * 1024)
    except Unreadable:
        members = None
    if not isinstance(members, dict):
        return _by_status(status)(f"the server answered with status {status} and no reason")
    message, detail, remedy = (_text(members.get(name)) for name in ("message", "detail", "remedy"))
    kind = _CLASSES.get(_text(members.get("code")), _by_status(status))
    message = message or f"the server answered with status {status}"
    if issubclass(kind, AppraisalRefused):
        checks = members.get("checks")
        failed = tuple(_text(check) for check in checks[:MAX_CHECKS]) if isinstance(checks, list) else ()
        reasons = tuple(cause_of(name) or "did not pass" for name in failed)
        return kind(message, failed=failed, reasons=reasons, remedy=remedy or None)
    return kind(message, detail=detail, remedy=remedy or None)


def _text(value: Any) -> str:
    """Printable text of bounded length, or nothing."""
    return "".join(c for c in value[:MAX_TEXT] if c.isprintable()) if isinstance(value, str) else ""


def _by_status(status: int) -> type[StrongroomError]:
    table: dict[int, type[StrongroomError]] = {401: NotAuthorised, 403: ReleaseRefused, 503: Unavailable}
    return table.get(status, ServiceUnavailable)


def _tree(root: type[StrongroomError]) -> dict[str, type[StrongroomError]]:
    classes = {root.code: root} if "code" in vars(root) else {}
    for child in root.__subclasses__():
        classes.update(_tree(child))
    return classes


_CLASSES = _tree(StrongroomError)
