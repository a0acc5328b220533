"""A witness: it signs a log's new checkpoint only where that extends all it ever saw of this log (C2SP tlog-witness v1.0.0).

Knows: one path, `add-checkpoint`; the answer to each doubt; and the newest checkpoint of each log, in one SQLite file. Does
not know: what a log holds. Anybody may ask: what counts is the log's signature.
Safety: size and root are compared and replaced in one transaction, which is durable (rollback journal, synchronous=EXTRA)
before a signature leaves, so that neither a crash nor a race takes a witness back. A witness that lost its file would sign
old states as new: key and file are made together, and one is refused without the other. Two signed states of one size with
different roots prove that a log forked: the first such proof is kept.
Not covered: bastions, reading a witness's state over HTTP, limits by sender.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from strongroom.crypto.merkle import EMPTY_ROOT, verify_consistency
from strongroom.crypto.signatures import generate_ed25519, private_from_pem, private_to_pem, raw_public
from strongroom.errors import FileUnreadable, LogInvalid, StoreUnavailable, Unreadable, UsageError
from strongroom.receipts.cosignature import Witness, cosign
from strongroom.receipts.note import Checkpoint, is_key_name, open_checkpoint
from strongroom.receipts.witness import MAX_BODY_BYTES, SIZE_TYPE, Submission, parse_submission
from strongroom.services.database import Database
from strongroom.services.problems import HANDLERS, Defects, Oversize, read_body

log = logging.getLogger("strongroom.witness")

APPLICATION_ID = 0x53747277
SCHEMA_VERSION = 1
_SCHEMA = (
    "CREATE TABLE seen (origin TEXT PRIMARY KEY, size INTEGER NOT NULL, root BLOB NOT NULL, checkpoint TEXT NOT NULL) STRICT",
    "CREATE TABLE forks (origin TEXT PRIMARY KEY, checkpoint TEXT NOT NULL) STRICT",
)
PLAIN = "text/plain; charset=utf-8"
DATABASE, KEY = "witness.db", "witness.pem"
MAX_KEY_BYTES = 16 * 1024


@dataclass(frozen=True, slots=True)
class Reply:
    """What a witness answers: status, text and its media type, as the specification has them."""

    status: int
    text: str
    media_type: str = PLAIN


@dataclass(frozen=True, slots=True)
class Seen:
    """The newest checkpoint of a log that was cosigned."""

    size: int
    root: bytes


class WitnessStore(Database):
    """The newest checkpoint of each log in the file `path`. Raises `StoreUnavailable`."""

    def __init__(self, path: Path) -> None:
        remedy = "Restore its newest state; a witness must not start from an older one."
        super().__init__(path, APPLICATION_ID, SCHEMA_VERSION, _SCHEMA, journal="DELETE", checked=True, remedy=remedy)

    def empty(self) -> bool:
        """Whether no checkpoint of any log was ever cosigned."""
        with self.transaction() as connection:
            return bool(connection.execute("SELECT count(*) FROM seen").fetchone() == (0,))

    def forks(self) -> tuple[str, ...]:
        """Of each log that was caught, the first signed checkpoint that contradicts one cosigned before."""
        with self.transaction() as connection:
            return tuple(row[0] for row in connection.execute("SELECT checkpoint FROM forks ORDER BY origin"))


class WitnessService:
    """The witness `name` with `key`, for `logs` (origin to Ed25519 key, 32 bytes). Raises `UsageError`.

    May be called from many threads.
    """

    def __init__(self, store: WitnessStore, name: str, key: Ed25519PrivateKey, logs: Mapping[str, bytes]) -> None:
        if not logs or not is_key_name(name):
            raise UsageError("a witness has a name, and at least one log to watch", remedy="Give --name and --log.")
        self.store, self._name, self._key, self._logs = store, name, key, dict(logs)
        self.witness = Witness(name, raw_public(key))

    def add_checkpoint(self, body: bytes, *, now: int) -> Reply:
        """Answer one submission at `now` (Unix seconds). Raises `StoreUnavailable`, and `MalformedRecord` for a 400."""
        submission = parse_submission(body)
        public = self._logs.get(submission.origin)
        if public is None:
            return Reply(404, "this log is not watched here\n")
        try:
            new = open_checkpoint(submission.checkpoint, submission.origin, public)
        except LogInvalid:
            return Reply(403, "the log did not sign this\n")
        if submission.old > new.size:
            return Reply(400, "the old size is larger than the new one\n")
        with self.store.transaction() as connection:
            refusal = self._advance(connection, submission, new)
        if refusal is not None:
            log.warning("no status=%d size=%d old=%d", refusal.status, new.size, submission.old)
            return refusal
        log.info("cosigned size=%d old=%d", new.size, submission.old)
        return Reply(200, cosign(new, self._name, self._key, time=now))

    def _advance(self, connection: sqlite3.Connection, submission: Submission, new: Checkpoint) -> Reply | None:
        """Replace the newest checkpoint by `new`, if it extends it; else why not."""
        row = connection.execute("SELECT size, root FROM seen WHERE origin = ?", (new.origin,)).fetchone()
        seen = Seen(0, EMPTY_ROOT) if row is None else Seen(*row)
        forked = new.size == seen.size and new.root != seen.root
        if forked and row is not None:
            connection.execute("INSERT OR IGNORE INTO forks VALUES (?, ?)", (new.origin, submission.checkpoint))
        if submission.old != seen.size or forked:
            return Reply(409, f"{seen.size}\n", SIZE_TYPE)
        try:
            verify_consistency(seen.size, seen.root, new.size, new.root, submission.path)
        except LogInvalid:
            return Reply(422, "the consistency proof does not hold\n")
        connection.execute(
            "INSERT OR REPLACE INTO seen VALUES (?, ?, ?, ?)", (new.origin, new.size, new.root, submission.checkpoint)
        )
        return None


def witness_app(service: WitnessService, *, clock: Callable[[], float] = time.time) -> Starlette:
    """The application of `service`; `clock` gives Unix seconds."""

    async def add_checkpoint(request: Request) -> Response:
        try:
            body = await read_body(request, MAX_BODY_BYTES)
            reply = await run_in_threadpool(service.add_checkpoint, body, now=int(clock()))
        except Oversize as error:
            reply = Reply(413, f"{error.message}\n")
        except Unreadable as error:
            reply = Reply(400, f"{error.message}\n")
        return Response(reply.text, reply.status, media_type=None, headers={"content-type": reply.media_type})

    async def health(_: Request) -> Response:
        return JSONResponse({"state": "ready"})

    routes = [Route("/add-checkpoint", add_checkpoint, methods=["POST"]), Route("/healthz", health)]
    return Starlette(routes=routes, exception_handlers=HANDLERS, middleware=[Middleware(Defects)])


def open_witness(directory: Path, name: str, logs: Mapping[str, bytes], *, key: Path | None = None) -> WitnessService:
    """The witness whose state lies in `directory`; state and key are made together, at the first start.

    `key` names its key's file (PEM, Ed25519), otherwise within `directory`. Raises `StoreUnavailable`, `FileUnreadable`,
    `UsageError`.
    """
    key_file, database = key or directory / KEY, directory / DATABASE
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        if key_file.exists() and not database.exists():
            raise StoreUnavailable(
                "the witness's key is here, but not what it signed before",
                detail=str(database),
                remedy="Restore its newest state; if that is lost, retire this key and name, and start as another witness.",
            )
        store = WitnessStore(database)
    except OSError as error:
        raise FileUnreadable(f"the state directory cannot be used: {error.strerror}", detail=str(directory)) from None
    try:
        if store.empty() and not key_file.exists():
            _create_key(key_file)
        return WitnessService(store, name, _load_key(key_file), logs)
    except BaseException:
        store.close()
        raise


def _create_key(path: Path) -> None:
    part = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(private_to_pem(generate_ed25519()))
            file.flush()
            os.fsync(file.fileno())
        part.rename(path)
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        os.fsync(folder)
        os.close(folder)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise FileUnreadable(f"the witness's key cannot be written: {error.strerror}", detail=str(path)) from None


def _load_key(path: Path) -> Ed25519PrivateKey:
    try:
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_mode & 0o077:
                raise FileUnreadable(
                    "the witness's key can be read by others",
                    detail=str(path),
                    remedy=f"Take it for stolen, or if nobody else was here: chmod 600 {path}",
                )
            key = private_from_pem(file.read(MAX_KEY_BYTES))
    except FileNotFoundError:
        raise FileUnreadable("the witness's state is here, but its key is missing", detail=str(path)) from None
    except OSError as error:
        raise FileUnreadable(f"the witness's key cannot be read: {error.strerror}", detail=str(path)) from None
    if not isinstance(key, Ed25519PrivateKey):
        raise FileUnreadable("a witness signs with an Ed25519 key", detail=str(path))
    return key
