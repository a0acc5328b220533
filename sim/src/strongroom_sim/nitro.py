"""A simulated AWS Nitro: its certificate authorities, and enclaves whose security module signs documents.

Knows: what documents and certificates look like (AWS "attestation_process.md"), and how an enclave reaches its module
(Linux include/uapi/linux/nsm.h). Does not know: where keys are kept; all of it lives in memory. Every certificate says
that it is simulated, and everything hangs from a root that is made anew. The region of AWS is `sim-region-1`.
"""

from __future__ import annotations

import ctypes
import errno
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey, EllipticCurvePublicKey
from cryptography.hazmat.primitives.serialization import Encoding

from strongroom.crypto import cbor, cose
from strongroom.crypto.signatures import generate_p384
from strongroom.errors import MalformedEvidence, UsageError
from strongroom.records.evidence import AwsCollateral
from strongroom.tee.nitro.collect import REQUEST, Message
from strongroom_sim import certificates

REGION = "sim-region-1"
AUTHORITIES = ("root", "region", "zone", "instance")
LOOKED_UP = ("region", "zone")
"""Whose certificates name a CRL, as AWS's do: the root's and the region's."""
YEARS = timedelta(days=3650)
SKEW = timedelta(days=1)
LEAF_SKEW = 3
LEAF_LIFE = 3 * 3600
CRL_LIFE = 30 * 86_400
PCRS = 16
ZERO = bytes(48)


@dataclass(frozen=True)
class NitroCloud:
    """Keys and certificates of the root, a region, a zone and one instance."""

    keys: Mapping[str, EllipticCurvePrivateKey]
    certificates: Mapping[str, x509.Certificate]
    instance: str

    def __repr__(self) -> str:
        return f"NitroCloud({self.instance})"

    @classmethod
    def create(cls, *, now: int) -> NitroCloud:
        """A new cloud with one machine."""
        instance = f"i-{secrets.token_hex(9)[:17]}"
        keys = {name: generate_p384() for name in AUTHORITIES}
        names = {
            "root": f"strongroom-sim-{secrets.token_hex(4)}.aws.nitro-enclaves",
            "region": f"{secrets.token_hex(8)}.{REGION}.aws.nitro-enclaves",
            "zone": f"{secrets.token_hex(8)}.zonal.{REGION}.aws.nitro-enclaves",
            "instance": f"{instance}.{REGION}.aws.nitro-enclaves",
        }
        start = datetime.fromtimestamp(now, UTC) - SKEW
        made: dict[str, x509.Certificate] = {}
        for place, name in enumerate(AUTHORITIES):
            above = AUTHORITIES[max(0, place - 1)]
            builder = _builder(names[name], names[above], keys[name].public_key(), start, start + YEARS)
            below = None if name == "root" else len(AUTHORITIES) - 1 - place
            builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=below), critical=True)
            builder = builder.add_extension(_usage(ca=True, crl=name != "instance"), critical=True)
            if name in LOOKED_UP:
                builder = builder.add_extension(_crl_at(above), critical=False)
            made[name] = builder.sign(keys[above], hashes.SHA384())
        return cls(keys, made, instance)

    @property
    def root_pem(self) -> bytes:
        """The root certificate: the trust anchor."""
        return self.certificates["root"].public_bytes(Encoding.PEM)

    @property
    def bundle(self) -> list[bytes]:
        """The certificates above an enclave's, as a document carries them: the root first."""
        return [self.certificates[name].public_bytes(Encoding.DER) for name in AUTHORITIES]

    def collateral(
        self, now: int, *, revoked: tuple[str, ...] = (), issuers: tuple[str, ...] = ("root", "region")
    ) -> AwsCollateral:
        """The CRLs of `issuers`, issued an hour ago; they list the authorities `revoked`."""
        return AwsCollateral(tuple(self.crl(issuer, now, revoked=revoked) for issuer in issuers))

    def crl(self, issuer: str, now: int, *, revoked: tuple[str, ...] = ()) -> bytes:
        """One authority's CRL, DER."""
        below = AUTHORITIES[AUTHORITIES.index(issuer) + 1 :][:1]
        serials = [self.certificates[name].serial_number for name in below if name in revoked]
        start = datetime.fromtimestamp(now - 3600, UTC)
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self.certificates[issuer].subject)
            .last_update(start)
            .next_update(datetime.fromtimestamp(now + CRL_LIFE, UTC))
            .add_extension(x509.CRLNumber(now), critical=False)
        )
        for serial in serials:
            entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(start).build()
            builder = builder.add_revoked_certificate(entry)
        return builder.sign(self.keys[issuer], hashes.SHA384()).public_bytes(Encoding.DER)


class Enclave:
    """One simulated enclave and its security module. Registers are fixed when it starts; in debug mode they are zero."""

    def __init__(
        self,
        cloud: NitroCloud,
        pcrs: Mapping[int, bytes],
        *,
        debug: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`pcrs` are registers of 48 bytes; those that are not given are zero."""
        if any(index not in range(PCRS) or len(value) != len(ZERO) for index, value in pcrs.items()):
            raise UsageError("a register of the simulated enclave that does not exist, or of the wrong size")
        measured = {} if debug else pcrs
        self._cloud = cloud
        self._clock = clock
        self._key = generate_p384()
        self.pcrs = {index: measured.get(index, ZERO) for index in range(PCRS)}
        self.module_id = f"{cloud.instance}-enc{secrets.token_hex(8)}"

    def quote(self, report_data: bytes, *, nonce: bytes = b"", now: int | None = None) -> bytes:
        """A document over `report_data` and `nonce`, made at `now`."""
        return self.sign(self.payload(user_data=report_data, nonce=nonce or None, now=now))

    def payload(
        self,
        *,
        user_data: bytes | None = None,
        nonce: bytes | None = None,
        public_key: bytes | None = None,
        now: int | None = None,
    ) -> dict[str, Any]:
        """What a document says; absent fields are null, as AWS writes them."""
        made = int(self._clock()) if now is None else now
        return {
            "module_id": self.module_id,
            "digest": "SHA384",
            "timestamp": 1000 * made + 578,
            "pcrs": dict(self.pcrs),
            "certificate": self.certificate(made),
            "cabundle": self._cloud.bundle,
            "public_key": public_key,
            "user_data": user_data,
            "nonce": nonce,
        }

    def certificate(self, now: int) -> bytes:
        """The enclave's certificate, good for three hours, DER."""
        start = datetime.fromtimestamp(now - LEAF_SKEW, UTC)
        issuer = f"{self._cloud.instance}.{REGION}.aws.nitro-enclaves"
        end = start + timedelta(seconds=LEAF_LIFE + LEAF_SKEW)
        builder = _builder(f"{self.module_id}.{REGION}.aws", issuer, self._key.public_key(), start, end)
        builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        builder = builder.add_extension(_usage(ca=False, crl=False), critical=False)
        return builder.sign(self._cloud.keys["instance"], hashes.SHA384()).public_bytes(Encoding.DER)

    def sign(self, payload: Mapping[str, Any], key: EllipticCurvePrivateKey | None = None) -> bytes:
        """The document that says `payload`, signed by the enclave's key (or by another, to see it noticed)."""
        return cose.sign(cbor.encode(payload), key or self._key, cose.Algorithm.ES384, tagged=False)

    def ioctl(self, _descriptor: int, request: int, message: Message) -> int:
        """What the kernel's driver does with one request. Raises `OSError` as a system call does."""
        if request != REQUEST:
            raise OSError(errno.ENOTTY, "Inappropriate ioctl for device")
        answer = self._answer(ctypes.string_at(message.request, message.request_bytes))
        size = min(len(answer), message.response_bytes)
        ctypes.memmove(message.response, answer, size)
        message.response_bytes = size
        return 0

    def _answer(self, request: bytes) -> bytes:
        try:
            asked = cbor.Fields(cbor.decode(request), "a request").mapping("Attestation", range(4))
        except MalformedEvidence:
            return cbor.encode({"Error": "InvalidOperation"})
        if not asked.keys() <= {"user_data", "nonce", "public_key"}:
            return cbor.encode({"Error": "InvalidArgument"})
        return cbor.encode({"Attestation": {"document": self.sign(self.payload(**asked))}})


def _builder(
    subject: str, issuer: str, key: EllipticCurvePublicKey, start: datetime, end: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(certificates.name(subject))
        .issuer_name(certificates.name(issuer))
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(end)
    )


def _usage(*, ca: bool, crl: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not ca or crl,
        content_commitment=not ca,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=ca,
        crl_sign=crl,
        encipher_only=False,
        decipher_only=False,
    )


def _crl_at(issuer: str) -> x509.CRLDistributionPoints:
    place = x509.UniformResourceIdentifier(f"http://crl.strongroom-sim.invalid/{issuer}.crl")
    return x509.CRLDistributionPoints([x509.DistributionPoint([place], None, None, None)])
