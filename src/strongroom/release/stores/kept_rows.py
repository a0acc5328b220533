"""What is kept of decisions for audits, and what opens leaves of the log, in SQL.

Knows: the statements behind `archive` and `erasure`. Does not know: connections and commits (`sqlite`), or how long anything is kept.
"""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy.dialects.sqlite import insert

from strongroom.receipts.hidden import DETAIL, OF_TENANT, PREFIXES
from strongroom.records.digest import Digest
from strongroom.records.release import Opening
from strongroom.release.stores.rows import Rows, insert_new
from strongroom.release.stores.schema import Collaterals, Decisions, Openings
from strongroom.release.stores.statements import Statement

_KEEP = insert_new(Decisions)
_PUT = insert(Collaterals)
_LONGER = {"until": sa.func.max(Collaterals.c.until, _PUT.excluded.until)}
_KEEP_COLLATERAL = Statement(_PUT.on_conflict_do_update(index_elements=["digest"], set_=_LONGER))
_FORGET = tuple(
    Statement(sa.delete(table).where(table.c.until <= sa.bindparam("now"))) for table in (Decisions, Collaterals)
)
_KEEP_OPENINGS = Statement(sa.insert(Openings))


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

    def openings(self, position: int) -> tuple[Opening, ...]:
        query = sa.select(Openings).where(Openings.c.position == position).order_by(Openings.c.member)
        return tuple(Opening(row.member, row.salt, row.value) for row in self._connection.execute(query))

    def count_openings(self, value: str) -> int:
        query = sa.select(sa.func.count()).select_from(Openings).where(_of(value))
        return int(self._connection.execute(query).scalar())

    def keep_openings(self, openings: Sequence[tuple[int, Opening]]) -> None:
        rows = [{"position": at, "member": one.member, "salt": one.salt, "value": one.value} for at, one in openings]
        if rows:
            self._connection.execute(_KEEP_OPENINGS, rows)

    def erase_openings(self, value: str) -> None:
        self._connection.execute(sa.delete(Openings).where(_of(value)))

    def _forget_kept(self, now: int) -> None:
        for statement in _FORGET:
            self._connection.execute(statement, {"now": now})


def _of(value: str) -> sa.ColumnElement[bool]:
    """Openings of `value`, of subjects that say of what kind it is, and of details that name it; of a tenant, of its own name too."""
    column = Openings.c.value
    if value.endswith("/"):
        tenant = value.removesuffix("/")
        found = [column.startswith(prefix + value, autoescape=True) for prefix in PREFIXES]
        found.append(column == OF_TENANT + tenant)
        members = [f"policy={value}", f"output={value}", f"tenant={tenant} "]
    else:
        found = [column.in_([prefix + value for prefix in PREFIXES])]
        members = [f"policy={value} ", f"output={value} "]
    named = [(" " + column + " ").contains(f" {member}", autoescape=True) for member in members]
    return sa.or_(*found, sa.and_(Openings.c.member == DETAIL, sa.or_(*named)))
