"""A wallet: a file of credits, one a line, each taken out before it is used; and how credits are bought into it.

Knows: the file, blinding and its undoing. Does not know: how an issuer is reached (a callable), how requests are sealed.
Crash safety: the file is replaced whole, under a lock that other processes honour. A credit is out of it, on disk, before
its request leaves, so it is never sent twice; one that was taken when the program died is lost, not spent twice. A
purchase is on disk before it is sent, and is finished when it is begun again: the issuer answers the same request again
without taking from the balance.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from strongroom.channel.credit import Credit, new_serial, parse_credit, signed_part
from strongroom.crypto import blind_rsa
from strongroom.errors import CreditRefused, FileUnreadable, MalformedMessage, UsageError
from strongroom.records import codec
from strongroom.records.credit import MAX_AT_ONCE, CreditAnswer, CreditRequest, Purchase
from strongroom.records.digest import digest_bytes, raw

MAX_WALLET = 64 << 20

Send = Callable[[CreditRequest], CreditAnswer]


class Wallet:
    """The credits in the file `path`, which need not exist yet. Files are made with mode 0600."""

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)
        self._pending = self._path.with_name(self._path.name + ".pending")

    def __len__(self) -> int:
        """How many credits there are. Raises `FileUnreadable`, `CreditRefused` for lines that are none."""
        return len(self._read())

    def take(self) -> str:
        """One credit, out of the file for good. Raises `CreditRefused` where there is none."""
        with self._locked():
            lines = self._read()
            if not lines:
                raise CreditRefused("the wallet is empty", detail=self._path.name)
            self._write(lines[1:])
            return lines[0]

    def give_back(self, credit: str) -> None:
        """Put back what was taken for a request that nobody can have read."""
        with self._locked():
            self._write([credit, *self._read()])

    def buy(self, key: RSAPublicKey, account: str, count: int, send: Send) -> CreditAnswer:
        """Buy `count` credits of the issuer with `key`, which must be the one that everybody is shown.

        A purchase that was begun before is finished first, and then is the purchase. Raises what `send` raises, and
        `SignatureInvalid` where the issuer signed something else.
        """
        with self._locked():
            purchase = self._begun(key, account, count)
            answer = send(CreditRequest(purchase.account, purchase.blinded))
            credits_ = _finished(key, purchase, answer)
            held = self._read()
            self._write([*held, *(text for text in credits_ if text not in set(held))])
            self._pending.unlink(missing_ok=True)
            return answer

    def _begun(self, key: RSAPublicKey, account: str, count: int) -> Purchase:
        """The purchase on disk, or a new one, on disk before anybody hears of it."""
        digest = raw(digest_bytes(blind_rsa.public_to_der(key)))
        if self._pending.exists():
            purchase = codec.decode(Purchase, _content(self._pending))
            if (purchase.key, purchase.account) != (digest, account):
                raise UsageError(
                    "a purchase from another issuer or account is not finished",
                    remedy=f"Finish it there, or give it up: remove {self._pending}",
                )
            return purchase
        if not 1 <= count <= MAX_AT_ONCE:
            raise UsageError(f"{count} credits at once", remedy=f"Buy 1 to {MAX_AT_ONCE} at once.")
        serials = tuple(new_serial() for _ in range(count))
        prepared = [blind_rsa.prepare(signed_part(serial)) for serial in serials]
        blinded = [blind_rsa.blind(key, message) for message in prepared]
        size = key.key_size // 8
        purchase = Purchase(
            key=digest,
            account=account,
            serials=serials,
            prefixes=tuple(message[: blind_rsa.PREFIX_BYTES] for message in prepared),
            inverses=tuple(one.inverse.to_bytes(size) for one in blinded),
            blinded=tuple(one.request for one in blinded),
        )
        _replace(self._pending, codec.encode(purchase))
        return purchase

    def _read(self) -> list[str]:
        if not self._path.exists():
            return []
        lines = _content(self._path).decode("ascii", "replace").split()
        for line in lines:
            parse_credit(line)
        return lines

    def _write(self, lines: list[str]) -> None:
        _replace(self._path, "".join(line + "\n" for line in lines).encode("ascii"))

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        lock = self._path.with_name(self._path.name + ".lock")
        with _translated(lock):
            descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def _finished(key: RSAPublicKey, purchase: Purchase, answer: CreditAnswer) -> list[str]:
    if len(answer.signed) != len(purchase.blinded):
        raise MalformedMessage("the issuer answered with another number of credits")
    done = []
    parts = zip(purchase.serials, purchase.prefixes, purchase.inverses, answer.signed, strict=True)
    for serial, prefix, inverse, signed in parts:
        message = prefix + signed_part(serial)
        signature = blind_rsa.finalize(key, message, signed, int.from_bytes(inverse))
        done.append(Credit(purchase.key, prefix, serial, signature).to_text())
    return done


def _content(path: Path) -> bytes:
    with _translated(path), path.open("rb") as file:
        data = file.read(MAX_WALLET + 1)
    if len(data) > MAX_WALLET:
        raise FileUnreadable(f"{path} is larger than {MAX_WALLET} bytes")
    return data


def _replace(path: Path, data: bytes) -> None:
    """The whole file or none of it, on disk when this returns."""
    part = path.with_name(f".{path.name}.{os.getpid()}")
    with _translated(path):
        try:
            descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            part.rename(path)
            folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
            os.fsync(folder)
            os.close(folder)
        except OSError:
            part.unlink(missing_ok=True)
            raise


@contextlib.contextmanager
def _translated(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise FileUnreadable(f"{path}: {error.strerror}") from None
