"""What all rows share: the connection of one transaction, and a few statements that every table needs.

Knows: how to insert where a key may be taken, and the table of single values. Does not know: any rule.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.sqlite import insert

from strongroom.release.stores.schema import Meta
from strongroom.release.stores.statements import Connection, Statement

_META = Statement(sa.select(Meta.c.value).where(Meta.c.name == sa.bindparam("name")))
_PUT_META = insert(Meta)
_SET_META = Statement(
    _PUT_META.on_conflict_do_update(index_elements=["name"], set_={"value": _PUT_META.excluded.value})
)


def insert_new(table: sa.Table) -> Statement:
    """Adds a row, all columns by name; changes nothing where the primary key is taken."""
    return Statement(insert(table).on_conflict_do_nothing())


class Rows:
    """A part of `Transaction`, over one connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def _changed(
        self, statement: Statement | sa.Executable, parameters: Mapping[str, Any] | Sequence[Mapping[str, Any]] = {}
    ) -> int:
        """How many rows it changed."""
        return self._connection.execute(statement, parameters).rowcount

    def _meta(self, name: str) -> str | None:
        value: str | None = self._connection.execute(_META, {"name": name}).scalar()
        return value

    def _put_meta(self, name: str, value: str) -> None:
        self._connection.execute(_SET_META, {"name": name, "value": value})
