"""One SQLite file of a service's own: made with mode 0600, recognised, and written by one at a time, durably.

Knows: how such a file is opened and how its transactions end. Does not know: what is in it. The broker's store is another matter
(`release.stores`): it has revisions, and PostgreSQL beside SQLite.
Safety: a transaction has reached the disk when it ends (synchronous=EXTRA). A file of another program or version is refused, and so is a
damaged one where its owner has it looked through (`checked`).
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

from strongroom.errors import StoreUnavailable

BUSY_SECONDS = 5.0


class Database:
    """The file at `path`, which has the tables of `schema` from its beginning. For many threads. Raises `StoreUnavailable`.

    `application` and `version` are what it is recognised by (SQLite's application_id and user_version); `remedy` is what to do about one
    that is not right.
    """

    def __init__(
        self,
        path: Path,
        application: int,
        version: int,
        schema: Sequence[str],
        *,
        journal: Literal["WAL", "DELETE"] = "WAL",
        checked: bool = False,
        remedy: str | None = None,
    ) -> None:
        self._lock, self._remedy, self._name = threading.Lock(), remedy, path.name
        try:
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        except OSError as error:
            raise self._unusable(f"cannot be used: {error.strerror}") from None
        with self._translated():
            self._connection = sqlite3.connect(
                path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
            )
            try:
                for pragma in (f"journal_mode = {journal}", "synchronous = EXTRA", "trusted_schema = OFF"):
                    self._connection.execute(f"PRAGMA {pragma}")
                self._recognise((application, version), schema, checked=checked)
            except BaseException:
                self._connection.close()
                raise

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """One writer at a time, also among processes; durable when it ends, undone when it raises."""
        with self._translated(), self._lock:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")

    def close(self) -> None:
        """Close the file, once whoever writes is done; later transactions raise `StoreUnavailable`."""
        with self._lock:
            self._connection.close()

    def _recognise(self, mark: tuple[int, int], schema: Sequence[str], *, checked: bool) -> None:
        with self.transaction() as connection:
            found = tuple(
                connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version")
            )
            if found == (0, 0) and connection.execute("SELECT 1 FROM sqlite_schema").fetchone() is None:
                for statement in schema:
                    connection.execute(statement)
                connection.execute(f"PRAGMA application_id = {mark[0]}")
                connection.execute(f"PRAGMA user_version = {mark[1]}")
            elif found != mark:
                raise self._unusable("is of another program, or of another version")
            elif checked and connection.execute("PRAGMA quick_check").fetchone() != ("ok",):
                raise self._unusable("is corrupt")

    def _unusable(self, why: str) -> StoreUnavailable:
        return StoreUnavailable(f"{self._name} {why}", remedy=self._remedy)

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        """Errors of the database as ours."""
        try:
            yield
        except sqlite3.Error as error:
            code = getattr(error, "sqlite_errorname", type(error).__name__)
            raise self._unusable(f"does not answer ({code})") from None
