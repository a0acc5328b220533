"""A receipt checked offline: by anybody, later, with public keys and a policy only.

Knows: the order of the steps. Does not know: where the document was kept. The evidence is judged at the moment that the broker's
log gives for its decision, since collateral expires and what it showed then does not.
"""

from __future__ import annotations

from dataclasses import dataclass

from strongroom.appraisal import appraise, require
from strongroom.client.verification import Trust, check_release
from strongroom.errors import ReceiptInvalid, SimulationNotAccepted, UsageError
from strongroom.receipts.receipt import ReceiptDocument, verify_document
from strongroom.records.receipt import Receipt
from strongroom.records.release import PURPOSE_SESSION, Leaf
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
    if trust.broker is None and at is None:
        raise UsageError(
            "without a broker's fingerprint nobody vouches for the moment", remedy="Give --broker-fingerprint or --at."
        )
    receipt = verify_document(document)
    decision = check_release(document.release, document.bundle, trust.broker, trust.witnesses)
    evidence = document.bundle.evidence
    verdict = appraise(
        document.bundle,
        policy=trust.policy,
        anchors=trust.anchors,
        nonce=evidence.nonce,
        purpose=PURPOSE_SESSION,
        now=decision.time if at is None else at,
        known=trust.known,
    )
    if verdict.level is Level.SIMULATED and not trust.accept_simulated:
        raise SimulationNotAccepted("this receipt comes from a simulated TEE, which protects nothing")
    require(verdict)
    if receipt.artifacts != evidence.statement.artifacts:
        raise ReceiptInvalid("this receipt names other artifacts than the evidence", detail="artifacts")
    if receipt.outcome != "complete":
        raise ReceiptInvalid(f"this answer was {receipt.outcome}, not complete", detail="outcome")
    return Checked(receipt, verdict, decision)
