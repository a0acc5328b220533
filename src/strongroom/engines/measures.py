"""A report on measures of protection: each achieved, or missing with the reason.

Knows: that a measure counts only if it was reported as achieved. Does not know: what any measure is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from strongroom.errors import ConfinementUnavailable

ACHIEVED = "yes"
NOT_REPORTED = "not reported"


@dataclass(frozen=True, slots=True)
class Measures:
    """`outcomes` says of each measure in `NAMES` either `yes` or the reason why not, in words without secrets."""

    NAMES: ClassVar[tuple[str, ...]] = ()
    SUBJECT: ClassVar[str] = "process"
    outcomes: Mapping[str, str]

    @property
    def missing(self) -> dict[str, str]:
        """What is not achieved, with the reason; a measure that nobody reported is missing."""
        found = {name: self.outcomes.get(name, NOT_REPORTED) for name in self.NAMES}
        return {name: outcome for name, outcome in found.items() if outcome != ACHIEVED}

    def require(self) -> None:
        """Raises `ConfinementUnavailable`, naming each missing measure, unless all are achieved."""
        if self.missing:
            reasons = "; ".join(f"{name}: {reason}" for name, reason in self.missing.items())
            raise ConfinementUnavailable(f"the {self.SUBJECT} is not confined as production demands", detail=reasons)

    @classmethod
    def from_report(cls, report: Any) -> Self:
        """From decoded JSON that a child sent: an object of text by text. Raises `ConfinementUnavailable`."""
        if not isinstance(report, dict) or not all(isinstance(outcome, str) for outcome in report.values()):
            raise ConfinementUnavailable(f"the {cls.SUBJECT} sent no report of its confinement")
        return cls({name: report[name][:200] for name in cls.NAMES if name in report})


class Attempts:
    """Collects outcomes: a step that raises `OSError` leaves its reason and the next one is tried."""

    def __init__(self) -> None:
        self.outcomes: dict[str, str] = {}

    @contextmanager
    def of(self, *names: str) -> Iterator[None]:
        """The block achieves all of `names`, or none of them."""
        try:
            yield
        except OSError as error:
            self.fail(error.strerror or str(error), *names)
        else:
            self.outcomes.update(dict.fromkeys(names, ACHIEVED))

    def attempt(self, name: str, step: Callable[[], object]) -> bool:
        """Try one step; whether it was achieved."""
        with self.of(name):
            step()
        return self.outcomes[name] == ACHIEVED

    def fail(self, reason: str, *names: str) -> None:
        """These are not achieved."""
        self.outcomes.update(dict.fromkeys(names, reason))
