"""What is kept of decisions for audits, in SQL.

Knows: the statements behind `archive`. Does not know: connections and commits (`sqlite`), or how long anything is kept.
"""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.dialects.sqlite import insert

from strongroom.records.digest import Digest
from strongroom.release.stores.schema import Collaterals, Decisions


class KeptRows:
    """The part of `Transaction` that is about kept decisions, over one connection."""

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection

    def decision(self, position: int) -> bytes | None:
        query = sa.select(Decisions.c.decision).where(Decisions.c.position == position)
        return self._connection.execute(query).scalar()

    def collateral(self, digest: Digest) -> bytes | None:
        query = sa.select(Collaterals.c.collateral).where(Collaterals.c.digest == digest)
        return self._connection.execute(query).scalar()

    def keep_decision(self, position: int, decision: bytes, collateral: tuple[Digest, bytes], until: int) -> None:
        kept = insert(Decisions).values(position=position, decision=decision, until=until)
        self._connection.execute(kept.on_conflict_do_nothing())
        digest, body = collateral
        put = insert(Collaterals).values(digest=digest, collateral=body, until=until)
        longer = {"until": sa.func.max(Collaterals.c.until, until)}
        self._connection.execute(put.on_conflict_do_update(index_elements=["digest"], set_=longer))

    def _forget_kept(self, now: int) -> None:
        for table in (Decisions, Collaterals):
            self._connection.execute(sa.delete(table).where(table.c.until <= now))
