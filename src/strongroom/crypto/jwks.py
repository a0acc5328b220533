"""Tokens of others: JWS compact serialisation (RFC 7515) under a set of public keys (RFC 7517) that the caller holds.

Knows: RS256, ES256 and EdDSA with Ed25519, and which kind of key goes with which. Does not know: what claims mean.
Safety: the algorithm must be on the caller's list and fit the key's own kind, so that no key is ever used for another algorithm;
`none` and shared secrets are on no list. Keys and addresses in a token's header (`jwk`, `jku`, `x5c`, `x5u`) are never used, nothing is
fetched, and every critical extension is refused.
Not covered: encryption, other serialisations, keys on other curves, RSA below 2048 bits.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from joserfc import jwk, jws
from joserfc.errors import JoseError

from strongroom.errors import MalformedRecord, SignatureInvalid
from strongroom.records import codec

ALGORITHMS = frozenset({"RS256", "ES256", "EdDSA"})
MAX_TOKEN = 16 * 1024
MAX_SET = 256 * 1024
MAX_KEYS = 64
MIN_RSA_BITS = 2048
_SECRET = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})


@dataclass(frozen=True, slots=True)
class PublicKey:
    """One key of a set: its name, "" where it has none, the algorithm it is for, and joserfc's object."""

    kid: str
    algorithm: str
    key: Any


def parse_set(data: bytes) -> tuple[PublicKey, ...]:
    """The keys of a JWK set that can be used here; keys for encryption and of other kinds are left out.

    Raises `MalformedRecord` for what is no set, for one with a private or shared key, and for one without a key that can be used.
    """
    document = codec.parse_json(data, limit=MAX_SET)
    keys = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(keys, list) or len(keys) > MAX_KEYS or not all(isinstance(key, dict) for key in keys):
        raise MalformedRecord(f"this is not a set of up to {MAX_KEYS} public keys (RFC 7517)")
    if any(_SECRET & set(key) for key in keys):
        raise MalformedRecord("a set of public keys holds a secret one", remedy="Take it out, and replace that key.")
    found = tuple(usable for key in keys if (usable := _usable(key)) is not None)
    if not found:
        raise MalformedRecord("a set of keys without one for RS256, ES256 or EdDSA")
    names = [key.kid for key in found if key.kid]
    if len(set(names)) != len(names):
        raise MalformedRecord("a set of keys of which two have the same name")
    return found


def _usable(document: dict[str, Any]) -> PublicKey | None:
    if document.get("use", "sig") != "sig":
        return None
    try:
        key = jwk.import_key(document)
        public: Any = key.public_key
    except (JoseError, ValueError, TypeError, KeyError, AttributeError):
        return None
    algorithm = _algorithm(public)
    kid = document.get("kid", "")
    if algorithm is None or document.get("alg", algorithm) != algorithm or not isinstance(kid, str):
        return None
    return PublicKey(kid, algorithm, key)


def _algorithm(public: Any) -> str | None:
    if isinstance(public, RSAPublicKey) and public.key_size >= MIN_RSA_BITS:
        return "RS256"
    if isinstance(public, EllipticCurvePublicKey) and public.curve.name == "secp256r1":
        return "ES256"
    return "EdDSA" if isinstance(public, Ed25519PublicKey) else None


def unverified_claims(token: str) -> Mapping[str, Any]:
    """What a token says, believed by nobody yet: to find whose it claims to be. Raises `MalformedRecord`."""
    return _object(_split(token)[1])


def verify(token: str, keys: Iterable[PublicKey], algorithms: Iterable[str]) -> Mapping[str, Any]:
    """The claims of `token`, once its signature by one of `keys` holds, in one of `algorithms`.

    Raises `MalformedRecord` where it is no token at all, `SignatureInvalid` where it is not theirs.
    """
    header = _object(_split(token)[0])
    algorithm, kid = header.get("alg"), header.get("kid", "")
    if not isinstance(algorithm, str) or algorithm not in ALGORITHMS & set(algorithms):
        raise SignatureInvalid("this token is signed in a way that is not on the list", detail="alg")
    if "crit" in header or "b64" in header:
        raise SignatureInvalid("this token depends on an extension that is not understood", detail="crit")
    fitting = [key for key in keys if key.algorithm == algorithm and (not kid or key.kid == kid)]
    if len(fitting) != 1:
        raise SignatureInvalid("this token does not say which of its issuer's keys signed it", detail="kid")
    try:
        _check_signature(token, fitting[0])
    except (JoseError, InvalidSignature, ValueError, TypeError):
        raise SignatureInvalid("the signature of this token does not hold") from None
    return _object(_split(token)[1])


def _check_signature(token: str, by: PublicKey) -> None:
    """EdDSA by hand: joserfc warns of the name, which RFC 9864 replaces and issuers go on using. It is Ed25519 here."""
    if by.algorithm == "EdDSA":
        signed, _, signature = token.rpartition(".")
        by.key.public_key.verify(codec.b64decode(signature), signed.encode("ascii"))
        return
    registry = jws.JWSRegistry(algorithms=[by.algorithm], strict_check_header=False)
    registry.max_header_length = registry.max_payload_length = MAX_TOKEN
    jws.deserialize_compact(token, by.key, [by.algorithm], registry)


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError("a number beyond any float")
    return number


def _split(token: str) -> tuple[bytes, bytes]:
    """Header and payload of a compact token, each from its one canonical base64url form."""
    parts = token.split(".") if len(token) <= MAX_TOKEN else []
    if len(parts) != 3 or not all(parts):  # noqa: PLR2004 (header, payload, signature)
        raise MalformedRecord("this is not a compact token")
    header, payload, _ = (codec.b64decode(part) for part in parts)
    return header, payload


def _object(data: bytes) -> dict[str, Any]:
    value = codec.parse_json(data, limit=MAX_TOKEN, read_float=_finite)
    if not isinstance(value, dict):
        raise MalformedRecord("a part of this token is not an object")
    return value
