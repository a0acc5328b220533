"""Mutants of Nitro documents: payload, message, certificates, lists; signed anew by the enclave, or by the authority that may.

Knows: the fields of a document (AWS "attestation_process.md"), what each makes a verdict say, and what AWS's certificates
look like. Does not know: how mutants are judged.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from strongroom.appraisal.kinds import KINDS
from strongroom.crypto import cbor, cose
from strongroom.crypto.signatures import generate_p384
from strongroom.records.evidence import AwsCollateral, Collateral
from strongroom.tee.anchors import installation_anchor
from strongroom_sim.certificates import name as named
from strongroom_sim.conformance import Sample
from strongroom_sim.mutants import messages
from strongroom_sim.mutants.certificates import Place, change_certificate
from strongroom_sim.mutants.der import Signer
from strongroom_sim.mutants.lists import Listing, change_list
from strongroom_sim.mutants.mutant import (
    TRIES,
    UNCHANGED,
    Base,
    Change,
    Forge,
    Maker,
    Mutant,
    Said,
    other,
    with_collateral,
    with_quote,
)
from strongroom_sim.nitro import AUTHORITIES, REGION, NitroCloud
from strongroom_sim.subjects import DATA, Hardware

NULL, SPELT = "nitro.null", "nitro.cbor"
LISTED = ("root", "region")
LIFE = 3 * 3600
SKEW = 5
IMAGE = (0, 1, 2)
Payload = dict[str, Any]
Says = tuple[Payload, str, Said | None, str]


class Nitro:
    """One enclave on one instance, all of whose keys are at hand."""

    def __init__(self, hardware: Hardware) -> None:
        self.now, self.cloud = hardware.now, hardware.cloud
        self.key = generate_p384()
        self.module_id = f"{self.cloud.instance}-enc0123456789abcdef"
        self.anchors = [installation_anchor("nitro", self.cloud.root_pem)]
        self.leaf = _leaf(self.cloud, self.key.public_key(), self.module_id, self.now)
        self.payload: Payload = {
            "module_id": self.module_id,
            "digest": "SHA384",
            "timestamp": 1000 * self.now + 578,
            "pcrs": {index: hashlib.sha384(bytes([index])).digest() for index in range(16)},
            "certificate": self.leaf,
            "cabundle": self.cloud.bundle,
            "public_key": None,
            "user_data": DATA,
            "nonce": bytes(range(32)),
        }
        self.aws = self.cloud.collateral(self.now)
        sample = Sample(self.sign(self.payload), Collateral(aws=self.aws), self.now)
        self.base = Base.of(KINDS["nitro"], self.anchors, sample)

    def is_own(self, common_name: str) -> bool:
        """Whether a certificate's name is this enclave's: its own, then a region, then AWS's."""
        return common_name.startswith(f"{self.module_id}.") and common_name.endswith(".aws")

    def sign(self, payload: Payload) -> bytes:
        """The document that says this."""
        return cose.sign(cbor.encode(payload), self.key, cose.Algorithm.ES384, tagged=False)


def _leaf(cloud: NitroCloud, key: Any, module_id: str, now: int) -> bytes:
    from datetime import UTC, datetime, timedelta

    start = datetime.fromtimestamp(now - 3, UTC)
    issuer = cloud.certificates["instance"].subject
    builder = x509.CertificateBuilder(
        issuer,
        named(f"{module_id}.{REGION}.aws"),
        key,
        x509.random_serial_number(),
        start,
        start + timedelta(seconds=LIFE),
    )
    usage = x509.KeyUsage(True, True, False, False, False, False, False, False, False)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(usage, critical=False)
    return Signer(cloud.keys["instance"], hashes.SHA384()).certificate(builder)


def _field(chance: random.Random, forge: Nitro) -> Mutant:
    """One field of the payload with another value."""
    way = chance.choice((_pcr, _pcr, _pcr, _time, _user, _user, _name, _bundle, _shape))
    payload, where, says, free = way(chance, forge)
    return with_quote(forge.base, Change(forge.sign(payload), where, says, free=free))


def _pcr(chance: random.Random, forge: Nitro) -> Says:
    """A register with another value, of another size, added or left out."""
    found = dict(forge.payload["pcrs"])
    index = chance.randrange(16)
    match chance.randrange(6):
        case 0:
            del found[index]
            says: Said | None = None if index in IMAGE else {f"pcr{index}": None}
            where = "pcr left out"
        case 1:
            added, value = chance.randrange(16, 40), chance.randbytes(48)
            found[added], where = value, "pcr added"
            says = {f"pcr{added}": value.hex()} if added < 32 else None  # noqa: PLR2004 (as many registers can be)
        case 2:
            found[index], says, where = chance.randbytes(chance.choice([0, 20, 32, 47, 49, 64])), None, "pcr size"
        case 3:
            found[chance.choice(["0", -1, 1 << 32])], says, where = chance.randbytes(48), None, "pcr index"
        case _:
            found[index] = other(chance, found[index])
            says, where = {f"pcr{index}": found[index].hex()}, f"pcr{index}"
    return {**forge.payload, "pcrs": found}, where, says, ""


def _time(chance: random.Random, forge: Nitro) -> Says:
    """Another time of making: within the life of the key, and not after now."""
    made = chance.choice(
        [0, 1, (forge.now - 4) * 1000, (forge.now - 3) * 1000, (forge.now + SKEW) * 1000 + 999, (forge.now + 6) * 1000,
         (forge.now + LIFE + 9) * 1000, 1 << 53, -1, chance.randrange(forge.now * 2000),
         1000 * (forge.now + chance.randrange(-4, 8))]
    )  # fmt: skip
    seconds = made // 1000
    if forge.now - 3 <= seconds <= forge.now + SKEW:
        says: Said | None = {"timestamp": made, "age_seconds": max(0, forge.now - seconds)}
    else:
        says = None
    return {**forge.payload, "timestamp": made}, "timestamp", says, ""


def _user(chance: random.Random, forge: Nitro) -> Says:
    """What the enclave binds: a value, none, one too long."""
    name, claim = chance.choice((("user_data", "report_data"), ("nonce", "nonce"), ("public_key", "public_key")))
    least, most = (1, 1024) if name == "public_key" else (0, 512)
    match chance.randrange(4):
        case 0:
            size = chance.choice([most + 1, most * 2, 0 if least else most + 1])
            return {**forge.payload, name: chance.randbytes(size)}, f"{name} size", None, ""
        case 1:
            value = chance.choice([None, b""]) if least == 0 else None
            return {**forge.payload, name: value}, f"{name} none", {claim: ""}, NULL
        case 2:
            rest = {member: value for member, value in forge.payload.items() if member != name}
            return rest, f"{name} left out", {claim: ""}, NULL
        case _:
            value = chance.randbytes(chance.randrange(1, most + 1))
            return {**forge.payload, name: value}, name, {claim: value.hex()}, ""


def _name(chance: random.Random, forge: Nitro) -> Says:
    """Another enclave than the certificate is of, and words that are not what they should be."""
    known = forge.module_id
    if chance.randrange(2):
        return {**forge.payload, "digest": chance.choice(["SHA256", "sha384", "", "SHA512", None])}, "digest", None, ""
    value = chance.choice([known[:-1], known + "0", "", "i-0-enc0", forge.cloud.instance, known.upper(), known + ".x"])
    return {**forge.payload, "module_id": value}, "module_id", None, ""


def _bundle(chance: random.Random, forge: Nitro) -> Says:
    """The certificates in another order, fewer, more, others."""
    found = list(forge.payload["cabundle"])
    stranger = NitroCloud.create(now=forge.now).bundle if not chance.randrange(8) else []
    for _ in range(TRIES):
        made = chance.choice(
            [
                chance.sample(found, 4),
                chance.sample(found, chance.randrange(4)),
                [*found, chance.choice(found)],
                [chance.choice(found), *found],
                [*found[:-1], b"x"],
                found * 3,
                stranger or found[1:],
            ]
        )
        if made != found:
            break
    return {**forge.payload, "cabundle": made}, "cabundle", None, ""


def _shape(chance: random.Random, forge: Nitro) -> Says:
    """A member of another type, one that nobody knows, one that is missing."""
    name = chance.choice(tuple(forge.payload))
    match chance.randrange(3):
        case 0:
            unknown: Any = chance.choice(["x", 7, "Nonce"])
            return {**forge.payload, unknown: messages.strange(chance)}, "unknown", None, ""
        case 1 if name not in {"public_key", "user_data", "nonce"}:
            return {key: value for key, value in forge.payload.items() if key != name}, "missing", None, ""
        case _:
            value = chance.choice([True, 0, -1, "", [], {}, [[]], {"x": 1}, 1 << 63])
            return {**forge.payload, name: value}, f"{name} type", None, ""


def _message(chance: random.Random, forge: Nitro) -> Mutant:
    """The message around the payload, or the payload in another spelling."""
    payload = cbor.encode(forge.payload)
    if not chance.randrange(4):
        spelt = messages.opened(payload) if chance.randrange(2) else messages.reordered(chance, payload)
        quote = cose.sign(spelt, forge.key, cose.Algorithm.ES384, tagged=False)
        return with_quote(forge.base, Change(quote, "payload spelt otherwise", UNCHANGED, free=SPELT))
    made = messages.change_message(chance, payload, forge.key, tagged=False, either=True, unprotected=False)
    return with_quote(forge.base, Change(made.message, made.where, made.says, free=made.free))


def _certificate(chance: random.Random, forge: Nitro) -> Mutant:
    """A certificate of the path: the enclave's, or one of those above it."""
    cloud = forge.cloud
    name = chance.choice(("leaf", "leaf", *AUTHORITIES))
    if name == "leaf":
        signer = Signer(cloud.keys["instance"], hashes.SHA384())
        place = Place(x509.load_der_x509_certificate(forge.leaf), signer, role=forge.is_own)
    else:
        at = AUTHORITIES.index(name)
        signer = Signer(cloud.keys[AUTHORITIES[max(0, at - 1)]], hashes.SHA384())
        below = len(AUTHORITIES) - 1 - at
        lists = name in LISTED
        place = Place(cloud.certificates[name], signer, authority=True, below=below, lists=lists, pinned=name == "root")
    change = change_certificate(chance, replace(place, loose=frozenset({"revocation"})), forge.now)
    if name == "leaf":
        payload = {**forge.payload, "certificate": change.data}
    else:
        found = [cloud.certificates[part].public_bytes(Encoding.DER) for part in AUTHORITIES]
        found[AUTHORITIES.index(name)] = change.data
        payload = {**forge.payload, "cabundle": found}
    return with_quote(forge.base, replace(change, data=forge.sign(payload), where=f"{name} {change.where}"))


def _list(chance: random.Random, forge: Nitro) -> Mutant:
    """One of the lists changed, or fewer of them, which the verdict says."""
    cloud, crls = forge.cloud, forge.aws.crls
    if not chance.randrange(4):
        found, told = chance.choice([((), "none"), (crls[:1], "partly"), (crls[1:], "partly"), (crls * 9, "")])
        change = Change(b"", "fewer lists", {"revocation": told} if told else None)
        return with_collateral(forge.base, Collateral(aws=AwsCollateral(found)), change)
    at = chance.randrange(len(LISTED))
    below = AUTHORITIES[AUTHORITIES.index(LISTED[at]) + 1]
    listing = Listing(crls[at], Signer(cloud.keys[LISTED[at]], hashes.SHA384()), [cloud.certificates[below]])
    change = change_list(chance, listing, forge.now)
    made = AwsCollateral((*crls[:at], change.data, *crls[at + 1 :]))
    return with_collateral(forge.base, Collateral(aws=made), replace(change, where=f"{LISTED[at]} {change.where}"))


def forge(hardware: Hardware) -> Forge:
    """The mutants of `nitro`."""
    made = Nitro(hardware)
    ways: Mapping[str, tuple[int, Callable[[random.Random, Nitro], Mutant]]] = {
        "field": (10, _field),
        "message": (4, _message),
        "certificate": (3, _certificate),
        "list": (2, _list),
    }
    return Forge(
        "nitro", [made.base], {name: Maker(weight, _bind(make, made)) for name, (weight, make) in ways.items()}
    )


def _bind(make: Callable[[random.Random, Nitro], Mutant], made: Nitro) -> Callable[[random.Random], Mutant]:
    return lambda chance: make(chance, made)
