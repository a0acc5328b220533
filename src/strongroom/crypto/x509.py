"""Certificate paths from a pinned root downward, and certificate revocation lists (RFC 5280), for vendors' hierarchies.

Knows: PEM and DER as they must be written, the few signature schemes that vendors use, names, validity, CA flag, path
length, key usage, CRLs. Does not know: which root to trust (its caller's pins are SHA-256 digests of whole root
certificates), or what a leaf may say; a `Hierarchy` says what one vendor's certificates look like. Safety: a path is a
list that the caller put in order, so nothing is searched and no address in a certificate is fetched. Any critical
extension that the hierarchy does not name is refused. Not covered: name constraints, delta and indirect CRLs (refused
by their critical extensions), OCSP.
"""

from __future__ import annotations

import binascii
import re
import warnings
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtensionOID, NameOID

from strongroom.crypto.schemes import UNPARSABLE, PublicKey, Scheme, is_signed, scheme_of
from strongroom.errors import MalformedEvidence, SignatureInvalid
from strongroom.records.digest import Digest, digest_bytes

MAX_PEM_BYTES = 16 * 1024
MAX_CRL_BYTES = 1024 * 1024
MAX_CERTIFICATES = 4

# Lines of 64 as OpenSSL and Intel write them (RFC 7468 section 2, strict form), ended by newlines.
_BLOCK = re.compile(
    r"-----BEGIN CERTIFICATE-----\n((?:[A-Za-z0-9+/]{64}\n)*[A-Za-z0-9+/=]{1,64}\n)-----END CERTIFICATE-----\n*"
)
_CRITICAL = frozenset({ExtensionOID.BASIC_CONSTRAINTS, ExtensionOID.KEY_USAGE})

# AMD's VCEK and VLEK certificates have the serial number 0 (57230, VCEK certificate definition); they are never looked
# up by it, because AMD revokes what stands above them.
warnings.filterwarnings("ignore", message="Parsed a serial number which wasn't positive")
# Google's older CAs of virtual TPMs have common names of more than 64 characters.
warnings.filterwarnings("ignore", message="Attribute's length must be")


@dataclass(frozen=True, slots=True)
class Hierarchy:
    """What one vendor's certificates look like.

    `schemes` admitted for certificates and CRLs; the `leaf_curve` of a leaf's key, or None for any key; whether a leaf
    states its key usage (`leaf_usage`; if it does not, it may state none at all), and whether it signs (`leaf_signs`; of
    one that decrypts, the caller judges the usage itself); further `critical` extensions, by dotted OID, which the
    caller judges itself; whether an issuer states its key usage (`issuer_usage`; if it does not, it may state none, as
    RFC 5280 section 6.1.4 (n) has it).
    """

    schemes: frozenset[Scheme]
    leaf_curve: type[ec.EllipticCurve] | None
    leaf_usage: bool = True
    critical: frozenset[str] = frozenset()
    leaf_signs: bool = True
    issuer_usage: bool = True


INTEL = Hierarchy(frozenset({Scheme.ECDSA_P256_SHA256}), leaf_curve=ec.SECP256R1)

Role: TypeAlias = Collection[str] | Callable[[x509.Certificate], bool]
"""Who may stand at one place of a path: the common names admitted there, or a rule."""

_CURVES = {ec.SECP256R1: "P-256", ec.SECP384R1: "P-384"}
_MIN_RSA_BITS = 2048


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
        chain.append(_load_block(block[1]))
        position = block.end()
    if not chain:
        raise MalformedEvidence("a certificate chain is empty")
    return chain


@lru_cache(maxsize=64)
def _load_block(lines: str) -> x509.Certificate:
    """The certificate in the lines of a PEM block; the newest ones stay parsed here too, because chains share their ends."""
    text = lines.replace("\n", "")
    try:
        data = binascii.a2b_base64(text, strict_mode=True)
    except ValueError:
        raise MalformedEvidence("a certificate is not base64") from None
    if binascii.b2a_base64(data, newline=False).decode("ascii") != text:
        raise MalformedEvidence("a certificate's base64 is not canonical")
    return load_certificate(data)


@lru_cache(maxsize=64)
def load_certificate(der: bytes) -> x509.Certificate:
    """One X.509 v3 certificate from DER, nothing after it. Raises `MalformedEvidence`.

    The newest ones stay parsed, because CAs and signers come again with every quote; none is trusted for that.
    """
    try:
        certificate = x509.load_der_x509_certificate(der)
        _ = certificate.extensions, certificate.subject, certificate.issuer  # parsed lazily; here is where it may fail
    except UNPARSABLE:
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
    except UNPARSABLE:
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
    return ec_key(certificate, ec.SECP256R1)


def ec_key(certificate: x509.Certificate, curve: type[ec.EllipticCurve]) -> ec.EllipticCurvePublicKey:
    """The certificate's key, which must be on `curve`. Raises `SignatureInvalid`."""
    key = any_key(certificate)
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, curve):
        raise SignatureInvalid(f"{_name(certificate)} has a key that is not on {_CURVES.get(curve, curve.name)}")
    return key


def any_key(certificate: x509.Certificate) -> PublicKey:
    """The certificate's key: elliptic, or RSA of 2048 bits or more. Raises `SignatureInvalid`."""
    try:
        key = certificate.public_key()
    except UNPARSABLE:
        raise SignatureInvalid(f"{_name(certificate)} has a key that cannot be used") from None
    if isinstance(key, ec.EllipticCurvePublicKey) or (
        isinstance(key, rsa.RSAPublicKey) and key.key_size >= _MIN_RSA_BITS
    ):
        return key
    raise SignatureInvalid(f"{_name(certificate)} has a key of another kind")


def check_path(
    chain: Sequence[x509.Certificate],
    *,
    root: Digest,
    roles: Sequence[Role],
    now: int,
    hierarchy: Hierarchy = INTEL,
) -> x509.Certificate:
    """The leaf of `chain` (leaf first, root last), once every link from the root down holds at `now` (Unix seconds).

    `root` is the pin: the SHA-256 of the root certificate. `roles` say who may stand at each place below the root, leaf
    first; so the length of the path and who may stand where are the caller's. Raises `SignatureInvalid` with the
    reason.
    """
    _check_links(chain, root, roles, now, hierarchy, below=0)
    _check_leaf(chain[0], hierarchy)
    return chain[0]


def check_authority(
    chain: Sequence[x509.Certificate],
    *,
    root: Digest,
    roles: Sequence[Role],
    now: int,
    hierarchy: Hierarchy = INTEL,
) -> x509.Certificate:
    """As `check_path`, for a path whose first certificate is a CA: it may issue leaves. `roles` may be empty: the root.

    Raises `SignatureInvalid` with the reason.
    """
    _check_links(chain, root, roles, now, hierarchy, below=1)
    _check_issuer(chain[0], below=0, hierarchy=hierarchy)
    return chain[0]


def check_crl(
    crl: x509.CertificateRevocationList,
    *,
    issuer: x509.Certificate,
    now: int,
    hierarchy: Hierarchy = INTEL,
    der: bytes | None = None,
) -> None:
    """Return if `crl` was signed by `issuer` and holds at `now`. Raises `SignatureInvalid` with the reason.

    Whoever still has the bytes that `load_crl` read gives them as `der`: a long list need not be written anew then.
    """
    if crl.issuer != issuer.subject:
        raise SignatureInvalid(f"the CRL is not of {_name(issuer)}")
    if not _usage(issuer).crl_sign:
        raise SignatureInvalid(f"{_name(issuer)} may not sign CRLs")
    if any(extension.critical for extension in crl.extensions):
        raise SignatureInvalid("the CRL has a critical extension that is not understood")
    key = any_key(issuer)
    scheme = _check_scheme(crl, key, hierarchy, "the CRL")
    try:
        holds = crl.is_signature_valid(key) if der is None else is_signed(der, crl.signature, key, scheme)
    except UNPARSABLE:
        holds = False
    if not holds:
        raise SignatureInvalid(f"the signature of {_name(issuer)} on its CRL does not hold")
    if crl.next_update_utc is None or not crl.last_update_utc.timestamp() <= now <= crl.next_update_utc.timestamp():
        raise SignatureInvalid(f"the CRL of {_name(issuer)} holds from {crl.last_update_utc} to {crl.next_update_utc}")


def crl_number(crl: x509.CertificateRevocationList) -> int:
    """The number of a CRL (RFC 5280 section 5.2.3), which only grows; -1 where it has none."""
    try:
        return crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
    except x509.ExtensionNotFound:
        return -1


def check_not_revoked(
    certificate: x509.Certificate, crl: x509.CertificateRevocationList, *, issuer: x509.Certificate | None = None
) -> None:
    """Return if `certificate` is not listed in `crl`, which `check_crl` judged. Raises `SignatureInvalid`.

    Whoever still knows by whose certificate `check_crl` judged the list gives it as `issuer`.
    """
    if certificate.issuer != (crl.issuer if issuer is None else issuer.subject):
        raise SignatureInvalid(f"the CRL is not of the issuer of {_name(certificate)}")
    try:
        entry = crl.get_revoked_certificate_by_serial_number(certificate.serial_number)
    except UNPARSABLE:
        raise SignatureInvalid(f"the CRL for {_name(certificate)} does not parse") from None
    if entry is not None:
        raise SignatureInvalid(f"{_name(certificate)} is revoked")


def _check_links(
    chain: Sequence[x509.Certificate],
    root: Digest,
    roles: Sequence[Role],
    now: int,
    hierarchy: Hierarchy,
    *,
    below: int,
) -> None:
    """The pin and every link below it; `below` is how many CAs stand between `chain[0]` and a leaf, itself included."""
    if len(chain) != len(roles) + 1:
        raise SignatureInvalid(f"a path of {len(chain)} certificates where {len(roles) + 1} are needed")
    if certificate_digest(chain[-1]) != root:
        raise SignatureInvalid("the path does not end at the trusted root")
    _check_validity(chain[-1], now)
    for depth in range(len(roles) - 1, -1, -1):
        certificate, issuer = chain[depth], chain[depth + 1]
        _check_issuer(issuer, below=depth + below, hierarchy=hierarchy)
        _check_signature(certificate, issuer, hierarchy)
        _check_validity(certificate, now)
        _check_role(certificate, roles[depth])


def _check_role(certificate: x509.Certificate, role: Role) -> None:
    if callable(role):
        if not role(certificate):
            raise SignatureInvalid(f"{_name(certificate)} stands where another should")
    elif common_name(certificate) not in role:
        raise SignatureInvalid(f"{_name(certificate)} stands where {' or '.join(sorted(role))} should")


def _check_issuer(issuer: x509.Certificate, *, below: int, hierarchy: Hierarchy) -> None:
    """Whether `issuer` may issue with `below` CA certificates between it and the leaf."""
    try:
        constraints = issuer.extensions.get_extension_for_class(x509.BasicConstraints).value
    except x509.ExtensionNotFound:
        raise SignatureInvalid(f"{_name(issuer)} is no CA") from None
    if not constraints.ca or not _may_issue(issuer, hierarchy):
        raise SignatureInvalid(f"{_name(issuer)} may not issue certificates")
    if constraints.path_length is not None and below > constraints.path_length:
        raise SignatureInvalid(f"{_name(issuer)} may not issue so long a path")
    _check_critical(issuer, hierarchy)


def _may_issue(issuer: x509.Certificate, hierarchy: Hierarchy) -> bool:
    stated = any(isinstance(extension.value, x509.KeyUsage) for extension in issuer.extensions)
    return _usage(issuer).key_cert_sign if stated or hierarchy.issuer_usage else True


def _check_leaf(leaf: x509.Certificate, hierarchy: Hierarchy) -> None:
    _check_critical(leaf, hierarchy)
    try:
        stated = leaf.extensions.get_extension_for_class(x509.KeyUsage).value
    except x509.ExtensionNotFound:
        stated = None
    if stated is None and hierarchy.leaf_usage:
        raise SignatureInvalid(f"{_name(leaf)} does not say what its key is for")
    if stated is not None and not stated.digital_signature and hierarchy.leaf_signs:
        raise SignatureInvalid(f"{_name(leaf)} may not sign")
    try:
        is_ca = leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        is_ca = False
    if is_ca:
        raise SignatureInvalid(f"{_name(leaf)} is a CA and no leaf")
    if hierarchy.leaf_curve is None:
        any_key(leaf)
    else:
        ec_key(leaf, hierarchy.leaf_curve)


def _check_critical(certificate: x509.Certificate, hierarchy: Hierarchy) -> None:
    for extension in certificate.extensions:
        known = extension.oid in _CRITICAL or extension.oid.dotted_string in hierarchy.critical
        if extension.critical and not known:
            raise SignatureInvalid(f"{_name(certificate)} has a critical extension that is not understood")


def _check_signature(certificate: x509.Certificate, issuer: x509.Certificate, hierarchy: Hierarchy) -> None:
    key = any_key(issuer)
    scheme = _check_scheme(certificate, key, hierarchy, certificate)
    if not _is_issued(certificate, issuer, key, scheme):
        raise SignatureInvalid(f"{_name(certificate)} was not issued by {_name(issuer)}")


def _is_issued(certificate: x509.Certificate, issuer: x509.Certificate, key: PublicKey, scheme: Scheme) -> bool:
    """Whether names, inner and outer algorithm, and signature fit; `key` is the issuer's, which is read once."""
    try:
        if isinstance(key, ec.EllipticCurvePublicKey):
            same = certificate.issuer.public_bytes() == issuer.subject.public_bytes()
            return same and is_signed(certificate.public_bytes(Encoding.DER), certificate.signature, key, scheme)
        certificate.verify_directly_issued_by(issuer)
    except (InvalidSignature, *UNPARSABLE):
        return False
    return True


def _check_scheme(
    signed: x509.Certificate | x509.CertificateRevocationList,
    key: PublicKey,
    hierarchy: Hierarchy,
    what: str | x509.Certificate,
) -> Scheme:
    scheme = scheme_of(signed, key)
    if scheme is None or scheme not in hierarchy.schemes:
        admitted = " or ".join(sorted(scheme.value for scheme in hierarchy.schemes))
        name = what if isinstance(what, str) else _name(what)
        raise SignatureInvalid(f"{name} is not signed with {admitted}")
    return scheme


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
