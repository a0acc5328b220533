"""Whose word about a model counts: one key, or who holds a certificate of a name under roots that the reader names.

Specification: RFC 5280 sections 4.2.1.3, 4.2.1.12 and 6; what model-signing 1.1 asks of a signer's certificate.

Knows: keys, paths to roots, names, purposes. Does not know: what was signed (`statement`). Safety: no root of the
machine counts, only those named; what a bundle brings besides its first certificate may stand between that and a root,
and is never trusted. A signature carries no time of its own, so certificates must hold at the moment that the caller
names. Not covered: revocation (name a moment before it, or another root), transparency logs, name constraints (refused
where they are critical).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from cryptography import x509 as peer
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID

from strongroom.crypto import x509
from strongroom.crypto.schemes import Scheme
from strongroom.crypto.signatures import PublicKey
from strongroom.errors import MalformedArtifact, MalformedEvidence, SignatureInvalid, StrongroomError, UsageError

T = TypeVar("T", bound=peer.ExtensionType)

CURVES = frozenset({"secp256r1", "secp384r1", "secp521r1"})
MAX_CERTIFICATES = 8
MAX_ROOTS = 64
MAX_DEPTH = 6
MAX_TRIED = 16

# OpenSSL signs with SHA-256 unless it is told otherwise, also with keys on larger curves. A CA need not say what its key
# is for (RFC 5280 section 6.1.4 (n)); a purpose and other names may be critical, and are judged here.
_SIGNERS = x509.Hierarchy(
    frozenset(
        {
            Scheme.ECDSA_P256_SHA256,
            Scheme.ECDSA_P384_SHA256,
            Scheme.ECDSA_P384_SHA384,
            Scheme.ECDSA_P521_SHA256,
            Scheme.ECDSA_P521_SHA512,
            Scheme.RSA_SHA256,
            Scheme.RSA_SHA384,
            Scheme.RSA_SHA512,
        }
    ),
    leaf_curve=None,
    leaf_usage=False,
    issuer_usage=False,
    critical=frozenset(
        {ExtensionOID.EXTENDED_KEY_USAGE.dotted_string, ExtensionOID.SUBJECT_ALTERNATIVE_NAME.dotted_string}
    ),
)
_CODE = frozenset({ExtendedKeyUsageOID.CODE_SIGNING, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE})
_NAMES: dict[str, type[peer.RFC822Name | peer.UniformResourceIdentifier | peer.DNSName]] = {
    "email": peer.RFC822Name,
    "uri": peer.UniformResourceIdentifier,
    "dns": peer.DNSName,
}


@dataclass(frozen=True, slots=True)
class Material:
    """What a bundle says of the key that signed it: a hint, or certificates as DER, the signer's own first."""

    hint: str | None
    certificates: tuple[bytes, ...]


class Trust(Protocol):
    """Judges with whose key a bundle must be signed."""

    def key(self, material: Material) -> PublicKey:
        """The key under which a bundle's signature has to hold. Raises `SignatureInvalid`, `MalformedArtifact`."""


@dataclass(frozen=True, slots=True)
class TrustedKey:
    """One key, whatever a bundle says."""

    public: PublicKey

    def key(self, material: Material) -> PublicKey:  # noqa: ARG002 (the port's signature)
        return self.public


@dataclass(frozen=True, slots=True)
class TrustedRoots:
    """Whoever holds a certificate for `subject` that leads to one of `roots` and holds at the moment `at` (Unix seconds).

    `subject` is a common name; or one of `email:`, `uri:`, `dns:` and a name that stands among the certificate's other
    names; or `dn:` and the whole subject as RFC 4514 writes it. Raises `UsageError` for no root or no name.
    """

    roots: tuple[peer.Certificate, ...]
    subject: str
    at: int

    def __post_init__(self) -> None:
        if not 1 <= len(self.roots) <= MAX_ROOTS or not self.subject:
            raise UsageError(
                "trust in certificates needs a root and a name", remedy=f"Name 1 to {MAX_ROOTS} roots and a subject."
            )

    def key(self, material: Material) -> PublicKey:
        if not material.certificates:
            raise SignatureInvalid("this signature carries no certificate", remedy="Name the signer's public key.")
        try:
            leaf, *others = (x509.load_certificate(der) for der in material.certificates)
        except MalformedEvidence as error:
            raise MalformedArtifact(f"a model signature's certificate: {error.message}") from None
        self._check_chain(leaf, others)
        check_purpose(leaf)
        if not names(leaf, self.subject):
            raise SignatureInvalid("the certificate is of somebody else", detail=x509.common_name(leaf)[:64])
        return certificate_key(leaf)

    def _check_chain(self, leaf: peer.Certificate, others: Sequence[peer.Certificate]) -> None:
        """Return if one path from `leaf` to a root holds; a few are tried, for CAs may have several certificates."""
        wrong: StrongroomError | None = None
        for path in itertools.islice(self._paths([leaf], others), MAX_TRIED):
            root = x509.certificate_digest(path[-1])
            try:
                x509.check_path(path, root=root, roles=[_anybody] * (len(path) - 1), now=self.at, hierarchy=_SIGNERS)
                for authority in path[1:-1]:
                    _check_extended(authority)
            except SignatureInvalid as error:
                wrong = wrong or error
            else:
                return
        raise wrong or SignatureInvalid(
            "the signer's certificate leads to none of the roots",
            remedy="Name the root that issued it, if you trust it.",
        )

    def _paths(
        self, path: list[peer.Certificate], others: Sequence[peer.Certificate]
    ) -> Iterator[list[peer.Certificate]]:
        """Paths whose names fit, the shortest first: a root that is the last certificate, issued it, or is above it."""
        last = path[-1]
        if last in self.roots:
            yield path
            return
        for root in self.roots:
            if root.subject == last.issuer:
                yield [*path, root]
        if len(path) < MAX_DEPTH:
            for other in others:
                if other.subject == last.issuer and other not in path and other not in self.roots:
                    yield from self._paths([*path, other], others)


def as_trust(trust: PublicKey | Trust) -> Trust:
    """A bare key as trust in that key."""
    return TrustedKey(trust) if isinstance(trust, PublicKey) else trust


def load_certificates(pem: bytes, *, limit: int = MAX_CERTIFICATES) -> tuple[peer.Certificate, ...]:
    """The certificates of a PEM file, in their order. Raises `MalformedArtifact`."""
    try:
        return tuple(x509.load_chain(pem, limit=limit))
    except MalformedEvidence as error:
        raise MalformedArtifact(
            error.message, remedy="Name a file of certificates in PEM, nothing beside them."
        ) from None


def certificate_key(certificate: peer.Certificate) -> EllipticCurvePublicKey:
    """The key of a signer's certificate. Raises `SignatureInvalid` for one that does not sign models."""
    key = x509.any_key(certificate)
    if not isinstance(key, EllipticCurvePublicKey) or key.curve.name not in CURVES:
        raise SignatureInvalid("the certificate's key is not on P-256, P-384 or P-521")
    return key


def check_purpose(certificate: peer.Certificate) -> None:
    """Return if a certificate says that its key signs, and says nothing else against it. Raises `SignatureInvalid`.

    It says so by the key usage `digitalSignature` or the extended usage `codeSigning`; where both are stated, both must
    admit it (the stock verifier is content with either).
    """
    constraints = _extension(certificate, peer.BasicConstraints)
    if constraints is not None and constraints.ca:
        raise SignatureInvalid("the certificate is a CA's, and no signer's")
    usage = _extension(certificate, peer.KeyUsage)
    if usage is not None and not usage.digital_signature:
        raise SignatureInvalid("the certificate's key is not for digital signatures")
    if not _check_extended(certificate) and usage is None:
        raise SignatureInvalid("the certificate does not say that its key signs")


def names(certificate: peer.Certificate, subject: str) -> bool:
    """Whether a certificate is of `subject`, as `TrustedRoots` describes it."""
    kind, colon, rest = subject.partition(":")
    if colon and kind == "dn":
        return certificate.subject.rfc4514_string() == rest
    if colon and kind in _NAMES:
        stated = _extension(certificate, peer.SubjectAlternativeName)
        return stated is not None and rest in stated.get_values_for_type(_NAMES[kind])
    return x509.common_name(certificate) == subject


def _check_extended(certificate: peer.Certificate) -> bool:
    """Whether a certificate states purposes, of which signing code must be one. Raises `SignatureInvalid`."""
    stated = _extension(certificate, peer.ExtendedKeyUsage)
    if stated is not None and not _CODE & set(stated):
        raise SignatureInvalid("the certificate is not for signing code")
    return stated is not None


def _extension(certificate: peer.Certificate, kind: type[T]) -> T | None:
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except peer.ExtensionNotFound:
        return None


def _anybody(_: peer.Certificate) -> bool:
    """Who may stand between: the names of issuers bind the path, its ends are judged by their caller."""
    return True
