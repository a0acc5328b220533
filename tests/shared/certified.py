"""A CA of the tests for people who sign models: a root, one below it, and certificates with any purpose, name and time."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

START = datetime(2026, 1, 1, tzinfo=UTC)
AT = int(datetime(2026, 6, 1, tzinfo=UTC).timestamp())
CODE = (ExtendedKeyUsageOID.CODE_SIGNING,)
HASHES = {256: hashes.SHA256(), 384: hashes.SHA384(), 521: hashes.SHA512()}


@dataclass(frozen=True)
class Holder:
    """A key and its certificate."""

    key: Any
    certificate: x509.Certificate

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)


def usage(*, signs: bool = True, issues: bool = False) -> x509.KeyUsage:
    return x509.KeyUsage(signs, not signs, False, False, False, issues, issues, False, False)


def certify(
    name: str,
    issuer: Holder | None = None,
    *,
    key: Any = None,
    ca: bool = False,
    key_usage: x509.KeyUsage | None = None,
    purposes: Any = (),
    others: Any = (),
    days: int = 365,
    start: datetime = START,
    critical: bool = False,
    public: Any = None,
) -> Holder:
    """A certificate for `name`, by `issuer` or by itself; `public` where the key is somewhere else."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    own = x509.Name(
        [x509.NameAttribute(NameOID.COMMON_NAME, name), x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Tests")]
    )
    signer = issuer.key if issuer else key
    made = (
        x509.CertificateBuilder()
        .subject_name(own)
        .issuer_name(issuer.certificate.subject if issuer else own)
        .public_key(public or key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + timedelta(days=days))
    )
    if ca:
        made = made.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    if key_usage is not None:
        made = made.add_extension(key_usage, critical=True)
    if purposes:
        made = made.add_extension(x509.ExtendedKeyUsage(purposes), critical=critical)
    if others:
        made = made.add_extension(x509.SubjectAlternativeName(others), critical=critical)
    size = signer.curve.key_size if isinstance(signer, ec.EllipticCurvePrivateKey) else 256
    return Holder(key, made.sign(signer, HASHES[size]))


def authority(name: str = "Root", issuer: Holder | None = None, **options: Any) -> Holder:
    return certify(name, issuer, **{"ca": True, "key_usage": usage(issues=True), **options})


def person(name: str, issuer: Holder, **options: Any) -> Holder:
    return certify(name, issuer, **{"key_usage": usage(), "purposes": CODE, **options})
