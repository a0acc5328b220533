"""How certificates and revocation lists are signed (RFC 5280 section 4.1.1.2), and how a signature is checked over their bytes.

Knows: the few schemes that vendors use, each with its hash and what the signer's key must be. Does not know: which of them a
vendor's hierarchy admits (`strongroom.crypto.x509`). Not covered: any other scheme; what names one is of none.
"""

from __future__ import annotations

import enum
from typing import TypeAlias

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.x509.oid import SignatureAlgorithmOID

PublicKey: TypeAlias = ec.EllipticCurvePublicKey | rsa.RSAPublicKey

_SEQUENCE = 0x30
_PSS_BITS = 4096
_PSS_SALT = 48
# What the parser may raise on foreign bytes; its warnings too, where a program turns warnings into errors.
UNPARSABLE = (
    ValueError,
    TypeError,
    Warning,
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
)


class Scheme(enum.Enum):
    """How something is signed: the algorithm, its hash, and what the signer's key must be."""

    ECDSA_P256_SHA256 = "ECDSA on P-256 with SHA-256"
    ECDSA_P384_SHA384 = "ECDSA on P-384 with SHA-384"
    ECDSA_P384_SHA256 = "ECDSA on P-384 with SHA-256"
    ECDSA_P521_SHA512 = "ECDSA on P-521 with SHA-512"
    ECDSA_P521_SHA256 = "ECDSA on P-521 with SHA-256"
    RSA_SHA256 = "RSA (PKCS #1 v1.5, 2048 bits or more) with SHA-256"
    RSA_SHA384 = "RSA (PKCS #1 v1.5, 2048 bits or more) with SHA-384"
    RSA_SHA512 = "RSA (PKCS #1 v1.5, 2048 bits or more) with SHA-512"
    RSA_PSS_SHA384 = "RSA-PSS (4096 bits) with SHA-384"


def scheme_of(signed: x509.Certificate | x509.CertificateRevocationList, key: PublicKey) -> Scheme | None:
    """The scheme with which something says it was signed, if the signer's `key` fits it; else None."""
    oid = signed.signature_algorithm_oid
    if isinstance(key, ec.EllipticCurvePublicKey):
        return _ECDSA.get((oid, key.curve.name))
    if oid == SignatureAlgorithmOID.RSASSA_PSS:
        return Scheme.RSA_PSS_SHA384 if _is_pss_sha384(signed) and key.key_size == _PSS_BITS else None
    return _RSA.get(oid)


def _is_pss_sha384(signed: x509.Certificate | x509.CertificateRevocationList) -> bool:
    try:
        found = signed.signature_algorithm_parameters if isinstance(signed, x509.Certificate) else None
        algorithm = signed.signature_hash_algorithm
    except UNPARSABLE:
        return False
    if not isinstance(algorithm, hashes.SHA384):
        return False
    return found is None or (
        isinstance(found, padding.PSS)
        and found._salt_length == _PSS_SALT  # noqa: SLF001 (there is no other way to ask)
        and isinstance(found._mgf, padding.MGF1)  # noqa: SLF001
        and isinstance(found._mgf._algorithm, hashes.SHA384)  # noqa: SLF001
    )


_ECDSA: dict[tuple[x509.ObjectIdentifier, str], Scheme] = {
    (SignatureAlgorithmOID.ECDSA_WITH_SHA256, "secp256r1"): Scheme.ECDSA_P256_SHA256,
    (SignatureAlgorithmOID.ECDSA_WITH_SHA256, "secp384r1"): Scheme.ECDSA_P384_SHA256,
    (SignatureAlgorithmOID.ECDSA_WITH_SHA256, "secp521r1"): Scheme.ECDSA_P521_SHA256,
    (SignatureAlgorithmOID.ECDSA_WITH_SHA384, "secp384r1"): Scheme.ECDSA_P384_SHA384,
    (SignatureAlgorithmOID.ECDSA_WITH_SHA512, "secp521r1"): Scheme.ECDSA_P521_SHA512,
}
_WITH: dict[Scheme, ec.ECDSA] = {
    Scheme.ECDSA_P256_SHA256: ec.ECDSA(hashes.SHA256()),
    Scheme.ECDSA_P384_SHA256: ec.ECDSA(hashes.SHA256()),
    Scheme.ECDSA_P521_SHA256: ec.ECDSA(hashes.SHA256()),
    Scheme.ECDSA_P384_SHA384: ec.ECDSA(hashes.SHA384()),
    Scheme.ECDSA_P521_SHA512: ec.ECDSA(hashes.SHA512()),
}
_RSA: dict[x509.ObjectIdentifier, Scheme] = {
    SignatureAlgorithmOID.RSA_WITH_SHA256: Scheme.RSA_SHA256,
    SignatureAlgorithmOID.RSA_WITH_SHA384: Scheme.RSA_SHA384,
    SignatureAlgorithmOID.RSA_WITH_SHA512: Scheme.RSA_SHA512,
}


def is_signed(der: bytes, signature: bytes, key: PublicKey, scheme: Scheme) -> bool:
    """Whether `signature` is one of `key`, which is elliptic, by `scheme` over a certificate or a CRL.

    The signed part is the first element. The algorithm, its first sequence, behind the version and a certificate's serial
    number, is the one named outside (RFC 5280 sections 4.1.1.2 and 5.1.1.2).
    """
    algorithm = _WITH.get(scheme)
    if not isinstance(key, ec.EllipticCurvePublicKey) or algorithm is None:
        return False
    start, _ = _inside(der, 0)
    inner, end = _inside(der, start)
    while der[inner] != _SEQUENCE:
        _, inner = _inside(der, inner)
    _, stated = _inside(der, inner)
    _, outer = _inside(der, end)
    if der[inner:stated] != der[end:outer]:
        return False
    try:
        key.verify(signature, der[start:end], algorithm)
    except InvalidSignature:
        return False
    return True


def _inside(der: bytes, at: int) -> tuple[int, int]:
    """Where the content of the DER element at `at` starts and ends; the bytes are known to parse."""
    length, start = der[at + 1], at + 2
    if length & 0x80:
        start += length & 0x7F
        length = int.from_bytes(der[at + 2 : start], "big")
    return start, start + length
