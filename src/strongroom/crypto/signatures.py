"""Signatures: Ed25519 and ECDSA on P-256, P-384 and P-521, keys as PEM, fingerprints, and the signed envelope (DSSE v1.0.2).

Knows: which hash goes with which curve (FIPS 186-5 section 6.1: as strong as the curve); nothing else is a key here.
Does not know: whose a key is, or what it may sign; callers name the keys they trust, and an empty list trusts nobody.
Safety: ECDSA nonces are random, Ed25519 is deterministic (RFC 8032); an ECDSA signature can be rewritten into a second
valid one, so signatures are never identifiers. Not covered: RSA, encrypted PEM files, thresholds of signatures.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from strongroom.errors import MalformedRecord, SignatureInvalid, UsageError
from strongroom.records.digest import Digest, digest_bytes
from strongroom.records.envelope import Envelope

SigningKey: TypeAlias = Ed25519PrivateKey | EllipticCurvePrivateKey
PublicKey: TypeAlias = Ed25519PublicKey | EllipticCurvePublicKey

MAX_KEY_BYTES = 16 * 1024
ED25519_KEY_BYTES = 32

_HASHES: dict[str, type[hashes.HashAlgorithm]] = {
    "secp256r1": hashes.SHA256,
    "secp384r1": hashes.SHA384,
    "secp521r1": hashes.SHA512,
}


def generate_ed25519() -> Ed25519PrivateKey:
    """A new Ed25519 key."""
    return Ed25519PrivateKey.generate()


def generate_p256() -> EllipticCurvePrivateKey:
    """A new key on P-256."""
    return ec.generate_private_key(ec.SECP256R1())


def generate_p384() -> EllipticCurvePrivateKey:
    """A new key on P-384, the curve of tokens (ES384)."""
    return ec.generate_private_key(ec.SECP384R1())


_PRIVATE = "Give the private half of a key pair, as `strongroom keys new` writes it: the file without .pub."
_PUBLIC = "Give the public half of a key pair, as `strongroom keys new` writes it: the file with .pub."


def private_from_pem(data: bytes) -> SigningKey:
    """Read an unencrypted private key (PKCS #8 or SEC 1 PEM). Raises `MalformedRecord`, without a word of the key."""
    _check_pem(data)
    try:
        key = serialization.load_pem_private_key(data, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise MalformedRecord("this is not an unencrypted private key in PEM", remedy=_PRIVATE) from None
    if isinstance(key, Ed25519PrivateKey) or (isinstance(key, EllipticCurvePrivateKey) and key.curve.name in _HASHES):
        return key
    raise MalformedRecord("this private key is not Ed25519, P-256, P-384 or P-521")


def private_to_pem(key: SigningKey) -> bytes:
    """The key as unencrypted PKCS #8 PEM. Keep it where only its owner reads."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def public_from_pem(data: bytes) -> PublicKey:
    """Read a public key (SubjectPublicKeyInfo PEM, RFC 5280). Raises `MalformedRecord`."""
    _check_pem(data)
    try:
        key = serialization.load_pem_public_key(data)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise MalformedRecord("this is not a public key in PEM", remedy=_PUBLIC) from None
    return _admit(key)


def public_to_pem(key: PublicKey) -> bytes:
    """The key as SubjectPublicKeyInfo PEM."""
    return key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def public_from_der(data: bytes) -> PublicKey:
    """Read a public key (SubjectPublicKeyInfo DER, in its one canonical form). Raises `MalformedRecord`."""
    _limit(data)
    try:
        key = _admit(serialization.load_der_public_key(data))
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise MalformedRecord("this is not a public key in DER") from None
    if public_to_der(key) != data:
        raise MalformedRecord("this public key is not in its canonical DER form")
    return key


def public_to_der(key: PublicKey) -> bytes:
    """The key as SubjectPublicKeyInfo DER, EC points uncompressed."""
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def fingerprint(public: PublicKey) -> Digest:
    """SHA-256 of the key's SubjectPublicKeyInfo DER: the name of a key."""
    return digest_bytes(public_to_der(public))


def ed25519_public(raw: bytes) -> Ed25519PublicKey:
    """An Ed25519 key from its 32 bytes (RFC 8032 section 5.1.5). Raises `MalformedRecord`."""
    try:
        return Ed25519PublicKey.from_public_bytes(raw)
    except ValueError:
        raise MalformedRecord(f"an Ed25519 key has {ED25519_KEY_BYTES} bytes, not {len(raw)}") from None


def raw_public(key: Ed25519PrivateKey | Ed25519PublicKey) -> bytes:
    """The 32 bytes of an Ed25519 public key, or of the public half of a private one."""
    public = key.public_key() if isinstance(key, Ed25519PrivateKey) else key
    return public.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)


def sign(key: SigningKey, data: bytes) -> bytes:
    """Sign `data`: 64 bytes for Ed25519, DER (RFC 3279 section 2.2.3) for ECDSA, with the hash of `hash_of`."""
    if isinstance(key, Ed25519PrivateKey):
        return key.sign(data)
    return key.sign(data, ec.ECDSA(hash_of(key.curve)))


def verify(public: PublicKey, signature: bytes, data: bytes) -> None:
    """Return if `signature` over `data` holds under `public`. Raises `SignatureInvalid`."""
    try:
        if isinstance(public, Ed25519PublicKey):
            public.verify(signature, data)
        else:
            public.verify(signature, data, ec.ECDSA(hash_of(public.curve)))
    except InvalidSignature:
        raise SignatureInvalid("a signature does not hold") from None


def hash_of(curve: ec.EllipticCurve) -> hashes.HashAlgorithm:
    """The hash with which ECDSA on `curve` signs here. Raises `UsageError` for a curve that is none of ours."""
    found = _HASHES.get(curve.name)
    if found is None:
        raise UsageError(f"{curve.name} is not a curve that strongroom signs with")
    return found()


def sign_envelope(payload_type: str, payload: bytes, key: SigningKey) -> Envelope:
    """`payload` in a DSSE envelope with one signature; its keyid is the signer's fingerprint."""
    unsigned = Envelope(payload_type, payload, ())
    signature = sign(key, unsigned.pre_authentication_encoding())
    return Envelope(payload_type, payload, ((fingerprint(key.public_key()), signature),))


def open_envelope(envelope: Envelope, payload_type: str, keys: Sequence[PublicKey]) -> bytes:
    """The payload, once it is of `payload_type` and one of `keys` signed it. Raises `SignatureInvalid`.

    A keyid is no proof (DSSE protocol): each signature is tried under each key, and other people's may stand beside.
    """
    if not keys:
        raise SignatureInvalid("no key is trusted to sign this", remedy="Name the public key of the signer.")
    if envelope.payload_type != payload_type:
        raise SignatureInvalid(f"this envelope does not hold a {payload_type}", detail="payload type")
    signed = envelope.pre_authentication_encoding()
    if not any(_holds(key, signature, signed) for key in keys for _, signature in envelope.signatures):
        raise SignatureInvalid("no trusted key signed this envelope", detail=payload_type)
    return envelope.payload


def _holds(key: PublicKey, signature: bytes, data: bytes) -> bool:
    try:
        verify(key, signature, data)
    except SignatureInvalid:
        return False
    return True


def _admit(key: object) -> PublicKey:
    if isinstance(key, Ed25519PublicKey) or (isinstance(key, EllipticCurvePublicKey) and key.curve.name in _HASHES):
        return key
    raise MalformedRecord("this public key is not Ed25519, P-256, P-384 or P-521")


def _limit(data: bytes) -> None:
    if len(data) > MAX_KEY_BYTES:
        raise MalformedRecord(f"a key of {len(data)} bytes exceeds the limit of {MAX_KEY_BYTES}")


def _check_pem(data: bytes) -> None:
    """One key in one file: of two, nobody could say which was meant."""
    _limit(data)
    if data.count(b"-----BEGIN ") != 1:
        raise MalformedRecord("this is not exactly one key in PEM")
