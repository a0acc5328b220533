"""What revocations and sweeps need of a store: the part of the port (`port`) that is theirs.

Knows: the rows and their promises. Does not know: any database (`revocation_rows` has the statements), or any rule of
the broker (`release.revocations`, `release.sweep`, `release.uses`).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Protocol

from strongroom.records.digest import Digest
from strongroom.records.release import Lease
from strongroom.records.revocation import Revocation, Subject

NO_POSITION = -1


@dataclass(frozen=True, slots=True)
class LeaseNotes:
    """What is known of a lease beside its record: all that it concerns, the boot of its machine, its newest decision.

    `position` is the number of that decision's leaf, `NO_POSITION` where nothing was noted.
    """

    subjects: frozenset[Subject]
    boot: Digest
    position: int = NO_POSITION


class RevocationReader(Protocol):
    """A part of `port.Reader`."""

    def revocations(self) -> tuple[Revocation, ...]:
        """All that are in force, by subject."""
        ...

    def revocation_of(self, subjects: Collection[Subject]) -> Revocation | None:
        """One of those in force over any of `subjects`, the first by subject."""
        ...

    def live_leases(self, after: str, now: int, limit: int) -> tuple[Lease, ...]:
        """At most `limit` leases that are active at `now` and whose ids come after `after`, by id."""
        ...

    def lease_notes(self, lease_id: str) -> LeaseNotes | None: ...

    def key_released_in(self, key_id: str, boot: Digest) -> bool | None:
        """Whether a key that is released once per boot was released in `boot`; None of any other key."""
        ...


class RevocationTransaction(RevocationReader, Protocol):
    """A part of `port.Transaction`."""

    def add_revocation(self, revocation: Revocation) -> bool:
        """False if one over this subject is in force."""
        ...

    def lift_revocation(self, subject: Subject) -> bool:
        """False if none over it is in force."""
        ...

    def note_lease(self, lease_id: str, notes: LeaseNotes) -> None:
        """Keep `notes` instead of those that were kept."""
        ...

    def limit_key_per_boot(self, key_id: str) -> None:
        """Have a new key released once per boot."""
        ...

    def use_key_in(self, key_id: str, boot: Digest) -> bool:
        """Write down that a key was released in `boot`; False if it was before."""
        ...
