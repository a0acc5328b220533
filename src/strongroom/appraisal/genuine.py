"""Without an owner's wishes: is this evidence genuine, and is it open to its host? Not: is it what anybody wants.

Knows: the checks that need no policy. Does not know: reference values; those checks are listed as not-run, so the verdict
never accepts. `genuine` says whether everything that was run passed.
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from dataclasses import dataclass

from strongroom.appraisal.appraise import excuse_revocation, level_of
from strongroom.appraisal.kinds import kind_of
from strongroom.records.digest import digest_bytes
from strongroom.records.evidence import Collateral
from strongroom.records.policy import Requirement
from strongroom.records.verdict import Verdict, all_passed, judged, not_run
from strongroom.tee.anchors import TrustAnchor

CHECKED = Requirement(one_of=("checked",))
UNASKED = ("statement.image", "policy.custody", "policy.level")


@dataclass(frozen=True, slots=True)
class GenuineVerdict:
    """A verdict without a policy, and whether all that could be judged holds."""

    verdict: Verdict
    genuine: bool


def appraise_genuine(
    kind: str,
    quote: bytes,
    log: bytes,
    *,
    collateral: Collateral,
    anchors: Sequence[TrustAnchor],
    report_data: bytes | None,
    now: int,
    revocation: Requirement = CHECKED,
) -> GenuineVerdict:
    """Judge bare evidence at `now`; what it binds must equal `report_data` if that is given. Raises `MalformedEvidence`.

    `revocation` may excuse a revocation list that was not given, as a policy may.
    """
    found = kind_of(kind)
    genuine = found.judge(quote, log, collateral=collateral, anchors=anchors, now=now)
    genuine = excuse_revocation(genuine, revocation)
    checks = [*genuine.checks, *found.exposed(genuine)]
    if report_data is not None:
        bound = str(genuine.claims.get("report_data", ""))
        checks.append(judged("binding.report_data", hmac.compare_digest(bound, report_data.hex()), "as given"))
    holds = all_passed(checks)
    checks += [not_run(name, "no policy was given") for name in UNASKED]
    verdict = Verdict(
        level=level_of(found, genuine),
        checks=tuple(checks),
        claims=dict(genuine.claims),
        evidence=digest_bytes(quote),
        policy=None,
        purpose="none",
        time=now,
    )
    return GenuineVerdict(verdict, holds)
