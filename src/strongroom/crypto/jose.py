"""Signed tokens: JWS compact serialisation (RFC 7515) with ES384 (RFC 7518 section 3.4), and nothing else.

Knows: one algorithm, and that the verifier's key comes from the caller. Keys and addresses in the header (`jwk`, `jku`,
`x5c`, `kid`) are never used. Does not know: what claims mean or when they expire (`appraisal.ear`).
Safety: algorithm, shape and limits are judged before any signature is; every critical extension is refused, for none is
understood.
Not covered: other algorithms, JSON serialisation, detached or unencoded payloads, encryption.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePrivateKey, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA384
from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import ECKey

from strongroom.crypto.signatures import PublicKey
from strongroom.errors import MalformedRecord, SignatureInvalid, UsageError
from strongroom.records import codec

ALGORITHM = "ES384"
CURVE = "secp384r1"
MAX_TOKEN_BYTES = 64 * 1024
SIGNATURE_BYTES = 96


def sign_token(claims: Mapping[str, Any], key: EllipticCurvePrivateKey, kid: str) -> str:
    """`claims` as a compact token signed with `key`, which is on P-384. `kid` is a hint for people, never proof."""
    if key.curve.name != CURVE:
        raise UsageError("tokens are signed with a key on P-384")
    signed = f"{_header(kid)}.{codec.b64encode(codec.encode(claims))}"
    r, s = decode_dss_signature(
        key.sign(signed.encode("ascii"), ECDSA(SHA384()))
    )  # RFC 7518 section 3.4: r and s alone
    half = SIGNATURE_BYTES // 2
    token = f"{signed}.{codec.b64encode(r.to_bytes(half, 'big') + s.to_bytes(half, 'big'))}"
    if len(token) > MAX_TOKEN_BYTES:
        raise UsageError(f"a token of {len(token)} bytes exceeds the limit of {MAX_TOKEN_BYTES}")
    return token


def verify_token(token: str, public: PublicKey) -> dict[str, Any]:
    """The claims of `token`, once its ES384 signature holds under `public`.

    Raises `MalformedRecord` where it is no token at all, `SignatureInvalid` where it is not this signer's.
    """
    if not isinstance(public, EllipticCurvePublicKey) or public.curve.name != CURVE:
        raise SignatureInvalid("a token is only ever signed by a key on P-384")
    header, payload, signature = _split(token)
    _check_header(codec.parse_json(header))
    if len(signature) != SIGNATURE_BYTES:
        raise SignatureInvalid(f"the signature of a token has {SIGNATURE_BYTES} bytes, not {len(signature)}")
    key = ECKey.import_key(
        public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    try:
        jws.deserialize_compact(token, key, [ALGORITHM], _registry())
    except (JoseError, ValueError, TypeError):
        raise SignatureInvalid("the signature of this token does not hold") from None
    claims = codec.parse_json(payload)
    if not isinstance(claims, dict):
        raise MalformedRecord("the payload of this token is not an object")
    return claims


@lru_cache(maxsize=64)
def _header(kid: str) -> str:
    return codec.b64encode(codec.encode({"alg": ALGORITHM, "kid": kid, "typ": "JWT"}))


def _split(token: str) -> tuple[bytes, bytes, bytes]:
    """Header, payload and signature of a compact token, each from its one canonical base64url form."""
    if len(token) > MAX_TOKEN_BYTES:
        raise MalformedRecord(f"a token of {len(token)} characters exceeds the limit of {MAX_TOKEN_BYTES}")
    parts = token.split(".")
    if len(parts) != 3 or not all(parts):  # noqa: PLR2004 (header, payload, signature)
        raise MalformedRecord("this is not a compact token")
    header, payload, signature = (codec.b64decode(part) for part in parts)
    return header, payload, signature


def _check_header(header: Any) -> None:
    if not isinstance(header, dict):
        raise MalformedRecord("the header of this token is not an object")
    if header.get("alg") != ALGORITHM:
        raise SignatureInvalid(f"this token is not signed with {ALGORITHM}", detail="alg")
    if "crit" in header or "b64" in header:
        raise SignatureInvalid("this token depends on an extension that is not understood", detail="crit")


def _registry() -> jws.JWSRegistry:
    """Header members that we do not use may be there; sizes are bounded by `MAX_TOKEN_BYTES` already."""
    registry = jws.JWSRegistry(algorithms=[ALGORITHM], strict_check_header=False)
    registry.max_header_length = registry.max_payload_length = MAX_TOKEN_BYTES
    return registry
