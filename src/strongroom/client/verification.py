"""Verify a worker: its evidence for our own nonce, under our policy, and the broker's proof that it released the keys.

Knows: the order of the steps and what each protects from. Does not know: HTTP (`client.client`), where a policy came from.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from strongroom.appraisal import appraise, ear, require
from strongroom.appraisal.explain import reason_for
from strongroom.appraisal.signed import NOTHING, Known
from strongroom.audit.decisions import granted
from strongroom.errors import (
    AppraisalRefused,
    FileUnreadable,
    LeaseEnded,
    LogInvalid,
    MalformedRecord,
    SimulationNotAccepted,
    UsageError,
)
from strongroom.receipts.cosignature import Quorum
from strongroom.receipts.identity import open_identity, token_key
from strongroom.receipts.proof import verify_proof
from strongroom.records import codec
from strongroom.records.digest import Digest, digest_bytes
from strongroom.records.evidence import EvidenceBundle
from strongroom.records.policy import Policy
from strongroom.records.release import PURPOSE_SESSION, Leaf
from strongroom.records.session import ReleaseProof, VerificationDocument, WorkerProof
from strongroom.records.verdict import Level, Verdict
from strongroom.records.worker import Keyset
from strongroom.tee.anchors import TrustAnchor


@dataclass(frozen=True, slots=True)
class Trust:
    """What a user holds before any worker is met: the policy, the anchors, the broker's fingerprint, and how far they go.

    `known` are signed reference values, custody lists and provenance; the policy says whose count. Where `witnesses` are
    named, enough of them must have signed the log's state that shows the broker's decision.
    """

    policy: Policy
    anchors: tuple[TrustAnchor, ...]
    broker: Digest | None = None
    accept_simulated: bool = False
    known: Known = NOTHING
    witnesses: Quorum | None = None


@dataclass(frozen=True, slots=True)
class Verification:
    """A worker that was verified: `verdict` on its evidence, `release` from the broker, and the keys that are now trusted."""

    verdict: Verdict
    bundle: EvidenceBundle
    release: ReleaseProof

    @property
    def keyset(self) -> Keyset:
        return self.bundle.evidence.keyset

    @property
    def ends(self) -> int:
        """When the lease or the keyset ends (Unix seconds), whichever is first: verify again before."""
        return min(self.keyset.not_after, lease_end(codec.decode(Leaf, self.release.proof.leaf)))

    @property
    def level(self) -> Level:
        return self.verdict.level

    @property
    def document(self) -> VerificationDocument:
        """What can be kept, shown, and checked offline (`documents.check_verification`). It names the machine; no secret is in it."""
        return VerificationDocument(self.bundle, self.release, self.verdict)

    def save(self, path: str | Path) -> None:
        """Write `document` into a new file. Raises `UsageError` for one that is there, `FileUnreadable`."""
        try:
            with Path(path).open("xb") as file:
                file.write(codec.encode(self.document))
        except FileExistsError:
            raise UsageError(f"{path} is already there", remedy="Choose another name.") from None
        except OSError as error:
            raise FileUnreadable(f"{path}: {error.strerror}") from None


def verify_worker(proof: WorkerProof, trust: Trust, *, nonce: bytes, now: int) -> Verification:
    """Judge a worker's proof for our own `nonce` at `now`. Raises `AppraisalRefused`, `SimulationNotAccepted` and others.

    (1) Its evidence is genuine, fresh, bound to its keyset and admitted by the policy. (2) Simulated only if the user said so.
    (3) A broker, the one we know if we know one, judged the same keyset and statement and logged its decision.
    """
    verdict = appraise(
        proof.bundle,
        policy=trust.policy,
        anchors=trust.anchors,
        nonce=nonce,
        purpose=PURPOSE_SESSION,
        now=now,
        known=trust.known,
    )
    return accept(proof, verdict, trust)


def accept(proof: WorkerProof, verdict: Verdict, trust: Trust) -> Verification:
    """Steps (2) and (3) of `verify_worker`, on a verdict already reached."""
    if verdict.level is Level.SIMULATED and not trust.accept_simulated:
        raise SimulationNotAccepted("this worker runs in a simulated TEE, which protects nothing")
    require(verdict)
    if verdict.time >= lease_end(check_release(proof.release, proof.bundle, trust.broker, trust.witnesses)):
        raise LeaseEnded("the lease that this worker shows is over", detail="lease.expired")
    return Verification(verdict, proof.bundle, proof.release)


def check_release(
    release: ReleaseProof, bundle: EvidenceBundle, fingerprint: Digest | None, witnesses: Quorum | None = None
) -> Leaf:
    """That the broker's decision is about this keyset and statement, accepted, and in its log. Returns the logged decision."""
    identity = open_identity(release.broker, fingerprint)
    verdict = ear.from_token(release.token, token_key(identity))
    if not verdict.accepted:
        raise AppraisalRefused(
            "the broker itself refused this worker",
            failed=tuple(check.id for check in verdict.failed),
            reasons=tuple(reason_for(check) for check in verdict.failed),
        )
    leaf = verify_proof(release.proof, origin=identity.log_origin, log_key=identity.log, witnesses=witnesses)
    evidence = bundle.evidence
    wanted = (
        *(evidence.keyset.digest, evidence.statement.digest, verdict.evidence),
        *(digest_bytes(release.token.encode()), release.chain),
    )
    if leaf.event not in ("release", "renewal") or leaf.digests[:5] != wanted or leaf.subject != release.lease_id:
        raise LogInvalid("the logged decision is about another worker")
    return leaf


def lease_end(leaf: Leaf) -> int:
    """When the lease of a logged release or renewal ends (Unix seconds). Raises `LogInvalid`."""
    try:
        _, seconds = granted(leaf)
    except MalformedRecord:
        raise LogInvalid("the logged decision does not say how long its lease lasts") from None
    return leaf.time + seconds
