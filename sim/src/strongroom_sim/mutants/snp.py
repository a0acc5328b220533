"""Mutants of SEV-SNP: reports, AMD's certificates and list; signed anew by the chip, or by the authority that may.

Knows: what a leaf certifies (publication 57230), and who signs what. Does not know: fields of reports (`snp_fields`), or how
mutants are judged.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from strongroom.appraisal.kinds import KINDS
from strongroom.records.evidence import AmdCollateral, Collateral
from strongroom.tee.anchors import installation_anchor
from strongroom_sim.conformance import Sample
from strongroom_sim.mutants import der, scalars
from strongroom_sim.mutants.certificates import Place, change_certificate, pem
from strongroom_sim.mutants.der import Signer
from strongroom_sim.mutants.lists import Listing, change_list
from strongroom_sim.mutants.mutant import (
    UNCHANGED,
    Base,
    Change,
    Field,
    Forge,
    Maker,
    Mutant,
    Said,
    other,
    with_collateral,
    with_quote,
)
from strongroom_sim.mutants.snp_fields import fields_of
from strongroom_sim.snp import LEVELS, PSS, SnpChip, SnpInstallation
from strongroom_sim.subjects import DATA, MEASUREMENT, Hardware

P384 = ec.SECP384R1()
SIGNED_BYTES, SCALAR_BYTES, PADDED_BYTES = 672, 48, 72
ARC = "1.3.6.1.4.1.3704.1"
LEAF, SPELT = "snp.leaf", "snp.lines"


@dataclass(frozen=True, slots=True)
class Guest:
    """One chip with one guest: what it signs, and the good sample."""

    product: str
    version: int
    vlek: bool
    chip: SnpChip
    signed: bytes
    fields: tuple[Field, ...]
    base: Base
    installation: SnpInstallation

    @property
    def amd(self) -> AmdCollateral:
        """AMD's collateral of the good sample."""
        found = self.base.sample.collateral.amd
        return found if found is not None else AmdCollateral(b"", "", b"")


class Snp:
    """Chips of all products, all of whose keys are at hand."""

    def __init__(self, hardware: Hardware, data: bytes = DATA) -> None:
        """`data` is what every report binds."""
        self.now = hardware.now
        known = hardware.amd
        self.installations = {known.product: known} | {
            product: SnpInstallation.generate(now=self.now, product=product, keys=known.keys)
            for product in LEVELS
            if product != known.product
        }
        self.anchors = [installation_anchor("snp", made.root_pem) for made in self.installations.values()]
        forms = [(product, version, False) for product in LEVELS for version in (2, 3, 5)]
        forms += [(product, 3, True) for product in LEVELS]
        self.guests = [self._guest(*form, data) for form in forms]

    def _guest(self, product: str, version: int, vlek: bool, data: bytes) -> Guest:  # noqa: FBT001 (one of the form's three parts)
        installation = self.installations[product]
        chip = SnpChip(installation, measurement=MEASUREMENT, now=self.now, vlek=vlek, version=version)
        report = chip.report(data)
        sample = Sample(report, Collateral(amd=chip.collateral(self.now)), self.now)
        base = Base.of(KINDS["snp"], self.anchors, sample)
        signed = report[:SIGNED_BYTES]
        return Guest(product, version, vlek, chip, signed, fields_of(product, version, signed), base, installation)


def change_report(chance: random.Random, guest: Guest) -> Change:
    """The signed part with another value in one field; the change's data are what is to be signed."""
    found = chance.choice(guest.fields)
    if found.name in {"policy", "platform_info", "signer_info", "cpuid", "vmpl", "version"} and chance.randrange(2):
        value = bytearray(found.of(guest.signed))  # a bit that means something, mostly
        value[chance.randrange(min(4, found.size))] ^= 1 << chance.randrange(8)
        made = bytes(value)
    else:
        made = other(chance, found.of(guest.signed))
    return Change(found.put(guest.signed, made), found.name, found.says(made), free=found.free)


def _report(chance: random.Random, forge: Snp) -> Mutant:
    guest = chance.choice(forge.guests)
    change = change_report(chance, guest)
    return with_quote(guest.base, replace(change, data=guest.chip.sign(change.data)))


def _signature(chance: random.Random, forge: Snp) -> Mutant:
    """R and s, little-endian, each in 72 bytes; and what pads them, which nobody signs."""
    guest = chance.choice(forge.guests)
    report = guest.base.sample.quote
    first, second = (report[at : at + SCALAR_BYTES] for at in (SIGNED_BYTES, SIGNED_BYTES + PADDED_BYTES))
    value, says = scalars.change_raw(chance, first[::-1] + second[::-1], P384)
    r, s = value[:SCALAR_BYTES][::-1], value[SCALAR_BYTES:][::-1]
    tail = bytes(368)
    if not chance.randrange(4):
        tail, says = other(chance, tail), None
    quote = guest.signed + r.ljust(PADDED_BYTES, b"\0") + s.ljust(PADDED_BYTES, b"\0") + tail
    return with_quote(guest.base, Change(quote, "signature", says, free=scalars.ECDSA))


def _leaf(chance: random.Random, forge: Snp) -> Mutant:
    """One member of what AMD certifies of the chip."""
    guest = chance.choice(forge.guests)
    arcs = LEVELS[guest.product]
    name = chance.choice(("1", "2", "4", "5", "6", *(f"3.{arc}" for arc in arcs), "3.77"))
    stands = x509.load_der_x509_certificate(guest.amd.leaf)
    found = {
        extension.oid.dotted_string: extension.value.value
        for extension in stands.extensions
        if isinstance(extension.value, x509.UnrecognizedExtension)
    }
    value = found.get(f"{ARC}.{name}")
    made, says = _member(chance, name, value, guest)
    leaf = _certified(guest, stands, f"{ARC}.{name}", made)
    change = Change(b"", f"leaf {name}", says, free=LEAF)
    return with_collateral(guest.base, Collateral(amd=replace(guest.amd, leaf=leaf)), change)


def _member(chance: random.Random, name: str, value: bytes | None, guest: Guest) -> tuple[bytes | None, Said | None]:
    """A value for a member, or None to leave it out; and what must come of it."""
    ways: Mapping[str, Callable[[], tuple[bytes | None, Said | None]]] = {
        "1": lambda: _structure(chance.randrange(4)),
        "2": lambda: _product_name(chance, guest),
        "4": lambda: _hwid(chance, value),
        "5": lambda: _provider(chance, guest),
        "6": lambda: (chance.randbytes(4), UNCHANGED),  # AMD may add members
    }
    if name in ways:
        return ways[name]()
    if value is None:  # a level that the product does not have
        return der.integer(chance.randrange(256)), None
    return _wrong(chance, value)


def _structure(version: int) -> tuple[bytes, Said | None]:
    return der.integer(version), UNCHANGED if version <= 1 else None


def _product_name(chance: random.Random, guest: Guest) -> tuple[bytes, Said | None]:
    text = chance.choice([f"{guest.product}-B1", guest.product.upper(), f"{guest.product}-", "Rome", *LEVELS])
    says = UNCHANGED if text in {f"{guest.product}-B1", guest.product} else None
    return der.element(0x16, text.encode()), says


def _provider(chance: random.Random, guest: Guest) -> tuple[bytes, Said | None]:
    provider = f"CN=provider {chance.randrange(1000)}"
    return der.element(0x16, provider.encode()), {"csp_id": provider} if guest.vlek else None


def _hwid(chance: random.Random, value: bytes | None) -> tuple[bytes | None, Said | None]:
    """Bare, or as an OCTET STRING as some of AMD's certificates have it; a VLEK has none."""
    if value is None:
        return chance.randbytes(64), None
    return (der.element(der.OCTETS, value), UNCHANGED) if chance.randrange(2) else _wrong(chance, value)


def _wrong(chance: random.Random, value: bytes) -> tuple[bytes | None, Said | None]:
    return chance.choice([None, other(chance, value), value + b"\0", der.integer(256), b""]), None


def _certified(guest: Guest, leaf: x509.Certificate, oid: str, value: bytes | None) -> bytes:
    """The leaf with another value of one member, signed by its authority."""
    builder = x509.CertificateBuilder(
        leaf.issuer, leaf.subject, leaf.public_key(), 1, leaf.not_valid_before_utc, leaf.not_valid_after_utc
    )
    for extension in leaf.extensions:
        if extension.oid.dotted_string != oid:
            builder = builder.add_extension(extension.value, critical=extension.critical)
    if value is not None:
        made = x509.UnrecognizedExtension(x509.ObjectIdentifier(oid), value)
        builder = builder.add_extension(made, critical=False)
    return _signer_of(guest, "asvk" if guest.vlek else "ask").certificate(builder)


def _signer_of(guest: Guest, role: str) -> Signer:
    return Signer(guest.installation.keys[role], hashes.SHA384(), PSS)


def _certificate(chance: random.Random, forge: Snp) -> Mutant:
    """A certificate of the path: the leaf's, its authority's, the root's."""
    guest = chance.choice(forge.guests)
    role = "asvk" if guest.vlek else "ask"
    known, root = guest.installation.certificates, _signer_of(guest, "ark")
    leaf = x509.load_der_x509_certificate(guest.amd.leaf)
    places = {
        "leaf": Place(leaf, _signer_of(guest, role), facts=(f"{ARC}.",), usage=False),
        role: Place(known[role], root, authority=True),
        "ark": Place(known["ark"], root, authority=True, below=1, lists=True, pinned=True),
    }
    name = chance.choice(tuple(places))
    change = change_certificate(chance, places[name], forge.now)
    change = replace(change, where=f"{name} {change.where}")
    if name == "leaf":
        return with_collateral(guest.base, Collateral(amd=replace(guest.amd, leaf=change.data)), change)
    above = [change.data if name == part else known[part].public_bytes(Encoding.DER) for part in (role, "ark")]
    chain = "".join(map(pem, above))
    return with_collateral(guest.base, Collateral(amd=replace(guest.amd, chain=chain)), change)


def _list(chance: random.Random, forge: Snp) -> Mutant:
    guest = chance.choice(forge.guests)
    below = guest.installation.certificates["asvk" if guest.vlek else "ask"]
    change = change_list(chance, Listing(guest.amd.crl, _signer_of(guest, "ark"), [below]), forge.now)
    return with_collateral(guest.base, Collateral(amd=replace(guest.amd, crl=change.data)), change)


def _chain(chance: random.Random, forge: Snp) -> Mutant:
    """The chain as AMD's service writes it with CR LF, as it does not, in another order, of another product."""
    guest = chance.choice(forge.guests)
    chain, says = guest.amd.chain, None
    blocks = [part + "-----END CERTIFICATE-----\n" for part in chain.split("-----END CERTIFICATE-----\n")[:-1]]
    stranger = chance.choice([one for one in forge.guests if one.product != guest.product]).amd
    amd, free, where = guest.amd, "", "chain"
    match chance.randrange(6):
        case 0:
            amd, says, free = replace(amd, chain=chain.replace("\n", "\r\n")), UNCHANGED, SPELT
        case 1:
            amd = replace(amd, chain=chain.replace("\n", "\r\n", chance.randrange(1, 20)))
        case 2:
            amd = replace(amd, chain="".join(chance.choices(blocks, k=chance.randrange(4))) + chance.choice(["", "x"]))
            says, free = (UNCHANGED, SPELT) if amd.chain == chain else (None, "")
        case 3:
            amd, where = replace(amd, leaf=stranger.leaf), "leaf of another"
        case 4:
            amd, where = replace(amd, chain=stranger.chain), "chain of another"
        case _:
            amd, where = chance.choice([replace(amd, crl=b""), replace(amd, crl=stranger.crl), stranger]), "of another"
    return with_collateral(guest.base, Collateral(amd=amd), Change(b"", where, says, free=free))


def forge(hardware: Hardware) -> Forge:
    """The mutants of `snp`."""
    made = Snp(hardware)
    ways: Mapping[str, tuple[int, Callable[[random.Random, Snp], Mutant]]] = {
        "report": (24, _report),
        "signature": (4, _signature),
        "leaf": (2, _leaf),
        "certificate": (2, _certificate),
        "list": (2, _list),
        "chain": (2, _chain),
    }
    return Forge(
        "snp",
        [guest.base for guest in made.guests],
        {name: Maker(weight, _bind(make, made)) for name, (weight, make) in ways.items()},
    )


def _bind(make: Callable[[random.Random, Snp], Mutant], made: Snp) -> Callable[[random.Random], Mutant]:
    return lambda chance: make(chance, made)
