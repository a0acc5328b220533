"""The appraisal as a numbered procedure: is it genuine, for us, what it says, and what we want.

Knows: the order of the steps and what a step needs of those before it. Does not know: formats of vendors (`tee`), how a policy
was signed or stored, whether a nonce was used before (`release`), nor what the caller does with a verdict.
Not covered yet: kinds other than TDX, devices, custody lists, conditions in CEL. Evidence of another kind is refused.
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence

from strongroom.appraisal import statement as stated
from strongroom.appraisal import tdx_policy
from strongroom.errors import AppraisalRefused, MalformedEvidence
from strongroom.records import binding
from strongroom.records.evidence import Evidence, EvidenceBundle
from strongroom.records.policy import Policy
from strongroom.records.verdict import Check, Level, RootClass, Verdict, all_passed, failed, judged
from strongroom.tee.anchors import TrustAnchor
from strongroom.tee.tdx import Genuine, parse_quote, verify


def appraise(
    bundle: EvidenceBundle, *, policy: Policy, anchors: Sequence[TrustAnchor], nonce: bytes, purpose: str, now: int
) -> Verdict:
    """Judge `bundle` at `now` (Unix seconds) for the nonce and purpose that the caller itself chose.

    The verdict lists every check; whether it accepts is `Verdict.accepted`. Raises `MalformedEvidence` if the quote does not
    parse or is of a kind that has no verifier. The caller's duty that remains: the nonce is its own and was never used before.
    """
    evidence = bundle.evidence
    if evidence.kind != "tdx":
        raise MalformedEvidence(f"there is no verifier for evidence of kind {evidence.kind[:32]!r}")
    quote = parse_quote(evidence.quote)

    # (1) Genuine: made by hardware under a root we know, with collateral that holds now.
    genuine = verify(quote, bundle.collateral, anchors, now)
    checks = list(genuine.checks)
    if not anchors:
        checks.append(failed("anchors", "no trust anchor was given"))

    # (2) For us: our nonce, our purpose, this keyset and this statement, in the signed report data.
    checks += check_binding(evidence, str(genuine.claims.get("report_data", "")), nonce, purpose, now)

    # (3) What it says: the statement counts only where it is measured.
    checks += stated.check_statement(evidence, genuine.claims, policy)

    # (4) What we want: the policy's members, one by one.
    checks += stated.check_wanted(evidence.statement, policy)
    checks += tdx_policy.check_tdx(genuine, policy.tdx)

    # (5) The level follows from who can hold the root, and from nothing else.
    level = level_of(genuine, genuine_holds=all_passed(genuine.checks))
    checks.append(judged("policy.level", level in policy.levels, f"{level.value}; accepted: {_join(policy)}"))

    return Verdict(
        level=level,
        checks=tuple(checks),
        claims=dict(genuine.claims),
        evidence=evidence.digest,
        policy=policy.digest,
        purpose=purpose,
        time=now,
    )


def require(verdict: Verdict) -> Verdict:
    """The verdict itself if it accepts; otherwise raises `AppraisalRefused` with the ids of the checks that did not pass."""
    if not verdict.accepted:
        names = tuple(check.id for check in verdict.failed)
        first = verdict.failed[0] if verdict.failed else None
        reason = f"{first.id}: {first.detail}" if first else "no check was made"
        raise AppraisalRefused(f"the evidence was not accepted ({reason})", failed=names)
    return verdict


def check_binding(evidence: Evidence, report_data: str, nonce: bytes, purpose: str, now: int) -> list[Check]:
    """Freshness and binding: the quote answers this nonce, for this purpose, and holds this keyset and statement."""
    expected = binding.report_data(
        evidence.kind,
        nonce=evidence.nonce,
        keyset=evidence.keyset.digest,
        statement=evidence.statement.digest,
        devices=None,
        purpose=evidence.purpose,
    )
    return [
        judged("binding.nonce", hmac.compare_digest(evidence.nonce, nonce), "the verifier's own nonce"),
        judged("binding.purpose", evidence.purpose == purpose, f"{evidence.purpose[:80]!r}, wanted {purpose[:80]!r}"),
        judged(
            "binding.report_data", hmac.compare_digest(expected.hex(), report_data), "nonce, keyset, statement, purpose"
        ),
        judged("binding.keyset_valid", evidence.keyset.not_after > now, f"keyset ends at {evidence.keyset.not_after}"),
    ]


def level_of(genuine: Genuine, *, genuine_holds: bool) -> Level:
    """`confidential` for a TDX quote under a silicon root, `simulated` for anything under an installation root."""
    if not genuine_holds or genuine.root_class is None:
        return Level.NONE
    return Level.CONFIDENTIAL if genuine.root_class is RootClass.SILICON else Level.SIMULATED


def _join(policy: Policy) -> str:
    return ", ".join(level.value for level in policy.levels)
