"""Without an owner's wishes: is this quote genuine, and is it open to its host? Not: is it what anybody wants.

Knows: the checks that need no policy. Does not know: reference values; those checks are listed as not-run, so the verdict
never accepts. `genuine` says whether everything that was run passed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from strongroom.appraisal.appraise import level_of
from strongroom.records.digest import digest_bytes
from strongroom.records.evidence import Collateral
from strongroom.records.verdict import Status, Verdict, all_passed, judged, not_run
from strongroom.tee.anchors import TrustAnchor
from strongroom.tee.tdx import parse_quote, verify


@dataclass(frozen=True, slots=True)
class GenuineVerdict:
    """A verdict without a policy, and whether all that could be judged holds."""

    verdict: Verdict
    genuine: bool


def appraise_genuine(
    quote: bytes, collateral: Collateral, anchors: Sequence[TrustAnchor], *, report_data: bytes | None, now: int
) -> GenuineVerdict:
    """Judge a bare quote at `now`; `report_data` (64 bytes) is compared if given. Raises `MalformedEvidence`."""
    genuine = verify(parse_quote(quote), collateral, anchors, now)
    checks = list(genuine.checks)
    attributes = genuine.claims.get("td_attributes")
    debug = isinstance(attributes, str) and bool(int(attributes[:2], 16) & 1)
    checks.append(judged("policy.tdx.debug", isinstance(attributes, str) and not debug, "TD attribute bit 0"))
    if report_data is not None:
        checks.append(judged("binding.report_data", genuine.claims.get("report_data") == report_data.hex(), "as given"))
    holds = all_passed(checks)
    reason = "no policy was given"
    checks += [not_run(name, reason) for name in ("statement.image", "policy.level", "policy.tdx.tcb_status")]
    verdict = Verdict(
        level=level_of(genuine, genuine_holds=all_passed(genuine.checks)),
        checks=tuple(checks),
        claims=dict(genuine.claims),
        evidence=digest_bytes(quote),
        policy=None,
        purpose="none",
        time=now,
    )
    return GenuineVerdict(verdict, holds and not any(check.status is Status.FAIL for check in checks))
