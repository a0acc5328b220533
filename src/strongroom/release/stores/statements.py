"""Statements of SQLAlchemy Core, compiled once, and run by the standard library's SQLite driver.

Knows: how a statement becomes text with named parameters, and rows tuples with names. Does not know: tables or rules.
Building and compiling a statement costs ten times what SQLite needs to run it, so those that every release runs are
compiled when their module is read; any other may be given as it is. Not covered: types that the driver does not return
as they were written (a boolean comes back as 0 or 1).
"""

from __future__ import annotations

import collections
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import sqlite

_DIALECT = sqlite.dialect(paramstyle="named")
_NO_PARAMETERS: Mapping[str, Any] = {}


class Statement:
    """One compiled statement; what it was not given as a literal it takes by name when it is run."""

    __slots__ = ("_literals", "_row", "text")

    def __init__(self, core: sa.Executable) -> None:
        compiled: Any = core.compile(dialect=_DIALECT, compile_kwargs={"render_postcompile": True})  # type: ignore[attr-defined]
        wanted = {name for name, bind in compiled.binds.items() if bind.required}
        self.text = str(compiled)
        self._literals = {name: value for name, value in compiled.params.items() if name not in wanted}
        self._row = _row_of(tuple(core.selected_columns.keys())) if isinstance(core, sa.Select) else tuple

    def run(self, driver: sqlite3.Connection, parameters: Mapping[str, Any] | Sequence[Mapping[str, Any]]) -> Result:
        """Run it once with `parameters`, or once with each of them."""
        if isinstance(parameters, Mapping):
            cursor = driver.execute(self.text, self._literals | parameters)  # type: ignore[operator]
        else:
            cursor = driver.executemany(self.text, parameters)
        return Result(cursor, self._row)


class Result:
    """What a statement found, or how many rows it changed."""

    __slots__ = ("_cursor", "_row")

    def __init__(self, cursor: sqlite3.Cursor, row: Any) -> None:
        self._cursor, self._row = cursor, row

    @property
    def rowcount(self) -> int:
        return self._cursor.rowcount

    def first(self) -> Any:
        """The first row, or None."""
        found = self._cursor.fetchone()
        return None if found is None else self._row(found)

    def scalar(self) -> Any:
        """The first column of the first row, or None."""
        found = self._cursor.fetchone()
        return None if found is None else found[0]

    def scalars(self) -> Iterator[Any]:
        """The first column of each row."""
        return (row[0] for row in self._cursor)

    def __iter__(self) -> Iterator[Any]:
        return map(self._row, self._cursor)


class Connection:
    """One connection of the driver, which runs statements, compiled or not."""

    __slots__ = ("driver",)

    def __init__(self, driver: sqlite3.Connection) -> None:
        self.driver = driver

    def execute(
        self,
        statement: Statement | sa.Executable,
        parameters: Mapping[str, Any] | Sequence[Mapping[str, Any]] = _NO_PARAMETERS,
    ) -> Result:
        """Run `statement`. Raises `sqlite3.Error`."""
        compiled = statement if isinstance(statement, Statement) else Statement(statement)
        return compiled.run(self.driver, parameters)


def create(driver: sqlite3.Connection, schema: sa.MetaData) -> None:
    """Make the tables and indexes of `schema` that are missing."""
    for table in schema.sorted_tables:
        driver.execute(str(sa.schema.CreateTable(table, if_not_exists=True).compile(dialect=_DIALECT)))
        for index in table.indexes:
            driver.execute(str(sa.schema.CreateIndex(index, if_not_exists=True).compile(dialect=_DIALECT)))


@cache
def _row_of(names: tuple[str, ...]) -> Any:
    row: Any = collections.namedtuple("Row", names)  # type: ignore[misc]  # noqa: PYI024 (made from the statement)
    return row._make
