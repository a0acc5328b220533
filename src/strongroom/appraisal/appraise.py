"""The appraisal as a numbered procedure: is it genuine, for us, what it says, and what we want.

Knows: the order of the steps and what a step needs of those before it. Does not know: formats of vendors (`tee`), how a policy
was signed or stored, whether a nonce was used before (`release`), nor what the caller does with a verdict.
Not covered yet: devices, conditions in CEL. Evidence of a kind that has no verifier is refused.
"""

from __future__ import annotations

import dataclasses
import hmac
from collections.abc import Sequence

from strongroom.appraisal import statement as stated
from strongroom.appraisal.custody import check_custody
from strongroom.appraisal.explain import reason_for
from strongroom.appraisal.kinds import Kind, kind_of
from strongroom.appraisal.provenance import check_provenance
from strongroom.appraisal.signed import NOTHING, Known
from strongroom.errors import AppraisalRefused
from strongroom.records import binding
from strongroom.records.evidence import Evidence, EvidenceBundle
from strongroom.records.policy import Policy, Reference, Requirement
from strongroom.records.verdict import Check, Level, RootClass, Status, Verdict, all_passed, failed, judged, passed
from strongroom.tee.anchors import TrustAnchor
from strongroom.tee.genuine import NO_CRL, Genuine


def appraise(
    bundle: EvidenceBundle,
    *,
    policy: Policy,
    anchors: Sequence[TrustAnchor],
    nonce: bytes,
    purpose: str,
    now: int,
    known: Known = NOTHING,
) -> Verdict:
    """Judge `bundle` at `now` (Unix seconds) for the nonce and purpose that the caller itself chose.

    `known` are the signed reference values, custody lists and provenance that the caller has; the policy says whose count.

    The verdict lists every check; whether it accepts is `Verdict.accepted`. Raises `MalformedEvidence` if the quote does not
    parse or is of a kind that has no verifier. The caller's duty that remains: the nonce is its own and was never used before.
    """
    evidence = bundle.evidence
    kind = kind_of(evidence.kind)

    # (1) Genuine: made by hardware under a root we know, with collateral that holds now; and closed to its host.
    genuine = kind.judge(evidence.quote, evidence.log, collateral=bundle.collateral, anchors=anchors, now=now)
    genuine = excuse_revocation(genuine, policy.revocation)
    checks = list(genuine.checks)
    if not anchors:
        checks.append(failed("anchors", "no trust anchor was given"))

    # (2) For us: our nonce, our purpose, this keyset and this statement, in the signed report data.
    binding_checks = check_binding(evidence, str(genuine.claims.get("report_data", "")), nonce, purpose, now)
    checks += binding_checks

    # (3) What it says: the statement counts only where it is measured.
    bound = all_passed(binding_checks)
    references = references_of(policy, known)
    checks += stated.check_statement(evidence, kind, genuine.claims, references, bound=bound)

    # (4) What we want: the policy's members, one by one.
    checks += stated.check_wanted(evidence, policy)
    checks.append(check_provenance(evidence.statement.image, known.provenance, policy.provenance))
    checks += kind.wanted(genuine, policy)
    checks += check_custody(genuine.claims, kind.machine, known.custody, policy.custody, now=now)

    # (5) The level follows from who can hold the root, and from nothing else.
    level = level_of(kind, genuine)
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


def excuse_revocation(genuine: Genuine, wanted: Requirement) -> Genuine:
    """The same, where a revocation list that nobody gave is excused by the policy, with its reason.

    Only what was not run is excused, and only because no list was there: a list that does not hold, or names somebody,
    stays a failure.
    """
    if wanted.any is None:
        return genuine
    excused = tuple(
        passed(check.id, f"not checked: {wanted.any}")
        if check.status is Status.NOT_RUN and check.id.endswith(".crl") and check.detail == NO_CRL
        else check
        for check in genuine.checks
    )
    return dataclasses.replace(genuine, checks=excused)


def references_of(policy: Policy, known: Known) -> list[Reference]:
    """The reference values that count: the policy's own, and those signed by a builder it names, not too old."""
    minima = {builder.key: builder.minimum for builder in policy.builders}
    signed = [
        reference
        for signer, values in known.references
        if signer in minima and values.version >= minima[signer]
        for reference in values.references
    ]
    return [*policy.references, *signed]


def require(verdict: Verdict) -> Verdict:
    """The verdict itself if it accepts; otherwise raises `AppraisalRefused` with the ids of the checks that did not pass."""
    if not verdict.accepted:
        names = tuple(check.id for check in verdict.failed)
        first = verdict.failed[0] if verdict.failed else None
        reason = f"{first.id}: {first.detail}" if first else "no check was made"
        reasons = tuple(reason_for(check) for check in verdict.failed)
        raise AppraisalRefused(f"the evidence was not accepted ({reason})", failed=names, reasons=reasons)
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


def level_of(kind: Kind, genuine: Genuine) -> Level:
    """The kind's own level under a vendor's or a cloud's root, `simulated` for anything under an installation's."""
    if not genuine.holds or genuine.root_class is None:
        return Level.NONE
    return Level.SIMULATED if genuine.root_class is RootClass.INSTALLATION else kind.level


def _join(policy: Policy) -> str:
    return ", ".join(level.value for level in policy.levels)
