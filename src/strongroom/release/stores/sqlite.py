"""The store in one SQLite file: WAL, synchronous=FULL, one writer.

Knows: SQL, and what a damaged, foreign or newer file looks like. Does not know: any rule of the broker. SQLite's WAL
with synchronous=FULL makes a commit durable before it returns (sqlite.org/pragma.html#pragma_synchronous). One process
at a time: a second one on the same file is refused, by a lock beside it. Works that wait for each other share a commit
(`group`). Not covered: backups, other databases.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
import typing
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy.exc import SQLAlchemyError

from strongroom.errors import StoreUnavailable
from strongroom.release.stores.administrator_rows import AdministratorRows
from strongroom.release.stores.cell_rows import CellRows
from strongroom.release.stores.group import Grouped, Waiting
from strongroom.release.stores.kept_rows import KeptRows
from strongroom.release.stores.key_rows import KeyRows
from strongroom.release.stores.lease_rows import LeaseRows
from strongroom.release.stores.life_rows import LifeRows, truncate_journal
from strongroom.release.stores.log_rows import LogRows
from strongroom.release.stores.nonce_rows import NonceRows
from strongroom.release.stores.port import Reader, Transaction
from strongroom.release.stores.revocation_rows import RevocationRows
from strongroom.release.stores.schema import SCHEMA_VERSION, schema
from strongroom.release.stores.statements import Connection, create

T = TypeVar("T")

APPLICATION_ID = 0x5374726D
MAGIC = b"SQLite format 3\x00"
HEADER_BYTES, APPLICATION_AT = 100, 68  # sqlite.org/fileformat.html, section 1.3
BUSY_MILLISECONDS = 5000
PRAGMAS = (
    "journal_mode = WAL",
    "synchronous = FULL",
    f"busy_timeout = {BUSY_MILLISECONDS}",
    "trusted_schema = OFF",
    "secure_delete = ON",
)


class SqliteStore:
    """`Store` in the file `path`, created with mode 0600 if it is missing. Raises `StoreUnavailable`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._group = Grouped(self._commit)
        self._idle: deque[sqlite3.Connection] = deque()
        self._held = _hold(path)
        try:
            with _translated():
                _check_header(path)
                self._writer = self._open()
        except BaseException:
            os.close(self._held)
            raise
        try:
            with _translated(), _transaction(self._writer, "IMMEDIATE"):
                _check_or_create(self._writer)
        except BaseException:
            self.close()
            raise

    def read(self, work: Callable[[Reader], T]) -> T:
        with _translated(), self._reader() as driver, _transaction(driver, "DEFERRED"):
            return work(SqliteTransaction(Connection(driver)))

    def write(self, work: Callable[[Transaction], T]) -> T:
        return typing.cast("T", self._group.run(work))

    def _commit(self, group: Sequence[Waiting]) -> None:
        """Each work in a savepoint of its own: one that raises takes back nothing of the others'.

        One group at a time comes here, so that one connection is enough.
        """
        with _translated(), _transaction(self._writer, "IMMEDIATE"):
            transaction = SqliteTransaction(Connection(self._writer))
            for waiting in group:
                try:
                    with _translated(), _savepoint(self._writer):
                        waiting.result = waiting.work(transaction)
                except StoreUnavailable:  # SQLite may have rolled back all of it: nobody's work counts
                    raise
                except Exception as error:  # noqa: BLE001 (its caller raises it)
                    waiting.error = error

    def scrub(self) -> None:
        with _translated(), self._reader() as driver:
            truncate_journal(driver)

    def close(self) -> None:
        for driver in (self._writer, *self._idle):
            driver.close()
        self._idle.clear()
        os.close(self._held)  # which also gives the lock back

    @contextlib.contextmanager
    def _reader(self) -> Iterator[sqlite3.Connection]:
        """A connection that nobody else uses meanwhile."""
        try:
            driver = self._idle.pop()
        except IndexError:
            driver = self._open()
        try:
            yield driver
        finally:
            if driver.in_transaction:  # it could not even roll back
                driver.close()
            else:
                self._idle.append(driver)

    def _open(self) -> sqlite3.Connection:
        driver = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
        for pragma in PRAGMAS:
            driver.execute(f"PRAGMA {pragma}")
        return driver


def _check_or_create(driver: sqlite3.Connection) -> None:
    application, version = _pragma(driver, "application_id"), _pragma(driver, "user_version")
    if (application, version) == (0, 0) and not driver.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]:
        create(driver, schema)
        driver.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        driver.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        return
    if application != APPLICATION_ID:
        raise _another_programs()
    if version > SCHEMA_VERSION:
        raise StoreUnavailable(
            f"this database has schema {version}, and this program knows {SCHEMA_VERSION}",
            remedy="Use the newer strongroom that wrote it.",
        )
    if _pragma(driver, "integrity_check") != "ok":
        raise StoreUnavailable("the broker's database is corrupt")
    if version < SCHEMA_VERSION:  # so far, a newer version only has more tables
        create(driver, schema)
        driver.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")


class SqliteTransaction(
    NonceRows, KeyRows, LifeRows, LeaseRows, LogRows, CellRows, KeptRows, AdministratorRows, RevocationRows
):
    """`Transaction` over one connection."""

    def forget(self, now: int) -> None:
        self._forget_nonces(now)
        self._forget_kept(now)
        self._forget_notes(now)


def _hold(path: Path) -> int:
    """The lock that keeps a second process off `path`; the file itself is made with mode 0600 if it is missing."""
    lock = path.with_name(path.name + ".lock")
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        held = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StoreUnavailable(
            "the broker's database cannot be opened", remedy=f"Check {path}: {error.strerror}."
        ) from None
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(held)
        raise StoreUnavailable(
            "another broker holds this database", remedy="Stop it, or name another state directory."
        ) from None
    return held


def _another_programs() -> StoreUnavailable:
    return StoreUnavailable(
        "this database is not a broker's", remedy="Name another state directory; this file stays as it is."
    )


def _check_header(path: Path) -> None:
    """SQLite would take some damaged files for empty ones; an empty file is new, and nothing else is."""
    try:
        with path.open("rb") as file:
            head = file.read(HEADER_BYTES)
    except OSError as error:
        raise StoreUnavailable("the broker's database cannot be read", detail=error.strerror or "") from None
    if not head:
        return
    if len(head) < HEADER_BYTES or not head.startswith(MAGIC):
        raise StoreUnavailable("the broker's database is corrupt", detail="this is not a SQLite file")
    if int.from_bytes(head[APPLICATION_AT:][:4]) not in {0, APPLICATION_ID}:  # 0: ours, but still in the WAL
        raise _another_programs()


def _pragma(driver: sqlite3.Connection, name: str) -> Any:
    return driver.execute(f"PRAGMA {name}").fetchone()[0]


@contextlib.contextmanager
def _transaction(driver: sqlite3.Connection, kind: str) -> Iterator[None]:
    driver.execute(f"BEGIN {kind}")
    try:
        yield
        driver.execute("COMMIT")
    except BaseException:
        if driver.in_transaction:  # some errors make SQLite roll back itself
            driver.execute("ROLLBACK")
        raise


@contextlib.contextmanager
def _savepoint(driver: sqlite3.Connection) -> Iterator[None]:
    driver.execute("SAVEPOINT work")
    try:
        yield
    except BaseException:
        if driver.in_transaction:
            driver.execute("ROLLBACK TO work")
            driver.execute("RELEASE work")
        raise
    driver.execute("RELEASE work")


_REMEDIES = {
    "SQLITE_FULL": "Make room on this disk, then start it again.",
    "SQLITE_READONLY": "Let this account write to the broker's folder.",
    "SQLITE_CANTOPEN": "Let this account write to the broker's folder.",
}
"""For what a backup would not mend."""


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    """Errors of the database as ours, without a word of what was being stored."""
    try:
        yield
    except (SQLAlchemyError, sqlite3.Error) as error:
        cause = getattr(error, "orig", None) or error
        corrupt = type(cause) is sqlite3.DatabaseError
        sentence = "the broker's database is corrupt" if corrupt else "the broker's database does not answer"
        code = str(getattr(cause, "sqlite_errorname", type(cause).__name__))
        raise StoreUnavailable(sentence, detail=code, remedy=_REMEDIES.get(code)) from None
