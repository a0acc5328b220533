"""A numbered procedure whose every step leaves a check: pass, fail, or not-run with the reason.

Knows: that a step runs only when the steps it needs have passed. Does not know: what the steps are (`verify`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any, Generic, NamedTuple, TypeVar

from strongroom.errors import Refused, Unreadable
from strongroom.records.verdict import Check, Status, failed, not_run, passed

T = TypeVar("T")

_PASS = Status.PASS  # looked up once, because looking up a member of an enum costs as much as the rest of a step


class Doubt(Exception):
    """The reason why a step failed; it never leaves the procedure."""


def require(condition: object, reason: str) -> None:
    """Raises `Doubt` for `reason` unless `condition` holds."""
    if not condition:
        raise Doubt(reason)


class Outcome(NamedTuple, Generic[T]):
    """A step's check, and what it found if it passed."""

    check: Check
    found: T | None

    @property
    def holds(self) -> bool:
        return self.check.status is _PASS

    @property
    def value(self) -> T:
        """What the step found; asked for without having passed, it is a doubt and so a failed step."""
        if self.check.status is not _PASS or self.found is None:
            raise Doubt(f"{self.check.id} did not pass")
        return self.found


_passed = lru_cache(maxsize=1024)(passed)  # the same few checks pass for every piece of evidence


class Steps:
    """The checks in the order in which they were made."""

    def __init__(self) -> None:
        self._checks: list[Check] = []

    def run(
        self, identifier: str, step: Callable[[], T], *needs: Outcome[Any], describe: Callable[[T], str] = lambda _: ""
    ) -> Outcome[T]:
        """Make one check: `step` returns what it found or raises; it runs only if all of `needs` passed."""
        for need in needs:
            if need.check.status is not _PASS:
                return self.not_run(identifier, f"needs {', '.join(one.check.id for one in needs if not one.holds)}")
        found: T | None = None
        try:
            found = step()
            check = _passed(identifier, describe(found))
        except Doubt as doubt:
            check = failed(identifier, str(doubt))
        except (Refused, Unreadable) as error:
            check = failed(identifier, error.message)
        self._checks.append(check)
        return Outcome(check, found)

    def not_run(self, identifier: str, reason: str) -> Outcome[Any]:
        """A check that cannot be made here, for a `reason` of its own."""
        check = not_run(identifier, reason)
        self._checks.append(check)
        return Outcome(check, None)

    def adopt(self, checks: Iterable[Check]) -> None:
        """Take over checks that were made elsewhere, in their order."""
        self._checks.extend(checks)

    @property
    def checks(self) -> tuple[Check, ...]:
        return tuple(self._checks)
