"""What goes into a bundle: the leaves that its scope asks for, and all that these rest on.

Knows: which leaves belong to a lease, a policy or a span. Does not know: who serves pages of a log (`release.client`),
or whether any of it holds (`verify`). Of a receipt only its signed envelope goes in: salts and hashes of requests stay
with whoever keeps the receipt.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

from strongroom.audit import bundle
from strongroom.audit.bundle import Bundle, Scope
from strongroom.audit.decisions import DECIDED, KEY, POLICIES, POLICY
from strongroom.errors import LogInvalid, MalformedRecord, UsageError
from strongroom.receipts.hidden import reveal
from strongroom.receipts.receipt import ReceiptDocument
from strongroom.records import codec
from strongroom.records.audit import AuditPage, Cosigned, LoggedLeaf
from strongroom.records.digest import Digest, digest_bytes
from strongroom.records.envelope import Envelope
from strongroom.records.policy import Policy
from strongroom.records.release import Leaf, renewal_purpose


def gather(
    pages: Iterable[AuditPage], scope: Scope, *, identity: Envelope, broker: Digest, receipts: Sequence[bytes] = ()
) -> Bundle:
    """A bundle for `scope` from the pages of the log of `broker`, with receipts as their files are.

    Raises `UsageError` where there is nothing of that scope, `MalformedRecord` for a receipt that is none, `LogInvalid`
    where the broker gave no checkpoint.
    """
    leaves: dict[int, tuple[LoggedLeaf, Leaf]] = {}
    collateral: dict[Digest, bytes] = {}
    policies: dict[Digest, bytes] = {}
    checkpoint: str | None = None
    cosigned: Cosigned | None = None
    for page in pages:
        if checkpoint is None:
            checkpoint, cosigned = page.checkpoint, page.cosigned
        leaves |= {logged.index: (logged, _opened(logged)) for logged in page.leaves}
        collateral |= {item.digest: codec.encode(item) for item in page.collateral}
        policies |= {digest_bytes(policy.to_bytes()): policy.to_bytes() for policy in page.policies}
    if checkpoint is None:
        raise LogInvalid("the broker gave no checkpoint")
    chosen = _chosen(list(leaves.values()), scope)
    if not chosen:
        raise UsageError(
            "the broker's log has nothing of that", remedy="See `strongroom leases list`, or widen the span."
        )
    parts = {bundle.BROKER: identity.to_bytes(), bundle.CHECKPOINT: checkpoint.encode()}
    if cosigned is not None:
        parts[bundle.COSIGNED] = codec.encode(cosigned)
    for logged in chosen:
        bare = dataclasses.replace(logged, decision=None)
        parts[bundle.numbered(bundle.LEAVES, logged.index)] = codec.encode(bare)
        if logged.decision is not None:
            parts[bundle.numbered(bundle.DECISIONS, logged.index)] = codec.encode(logged.decision)
    used = {logged.decision.collateral for logged in chosen if logged.decision is not None}
    parts |= {bundle.addressed(bundle.COLLATERAL, name): collateral[name] for name in used & collateral.keys()}
    parts |= _rested_on(policies, [leaves[logged.index][1] for logged in chosen if logged.decision is not None])
    for envelope in map(_receipt, receipts):
        data = envelope.to_bytes()
        parts[bundle.addressed(bundle.RECEIPTS, digest_bytes(data))] = data
    return bundle.make(parts, broker=broker, scope=scope)


def _opened(logged: LoggedLeaf) -> Leaf:
    """A leaf with what is still known of it."""
    return reveal(codec.decode(Leaf, logged.leaf), logged.openings)[0]


def policy_digest(envelope: Envelope) -> Digest:
    """The digest of the policy in an envelope, whoever signed it. Raises `MalformedRecord`."""
    return codec.decode(Policy, envelope.payload).digest


def _rested_on(policies: Mapping[Digest, bytes], leaves: Sequence[Leaf]) -> dict[str, bytes]:
    """The parts for those policies that decisions among `leaves` name."""
    named = {digest for leaf in leaves for digest in leaf.digests[POLICIES:]}
    return {
        bundle.addressed(bundle.POLICIES, name): data
        for name, data in policies.items()
        if policy_digest(Envelope.from_bytes(data)) in named
    }


def _chosen(leaves: Sequence[tuple[LoggedLeaf, Leaf]], scope: Scope) -> list[LoggedLeaf]:
    """Those that the scope asks for: of a span all; else its leases, with their policies and the keys they got."""
    if scope.lease is None and scope.policy is None:
        return [logged for logged, _ in leaves]
    policies = {leaf.digests[0] for _, leaf in leaves if leaf.event == POLICY and leaf.subject == scope.policy}
    decided = [
        (logged, leaf)
        for logged, leaf in leaves
        if leaf.event in DECIDED and (leaf.subject == scope.lease or not policies.isdisjoint(leaf.digests[POLICIES:]))
    ]
    leases = {leaf.subject for _, leaf in decided}
    about = leases | {renewal_purpose(lease) for lease in leases}
    named = policies | {digest for _, leaf in decided for digest in leaf.digests[POLICIES:]}
    keys = {grant.context.key_id for logged, _ in decided if logged.decision for grant in logged.decision.grants}
    return [
        logged
        for logged, leaf in leaves
        if (leaf.event == POLICY and leaf.digests[0] in named)
        or (leaf.event == KEY and leaf.subject in keys)
        or (leaf.event not in {POLICY, KEY} and leaf.subject in about)
    ]


def _receipt(data: bytes) -> Envelope:
    """The signed receipt in a file: a receipt document as users keep it, or the envelope alone."""
    members = codec.parse_json(data)
    if isinstance(members, dict) and members.get("type") == ReceiptDocument.TYPE:
        return codec.decode(ReceiptDocument, data).receipt.envelope
    if isinstance(members, dict) and "payloadType" in members:
        return Envelope.from_bytes(data)
    raise MalformedRecord("this is neither a receipt document nor a signed receipt")
