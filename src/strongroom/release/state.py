"""A broker's private keys at rest: one directory, mode 0700, a file with mode 0600 for each, never in the database.

Knows: files. Does not know: the database, which lies beside them and holds nothing that opens without them. The
directory appears whole or not at all: it is written under another name, made durable, and renamed. Not covered:
encryption of these files at rest (the root alone can be in a token: `token_root`), memory that cannot be swapped.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from strongroom.crypto.hpke import ReleaseKey
from strongroom.crypto.signatures import (
    fingerprint,
    generate_ed25519,
    generate_p384,
    private_from_pem,
    private_to_pem,
    public_to_der,
    raw_public,
)
from strongroom.errors import FileUnreadable, StoreUnavailable, Unreadable, UsageError
from strongroom.receipts.identity import sign_identity
from strongroom.records.digest import frame
from strongroom.records.envelope import Envelope
from strongroom.records.release import BrokerIdentity
from strongroom.release.challenges import SECRET_BYTES
from strongroom.release.roots import KEY_BYTES, FileRoot, RootKey

DATABASE = "broker.db"
KEYS = "keys"
SIGNING, TOKEN, LOG = "signing.pem", "token.pem", "log.pem"
WRAPPING, CHALLENGE, ROOT = "wrapping.key", "challenge.key", "root.key"
ROOT_CHECK = "root.check"
"""Zeros wrapped under a root that is elsewhere: with them a start notices another root."""
CHECK_TAG = "strongroom/root-check/v1"
MAX_FILE_BYTES = 16 * 1024

FindRoot: TypeAlias = Callable[[bool], RootKey]
"""Finds a root outside the directory, and makes it where there is none if it is told True: at the first start alone."""


@dataclass(frozen=True, slots=True, repr=False)
class BrokerKeys:
    """All that a broker keeps secret: three signing keys, one to which data keys are sealed, a challenge key, its root."""

    signing: Ed25519PrivateKey
    token: EllipticCurvePrivateKey
    log: Ed25519PrivateKey
    wrapping: ReleaseKey
    challenge: bytes
    root: RootKey

    @classmethod
    def generate(cls, root: RootKey | None = None) -> BrokerKeys:
        """New keys, under `root` or a new one of the kind that a file keeps."""
        return cls(
            signing=generate_ed25519(),
            token=generate_p384(),
            log=generate_ed25519(),
            wrapping=ReleaseKey.generate(),
            challenge=secrets.token_bytes(SECRET_BYTES),
            root=root or FileRoot.generate(),
        )

    @property
    def identity(self) -> BrokerIdentity:
        """The public halves. The log's name follows from its key, so that no two brokers' logs share one."""
        name = fingerprint(self.log.public_key()).removeprefix("sha256:")
        return BrokerIdentity(
            signing=raw_public(self.signing),
            token=public_to_der(self.token.public_key()),
            log=raw_public(self.log),
            log_origin=f"strongroom.broker/{name[:32]}",
            wrapping=self.wrapping.public,
        )

    @property
    def identity_envelope(self) -> Envelope:
        return sign_identity(self.identity, self.signing)

    def __repr__(self) -> str:
        return f"BrokerKeys({self.identity.fingerprint})"


def load_or_create(directory: Path, root: FindRoot | None = None) -> BrokerKeys:
    """The keys in `directory`, made at the first start. Raises `FileUnreadable` or `StoreUnavailable`.

    The root lies beside them in a file, or is what `root` finds elsewhere, which raises its own errors. A start with another root than
    the first one had is refused: `UsageError` for one in another place, `StoreUnavailable` for another key.
    A directory with a database but without keys is refused: new keys would open nothing of what the database holds.
    """
    keys = directory / KEYS
    found: RootKey | None = None
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        first = not keys.exists()
        _check_start(directory, first=first, named=root is not None)
        found = root(first) if root is not None else None
        if first:
            _create(keys, found)
        return _load(keys, found)
    except BaseException as error:
        if found is not None:
            found.close()
        if not isinstance(error, OSError):
            raise
        reason = f"the state directory cannot be used: {error.strerror}"
        raise FileUnreadable(reason, detail=str(directory)) from None


def _check_start(directory: Path, *, first: bool, named: bool) -> None:
    """Whether a root may be made (`first`), or is named where it was before."""
    keys = directory / KEYS
    if first:
        if (directory / DATABASE).exists():
            raise StoreUnavailable(
                "the broker's database is here, but its keys are missing",
                remedy=f"Restore {keys} from the backup that belongs to this database.",
            )
        return
    in_file = not (keys / ROOT_CHECK).exists()
    if in_file == named:
        where = "a file beside its other keys" if in_file else "a token"
        raise UsageError(
            f"this broker's root key is in {where}, and this start says otherwise",
            remedy="Start it without --root." if in_file else "Name the token and the key in it: --root pkcs11:…",
        )


def _create(keys: Path, root: RootKey | None) -> None:
    made = BrokerKeys.generate(root)
    files = {
        SIGNING: private_to_pem(made.signing),
        TOKEN: private_to_pem(made.token),
        LOG: private_to_pem(made.log),
        WRAPPING: made.wrapping.to_bytes(),
        CHALLENGE: made.challenge,
    }
    if isinstance(made.root, FileRoot):
        files[ROOT] = made.root.key
    else:
        files[ROOT_CHECK] = made.root.wrap(bytes(KEY_BYTES), _check_context(made.signing))
    unfinished = keys.with_name(f"{KEYS}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)  # left by a start that was cut off; nobody ever saw these keys
    unfinished.mkdir(mode=0o700)
    for name, content in files.items():
        descriptor = os.open(unfinished / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    _sync(unfinished)
    unfinished.rename(keys)
    _sync(keys.parent)


def _load(keys: Path, root: RootKey | None) -> BrokerKeys:
    signing, token, log = (_read_signing_key(keys / name) for name in (SIGNING, TOKEN, LOG))
    if not isinstance(signing, Ed25519PrivateKey) or not isinstance(log, Ed25519PrivateKey):
        raise FileUnreadable("a key of this broker is not an Ed25519 key", detail=f"{SIGNING}, {LOG}")
    if not isinstance(token, EllipticCurvePrivateKey) or token.curve.name != "secp384r1":
        raise FileUnreadable("a key of this broker is not on P-384", detail=TOKEN)
    try:
        wrapping = ReleaseKey.from_bytes(_read(keys / WRAPPING))
    except Unreadable as error:
        raise _unreadable(keys / WRAPPING, error.message) from None
    challenge = _read(keys / CHALLENGE)
    if len(challenge) != SECRET_BYTES:
        raise FileUnreadable("a key of this broker does not have its length", detail=CHALLENGE)
    return BrokerKeys(signing, token, log, wrapping, challenge, _load_root(keys, signing, root))


def _load_root(keys: Path, signing: Ed25519PrivateKey, root: RootKey | None) -> RootKey:
    """The same root as at the first start. Raises `StoreUnavailable` where it is another."""
    if root is not None:
        root.unwrap(_read(keys / ROOT_CHECK), _check_context(signing))
        return root
    key = _read(keys / ROOT)
    if len(key) != KEY_BYTES:
        raise FileUnreadable("a key of this broker does not have its length", detail=ROOT)
    return FileRoot(key)


def _check_context(signing: Ed25519PrivateKey) -> bytes:
    return frame(CHECK_TAG, raw_public(signing))


def _read_signing_key(path: Path) -> Ed25519PrivateKey | EllipticCurvePrivateKey:
    try:
        return private_from_pem(_read(path))
    except FileUnreadable:
        raise
    except Unreadable as error:
        raise _unreadable(path, error.message) from None


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_mode & 0o077:
                raise FileUnreadable(
                    "a private key of this broker can be read by others",
                    detail=path.name,
                    remedy=f"Take the keys for stolen, or if nobody else was here: chmod 600 {path}",
                )
            return file.read(MAX_FILE_BYTES)
    except OSError as error:
        raise _unreadable(path, error.strerror or "") from None


def _unreadable(path: Path, reason: str) -> FileUnreadable:
    return FileUnreadable(
        f"a private key of this broker cannot be read: {reason}",
        detail=path.name,
        remedy=f"Restore {path} from a backup of the same broker.",
    )


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
