"""The verdict: the outcome of an appraisal, with every check as pass, fail or not-run.

Knows: levels, root classes, checks and what accepts. Does not know: how a check is made.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar

from strongroom.records.digest import Digest, digest_record


class Status(enum.StrEnum):
    """The outcome of one check. Only `PASS` is a pass."""

    PASS = "pass"  # noqa: S105 (not a password)
    FAIL = "fail"
    NOT_RUN = "not-run"


class RootClass(enum.StrEnum):
    """Who can hold the signing root."""

    SILICON = "silicon"
    CLOUD = "cloud"
    INSTALLATION = "installation"


class Level(enum.StrEnum):
    """What a place protects. `NONE` is the level of evidence that did not verify."""

    CONFIDENTIAL = "confidential"
    MEASURED = "measured"
    SIMULATED = "simulated"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Check:
    """One check: a stable `id` (`tdx.tcb.platform`), its status, and a detail a person can read; no secrets."""

    id: str
    status: Status
    detail: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """The attestation result. `accepted` is derived, never set: there are checks, and all of them passed."""

    TYPE: ClassVar[str] = "strongroom/verdict/v1"
    level: Level
    checks: tuple[Check, ...]
    claims: Mapping[str, str | int]
    evidence: Digest
    policy: Digest | None
    purpose: str
    time: int

    @property
    def accepted(self) -> bool:
        return self.level is not Level.NONE and all_passed(self.checks)

    @property
    def failed(self) -> tuple[Check, ...]:
        """All checks that did not pass; those that were not run are among them."""
        return tuple(check for check in self.checks if check.status is not Status.PASS)

    @property
    def digest(self) -> Digest:
        return digest_record(self)


def passed(identifier: str, detail: str = "") -> Check:
    """A check that passed."""
    return Check(identifier, Status.PASS, detail)


def failed(identifier: str, detail: str) -> Check:
    """A check that failed."""
    return Check(identifier, Status.FAIL, detail)


def not_run(identifier: str, reason: str) -> Check:
    """A check that could not be made, which is never a pass."""
    return Check(identifier, Status.NOT_RUN, reason)


def judged(identifier: str, holds: bool, detail: str = "") -> Check:  # noqa: FBT001 (the outcome is the point)
    """A check whose outcome is `holds`."""
    return passed(identifier, detail) if holds else failed(identifier, detail)


def all_passed(checks: Iterable[Check]) -> bool:
    """Whether there are checks and every one passed; an empty list is never a pass."""
    some, good = False, Status.PASS  # looked up once, because looking up a member of an enum costs more than the rest
    for check in checks:
        if check.status is not good:
            return False
        some = True
    return some
