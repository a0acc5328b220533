"""Certificate paths from a pinned root downward, and certificate revocation lists (RFC 5280), for vendors' hierarchies.

Knows: PEM and DER as they must be written, ECDSA P-256 with SHA-256, names, validity, CA flag, path length, key
usage, CRLs. Does not know: which root to trust (its caller's pins are SHA-256 digests of whole root certificates), or
what a leaf may say. Safety: a path is a list that the caller put in order, so nothing is searched and no address in a
certificate is fetched. Any critical extension other than basic constraints and key usage is refused. Not covered:
RSA, name constraints, delta and indirect CRLs (refused by their critical extensions), OCSP.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Collection, Sequence
from functools import lru_cache

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtensionOID, NameOID, SignatureAlgorithmOID

from strongroom.errors import MalformedEvidence, SignatureInvalid
from strongroom.records.digest import Digest, digest_bytes

MAX_PEM_BYTES = 16 * 1024
MAX_CRL_BYTES = 1024 * 1024
MAX_CERTIFICATES = 4

# Lines of 64 as OpenSSL and Intel write them (RFC 7468 section 2, strict form), ended by newlines.
_BLOCK = re.compile(
    r"-----BEGIN CERTIFICATE-----\n((?:[A-Za-z0-9+/]{64}\n)*[A-Za-z0-9+/=]{1,64}\n)-----END CERTIFICATE-----\n*"
)
# What the parser may raise on foreign bytes; its warnings too, where a program turns warnings into errors.
_UNPARSABLE = (
    ValueError,
    TypeError,
    Warning,
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
)
_CRITICAL = {ExtensionOID.BASIC_CONSTRAINTS, ExtensionOID.KEY_USAGE}


def load_chain(pem: str | bytes, *, limit: int = MAX_CERTIFICATES) -> list[x509.Certificate]:
    """The certificates of a PEM text in the order written: at least one, at most `limit`, and nothing but them.

    Raises `MalformedEvidence`; also for base64 that is not canonical, so that one certificate has one spelling.
    """
    if len(pem) > MAX_PEM_BYTES:
        raise MalformedEvidence(f"a certificate chain of {len(pem)} bytes exceeds the limit of {MAX_PEM_BYTES}")
    try:
        text = pem.decode("ascii") if isinstance(pem, bytes) else pem
    except UnicodeDecodeError:
        raise MalformedEvidence("a certificate chain is not PEM") from None
    chain: list[x509.Certificate] = []
    position = 0
    while position < len(text):
        block = _BLOCK.match(text, position)
        if block is None or len(chain) == limit:
            raise MalformedEvidence(f"a certificate chain is not PEM, or has more than {limit} certificates")
        chain.append(load_certificate(_decode_base64("".join(block[1].split()))))
        position = block.end()
    if not chain:
        raise MalformedEvidence("a certificate chain is empty")
    return chain


@lru_cache(maxsize=64)
def load_certificate(der: bytes) -> x509.Certificate:
    """One X.509 v3 certificate from DER, nothing after it. Raises `MalformedEvidence`.

    The newest ones stay parsed, because CAs and signers come again with every quote; none is trusted for that.
    """
    try:
        certificate = x509.load_der_x509_certificate(der)
        _ = certificate.extensions, certificate.subject, certificate.issuer  # parsed lazily; here is where it may fail
    except _UNPARSABLE:
        raise MalformedEvidence("a certificate does not parse") from None
    _check_whole_bytes(der, certificate.signature)
    return certificate


def load_crl(der: bytes) -> x509.CertificateRevocationList:
    """One CRL from DER, nothing after it. Raises `MalformedEvidence`."""
    if len(der) > MAX_CRL_BYTES:
        raise MalformedEvidence(f"a CRL of {len(der)} bytes exceeds the limit of {MAX_CRL_BYTES}")
    try:
        crl = x509.load_der_x509_crl(der)
        _ = crl.extensions, crl.issuer, crl.last_update_utc, crl.next_update_utc
    except _UNPARSABLE:
        raise MalformedEvidence("a certificate revocation list does not parse") from None
    _check_whole_bytes(der, crl.signature)
    return crl


def _check_whole_bytes(der: bytes, signature: bytes) -> None:
    """A signature is a BIT STRING of whole bytes; any other count of unused bits would be a second spelling of the same thing."""
    if der[-len(signature) - 1] != 0:
        raise MalformedEvidence("a signature is not made of whole bytes")


def certificate_digest(certificate: x509.Certificate) -> Digest:
    """SHA-256 of the whole certificate in DER: what a root is pinned by."""
    return digest_bytes(certificate.public_bytes(Encoding.DER))


def common_name(certificate: x509.Certificate) -> str:
    """The subject's one common name, or an empty string where there is none or more than one."""
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(names[0].value) if len(names) == 1 else ""


def public_key(certificate: x509.Certificate) -> ec.EllipticCurvePublicKey:
    """The certificate's key, which must be on P-256. Raises `SignatureInvalid`."""
    try:
        key = certificate.public_key()
    except _UNPARSABLE:
        raise SignatureInvalid(f"{_name(certificate)} has a key that cannot be used") from None
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise SignatureInvalid(f"{_name(certificate)} has a key that is not on P-256")
    return key


def check_path(
    chain: Sequence[x509.Certificate], *, root: Digest, roles: Sequence[Collection[str]], now: int
) -> x509.Certificate:
    """The leaf of `chain` (leaf first, root last), once every link from the root down holds at `now` (Unix seconds).

    `root` is the pin: the SHA-256 of the root certificate. `roles` are the common names admitted for each certificate
    below the root, leaf first; so the length of the path and who may stand where are the caller's. Raises
    `SignatureInvalid` with the reason.
    """
    if len(chain) != len(roles) + 1:
        raise SignatureInvalid(f"a path of {len(chain)} certificates where {len(roles) + 1} are needed")
    if certificate_digest(chain[-1]) != root:
        raise SignatureInvalid("the path does not end at the trusted root")
    _check_validity(chain[-1], now)
    for depth in range(len(roles) - 1, -1, -1):
        certificate, issuer = chain[depth], chain[depth + 1]
        _check_issuer(issuer, below=depth)
        _check_signature(certificate, issuer)
        _check_validity(certificate, now)
        if common_name(certificate) not in roles[depth]:
            raise SignatureInvalid(f"{_name(certificate)} stands where {' or '.join(sorted(roles[depth]))} should")
    _check_leaf(chain[0])
    return chain[0]


def check_crl(crl: x509.CertificateRevocationList, *, issuer: x509.Certificate, now: int) -> None:
    """Return if `crl` was signed by `issuer` and holds at `now`. Raises `SignatureInvalid` with the reason."""
    if crl.issuer != issuer.subject:
        raise SignatureInvalid(f"the CRL is not of {_name(issuer)}")
    if not _usage(issuer).crl_sign:
        raise SignatureInvalid(f"{_name(issuer)} may not sign CRLs")
    if any(extension.critical for extension in crl.extensions):
        raise SignatureInvalid("the CRL has a critical extension that is not understood")
    if crl.signature_algorithm_oid != SignatureAlgorithmOID.ECDSA_WITH_SHA256:
        raise SignatureInvalid("the CRL is not signed with ECDSA and SHA-256")
    try:
        holds = crl.is_signature_valid(public_key(issuer))
    except _UNPARSABLE:
        holds = False
    if not holds:
        raise SignatureInvalid(f"the signature of {_name(issuer)} on its CRL does not hold")
    if crl.next_update_utc is None or not crl.last_update_utc.timestamp() <= now <= crl.next_update_utc.timestamp():
        raise SignatureInvalid(f"the CRL of {_name(issuer)} holds from {crl.last_update_utc} to {crl.next_update_utc}")


def check_not_revoked(certificate: x509.Certificate, crl: x509.CertificateRevocationList) -> None:
    """Return if `certificate` is not listed in `crl`, which `check_crl` judged. Raises `SignatureInvalid`."""
    if certificate.issuer != crl.issuer:
        raise SignatureInvalid(f"the CRL is not of the issuer of {_name(certificate)}")
    try:
        entry = crl.get_revoked_certificate_by_serial_number(certificate.serial_number)
    except _UNPARSABLE:
        raise SignatureInvalid(f"the CRL for {_name(certificate)} does not parse") from None
    if entry is not None:
        raise SignatureInvalid(f"{_name(certificate)} is revoked")


def _check_issuer(issuer: x509.Certificate, *, below: int) -> None:
    """Whether `issuer` may issue with `below` CA certificates between it and the leaf."""
    try:
        constraints = issuer.extensions.get_extension_for_class(x509.BasicConstraints).value
    except x509.ExtensionNotFound:
        raise SignatureInvalid(f"{_name(issuer)} is no CA") from None
    if not constraints.ca or not _usage(issuer).key_cert_sign:
        raise SignatureInvalid(f"{_name(issuer)} may not issue certificates")
    if constraints.path_length is not None and below > constraints.path_length:
        raise SignatureInvalid(f"{_name(issuer)} may not issue so long a path")
    _check_critical(issuer)


def _check_leaf(leaf: x509.Certificate) -> None:
    _check_critical(leaf)
    if not _usage(leaf).digital_signature:
        raise SignatureInvalid(f"{_name(leaf)} may not sign")
    try:
        is_ca = leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        is_ca = False
    if is_ca:
        raise SignatureInvalid(f"{_name(leaf)} is a CA and no leaf")
    public_key(leaf)


def _check_critical(certificate: x509.Certificate) -> None:
    for extension in certificate.extensions:
        if extension.critical and extension.oid not in _CRITICAL:
            raise SignatureInvalid(f"{_name(certificate)} has a critical extension that is not understood")


def _check_signature(certificate: x509.Certificate, issuer: x509.Certificate) -> None:
    public_key(issuer)
    if certificate.signature_algorithm_oid != SignatureAlgorithmOID.ECDSA_WITH_SHA256:
        raise SignatureInvalid(f"{_name(certificate)} is not signed with ECDSA and {hashes.SHA256.name}")
    try:
        certificate.verify_directly_issued_by(issuer)  # names, algorithm and signature
    except (InvalidSignature, *_UNPARSABLE):
        raise SignatureInvalid(f"{_name(certificate)} was not issued by {_name(issuer)}") from None


def _check_validity(certificate: x509.Certificate, now: int) -> None:
    start, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if not start.timestamp() <= now <= end.timestamp():
        raise SignatureInvalid(f"{_name(certificate)} is valid from {start} to {end}")


def _usage(certificate: x509.Certificate) -> x509.KeyUsage:
    try:
        return certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    except x509.ExtensionNotFound:
        raise SignatureInvalid(f"{_name(certificate)} does not say what its key is for") from None


def _name(certificate: x509.Certificate) -> str:
    return repr(common_name(certificate)[:64])


def _decode_base64(text: str) -> bytes:
    try:
        data = base64.b64decode(text, validate=True)
    except (ValueError, binascii.Error):
        raise MalformedEvidence("a certificate is not base64") from None
    if base64.b64encode(data).decode("ascii") != text:
        raise MalformedEvidence("a certificate's base64 is not canonical")
    return data
