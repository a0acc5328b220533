"""The leaves of the broker's log: what each event writes down, and how a worker checks that its own is there.

Knows: the order of digests in each leaf. Does not know: the log (`log`), or what led to an event.

    event       subject     digests                                                              detail
    release     lease id    keyset, statement, evidence, token, chain, policies…, grants…        level, lease_seconds
    renewal     lease id    keyset, statement, evidence, token, chain, policies…                 level, lease_seconds
    refusal     purpose     evidence, keyset; of a cell: request, keyset                         code, checks, how many unlogged
    revocation  lease id    keyset, who                                                          what ended it
    revocation  KIND:name   who                                                                  in force, or lifted
    policy      policy id   policy, who                                                          version
    key         key id      who (, artifact)                                                     created, wrapped, rotated, …
    receipts    lease id    keyset, root                                                         count, sequence
    cell        cell id     who; or keyset, request, counter's digest or grant                   created, advance or spend
    administrator           administrator, who (the subject is the administrator too)            added or removed, role, tenant
    erasure                 who                                                                  how many openings
    enrolment               the signed note                                                      class of the root, until when

Leaves are public: no names of people, no names of files, no secrets. `who` is the fingerprint of an administrator's public key.
That, and what owners call their keys, policies and cells, is hidden as the log writes it down (`receipts.hidden`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from strongroom.errors import AppraisalRefused, LogInvalid, StrongroomError
from strongroom.receipts.chain import token_digest
from strongroom.records.cell import Advance, Cell, Spend
from strongroom.records.digest import Digest, digest_bytes
from strongroom.records.envelope import Envelope
from strongroom.records.evidence import Evidence
from strongroom.records.release import Grant, Leaf, Lease, ReleaseAnswer
from strongroom.records.revocation import About, Revocation, Subject
from strongroom.records.verdict import Level, RootClass
from strongroom.release.roles import Administrator
from strongroom.release.wire import ReceiptsRoot

RELEASE, RENEWAL, REFUSAL, REVOCATION = "release", "renewal", "refusal", "revocation"
POLICY, KEY, RECEIPTS, CELL = "policy", "key", "receipts", "cell"
ADMINISTRATOR, ERASURE, ENROLMENT = "administrator", "erasure", "enrolment"
MAX_DETAIL = 512
USES = " uses="
CHAIN = 4
"""Where the chain's head stands among the digests of a release or a renewal."""


def decided(
    event: str,
    lease: Lease,
    *,
    time: int,
    evidence: Digest,
    token: str,
    level: Level,
    seconds: int,
    policies: Sequence[Digest],
    grants: Sequence[Digest] = (),
) -> Leaf:
    """The leaf of a yes: `event` is `RELEASE` or `RENEWAL`; `lease` is as it stands after it."""
    digests = (lease.keyset, lease.statement, evidence, token_digest(token), lease.chain, *policies, *grants)
    return Leaf(event, time, lease.id, digests, _decision(level, seconds))


def refused(error: StrongroomError, *, time: int, purpose: str, evidence: Evidence, unlogged: int) -> Leaf:
    """The leaf of a no; `unlogged` is how many before it were too many to write down."""
    checks = ",".join(error.failed) if isinstance(error, AppraisalRefused) else error.detail
    detail = f"code={error.code} unlogged={unlogged} checks={checks}"
    return Leaf(REFUSAL, time, purpose, (evidence.digest, evidence.keyset.digest), detail[:MAX_DETAIL])


def revoked(lease: Lease, *, time: int, who: Digest, what: str) -> Leaf:
    """The leaf of an ended lease; `what` ended it: a kind of subject, or what a sweep found (see `sweep`)."""
    return Leaf(REVOCATION, time, lease.id, (lease.keyset, who), what[:MAX_DETAIL])


def revocation(standing: Revocation) -> Leaf:
    """The leaf of a revocation that comes into force."""
    detail = f"in force reason={standing.reason.value}"
    return Leaf(REVOCATION, standing.since, _shown(standing.subject), (standing.who,), detail)


def revocation_lifted(subject: Subject, *, time: int, who: Digest) -> Leaf:
    """The leaf of its end."""
    return Leaf(REVOCATION, time, _shown(subject), (who,), "lifted")


def policy_put(policy_id: str, version: int, *, time: int, policy: Digest, who: Digest) -> Leaf:
    """The leaf of a policy's new version."""
    return Leaf(POLICY, time, policy_id, (policy, who), f"version={version}")


def key_event(key_id: str, what: str, *, time: int, who: Digest, artifact_id: bytes | None = None) -> Leaf:
    """The leaf of an act on a key: created, imported, rotated, ordered, retired; wrapped or rewrapped (for an artifact)."""
    artifact = () if artifact_id is None else (digest_bytes(artifact_id),)
    return Leaf(KEY, time, key_id, (who, *artifact), what)


def administrator_event(administrator: Administrator, what: str, *, time: int, who: Digest) -> Leaf:
    """The leaf of an administrator who was added or removed, by the fingerprint of their key."""
    name = administrator.fingerprint
    detail = f"{what} role={administrator.role.value} tenant={administrator.tenant}"
    return Leaf(ADMINISTRATOR, time, name, (name, who), detail)


def receipts_posted(root: ReceiptsRoot, *, keyset: Digest, time: int) -> Leaf:
    """The leaf of a Merkle root over receipts, under the lease of `keyset`."""
    logged = Digest(f"sha256:{root.root.hex()}")
    return Leaf(RECEIPTS, time, root.lease_id, (keyset, logged), f"count={root.count} sequence={root.sequence}")


def cell_created(cell: Cell, *, time: int, who: Digest) -> Leaf:
    """The leaf of a new cell."""
    members = (f"policy={cell.policy_id}", f"limit={cell.limit}", f"output={cell.output_key}")
    return Leaf(CELL, time, cell.id, (who,), " ".join((f"created {cell.kind.value}", *members)))


def cell_changed(
    request: Advance | Spend, *, keyset: Digest, time: int, value: int, grant: Digest | None = None, uses: str = ""
) -> Leaf:
    """The leaf of a cell's change, to `value`; the request's digest covers what it was before, and the nonce."""
    beside: Digest | None
    if isinstance(request, Advance):
        beside = request.digest
        what = f"advance lease={request.lease_id} value={value}"
    else:
        beside = grant
        what = f"spend lease={request.lease_id} value={value} amount={request.amount} purpose={request.purpose}"
    digests = (keyset, request.request_digest) + (() if beside is None else (beside,))
    return with_uses(Leaf(CELL, time, request.cell_id, digests, what), uses)


def cell_refused(error: StrongroomError, request: Advance | Spend, lease: Lease, *, time: int, unlogged: int) -> Leaf:
    """The leaf of a no to a worker whose lease and signature hold."""
    detail = f"code={error.code} unlogged={unlogged} checks={error.detail}"
    return Leaf(REFUSAL, time, f"cell:{request.cell_id}", (request.request_digest, lease.keyset), detail[:MAX_DETAIL])


def erased(count: int, *, time: int, who: Digest) -> Leaf:
    """The leaf of openings that were erased, which does not say of whom."""
    return Leaf(ERASURE, time, "", (who,), f"openings={count}")


def enrolled(note: Envelope, *, time: int, root_class: RootClass, until: int) -> Leaf:
    """The leaf of a TPM that was enrolled, by the digest of the signed note: who has the note can find it."""
    detail = f"root_class={root_class.value} until={until}"
    return Leaf(ENROLMENT, time, "", (digest_bytes(note.to_bytes()),), detail)


def with_uses(leaf: Leaf, uses: str) -> Leaf:
    """`leaf` with the use counts of the keys that it releases (see `uses`); nothing where no key is limited."""
    return dataclasses.replace(leaf, detail=f"{leaf.detail}{USES}{uses}") if uses else leaf


def check_decided(
    leaf: Leaf, event: str, *, evidence: Evidence, answer: ReleaseAnswer, grants: Sequence[Grant], level: Level
) -> None:
    """The worker's side: `leaf` says that this `answer` was given to this `evidence`. Raises `LogInvalid`.

    So the log's signature covers also what nothing else in the answer signs: the lease's id and its seconds.
    """
    wanted = (evidence.keyset.digest, evidence.statement.digest, evidence.digest, token_digest(answer.token))
    holds = (
        leaf.event == event
        and leaf.subject == answer.lease_id
        and leaf.digests[:CHAIN] == wanted
        and leaf.digests[len(leaf.digests) - len(grants) :] == tuple(grant.digest for grant in grants)
        and leaf.detail.partition(USES)[0] == _decision(level, answer.lease_seconds)
    )
    if not holds:
        raise LogInvalid("the broker logged something else than what it answered")


def _shown(subject: Subject) -> str:
    """A machine by a digest: what hardware says of itself is not for everybody who reads the log."""
    name = digest_bytes(subject.name.encode()) if subject.about is About.MACHINE else subject.name
    return f"{subject.about.value}:{name}"


def _decision(level: Level, seconds: int) -> str:
    return f"level={level.value} lease_seconds={seconds}"
