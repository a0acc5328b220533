"""What a check found: pass, fail or unknown, a detail, a remedy.

Knows: that only `pass` passes. Does not know: any check.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass

from strongroom.launch.doctor.host import Host

SHOWN = 80


class Status(enum.StrEnum):
    """The outcome of one check. Only `PASS` is a pass."""

    PASS = "pass"  # noqa: S105 (not a password)
    FAIL = "fail"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Finding:
    """One outcome: the detail is for a person; the remedy says what to do, and is empty where nothing is to be done."""

    status: Status
    detail: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Check:
    """A question about a host.

    `id` is stable, `area` groups, `passes_if` and `source` are for the reference page, `purposes` are those that need it.
    """

    id: str
    area: str
    purposes: frozenset[str]
    passes_if: str
    source: str
    look: Callable[[Host], Finding]


def passed(detail: str) -> Finding:
    """What was asked for is there."""
    return Finding(Status.PASS, detail)


def failed(detail: str, remedy: str) -> Finding:
    """What was asked for is not there."""
    return Finding(Status.FAIL, detail, remedy)


def unknown(detail: str, remedy: str) -> Finding:
    """It cannot be told here, which is never a pass."""
    return Finding(Status.UNKNOWN, detail, remedy)


def shown(text: str) -> str:
    """A host's own words, short and without control characters, so that they cannot write on anybody's terminal."""
    words = "".join(letter if letter.isprintable() else "?" for letter in text[: SHOWN + 1])
    return words if len(words) <= SHOWN else f"{words[:SHOWN]}…"
