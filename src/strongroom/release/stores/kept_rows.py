"""What is kept of decisions for audits, in SQL.

Knows: the statements behind `archive`. Does not know: connections and commits (`sqlite`), or how long anything is kept.
"""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.dialects.sqlite import insert

from strongroom.records.digest import Digest
from strongroom.release.stores.rows import Rows, insert_new
from strongroom.release.stores.schema import Collaterals, Decisions
from strongroom.release.stores.statements import Statement

_KEEP = insert_new(Decisions)
_PUT = insert(Collaterals)
_LONGER = {"until": sa.func.max(Collaterals.c.until, _PUT.excluded.until)}
_KEEP_COLLATERAL = Statement(_PUT.on_conflict_do_update(index_elements=["digest"], set_=_LONGER))
_FORGET = tuple(
    Statement(sa.delete(table).where(table.c.until <= sa.bindparam("now"))) for table in (Decisions, Collaterals)
)


class KeptRows(Rows):
    """The part of `Transaction` that is about kept decisions."""

    def decision(self, position: int) -> bytes | None:
        query = sa.select(Decisions.c.decision).where(Decisions.c.position == position)
        found: bytes | None = self._connection.execute(query).scalar()
        return found

    def collateral(self, digest: Digest) -> bytes | None:
        query = sa.select(Collaterals.c.collateral).where(Collaterals.c.digest == digest)
        found: bytes | None = self._connection.execute(query).scalar()
        return found

    def keep_decision(self, position: int, decision: bytes, collateral: tuple[Digest, bytes], until: int) -> None:
        self._connection.execute(_KEEP, {"position": position, "decision": decision, "until": until})
        digest, body = collateral
        self._connection.execute(_KEEP_COLLATERAL, {"digest": digest, "collateral": body, "until": until})

    def _forget_kept(self, now: int) -> None:
        for statement in _FORGET:
            self._connection.execute(statement, {"now": now})
