"""Certificates with one thing changed, signed anew by their rightful issuer, or by nobody who may.

Knows: what a path asks of a certificate (RFC 5280 sections 4.2 and 6), as far as each vendor's
hierarchy has it. Does not know: vendors' own extensions, which makers of their own change.
"""

from __future__ import annotations

import base64
import random
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from strongroom_sim.certificates import name as named
from strongroom_sim.mutants import der
from strongroom_sim.mutants.der import Signer
from strongroom_sim.mutants.mutant import TRIES, UNCHANGED, Change, Said

CERTIFICATE = "certificate"
DAY, YEAR = timedelta(days=1), timedelta(days=365)
UNKNOWN = x509.ObjectIdentifier("1.3.6.1.4.1.99999.7")
UNPARSABLE = (ValueError, TypeError, UnsupportedAlgorithm, x509.DuplicateExtension, x509.InvalidVersion,
               x509.UnsupportedGeneralNameType, x509.ExtensionNotFound)  # fmt: skip

Made = tuple[bytes, Said | None]
E = TypeVar("E", bound=x509.ExtensionType)


@dataclass(frozen=True, slots=True)
class Place:
    """One certificate of a path, and what the path asks of it.

    `signer` issued it. `authority`: it is a CA, with `below` further ones under it; `lists`: it signs revocation lists.
    `named`: its common name is its role, all of it or what `role` says of it. `facts` are extensions that say more, and that
    are left alone here; `critical` those that may be critical. `usage`: it must state its key usage. A `pinned` one admits no
    change at all. `loose` are claims about this very certificate.
    """

    certificate: x509.Certificate
    signer: Signer
    authority: bool = False
    below: int = 0
    lists: bool = False
    named: bool = True
    facts: tuple[str, ...] = ()
    critical: frozenset[str] = frozenset()
    usage: bool = True
    pinned: bool = False
    loose: frozenset[str] = frozenset()
    role: Callable[[str], bool] | None = None


@dataclass(frozen=True, slots=True)
class _Draft:
    """What a certificate says, to be changed."""

    subject: x509.Name
    issuer: x509.Name
    key: ec.EllipticCurvePublicKey | rsa.RSAPublicKey
    serial: int
    start: datetime
    end: datetime
    extensions: Mapping[x509.ObjectIdentifier, tuple[x509.ExtensionType, bool]]

    @classmethod
    def of(cls, certificate: x509.Certificate) -> _Draft:
        extensions = {found.oid: (found.value, found.critical) for found in certificate.extensions}
        key = certificate.public_key()
        if not isinstance(key, ec.EllipticCurvePublicKey | rsa.RSAPublicKey):
            raise TypeError(type(key).__name__)
        return cls(
            certificate.subject, certificate.issuer, key, max(1, certificate.serial_number),
            certificate.not_valid_before_utc, certificate.not_valid_after_utc, extensions,
        )  # fmt: skip

    def signed(self, signer: Signer) -> bytes:
        builder = x509.CertificateBuilder(self.issuer, self.subject, self.key, self.serial, self.start, self.end)
        for value, critical in self.extensions.values():
            builder = builder.add_extension(value, critical=critical)
        return signer.certificate(builder)


def change_certificate(chance: random.Random, place: Place, now: int) -> Change:
    """The certificate of `place`, changed."""
    way, make = chance.choice(tuple(_CERTIFICATES.items()))
    data, says = make(chance, place, datetime.fromtimestamp(now, UTC))
    if place.pinned:
        says = None
    return Change(data, f"certificate.{way}", says, place.loose, "" if says is None else CERTIFICATE)


def pem(certificate: bytes) -> str:
    """A certificate (DER) as the text in which chains are written, also where the library could not read it."""
    lines = "\n".join(textwrap.wrap(base64.b64encode(certificate).decode("ascii"), 64))
    return f"-----BEGIN CERTIFICATE-----\n{lines}\n-----END CERTIFICATE-----\n"


def _validity(chance: random.Random, place: Place, now: datetime) -> Made:
    draft = _Draft.of(place.certificate)
    start, end, says = chance.choice(
        [
            (now + DAY, now + YEAR, None),
            (draft.start, now - timedelta(seconds=1), None),
            (now + timedelta(seconds=1), draft.end, None),
            (draft.start - DAY, draft.end + YEAR, UNCHANGED),
            (now, now, UNCHANGED),
        ]
    )
    return _again(place, start=min(start, end), end=end), says


def _serial(chance: random.Random, place: Place, _: datetime) -> Made:
    return _again(place, serial=chance.randrange(1, 1 << 159)), UNCHANGED


def _subject(chance: random.Random, place: Place, _: datetime) -> Made:
    subject = named(f"somebody else {chance.random()}")
    return _again(place, subject=subject), None if place.named or place.authority else UNCHANGED


def _issuer(chance: random.Random, place: Place, _: datetime) -> Made:
    return _again(place, issuer=named(f"somebody else {chance.random()}")), None


def _constraints(chance: random.Random, place: Place, _: datetime) -> Made:
    if place.authority and place.below and chance.randrange(2):
        found, says = x509.BasicConstraints(ca=True, path_length=place.below - 1), None
    else:
        found, says = x509.BasicConstraints(ca=not place.authority, path_length=None), None
    return _again(place, put=(found, True)), says


def _without_constraints(_: random.Random, place: Place, __: datetime) -> Made:
    return _again(place, drop=x509.BasicConstraints.oid), None if place.authority else UNCHANGED


def _usage(chance: random.Random, place: Place, _: datetime) -> Made:
    signs, issues, lists = (bool(chance.randrange(2)) for _ in range(3))
    found = x509.KeyUsage(
        digital_signature=signs,
        content_commitment=True,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=issues,
        crl_sign=lists,
        encipher_only=False,
        decipher_only=False,
    )
    enough = issues and (lists or not place.lists) if place.authority else signs
    return _again(place, put=(found, True)), UNCHANGED if enough else None


def _without_usage(_: random.Random, place: Place, __: datetime) -> Made:
    return _again(place, drop=x509.KeyUsage.oid), None if place.usage else UNCHANGED


def _critical(chance: random.Random, place: Place, _: datetime) -> Made:
    return _again(place, put=(x509.UnrecognizedExtension(UNKNOWN, chance.randbytes(4)), True)), None


def _extra(chance: random.Random, place: Place, _: datetime) -> Made:
    return _again(place, put=(x509.UnrecognizedExtension(UNKNOWN, chance.randbytes(4)), False)), UNCHANGED


def _key(_: random.Random, place: Place, __: datetime) -> Made:
    key = place.certificate.public_key()
    curve = key.curve if isinstance(key, ec.EllipticCurvePublicKey) else ec.SECP256R1()
    return _again(place, key=ec.generate_private_key(curve).public_key()), None


def _stranger(_: random.Random, place: Place, __: datetime) -> Made:
    key = place.signer.key
    curve = key.curve if isinstance(key, ec.EllipticCurvePrivateKey) else ec.SECP384R1()
    stranger = Signer(ec.generate_private_key(curve), place.signer.algorithm)
    return _Draft.of(place.certificate).signed(stranger), None


def _algorithm(chance: random.Random, place: Place, _: datetime) -> Made:
    found = [kind for kind in (hashes.SHA256, hashes.SHA384, hashes.SHA512) if kind.name != place.signer.algorithm.name]
    return _Draft.of(place.certificate).signed(Signer(place.signer.key, chance.choice(found)())), None


def _bytes(chance: random.Random, place: Place, now: datetime) -> Made:
    """Any byte of what is signed; what a path asks for is read again, by the library and not by a verifier."""
    whole = place.certificate.public_bytes(Encoding.DER)
    unsigned, _, _ = der.parts(whole)
    for _ in range(TRIES):
        at = chance.randrange(len(unsigned))
        changed = unsigned[:at] + bytes([unsigned[at] ^ 1 << chance.randrange(8)]) + unsigned[at + 1 :]
        made = place.signer.again(whole, changed)
        try:
            found = x509.load_der_x509_certificate(made)
            same = _facts(found, place) == _facts(place.certificate, place)
            says = UNCHANGED if _asked(found, place, now) else None
        except UNPARSABLE:
            return made, None
        if same:
            return made, says
    return _serial(chance, place, now)


def _facts(certificate: x509.Certificate, place: Place) -> dict[str, bytes]:
    """The extensions of which makers of their own take care: those named, and all beside them."""
    return {
        found.oid.dotted_string: found.value.public_bytes()
        for found in certificate.extensions
        if found.oid.dotted_string.startswith(place.facts)
    }


def _asked(certificate: x509.Certificate, place: Place, now: datetime) -> bool:
    """Whether it still says all that a path asks of this place."""
    known = place.certificate
    constraints = _extension(certificate, x509.BasicConstraints)
    usage = _extension(certificate, x509.KeyUsage)
    if place.authority:
        lawful = _may_issue(constraints, usage, place) and certificate.subject == known.subject
    else:
        lawful = constraints is None or not constraints.ca
        lawful = lawful and (usage.digital_signature if usage is not None else not place.usage)
        lawful = lawful and (not place.named or _has_role(certificate, place))
    admitted = {x509.BasicConstraints.oid.dotted_string, x509.KeyUsage.oid.dotted_string, *place.critical}
    return (
        lawful
        and certificate.version is x509.Version.v3
        and certificate.issuer == known.issuer
        and certificate.public_key() == known.public_key()
        and certificate.signature_algorithm_oid == known.signature_algorithm_oid
        and certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc
        and all(found.oid.dotted_string in admitted for found in certificate.extensions if found.critical)
    )


def _may_issue(constraints: x509.BasicConstraints | None, usage: x509.KeyUsage | None, place: Place) -> bool:
    if constraints is None or usage is None:
        return False
    long_enough = constraints.path_length is None or constraints.path_length >= place.below
    return constraints.ca and long_enough and usage.key_cert_sign and (usage.crl_sign or not place.lists)


def _has_role(certificate: x509.Certificate, place: Place) -> bool:
    names = _common_name(certificate)
    if place.role is None:
        return names == _common_name(place.certificate)
    return len(names) == 1 and place.role(str(names[0]))


def _common_name(certificate: x509.Certificate) -> list[str | bytes]:
    return [found.value for found in certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)]


def _extension(certificate: x509.Certificate, kind: type[E]) -> E | None:
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None


def _again(
    place: Place,
    *,
    put: tuple[x509.ExtensionType, bool] | None = None,
    drop: x509.ObjectIdentifier | None = None,
    subject: x509.Name | None = None,
    issuer: x509.Name | None = None,
    key: ec.EllipticCurvePublicKey | None = None,
    serial: int | None = None,
    start: datetime | None = None,
    end: datetime | None = None,
) -> bytes:
    """The certificate of `place` with what is given instead, signed by its issuer."""
    draft = _Draft.of(place.certificate)
    extensions = {oid: found for oid, found in draft.extensions.items() if oid != drop}
    if put is not None:
        extensions[put[0].oid] = put
    return _Draft(
        subject or draft.subject, issuer or draft.issuer, key or draft.key, serial or draft.serial,
        start or draft.start, end or draft.end, extensions,
    ).signed(place.signer)  # fmt: skip


_CERTIFICATES: Mapping[str, Callable[[random.Random, Place, datetime], Made]] = {
    "validity": _validity,
    "serial": _serial,
    "subject": _subject,
    "issuer": _issuer,
    "constraints": _constraints,
    "no-constraints": _without_constraints,
    "usage": _usage,
    "no-usage": _without_usage,
    "critical": _critical,
    "extra": _extra,
    "key": _key,
    "stranger": _stranger,
    "algorithm": _algorithm,
    "bytes": _bytes,
}
