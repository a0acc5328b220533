"""Challenges: nonces that a broker recognises without having stored them.

Knows: how one is made and recognised. Does not know: whether it was used before (the store does), or what it is asked
for. A challenge is HMAC-SHA256 over its nonce, purpose and expiry under a secret of the broker, so a flood of them
costs no room.
"""

from __future__ import annotations

import dataclasses
import hashlib
import hmac
import re
import secrets

from strongroom.errors import ReleaseRefused
from strongroom.records import codec
from strongroom.records.binding import NONCE_BYTES
from strongroom.records.digest import frame
from strongroom.records.release import PURPOSE_RELEASE, Challenge

LIFETIME_SECONDS = 120
SECRET_BYTES = 32

_PURPOSE = re.compile(rf"{PURPOSE_RELEASE}|renew:[A-Za-z0-9_-]{{1,64}}")


class Challenger:
    """Makes and recognises challenges under one secret of 32 bytes."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def issue(self, purpose: str, *, now: int) -> Challenge:
        """A fresh challenge, good until `now` + 120 s. Raises `ReleaseRefused` for a purpose that no broker serves."""
        if _PURPOSE.fullmatch(purpose) is None:
            raise ReleaseRefused("a broker gives no challenge for this purpose", detail="challenge.purpose")
        unsigned = Challenge(secrets.token_bytes(NONCE_BYTES), purpose, now + LIFETIME_SECONDS, b"")
        return dataclasses.replace(unsigned, mac=self._mac(unsigned))

    def check(self, challenge: Challenge, purpose: str, *, now: int) -> None:
        """Return if this broker made `challenge` for `purpose` and it has not expired. Raises `ReleaseRefused`."""
        if not hmac.compare_digest(self._mac(challenge), challenge.mac):
            raise ReleaseRefused("this challenge is not one of this broker's", detail="challenge.mac")
        if not now < challenge.expires <= now + LIFETIME_SECONDS:
            raise ReleaseRefused("this challenge has expired", detail="challenge.expired")
        if not hmac.compare_digest(challenge.purpose.encode(), purpose.encode()):
            raise ReleaseRefused("this challenge was made for another purpose", detail="challenge.purpose")

    def _mac(self, challenge: Challenge) -> bytes:
        unsigned = dataclasses.replace(challenge, mac=b"")
        return hmac.digest(self._secret, frame(Challenge.TYPE, codec.encode(unsigned)), hashlib.sha256)
