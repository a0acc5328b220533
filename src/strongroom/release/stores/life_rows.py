"""Where keys came from, orders about them and their ends, in SQL; and how SQLite is made to forget.

Knows: the statements behind `lives`, and where SQLite keeps bytes that nobody reads any more. Does not know: any rule.

With secure_delete SQLite overwrites what it frees with zeros (sqlite.org/pragma.html#pragma_secure_delete). All that writes
keys' rows does so within `overwriting`; and a destruction empties the whole table and fills it anew, so that each of its
pages is zeroed, with whatever was freed there before. The journal (WAL) still holds older states of those pages until
`truncate_journal`. Not covered: what lies below the files: snapshots, backups, blocks that the file system or the drive gave
back, and temporary files of a transaction that was very large.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.sqlite import insert

from strongroom.errors import StoreUnavailable
from strongroom.records.destruction import KeyOrigin
from strongroom.release.stores.lives import KeyOrder, StoredDestruction
from strongroom.release.stores.rows import Rows, insert_new
from strongroom.release.stores.schema import DESTROYED, Destructions, ImportedKeys, KeyOrders, Keys
from strongroom.release.stores.statements import Statement

_ORDERS = Statement(sa.select(KeyOrders).where(KeyOrders.c.key_id == sa.bindparam("id")).order_by(KeyOrders.c.least))
MODES = ("OFF", "ON", "FAST")
"""How secure_delete is set, by the number that it reads as."""


class OverwritingRows(Rows):
    """Rows that must leave no trace."""

    @contextlib.contextmanager
    def overwriting(self) -> Iterator[None]:
        """Within it, what is freed on this connection is overwritten with zeros."""
        driver = self._connection.driver
        before = MODES[driver.execute("PRAGMA secure_delete").fetchone()[0]]
        driver.execute("PRAGMA secure_delete = ON")
        try:
            yield
        finally:
            driver.execute(f"PRAGMA secure_delete = {before}")


class LifeRows(OverwritingRows):
    """`LifeTransaction` over one connection."""

    def key_origin(self, key_id: str, version: int) -> KeyOrigin:
        wanted = sa.and_(ImportedKeys.c.key_id == key_id, ImportedKeys.c.version == version)
        found = self._connection.execute(sa.select(ImportedKeys.c.version).where(wanted)).first()
        return KeyOrigin.CREATED if found is None else KeyOrigin.IMPORTED

    def mark_imported(self, key_id: str, version: int) -> None:
        self._changed(sa.insert(ImportedKeys).values(key_id=key_id, version=version))

    def key_orders(self, key_id: str) -> tuple[KeyOrder, ...]:
        return tuple(KeyOrder(row.least, row.since) for row in self._connection.execute(_ORDERS, {"id": key_id}))

    def put_order(self, key_id: str, order: KeyOrder) -> bool:
        put = insert(KeyOrders).values(key_id=key_id, least=order.least, since=order.since)
        stricter = put.on_conflict_do_update(
            index_elements=["key_id", "least"], set_={"since": order.since}, where=KeyOrders.c.since > order.since
        )
        return self._changed(stricter) == 1

    def destruction(self, key_id: str) -> StoredDestruction | None:
        row = self._connection.execute(sa.select(Destructions).where(Destructions.c.key_id == key_id)).first()
        return None if row is None else StoredDestruction(row.position, row.envelope)

    def destroy_key(self, key_id: str, destruction: StoredDestruction) -> None:
        rows: list[dict[str, Any]] = [row._asdict() for row in self._connection.execute(sa.select(Keys))]
        for row in rows:
            if row["id"] == key_id:
                row.update(wrapped=b"", state=DESTROYED)
        with self.overwriting():
            self._changed(sa.delete(Keys))
            self._changed(insert_new(Keys), rows)
        self._connection.execute(
            sa.insert(Destructions).values(key_id=key_id, position=destruction.position, envelope=destruction.envelope)
        )


def truncate_journal(driver: sqlite3.Connection) -> None:
    """Bring all that is in the journal into the database, and cut the journal to nothing. Raises `StoreUnavailable`."""
    if driver.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:  # somebody was in the way
        raise StoreUnavailable(
            "what was deleted may still be in the database's journal",
            detail="somebody was reading all the time",
            remedy="Ask for the same once more; what is done stays done.",
        )
