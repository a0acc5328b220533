"""The store in one SQLite file: WAL, synchronous=FULL, one writer.

Knows: SQL, and what a damaged, foreign or newer file looks like. Does not know: any rule of the broker. SQLite's WAL
with synchronous=FULL makes a commit durable before it returns (sqlite.org/pragma.html#pragma_synchronous). One process
at a time: a second one on the same file is refused, by a lock beside it. Works that wait for each other share a commit
(`group`). Not covered: backups, other databases.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import sqlite3
import typing
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.exc import SQLAlchemyError

from strongroom.errors import StoreUnavailable
from strongroom.records.digest import Digest
from strongroom.records.release import Lease, LeaseState
from strongroom.release.stores.cell_rows import CellRows
from strongroom.release.stores.group import Grouped, Waiting
from strongroom.release.stores.kept_rows import KeptRows
from strongroom.release.stores.port import (
    KeyState,
    Reader,
    StoredAnswer,
    StoredKey,
    StoredLease,
    StoredPolicy,
    Transaction,
)
from strongroom.release.stores.schema import (
    SCHEMA_VERSION,
    Answers,
    Keys,
    Leases,
    Leaves,
    Meta,
    Nonces,
    Policies,
    schema,
)

T = TypeVar("T")

APPLICATION_ID = 0x5374726D
MAGIC = b"SQLite format 3\x00"
HEADER_BYTES, APPLICATION_AT = 100, 68  # sqlite.org/fileformat.html, section 1.3
BUSY_MILLISECONDS = 5000
FORGOTTEN = "forgotten"
CHECKPOINT, COSIGNED = "checkpoint", "cosigned"


class SqliteStore:
    """`Store` in the file `path`, created with mode 0600 if it is missing. Raises `StoreUnavailable`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._group = Grouped(self._commit)
        self._engine = sa.create_engine(sa.URL.create("sqlite", database=str(path)), pool_size=8, max_overflow=32)
        sa.event.listen(self._engine, "connect", _configure)
        sa.event.listen(self._engine, "begin", _begin)
        self._held = _hold(path)
        try:
            with _translated():
                _check_header(path)
                self._check_or_create()
        except BaseException:
            self.close()
            raise

    def read(self, work: Callable[[Reader], T]) -> T:
        with _translated(), self._engine.connect() as connection, connection.begin():
            return work(SqliteTransaction(connection))

    def write(self, work: Callable[[Transaction], T]) -> T:
        return typing.cast("T", self._group.run(work))

    def _commit(self, group: Sequence[Waiting]) -> None:
        """Each work in a savepoint of its own: one that raises takes back nothing of the others'."""
        with _translated(), self._writer() as connection, connection.begin():
            transaction = SqliteTransaction(connection)
            for waiting in group:
                try:
                    with _translated(), connection.begin_nested():
                        waiting.result = waiting.work(transaction)
                except StoreUnavailable:  # SQLite may have rolled back all of it: nobody's work counts
                    raise
                except Exception as error:  # noqa: BLE001 (its caller raises it)
                    waiting.error = error

    def close(self) -> None:
        self._engine.dispose()
        os.close(self._held)  # which also gives the lock back

    def _writer(self) -> sa.Connection:
        return self._engine.connect().execution_options(strongroom_begin="IMMEDIATE")

    def _check_or_create(self) -> None:
        with self._writer() as connection, connection.begin():
            application, version = _pragma(connection, "application_id"), _pragma(connection, "user_version")
            if (application, version) == (0, 0) and not sa.inspect(connection).get_table_names():
                schema.create_all(connection)
                connection.exec_driver_sql(f"PRAGMA application_id = {APPLICATION_ID}")
                connection.exec_driver_sql(f"PRAGMA user_version = {SCHEMA_VERSION}")
                return
            if application != APPLICATION_ID:
                raise _another_programs()
            if version > SCHEMA_VERSION:
                raise StoreUnavailable(
                    f"this database has schema {version}, and this program knows {SCHEMA_VERSION}",
                    remedy="Use the newer strongroom that wrote it.",
                )
            if _pragma(connection, "quick_check") != "ok":
                raise StoreUnavailable("the broker's database is corrupt")
            if version < SCHEMA_VERSION:  # so far, a newer version only has more tables
                schema.create_all(connection)
                connection.exec_driver_sql(f"PRAGMA user_version = {SCHEMA_VERSION}")


class SqliteTransaction(CellRows, KeptRows):
    """`Transaction` over one connection."""

    # Nonces and answers

    def is_consumed(self, scope: str, nonce: bytes, expires: int) -> bool:
        if expires <= int(self._meta(FORGOTTEN) or "0"):
            return True
        query = sa.select(Nonces.c.expires).where(Nonces.c.scope == scope, Nonces.c.nonce == nonce)
        return self._connection.execute(query).first() is not None

    def consume(self, scope: str, nonce: bytes, expires: int) -> bool:
        if self.is_consumed(scope, nonce, expires):
            return False
        return self._insert(Nonces, scope=scope, nonce=nonce, expires=expires)

    def forget(self, now: int) -> None:
        self._connection.execute(sa.delete(Nonces).where(Nonces.c.expires <= now))
        self._connection.execute(sa.delete(Answers).where(Answers.c.until <= now))
        self._forget_kept(now)
        if now > int(self._meta(FORGOTTEN) or "0"):
            self._put_meta(FORGOTTEN, str(now))

    def answer(self, request: Digest, now: int) -> StoredAnswer | None:
        query = sa.select(Answers.c.released, Answers.c.body).where(Answers.c.request == request, Answers.c.until > now)
        row = self._connection.execute(query).first()
        return None if row is None else StoredAnswer(row.released, row.body)

    def keep_answer(self, request: Digest, answer: StoredAnswer, until: int) -> None:
        self._insert(Answers, request=request, released=answer.released, body=answer.body, until=until)

    # Keys and policies

    def key(self, key_id: str, version: int | None = None) -> StoredKey | None:
        query = sa.select(Keys).where(Keys.c.id == key_id).order_by(Keys.c.version.desc()).limit(1)
        row = self._connection.execute(query if version is None else query.where(Keys.c.version == version)).first()
        return None if row is None else _key(row)

    def keys(self) -> tuple[StoredKey, ...]:
        rows = self._connection.execute(sa.select(Keys).order_by(Keys.c.id, Keys.c.version))
        return tuple(_key(row) for row in rows)

    def put_key(self, key: StoredKey) -> bool:
        return self._insert(
            Keys,
            id=key.id,
            version=key.version,
            policy_id=key.policy_id,
            wrapped=key.wrapped,
            state=key.state.value,
            created=key.created,
        )

    def set_key_state(self, key_id: str, state: KeyState) -> int:
        return self._changed(sa.update(Keys).where(Keys.c.id == key_id).values(state=state.value))

    def policy(self, policy_id: str) -> StoredPolicy | None:
        query = sa.select(Policies).where(Policies.c.id == policy_id).order_by(Policies.c.version.desc()).limit(1)
        row = self._connection.execute(query).first()
        return None if row is None else _policy(row)

    def policies(self) -> tuple[StoredPolicy, ...]:
        rows = self._connection.execute(sa.select(Policies).order_by(Policies.c.id, Policies.c.version))
        newest = {row.id: _policy(row) for row in rows}
        return tuple(newest.values())

    def put_policy(self, policy: StoredPolicy) -> bool:
        newest = self.policy(policy.id)
        if newest is not None and newest.version >= policy.version:
            return False
        return self._insert(
            Policies, id=policy.id, version=policy.version, digest=policy.digest, envelope=policy.envelope
        )

    def policies_of(self, digests: Collection[Digest]) -> tuple[StoredPolicy, ...]:
        rows = self._connection.execute(sa.select(Policies).where(Policies.c.digest.in_(list(digests))))
        return tuple(_policy(row) for row in rows)

    # Leases

    def lease(self, lease_id: str) -> StoredLease | None:
        row = self._connection.execute(sa.select(Leases).where(Leases.c.id == lease_id)).first()
        return None if row is None else _lease(row)

    def leases(self) -> tuple[StoredLease, ...]:
        rows = self._connection.execute(sa.select(Leases).order_by(Leases.c.granted, Leases.c.id))
        return tuple(_lease(row) for row in rows)

    def add_lease(self, lease: StoredLease) -> None:
        record = lease.lease
        self._connection.execute(
            sa.insert(Leases).values(
                id=record.id,
                keyset=record.keyset,
                statement=record.statement,
                policy_id=record.policy_id,
                key_ids=json.dumps(record.key_ids),
                granted=record.granted,
                expires=record.expires,
                state=record.state.value,
                renewals=record.renewals,
                chain=record.chain,
                receipt_key=lease.receipt_key,
                receipts_sequence=lease.receipts_sequence,
            )
        )

    def renew_lease(self, lease: Lease) -> bool:
        before = sa.and_(
            Leases.c.id == lease.id,
            Leases.c.state == LeaseState.ACTIVE.value,
            Leases.c.renewals == lease.renewals - 1,
        )
        after = {"expires": lease.expires, "renewals": lease.renewals, "chain": lease.chain}
        return self._changed(sa.update(Leases).where(before).values(after)) == 1

    def revoke_lease(self, lease_id: str) -> bool:
        active = sa.and_(Leases.c.id == lease_id, Leases.c.state == LeaseState.ACTIVE.value)
        return self._changed(sa.update(Leases).where(active).values(state=LeaseState.REVOKED.value)) == 1

    def advance_receipts(self, lease_id: str, sequence: int) -> bool:
        behind = sa.and_(Leases.c.id == lease_id, Leases.c.receipts_sequence < sequence)
        return self._changed(sa.update(Leases).where(behind).values(receipts_sequence=sequence)) == 1

    # Log

    def log_size(self) -> int:
        last = self._connection.execute(sa.select(sa.func.max(Leaves.c.position))).scalar()
        return 0 if last is None else int(last) + 1

    def log_leaves(self, start: int, end: int) -> tuple[bytes, ...]:
        wanted = sa.and_(Leaves.c.position >= start, Leaves.c.position < end)
        return tuple(
            self._connection.execute(sa.select(Leaves.c.leaf).where(wanted).order_by(Leaves.c.position)).scalars()
        )

    def log_checkpoint(self) -> str | None:
        return self._meta(CHECKPOINT)

    def log_extend(self, leaves: Sequence[bytes], checkpoint: str) -> None:
        size = self.log_size()
        rows = [{"position": position, "leaf": leaf} for position, leaf in enumerate(leaves, size)]
        self._connection.execute(sa.insert(Leaves), rows)
        self._put_meta(CHECKPOINT, checkpoint)

    def log_cosigned(self) -> str | None:
        return self._meta(COSIGNED)

    def keep_cosigned(self, checkpoint: str) -> None:
        self._put_meta(COSIGNED, checkpoint)

    def _insert(self, table: sa.Table, **values: Any) -> bool:
        """Add a row; False if its primary key is taken."""
        return self._changed(insert(table).values(**values).on_conflict_do_nothing()) == 1

    def _changed(self, statement: Any) -> int:
        return int(self._connection.execute(statement).rowcount)

    def _meta(self, name: str) -> str | None:
        return self._connection.execute(sa.select(Meta.c.value).where(Meta.c.name == name)).scalar()

    def _put_meta(self, name: str, value: str) -> None:
        put = insert(Meta).values(name=name, value=value)
        self._connection.execute(put.on_conflict_do_update(index_elements=["name"], set_={"value": value}))


def _key(row: Any) -> StoredKey:
    return StoredKey(row.id, row.version, row.policy_id, row.wrapped, KeyState(row.state), row.created)


def _policy(row: Any) -> StoredPolicy:
    return StoredPolicy(row.id, row.version, Digest(row.digest), row.envelope)


def _lease(row: Any) -> StoredLease:
    lease = Lease(
        id=row.id,
        keyset=Digest(row.keyset),
        statement=Digest(row.statement),
        policy_id=row.policy_id,
        key_ids=tuple(json.loads(row.key_ids)),
        granted=row.granted,
        expires=row.expires,
        state=LeaseState(row.state),
        renewals=row.renewals,
        chain=Digest(row.chain),
    )
    return StoredLease(lease, row.receipt_key, row.receipts_sequence)


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


def _configure(connection: sqlite3.Connection, _: Any) -> None:
    connection.isolation_level = None  # transactions begin where we say, not where the driver guesses
    for pragma in (
        "journal_mode = WAL",
        "synchronous = FULL",
        f"busy_timeout = {BUSY_MILLISECONDS}",
        "trusted_schema = OFF",
    ):
        connection.execute(f"PRAGMA {pragma}")


def _begin(connection: sa.Connection) -> None:
    connection.exec_driver_sql(f"BEGIN {connection.get_execution_options().get('strongroom_begin', 'DEFERRED')}")


def _pragma(connection: sa.Connection, name: str) -> Any:
    return connection.exec_driver_sql(f"PRAGMA {name}").scalar()


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    """Errors of the database as ours, without a word of what was being stored."""
    try:
        yield
    except (SQLAlchemyError, sqlite3.Error) as error:
        cause = getattr(error, "orig", None) or error
        corrupt = type(cause) is sqlite3.DatabaseError
        sentence = "the broker's database is corrupt" if corrupt else "the broker's database does not answer"
        code = getattr(cause, "sqlite_errorname", type(cause).__name__)
        raise StoreUnavailable(sentence, detail=str(code)) from None
