"""Mutants of evidence of TPMs, with everything that vouches for the key: certificates, lists, enrolments, and event logs.

Knows: a maker's hierarchy, and the note of an enrolment. Does not know: TPM structures (`tpm`), or how mutants are judged.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtensionOID

from strongroom.appraisal.kinds import KINDS
from strongroom.crypto import signatures, x509
from strongroom.crypto.signatures import generate_p256
from strongroom.records import codec
from strongroom.records.digest import digest_bytes
from strongroom.records.envelope import Envelope
from strongroom.records.evidence import Collateral, TpmCollateral
from strongroom.records.tpm import TpmEnrolment
from strongroom.records.verdict import RootClass
from strongroom.tee.anchors import installation_anchor
from strongroom.tee.eventlog import Style
from strongroom.tee.tpm import parse
from strongroom.tee.tpm.enrol import PAYLOAD_TYPE, enrolment_anchor
from strongroom_sim.conformance import Sample
from strongroom_sim.eventlog import EventLog
from strongroom_sim.mutants import tpm
from strongroom_sim.mutants.certificates import Place, change_certificate, pem
from strongroom_sim.mutants.der import Signer
from strongroom_sim.mutants.lists import Listing, change_list
from strongroom_sim.mutants.logs import Logged, change_log, power_on, replayed
from strongroom_sim.mutants.mutant import (
    UNCHANGED,
    Base,
    Change,
    Forge,
    Maker,
    Mutant,
    Said,
    with_collateral,
    with_quote,
)
from strongroom_sim.mutants.tpm import Key, Machine
from strongroom_sim.subjects import Hardware
from strongroom_sim.tpm import PrivateKey, TpmMaker, public_area

NOTE, HOUR = "tpm.note", 3_600
LIFE = 24 * HOUR
REGISTERS = range(24)
CRITICAL = frozenset(
    oid.dotted_string
    for oid in (
        ExtensionOID.SUBJECT_ALTERNATIVE_NAME,
        ExtensionOID.SUBJECT_DIRECTORY_ATTRIBUTES,
        ExtensionOID.CERTIFICATE_POLICIES,
        ExtensionOID.EXTENDED_KEY_USAGE,
    )
)
FACTS = ("2.5.29.37", "2.5.29.31", "1.3.6.1.4.1.11129.")


@dataclass(frozen=True, slots=True)
class Proved:
    """A machine, what vouches for its key, and the good sample."""

    machine: Machine
    collateral: TpmCollateral
    base: Base


class Tpms:
    """Machines of each form of key and of voucher, all of whose keys are at hand."""

    def __init__(self, hardware: Hardware) -> None:
        self.now, self.maker = hardware.now, hardware.maker
        self.verifier = generate_p256()
        self.anchors = [
            installation_anchor("tpm", self.maker.root_pem),
            enrolment_anchor(self.verifier.public_key(), RootClass.INSTALLATION),
        ]
        elliptic, big = generate_p256(), rsa.generate_private_key(65537, 2048)
        shown = public_area(elliptic.public_key())
        keys = [
            Key(elliptic, shown),
            Key(elliptic, tpm.bare(elliptic), bare=True),
            Key(big, public_area(big.public_key(), scheme=(parse.RSASSA, "sha256")), scheme=parse.RSASSA),
            Key(big, public_area(big.public_key(), scheme=(parse.RSAPSS, "sha256")), scheme=parse.RSAPSS),
        ]
        pcrs = {"sha256": {index: bytes([index]) * 32 for index in REGISTERS}}
        self.certified = [self._proved(Machine(key, pcrs), self._word(key.private)) for key in keys]
        self.leaves = {id(proved): self._leaf(proved) for proved in self.certified}
        note = TpmEnrolment(
            tpm.name_of(shown).hex(),
            digest_bytes(b"endorsement"),
            digest_bytes(b"root"),
            RootClass.INSTALLATION,
            signatures.public_to_der(self.verifier.public_key()),
            self.now - HOUR,
            self.now + LIFE,
        )
        self.note = note
        enrolled = TpmCollateral("", (), self.enrolment(note))
        self.enrolled = self._proved(Machine(Key(elliptic, shown, certified=False), pcrs), enrolled)
        self.logged = [self._logged(made) for made in _logs()]

    @property
    def proved(self) -> list[Proved]:
        """All of them."""
        return [*self.certified, self.enrolled]

    def enrolment(self, note: TpmEnrolment, payload_type: str = PAYLOAD_TYPE) -> bytes:
        """The note, signed by the verifier."""
        return signatures.sign_envelope(payload_type, codec.encode(note), self.verifier).to_bytes()

    def _word(self, key: PrivateKey) -> TpmCollateral:
        return self.maker.collateral(self.maker.certify_ak(key.public_key(), self.now), self.now)

    def _leaf(self, proved: Proved) -> Place:
        leaf = x509.load_chain(proved.collateral.chain)[0]
        signer = Signer(self.maker.ca_key, hashes.SHA256())
        loose = frozenset({"endorsement"})
        return Place(leaf, signer, named=False, facts=FACTS, critical=CRITICAL, loose=loose)

    def _proved(self, machine: Machine, collateral: TpmCollateral, log: bytes = b"") -> Proved:
        quote = tpm.encoded(machine.record())
        base = Base.of(KINDS["tpm"], self.anchors, Sample(quote, Collateral(tpm=collateral), self.now, log))
        return Proved(machine, collateral, base)

    def _logged(self, made: EventLog) -> Logged:
        bank = made.log.algorithms[-1]
        size = parse.DIGEST_BYTES[bank]
        found = self.certified[0]

        def machine(registers: Mapping[int, bytes]) -> Machine:
            values = {index: registers.get(index, power_on(Style.TPM, index, size)) for index in REGISTERS}
            return replace(found.machine, pcrs={bank: values})

        proved = self._proved(machine(replayed(made.log, bank)), found.collateral, made.serialised())
        claims = {index: f"pcr{index}" for index in REGISTERS}
        return Logged(made.log, bank, proved.base, lambda registers: tpm.encoded(machine(registers).record()), claims)


def _logs() -> list[EventLog]:
    return [
        EventLog().boot(),
        EventLog(Style.TPM, ("sha1", "sha256")).startup_locality(3).boot(secure_boot=False),
        EventLog(Style.TPM, ("sha256", "sha384")).unified_boot(),
    ]


def _quote(chance: random.Random, made: Tpms) -> Mutant:
    proved = chance.choice(made.proved)
    names = ["statement", "registers", "selection", "signature", *([] if proved.machine.key.bare else ["public"])]
    record, change = tpm.change_quote(chance, proved.machine, names)
    return with_quote(proved.base, replace(change, data=tpm.encoded(record)))


def _certificate(chance: random.Random, made: Tpms) -> Mutant:
    """The key's certificate, its CA's, the root's."""
    proved, maker = chance.choice(made.certified), made.maker
    root = Signer(maker.root_key, hashes.SHA256())
    places = {
        "leaf": made.leaves[id(proved)],
        "ca": Place(maker.ca, root, authority=True, lists=True, facts=FACTS, critical=CRITICAL),
        "root": Place(maker.root, root, authority=True, below=1, lists=True, pinned=True),
    }
    name = chance.choice(tuple(places))
    change = change_certificate(chance, places[name], made.now)
    found = {part: place.certificate.public_bytes(Encoding.DER) for part, place in places.items()} | {name: change.data}
    chain = "".join(pem(found[part]) for part in places)
    collateral = Collateral(tpm=replace(proved.collateral, chain=chain))
    return with_collateral(proved.base, collateral, replace(change, where=f"{name} {change.where}"))


def _list(chance: random.Random, made: Tpms) -> Mutant:
    """One of the lists changed; one less, one more, none."""
    proved, maker = chance.choice(made.certified), made.maker
    crls = proved.collateral.crls
    foreign = TpmMaker.generate(now=made.now).collateral(maker.ca, made.now).crls if not chance.randrange(8) else ()
    if not chance.randrange(4):
        found, says = chance.choice(
            [
                ((), None),
                (crls[:1], None),
                (crls[1:], None),
                (crls * 5, None),
                (crls[::-1], UNCHANGED),
                (crls * 2, UNCHANGED),
            ]
        )
        if foreign:
            found, says = (*crls, *foreign), UNCHANGED
        change = Change(b"", "lists", says, free="crl")
        return with_collateral(proved.base, Collateral(tpm=replace(proved.collateral, crls=found)), change)
    at = chance.randrange(2)
    key, below = ((maker.ca_key, made.leaves[id(proved)].certificate), (maker.root_key, maker.ca))[at]
    change = change_list(chance, Listing(crls[at], Signer(key, hashes.SHA256()), [below]), made.now)
    found = (*crls[:at], change.data, *crls[at + 1 :])
    return with_collateral(proved.base, Collateral(tpm=replace(proved.collateral, crls=found)), change)


def _enrolment(chance: random.Random, made: Tpms) -> Mutant:
    """The note of an enrolment says something else, or is signed by somebody else, or stands beside a certificate."""
    note = made.note
    says: Said | None = None
    collateral = made.enrolled.collateral
    free, where = "", "note"
    match chance.randrange(9):
        case 0:
            note = replace(
                note, ak_name=chance.choice([note.ak_name[:-1], "", "spki:" + note.ak_name, note.ak_name.upper()])
            )
        case 1:
            note = replace(note, endorsement=digest_bytes(chance.randbytes(4)))
            says = {"endorsement": note.endorsement}
        case 2:
            note = replace(note, root=digest_bytes(chance.randbytes(4)))
            says = {"endorsement_root": note.root}
        case 3:
            note = replace(note, root_class=chance.choice([RootClass.SILICON, RootClass.CLOUD]))
            says, free = UNCHANGED, NOTE
        case 4:
            note, says = _times(chance, note, made.now)
            free = NOTE
        case 5:
            stranger = generate_p256()
            note = replace(note, verifier=signatures.public_to_der(stranger.public_key()))
            signed = signatures.sign_envelope(
                PAYLOAD_TYPE, codec.encode(note), chance.choice([stranger, made.verifier])
            )
            collateral, where = replace(collateral, enrolment=signed.to_bytes()), "note of another"
        case 6:
            collateral, where = replace(collateral, enrolment=made.enrolment(note, "application/json")), "note type"
        case 7:
            signed = Envelope.from_bytes(made.enrolment(note))
            more = (("x", chance.randbytes(70)), ("", signed.signatures[0][1]))
            collateral = replace(collateral, enrolment=replace(signed, signatures=more).to_bytes())
            says, free, where = UNCHANGED, NOTE, "note signatures"
        case _:
            beside = made.certified[0].collateral
            collateral, where = replace(beside, enrolment=collateral.enrolment), "note and certificate"
    if where == "note":
        collateral = replace(collateral, enrolment=made.enrolment(note))
    return with_collateral(made.enrolled.base, Collateral(tpm=collateral), Change(b"", where, says, free=free))


def _times(chance: random.Random, note: TpmEnrolment, now: int) -> tuple[TpmEnrolment, Said | None]:
    start, end = chance.choice(
        [(now + 1, now + HOUR), (now - HOUR, now - 1), (now - 9 * HOUR, now + 9 * HOUR), (now, now + 1)]
    )
    return replace(note, time=start, not_after=end), UNCHANGED if start <= now <= end else None


def _log(chance: random.Random, made: Tpms) -> Mutant:
    return change_log(chance, chance.choice(made.logged))


def forge(hardware: Hardware) -> Forge:
    """The mutants of `tpm`."""
    made = Tpms(hardware)
    ways: Mapping[str, tuple[int, Callable[[random.Random, Tpms], Mutant]]] = {
        "quote": (12, _quote),
        "certificate": (3, _certificate),
        "list": (2, _list),
        "enrolment": (2, _enrolment),
        "log": (6, _log),
    }
    bases = [*(proved.base for proved in made.proved), *(logged.base for logged in made.logged)]
    return Forge("tpm", bases, {name: Maker(weight, _bind(make, made)) for name, (weight, make) in ways.items()})


def _bind(make: Callable[[random.Random, Tpms], Mutant], made: Tpms) -> Callable[[random.Random], Mutant]:
    return lambda chance: make(chance, made)
