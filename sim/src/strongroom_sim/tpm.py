"""A simulated TPM 2.0 and its maker's certificates, under a root that is made per installation. It protects nothing.

Knows: TPM structures (TPM 2.0 Library, Part 2), registers, the keys of one TPM, certificates of EK and AK (TCG EK Credential
Profile). Does not know: commands (`tpm_wire`). The firmware version of every quote reads `strngsim`, and the certificates
say `strongroom-sim`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding

from strongroom.crypto.signatures import generate_p256
from strongroom.errors import UsageError
from strongroom.records import codec
from strongroom.records.evidence import TpmCollateral
from strongroom.records.tpm import TpmQuote
from strongroom.tee.tpm import parse
from strongroom.tee.tpm.commands import AK_ECC, EK_ECC, EK_RSA
from strongroom.tee.tpm.credential import coordinates, sized
from strongroom.tee.tpm.parse import DIGEST_BYTES, HASHES, PCR_COUNT
from strongroom.tee.tpm.trust import AK_PURPOSE, EK_PURPOSE
from strongroom.tee.tpm.verify import GENERATED
from strongroom_sim.certificates import SKEW, YEARS, name, revocation_list

FIRMWARE = int.from_bytes(b"strngsim", "big")
CRL_LIFE = 30 * 86_400
CLOCK_SKEW = 3_600
CRL_PLACE = "http://strongroom-sim.example/tpm.crl"
TPM_NAMES = {"2.23.133.2.1": "id:53494D00", "2.23.133.2.2": "strongroom-sim", "2.23.133.2.3": "id:00010000"}
BANKS = ("sha1", "sha256", "sha384")
DYNAMIC = range(17, 23)
"""Registers of dynamic launch: ones until such a launch happens."""
AK_ATTRIBUTES = 0x00050072
NUMBERS = {bank: number for number, bank in HASHES.items()}
ALGORITHMS: Mapping[str, type[hashes.HashAlgorithm]] = {
    "sha1": hashes.SHA1,
    "sha256": hashes.SHA256,
    "sha384": hashes.SHA384,
}

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey


@dataclass(frozen=True)
class TpmMaker:
    """A maker of TPMs: a root, a CA under it, and what they sign."""

    root_key: ec.EllipticCurvePrivateKey
    ca_key: ec.EllipticCurvePrivateKey
    root: x509.Certificate
    ca: x509.Certificate

    def __repr__(self) -> str:
        return "TpmMaker()"

    @classmethod
    def generate(cls, *, now: int) -> Self:
        """A new maker, whose certificates hold from a day before `now` for ten years."""
        root_key, ca_key = generate_p256(), generate_p256()
        names = name("strongroom-sim TPM root"), name("strongroom-sim TPM CA")
        root = certificate(names[0], root_key.public_key(), names[0], root_key, now, below=1)
        ca = certificate(names[1], ca_key.public_key(), names[0], root_key, now, below=0)
        return cls(root_key, ca_key, root, ca)

    @property
    def root_pem(self) -> bytes:
        """The root certificate: the trust anchor."""
        return self.root.public_bytes(Encoding.PEM)

    def certify_ak(
        self,
        key: parse.PublicKey,
        now: int,
        purpose: x509.ObjectIdentifier | None = AK_PURPOSE,
        extra: tuple[x509.ObjectIdentifier, bytes] | None = None,
    ) -> x509.Certificate:
        """A certificate of an attestation key, with one `extra` extension."""
        subject = name("strongroom-sim AK")
        return certificate(subject, key, self.ca.subject, self.ca_key, now, purpose=purpose, extra=extra)

    def certify_ek(self, key: parse.PublicKey, now: int) -> x509.Certificate:
        """A certificate of an endorsement key: without a subject, which names the TPM beside it."""
        return certificate(x509.Name([]), key, self.ca.subject, self.ca_key, now, purpose=EK_PURPOSE, decrypts=True)

    def collateral(
        self, leaf: x509.Certificate, now: int, *, life: int = CRL_LIFE, revoked: Sequence[int] = ()
    ) -> TpmCollateral:
        """The chain above `leaf`, with both lists, which hold from an hour before `now` for `life` seconds."""
        chain = b"".join(found.public_bytes(Encoding.PEM) for found in (leaf, self.ca, self.root))
        issued, until = now - CLOCK_SKEW, now + life
        lists = (
            revocation_list(self.ca.subject, self.ca_key, revoked, issued=issued, until=until),
            revocation_list(self.root.subject, self.root_key, revoked, issued=issued, until=until),
        )
        return TpmCollateral(chain.decode("ascii"), tuple(found.public_bytes(Encoding.DER) for found in lists))


@dataclass(frozen=True)
class Statement:
    """What a quote says besides its registers; changed by tests of what a verifier must notice."""

    qualifying: bytes
    magic: int = GENERATED
    kind: int = parse.ATTEST_QUOTE
    signer: bytes = b""
    clock: int = 1000
    resets: int = 1
    restarts: int = 0
    safe: bool = True
    firmware: int = FIRMWARE


@dataclass
class Tpm:
    """One simulated TPM: its keys, its certificates, its registers as they are now."""

    maker: TpmMaker
    made: int
    ek_rsa: rsa.RSAPrivateKey = field(default_factory=lambda: rsa.generate_private_key(65537, 2048))
    ek_ecc: ec.EllipticCurvePrivateKey = field(default_factory=generate_p256)
    ak: ec.EllipticCurvePrivateKey = field(default_factory=generate_p256)

    def __post_init__(self) -> None:
        self.pcrs = {bank: [self._at_power_on(bank, index) for index in range(PCR_COUNT)] for bank in BANKS}
        self.changes = 0
        self.nv = {
            0x01C00002: self.maker.certify_ek(self.ek_rsa.public_key(), self.made).public_bytes(Encoding.DER),
            0x01C0000A: self.maker.certify_ek(self.ek_ecc.public_key(), self.made).public_bytes(Encoding.DER),
        }

    def __repr__(self) -> str:
        return "Tpm()"

    @property
    def ak_public(self) -> bytes:
        """The AK as TPMT_PUBLIC."""
        return public_area(self.ak.public_key())

    def ak_collateral(self, now: int) -> TpmCollateral:
        """The AK's certificate with what stands above it."""
        return self.maker.collateral(self.maker.certify_ak(self.ak.public_key(), self.made), now)

    def ek_collateral(self, now: int) -> TpmCollateral:
        """The RSA endorsement key's certificate with what stands above it."""
        return self.maker.collateral(x509.load_der_x509_certificate(self.nv[0x01C00002]), now)

    def extend(self, index: int, bank: str, measurement: bytes) -> None:
        """What TPM2_PCR_Extend does with one bank. Raises `UsageError`."""
        if index not in range(PCR_COUNT) or len(measurement) != DIGEST_BYTES[bank]:
            raise UsageError(f"register {index} cannot be extended by {len(measurement)} bytes")
        self.pcrs[bank][index] = hashlib.new(bank, self.pcrs[bank][index] + measurement).digest()
        self.changes += 1

    def boot(self, image: bytes) -> None:
        """Measure an image as a firmware would: something of it into each register of the boot, in every bank."""
        for index in range(10):
            for bank in BANKS:
                self.extend(index, bank, hashlib.new(bank, b"strongroom-sim boot %d " % index + image).digest())

    def attest(self, statement: Statement, selection: Sequence[tuple[str, Sequence[int]]], name_of: str) -> bytes:
        """TPMS_ATTEST over registers as they are now; `name_of` is the hash of their digest.

        The AK is a primary key of the endorsement hierarchy.
        """
        values = b"".join(self.pcrs[bank][index] for bank, indices in selection for index in sorted(indices))
        signer = statement.signer or parse.parse_public(self.ak_public).qualified_name(parse.ENDORSEMENT)
        return attest(replace(statement, signer=signer), selection, hashlib.new(name_of, values).digest())

    def quote(
        self,
        qualifying: bytes,
        registers: Sequence[int] = tuple(range(PCR_COUNT)),
        *,
        banks: Sequence[str] = ("sha256",),
        **changes: object,
    ) -> bytes:
        """The record of a quote with this TPM's AK."""
        statement = replace(Statement(qualifying), **changes)  # type: ignore[arg-type]
        data = self.attest(statement, [(bank, registers) for bank in banks], "sha256")
        shown = {bank: {str(index): self.pcrs[bank][index].hex() for index in sorted(registers)} for bank in banks}
        return codec.encode(TpmQuote(data, signature(self.ak, data), self.ak_public, shown))

    def _at_power_on(self, bank: str, index: int) -> bytes:
        return (b"\xff" if index in DYNAMIC else b"\0") * DIGEST_BYTES[bank]


def attest(statement: Statement, selection: Sequence[tuple[str, Sequence[int]]], digest: bytes) -> bytes:
    """TPMS_ATTEST of type quote."""
    return b"".join(
        (
            statement.magic.to_bytes(4, "big"),
            statement.kind.to_bytes(2, "big"),
            sized(statement.signer),
            sized(statement.qualifying),
            statement.clock.to_bytes(8, "big"),
            statement.resets.to_bytes(4, "big"),
            statement.restarts.to_bytes(4, "big"),
            bytes([statement.safe]),
            statement.firmware.to_bytes(8, "big"),
            selection_of(selection),
            sized(digest),
        )
    )


def selection_of(selection: Sequence[tuple[str, Sequence[int]]]) -> bytes:
    """TPML_PCR_SELECTION."""
    entries = (
        NUMBERS[bank].to_bytes(2, "big") + b"\x03" + sum(1 << index for index in set(indices)).to_bytes(3, "little")
        for bank, indices in selection
    )
    return len(selection).to_bytes(4, "big") + b"".join(entries)


def signature(key: PrivateKey, data: bytes, *, name_of: str = "sha256", scheme: int | None = None) -> bytes:
    """TPMT_SIGNATURE over `data`: ECDSA, RSASSA or RSAPSS."""
    algorithm, number = ALGORITHMS[name_of](), NUMBERS[name_of].to_bytes(2, "big")
    if isinstance(key, ec.EllipticCurvePrivateKey):
        size = (key.curve.key_size + 7) // 8
        r, s = decode_dss_signature(key.sign(data, ec.ECDSA(algorithm)))
        return parse.ECDSA.to_bytes(2, "big") + number + sized(r.to_bytes(size, "big")) + sized(s.to_bytes(size, "big"))
    if scheme == parse.RSAPSS:
        pss = padding.PSS(padding.MGF1(algorithm), padding.PSS.MAX_LENGTH)
        return parse.RSAPSS.to_bytes(2, "big") + number + sized(key.sign(data, pss, algorithm))
    return parse.RSASSA.to_bytes(2, "big") + number + sized(key.sign(data, padding.PKCS1v15(), algorithm))


def public_area(
    key: parse.PublicKey,
    *,
    attributes: int = AK_ATTRIBUTES,
    scheme: tuple[int, str] | None = (parse.ECDSA, "sha256"),
    name_hash: str = "sha256",
) -> bytes:
    """TPMT_PUBLIC of an attestation key."""
    null = parse.NULL.to_bytes(2, "big")
    how = null if scheme is None else scheme[0].to_bytes(2, "big") + NUMBERS[scheme[1]].to_bytes(2, "big")
    head = NUMBERS[name_hash].to_bytes(2, "big") + attributes.to_bytes(4, "big") + sized(b"") + null + how
    if isinstance(key, rsa.RSAPublicKey):
        modulus = key.public_numbers().n.to_bytes(key.key_size // 8, "big")
        return parse.RSA.to_bytes(2, "big") + head + key.key_size.to_bytes(2, "big") + bytes(4) + sized(modulus)
    x, y = coordinates(key)
    curve = next(number for number, known in parse.CURVES.items() if known.name == key.curve.name)
    return parse.ECC.to_bytes(2, "big") + head + curve.to_bytes(2, "big") + null + sized(x) + sized(y)


def from_template(template: bytes, tpm: Tpm) -> tuple[bytes, PrivateKey]:
    """The primary key that a TPM makes of a template: one of its own three. Raises `UsageError` for another."""
    if template == EK_RSA:
        modulus = tpm.ek_rsa.public_key().public_numbers().n.to_bytes(256, "big")
        return EK_RSA[:-256] + modulus, tpm.ek_rsa
    if template == EK_ECC:
        x, y = coordinates(tpm.ek_ecc.public_key())
        return EK_ECC[:-68] + sized(x) + sized(y), tpm.ek_ecc
    if template == AK_ECC:
        return tpm.ak_public, tpm.ak
    raise UsageError("a template that the simulated TPM does not know")


def certificate(
    subject: x509.Name,
    key: parse.PublicKey,
    issuer: x509.Name,
    issuer_key: ec.EllipticCurvePrivateKey,
    now: int,
    *,
    below: int | None = None,
    purpose: x509.ObjectIdentifier | None = None,
    decrypts: bool = False,
    extra: tuple[x509.ObjectIdentifier, bytes] | None = None,
) -> x509.Certificate:
    """A CA with `below` CAs under it, or a leaf for `purpose`, whose key signs or `decrypts`."""
    start = datetime.fromtimestamp(now, UTC) - SKEW
    is_ca, elliptic = below is not None, isinstance(key, ec.EllipticCurvePublicKey)
    usage = x509.KeyUsage(
        digital_signature=not is_ca and not decrypts,
        content_commitment=False,
        key_encipherment=decrypts and not elliptic,
        data_encipherment=False,
        key_agreement=decrypts and elliptic,
        key_cert_sign=is_ca,
        crl_sign=is_ca,
        encipher_only=False,
        decipher_only=False,
    )
    names = x509.Name([x509.NameAttribute(x509.ObjectIdentifier(oid), text) for oid, text in TPM_NAMES.items()])
    place = [x509.DistributionPoint([x509.UniformResourceIdentifier(CRL_PLACE)], None, None, None)]
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + YEARS)
        .add_extension(x509.BasicConstraints(ca=is_ca, path_length=below), critical=True)
        .add_extension(usage, critical=True)
    )
    if subject != issuer:
        builder = builder.add_extension(x509.CRLDistributionPoints(place), critical=False)
    if extra is not None:
        builder = builder.add_extension(x509.UnrecognizedExtension(*extra), critical=False)
    if purpose is not None:
        builder = builder.add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
    if decrypts:
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DirectoryName(names)]), critical=True)
    return builder.sign(issuer_key, hashes.SHA256())
