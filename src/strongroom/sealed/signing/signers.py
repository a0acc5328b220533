"""Who signs a model: a key, or whoever holds one, alone or under a certificate.

Specification: the curves and hashes that OpenSSF Model Signing v1.0 admits (ECDSA on P-256 with SHA-256, P-384 with
SHA-384, P-521 with SHA-512).

Knows: the port that every signer fills. Does not know: tokens (`token`), bundles.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from cryptography import x509 as peer
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey, EllipticCurvePublicKey
from cryptography.hazmat.primitives.serialization import Encoding

from strongroom.crypto import signatures
from strongroom.crypto.signatures import SigningKey
from strongroom.errors import SignatureInvalid, UsageError
from strongroom.sealed.signing.trust import CURVES, MAX_CERTIFICATES, certificate_key, check_purpose


class Signer(Protocol):
    """Signs bytes with a key on P-256, P-384 or P-521, wherever that key is."""

    @property
    def public(self) -> EllipticCurvePublicKey:
        """The key under which its signatures hold."""

    @property
    def certificates(self) -> tuple[bytes, ...]:
        """What stands in the bundle for that key, as DER, the signer's own first; empty if the key itself does."""

    def sign(self, data: bytes) -> bytes:
        """ECDSA over `data` with the hash of its curve, as DER. Raises `TokenUnavailable` where that cannot be done."""


class KeySigner:
    """Signs with a key that this process holds. Raises `UsageError` for a key on no curve of model signing."""

    certificates: tuple[bytes, ...] = ()

    def __init__(self, key: SigningKey) -> None:
        if not isinstance(key, EllipticCurvePrivateKey) or key.curve.name not in CURVES:
            raise UsageError("a model is signed with a key on P-256, P-384 or P-521")
        self._key = key

    @property
    def public(self) -> EllipticCurvePublicKey:
        return self._key.public_key()

    def sign(self, data: bytes) -> bytes:
        return signatures.sign(self._key, data)


class CertifiedSigner:
    """Signs as `signer` does, under a certificate of its key; `chain` holds that, then those above it.

    Raises `UsageError` if the certificate is of another key, or one that may not sign models.
    """

    def __init__(self, signer: Signer, chain: Sequence[peer.Certificate]) -> None:
        if not 1 <= len(chain) <= MAX_CERTIFICATES:
            raise UsageError(f"a chain holds 1 to {MAX_CERTIFICATES} certificates, the signer's own first")
        try:
            check_purpose(chain[0])
            own = certificate_key(chain[0])
        except SignatureInvalid as error:
            raise UsageError(error.message, remedy="Name a certificate for signing, the signer's own first.") from None
        if own != signer.public:
            raise UsageError("the certificate is of another key", remedy="Name the signer's own certificate first.")
        self._signer = signer
        self.certificates: tuple[bytes, ...] = tuple(each.public_bytes(Encoding.DER) for each in chain)

    @property
    def public(self) -> EllipticCurvePublicKey:
        return self._signer.public

    def sign(self, data: bytes) -> bytes:
        return self._signer.sign(data)


def as_signer(signer: SigningKey | Signer) -> Signer:
    """A bare key as a signer. Raises `UsageError` for one on no curve of model signing."""
    return KeySigner(signer) if isinstance(signer, SigningKey) else signer
