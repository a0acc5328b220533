"""Keys of recipients: RSA from 2048 bits, and EC on P-256, P-384 and P-521, as PEM.

Knows: which keys ocicrypt's JWE wrapper takes. Does not know: what is wrapped to them. Not covered: JWK files,
certificates, encrypted PEM files.
"""

from __future__ import annotations

from typing import TypeAlias

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey

from strongroom.errors import MalformedRecord

Recipient: TypeAlias = RSAPublicKey | EllipticCurvePublicKey
PrivateKey: TypeAlias = RSAPrivateKey | EllipticCurvePrivateKey

MAX_PEM_BYTES = 32 * 1024
MIN_RSA_BITS = 2048
MAX_RSA_BITS = 8192
CURVES = {"secp256r1": "P-256", "secp384r1": "P-384", "secp521r1": "P-521"}
"""The names of curves in JOSE (RFC 7518 section 6.2.1.1)."""


def recipient_from_pem(data: bytes) -> Recipient:
    """A public key (SubjectPublicKeyInfo PEM). Raises `MalformedRecord`."""
    _one_key(data)
    try:
        key = serialization.load_pem_public_key(data)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise MalformedRecord("this is not a public key in PEM") from None
    if isinstance(key, RSAPublicKey) and MIN_RSA_BITS <= key.key_size <= MAX_RSA_BITS:
        return key
    if isinstance(key, EllipticCurvePublicKey) and key.curve.name in CURVES:
        return key
    raise MalformedRecord(_WANTED.format("public"))


def private_from_pem(data: bytes) -> PrivateKey:
    """An unencrypted private key (PKCS #8, PKCS #1 or SEC 1 PEM). Raises `MalformedRecord`, without a word of the key."""
    _one_key(data)
    try:
        key = serialization.load_pem_private_key(data, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise MalformedRecord("this is not an unencrypted private key in PEM") from None
    if isinstance(key, RSAPrivateKey) and MIN_RSA_BITS <= key.key_size <= MAX_RSA_BITS:
        return key
    if isinstance(key, EllipticCurvePrivateKey) and key.curve.name in CURVES:
        return key
    raise MalformedRecord(_WANTED.format("private"))


_WANTED = f"this {{}} key is neither RSA of {MIN_RSA_BITS} to {MAX_RSA_BITS} bits nor on P-256, P-384 or P-521"


def _one_key(data: bytes) -> None:
    """One key in one file: of two, nobody could say which was meant."""
    if len(data) > MAX_PEM_BYTES:
        raise MalformedRecord(f"a key of {len(data)} bytes exceeds the limit of {MAX_PEM_BYTES}")
    if data.count(b"-----BEGIN ") != 1:
        raise MalformedRecord("this is not exactly one key in PEM")
