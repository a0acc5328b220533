"""Revocations, notes about leases, and the boots in which keys were released, in SQL.

Knows: the statements behind `revocations`. Does not know: connections and commits (`sqlite`), or any rule.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.sqlite import insert

from strongroom.records.digest import Digest
from strongroom.records.release import Lease, LeaseState
from strongroom.records.revocation import About, Reason, Revocation, Subject
from strongroom.release.stores.checked import from_row
from strongroom.release.stores.lease_rows import lease_of
from strongroom.release.stores.revocations import LeaseNotes
from strongroom.release.stores.rows import Rows
from strongroom.release.stores.schema import KeyBoots, Leases, Notes, Revocations
from strongroom.release.stores.statements import Statement

ANY_BOOT = ""
"""The row that says of a key that it is released once per boot."""
_ANY_REVOCATION = Statement(sa.select(Revocations.c.subject).limit(1))
_BOOTS = Statement(
    sa.select(KeyBoots.c.boot).where(
        KeyBoots.c.key_id == sa.bindparam("key_id"),
        sa.or_(KeyBoots.c.boot == ANY_BOOT, KeyBoots.c.boot == sa.bindparam("boot")),
    )
)
_NOTE = Statement(sa.insert(Notes).prefix_with("OR REPLACE"))


class RevocationRows(Rows):
    """`RevocationTransaction` over one connection."""

    def revocations(self) -> tuple[Revocation, ...]:
        rows = self._connection.execute(sa.select(Revocations).order_by(Revocations.c.subject))
        return tuple(_revocation(row) for row in rows)

    def revocation_of(self, subjects: Collection[Subject]) -> Revocation | None:
        if self._connection.execute(_ANY_REVOCATION).first() is None:
            return None
        names = [str(subject) for subject in subjects]
        query = sa.select(Revocations).where(Revocations.c.subject.in_(names)).order_by(Revocations.c.subject).limit(1)
        row = self._connection.execute(query).first()
        return None if row is None else _revocation(row)

    def add_revocation(self, revocation: Revocation) -> bool:
        values = {
            "subject": str(revocation.subject),
            "since": revocation.since,
            "who": revocation.who,
            "reason": revocation.reason.value,
        }
        return self._changed(insert(Revocations).values(values).on_conflict_do_nothing()) == 1

    def lift_revocation(self, subject: Subject) -> bool:
        return self._changed(sa.delete(Revocations).where(Revocations.c.subject == str(subject))) == 1

    def live_leases(self, after: str, now: int, limit: int) -> tuple[Lease, ...]:
        live = sa.and_(Leases.c.id > after, Leases.c.state == LeaseState.ACTIVE.value, Leases.c.expires > now)
        rows = self._connection.execute(sa.select(Leases).where(live).order_by(Leases.c.id).limit(limit))
        return tuple(lease_of(row) for row in rows)

    def lease_notes(self, lease_id: str) -> LeaseNotes | None:
        row = self._connection.execute(sa.select(Notes).where(Notes.c.lease_id == lease_id)).first()
        if row is None:
            return None
        return LeaseNotes(frozenset(map(_subject, json.loads(row.subjects))), Digest(row.boot), row.position)

    def note_lease(self, lease_id: str, notes: LeaseNotes) -> None:
        subjects = json.dumps(sorted(map(str, notes.subjects)))
        row = {"lease_id": lease_id, "subjects": subjects, "boot": notes.boot, "position": notes.position}
        self._connection.execute(_NOTE, row)

    def _forget_notes(self, now: int) -> None:
        live = sa.and_(Leases.c.state == LeaseState.ACTIVE.value, Leases.c.expires > now)
        self._changed(sa.delete(Notes).where(Notes.c.lease_id.not_in(sa.select(Leases.c.id).where(live))))

    def limit_key_per_boot(self, key_id: str) -> None:
        self._changed(sa.insert(KeyBoots).values(key_id=key_id, boot=ANY_BOOT))

    def key_released_in(self, key_id: str, boot: Digest) -> bool | None:
        found = set(self._connection.execute(_BOOTS, {"key_id": key_id, "boot": boot}).scalars())
        return boot in found if ANY_BOOT in found else None

    def use_key_in(self, key_id: str, boot: Digest) -> bool:
        return self._changed(insert(KeyBoots).values(key_id=key_id, boot=boot).on_conflict_do_nothing()) == 1


def _subject(text: str) -> Subject:
    about, _, name = text.partition(":")
    return Subject(About(about), name)


@from_row
def _revocation(row: Any) -> Revocation:
    return Revocation(_subject(row.subject), row.since, Digest(row.who), Reason(row.reason))
