"""Cells, what was asked of them, and the uses of limited keys, in SQL.

Knows: the statements behind `cells`. Does not know: connections and commits (`sqlite`), or any rule. Every change is a
compare-and-swap in one statement, so that it holds whatever was read before.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.sqlite import insert

from strongroom.records.cell import Cell, CellKind
from strongroom.records.digest import Digest
from strongroom.records.release import LeaseState
from strongroom.release.stores.cells import KeyUses
from strongroom.release.stores.checked import from_row
from strongroom.release.stores.rows import Rows
from strongroom.release.stores.schema import CellAsks, Cells, KeyLimits, Leases
from strongroom.release.stores.statements import Statement

_KEY_USES = Statement(sa.select(KeyLimits).where(KeyLimits.c.key_id == sa.bindparam("id")))


class CellRows(Rows):
    """`CellTransaction` over one connection."""

    def cell(self, cell_id: str) -> Cell | None:
        row = self._connection.execute(sa.select(Cells).where(Cells.c.id == cell_id)).first()
        return None if row is None else _cell(row)

    def cells(self) -> tuple[Cell, ...]:
        return tuple(_cell(row) for row in self._connection.execute(sa.select(Cells).order_by(Cells.c.id)))

    def add_cell(self, cell: Cell) -> bool:
        values = {
            "id": cell.id,
            "kind": cell.kind.value,
            "policy_id": cell.policy_id,
            "limit": cell.limit,
            "output_key": cell.output_key,
            "value": cell.value,
            "digest": cell.digest,
            "changes": cell.changes,
            "created": cell.created,
        }
        return self._changed(insert(Cells).values(values).on_conflict_do_nothing()) == 1

    def change_cell(self, before: Cell, after: Cell) -> bool:
        unchanged = sa.and_(Cells.c.id == before.id, Cells.c.value == before.value, Cells.c.changes == before.changes)
        values = {"value": after.value, "digest": after.digest, "changes": after.changes}
        return self._changed(sa.update(Cells).where(unchanged).values(values)) == 1

    def cell_asked(self, lease_id: str, nonce: bytes) -> bool:
        asked = sa.and_(CellAsks.c.lease_id == lease_id, CellAsks.c.nonce == nonce)
        return self._connection.execute(sa.select(CellAsks.c.nonce).where(asked)).first() is not None

    def cell_ask(self, lease_id: str, nonce: bytes) -> bool:
        return self._changed(insert(CellAsks).values(lease_id=lease_id, nonce=nonce).on_conflict_do_nothing()) == 1

    def forget_cell_asks(self, now: int) -> None:
        held = sa.and_(Leases.c.state == LeaseState.ACTIVE.value, Leases.c.expires > now)
        self._changed(sa.delete(CellAsks).where(CellAsks.c.lease_id.not_in(sa.select(Leases.c.id).where(held))))

    def key_uses(self, key_id: str) -> KeyUses | None:
        row = self._connection.execute(_KEY_USES, {"id": key_id}).first()
        return None if row is None else KeyUses(row.limit, row.used)

    def limit_key(self, key_id: str, limit: int) -> None:
        self._changed(sa.insert(KeyLimits).values(key_id=key_id, limit=limit, used=0))

    def use_key(self, key_id: str, times: int) -> bool:
        allowed = sa.and_(KeyLimits.c.key_id == key_id, KeyLimits.c.used + times <= KeyLimits.c.limit)
        return self._changed(sa.update(KeyLimits).where(allowed).values(used=KeyLimits.c.used + times)) == 1


@from_row
def _cell(row: Any) -> Cell:
    return Cell(
        id=row.id,
        kind=CellKind(row.kind),
        policy_id=row.policy_id,
        limit=row.limit,
        output_key=row.output_key,
        value=row.value,
        digest=None if row.digest is None else Digest(row.digest),
        changes=row.changes,
        created=row.created,
    )
