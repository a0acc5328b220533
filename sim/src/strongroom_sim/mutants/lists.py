"""Revocation lists with one thing changed, signed anew by their rightful issuer, or by nobody who may.

Knows: what a path asks of a list (RFC 5280 sections 5 and 6.3). Does not know: certificates' paths.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from strongroom_sim.certificates import name as named
from strongroom_sim.mutants import der
from strongroom_sim.mutants.certificates import DAY, UNKNOWN, UNPARSABLE, YEAR, Made
from strongroom_sim.mutants.der import Signer
from strongroom_sim.mutants.mutant import UNCHANGED, Change

LIST = "crl"


@dataclass(frozen=True, slots=True)
class Listing:
    """One revocation list, who signed it, and the certificates that it must not list."""

    crl: bytes
    signer: Signer
    below: Sequence[x509.Certificate]


def change_list(chance: random.Random, listing: Listing, now: int) -> Change:
    """The revocation list, changed."""
    way, make = chance.choice(tuple(_LISTS.items()))
    data, says = make(chance, listing, datetime.fromtimestamp(now, UTC))
    return Change(data, f"crl.{way}", says, free="" if says is None else LIST)


def _listed(
    listing: Listing,
    *,
    signer: Signer | None = None,
    issuer: x509.Name | None = None,
    start: datetime | None = None,
    end: datetime | None = None,
    revoked: Sequence[int] = (),
    put: tuple[x509.ExtensionType, bool] | None = None,
) -> bytes:
    found = x509.load_der_x509_crl(listing.crl)
    begin = start or found.last_update_utc
    builder = x509.CertificateRevocationListBuilder(
        issuer or found.issuer, begin, end or found.next_update_utc or begin + YEAR
    ).add_extension(*(put or (x509.CRLNumber(7), False)))
    for serial in revoked:
        entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(begin).build()
        builder = builder.add_revoked_certificate(entry)
    return (signer or listing.signer).crl(builder)


def _list_target(chance: random.Random, listing: Listing, _: datetime) -> Made:
    return _listed(listing, revoked=[max(1, chance.choice(listing.below).serial_number)]), None


def _list_other(chance: random.Random, listing: Listing, _: datetime) -> Made:
    return _listed(listing, revoked=[chance.randrange(1, 1 << 150) for _ in range(3)]), UNCHANGED


def _list_time(chance: random.Random, listing: Listing, now: datetime) -> Made:
    start, end, says = chance.choice(
        [
            (now + DAY, now + YEAR, None),
            (now - YEAR, now - timedelta(seconds=1), None),
            (now + timedelta(seconds=1), now + DAY, None),
            (now - YEAR, now + YEAR, UNCHANGED),
        ]
    )
    return _listed(listing, start=start, end=end), says


def _list_issuer(chance: random.Random, listing: Listing, _: datetime) -> Made:
    return _listed(listing, issuer=named(f"somebody else {chance.random()}")), None


def _list_stranger(_: random.Random, listing: Listing, __: datetime) -> Made:
    key = listing.signer.key
    curve = key.curve if isinstance(key, ec.EllipticCurvePrivateKey) else ec.SECP384R1()
    return _listed(listing, signer=Signer(ec.generate_private_key(curve), listing.signer.algorithm)), None


def _list_algorithm(chance: random.Random, listing: Listing, _: datetime) -> Made:
    own = listing.signer
    found = [kind for kind in (hashes.SHA256, hashes.SHA384, hashes.SHA512) if kind.name != own.algorithm.name]
    return _listed(listing, signer=Signer(own.key, chance.choice(found)())), None


def _list_critical(chance: random.Random, listing: Listing, _: datetime) -> Made:
    return _listed(listing, put=(x509.UnrecognizedExtension(UNKNOWN, chance.randbytes(4)), True)), None


def _list_bytes(chance: random.Random, listing: Listing, now: datetime) -> Made:
    unsigned, _, _ = der.parts(listing.crl)
    at = chance.randrange(len(unsigned))
    changed = unsigned[:at] + bytes([unsigned[at] ^ 1 << chance.randrange(8)]) + unsigned[at + 1 :]
    made = listing.signer.again(listing.crl, changed)
    known = x509.load_der_x509_crl(listing.crl)
    try:
        found = x509.load_der_x509_crl(made)
        until = found.next_update_utc
        good = (
            found.issuer == known.issuer
            and found.signature_algorithm_oid == known.signature_algorithm_oid
            and until is not None
            and found.last_update_utc <= now <= until
            and not any(extension.critical for extension in found.extensions)
            and all(found.get_revoked_certificate_by_serial_number(c.serial_number) is None for c in listing.below)
        )
    except UNPARSABLE:
        good = False
    return made, UNCHANGED if good else None


_LISTS: Mapping[str, Callable[[random.Random, Listing, datetime], Made]] = {
    "target": _list_target,
    "other": _list_other,
    "time": _list_time,
    "issuer": _list_issuer,
    "stranger": _list_stranger,
    "algorithm": _list_algorithm,
    "critical": _list_critical,
    "bytes": _list_bytes,
}
