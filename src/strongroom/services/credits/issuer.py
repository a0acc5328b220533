"""The issuer: it signs blinded credits for an account against its balance. It knows who buys, and never which credit.

Knows: accounts, balances, one key. Does not know: serials, requests, workers; nothing that it sees or keeps occurs in a
credit. What it could still learn is when and how many: see `channel.credit`.
Safety: an account's secret is 32 random bytes, of which the SHA-256 is kept. The balance is debited, durably, before
anything is signed; the same request again is signed again and costs nothing, so a buyer who died between asking and
receiving loses nothing. One key for everybody: a key for each buyer would tell them apart, so buyers pin it.
Not covered: TLS, which ends before it; payment, which raises a balance (`grant`); refunds; expiry but by another key.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import sqlite3
from collections.abc import Iterable
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from strongroom.crypto import blind_rsa
from strongroom.errors import (
    CreditRefused,
    FileUnreadable,
    MalformedRecord,
    NotAuthorised,
    StoreUnavailable,
    UsageError,
)
from strongroom.records import codec
from strongroom.records.codec import b64encode
from strongroom.records.credit import CREDITS_PATH, KEY_PATH, MAX_AT_ONCE, CreditAnswer, CreditKey, CreditRequest
from strongroom.services.database import Database
from strongroom.services.problems import HANDLERS, Defects, answer, problem, read_body

APPLICATION_ID = 0x53747269
SCHEMA_VERSION = 1
DATABASE, KEY = "credits.db", "credits.pem"
MAX_BODY = 128 * 1024
SECRET_BYTES = 32
MAX_BALANCE = 2**40
_SCHEMA = [
    "CREATE TABLE accounts (name TEXT PRIMARY KEY, secret BLOB NOT NULL, balance INTEGER NOT NULL) STRICT",
    "CREATE TABLE signed (digest BLOB PRIMARY KEY) STRICT, WITHOUT ROWID",
]


class Issuer:
    """The issuer whose key and accounts lie in `directory`; both are made at the first start.

    Raises `StoreUnavailable`, `FileUnreadable`. May be called from many threads.
    """

    def __init__(self, directory: Path) -> None:
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise FileUnreadable(f"the state directory cannot be used: {error.strerror}") from None
        key_file, database = directory / KEY, directory / DATABASE
        if database.exists() and not key_file.exists():
            raise StoreUnavailable("the accounts are here, but the issuer's key is missing", remedy="Restore it.")
        self._key = _load(key_file) if key_file.exists() else _create(key_file)
        self._database = Database(database, APPLICATION_ID, SCHEMA_VERSION, _SCHEMA)

    @property
    def public(self) -> bytes:
        """The public key (SubjectPublicKeyInfo, DER)."""
        return blind_rsa.public_to_der(self._key.public_key())

    def grant(self, account: str, count: int) -> str | None:
        """Raise the balance of `account` by `count`; a new account's secret is returned, once. Raises `UsageError`."""
        if not (account and account.isprintable() and len(account) <= 128) or count < 0:  # noqa: PLR2004
            raise UsageError("an account has a printable name of at most 128 characters, and gains credits")
        with self._database.transaction() as connection:
            row = connection.execute("SELECT balance FROM accounts WHERE name = ?", (account,)).fetchone()
            if (row[0] if row else 0) + count > MAX_BALANCE:
                raise UsageError(f"a balance of more than {MAX_BALANCE}")
            if row is not None:
                connection.execute("UPDATE accounts SET balance = balance + ? WHERE name = ?", (count, account))
                return None
            secret = b64encode(secrets.token_bytes(SECRET_BYTES))
            connection.execute("INSERT INTO accounts VALUES (?, ?, ?)", (account, _hash(secret), count))
            return secret

    def balance(self, account: str) -> int:
        """What is left of an account. Raises `UsageError` for one that is not there."""
        with self._database.transaction() as connection:
            row = connection.execute("SELECT balance FROM accounts WHERE name = ?", (account,)).fetchone()
        if row is None:
            raise UsageError("there is no such account")
        return int(row[0])

    def issue(self, request: CreditRequest, secret: str) -> CreditAnswer:
        """Debit the account and sign. Raises `NotAuthorised`, `CreditRefused` for an empty balance, `MalformedRecord`."""
        size = self._key.key_size // 8
        n = self._key.public_key().public_numbers().n
        fit = all(len(one) == size and 0 < int.from_bytes(one) < n for one in request.blinded)
        if not 1 <= len(request.blinded) <= MAX_AT_ONCE or not fit:
            raise MalformedRecord(f"a purchase is of 1 to {MAX_AT_ONCE} blinded credits of {size} bytes")
        with self._database.transaction() as connection:
            left = self._debit(connection, request, secret)
        return CreditAnswer(self._sign(request.blinded), left)

    def close(self) -> None:
        self._database.close()

    def _debit(self, connection: sqlite3.Connection, request: CreditRequest, secret: str) -> int:
        query = "SELECT secret, balance FROM accounts WHERE name = ?"
        row = connection.execute(query, (request.account,)).fetchone()
        known, balance = row if row is not None else (bytes(32), 0)
        if not hmac.compare_digest(known, _hash(secret)):
            raise NotAuthorised("no such account, or another secret", remedy="Give the account's own secret.")
        digest = hashlib.sha256(codec.encode(request)).digest()
        if connection.execute("SELECT 1 FROM signed WHERE digest = ?", (digest,)).fetchone() is not None:
            return int(balance)
        count = len(request.blinded)
        if count > balance:
            raise CreditRefused(f"the balance is {balance}", remedy="Buy fewer credits, or pay the issuer first.")
        connection.execute("UPDATE accounts SET balance = balance - ? WHERE name = ?", (count, request.account))
        connection.execute("INSERT INTO signed VALUES (?)", (digest,))
        return int(balance) - count

    def _sign(self, blinded: Iterable[bytes]) -> tuple[bytes, ...]:
        return tuple(blind_rsa.blind_sign(self._key, one) for one in blinded)


def issuer_app(issuer: Issuer) -> Starlette:
    """The application of `issuer`: its public key, and purchases by accounts that name themselves by their secret."""

    async def key(_: Request) -> Response:
        return answer(CreditKey(issuer.public))

    async def buy(request: Request) -> Response:
        scheme, _, secret = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not secret:
            raise NotAuthorised("a purchase needs the account's secret", remedy="Give --secret FILE.")
        wanted = codec.decode(CreditRequest, await read_body(request, MAX_BODY))
        try:
            return answer(await run_in_threadpool(issuer.issue, wanted, secret))
        except CreditRefused as error:
            return problem(error, 402)

    async def health(_: Request) -> Response:
        return JSONResponse({"state": "ready"})

    routes = [Route(KEY_PATH, key), Route(CREDITS_PATH, buy, methods=["POST"]), Route("/healthz", health)]
    return Starlette(routes=routes, exception_handlers=HANDLERS, middleware=[Middleware(Defects)])


def _hash(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()


def _create(path: Path) -> RSAPrivateKey:
    key = blind_rsa.generate()
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    part = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(key.private_bytes(*form))
            file.flush()
            os.fsync(file.fileno())
        part.rename(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise FileUnreadable(f"the issuer's key cannot be written: {error.strerror}", detail=str(path)) from None
    return key


def _load(path: Path) -> RSAPrivateKey:
    try:
        if path.stat().st_mode & 0o077:
            raise FileUnreadable(
                "the issuer's key can be read by others",
                detail=str(path),
                remedy=f"Take it for stolen, or if nobody else was here: chmod 600 {path}",
            )
        key = serialization.load_pem_private_key(path.read_bytes(), None)
    except OSError as error:
        raise FileUnreadable(f"the issuer's key cannot be read: {error.strerror}", detail=str(path)) from None
    except (ValueError, TypeError):
        raise FileUnreadable("not a private key", detail=str(path)) from None
    if not isinstance(key, RSAPrivateKey):
        raise FileUnreadable("an issuer signs with an RSA key", detail=str(path))
    blind_rsa.check(key.public_key())
    return key
