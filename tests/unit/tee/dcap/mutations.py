"""Evidence that differs a little from good evidence: at random in its bytes, or in a field and then signed anew.

`plain` mutates real quotes and their collateral and signs nothing, so nearly all of it must be refused. `forged` changes
what is signed (bodies, enclaves, certificates, documents, lists, times) and signs it with the keys of a simulated
installation, so that much of it holds, and verifiers must agree on what it means.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding
from dcap_world import DATA, MRENCLAVE, NOW, collateral_of, noon, read_quote

from strongroom.records.evidence import IntelCollateral
from strongroom.tee.anchors import VENDOR_ANCHORS, TrustAnchor, installation_anchor
from strongroom_sim import Chip, Installation, tcb
from strongroom_sim.ca import sign_raw
from strongroom_sim.quoting import QuotingEnclave
from strongroom_sim.sgx import SgxEnclave

DAY = 86_400
REAL = [
    ("tdx", "tdx/v4_b0c06f_uptodate.quote", "tdx/v4_b0c06f_uptodate.collateral.json", "2025-07-04"),
    ("tdx", "tdx/v5_90c06f_uptodate.quote", "tdx/bundles/90c06f_2026-02-05.json", "2026-02-05"),
    ("tdx", "tdx/v4_00a06d_gnr_platform_outofdate_module_uptodate.quote", "tdx/bundles/00a06d_2026-02-05.json", "2026-02-05"),
    ("tdx", "tdx/v4_00806f05_gcp_cos113_module_rule.quote", "tdx/bundles/00806f05_2025-06-25.json", "2025-06-25"),
    (
        "sgx",
        "sgx/v3_00a067_config_and_swhardening.quote",
        "sgx/v3_00a067_config_and_swhardening.collateral.json",
        "2025-07-04",
    ),
]  # fmt: skip


@dataclass
class Case:
    """One piece of evidence with what it is judged by, and the names of what was done to it."""

    kind: str
    quote: bytes
    collateral: IntelCollateral
    now: int
    anchors: list[TrustAnchor]
    root: bytes | None
    done: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return f"{self.kind}: {', '.join(self.done)}"


def real(vectors: Path) -> list[Case]:
    """The real quotes, unchanged."""
    return [
        Case(
            kind,
            read_quote(vectors, quote),
            collateral_of((vectors / bundle).read_bytes()),
            noon(day),
            list(VENDOR_ANCHORS),
            None,
        )
        for kind, quote, bundle, day in REAL
    ]


def plain(cases: list[Case], chance: random.Random) -> Case:
    """One of `cases` with one thing of it changed at random."""
    case = chance.choice(cases)
    if chance.random() < 0.6:
        done, quote = mutated(case.quote, chance)
        return replace(case, quote=quote, done=[f"quote {done}"])
    member = chance.choice([name for name in IntelCollateral.__slots__ if getattr(case.collateral, name)])
    value = getattr(case.collateral, member)
    if chance.random() < 0.2:
        other = chance.choice(cases).collateral
        changed, done = getattr(other, member), "of another machine"
    else:
        done, data = mutated(value.encode() if isinstance(value, str) else value, chance)
        changed = data.decode("latin-1") if isinstance(value, str) else data
    return replace(case, collateral=replace(case.collateral, **{member: changed}), done=[f"{member} {done}"])


def mutated(data: bytes, chance: random.Random) -> tuple[str, bytes]:
    """`data` with a bit flipped, bytes set, its end cut off or added to, or two of its parts swapped."""
    out, at = bytearray(data), chance.randrange(len(data))
    match chance.randrange(6):
        case 0 | 1:
            out[at] ^= 1 << chance.randrange(8)
            return f"bit at {at}", bytes(out)
        case 2:
            length = chance.randint(1, 8)
            out[at : at + length] = bytes([chance.choice([0, 0xFF, 0x20, chance.randrange(256)])]) * len(
                out[at : at + length]
            )
            return f"bytes at {at}", bytes(out)
        case 3:
            return "cut", bytes(out[:at])
        case 4:
            return "longer", bytes(out) + chance.choice([b"\0", b"\n", b"x", chance.randbytes(20)])
        case _:
            length, other = chance.randint(1, 64), chance.randrange(len(data))
            out[at : at + length], out[other : other + length] = data[other : other + length], data[at : at + length]
            return f"swapped {at} and {other}", bytes(out[: len(data)])


@dataclass
class Recipe:
    """How a forged piece is made: what differs from good evidence, before it is signed."""

    kind: str
    place: Installation
    now: int = NOW
    body: dict[str, Any] = field(default_factory=dict)
    enclave: dict[str, Any] = field(default_factory=dict)
    documents: dict[str, dict[str, Any]] = field(default_factory=lambda: {"tcb_info": {}, "qe_identity": {}})
    after: list[Callable[[IntelCollateral], IntelCollateral]] = field(default_factory=list)
    tail: Callable[[bytes], bytes] = lambda quote: quote


def forged(places: dict[str, Installation], chance: random.Random) -> Case:
    """Evidence of a simulated platform with one to three things changed and signed anew."""
    kind = chance.choice(["tdx", "sgx"])
    recipe = Recipe(kind, places[kind])
    changes = BOTH + {"tdx": TDX, "sgx": SGX}[kind]
    done = [
        change.__name__ for change in chance.sample(changes, chance.choice([1, 1, 2, 3])) if not change(recipe, chance)
    ]
    product = {"tdx": tcb.QE_PRODUCT, "sgx": tcb.SGX_QE_PRODUCT}[kind]
    qe = QuotingEnclave(recipe.place, **({"product": product} | recipe.enclave))
    quote = (
        Chip(recipe.place, mrtd=bytes(48), quoting_enclave=qe, **recipe.body)
        if kind == "tdx"
        else SgxEnclave(recipe.place, mrenclave=MRENCLAVE, quoting_enclave=qe, **recipe.body)
    ).quote(DATA)
    collateral = places[kind].collateral(NOW, kind=kind)
    for document, changed in recipe.documents.items():
        if changed:
            collateral = recipe.place.resigned(collateral, document, **changed)
    for step in recipe.after:
        collateral = step(collateral)
    root = places[kind].certificates["root"].public_bytes(Encoding.DER)
    anchor = installation_anchor(kind, places[kind].root_pem)
    return Case(kind, recipe.tail(quote), collateral, recipe.now, [anchor], root, done)


def time(recipe: Recipe, chance: random.Random) -> None:
    recipe.now += chance.choice([-3600, -3601, 30 * DAY, 30 * DAY + 1, chance.randint(-40, 40) * DAY, 4000 * DAY])


def platform(recipe: Recipe, chance: random.Random) -> None:
    """Another platform under the same CA: other SVNs, another PCESVN, another family, another PCE."""
    stated = recipe.place.platform
    match chance.randrange(5):
        case 0 | 1:
            components = list(stated.components)
            for _ in range(chance.randint(1, 16)):
                components[chance.randrange(16)] = chance.choice([0, 1, 2, 3, 4, 5, 6, 255])
            stated = replace(stated, components=tuple(components))
        case 2:
            stated = replace(stated, pcesvn=chance.choice([0, 10, 11, 12, 255, 256, 65535]))
        case 3:
            stated = replace(stated, fmspc=chance.randbytes(6))
        case _:
            stated = replace(stated, pceid=chance.randbytes(2))
    recipe.place = recipe.place.reissued("pck", NOW, platform=stated)


def ended_certificate(recipe: Recipe, chance: random.Random) -> None:
    recipe.place = recipe.place.reissued("pck", NOW - chance.choice([3648, 3649, 3650, 3700]) * DAY)


def quoting_enclave(recipe: Recipe, chance: random.Random) -> None:
    match chance.randrange(3):
        case 0:
            recipe.enclave["svn"] = chance.choice([0, 1, 3, 4, 5, 65535])
        case 1:
            recipe.enclave["product"] = chance.choice([0, 1, 2, 3])
        case _:
            recipe.enclave["mrsigner"] = chance.randbytes(32)


def vendor(recipe: Recipe, chance: random.Random) -> None:
    recipe.body["vendor"] = chance.randbytes(16)


def document_family(recipe: Recipe, chance: random.Random) -> None:
    name = chance.choice(["fmspc", "pceId"])
    recipe.documents["tcb_info"][name] = chance.randbytes(6 if name == "fmspc" else 2).hex().upper()


def document_form(recipe: Recipe, chance: random.Random) -> None:
    document = chance.choice(["tcb_info", "qe_identity"])
    name, value = chance.choice(
        [("id", "SGX"), ("id", "TDX"), ("id", "QE"), ("id", "TD_QE"), ("id", None), ("version", 1), ("version", 2),
         ("version", 4), ("tcbEvaluationDataNumber", 7), ("tcbEvaluationDataNumber", None), ("tcbType", 1), ("extra", [1])]
    )  # fmt: skip
    recipe.documents[document][name] = value


def document_time(recipe: Recipe, chance: random.Random) -> None:
    document, name = chance.choice(["tcb_info", "qe_identity"]), chance.choice(["issueDate", "nextUpdate"])
    moment = datetime.fromtimestamp(NOW + chance.choice([-2, -1, 0, 1, 2, DAY, -DAY]), UTC)
    recipe.documents[document][name] = moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def statuses(recipe: Recipe, chance: random.Random) -> None:
    """Other words for the levels of the platform, or other advisories."""
    levels = _levels(recipe, "tcb_info")
    for level in levels:
        if chance.random() < 0.7:
            level["tcbStatus"] = chance.choice(STATUSES)
        if chance.random() < 0.3:
            level["advisoryIDs"] = [f"INTEL-SA-{chance.randrange(5)}" for _ in range(chance.randrange(3))]
    if chance.random() < 0.1:
        levels.pop()
    recipe.documents["tcb_info"]["tcbLevels"] = levels


def level_order(recipe: Recipe, chance: random.Random) -> None:
    """The levels of the platform in another order than Intel's."""
    levels = recipe.documents["tcb_info"].get("tcbLevels") or _levels(recipe, "tcb_info")
    chance.shuffle(levels)
    recipe.documents["tcb_info"]["tcbLevels"] = levels


def enclave_statuses(recipe: Recipe, chance: random.Random) -> None:
    levels = _levels(recipe, "qe_identity")
    levels[0]["tcbStatus"] = chance.choice(STATUSES)
    levels[0]["tcb"]["isvsvn"] = chance.choice([0, 4, 5])
    recipe.documents["qe_identity"]["tcbLevels"] = levels


def enclave_identity(recipe: Recipe, chance: random.Random) -> None:
    name, length = chance.choice(
        [("miscselect", 4), ("miscselectMask", 4), ("attributes", 16), ("attributesMask", 16), ("mrsigner", 32)]
    )
    recipe.documents["qe_identity"][name] = chance.choice([bytes(length), chance.randbytes(length)]).hex()


def foreign_signer(recipe: Recipe, chance: random.Random) -> None:
    """A document signed by somebody else of the same hierarchy, with their own chain."""
    document, role = chance.choice(["tcb_info", "qe_identity"]), chance.choice(["pck", "platform-ca"])
    place = recipe.place

    def sign(collateral: IntelCollateral) -> IntelCollateral:
        signature = sign_raw(place.keys[role], getattr(collateral, document).encode())
        chain = place.pck_chain.decode() if role == "pck" else collateral.pck_crl_chain
        return replace(collateral, **{f"{document}_signature": signature, f"{document}_chain": chain})

    recipe.after.append(sign)


def lists(recipe: Recipe, chance: random.Random) -> None:
    """Other revocation lists: somebody is revoked, ended, not yet begun, of the other CA, or exchanged."""
    place, choice = recipe.place, chance.randrange(5)
    role = chance.choice(["pck", "platform-ca", "tcb-signing"])

    def change(collateral: IntelCollateral) -> IntelCollateral:
        match choice:
            case 0:
                found = place.collateral(NOW, kind=recipe.kind, revoked=(role,))
                return replace(collateral, root_ca_crl=found.root_ca_crl, pck_crl=found.pck_crl)
            case 1:
                return replace(collateral, pck_crl=place.crl("platform-ca", issued=NOW - 2 * DAY, until=NOW - 1))
            case 2:
                return replace(collateral, root_ca_crl=place.crl("root", issued=NOW - 2 * DAY, until=NOW - 1))
            case 3:
                return replace(collateral, pck_crl=place.crl("platform-ca", issued=NOW + 60, until=NOW + DAY))
            case _:
                return replace(collateral, pck_crl=collateral.root_ca_crl, root_ca_crl=collateral.pck_crl)

    recipe.after.append(change)


def list_chain(recipe: Recipe, chance: random.Random) -> None:
    chain = chance.choice(["", "tcb_info_chain", "root"])

    def change(collateral: IntelCollateral) -> IntelCollateral:
        text = recipe.place.root_pem.decode() if chain == "root" else getattr(collateral, chain, "")
        return replace(collateral, pck_crl_chain=text)

    recipe.after.append(change)


def tail(recipe: Recipe, chance: random.Random) -> None:
    """Something behind the end of the quote, or its end missing."""
    extra, cut = chance.choice([b"\0", bytes(100), b"x", b""]), chance.randint(1, 5)
    recipe.tail = lambda quote: quote + extra if extra else quote[:-cut]


def flipped(recipe: Recipe, chance: random.Random) -> None:
    """One bit somewhere in the finished quote."""
    at, bit = chance.random(), chance.randrange(8)

    def flip(quote: bytes) -> bytes:
        out = bytearray(quote)
        out[int(at * len(out))] ^= 1 << bit
        return bytes(out)

    recipe.tail = flip


def td_attributes(recipe: Recipe, chance: random.Random) -> None:
    recipe.body["attributes"] = chance.sample([*range(64), 0, 4, 5, 6, 17, 29, 30, 31, 63], chance.choice([1, 1, 2]))


def sept_ve(recipe: Recipe, _: random.Random) -> None:
    recipe.body["sept_ve_disable"] = False


def td_svn(recipe: Recipe, chance: random.Random) -> None:
    recipe.body["tee_tcb_svn"] = _svn(chance)


def td_svn_now(recipe: Recipe, chance: random.Random) -> None:
    """A TD report 1.5, mostly of a TD that was launched with something old."""
    recipe.body["tee_tcb_svn2"] = _svn(chance)
    if chance.random() < 0.6:
        recipe.body["tee_tcb_svn"] = tcb.TEE_TCB_SVN_OUT_OF_DATE


def service_td(recipe: Recipe, chance: random.Random) -> None:
    recipe.body |= {"tee_tcb_svn2": tcb.TEE_TCB_SVN, "mr_service_td": chance.choice([bytes(48), chance.randbytes(48)])}


def extended(recipe: Recipe, chance: random.Random) -> None:
    recipe.body |= {"tee_tcb_svn2": tcb.TEE_TCB_SVN, "service_tds": chance.choice([bytes(237), chance.randbytes(237)])}


def module(recipe: Recipe, chance: random.Random) -> None:
    """Another module than Intel names, or other words about it."""
    if chance.random() < 0.4:
        recipe.body["mrsignerseam"] = chance.choice([bytes([1]) * 48, bytes(48)])
        return
    info = tcb.tcb_info(recipe.place.platform, "", "")
    identities = info["tdxModuleIdentities"]
    match chance.randrange(4):
        case 0:
            identities[0]["tcbLevels"][0]["tcbStatus"] = chance.choice(STATUSES)
        case 1:
            identities[0]["id"] = chance.choice(["TDX_02", "tdx_01", "TDX_1", ""])
        case 2:
            identities.append(identities[0])
        case _:
            identities.clear()
    recipe.documents["tcb_info"]["tdxModuleIdentities"] = identities


def enclave_attributes(recipe: Recipe, chance: random.Random) -> None:
    recipe.body["attributes"] = chance.sample([*range(64), 1, 3, 4, 5, 6, 7, 10], chance.choice([1, 1, 2]))


def enclave_identifiers(recipe: Recipe, chance: random.Random) -> None:
    recipe.body |= {
        "mrsigner": chance.randbytes(32),
        "isvprodid": chance.randrange(65536),
        "isvsvn": chance.randrange(65536),
    }


def enclave_configuration(recipe: Recipe, chance: random.Random) -> None:
    recipe.body |= {
        "config_id": chance.randbytes(64),
        "config_svn": chance.randrange(65536),
        "miscselect": chance.randbytes(4),
        "xfrm": chance.randbytes(8),
    }


STATUSES = [
    "UpToDate", "SWHardeningNeeded", "ConfigurationNeeded", "ConfigurationAndSWHardeningNeeded", "OutOfDate",
    "OutOfDateConfigurationNeeded", "Revoked", "Excellent", "TDRelaunchAdvised",
]  # fmt: skip
BOTH = [
    time, platform, ended_certificate, quoting_enclave, vendor, document_family, document_form, document_time, statuses, level_order,
    enclave_statuses, enclave_identity, foreign_signer, lists, list_chain, tail, flipped,
]  # fmt: skip
TDX = [td_attributes, sept_ve, td_svn, td_svn_now, td_svn_now, service_td, extended, module]
SGX = [enclave_attributes, enclave_identifiers, enclave_configuration]


def _svn(chance: random.Random) -> bytes:
    """A TEE_TCB_SVN whose module, generation and platform are around those of the simulated levels."""
    return bytes(
        [chance.choice([0, 1, 3, 4, 5, 6]), chance.choice([0, 1, 1, 1, 2]), chance.choice([0, 1, 3, 5, 6])]
    ) + bytes(13)


def _levels(recipe: Recipe, document: str) -> list[dict[str, Any]]:
    text = getattr(recipe.place.collateral(NOW, kind=recipe.kind), document)
    return list(json.loads(text)["tcbLevels"])
