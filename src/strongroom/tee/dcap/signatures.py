"""ECDSA signatures as Intel writes them into quotes and collateral: r and s, 32 bytes each, big-endian, on P-256.

Knows: how they are checked. Does not know: whose a key is. Safety: a second valid signature can be made of any such
signature, so none is ever an identifier. Everything raises `Doubt` and nothing else.
"""

from __future__ import annotations

from functools import lru_cache

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from strongroom.tee.steps import Doubt

SIGNATURE_BYTES = 64
_ECDSA_SHA256 = ec.ECDSA(hashes.SHA256())
_P256 = ec.SECP256R1()


def check(key: ec.EllipticCurvePublicKey, signature: bytes, data: bytes, what: str) -> bool:
    """True, if `signature` is one of `key` over `data`; `what` names the thing in the reason."""
    if len(signature) != SIGNATURE_BYTES:
        raise Doubt(f"the signature of {what} has {len(signature)} bytes")
    r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
    try:
        key.verify(encode_dss_signature(r, s), data, _ECDSA_SHA256)
    except InvalidSignature:
        raise Doubt(f"the signature of {what} does not hold") from None
    return True


@lru_cache(maxsize=64)
def point(raw: bytes) -> ec.EllipticCurvePublicKey:
    """The key whose two coordinates these 64 bytes are.

    The newest ones stay parsed, because a platform keeps its attestation key; none is trusted for that.
    """
    try:
        return ec.EllipticCurvePublicKey.from_encoded_point(_P256, b"\x04" + raw)
    except ValueError:
        raise Doubt("the attestation key is not a point of P-256") from None
