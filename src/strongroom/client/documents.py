"""Receipts and verifications checked offline: by anybody, later, with public keys and a policy only.

Knows: the order of the steps. Does not know: where a document was kept. The evidence is judged at the moment that the broker's
log gives for its decision, since collateral expires and what it showed then does not.
"""

from __future__ import annotations

from dataclasses import dataclass

from strongroom.appraisal import appraise, require
from strongroom.client.verification import Trust, check_release
from strongroom.errors import AppraisalRefused, ReceiptInvalid, SimulationNotAccepted, UsageError
from strongroom.receipts.receipt import ReceiptDocument, verify_document
from strongroom.records.evidence import EvidenceBundle
from strongroom.records.receipt import Receipt
from strongroom.records.release import PURPOSE_SESSION, Leaf
from strongroom.records.session import ReleaseProof, VerificationDocument
from strongroom.records.verdict import Level, Verdict


@dataclass(frozen=True, slots=True)
class Checked:
    """What a receipt proves: the receipt, the verdict on the worker, and the logged decision that released its keys."""

    receipt: Receipt
    verdict: Verdict
    decision: Leaf


def check_document(document: ReceiptDocument, trust: Trust, *, at: int | None = None) -> Checked:
    """Check a receipt and all it rests on; `at` (Unix seconds) replaces the moment of the logged decision.

    (1) The receipt is for this request and response, signed by the worker's key. (2) A broker judged that worker and logged it.
    (3) The worker's evidence is genuine and what the policy wants. (4) The answer was complete.
    Raises what the first step that fails raises.
    """
    _require_moment(trust, at)
    receipt = verify_document(document)
    verdict, decision = _judge(document.bundle, document.release, trust, at)
    if receipt.artifacts != document.bundle.evidence.artifacts:
        raise ReceiptInvalid("this receipt names other artifacts than the evidence", detail="artifacts")
    if receipt.outcome != "complete":
        raise ReceiptInvalid(f"this answer was {receipt.outcome}, not complete", detail="outcome")
    return Checked(receipt, verdict, decision)


@dataclass(frozen=True, slots=True)
class CheckedVerification:
    """What a saved verification proves: the verdict reached anew, and the logged decision that released the worker's keys."""

    verdict: Verdict
    decision: Leaf


def check_verification(
    document: VerificationDocument, trust: Trust, *, at: int | None = None, nonce: bytes | None = None
) -> CheckedVerification:
    """Check a saved verification and all it rests on, as of its logged decision or `at` (Unix seconds).

    `nonce` is the user's own, if somebody still knows it; without it, that the evidence was made for this user is not shown. The verdict
    in the document must be the one that is reached anew: the same evidence, the same level. Raises what the first step that fails raises.
    """
    _require_moment(trust, at)
    verdict, decision = _judge(document.bundle, document.release, trust, at, nonce)
    kept = document.verdict
    if not kept.accepted or (kept.evidence, kept.level) != (verdict.evidence, verdict.level):
        raise AppraisalRefused(
            "the verdict in this document is not the one that its evidence gives",
            remedy="Do not rely on this document.",
        )
    return CheckedVerification(verdict, decision)


def _require_moment(trust: Trust, at: int | None) -> None:
    if trust.broker is None and at is None:
        raise UsageError(
            "without a broker's fingerprint nobody vouches for the moment", remedy="Give --broker-fingerprint or --at."
        )


def _judge(
    bundle: EvidenceBundle, release: ReleaseProof, trust: Trust, at: int | None, nonce: bytes | None = None
) -> tuple[Verdict, Leaf]:
    """The broker's decision, and what its evidence is worth at that moment."""
    decision = check_release(release, bundle, trust.broker, trust.witnesses)
    verdict = appraise(
        bundle,
        policy=trust.policy,
        anchors=trust.anchors,
        nonce=bundle.evidence.nonce if nonce is None else nonce,
        purpose=PURPOSE_SESSION,
        now=decision.time if at is None else at,
        known=trust.known,
    )
    if verdict.level is Level.SIMULATED and not trust.accept_simulated:
        raise SimulationNotAccepted("this document comes from a simulated TEE, which protects nothing")
    require(verdict)
    return verdict, decision
