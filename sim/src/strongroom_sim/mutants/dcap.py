"""Mutants of TDX and SGX: quotes, the quoting enclave, the platform's certificate, what Intel signs about it; all signed anew.

Knows: how a quote is put together, and who signs what. Does not know: how mutants are judged.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from strongroom.appraisal.kinds import KINDS
from strongroom.crypto.signatures import generate_p256
from strongroom.errors import UsageError
from strongroom.records.evidence import Collateral
from strongroom.tee.anchors import installation_anchor
from strongroom.tee.eventlog import Style
from strongroom_sim import certificates, tcb
from strongroom_sim.ca import sign_raw
from strongroom_sim.certificates import Platform
from strongroom_sim.chip import Chip
from strongroom_sim.conformance import Sample
from strongroom_sim.eventlog import EventLog
from strongroom_sim.mutants import dcap_fields as fields
from strongroom_sim.mutants import scalars
from strongroom_sim.mutants.certificates import Place, change_certificate, pem
from strongroom_sim.mutants.der import Signer
from strongroom_sim.mutants.documents import change_json, strict
from strongroom_sim.mutants.lists import Listing, change_list
from strongroom_sim.mutants.logs import Logged, change_log, power_on, replayed
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
    swapped,
    with_collateral,
    with_quote,
)
from strongroom_sim.mutants.standing import ORDER, Machine, standing
from strongroom_sim.quoting import AUTH_DATA, QE_MRENCLAVE, enclave_report
from strongroom_sim.sgx import SgxEnclave
from strongroom_sim.subjects import DATA, MEASUREMENT, Hardware

STANDING, AUTH, NAMED, LINES, END = "dcap.standing", "dcap.auth", "dcap.named", "pem.lines", "pem.end"
CHAIN, PPID = 5, 1
P256 = ec.SECP256R1()
WORDS = (*ORDER, "TDX", "SGX", "TD_QE", "QE", "TDX_01", "TDX_00", "TDX_02", tcb.ADVISORY)
DOCUMENTS = ("tcb_info", "qe_identity")


@dataclass(frozen=True, slots=True)
class Body:
    """One form of quote: header and body as they are signed, the fields in them, and the good sample."""

    signed: bytes
    fields: tuple[Field, ...]
    base: Base


class Dcap:
    """One platform with one quoting enclave, all of whose keys are at hand."""

    def __init__(self, kind: str, hardware: Hardware) -> None:
        self.kind, self.now, self.place = kind, hardware.now, hardware.intel
        self.tdx = kind == "tdx"
        self.anchors = [installation_anchor(kind, self.place.root_pem)]
        self.intel = self.place.collateral(self.now, kind=kind)
        self.chain = self.place.pck_chain
        self.key = generate_p256()
        self._point = self.key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)[1:]
        self.report = enclave_report(
            attributes=tcb.QE_ATTRIBUTES,
            mrenclave=QE_MRENCLAVE,
            mrsigner=tcb.QE_MRSIGNER,
            isvprodid=tcb.QE_PRODUCT if self.tdx else tcb.SGX_QE_PRODUCT,
            isvsvn=tcb.QE_SVN,
            report_data=self.bound(AUTH_DATA),
        )
        self.bodies = [Body(signed, found, self._base(signed)) for signed, found in self._forms()]

    def bound(self, auth: bytes) -> bytes:
        """The report data by which the quoting enclave vouches for its key."""
        return hashlib.sha256(self._point + auth).digest() + bytes(32)

    def quote(
        self,
        signed: bytes,
        *,
        report: bytes | None = None,
        auth: bytes = AUTH_DATA,
        certification: tuple[int, bytes] | None = None,
        signatures: Mapping[str, bytes] | None = None,
    ) -> bytes:
        """A whole quote, every signature made anew but for those given (`quote`, `report`)."""
        given = signatures or {}
        told = report or self.report
        kind, content = certification or (CHAIN, self.chain)
        certified = given.get("report") or sign_raw(self.place.keys["pck"], told)
        inner = told + certified + len(auth).to_bytes(2, "little") + auth
        inner += kind.to_bytes(2, "little") + len(content).to_bytes(4, "little") + content
        if self.tdx:
            inner = b"\x06\0" + len(inner).to_bytes(4, "little") + inner
        data = (given.get("quote") or sign_raw(self.key, signed)) + self._point + inner
        return signed + len(data).to_bytes(4, "little") + data

    def expected(
        self,
        signed: bytes,
        *,
        report: bytes | None = None,
        platform: Platform | None = None,
        documents: Mapping[str, str] | None = None,
    ) -> Said | None:
        """What the verdict must say of the TCB."""
        texts = {"tcb_info": self.intel.tcb_info, "qe_identity": self.intel.qe_identity, **(documents or {})}
        machine = Machine(platform or self.place.platform, report or self.report)
        if self.tdx:
            start = 48 if signed[0] == 4 else 54  # noqa: PLR2004 (version 5 says type and size of its body)
            body = signed[start:]
            module = body[64:112], body[112:120]
            machine = replace(machine, svn=body[:16], svn2=body[584:600], module=module)
        return standing(strict(texts["tcb_info"]), strict(texts["qe_identity"]), machine, self.now)

    def _base(self, signed: bytes) -> Base:
        sample = Sample(self.quote(signed), Collateral(intel=self.intel), self.now)
        return Base.of(KINDS[self.kind], self.anchors, sample)

    def _forms(self) -> list[tuple[bytes, tuple[Field, ...]]]:
        """Header and body of each form of quote, cut out of quotes that the simulator makes."""
        if not self.tdx:
            whole = SgxEnclave(self.place, mrenclave=bytes(range(32))).quote(DATA)
            return [(whole[: 48 + 384], fields.SGX_3)]
        newer = tcb.TEE_TCB_SVN
        chips = (
            (Chip(self.place, mrtd=MEASUREMENT), fields.TDX_4),
            (Chip(self.place, mrtd=MEASUREMENT, tee_tcb_svn2=newer), fields.TDX_5),
            (Chip(self.place, mrtd=MEASUREMENT, tee_tcb_svn2=newer, service_tds=bytes(237)), fields.TDX_5_EXTENDED),
        )
        return [(chip.quote(DATA)[: found[-1].at + found[-1].size], found) for chip, found in chips]

    def body(self, chance: random.Random) -> Body:
        """One of the forms."""
        return chance.choice(self.bodies)


def makers(forge: Dcap) -> dict[str, Maker]:
    """The ways to change evidence of `forge`."""
    ways: Mapping[str, tuple[int, Callable[[random.Random, Dcap], Mutant]]] = {
        "signed": (10, _signed),
        "enclave": (4, _enclave),
        "auth": (1, _auth),
        "signature": (3, _signature),
        "certification": (2, _certification),
        "extension": (3, _extension),
        "certificate": (3, _certificate),
        "list": (2, _list),
        "document": (6, _document),
    }
    return {name: Maker(weight, _bind(make, forge)) for name, (weight, make) in ways.items()}


def forge(kind: str, hardware: Hardware) -> Forge:
    """The mutants of `tdx` or `sgx`; a TD comes with the log of its firmware too."""
    if kind not in {"tdx", "sgx"}:
        raise UsageError(f"{kind[:16]!r} is none of Intel's kinds")
    made = Dcap(kind, hardware)
    bases, ways = [body.base for body in made.bodies], makers(made)
    if made.tdx:
        logs = [_logged(made, log) for log in (_ccel().boot(), _ccel().unified_boot(), _ccel().boot(secure_boot=False))]
        bases += [logged.base for logged in logs]
        ways["log"] = Maker(4, lambda chance: change_log(chance, chance.choice(logs)))
    return Forge(kind, bases, ways)


def _ccel() -> EventLog:
    return EventLog(Style.CCEL, ("sha384",))


def _logged(forge: Dcap, made: EventLog) -> Logged:
    """A TD whose firmware logged what it measured."""
    body = forge.bodies[0]
    places = {index: field for field in body.fields for index in range(4) if field.name == f"rtmr{index}"}

    def quote(registers: Mapping[int, bytes]) -> bytes:
        signed = body.signed
        for index, place in places.items():
            signed = place.put(signed, registers.get(index, power_on(Style.CCEL, index, place.size)))
        return forge.quote(signed)

    sample = replace(body.base.sample, quote=quote(replayed(made.log, "sha384")), log=made.serialised())
    base = Base.of(KINDS["tdx"], forge.anchors, sample)
    return Logged(made.log, "sha384", base, quote, {index: f"rtmr{index}" for index in places})


def _bind(make: Callable[[random.Random, Dcap], Mutant], forge: Dcap) -> Callable[[random.Random], Mutant]:
    return lambda chance: make(chance, forge)


def change_signed(chance: random.Random, forge: Dcap, body: Body) -> Change:
    """Header and body with another value in one field; the change's data are what is to be signed."""
    change = chance.choice(body.fields).changed(body.signed, chance)
    if change.says is None:
        return change
    found = forge.expected(change.data)
    return replace(change, says=None if found is None else {**found, **change.says})


def _signed(chance: random.Random, forge: Dcap) -> Mutant:
    body = forge.body(chance)
    change = change_signed(chance, forge, body)
    return with_quote(body.base, replace(change, data=forge.quote(change.data)))


def _enclave(chance: random.Random, forge: Dcap) -> Mutant:
    """The quoting enclave's report; its report data is about another key, or about none."""
    body = forge.body(chance)
    change = chance.choice(fields.QE_REPORT).changed(forge.report, chance)
    says = None if change.where == "qe.reportdata" else forge.expected(body.signed, report=change.data)
    quote = forge.quote(body.signed, report=change.data)
    return with_quote(body.base, replace(change, data=quote, says=says))


def _auth(chance: random.Random, forge: Dcap) -> Mutant:
    """Other data of the quoting enclave's own, bound into its report or not."""
    body, auth = forge.body(chance), chance.randbytes(chance.randrange(200))
    if chance.randrange(2):
        report = forge.report[:320] + forge.bound(auth)
        change = Change(forge.quote(body.signed, report=report, auth=auth), "qe.auth", UNCHANGED, free=AUTH)
    else:
        change = Change(forge.quote(body.signed, auth=auth), "qe.auth unbound")
    return with_quote(body.base, change)


def _signature(chance: random.Random, forge: Dcap) -> Mutant:
    """Each signature in quote and collateral, and those in certificates and lists."""
    body = forge.body(chance)
    intel = forge.intel
    which = chance.choice(("quote", "report", "tcb_info", "qe_identity", "pck", "root_ca_crl", "pck_crl"))
    if which in {"quote", "report"}:
        by, over = (forge.place.keys["pck"], forge.report) if which == "report" else (forge.key, body.signed)
        value, says = scalars.change_raw(chance, sign_raw(by, over), P256)
        quote = forge.quote(body.signed, signatures={which: value})
        return with_quote(body.base, Change(quote, f"signature.{which}", says, free=scalars.ECDSA))
    if which == "pck":
        twin = scalars.twin_of(forge.place.certificates["pck"].public_bytes(Encoding.DER), P256)
        chain = pem(twin).encode() + _above(forge)
        quote = forge.quote(body.signed, certification=(CHAIN, chain))
        return with_quote(body.base, Change(quote, "signature.pck", UNCHANGED, free=scalars.ECDSA))
    if which in DOCUMENTS:
        value, says = scalars.change_raw(chance, getattr(intel, f"{which}_signature"), P256)
        changed = swapped(intel, **{f"{which}_signature": value})
    else:
        changed, says = swapped(intel, **{which: scalars.twin_of(getattr(intel, which), P256)}), UNCHANGED
    change = Change(b"", f"signature.{which}", says, free=scalars.ECDSA)
    return with_collateral(body.base, Collateral(intel=changed), change)


def _above(forge: Dcap) -> bytes:
    found = (forge.place.certificates[name].public_bytes(Encoding.PEM) for name in ("platform-ca", "root"))
    return b"".join(found)


def _certification(chance: random.Random, forge: Dcap) -> Mutant:
    """What stands where the chain is: its text otherwise written, another order, another type, sizes that lie."""
    body = forge.body(chance)
    blocks = [part + b"-----END CERTIFICATE-----\n" for part in forge.chain.split(b"-----END CERTIFICATE-----\n")[:-1]]
    platform = forge.place.platform
    named = platform.ppid + bytes(platform.components) + platform.pcesvn.to_bytes(2, "little") + platform.pceid
    content, kind = forge.chain, CHAIN
    says: Said | None = None
    free, collateral = "", forge.intel
    match chance.randrange(9):
        case 0:
            content, says, free, where = forge.chain + b"\0", UNCHANGED, END, "nul"
        case 1:
            at = chance.randrange(1, 4)
            content = b"".join(blocks[:at]) + b"\n" * chance.randrange(1, 4) + b"".join(blocks[at:])
            says, free, where = UNCHANGED, LINES, "blank lines"
        case 2:
            content, where = forge.chain.replace(b"\n", b"\r\n"), "other lines"
        case 3:
            content, where = b"".join(chance.sample(blocks, 3)) + chance.choice(blocks), "order"
        case 4:
            content, where = b"".join(chance.sample(blocks, chance.randrange(3))), "shorter"
        case 5:
            content, where = forge.chain + chance.choice([b" ", b"\0\0", b"x", b"\n\0\n"]), "end"
        case 6:
            kind, where = chance.choice([0, 1, 2, 3, 4, 6, 7, 0xFFFF]), "type"
        case 7:
            kind, content, where = PPID, other(chance, named), "named"
            collateral = replace(forge.intel, pck_chain=forge.chain.decode("ascii"))
            says, free = UNCHANGED, NAMED
        case _:
            torn = bytearray(forge.quote(body.signed))
            at = chance.choice((len(body.signed), len(torn) - len(forge.chain) - 4, len(torn) - len(forge.chain) - 6))
            torn[at] ^= 1 << chance.randrange(8)
            return with_quote(body.base, Change(bytes(torn), "certification.size"))
    quote = forge.quote(body.signed, certification=(kind, content))
    change = Change(quote, f"certification.{where}", says, free=free)
    return with_collateral(body.base, Collateral(intel=collateral), change, quote)


def _extension(chance: random.Random, forge: Dcap) -> Mutant:
    """What Intel certifies of the platform."""
    body, place = forge.body(chance), forge.place
    stated = fields.change_extension(chance, place.platform)
    made = certificates.certificate(
        place.certificates["pck"].subject,
        place.keys["pck"].public_key(),
        place.certificates["platform-ca"].subject,
        place.keys["platform-ca"],
        now=forge.now,
        extension=stated.extension,
    )
    found = forge.expected(body.signed, platform=stated.platform)
    says = None if stated.says is None or found is None else {**found, **stated.says}
    chain = made.public_bytes(Encoding.PEM) + _above(forge)
    quote = forge.quote(body.signed, certification=(CHAIN, chain))
    return with_quote(body.base, Change(quote, stated.where, says, free=fields.MEMBER))


def _certificate(chance: random.Random, forge: Dcap) -> Mutant:
    """A certificate of the platform's path, or of the signer of a document."""
    body, place = forge.body(chance), forge.place
    role = chance.choice(("pck", "pck", "platform-ca", "tcb-signing", "tcb-signing", "root"))
    change = change_certificate(chance, _places(forge)[role], forge.now)
    if role == "tcb-signing":
        chain = pem(change.data) + place.root_pem.decode("ascii")
        name = chance.choice(DOCUMENTS)
        collateral = Collateral(intel=swapped(forge.intel, **{f"{name}_chain": chain}))
        return with_collateral(body.base, collateral, replace(change, where=f"{role} {change.where}"))
    texts = [
        pem(change.data) if name == role else place.certificates[name].public_bytes(Encoding.PEM).decode("ascii")
        for name in ("pck", "platform-ca", "root")
    ]
    quote = forge.quote(body.signed, certification=(CHAIN, "".join(texts).encode("ascii")))
    return with_quote(body.base, replace(change, data=quote, where=f"{role} {change.where}"))


def _places(forge: Dcap) -> dict[str, Place]:
    found, keys = forge.place.certificates, forge.place.keys
    root, authority = (Signer(keys[name], hashes.SHA256()) for name in ("root", "platform-ca"))
    return {
        "pck": Place(found["pck"], authority, facts=(fields.EXTENSION,)),
        "platform-ca": Place(found["platform-ca"], root, authority=True, lists=True),
        "tcb-signing": Place(found["tcb-signing"], root),
        "root": Place(found["root"], root, authority=True, below=1, lists=True, pinned=True),
    }


def _list(chance: random.Random, forge: Dcap) -> Mutant:
    """One of the two revocation lists."""
    body, found = forge.body(chance), forge.place.certificates
    name, signer, below = chance.choice(
        (("root_ca_crl", "root", ("platform-ca", "tcb-signing")), ("pck_crl", "platform-ca", ("pck",)))
    )
    listing = Listing(
        getattr(forge.intel, name), Signer(forge.place.keys[signer], hashes.SHA256()), [found[role] for role in below]
    )
    change = change_list(chance, listing, forge.now)
    collateral = Collateral(intel=swapped(forge.intel, **{name: change.data}))
    return with_collateral(body.base, collateral, replace(change, where=f"{name} {change.where}"))


def _document(chance: random.Random, forge: Dcap) -> Mutant:
    """TCB info or QE identity with one change, signed by its rightful signer."""
    body, name = forge.body(chance), chance.choice(DOCUMENTS)
    text, where = change_json(chance, getattr(forge.intel, name), forge.now, WORDS)
    raw = text.encode("utf-8", "surrogatepass")
    changed = swapped(forge.intel, **{name: text, f"{name}_signature": sign_raw(forge.place.keys["tcb-signing"], raw)})
    says = forge.expected(body.signed, documents={name: text})
    change = Change(raw, f"{name} {where}", says, free=STANDING)
    return with_collateral(body.base, Collateral(intel=changed), change)
