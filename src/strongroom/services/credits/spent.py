"""What was spent: a set to which each credit is added once.

Knows: the port, and two implementations. Does not know: credits (32 bytes each), HTTP.
Safety: the set protects who is paid, not who asks: an operator who winds it back gives away answers. It holds hashes of
serials and nothing of who spent them or when. In memory it ends with the process, so that its credits could be spent
once more; several workers that take the same issuer's credits share one file, or let each credit be spent once at each.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from strongroom.errors import StoreUnavailable

APPLICATION_ID = 0x53747273
SCHEMA_VERSION = 1
BUSY_SECONDS = 5.0


class Spent(Protocol):
    """A double-spend set; may be called from many threads."""

    def add(self, spent: bytes) -> bool:
        """Add `spent` for good before returning; False if it was there. Of two equal calls at once, one is True."""
        ...

    def remove(self, spent: bytes) -> None:
        """Take back what `add` added, for a request that came to nothing."""
        ...


class SpentInMemory:
    """For one worker, as long as it lives."""

    def __init__(self) -> None:
        self._spent: set[bytes] = set()
        self._lock = threading.Lock()

    def add(self, spent: bytes) -> bool:
        with self._lock:
            if spent in self._spent:
                return False
            self._spent.add(spent)
            return True

    def remove(self, spent: bytes) -> None:
        with self._lock:
            self._spent.discard(spent)


class SpentInFile:
    """In one SQLite file, which workers on one machine may share. Raises `StoreUnavailable`."""

    def __init__(self, path: Path) -> None:
        table = "CREATE TABLE spent (serial BLOB PRIMARY KEY) STRICT, WITHOUT ROWID"
        self._database = Database(path, APPLICATION_ID, SCHEMA_VERSION, [table])

    def add(self, spent: bytes) -> bool:
        with self._database.transaction() as connection:
            return connection.execute("INSERT OR IGNORE INTO spent VALUES (?)", (spent,)).rowcount == 1

    def remove(self, spent: bytes) -> None:
        with self._database.transaction() as connection:
            connection.execute("DELETE FROM spent WHERE serial = ?", (spent,))

    def close(self) -> None:
        self._database.close()


class Database:
    """A SQLite file of our own, made with mode 0600, whose transactions are durable. Raises `StoreUnavailable`."""

    def __init__(self, path: Path, application: int, version: int, schema: list[str]) -> None:
        self._lock = threading.Lock()
        with _translated():
            try:
                os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            except OSError as error:
                raise StoreUnavailable(f"{path.name} cannot be used: {error.strerror}") from None
            self._connection = sqlite3.connect(
                path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
            )
            try:
                for pragma in ("journal_mode = WAL", "synchronous = FULL", "trusted_schema = OFF"):
                    self._connection.execute(f"PRAGMA {pragma}")
                self._prepare(application, version, schema)
            except BaseException:
                self._connection.close()
                raise

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """One writer at a time, also among processes; durable when it ends, undone when it raises."""
        with _translated(), self._lock:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")

    def close(self) -> None:
        with self._lock:
            self._connection.close()

    def _prepare(self, application: int, version: int, schema: list[str]) -> None:
        with self.transaction() as connection:
            found = tuple(
                connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version")
            )
            if found == (0, 0) and connection.execute("SELECT 1 FROM sqlite_schema").fetchone() is None:
                for statement in schema:
                    connection.execute(statement)
                connection.execute(f"PRAGMA application_id = {application}")
                connection.execute(f"PRAGMA user_version = {version}")
            elif found != (application, version):
                raise StoreUnavailable("this file is of another program, or of another version")


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorname", type(error).__name__)
        raise StoreUnavailable(f"the database of credits does not answer ({code})") from None
