"""Certificates and CRLs in the shape of Intel's (Intel SGX PCK Certificate and CRL Profile Specification).

Knows: how to build them. Does not know: where keys are kept (`ca`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey, EllipticCurvePublicKey
from cryptography.x509.oid import NameOID

SGX_EXTENSION = x509.ObjectIdentifier("1.2.840.113741.1.13.1")
_ARC = bytes.fromhex("2a864886f84d010d01")

YEARS = timedelta(days=3650)
SKEW = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Platform:
    """What the PCK certificate says of the simulated machine: 16 SVNs of the CPU, PCESVN, identifiers, configuration."""

    ppid: bytes
    instance_id: bytes
    fmspc: bytes
    pceid: bytes
    components: tuple[int, ...]
    pcesvn: int
    dynamic: bool = False
    cached_keys: bool = False
    smt: bool = False


def name(common_name: str) -> x509.Name:
    """A subject that says whose certificate this really is."""
    return x509.Name(
        [
            x509.NameAttribute(NameOID.COMMON_NAME, common_name),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "strongroom-sim (simulated, protects nothing)"),
        ]
    )


def certificate(
    subject: x509.Name,
    key: EllipticCurvePublicKey,
    issuer: x509.Name,
    issuer_key: EllipticCurvePrivateKey,
    *,
    now: int,
    ca_below: int | None = None,
    extension: bytes | None = None,
) -> x509.Certificate:
    """A certificate valid from a day before `now` for ten years; a CA with `ca_below` CAs under it, or a leaf."""
    start = datetime.fromtimestamp(now, UTC) - SKEW
    is_ca = ca_below is not None
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + YEARS)
        .add_extension(x509.BasicConstraints(ca=is_ca, path_length=ca_below), critical=True)
        .add_extension(_usage(is_ca=is_ca), critical=True)
    )
    if extension is not None:
        builder = builder.add_extension(x509.UnrecognizedExtension(SGX_EXTENSION, extension), critical=False)
    return builder.sign(issuer_key, hashes.SHA256())


def revocation_list(
    issuer: x509.Name, key: EllipticCurvePrivateKey, revoked: Sequence[int], *, issued: int, until: int
) -> x509.CertificateRevocationList:
    """A CRL that lists the serial numbers `revoked`; its number is its time of issue."""
    start = datetime.fromtimestamp(issued, UTC)
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(issuer)
        .last_update(start)
        .next_update(datetime.fromtimestamp(until, UTC))
        .add_extension(x509.CRLNumber(issued), critical=False)
    )
    for serial in revoked:
        entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(start).build()
        builder = builder.add_revoked_certificate(entry)
    return builder.sign(key, hashes.SHA256())


def sgx_extension(platform: Platform) -> bytes:
    """The contents of the SGX extension of a PCK certificate."""
    components = [*(_integer(svn) for svn in platform.components), _integer(platform.pcesvn)]
    tcb = [_member((2, index), value) for index, value in enumerate(components, start=1)]
    stated = enumerate((platform.dynamic, platform.cached_keys, platform.smt), start=1)
    tcb.append(_member((2, 18), _element(0x04, bytes(platform.components))))
    members = [
        _member((1,), _element(0x04, platform.ppid)),
        _member((2,), _element(0x30, b"".join(tcb))),
        _member((3,), _element(0x04, platform.pceid)),
        _member((4,), _element(0x04, platform.fmspc)),
        _member((5,), _element(0x0A, b"\x01")),
        _member((6,), _element(0x04, platform.instance_id)),
        _member((7,), _element(0x30, b"".join(_member((7, index), _truth(value)) for index, value in stated))),
    ]
    return _element(0x30, b"".join(members))


def _usage(*, is_ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not is_ca,
        content_commitment=not is_ca,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=is_ca,
        crl_sign=is_ca,
        encipher_only=False,
        decipher_only=False,
    )


def _member(path: tuple[int, ...], value: bytes) -> bytes:
    return _element(0x30, _element(0x06, _ARC + bytes(path)) + value)


def _integer(value: int) -> bytes:
    return _element(0x02, value.to_bytes(value.bit_length() // 8 + 1, "big"))


def _truth(value: bool) -> bytes:  # noqa: FBT001 (what is encoded)
    return _element(0x01, b"\xff" if value else b"\x00")


def _element(tag: int, content: bytes) -> bytes:
    size = len(content)
    width = (size.bit_length() + 7) // 8
    length = bytes([size]) if size < 0x80 else bytes([0x80 | width]) + size.to_bytes(width, "big")  # noqa: PLR2004
    return bytes([tag]) + length + content
