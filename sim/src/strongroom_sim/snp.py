"""A simulated SEV-SNP platform: AMD's hierarchy and chips, under a root that is made per installation.

Knows: the bytes of a report (SEV-SNP Firmware ABI, publication 56860), AMD's certificates and revocation list (publication
57230): serial number 0, extensions, RSA-PSS. Does not know: how a guest reaches a chip. Names are the roles that a verifier
demands; the organisation in each of them, and FAMILY_ID in each report, say `strongroom-sim`.

    DIR/root.pem           the trust anchor to name to a verifier, of class `installation`
    DIR/ask.crt.pem, asvk.crt.pem, keys/*.pem (mode 0600), product
"""

from __future__ import annotations

import os
import secrets
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding

from strongroom.errors import FileUnreadable, UsageError
from strongroom.records.evidence import AmdCollateral
from strongroom_sim.certificates import SKEW, YEARS, name

MARK = b"strongroom-sim".ljust(16, b"\0")
CRL_LIFE = 30 * 86_400
CLOCK_SKEW = 3_600
ROLES = ("ark", "ask", "asvk")
RSA_BITS = 4096
PSS = padding.PSS(mgf=padding.MGF1(hashes.SHA384()), salt_length=48)

CPUIDS: Mapping[str, tuple[int, int, int]] = {"Milan": (0x19, 1, 1), "Genoa": (0x19, 0x11, 1), "Turin": (0x1A, 2, 1)}
TCBS: Mapping[str, bytes] = {
    "Milan": bytes((4, 0, 0, 0, 0, 0, 24, 0xDB)),
    "Genoa": bytes((10, 0, 0, 0, 0, 0, 23, 84)),
    "Turin": bytes((1, 1, 1, 4, 0, 0, 0, 81)),
}
LEVELS: Mapping[str, tuple[int, ...]] = {
    "Milan": (1, 2, 4, 5, 6, 7, 3, 8),
    "Genoa": (1, 2, 4, 5, 6, 7, 3, 8),
    "Turin": (9, 1, 2, 3, 5, 6, 7, 8),
}
"""For each byte of a TCB version, the last arc of its extension."""
PROVIDER = "CN=strongroom-sim.example"
POLICY = 0x3_001F
"""SMT allowed, ABI 0.31; bit 17 is always one."""
PLATFORM_INFO = 0b10_0101
"""SMT and ECC on, alias check complete."""
FIRMWARE = bytes((29, 55, 1))
MITIGATIONS = 0x3F
VCEK, VLEK = 0, 1

_REPORT = struct.Struct("<IIQ16s16sII8sQI4x64s48s32s48s48s32s32s8s3s21x64s8s3sx3sx8sQQ152x")


@dataclass(frozen=True)
class SnpInstallation:
    """The root, and what stands between it and the chips: `ark`, `ask`, `asvk`."""

    product: str
    keys: Mapping[str, rsa.RSAPrivateKey]
    certificates: Mapping[str, x509.Certificate]

    def __repr__(self) -> str:
        return f"SnpInstallation({self.product})"

    @classmethod
    def generate(cls, *, now: int, product: str = "Milan", keys: Mapping[str, rsa.RSAPrivateKey] | None = None) -> Self:
        """A new hierarchy for one product, valid from a day before `now` for ten years. Raises `UsageError`.

        With `keys` of another hierarchy only the certificates are new.
        """
        if product not in CPUIDS:
            raise UsageError(f"{product[:32]!r} is not simulated", remedy=f"One of {', '.join(CPUIDS)} is.")
        keys = keys or {role: rsa.generate_private_key(public_exponent=65537, key_size=RSA_BITS) for role in ROLES}
        names = {"ark": f"ARK-{product}", "ask": f"SEV-{product}", "asvk": f"SEV-VLEK-{product}"}
        made = {
            role: certify_authority(name(names[role]), keys[role].public_key(), name(names["ark"]), keys["ark"], now)
            for role in ROLES
        }
        return cls(product, keys, made)

    @classmethod
    def create(cls, directory: Path, *, now: int, product: str = "Milan") -> Self:
        """Make a new installation in `directory`, which must not exist or be empty. Raises `UsageError`."""
        if directory.exists() and any(directory.iterdir()):
            raise UsageError(f"{directory} is not empty", remedy="Name a new directory for the installation.")
        made = cls.generate(now=now, product=product)
        (directory / "keys").mkdir(parents=True, mode=0o700)
        for role in ROLES:
            pem = made.keys[role].private_bytes(
                Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
            path = directory / "keys" / f"{role}.pem"
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(pem)
            _crt(directory, role).write_bytes(made.certificates[role].public_bytes(Encoding.PEM))
        (directory / "product").write_text(product, "ascii")
        return made

    @classmethod
    def load(cls, directory: Path) -> Self:
        """Read an installation. Raises `FileUnreadable`."""
        try:
            product = (directory / "product").read_text("ascii")
            keys = {role: _private(directory / "keys" / f"{role}.pem") for role in ROLES}
            found = {role: x509.load_pem_x509_certificate(_crt(directory, role).read_bytes()) for role in ROLES}
        except (OSError, ValueError, TypeError):
            raise FileUnreadable(f"{directory} holds no simulated SEV-SNP installation") from None
        return cls(product, keys, found)

    @property
    def root_pem(self) -> bytes:
        """The root certificate: the trust anchor."""
        return self.certificates["ark"].public_bytes(Encoding.PEM)

    def chain(self, role: str) -> str:
        """What stands above a leaf: ASK or ASVK, and ARK."""
        return (self.certificates[role].public_bytes(Encoding.PEM) + self.root_pem).decode("ascii")

    def crl(self, now: int, *, life: int = CRL_LIFE, revoked: tuple[str, ...] = ()) -> bytes:
        """The root's revocation list, issued an hour before `now`; it lists the roles `revoked`."""
        start = datetime.fromtimestamp(now - CLOCK_SKEW, UTC)
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self.certificates["ark"].subject)
            .last_update(start)
            .next_update(datetime.fromtimestamp(now + life, UTC))
            .add_extension(x509.CRLNumber(now), critical=False)
        )
        for role in revoked:
            serial = self.certificates[role].serial_number
            entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(start).build()
            builder = builder.add_revoked_certificate(entry)
        return builder.sign(self.keys["ark"], hashes.SHA384(), rsa_padding=PSS).public_bytes(Encoding.DER)


@dataclass(frozen=True)
class LeafSpec:
    """What a leaf's certificate says; tests change one thing each. `members` of AMD's arc are added or, if None, left out."""

    product_name: str
    tcb: bytes
    levels: tuple[int, ...]
    hwid: bytes | None
    provider: str | None
    members: Mapping[str, bytes | None] = field(default_factory=dict)

    def extensions(self) -> dict[str, bytes]:
        """The extensions by the end of their OID below AMD's arc."""
        said: dict[str, bytes | None] = {"1": _integer(0), "2": _text(self.product_name)}
        said.update((f"3.{arc}", _integer(level)) for arc, level in zip(self.levels, self.tcb, strict=True))
        said["4"] = self.hwid
        said["5"] = None if self.provider is None else _text(self.provider)
        said.update(self.members)
        return {member: value for member, value in said.items() if value is not None}


class SnpChip:
    """One simulated chip with one guest. All fields of its reports are fixed at launch, but for the report data."""

    def __init__(
        self,
        installation: SnpInstallation,
        *,
        measurement: bytes,
        now: int,
        host_data: bytes = bytes(32),
        vlek: bool = False,
        version: int = 3,
        leaf: Mapping[str, object] | None = None,
        **fields: object,
    ) -> None:
        """`fields` replace those of the report by their names, `leaf` those of `LeafSpec`: for tests of verifiers."""
        self._installation = installation
        if len(measurement) != 48 or len(host_data) != 32:  # noqa: PLR2004 (MEASUREMENT, HOST_DATA)
            raise UsageError("a measurement has 48 bytes, and host data 32")
        product = installation.product
        tcb = TCBS[product]
        size = 8 if product == "Turin" else 64
        hwid = secrets.token_bytes(size)
        self._fields: dict[str, object] = {
            "version": version,
            "guest_svn": 1,
            "policy": POLICY,
            "family_id": MARK,
            "image_id": bytes(16),
            "vmpl": 0,
            "algorithm": 1,
            "current_tcb": tcb,
            "platform_info": PLATFORM_INFO,
            "signer_info": (VLEK if vlek else VCEK) << 2,
            "report_data": bytes(64),
            "measurement": measurement,
            "host_data": host_data,
            "id_key_digest": bytes(48),
            "author_key_digest": bytes(48),
            "report_id": secrets.token_bytes(32),
            "report_id_ma": b"\xff" * 32,
            "reported_tcb": tcb,
            "cpuid": bytes(CPUIDS[product]) if version >= 3 else bytes(3),  # noqa: PLR2004 (from version 3 on)
            "chip_id": bytes(64) if vlek else hwid.ljust(64, b"\0"),
            "committed_tcb": tcb,
            "current_version": FIRMWARE,
            "committed_version": FIRMWARE,
            "launch_tcb": tcb,
            "launch_mitigations": MITIGATIONS if version >= 5 else 0,  # noqa: PLR2004 (from version 5 on)
            "current_mitigations": MITIGATIONS if version >= 5 else 0,  # noqa: PLR2004
        }
        if not fields.keys() <= self._fields.keys():
            raise UsageError("a simulated report has no such field")
        self._fields |= fields
        said = LeafSpec(product, tcb, LEVELS[product], None if vlek else hwid, PROVIDER if vlek else None)
        self._role = "asvk" if vlek else "ask"
        self._name = "SEV-VLEK" if vlek else "SEV-VCEK"
        self._key = ec.generate_private_key(ec.SECP384R1())
        self._leaf = self._certify(replace(said, **(dict(leaf or {}))), now)  # type: ignore[arg-type]

    def report(self, report_data: bytes) -> bytes:
        """A report over 64 bytes. Raises `UsageError`."""
        if len(report_data) != 64:  # noqa: PLR2004 (REPORT_DATA)
            raise UsageError(f"report data of {len(report_data)} bytes where 64 are needed")
        signed = _REPORT.pack(*(self._fields | {"report_data": report_data}).values())
        return self.sign(signed)

    quote = report

    def sign(self, signed: bytes) -> bytes:
        """A report whose signed part (672 bytes) is this, whatever it says."""
        r, s = decode_dss_signature(self._key.sign(signed, ec.ECDSA(hashes.SHA384())))
        return signed + r.to_bytes(72, "little") + s.to_bytes(72, "little") + bytes(368)

    def collateral(self, now: int, *, life: int = CRL_LIFE, revoked: tuple[str, ...] = ()) -> AmdCollateral:
        """The chip's certificate, what stands above it, and the root's list as it is at `now`."""
        crl = self._installation.crl(now, life=life, revoked=revoked)
        return AmdCollateral(self._leaf, self._installation.chain(self._role), crl)

    def _certify(self, said: LeafSpec, now: int) -> bytes:
        issuer = self._installation.certificates[self._role].subject
        key = self._installation.keys[self._role]
        start = datetime.fromtimestamp(now, UTC) - SKEW
        builder = (
            x509.CertificateBuilder()
            .subject_name(name(self._name))
            .issuer_name(issuer)
            .public_key(self._key.public_key())
            .serial_number(1)
            .not_valid_before(start)
            .not_valid_after(start + timedelta(days=365) if self._role == "asvk" else start + timedelta(days=7 * 365))
        )
        for member, value in said.extensions().items():
            oid = x509.ObjectIdentifier(f"1.3.6.1.4.1.3704.1.{member}")
            builder = builder.add_extension(x509.UnrecognizedExtension(oid, value), critical=False)
        return _with_serial_zero(builder.sign(key, hashes.SHA384(), rsa_padding=PSS), key)


def _with_serial_zero(certificate: x509.Certificate, key: rsa.RSAPrivateKey) -> bytes:
    """The certificate as AMD writes them: no builder makes a serial number 0, so it is put in, and signed anew."""
    unsigned = certificate.tbs_certificate_bytes
    before, after = unsigned.split(b"\xa0\x03\x02\x01\x02\x02\x01\x01", 1)
    unsigned = before + b"\xa0\x03\x02\x01\x02\x02\x01\x00" + after
    algorithm = after[: 2 + after[1]]
    signature = key.sign(unsigned, PSS, hashes.SHA384())
    return _element(0x30, unsigned + algorithm + _element(0x03, b"\0" + signature))


def certify_authority(
    subject: x509.Name, key: rsa.RSAPublicKey, issuer: x509.Name, issuer_key: rsa.RSAPrivateKey, now: int
) -> x509.Certificate:
    """A certificate of the root, or of what stands below it, valid from a day before `now` for ten years."""
    start = datetime.fromtimestamp(now, UTC) - SKEW
    is_root = subject == issuer
    usage = x509.KeyUsage(
        digital_signature=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=is_root,
        encipher_only=False,
        decipher_only=False,
    )
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + YEARS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None if is_root else 0), critical=True)
        .add_extension(usage, critical=True)
    )
    return builder.sign(issuer_key, hashes.SHA384(), rsa_padding=PSS)


def _private(path: Path) -> rsa.RSAPrivateKey:
    key = serialization.load_pem_private_key(path.read_bytes(), None)
    if not isinstance(key, rsa.RSAPrivateKey):
        raise TypeError(path.name)
    return key


def _crt(directory: Path, role: str) -> Path:
    return directory / ("root.pem" if role == "ark" else f"{role}.crt.pem")


def _integer(value: int) -> bytes:
    return _element(0x02, value.to_bytes(value.bit_length() // 8 + 1, "big"))


def _text(value: str) -> bytes:
    return _element(0x16, value.encode("ascii"))


def _element(tag: int, content: bytes) -> bytes:
    size = len(content)
    width = (size.bit_length() + 7) // 8
    length = bytes([size]) if size < 0x80 else bytes([0x80 | width]) + size.to_bytes(width, "big")  # noqa: PLR2004
    return bytes([tag]) + length + content
