"""ECDSA signatures as Intel writes them into quotes and collateral: r and s, 32 bytes each, big-endian, on P-256.

Knows: how they are checked. Does not know: whose a key is. Safety: a second valid signature can be made of any such
signature, so none is ever an identifier. Everything raises `Doubt` and nothing else.
"""

from __future__ import annotations

from functools import lru_cache

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from strongroom.tee.steps import Doubt

SIGNATURE_BYTES = 64
_ECDSA_SHA256 = ec.ECDSA(hashes.SHA256())
_P256 = ec.SECP256R1()


def check(key: ec.EllipticCurvePublicKey, signature: bytes, data: bytes, what: str) -> bool:
    """True, if `signature` is one of `key` over `data`; `what` names the thing in the reason."""
    if len(signature) != SIGNATURE_BYTES:
        raise Doubt(f"the signature of {what} has {len(signature)} bytes")
    try:
        key.verify(to_der(signature), data, _ECDSA_SHA256)
    except InvalidSignature:
        raise Doubt(f"the signature of {what} does not hold") from None
    return True


def to_der(signature: bytes) -> bytes:
    """The two numbers of 64 bytes as DER (RFC 3279 section 2.2.3): each in its fewest bytes, the first below 0x80."""
    r, s = signature[:32].lstrip(b"\0"), signature[32:].lstrip(b"\0")
    if r[:1] > b"\x7f" or not r:
        r = b"\0" + r
    if s[:1] > b"\x7f" or not s:
        s = b"\0" + s
    return b"\x30%c\x02%c%b\x02%c%b" % (len(r) + len(s) + 4, len(r), r, len(s), s)


@lru_cache(maxsize=64)
def point(raw: bytes) -> ec.EllipticCurvePublicKey:
    """The key whose two coordinates these 64 bytes are.

    The newest ones stay parsed, because a platform keeps its attestation key; none is trusted for that.
    """
    try:
        return ec.EllipticCurvePublicKey.from_encoded_point(_P256, b"\x04" + raw)
    except ValueError:
        raise Doubt("the attestation key is not a point of P-256") from None
