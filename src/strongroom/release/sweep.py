"""Sweeps: every live lease judged again by what the broker knows at present, and ended where it would be refused.

A lease was granted by the word of its day. New collateral (a TCB event, a revocation list), a new custody list or a new version of a
policy may speak against it before it is renewed. So the evidence of its newest decision is taken out of the archive and appraised
anew (`present`), under the newest policies of its keys.

Knows: the order, one lease at a time: read, judge, and only then a short transaction, in which the lease must still rest on that decision.
Does not know: files, or how evidence is judged. A lease that a release judged by the old lists comes to while a sweep runs is met by the
next one. Not covered: leases of which no evidence is kept (`--keep-evidence 0`); these are counted, and end by their term.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from strongroom.errors import Refused, ReleaseRefused, StrongroomError, Unreadable
from strongroom.records import codec
from strongroom.records.audit import KeptDecision
from strongroom.records.digest import Digest
from strongroom.records.evidence import Collateral, EvidenceBundle
from strongroom.records.policy import Policy
from strongroom.records.release import PURPOSE_RELEASE, Leaf, Lease, LeaseState, renewal_purpose
from strongroom.records.revocation import SweepPage, SweptLease
from strongroom.release import leases, leaves
from strongroom.release.administrators import Administrators
from strongroom.release.decisions import facts_of
from strongroom.release.present import POLICY, Again, Failure
from strongroom.release.revocations import Revocations
from strongroom.release.stores.port import Reader, Store, StoredPolicy, Transaction

PAGE_LEASES = 64
log = logging.getLogger("strongroom.broker")


@dataclass(frozen=True, slots=True)
class _Basis:
    """What a lease rests on: its newest decision, by the number of its leaf, and the newest policies of its keys."""

    position: int
    leaf: Leaf
    bundle: EvidenceBundle
    policies: tuple[StoredPolicy, ...]


class Sweep:
    """Judges the leases of one store again; `administrators` say whose policies count. May raise `StoreUnavailable`."""

    def __init__(self, store: Store, revocations: Revocations, again: Again, *, administrators: Administrators) -> None:
        self._store, self._revocations, self._again, self._administrators = store, revocations, again, administrators

    def page(self, after: str, *, who: Digest, now: int, dry_run: bool = False) -> SweepPage:
        """Judge some leases, whose ids come after `after`; with `dry_run` only say what would end."""
        found = self._store.read(lambda reader: reader.live_leases(after, now, PAGE_LEASES))
        judged = unjudged = 0
        ended = []
        for lease in found:
            position, failure = self._judge(lease, now=now)
            judged += position is not None
            unjudged += position is None
            if position is None or failure is None:
                continue
            if dry_run or self._end(lease.id, position, failure, who=who, now=now):
                ended.append(SweptLease(lease.id, failure.what, failure.failed))
        return SweepPage(judged, unjudged, tuple(ended), found[-1].id if len(found) == PAGE_LEASES else None)

    def _judge(self, lease: Lease, *, now: int) -> tuple[int | None, Failure | None]:
        """The decision that was judged, None where nothing is kept of it, and what speaks against it now."""
        position = None
        try:
            basis = self._store.read(lambda reader: _basis(reader, lease))
            if basis is None:
                return None, None
            position = basis.position
            purpose = PURPOSE_RELEASE if basis.leaf.event == leaves.RELEASE else renewal_purpose(lease.id)
            for stored in basis.policies:
                failure = self._again(
                    basis.bundle, self._open(stored), purpose=purpose, decided=basis.leaf.time, now=now
                )
                if failure is not None:
                    return position, failure
        except (Refused, Unreadable) as error:  # a renewal would raise it too
            notes = self._store.read(lambda reader: reader.lease_notes(lease.id))
            return notes.position if notes else None, Failure(POLICY, (error.detail or error.code,))
        return position, None

    def _open(self, stored: StoredPolicy) -> Policy:
        policy, digest = self._administrators.open_policy(stored.envelope)
        if (policy.id, digest) != (stored.id, stored.digest):
            raise ReleaseRefused("a stored policy is not the one that its owner signed", detail="policy.stored")
        return policy

    def _end(self, lease_id: str, position: int, failure: Failure, *, who: Digest, now: int) -> bool:
        """Unless it ended by itself, or was renewed meanwhile on newer evidence."""

        def end(transaction: Transaction) -> bool:
            stored, notes = transaction.lease(lease_id), transaction.lease_notes(lease_id)
            if stored is None or notes is None or notes.position != position:
                return False
            if leases.at(stored.lease, now).state is not LeaseState.ACTIVE:
                return False
            what = f"{failure.what} checks={','.join(failure.failed)}"
            self._revocations.end(transaction, [stored.lease], what, who=who, now=now)
            return True

        return self._store.write(end)


class Sweeper:
    """Sweeps each `seconds` on a thread of its own, at most half of the time; `refresh` comes before each round.

    `clock` gives the time to judge by, in Unix seconds, or raises `ClockWrong`: then that round ends nothing more.
    """

    def __init__(
        self,
        sweep: Sweep,
        refresh: Callable[[], None],
        *,
        seconds: float,
        who: Digest,
        clock: Callable[[], float],
    ) -> None:
        self._sweep, self._refresh, self._seconds, self._who, self._clock = sweep, refresh, seconds, who, clock
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="strongroom-sweep", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End it; a lease that is being judged is finished first."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(self._seconds):
            try:
                self._refresh()
            except StrongroomError as error:  # what was read before stays in force
                log.warning("sweep: not read anew code=%s", error.code)
            try:
                self._round()
            except StrongroomError as error:
                log.warning("sweep: cut short code=%s", error.code)

    def _round(self) -> None:
        judged = unjudged = ended = 0
        after: str | None = ""
        while after is not None and not self._stop.is_set():
            began = time.monotonic()
            page = self._sweep.page(after, who=self._who, now=int(self._clock()))
            judged, unjudged, ended = judged + page.judged, unjudged + page.unjudged, ended + len(page.ended)
            after = page.next
            self._stop.wait(time.monotonic() - began)
        log.info("sweep: judged=%d unjudged=%d ended=%d", judged, unjudged, ended)


def _basis(reader: Reader, lease: Lease) -> _Basis | None:
    """None where nothing is kept. Raises `ReleaseRefused` where a key was retired, `MalformedRecord`."""
    notes = reader.lease_notes(lease.id)
    kept = reader.decision(notes.position) if notes is not None else None
    if notes is None or kept is None:
        return None
    facts = facts_of(reader, [reader.key(key_id) for key_id in lease.key_ids])
    decision = codec.decode(KeptDecision, kept)
    body = reader.collateral(decision.collateral)
    if body is None:
        return None
    (leaf,) = reader.log_leaves(notes.position, notes.position + 1)
    bundle = EvidenceBundle(decision.evidence, codec.decode(Collateral, body))
    return _Basis(notes.position, codec.decode(Leaf, leaf), bundle, facts.policies)
