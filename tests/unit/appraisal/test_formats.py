"""Evidence and collateral in the forms in which people have them; what is none of these is unreadable, and nothing else."""

from __future__ import annotations

import base64
import json
import random
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from strongroom.appraisal.formats import collateral_of, of_bundle, read
from strongroom.appraisal.gather import read_anchors
from strongroom.appraisal.kinds import KINDS
from strongroom.appraisal.pile import Pile
from strongroom.crypto import x509
from strongroom.errors import MalformedEvidence, MalformedRecord, Unreadable
from strongroom.records import codec
from strongroom.records.evidence import Collateral
from strongroom.records.verdict import RootClass
from strongroom_sim import Installation
from strongroom_sim.cca import CcaPlatform
from strongroom_sim.conformance import Subject, mutate
from strongroom_sim.nitro import NitroCloud
from strongroom_sim.snp import SnpInstallation
from strongroom_sim.subjects import Hardware, subjects
from strongroom_sim.tpm import TpmMaker

NOW = 1_790_000_000
RAW = ("tdx", "sgx", "snp", "nitro", "cca")
"""Kinds whose evidence is recognised by its own first bytes; the others come in records."""


@pytest.fixture(scope="module")
def hardware() -> Hardware:
    return Hardware(
        Installation.ephemeral(NOW),
        SnpInstallation.generate(now=NOW),
        TpmMaker.generate(now=NOW),
        NitroCloud.create(now=NOW),
        CcaPlatform(),
        NOW,
    )


@pytest.fixture(scope="module")
def every(hardware: Hardware) -> dict[str, Subject]:
    return subjects(hardware)


@pytest.mark.parametrize("kind", RAW)
def test_a_kind_is_recognised_in_binary_hexadecimal_and_base64(every: dict[str, Subject], kind: str):
    quote = every[kind].good.quote
    spellings = (
        quote,
        quote.hex().encode(),
        b"0x" + quote.hex().upper().encode(),
        base64.b64encode(quote),
        base64.urlsafe_b64encode(quote).rstrip(b"="),
        base64.encodebytes(quote),
    )
    for data in spellings:
        found = read(data)
        assert (found.kind, found.quote) == (kind, quote)


def test_records_of_our_own_are_recognised(every: dict[str, Subject]):
    assert read(every["tpm"].good.quote).kind == "tpm"


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_gathered_from_a_bundle_is_what_it_holds(every: dict[str, Subject], kind: str):
    good = every[kind].good
    pile = Pile(now=NOW)
    pile.add(codec.encode(good.collateral))
    assert KINDS[kind].gather(good.quote, pile) == good.collateral


def test_pieces_of_amds_hierarchy_come_together_in_any_order(every: dict[str, Subject], hardware: Hardware):
    good = every["snp"].good
    amd = good.collateral.amd
    assert amd is not None
    pieces = [amd.leaf, *(c.public_bytes(Encoding.DER) for c in x509.load_chain(amd.chain)), amd.crl]
    pieces.append(amd.chain.encode())
    chance = random.Random(1)
    for _ in range(5):
        chance.shuffle(pieces)
        pile = Pile(now=NOW)
        for piece in pieces:
            pile.add(piece)
        assert KINDS["snp"].gather(good.quote, pile) == good.collateral
    assert hardware.amd.root_pem


def test_of_two_chips_the_right_certificate_is_taken(hardware: Hardware):
    from strongroom_sim.snp import SnpChip

    elsewhere = SnpInstallation.generate(now=NOW)
    chips = [SnpChip(place, measurement=bytes(48), now=NOW) for place in (hardware.amd, elsewhere)]
    roots = [hardware.amd.root_pem, elsewhere.root_pem]
    for chip, root in zip(chips, roots, strict=True):
        for order in (chips, chips[::-1]):
            pile = Pile(now=NOW)
            for found in (one.collateral(NOW) for one in order):
                for piece in (found.leaf, found.chain.encode(), found.crl):
                    pile.add(piece)
            report = chip.report(bytes(64))
            told = KINDS["snp"].gather(report, pile)
            genuine = KINDS["snp"].judge(report, b"", collateral=told, anchors=read_anchors(root), now=NOW)
            assert genuine.holds


def test_of_several_documents_the_one_that_holds_then_is_taken(hardware: Hardware, every: dict[str, Subject]):
    day = 86_400
    pile = Pile(now=NOW)
    for when in (NOW, NOW + 90 * day, NOW + 180 * day):
        pile.add(codec.encode(Collateral(intel=hardware.intel.collateral(when))))
    good = every["tdx"].good
    for when in (NOW, NOW + 90 * day, NOW + 180 * day):
        pile.now = when
        found = KINDS["tdx"].gather(good.quote, pile)
        assert every["tdx"].judge(good, now=when).holds is (when == NOW)
        assert KINDS["tdx"].judge(good.quote, b"", collateral=found, anchors=every["tdx"].anchors, now=when).holds


def test_what_a_bundle_says_of_itself_is_not_believed_of_another_kind(every: dict[str, Subject]):
    pile = Pile(bundles=[every["snp"].good.collateral])
    assert KINDS["tdx"].gather(every["tdx"].good.quote, pile).intel is None


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b" ",
        b"nonsense",
        b"{}",
        b"[]",
        b'{"quote":"zz"}',
        b'{"quote":5}',
        b'{"hcl_report":1,"tpm_quote":2}',
        b"\0" * 1184,
    ],
)
def test_what_is_no_evidence_is_unreadable(data: bytes):
    with pytest.raises(Unreadable):
        read(data)


@pytest.mark.parametrize(
    "data", [b"", b"{}", b'{"tcbInfo":{}}', b"-----BEGIN X-----\n", b"zz", b'{"kty":"EC"}', b"[1]"]
)
def test_what_is_no_collateral_is_unreadable(data: bytes):
    with pytest.raises(Unreadable):
        Pile().add(data)


def test_too_much_is_not_read_at_all():
    with pytest.raises(MalformedEvidence, match="limit"):
        read(b"\x04" * (4 * 1024 * 1024 + 1))
    with pytest.raises(MalformedRecord):
        Pile().add(b"{" * (4 * 1024 * 1024 + 1))


@pytest.mark.parametrize("kind", KINDS)
def test_readers_are_total(every: dict[str, Subject], kind: str):
    chance = random.Random(kind)
    good = every[kind].good
    for data in (good.quote, codec.encode(good.collateral)):
        for _ in range(150):
            changed = mutate(data, chance)
            for reader in (read, Pile().add, read_anchors):
                try:
                    reader(changed)
                except Unreadable:
                    continue


def test_anchors_are_certificates_or_keys_and_always_an_installations(hardware: Hardware):
    found = read_anchors(hardware.intel.root_pem)
    assert {anchor.kind for anchor in found} == {"tdx", "sgx", "snp", "tpm", "nitro"}
    assert {anchor.root_class for anchor in found} == {RootClass.INSTALLATION}


def test_a_vendors_root_that_an_operator_names_stays_the_vendors(vectors: Path):
    chain = (vectors / "tdx/pcs2026-03_tcb_signing_chain.pem").read_text()
    root = "-----BEGIN CERTIFICATE-----" + chain.rsplit("-----BEGIN CERTIFICATE-----", 1)[1]
    classes = {anchor.kind: anchor.root_class for anchor in read_anchors(root.encode())}
    assert classes["tdx"] is RootClass.SILICON
    assert classes["snp"] is RootClass.INSTALLATION


def test_intels_documents_are_cut_out_byte_for_byte(hardware: Hardware):
    intel = hardware.intel.collateral(NOW)
    odd = intel.tcb_info.replace(',"', ' ,\n "').replace("}", " }")
    for text in (intel.tcb_info, odd):
        pile = Pile()
        pile.add(b'{"signature":"' + intel.tcb_info_signature.hex().encode() + b'", "tcbInfo": ' + text.encode() + b"}")
        assert pile.tcb_infos[0].text == text
    tricky = json.dumps({"note": 'a "}" and a { in text \\" }', "fmspc": "00"})
    pile = Pile()
    pile.add(b'{"tcbInfo":' + tricky.encode() + b',"signature":"00"}')
    assert pile.tcb_infos[0].text == tricky


def test_a_bundle_brings_its_own_collateral(every: dict[str, Subject]):
    class Bundle:
        """What `of_bundle` asks of one."""

        evidence: Any = type("E", (), {"kind": "tdx", "quote": every["tdx"].good.quote, "log": b""})()
        collateral = every["tdx"].good.collateral

    found = of_bundle(Bundle())  # type: ignore[arg-type]
    assert collateral_of(found, Pile()) == every["tdx"].good.collateral
