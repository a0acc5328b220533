import json
from dataclasses import replace
from datetime import datetime

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from vendors import numbers, renumbered, resigned

from strongroom.collateral.checks import Checks, EvaluationNumber, Floor, evaluation_numbers
from strongroom.collateral.fetchers.intel import cut_signed
from strongroom.collateral.items import (
    AmdChain,
    AmdCrl,
    EvaluationNumbers,
    Part,
    PckCrl,
    PlacedCrl,
    QeIdentity,
    TcbInfo,
)
from strongroom.crypto import x509
from strongroom.errors import MalformedEvidence, SignatureInvalid
from strongroom.tee.anchors import VENDOR_ANCHORS, TrustAnchor, installation_anchor
from strongroom_sim.ca import sign_raw
from strongroom_sim.snp import SnpChip

NOW = 1_790_000_000
REFUSED = (SignatureInvalid, MalformedEvidence)


@pytest.fixture
def tcb_info(parts):
    return next((item, part) for item, part in parts.items() if isinstance(item, TcbInfo))


@pytest.fixture
def identity(parts):
    return next((item, part) for item, part in parts.items() if isinstance(item, QeIdentity))


# --- all of them ------------------------------------------------------------------------------------------------------


def test_good_parts_hold_from_their_issue_until_the_first_end_above_them(checks, parts, installation):
    found = {item.name: checks(item, part, NOW) for item, part in parts.items()}
    assert len(found) == 7
    tcb = found["intel/tdx/tcb/73696d000000/standard"]
    assert (tcb.starts, tcb.ends) == (NOW - 3600, NOW + 30 * 86_400)
    chain_end = min(
        int(c.not_valid_after_utc.timestamp()) for c in x509.load_chain(installation.collateral(NOW).tcb_info_chain)
    )
    assert chain_end > tcb.ends
    long = installation.collateral(NOW, life=20 * 365 * 86_400)
    part = Part(long.tcb_info.encode(), long.tcb_info_signature, long.tcb_info_chain)
    assert checks(TcbInfo("tdx", b"sim\0\0\0", "standard"), part, NOW).ends == chain_end


def test_floors_belong_to_a_series_under_one_root(checks, parts, anchors):
    floors = {item.name: checks(item, part, NOW).floor for item, part in parts.items()}
    root = anchors[0].fingerprint
    assert floors["intel/tdx/tcb/73696d000000/standard"] == Floor(f"intel/tdx/tcb/73696d000000/{root}", "1", NOW - 3600)
    assert floors["intel/tdx/qe/standard"] == Floor(f"intel/tdx/qe/{root}", "1", NOW - 3600)
    assert [name for name, floor in floors.items() if floor is None] == [
        "amd/Milan/vcek/chain",
        next(name for name in floors if name.startswith("amd/Milan/vcek/") and name.count("/") == 4),
    ]
    series = {floor.series for floor in floors.values() if floor is not None}
    assert len(series) == 5


def test_a_number_that_is_not_decimal_is_no_floor():
    for number in ("", "x", "1.5", "-2", "9" * 60, "٣"):
        with pytest.raises(ValueError, match="decimal"):
            Floor("series", number, 0)
    assert Floor("a", "-1", 5).position < Floor("a", "0", 1).position < Floor("a", "0", 2).position


@pytest.mark.parametrize("shift", [-2 * 86_400, 31 * 86_400, 20 * 365 * 86_400])
def test_nothing_holds_before_its_issue_or_after_its_end(checks, parts, shift):
    for item, part in parts.items():
        lasting = item.lasting and shift == 31 * 86_400
        if not lasting:
            with pytest.raises(REFUSED):
                checks(item, part, NOW + shift)


def test_without_anchors_nothing_holds(parts):
    for item, part in parts.items():
        with pytest.raises(SignatureInvalid, match="not among the trust anchors"):
            Checks(())(item, part, NOW)


def test_an_anchor_of_another_kind_is_none(parts, anchors):
    swapped = [replace(anchor, kind={"tdx": "snp", "snp": "tdx"}[anchor.kind]) for anchor in anchors]
    for item, part in parts.items():
        with pytest.raises(SignatureInvalid):
            Checks(swapped)(item, part, NOW)


def test_a_foreign_signer_is_refused(checks, stranger, parts):
    other = stranger.collateral(NOW)
    strange = {
        "tcb": Part(other.tcb_info.encode(), other.tcb_info_signature, other.tcb_info_chain),
        "qe": Part(other.qe_identity.encode(), other.qe_identity_signature, other.qe_identity_chain),
        "pck-crl": Part(other.pck_crl, b"", other.pck_crl_chain),
        "root-crl": Part(other.root_ca_crl, b"", other.pck_crl_chain),
    }
    for item, good in parts.items():
        key = next((name for name in strange if f"/{name}" in item.name), None)
        if key is not None:
            for part in (
                strange[key],
                replace(strange[key], chain=good.chain),
                replace(good, chain=strange[key].chain),
            ):
                with pytest.raises(SignatureInvalid):
                    checks(item, part, NOW)


def test_no_flipped_bit_is_accepted(checks, parts):
    for item, part in parts.items():
        for name in ("body", "signature"):
            data = getattr(part, name)
            for place in range(0, len(data), max(1, len(data) // 23)):
                flipped = data[:place] + bytes([data[place] ^ 0x10]) + data[place + 1 :]
                with pytest.raises(REFUSED):
                    checks(item, replace(part, **{name: flipped}), NOW)


def test_a_chain_cut_swapped_or_doubled_is_refused(checks, parts):
    for item, part in parts.items():
        pems = [c.public_bytes(Encoding.PEM).decode() for c in x509.load_chain(part.chain)]
        for chain in ("", "rain", pems[0], pems[1], pems[1] + pems[0], pems[0] * 2 + pems[1], part.chain + pems[1]):
            with pytest.raises(REFUSED):
                checks(item, replace(part, chain=chain), NOW)


# --- Intel ------------------------------------------------------------------------------------------------------------


def test_known_failure_a_signer_of_another_role_is_refused(checks, installation, tcb_info, identity):
    """Role confusion: a document signed by a certificate that is genuine but not for signing TCB info."""
    chain = installation.pck_chain.decode()
    two = "".join(c.public_bytes(Encoding.PEM).decode() for c in x509.load_chain(chain)[1:])
    for item, part in (tcb_info, identity):
        for name, above in (("pck", chain), ("platform-ca", two)):
            forged = Part(part.body, sign_raw(installation.keys[name], part.body), above)
            with pytest.raises(SignatureInvalid):
                checks(item, forged, NOW)


def test_a_document_that_was_not_asked_for_is_refused(checks, tcb_info, identity):
    item, part = tcb_info
    for other in (replace(item, fmspc=bytes(6)), replace(item, kind="sgx"), replace(item, track="2")):
        with pytest.raises(MalformedEvidence):
            checks(other, part, NOW)
    with pytest.raises(MalformedEvidence):
        checks(item, identity[1], NOW)
    with pytest.raises(MalformedEvidence):
        checks(identity[0], part, NOW)
    with pytest.raises(MalformedEvidence):
        checks(replace(identity[0], kind="sgx"), identity[1], NOW)
    assert checks(replace(item, track="1"), part, NOW).floor.number == "1"


@pytest.mark.parametrize(
    "changes",
    [
        {"version": 9},
        {"issueDate": "yesterday"},
        {"nextUpdate": 5},
        {"tcbEvaluationDataNumber": "18"},
        {"tcbLevels": 1},
    ],
)
def test_a_signed_document_in_another_form_is_refused(checks, installation, tcb_info, changes):
    item, part = tcb_info
    text, signature = resigned(installation, part.body.decode(), **changes)
    with pytest.raises(MalformedEvidence):
        checks(item, Part(text.encode(), signature, part.chain), NOW)


def test_a_pck_crl_of_the_other_ca_is_refused(checks, parts):
    part = next(part for item, part in parts.items() if isinstance(item, PckCrl))
    with pytest.raises(SignatureInvalid):
        checks(PckCrl("processor"), part, NOW)


def test_one_crl_is_not_the_other(checks, parts):
    pck, root = (next(i for i in parts if i.name.startswith(name)) for name in ("intel/pck-crl", "intel/root-crl"))
    for item, part in ((pck, parts[root]), (root, parts[pck])):
        with pytest.raises(SignatureInvalid, match="is not of"):
            checks(item, part, NOW)


def test_evaluation_numbers_come_newest_first_and_their_newest_is_the_floor(checks, installation, anchors):
    (reply,) = numbers(installation, NOW, (17, 19, 18)).values()
    text, signature = cut_signed(reply.body, "tcbEvaluationDataNumbers")
    part = Part(text.encode(), signature, installation.collateral(NOW).tcb_info_chain)
    facts = checks(EvaluationNumbers("tdx"), part, NOW)
    assert facts.floor == Floor(f"intel/tdx/evaluation-numbers/{anchors[0].fingerprint}", "19", NOW - 60)
    found = evaluation_numbers(part)
    assert [one.number for one in found] == [19, 18, 17]
    assert found[0] == EvaluationNumber(19, NOW - 81_000, NOW - 81_000)
    with pytest.raises(MalformedEvidence):
        checks(EvaluationNumbers("sgx"), part, NOW)
    for changes in ({"tcbEvalNumbers": 1}, {"tcbEvalNumbers": [1]}, {"tcbEvalNumbers": [{}]}, {"version": True}):
        text, signature = resigned(installation, part.body.decode(), **changes)
        with pytest.raises(MalformedEvidence):
            checks(EvaluationNumbers("tdx"), Part(text.encode(), signature, part.chain), NOW)


def test_another_number_is_another_floor(checks, installation, collateral, tcb_info):
    newer = renumbered(installation, collateral, 18)
    part = Part(newer.tcb_info.encode(), newer.tcb_info_signature, newer.tcb_info_chain)
    assert checks(tcb_info[0], part, NOW).floor.number == "18"
    assert json.loads(newer.tcb_info)["tcbEvaluationDataNumber"] == 18


def test_the_real_collateral_of_intel_holds_at_its_time(vectors):
    checks = Checks(VENDOR_ANCHORS)
    chain = (vectors / "tdx/pcs2026-03_tcb_signing_chain.pem").read_text()
    at = 1_775_000_000  # 2026-03-31
    for name, item, member in (
        ("tdx/pcs2026-03_tcbinfo_90c06f000000.json", TcbInfo("tdx", bytes.fromhex("90c06f000000"), "18"), "tcbInfo"),
        ("tdx/pcs2026-03_td_qe_identity.json", QeIdentity("tdx", "standard"), "enclaveIdentity"),
    ):
        text, signature = cut_signed((vectors / name).read_bytes(), member)
        assert checks(item, Part(text.encode(), signature, chain), at).floor.number == "18"
        with pytest.raises(SignatureInvalid):
            checks(item, Part(text.encode(), signature, chain), at + 30 * 86_400)


def test_the_real_sgx_documents_of_intel_hold_at_their_time(vectors):
    checks = Checks(VENDOR_ANCHORS)
    chain = (vectors / "tdx/pcs2026-03_tcb_signing_chain.pem").read_text()
    for name, item, member in (
        ("sgx/00606a_pcs_tcbinfo_2025-08.json", TcbInfo("sgx", bytes.fromhex("00606a000000"), "standard"), "tcbInfo"),
        ("sgx/pcs_sgx_qeidentity_2025-08.json", QeIdentity("sgx", "standard"), "enclaveIdentity"),
    ):
        text, signature = cut_signed((vectors / name).read_bytes(), member)
        at = int(datetime.fromisoformat(json.loads(text)["issueDate"]).timestamp()) + 60
        assert int(checks(item, Part(text.encode(), signature, chain), at).floor.number) >= 17


# --- AMD --------------------------------------------------------------------------------------------------------------


def test_another_chips_certificate_or_another_tcb_is_refused(checks, parts, amd_needs):
    leaf = amd_needs.items[2]
    for other in (
        replace(leaf, hwid=bytes(64)),
        replace(leaf, tcb=leaf.tcb[:7] + b"\x01"),
        replace(leaf, product="Turin"),
    ):
        with pytest.raises(REFUSED):
            checks(other, parts[leaf], NOW)


def test_a_chain_of_another_signer_or_product_is_refused(checks, snp):
    for item in (AmdChain("Milan", "vlek"), AmdChain("Genoa", "vcek"), AmdCrl("Genoa", "vcek")):
        with pytest.raises(SignatureInvalid):
            checks(item, Part(snp.crl(NOW), b"", snp.chain("ask")), NOW)
    assert checks(AmdChain("Milan", "vlek"), Part(b"", b"", snp.chain("asvk")), NOW).ends > NOW


def test_a_crl_by_another_than_the_root_is_refused(checks, snp):
    other = replace(snp, keys={**snp.keys, "ark": snp.keys["ask"]})
    with pytest.raises(SignatureInvalid):
        checks(AmdCrl("Milan", "vcek"), Part(other.crl(NOW), b"", snp.chain("ask")), NOW)


def test_a_vlek_is_no_vcek(checks, snp, amd_needs):
    chip = SnpChip(snp, measurement=bytes(48), now=NOW, vlek=True)
    with pytest.raises(REFUSED):
        checks(amd_needs.items[2], Part(chip.collateral(NOW).leaf, b"", snp.chain("asvk")), NOW)


def test_an_authority_under_another_root_is_refused(snp):
    foreign = Checks([installation_anchor("snp", snp.certificates["ask"].public_bytes(Encoding.PEM))])
    with pytest.raises(SignatureInvalid):
        foreign(AmdChain("Milan", "vcek"), Part(b"", b"", snp.chain("ask")), NOW)


@pytest.mark.parametrize(
    ("product", "leaf", "chain"), [("Milan", "v2_milan.vcek.der", "amd_ask_ark_milan.pem"),
                                   ("Genoa", "v3_genoa.vcek.pem", "amd_ask_ark_genoa.pem"),
                                   ("Turin", "v5_turin.vcek.pem", "amd_ask_ark_turin.pem")]
)  # fmt: skip
def test_the_real_certificates_of_amd_hold_for_their_chip_alone(vectors, product, leaf, chain):
    from strongroom.collateral.items import AmdLeaf
    from strongroom.tee.snp.leaf import parse_leaf

    at, checks = 1_772_000_000, Checks(VENDOR_ANCHORS)
    above = (vectors / "snp" / chain).read_text()
    data = (vectors / "snp" / leaf).read_bytes()
    certificate = x509.load_certificate(data) if leaf.endswith(".der") else x509.load_chain(data)[0]
    said = parse_leaf(certificate)
    item = AmdLeaf(product, said.hwid, said.tcb(product))
    part = Part(certificate.public_bytes(Encoding.DER), b"", above)
    assert checks(AmdChain(product, "vcek"), Part(b"", b"", above), at).ends > at
    assert checks(item, part, at).ends == int(certificate.not_valid_after_utc.timestamp())
    with pytest.raises(SignatureInvalid, match="chip"):
        checks(replace(item, hwid=bytes(len(item.hwid))), part, at)


# --- placed CRLs ------------------------------------------------------------------------------------------------------


def test_a_placed_crl_is_of_someone_in_the_evidences_chain(installation, stranger, collateral):
    anchor = TrustAnchor("tpm", x509.certificate_digest(x509.load_chain(installation.root_pem)[0]), "installation", "")
    checks = Checks([anchor])
    whole = installation.pck_chain.decode()
    item = PlacedCrl("tpm", "maker", whole)
    for crl in (collateral.pck_crl, collateral.root_ca_crl):
        assert checks(item, Part(crl, b"", whole), NOW).floor.series.startswith("crl/sha256:")
    other = stranger.collateral(NOW)
    for part in (
        Part(other.root_ca_crl, b"", whole), Part(other.root_ca_crl, b"", stranger.pck_chain.decode()),
        Part(collateral.pck_crl, b"", collateral.tcb_info_chain), Part(b"rain", b"", whole), Part(other.pck_crl, b"", whole),
    ):  # fmt: skip
        with pytest.raises(REFUSED):
            checks(item, part, NOW)
    with pytest.raises(SignatureInvalid):
        checks(replace(item, kind="nitro"), Part(collateral.pck_crl, b"", whole), NOW)
