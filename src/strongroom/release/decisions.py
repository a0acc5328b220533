"""Decisions: what must hold for a key to be released or a lease to be renewed, and the answer that follows.

Knows: the conditions, in order. Does not know: nonces, transactions (`broker`), or how evidence is judged (the
appraiser it is given). Everything here happens before anything is written: a `Yes` is only an intention until its
transaction is durable, and `still_holds` is asked again inside it. The tie between an artifact's digest and its
artifact id stands in the artifact itself; the measured worker checks it, a broker, which never sees artifacts, puts
both into the grant.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from strongroom.appraisal import ear
from strongroom.appraisal.appraise import require
from strongroom.errors import ReleaseRefused
from strongroom.records.digest import Digest
from strongroom.records.envelope import Envelope
from strongroom.records.evidence import Evidence, EvidenceBundle
from strongroom.records.policy import Policy
from strongroom.records.release import (
    Challenge,
    Edition,
    ExtensionRequest,
    Grant,
    GrantContext,
    GrantSummary,
    Leaf,
    Lease,
    ReleaseRequest,
    RenewalRequest,
)
from strongroom.records.verdict import Verdict
from strongroom.release import leases, leaves
from strongroom.release.administrators import Administrators
from strongroom.release.archive import Kept
from strongroom.release.grants import seal_grant, sign_grant
from strongroom.release.keys import KeyRing
from strongroom.release.state import BrokerKeys
from strongroom.release.stores.port import KeyState, Reader, StoredKey, StoredLease, StoredPolicy
from strongroom.release.stores.revocations import LeaseNotes
from strongroom.release.subjects import notes_of
from strongroom.release.wire import MAX_KEYS_PER_REQUEST


class Appraiser(Protocol):
    """Judges evidence under one policy; the trust anchors are its own. Raises `MalformedEvidence`."""

    def __call__(self, bundle: EvidenceBundle, *, policy: Policy, nonce: bytes, purpose: str, now: int) -> Verdict: ...


@dataclass(frozen=True, slots=True)
class Facts:
    """What a decision rests on: the keys held or asked for, each of their policies once, in that order, and the lease if any.

    `asked` are those of the keys that are granted now.
    """

    keys: tuple[StoredKey, ...]
    policies: tuple[StoredPolicy, ...]
    lease: StoredLease | None = None
    asked: tuple[StoredKey, ...] = ()


@dataclass(frozen=True, slots=True)
class Yes:
    """An intended answer: lease as it will stand, token, grants, the leaf that says so, what it concerns, what is kept."""

    facts: Facts
    lease: Lease
    seconds: int
    token: str
    grants: tuple[Envelope, ...]
    outlines: tuple[GrantSummary, ...]
    leaf: Leaf
    notes: LeaseNotes
    kept: Kept | None = None


def release_facts(reader: Reader, request: ReleaseRequest | ExtensionRequest) -> Facts:
    """Raises `ReleaseRefused` where a key or its policy is missing or retired: default deny."""
    if not 1 <= len(request.keys) <= MAX_KEYS_PER_REQUEST:
        raise ReleaseRefused(f"a request asks for 1 to {MAX_KEYS_PER_REQUEST} keys", detail="keys.count")
    found = [reader.key(wanted.wrapped.key_id, wanted.wrapped.key_version) for wanted in request.keys]
    facts = facts_of(reader, found)
    return dataclasses.replace(facts, asked=facts.keys)


def extension_facts(reader: Reader, request: ExtensionRequest, *, now: int) -> Facts:
    """Both: those of the renewal, and those of the further keys. Raises as `renewal_facts` and `release_facts`."""
    held, asked = renewal_facts(reader, request, now=now), release_facts(reader, request)
    if len({key.id for key in (*held.keys, *asked.keys)}) > MAX_KEYS_PER_REQUEST:
        raise ReleaseRefused(f"a lease holds at most {MAX_KEYS_PER_REQUEST} keys", detail="keys.count")
    policies = {policy.id: policy for policy in (*held.policies, *asked.policies)}
    return Facts((*held.keys, *asked.keys), tuple(policies.values()), held.lease, asked.keys)


def renewal_facts(reader: Reader, request: RenewalRequest | ExtensionRequest, *, now: int) -> Facts:
    """Raises `LeaseEnded`, or `ReleaseRefused` where a key was retired meanwhile."""
    stored = reader.lease(request.lease_id)
    lease = leases.check_active(stored.lease if stored else None, now=now)
    evidence = request.bundle.evidence
    leases.check_same_worker(lease, evidence.keyset.digest, evidence.statement.digest)
    facts = facts_of(reader, [reader.key(key_id) for key_id in lease.key_ids])
    return Facts(facts.keys, facts.policies, stored)


def still_holds(reader: Reader, facts: Facts, *, now: int) -> None:
    """Asked inside the transaction: nothing changed while the evidence was judged.

    Raises `ReleaseRefused` or `LeaseEnded`.
    """
    if facts.lease is not None:
        lease = leases.check_active(_lease_now(reader, facts.lease), now=now)
        if lease.renewals != facts.lease.lease.renewals:
            raise ReleaseRefused("this lease was renewed meanwhile", detail="lease.renewals")
    same_keys = all(reader.key(key.id, key.version) == key for key in facts.keys)
    if not same_keys or any(reader.policy(policy.id) != policy for policy in facts.policies):
        raise ReleaseRefused("a key or its policy changed while this was decided", detail="facts.changed")


class Judge:
    """Decides, with a broker's keys; its administrators say whose signature makes a policy count."""

    def __init__(
        self, keys: BrokerKeys, ring: KeyRing, *, appraiser: Appraiser, administrators: Administrators
    ) -> None:
        self._keys, self._ring = keys, ring
        self._appraiser = appraiser
        self._fingerprint = keys.identity.fingerprint
        self._open_policy = administrators.open_policy

    def release(self, request: ReleaseRequest, facts: Facts, *, now: int) -> Yes:
        """The answer to a worker's first proof. Raises `AppraisalRefused`, `ReleaseRefused` or `MalformedEvidence`."""
        evidence = request.bundle.evidence
        self._check_asked(request)
        policies, verdict = self._appraise(request.bundle, request.challenge, facts, now=now)
        _check_editions(request, facts, policies)
        seconds = leases.term(evidence.keyset, [policy.lease_seconds for policy in policies], now=now)
        token = self._token(verdict)
        lease = leases.begin(
            leases.new_id(),
            evidence,
            policy_id=facts.keys[0].policy_id,
            key_ids=tuple(dict.fromkeys(key.id for key in facts.keys)),
            token=token,
            now=now,
            seconds=seconds,
        )
        grants = self._grants(request, facts, lease, seconds, evidence=verdict.evidence)
        outlines = tuple(grant.summary for grant in grants)
        leaf = leaves.decided(
            leaves.RELEASE,
            lease,
            time=now,
            evidence=verdict.evidence,
            token=token,
            level=verdict.level,
            seconds=seconds,
            policies=[policy.digest for policy in facts.policies],
            grants=[outline.digest for outline in outlines],
        )
        signed = tuple(sign_grant(grant, self._keys.signing) for grant in grants)
        return Yes(facts, lease, seconds, token, signed, outlines, leaf, _notes(evidence, verdict, facts))

    def renewal(self, request: RenewalRequest | ExtensionRequest, facts: Facts, *, now: int) -> Yes:
        """The answer to a worker's fresh proof for a lease it has, perhaps with further keys. Raises as `release` does."""
        evidence = request.bundle.evidence
        extension = request if isinstance(request, ExtensionRequest) else None
        if extension is not None:
            self._check_asked(extension)
        policies, verdict = self._appraise(request.bundle, request.challenge, facts, now=now)
        if extension is not None:
            _check_editions(extension, facts, policies)
        seconds = leases.term(evidence.keyset, [policy.lease_seconds for policy in policies], now=now)
        token = self._token(verdict)
        before = leases.check_active(facts.lease.lease if facts.lease else None, now=now)
        lease = leases.renew(before, token=token, now=now, seconds=seconds, key_ids=[key.id for key in facts.asked])
        given = verdict.evidence
        grants = [] if extension is None else self._grants(extension, facts, lease, seconds, evidence=given)
        outlines = tuple(grant.summary for grant in grants)
        leaf = leaves.decided(
            leaves.RENEWAL,
            lease,
            time=now,
            evidence=verdict.evidence,
            token=token,
            level=verdict.level,
            seconds=seconds,
            policies=[policy.digest for policy in facts.policies],
            grants=[outline.digest for outline in outlines],
        )
        signed = tuple(sign_grant(grant, self._keys.signing) for grant in grants)
        return Yes(facts, lease, seconds, token, signed, outlines, leaf, _notes(evidence, verdict, facts))

    def _check_asked(self, request: ReleaseRequest | ExtensionRequest) -> None:
        for wanted in request.keys:
            if wanted.wrapped.broker != self._fingerprint:
                raise ReleaseRefused("this key was wrapped by another broker", detail="key.broker")
            if wanted.artifact not in request.bundle.evidence.artifacts:
                raise ReleaseRefused(
                    "neither the statement nor a later event names the artifact asked for", detail="statement.artifacts"
                )

    def _appraise(
        self, bundle: EvidenceBundle, challenge: Challenge, facts: Facts, *, now: int
    ) -> tuple[list[Policy], Verdict]:
        """Every policy must admit the evidence.

        The verdict that becomes the token is that under the first key's policy.
        """
        opened = [self._open_policy(stored.envelope) for stored in facts.policies]
        policies = [policy for policy, _ in opened]
        if [(policy.id, digest) for policy, digest in opened] != [
            (stored.id, stored.digest) for stored in facts.policies
        ]:
            raise ReleaseRefused("a stored policy is not the one that its owner signed", detail="policy.stored")
        verdicts = [
            require(self._appraiser(bundle, policy=policy, nonce=challenge.nonce, purpose=challenge.purpose, now=now))
            for policy in policies
        ]
        return policies, verdicts[0]

    def _grants(
        self, request: ReleaseRequest | ExtensionRequest, facts: Facts, lease: Lease, seconds: int, *, evidence: Digest
    ) -> list[Grant]:
        digests = {policy.id: policy.digest for policy in facts.policies}
        keyset = request.bundle.evidence.keyset
        grants = []
        for wanted, key in zip(request.keys, facts.asked, strict=True):
            context = GrantContext(
                nonce=request.challenge.nonce,
                keyset=lease.keyset,
                statement=lease.statement,
                evidence=evidence,
                policy=digests[key.policy_id],
                key_id=key.id,
                use=wanted.use,
                artifact=wanted.artifact,
                artifact_id=wanted.wrapped.artifact_id,
                lease_id=lease.id,
                lease_seconds=seconds,
                expires=lease.expires,
            )
            grants.append(seal_grant(self._ring.unwrap(key, wanted.wrapped), context, keyset.release))
        return grants

    def _token(self, verdict: Verdict) -> str:
        return ear.to_token(verdict, self._keys.token, issuer=self._fingerprint)


def _notes(evidence: Evidence, verdict: Verdict, facts: Facts) -> LeaseNotes:
    keys, policies = ([found.id for found in every] for every in (facts.keys, facts.policies))
    return notes_of(evidence, verdict.claims, key_ids=keys, policy_ids=policies)


def _check_editions(request: ReleaseRequest | ExtensionRequest, facts: Facts, policies: Sequence[Policy]) -> None:
    by_id = {policy.id: policy for policy in policies}
    for wanted, key in zip(request.keys, facts.asked, strict=True):
        check_edition(wanted.wrapped.of, by_id[key.policy_id])


def check_edition(of: Edition, policy: Policy) -> None:
    """No key of an edition before its policy's floor; which edition it is of is bound into the wrapped key.

    Raises `ReleaseRefused`.
    """
    least = policy.editions.get(of.line.hex(), 1)
    if of.edition < least:
        raise ReleaseRefused(
            f"this is the key of edition {of.edition}, and the policy wants {least} at the least",
            detail="key.edition",
            remedy="Fetch the newest edition of the artifact.",
        )


def facts_of(reader: Reader, found: Sequence[StoredKey | None]) -> Facts:
    """The keys that were found and their policies. Raises `ReleaseRefused` where one is missing or retired."""
    keys = []
    policies: dict[str, StoredPolicy] = {}
    for key in found:
        if key is None or key.state is not KeyState.ACTIVE:
            raise ReleaseRefused("there is no such key, or it is retired", detail="key.unknown")
        policy = reader.policy(key.policy_id)
        if policy is None:
            raise ReleaseRefused("this key has no policy yet, and so is released to nobody", detail="policy.missing")
        keys.append(key)
        policies[policy.id] = policy
    return Facts(tuple(keys), tuple(policies.values()))


def _lease_now(reader: Reader, lease: StoredLease) -> Lease | None:
    stored = reader.lease(lease.lease.id)
    return stored.lease if stored else None
