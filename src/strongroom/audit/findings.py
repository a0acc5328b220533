"""What an audit found: numbered checks, each pass, fail or not-run, with the parts that are to blame.

Knows: how many findings about parts become one check. Does not know: what is checked (`opened`, `verify`).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from strongroom.records.verdict import Status

SHOWN = 8
"""How many parts a check names; how many there were is in its count."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Check `number` over `items` things. With none of them it is not-run, and asked nothing of the bundle."""

    number: int
    id: str
    status: Status
    items: int
    detail: str

    @property
    def stands(self) -> bool:
        """Whether this check leaves nothing open: it passed, or there was nothing for it to look at."""
        return self.status is Status.PASS or (self.status is Status.NOT_RUN and self.items == 0)


@dataclass(slots=True)
class Tally:
    """One check while it is made: things looked at, and those that failed or could not be looked at.

    `what` says what they are, and after a comma what holds of them if the check passes. `closed` are those of them that nobody can
    open any more: erased, or left out by whoever exported.
    """

    id: str
    what: str
    items: int = 0
    closed: int = 0
    failed: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)

    def count(self) -> None:
        """One more thing is looked at."""
        self.items += 1

    def fail(self, name: str, reason: str) -> None:
        """`name` is not what it must be."""
        self.failed.append(f"{name}: {reason}")

    def miss(self, name: str, reason: str) -> None:
        """`name` could not be checked, which is never a pass."""
        self.missing.append(f"{name}: {reason}")

    def finding(self, number: int) -> Finding:
        """The outcome: a failure before what was not run, and that before a pass."""
        problems = self.failed + self.missing
        items = max(self.items, len(problems))
        if not items:
            return Finding(number, self.id, Status.NOT_RUN, 0, f"no {self.what.partition(',')[0]} here")
        if not problems:
            closed = f"; but for {self.closed} that were erased or left out" if self.closed else ""
            return Finding(number, self.id, Status.PASS, items, f"{items} {self.what}{closed}")
        more = f"; and {len(problems) - SHOWN} more" if len(problems) > SHOWN else ""
        status = Status.FAIL if self.failed else Status.NOT_RUN
        return Finding(number, self.id, status, items, "; ".join(problems[:SHOWN]) + more)
