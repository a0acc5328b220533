"""What is kept of decisions for those who audit them: token, evidence, collateral, the released keys in outline.

Knows: what is kept, for how long, and how it is given out in bounded pages. Does not know: who may ask (`roles`), or
how any of it is checked (`audit`). It is written in the transaction of the decision; the same collateral is kept once.
Refusals are not kept: a flood of bad evidence must not grow the database. Sealed keys are not kept either, only their
digests, so that nothing here can ever open anything.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from strongroom.errors import LogInvalid, MalformedRecord
from strongroom.receipts.hidden import SUBJECT, names_in
from strongroom.records import codec
from strongroom.records.audit import AuditPage, AuditQuery, KeptDecision, LoggedLeaf
from strongroom.records.digest import Digest
from strongroom.records.envelope import Envelope
from strongroom.records.evidence import Collateral, EvidenceBundle
from strongroom.records.release import GrantSummary, Leaf, Opening, renewal_purpose
from strongroom.release.log import Log
from strongroom.release.stores.checked import read_back
from strongroom.release.stores.port import Reader, Transaction

KEEP_DAYS = 180
"""At least six months, as the EU's AI Act wants of logs (articles 19 and 26(6))."""
DAY = 86_400
SCANNED_LEAVES = 4096
PAGE_LEAVES = 256
PAGE_BYTES = 1536 * 1024
"""A page ends with the decision that exceeds this; a request has at most 1 MiB, so a page stays below an answer's limit."""
PREFIX = 5
"""Where policies begin among the digests of a decision's leaf (see `leaves`)."""
ABOUT_ALL = frozenset({"policy", "key", "destruction", "administrator"})


@dataclass(frozen=True, slots=True)
class Kept:
    """A decision, ready to be written."""

    decision: bytes
    collateral: tuple[Digest, bytes]


class Archive:
    """Keeps decisions for `days`, and none for 0."""

    def __init__(self, log: Log, *, days: int = KEEP_DAYS) -> None:
        self._log, self._days = log, days

    def prepare(self, bundle: EvidenceBundle, token: str, outlines: tuple[GrantSummary, ...]) -> Kept | None:
        """What is to be kept of a yes; done before its transaction, which is short."""
        if not self._days:
            return None
        collateral = _encoded(bundle.collateral)
        return Kept(codec.encode(KeptDecision(token, bundle.evidence, collateral[0], outlines)), collateral)

    def keep(self, transaction: Transaction, position: int, kept: Kept | None, *, now: int) -> None:
        """Write it down beside the leaf number `position`."""
        if kept is not None:
            transaction.keep_decision(position, kept.decision, kept.collateral, now + self._days * DAY)

    def page(
        self, reader: Reader, query: AuditQuery, *, sees: Callable[..., bool], cosigned: str | None = None
    ) -> AuditPage:
        """What `query` asks for, from its start on, as far as one page goes; `cosigned` is newer than what is kept of witnesses.

        Leaves are public; what is kept of a decision is given out where `sees` admits one of the keys of its lease, what opens
        a leaf where it admits the name in it.

        Raises `LogInvalid` for a size that the log does not have, `MalformedRecord` for a place outside of it.
        """
        checkpoint = reader.log_checkpoint()
        size = query.size or reader.log_size()
        if checkpoint is None or not 0 < size <= reader.log_size():
            raise LogInvalid("the log does not have this size")
        if not 0 <= query.start <= size:
            raise MalformedRecord(f"a log of {size} entries has no leaf {query.start}")
        end = min(size, query.start + SCANNED_LEAVES)
        part = _Part(reader, sees)
        for index, data in _wanted(reader, query, end, size):
            if part.is_full:
                end = index
                break
            part.add(index, data, self._log.inclusion_path(index, size))
        return AuditPage(
            size=size,
            checkpoint=checkpoint,
            leaves=tuple(part.leaves),
            collateral=tuple(read_back(Collateral, body) for body in part.collateral.values()),
            policies=tuple(Envelope.from_bytes(body) for body in part.policies.values()),
            cosigned=self._log.cosigned(cosigned or reader.log_cosigned(), size),
            next=end,
        )


class _Part:
    """A page while it grows."""

    def __init__(self, reader: Reader, sees: Callable[..., bool]) -> None:
        self._reader, self._sees, self._used = reader, sees, 0
        self.leaves: list[LoggedLeaf] = []
        self.collateral: dict[Digest, bytes] = {}
        self.policies: dict[Digest, bytes] = {}

    @property
    def is_full(self) -> bool:
        return len(self.leaves) >= PAGE_LEAVES or self._used > PAGE_BYTES

    def add(self, index: int, data: bytes, path: tuple[bytes, ...]) -> None:
        """One more leaf, with what its decision rests on."""
        kept = self._kept(index, data)
        self._used += len(data) + len(kept or b"")
        decision = None
        if kept is not None:
            decision = read_back(KeptDecision, kept)
            if decision.collateral not in self.collateral:
                body = self._reader.collateral(decision.collateral)
                if body is not None:
                    self._put(self.collateral, decision.collateral, body)
            for policy in self._reader.policies_of(codec.decode(Leaf, data).digests[PREFIX:]):
                if policy.digest not in self.policies:
                    self._put(self.policies, policy.digest, policy.envelope)
        openings = self._openings(index)
        self._used += sum(len(opening.value) for opening in openings)
        self.leaves.append(LoggedLeaf(index, data, path, decision, openings))

    def _kept(self, index: int, data: bytes) -> bytes | None:
        kept = self._reader.decision(index)
        if kept is None:
            return None
        lease = self._reader.lease(codec.decode(Leaf, data).subject)
        return kept if self._sees(*(lease.lease.key_ids if lease else ())) else None

    def _openings(self, index: int) -> tuple[Opening, ...]:
        found = self._reader.openings(index)
        names = [name for one in found if one.member == SUBJECT for name in names_in(one.value)]
        return found if self._sees(*names) else ()

    def _put(self, where: dict[Digest, bytes], digest: Digest, body: bytes) -> None:
        where[digest] = body
        self._used += len(body)


def _wanted(reader: Reader, query: AuditQuery, end: int, size: int) -> Iterator[tuple[int, bytes]]:
    """The leaves from the query's start to `end` that it asks for, each with its number."""
    first = max(0, query.start - 1)
    found = reader.log_leaves(first, min(size, end + 1))
    leaves = [codec.decode(Leaf, data) for data in found]
    if query.lease is not None:
        about = {query.lease, renewal_purpose(query.lease)}
        wanted = [leaf.event in ABOUT_ALL or leaf.subject in about for leaf in leaves]
    else:
        within = [query.since <= leaf.time <= query.until for leaf in leaves]
        wanted = [any(within[max(0, i - 1) : i + 2]) for i in range(len(leaves))]
    for index in range(query.start, end):
        if wanted[index - first]:
            yield index, found[index - first]


@functools.lru_cache(maxsize=64)
def _encoded(collateral: Collateral) -> tuple[Digest, bytes]:
    """Collateral is large and the same for many: it is encoded once."""
    return collateral.digest, codec.encode(collateral)
