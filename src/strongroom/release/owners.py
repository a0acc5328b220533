"""Who speaks as an administrator: a short token for one request, signed with their P-256 key (ES256, RFC 7515).

Knows: how a token is made and checked. Does not know: whether it was used before (the store does), or what an administrator may
do (`roles`). A token names the broker, the method, the path and the body's digest, holds for at most 60 s and is used once; so
one that leaks from a log or a proxy is worth nothing. There is no shared secret, and nobody is an administrator by
default: roots are named when the broker is started, and appoint the others (`administrators`).
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey, EllipticCurvePublicKey
from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import ECKey

from strongroom.crypto.signatures import fingerprint
from strongroom.errors import MalformedRecord, NotAuthorised, UsageError
from strongroom.records import codec
from strongroom.records.digest import Digest, digest_bytes

ALGORITHM = "ES256"
CURVE = "secp256r1"
TOKEN_TYPE = "strongroom-owner+jwt"  # noqa: S105 (a media type)
LIFETIME_SECONDS = 60
SKEW_SECONDS = 30
MAX_TOKEN_CHARACTERS = 4096
JTI_BYTES = 16


@dataclass(frozen=True, slots=True)
class OwnerClaims:
    """What an owner's token says, in the names of RFC 7519 where it has them: for whom, when, once, for which request."""

    aud: Digest
    iat: int
    exp: int
    jti: bytes
    method: str
    path: str
    body_sha256: Digest


def sign_request(key: EllipticCurvePrivateKey, *, broker: Digest, method: str, path: str, body: bytes, now: int) -> str:
    """A token for one request to the broker with this fingerprint. Raises `UsageError`."""
    if key.curve.name != CURVE:
        raise UsageError("an administrator's key is on P-256", remedy="Make one with `strongroom keys new`.")
    claims = OwnerClaims(
        aud=broker,
        iat=now,
        exp=now + LIFETIME_SECONDS,
        jti=secrets.token_bytes(JTI_BYTES),
        method=method,
        path=path,
        body_sha256=digest_bytes(body),
    )
    header = {"alg": ALGORITHM, "kid": fingerprint(key.public_key()), "typ": TOKEN_TYPE}
    return jws.serialize_compact(header, codec.encode(claims), ECKey.import_key(key), algorithms=[ALGORITHM])


def check_request(
    token: str,
    known: Mapping[Digest, EllipticCurvePublicKey],
    *,
    broker: Digest,
    method: str,
    path: str,
    body: bytes,
    now: int,
) -> tuple[Digest, OwnerClaims]:
    """Who of `known`, by fingerprint, signed `token`, and its claims, if it is for exactly this request now.

    Raises `NotAuthorised`.

    The caller's duty that remains: `jti` must be used once.
    """
    who, claims = _open(token, known)
    wanted = (broker, method, path, digest_bytes(body))
    if (claims.aud, claims.method, claims.path, claims.body_sha256) != wanted:
        raise NotAuthorised("this token was signed for another request", detail="request")
    in_time = claims.iat - SKEW_SECONDS <= now < claims.exp <= claims.iat + LIFETIME_SECONDS
    if not in_time or len(claims.jti) != JTI_BYTES:
        raise NotAuthorised("this token has expired", detail="time", remedy="Check both clocks and sign anew.")
    return who, claims


def _open(token: str, known: Mapping[Digest, EllipticCurvePublicKey]) -> tuple[Digest, OwnerClaims]:
    if not token or len(token) > MAX_TOKEN_CHARACTERS or not token.isascii():
        raise NotAuthorised("this request needs an administrator's signature", detail="token")
    try:
        name = jws.extract_compact(token.encode()).headers().get("kid")  # only says under which key to look
        key = known.get(Digest(name)) if isinstance(name, str) else None
        if key is None:
            raise NotAuthorised("no administrator of this broker signed this request", detail="signature")
        found = jws.deserialize_compact(token, ECKey.import_key(key), algorithms=[ALGORITHM])
        if found.headers().get("typ") != TOKEN_TYPE:
            raise NotAuthorised("this is another kind of token", detail="typ")
        return fingerprint(key), codec.decode(OwnerClaims, found.payload or b"")
    except (JoseError, ValueError, TypeError):
        raise NotAuthorised("no administrator of this broker signed this request", detail="signature") from None
    except MalformedRecord:
        raise NotAuthorised("this token does not say what it must", detail="claims") from None
