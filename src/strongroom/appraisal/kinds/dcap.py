"""What an owner may want of a platform of Intel's, the same for TDX and SGX.

Knows: which claims say how the platform stands and is made. Does not know: kinds.
"""

from __future__ import annotations

from typing import Protocol

from strongroom.appraisal.kinds.kind import advisories, claim, least, status
from strongroom.records.policy.requirement import Requirement
from strongroom.records.verdict import Check, judged, not_run
from strongroom.tee.genuine import Genuine

CONFIGURATION = ("dynamic_platform", "cached_keys", "smt")


class Asked(Protocol):
    """The members of a policy that are about the platform."""

    @property
    def dynamic_platform(self) -> Requirement: ...
    @property
    def cached_keys(self) -> Requirement: ...
    @property
    def smt(self) -> Requirement: ...
    @property
    def tcb_status(self) -> Requirement: ...
    @property
    def advisories(self) -> Requirement: ...
    @property
    def tcb_evaluation_minimum(self) -> int: ...
    @property
    def tcb_date_minimum(self) -> str: ...


def platform(genuine: Genuine, prefix: str, asked: Asked) -> list[Check]:
    """One check a requirement; a claim that is not there makes its check not-run."""
    return [
        *(claim(genuine, f"{prefix}.{name}", name, getattr(asked, name)) for name in CONFIGURATION),
        status(genuine, f"{prefix}.tcb_status", asked.tcb_status),
        advisories(genuine, f"{prefix}.advisories", asked.advisories),
        least(genuine, f"{prefix}.tcb_evaluation", "tcb_evaluation_number", asked.tcb_evaluation_minimum),
        _date(genuine, f"{prefix}.tcb_date", asked.tcb_date_minimum),
    ]


def _date(genuine: Genuine, identifier: str, minimum: str) -> Check:
    """Whether the oldest TCB level that counts is of that day or later; both are written year first."""
    found = genuine.claims.get("tcb_date")
    if not isinstance(found, str):
        return not_run(identifier, "the platform has no TCB date")
    return judged(identifier, found[: len(minimum)] >= minimum, f"{found}, at least {minimum}")
