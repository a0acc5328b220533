"""A bundle taken apart: whose broker, which log, which leaves, what was kept of them, under which signed policies.

Knows: how parts refer to each other, and signatures and inclusion (RFC 6962) of each. Does not know: whether evidence
holds (`verify`). Whatever does not parse or does not hold is noted in a tally and left out of what comes after.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias, TypeVar

from strongroom.appraisal.policies import open_policy
from strongroom.audit import bundle as files
from strongroom.audit.bundle import Bundle
from strongroom.audit.decisions import DECIDED, Decision
from strongroom.audit.findings import Tally
from strongroom.crypto import merkle
from strongroom.crypto.signatures import PublicKey
from strongroom.errors import LogInvalid, Refused, StrongroomError, Unreadable
from strongroom.receipts.hidden import reveal
from strongroom.receipts.identity import open_identity
from strongroom.receipts.note import Checkpoint, open_checkpoint
from strongroom.records import codec
from strongroom.records.audit import KeptDecision, LoggedLeaf
from strongroom.records.digest import Digest, digest_bytes
from strongroom.records.envelope import Envelope
from strongroom.records.evidence import Collateral
from strongroom.records.names import tenant_of
from strongroom.records.policy import Policy
from strongroom.records.release import BrokerIdentity, Leaf

T = TypeVar("T")

Owners: TypeAlias = Callable[[str], Sequence[PublicKey]]
"""Who may sign the policies of a tenant; the empty tenant is the house of the broker."""


@dataclass(slots=True)
class Opened:
    """What could be taken out of a bundle. Leaves are by number, and only those that the log holds."""

    identity: BrokerIdentity | None = None
    checkpoint: Checkpoint | None = None
    leaves: dict[int, Leaf] = field(default_factory=dict)
    decisions: list[Decision] = field(default_factory=list)
    policies: dict[Digest, Policy] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)
    tallies: list[Tally] = field(default_factory=list)

    def tally(self, identifier: str, what: str) -> Tally:
        """A new check, in its place among the others."""
        self.tallies.append(Tally(identifier, what))
        return self.tallies[-1]


def take_apart(bundle: Bundle, broker: Digest, owners: Owners) -> Opened:
    """The contents of `bundle`, as far as they are of the broker with this fingerprint and of these owners."""
    opened = Opened()
    _identity(opened, bundle, broker)
    _checkpoint(opened, bundle)
    _leaves(opened, bundle)
    _scope(opened, bundle)
    _decisions(opened, bundle)
    _policies(opened, bundle, owners)
    return opened


def parse(kind: type[T], tally: Tally, name: str, data: bytes) -> T | None:
    """A record, or None and a note why not."""
    try:
        return codec.decode(kind, data)
    except Unreadable as error:
        tally.fail(name, error.message)
        return None


def collateral_of(bundle: Bundle, tally: Tally, digest: Digest) -> Collateral | None:
    """The collateral with this digest, or None and a note why not."""
    name = files.addressed(files.COLLATERAL, digest)
    data = bundle.parts.get(name)
    if data is None:
        tally.miss(name, "this collateral is not in the bundle")
        return None
    found = parse(Collateral, tally, name, data)
    if found is not None and found.digest != digest:
        tally.fail(name, "this is other collateral than its name says")
        return None
    return found


def _identity(opened: Opened, bundle: Bundle, broker: Digest) -> None:
    tally = opened.tally("audit.broker", "broker, of the fingerprint that was named")
    tally.count()
    opened.used.add(files.BROKER)
    data = bundle.parts.get(files.BROKER)
    if data is None:
        tally.miss(files.BROKER, "the bundle does not say which broker it is of")
    elif bundle.manifest.broker != broker:
        tally.fail(files.MANIFEST, "the bundle says that it is of another broker")
    else:
        try:
            opened.identity = open_identity(Envelope.from_bytes(data), broker)
        except (Refused, Unreadable) as error:
            tally.fail(files.BROKER, error.message)


def _checkpoint(opened: Opened, bundle: Bundle) -> None:
    tally = opened.tally("audit.checkpoint", "checkpoint, signed by the log")
    tally.count()
    opened.used.add(files.CHECKPOINT)
    data = bundle.parts.get(files.CHECKPOINT)
    if data is None or opened.identity is None:
        tally.miss(files.CHECKPOINT, "there is none, or no broker whose it could be")
        return
    try:
        text = data.decode("utf-8", "surrogateescape")
        opened.checkpoint = open_checkpoint(text, opened.identity.log_origin, opened.identity.log)
    except (Refused, Unreadable) as error:
        tally.fail(files.CHECKPOINT, error.message)


def _leaves(opened: Opened, bundle: Bundle) -> None:
    """Each leaf, once it is where it says in the log under the checkpoint."""
    tally = opened.tally("audit.leaves", "leaves, included in the log")
    hidden = opened.tally("audit.openings", "hidden members of leaves, opened as they were written down")
    for name, data in bundle.folder(files.LEAVES).items():
        tally.count()
        opened.used.add(name)
        logged = parse(LoggedLeaf, tally, name, data)
        if logged is None:
            continue
        if opened.checkpoint is None:
            tally.miss(name, "there is no checkpoint to prove it under")
            continue
        try:
            if files.numbered(files.LEAVES, logged.index) != name or logged.decision is not None:
                raise LogInvalid("this is another leaf than its name says")
            hashed, root = merkle.leaf_hash(logged.leaf), opened.checkpoint.root
            merkle.verify_inclusion(hashed, logged.index, opened.checkpoint.size, logged.path, root=root)
            leaf = codec.decode(Leaf, logged.leaf)
        except (Refused, Unreadable) as error:
            tally.fail(name, error.message)
            continue
        opened.leaves[logged.index] = _opened(hidden, name, leaf, logged)
    if not tally.items:
        tally.miss(files.LEAVES, "a bundle without leaves shows nothing")


def _opened(tally: Tally, name: str, leaf: Leaf, logged: LoggedLeaf) -> Leaf:
    """`leaf` with the members that it hid, as far as they can still be opened; that some cannot is said, and is no failure."""
    try:
        shown, closed = reveal(leaf, logged.openings)
    except LogInvalid as error:
        tally.count()
        tally.fail(name, error.message)
        return leaf
    tally.items += len(logged.openings) + closed
    tally.closed += closed
    return shown


def _scope(opened: Opened, bundle: Bundle) -> None:
    """That nothing within the scope was left out, as far as a log can show it: see the module `gather`."""
    tally = opened.tally("audit.scope", "scope, without gaps")
    tally.count()
    scope, numbers = bundle.manifest.scope, sorted(opened.leaves)
    if not numbers or opened.checkpoint is None:
        tally.miss("scope", "there are no leaves to judge it by")
    elif scope.lease is None and scope.policy is None:
        first, last = numbers[0], numbers[-1]
        if numbers != list(range(first, last + 1)):
            gap = next(number for number in range(first, last + 1) if number not in opened.leaves)
            tally.fail(f"leaf {gap}", "it is within the span, and not in the bundle")
        if first > 0 and opened.leaves[first].time >= scope.since:
            tally.fail(f"leaf {first - 1}", "nothing shows that the span does not begin before the bundle")
        if last + 1 < opened.checkpoint.size and opened.leaves[last].time <= scope.until:
            tally.fail(f"leaf {last + 1}", "nothing shows that the span does not go on after the bundle")
    elif scope.lease is not None and scope.lease not in {
        leaf.subject for leaf in opened.leaves.values() if leaf.event in DECIDED
    }:
        tally.miss(f"lease {scope.lease}", "none of its decisions is in the bundle")
    elif scope.policy is not None and scope.policy not in {leaf.subject for leaf in opened.leaves.values()}:
        tally.miss(f"policy {scope.policy}", "it is not in the bundle")


def _decisions(opened: Opened, bundle: Bundle) -> None:
    """What was kept of each decision, where it is what the leaf names, digest by digest."""
    tally = opened.tally("audit.decisions", "decisions, with token, evidence and keys as logged")
    for index, leaf in sorted(opened.leaves.items()):
        if leaf.event not in DECIDED:
            continue
        tally.count()
        name = files.numbered(files.DECISIONS, index)
        data = bundle.parts.get(name)
        if data is None:
            tally.miss(name, "what this decision rested on is not in the bundle")
            continue
        opened.used.add(name)
        kept = parse(KeptDecision, tally, name, data)
        if kept is None:
            continue
        opened.used.add(files.addressed(files.COLLATERAL, kept.collateral))
        decision = Decision(index, leaf, kept)
        try:
            differing = decision.differing()
        except StrongroomError as error:
            tally.fail(name, error.message)
            continue
        if differing:
            tally.fail(name, f"not as logged: {', '.join(differing[:4])}")
        else:
            opened.decisions.append(decision)


def _policies(opened: Opened, bundle: Bundle, owners: Owners) -> None:
    """Each policy that an owner of its tenant signed; none is missing that a decision names, or of another tenant than its key."""
    tally = opened.tally("audit.policies", "policies, signed by an owner")
    named = {digest for leaf in opened.leaves.values() for digest in leaf.digests}
    for name, data in bundle.folder(files.POLICIES).items():
        tally.count()
        opened.used.add(name)
        try:
            if files.addressed(files.POLICIES, digest_bytes(data)) != name:
                tally.fail(name, "this is another policy than its name says")
                continue
            envelope = Envelope.from_bytes(data)
            claimed = codec.decode(Policy, envelope.payload)  # says whose it is; who signed it is looked at next
            policy = open_policy(envelope, owners(tenant_of(claimed.id)))
        except (Refused, Unreadable) as error:
            tally.fail(name, error.message)
            continue
        opened.policies[policy.digest] = policy
        if policy.digest not in named:
            opened.used.discard(name)
    for decision in opened.decisions:
        for digest in decision.policies:
            if digest not in opened.policies:
                tally.miss(f"policy {digest}", f"leaf {decision.index} rests on it, and no owner's is in the bundle")
        for grant in decision.kept.grants:
            under, key_id = opened.policies.get(grant.context.policy), grant.context.key_id
            if under is not None and tenant_of(under.id) != tenant_of(key_id):
                tally.fail(f"leaf {decision.index}", f"{key_id} was released under {under.id}, another tenant's policy")
