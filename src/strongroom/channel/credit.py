"""A credit: one paid request, in a form that tells nobody who paid.

    credit  = base64url( 1 || key(32) || prefix(32) || serial(32) || signature )
    signed  = prefix || "strongroom/credit/v1" 0 || serial        RSABSSA-SHA384-PSS-Randomized, RFC 9474

`key` is the SHA-256 of the issuer's public key (SubjectPublicKeyInfo). `serial` and `prefix` are drawn by the buyer and
seen by the issuer only when spent. A credit travels inside the seal: as the field `strongroom-credit` where fields are
sealed too, otherwise as the member `strongroom_credit` of the request's JSON. Whoever reads it can spend it.

Safety: issuance and spending cannot be joined by their values. They can be joined by time where few people buy, by
amount, and by anything else that the same hands see of both: buy ahead, and ask through a relay.

Knows: the format, what is signed. Does not know: accounts, wallets, what was spent.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from strongroom.channel.padding import closing_brace
from strongroom.crypto import blind_rsa
from strongroom.errors import CreditRefused, MalformedRecord, SignatureInvalid
from strongroom.records.codec import b64decode, b64encode
from strongroom.records.digest import Digest, digest_bytes

FIELD = "strongroom-credit"
MEMBER = "strongroom_credit"
SERIAL_BYTES = 32
MAX_TEXT = 1024

_VERSION = b"\x01"
_TAG = b"strongroom/credit/v1\x00"
_HEAD_BYTES = 1 + 32 + blind_rsa.PREFIX_BYTES + SERIAL_BYTES


@dataclass(frozen=True, slots=True, repr=False)
class Credit:
    """One credit. Its text is as good as money, so it has no representation."""

    key: bytes
    prefix: bytes
    serial: bytes
    signature: bytes

    def to_text(self) -> str:
        """As it travels and lies in a wallet."""
        return b64encode(_VERSION + self.key + self.prefix + self.serial + self.signature)

    @property
    def message(self) -> bytes:
        """What the issuer signed."""
        return self.prefix + signed_part(self.serial)

    @property
    def spent_as(self) -> bytes:
        """What a spender remembers: 32 bytes, the same for every signature that the same serial could have."""
        return hashlib.sha256(_TAG + self.key + self.serial).digest()


def signed_part(serial: bytes) -> bytes:
    """The message before its random prefix."""
    return _TAG + serial


def parse_credit(text: str) -> Credit:
    """The credit in `text`; its signature is not judged. Raises `CreditRefused`."""
    if len(text) > MAX_TEXT:
        raise CreditRefused("what was given for a credit is none")
    try:
        data = b64decode(text)
    except MalformedRecord:
        data = b""
    signature = data[_HEAD_BYTES:]
    if data[:1] != _VERSION or not blind_rsa.MIN_BITS <= 8 * len(signature) <= blind_rsa.MAX_BITS:
        raise CreditRefused("what was given for a credit is none")
    at = 33 + blind_rsa.PREFIX_BYTES
    return Credit(data[1:33], data[33:at], data[at:_HEAD_BYTES], signature)


class Issuers:
    """The issuers whose credits count, by their public keys. Raises `MalformedMessage` for a key that is none."""

    def __init__(self, keys: Iterable[RSAPublicKey]) -> None:
        ders = [blind_rsa.public_to_der(blind_rsa.check(key)) for key in keys]
        self._keys = {hashlib.sha256(der).digest(): blind_rsa.public_from_der(der) for der in ders}

    def check(self, credit: Credit) -> None:
        """Raises `CreditRefused` unless one of them signed `credit`."""
        key = self._keys.get(credit.key)
        if key is None:
            raise CreditRefused("this credit is of an issuer that does not count here")
        try:
            blind_rsa.verify(key, credit.message, credit.signature)
        except SignatureInvalid:
            raise CreditRefused("this credit was not signed by its issuer") from None

    @property
    def digest(self) -> Digest:
        """What a worker's configuration says of them, so that a policy pins which keys count."""
        return digest_bytes(b"".join(sorted(self._keys)))


def new_serial() -> bytes:
    """A fresh serial."""
    return secrets.token_bytes(SERIAL_BYTES)


def put_into_json(body: bytes, text: str) -> bytes:
    """`body` (a JSON object) with the credit as its last member. Raises MalformedMessage for what is no object."""
    brace = closing_brace(body)
    comma = b"" if body[:brace].strip() == b"{" else b","
    return body[:brace] + comma + b'"' + MEMBER.encode() + b'":"' + text.encode() + b'"' + body[brace:]
