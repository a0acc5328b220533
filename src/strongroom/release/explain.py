"""Dry runs: what a broker would decide, without deciding it.

Knows: which conditions a release has beside the evidence, and where the evidence of a live lease is kept. Does not know: how
evidence is judged (the appraiser it is given), or whether the caller is an owner (`owners`). Nothing is written: no nonce is
consumed, no leaf, no answer, no evidence kept, no key unwrapped. Evidence answers the nonce and the purpose that it names:
whether they are fresh is not judged here, nor whether witnesses answer now. Not covered: what stands in wrapped keys (their version, their
edition).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from strongroom.errors import MalformedEvidence, MalformedRecord, ReleaseRefused
from strongroom.records import codec
from strongroom.records.audit import KeptDecision
from strongroom.records.envelope import Envelope
from strongroom.records.evidence import Collateral, EvidenceBundle
from strongroom.records.explanation import (
    ExplainRequest,
    Explanation,
    KeyOutlook,
    LeaseTrial,
    PolicyJudgement,
    PolicyTrial,
)
from strongroom.records.policy import Policy
from strongroom.records.release import Leaf, Lease, LeaseState
from strongroom.records.verdict import Status, Verdict
from strongroom.release import leases, leaves
from strongroom.release.administrators import Administrators
from strongroom.release.decisions import Appraiser
from strongroom.release.demands import Demands
from strongroom.release.revocations import check_not_revoked
from strongroom.release.stores.port import KeyState, Reader, Store, StoredPolicy
from strongroom.release.subjects import Claims, notes_of
from strongroom.release.uses import once_per_boot
from strongroom.release.wire import MAX_KEYS_PER_REQUEST

MAX_TRIALS = 500
SCANNED_LEAVES = 65_536
"""How far back the newest evidence of live leases is looked for; what is further back is said to be not kept."""
CHUNK = 4096
DECIDED = frozenset({leaves.RELEASE, leaves.RENEWAL})


@dataclass(frozen=True, slots=True)
class _Found:
    """What is kept of the newest decision about one live lease."""

    lease: Lease
    at: int | None = None
    bundle: EvidenceBundle | None = None


class Explainer:
    """Judges under the policies in `store`, or one that is not in force; `administrators` say whose signature counts."""

    def __init__(self, store: Store, *, appraiser: Appraiser, administrators: Administrators, demands: Demands) -> None:
        self._store, self._appraiser = store, appraiser
        self._administrators, self._demands = administrators, demands

    def explain(self, request: ExplainRequest, *, now: int) -> Explanation:
        """All that would be checked at `now`, and what would be released.

        Raises `MalformedEvidence`, `MalformedRecord`, or `SignatureInvalid` for a draft that no owner signed.
        """
        if len(request.keys) > MAX_KEYS_PER_REQUEST or not (request.keys or request.draft):
            raise MalformedRecord(f"1 to {MAX_KEYS_PER_REQUEST} keys are explained at once, or a draft of a policy")
        draft = None if request.draft is None else self._opened(request.draft.to_bytes())
        outlooks, stored = self._store.read(lambda reader: _outlooks(reader, request.keys, draft))
        if draft is not None and request.draft is not None:
            stored += (StoredPolicy(draft.id, draft.version, draft.digest, request.draft.to_bytes()),)
        policies = [self._opened(one.envelope) for one in stored]
        verdicts = [self._appraise(request.bundle, policy, now) for policy in policies]
        judged = tuple(_judged(policy, verdict, draft) for policy, verdict in zip(policies, verdicts, strict=True))
        claims = verdicts[0].claims if verdicts else {}
        outlooks = tuple(self._standing(one, request, stored, claims) for one in outlooks)
        under = {one.policy_id for one in outlooks}
        counted = [policy for policy in policies if policy.id in under]
        admitted = all(one.accepted for one in judged if one.id in under)
        seconds = None
        if counted and admitted and not any(one.code for one in outlooks):
            try:
                keyset = request.bundle.evidence.keyset
                seconds = leases.term(keyset, [policy.lease_seconds for policy in counted], now=now)
            except ReleaseRefused as error:
                outlooks = tuple(_refused(one, error) for one in outlooks)
        return Explanation(now, judged, outlooks, seconds)

    def try_policy(self, envelope: Envelope, *, now: int) -> PolicyTrial:
        """Which live leases under this policy's id would still pass under it, by the evidence that is kept of them.

        Evidence is judged as of the moment it was shown, so that only the policy makes a difference. Raises
        `SignatureInvalid`, `MalformedRecord`, or `ReleaseRefused` where it demands witnesses that this broker does not have.
        """
        policy = self._opened(envelope.to_bytes())
        self._demands.check_possible([StoredPolicy(policy.id, policy.version, policy.digest, envelope.to_bytes())])

        def gather(reader: Reader) -> tuple[StoredPolicy | None, list[Lease], list[_Found]]:
            live = _live(reader, policy.id, now)
            return reader.policy(policy.id), live, _kept(reader, live[:MAX_TRIALS])

        newest, live, found = self._store.read(gather)
        trials = tuple(self._try(one, policy) for one in found)
        newer = newest is None or newest.version < policy.version
        return PolicyTrial(policy.id, policy.version, policy.digest, newer, trials, len(live) - len(found))

    def _opened(self, envelope: bytes) -> Policy:
        return self._administrators.open_policy(envelope)[0]

    def _standing(
        self, outlook: KeyOutlook, request: ExplainRequest, stored: Sequence[StoredPolicy], claims: Claims
    ) -> KeyOutlook:
        """`outlook`, unless something stands against this key that only the evidence shows, or its policy's witnesses."""
        if outlook.code or outlook.policy_id is None:
            return outlook
        key_id, policy_id, evidence = outlook.key_id, outlook.policy_id, request.bundle.evidence
        notes = notes_of(evidence, claims, key_ids=[key_id], policy_ids=[policy_id])

        def look(reader: Reader) -> None:
            check_not_revoked(reader, notes.subjects)
            once_per_boot(reader, key_id, request.keys.count(key_id), notes.boot)

        try:
            self._store.read(look)
            self._demands.check_possible([one for one in stored if one.id == policy_id])
        except ReleaseRefused as error:
            return _refused(outlook, error)
        return outlook

    def _try(self, found: _Found, policy: Policy) -> LeaseTrial:
        lease = found.lease
        if found.bundle is None or found.at is None:
            return LeaseTrial(lease.id, lease.key_ids, Status.NOT_RUN, None, ())
        try:
            verdict = self._appraise(found.bundle, policy, found.at)
        except MalformedEvidence:  # it was judged before, by a verifier that is gone
            return LeaseTrial(lease.id, lease.key_ids, Status.NOT_RUN, found.at, ())
        status = Status.PASS if verdict.accepted else Status.FAIL
        return LeaseTrial(lease.id, lease.key_ids, status, found.at, verdict.failed)

    def _appraise(self, bundle: EvidenceBundle, policy: Policy, now: int) -> Verdict:
        evidence = bundle.evidence
        return self._appraiser(bundle, policy=policy, nonce=evidence.nonce, purpose=evidence.purpose, now=now)


def _judged(policy: Policy, verdict: Verdict, draft: Policy | None) -> PolicyJudgement:
    return PolicyJudgement(
        policy.id,
        policy.version,
        policy.digest,
        draft is not None and policy.digest == draft.digest,
        verdict.accepted,
        verdict.level,
        verdict.checks,
    )


def _refused(outlook: KeyOutlook, error: ReleaseRefused) -> KeyOutlook:
    return KeyOutlook(outlook.key_id, outlook.policy_id, error.detail, error.message)


def _outlooks(
    reader: Reader, key_ids: Sequence[str], draft: Policy | None
) -> tuple[tuple[KeyOutlook, ...], tuple[StoredPolicy, ...]]:
    """What is to be said of each key, and the policies in force that judge them, each once."""
    outlooks, policies = [], {}
    for key_id in key_ids:
        key = reader.key(key_id)
        if key is None or key.state is not KeyState.ACTIVE:
            outlooks.append(KeyOutlook(key_id, None, "key.unknown", "there is no such key, or it is retired"))
            continue
        uses, policy = reader.key_uses(key_id), reader.policy(key.policy_id)
        by_draft = draft is not None and draft.id == key.policy_id
        code = reason = ""
        if uses is not None and uses.used + key_ids.count(key_id) > uses.limit:
            code, reason = "key.uses", f"this key was released {uses.used} times of {uses.limit}"
        elif policy is None and not by_draft:
            code, reason = "policy.missing", "this key has no policy yet, and so is released to nobody"
        outlooks.append(KeyOutlook(key_id, key.policy_id, code, reason))
        if policy is not None and not by_draft:
            policies[policy.id] = policy
    return tuple(outlooks), tuple(policies.values())


def _live(reader: Reader, policy_id: str, now: int) -> list[Lease]:
    """Leases that are active at `now` and hold a key under this policy."""
    held = {key.id for key in reader.keys() if key.policy_id == policy_id}  # noqa: SIM118 (not a dict)
    found = (leases.at(stored.lease, now) for stored in reader.leases())
    return [lease for lease in found if lease.state is LeaseState.ACTIVE and not held.isdisjoint(lease.key_ids)]


def _kept(reader: Reader, live: Sequence[Lease]) -> list[_Found]:
    """What is kept of the newest decision about each of these leases, in their order."""
    wanted = {lease.id: lease for lease in live}
    positions: dict[str, tuple[int, int]] = {}
    for position, leaf in _backwards(reader, until=lambda: len(positions) == len(wanted)):
        if leaf.event in DECIDED and leaf.subject in wanted and leaf.subject not in positions:
            positions[leaf.subject] = position, leaf.time
    return [_bundle(reader, lease, positions.get(lease.id)) for lease in live]


def _backwards(reader: Reader, *, until: Callable[[], bool]) -> Iterator[tuple[int, Leaf]]:
    """The newest leaves, each with its number, the last one first, as far as is looked and not beyond `until`."""
    end = reader.log_size()
    last = max(0, end - SCANNED_LEAVES)
    while end > last and not until():
        start = max(last, end - CHUNK)
        chunk = reader.log_leaves(start, end)
        for offset in reversed(range(len(chunk))):
            yield start + offset, codec.decode(Leaf, chunk[offset])
        end = start


def _bundle(reader: Reader, lease: Lease, where: tuple[int, int] | None) -> _Found:
    kept = None if where is None else reader.decision(where[0])
    if where is None or kept is None:
        return _Found(lease)
    decision = codec.decode(KeptDecision, kept)
    collateral = reader.collateral(decision.collateral)
    if collateral is None:
        return _Found(lease)
    return _Found(lease, where[1], EvidenceBundle(decision.evidence, codec.decode(Collateral, collateral)))
