"""Administrators, in SQL.

Knows: the statements behind `release.administrators`. Does not know: connections and commits (`sqlite`), or any rule.
"""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.dialects.sqlite import insert

from strongroom.records.digest import Digest
from strongroom.release.stores.administrators import StoredAdministrator
from strongroom.release.stores.rows import Rows
from strongroom.release.stores.schema import Administrators


class AdministratorRows(Rows):
    """`AdministratorTransaction` over one connection."""

    def administrators(self) -> tuple[StoredAdministrator, ...]:
        query = sa.select(Administrators).order_by(Administrators.c.added, Administrators.c.fingerprint)
        return tuple(
            StoredAdministrator(Digest(row.fingerprint), row.appointment, Digest(row.added_by), row.added)
            for row in self._connection.execute(query)
        )

    def put_administrator(self, administrator: StoredAdministrator) -> None:
        values = {
            "appointment": administrator.appointment,
            "added_by": administrator.added_by,
            "added": administrator.added,
        }
        put = insert(Administrators).values(fingerprint=administrator.fingerprint, **values)
        self._changed(put.on_conflict_do_update(index_elements=["fingerprint"], set_=values))

    def remove_administrator(self, fingerprint: Digest) -> bool:
        return self._changed(sa.delete(Administrators).where(Administrators.c.fingerprint == fingerprint)) == 1
