"""Revocations: what ends leases now and refuses every release and renewal after, until an owner lifts it.

Knows: how a revocation is made, found and lifted, each a leaf in the transaction of the act. Does not know: whether the
caller is an owner (`owners`), or what a decision concerns (`subjects`). A lease is ended by its own id alone, for good:
its worker may prove itself anew. All others stand: what they name is refused with `revoked.KIND`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

from strongroom.errors import LeaseEnded, ReleaseRefused, UsageError
from strongroom.records.digest import Digest
from strongroom.records.release import Lease
from strongroom.records.revocation import Reason, Revocation, Revoked, Subject
from strongroom.release import leaves
from strongroom.release.log import Log
from strongroom.release.stores.port import Reader, Store, Transaction
from strongroom.release.subjects import check_subject, notes_at

PAGE = 256


class Revocations:
    """The revocations of one store and its log. Each verb may raise `StoreUnavailable`."""

    def __init__(self, store: Store, log: Log) -> None:
        self._store, self._log = store, log

    def revoke(self, subject: Subject, *, reason: Reason = Reason.UNSPECIFIED, who: Digest, now: int) -> Revoked:
        """From now on refuse what concerns `subject`, and end the live leases that do.

        Their workers learn it at the next renewal. The one that stands already is left as it is. Raises `UsageError` for a
        subject that no decision can concern.
        """
        wanted = Revocation(check_subject(subject), now, who, reason)

        def revoke(transaction: Transaction) -> Revoked:
            standing = transaction.revocation_of([subject])
            if standing is None:
                transaction.add_revocation(wanted)
                self._log.append(transaction, leaves.revocation(wanted))
            return Revoked(standing or wanted, self.end_all(transaction, subject, who=who, now=now))

        return self._store.write(revoke)

    def revoke_lease(self, lease_id: str, *, who: Digest, now: int) -> tuple[Lease, ...]:
        """End one lease now; its worker learns it at its next renewal. Raises `LeaseEnded` if it is not active."""
        ended = self._store.write(
            lambda transaction: self._ended(transaction, lambda lease: lease.id == lease_id, "lease", who=who, now=now)
        )
        if not ended:
            raise LeaseEnded("there is no such active lease", detail="lease.unknown", remedy="See `strongroom leases`.")
        return ended

    def lift(self, subject: Subject, *, who: Digest, now: int) -> None:
        """Let what concerns `subject` be released again; leases that were ended stay so. Raises `UsageError`."""

        def lift(transaction: Transaction) -> None:
            if not transaction.lift_revocation(subject):
                raise UsageError("no such revocation is in force", remedy="See `strongroom leases revocations`.")
            self._log.append(transaction, leaves.revocation_lifted(subject, time=now, who=who))

        self._store.write(lift)

    def all(self) -> tuple[Revocation, ...]:
        """Those in force."""
        return self._store.read(lambda reader: reader.revocations())

    def end(self, transaction: Transaction, ended: Collection[Lease], what: str, *, who: Digest, now: int) -> None:
        """End these leases, which are active, and write down `what` did it."""
        for lease in ended:
            transaction.revoke_lease(lease.id)
        self._log.append_all(transaction, [leaves.revoked(lease, time=now, who=who, what=what) for lease in ended])

    def end_all(self, transaction: Transaction, subject: Subject, *, who: Digest, now: int) -> tuple[Lease, ...]:
        """End the live leases that concern `subject`; these, as they stand then."""
        return self._ended(
            transaction,
            lambda lease: subject in notes_at(transaction, lease).subjects,
            subject.about.value,
            who=who,
            now=now,
        )

    def _ended(
        self, transaction: Transaction, wanted: Callable[[Lease], bool], what: str, *, who: Digest, now: int
    ) -> tuple[Lease, ...]:
        ended: list[Lease] = []
        after = ""
        while page := transaction.live_leases(after, now, PAGE):
            ended += [lease for lease in page if wanted(lease)]
            after = page[-1].id
        self.end(transaction, ended, what, who=who, now=now)
        return tuple(stored.lease for lease in ended if (stored := transaction.lease(lease.id)))


def check_not_revoked(reader: Reader, subjects: Collection[Subject]) -> None:
    """Asked inside the transaction of every decision. Raises `ReleaseRefused`."""
    found = reader.revocation_of(subjects)
    if found is not None:
        about = found.subject.about.value
        raise ReleaseRefused(
            f"this {about} was revoked",
            detail=f"revoked.{about}",
            remedy="Ask the owner of the broker; `strongroom leases revocations` lists what stands.",
        )
