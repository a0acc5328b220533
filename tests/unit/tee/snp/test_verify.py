"""The procedure under a simulated installation: each doubt is a check, and known failures of others do not come back."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from strongroom.errors import Unreadable
from strongroom.records.verdict import RootClass, Status, all_passed
from strongroom.tee.anchors import VENDOR_ANCHORS, TrustAnchor, installation_anchor
from strongroom.tee.genuine import NO_CRL, Genuine
from strongroom.tee.snp import endorsement, parse_report, products, verify
from strongroom_sim.certificates import name
from strongroom_sim.snp import PROVIDER, TCBS, SnpChip, SnpInstallation, certify_authority

DATA = bytes(range(64))
YEAR = 366 * 86_400


def failures(genuine: Genuine) -> set[str]:
    return {check.id for check in genuine.checks if check.status is Status.FAIL}


def outcome(genuine: Genuine, identifier: str) -> Status:
    (found,) = [check for check in genuine.checks if check.id == identifier]
    return found.status


def detail(genuine: Genuine, identifier: str) -> str:
    (found,) = [check for check in genuine.checks if check.id == identifier]
    return found.detail


@pytest.mark.parametrize("product", ["Milan", "Genoa", "Turin"])
@pytest.mark.parametrize("version", [2, 3, 5])
@pytest.mark.parametrize("vlek", [False, True], ids=["vcek", "vlek"])
def test_a_good_report_is_genuine(places: Any, product: str, version: int, vlek: Any):
    genuine = places[product].judge_chip(version=version, vlek=vlek)
    assert all_passed(genuine.checks)
    assert (genuine.kind, genuine.root_class, genuine.tcb_status) == ("snp", RootClass.INSTALLATION, None)
    assert genuine.claims["product"] == product
    assert genuine.claims["signing_key"] == ("vlek" if vlek else "vcek")
    assert genuine.claims["csp_id"] == (PROVIDER if vlek else "")
    assert bool(genuine.claims["chip_id"]) is not vlek
    assert ("mitigations_current" in genuine.claims) is (version == 5)
    assert ("tcb_reported_fmc" in genuine.claims) is (product == "Turin")
    assert genuine.claims["tcb_reported_microcode"] == TCBS[product][7]


@pytest.mark.parametrize(("family", "model", "product"), [
    (0x19, 0x00, "Milan"), (0x19, 0x01, "Milan"), (0x19, 0x0F, "Milan"), (0x19, 0x11, "Genoa"), (0x19, 0xA0, "Genoa"),
    (0x19, 0xAF, "Genoa"), (0x1A, 0x02, "Turin"), (0x1A, 0x11, "Turin"), (0x19, 0x20, None), (0x19, 0xB0, None),
    (0x1A, 0x20, None), (0x1A, 0x50, None), (0x17, 0x31, None), (0, 0, None),
])  # fmt: skip
def test_the_product_of_a_cpuid(family: int, model: int, product: str | None):
    assert products.of_cpuid(family, model) == product


@pytest.mark.parametrize("model", [0x11, 0xA0, 0xA1])
def test_bergamo_and_siena_are_genoa(places: Any, model: int):
    assert all_passed(places["Genoa"].judge_chip(cpuid=bytes((0x19, model, 2))).checks)


@pytest.mark.parametrize("cpuid", [(0x19, 0x11, 0), (0x1A, 2, 0), (0x1A, 0x50, 0), (0, 0, 0)])
def test_a_cpuid_of_another_or_an_unknown_product_is_refused(place: Any, cpuid: tuple[int, int, int]):
    genuine = place.judge_chip(cpuid=bytes(cpuid))
    assert failures(genuine) == {"snp.product"}
    assert "product" not in genuine.claims
    assert not any(name.startswith("tcb_reported_") for name in genuine.claims)


@pytest.mark.parametrize("certified", ["Milan-B0", "Milan-B1", "Milan"])
def test_a_certified_name_may_have_a_stepping(place: Any, certified: str):
    assert all_passed(place.judge_chip(leaf={"product_name": certified}).checks)


@pytest.mark.parametrize(
    "certified", ["Genoa", "Rome", "Milan-", "Milan-b0", "milan", "MilanX", "Milan-B0-B1", "SEV-Milan"]
)
def test_a_certified_name_of_another_or_an_unknown_product_is_refused(place: Any, certified: str):
    assert failures(place.judge_chip(leaf={"product_name": certified})) == {"snp.product"}


@pytest.mark.parametrize(
    ("ark", "ask"),
    [
        ("ARK-Genoa", "SEV-Milan"),
        ("ARK-Milan", "SEV-Genoa"),
        ("ARK-Rome", "SEV-Milan"),
        ("Some Root", "SEV-Milan"),
        ("ARK-Genoa", "SEV-Genoa"),
    ],
)
def test_the_names_above_the_leaf_must_be_of_the_same_product(place: Any, ark: str, ask: str):
    """All is signed by the right keys, and the root is an anchor: only the names disagree."""
    keys = place.installation.keys
    above = {"ark": ark, "ask": ask, "asvk": "SEV-VLEK-Milan"}
    made = {
        role: certify_authority(name(above[role]), keys[role].public_key(), name(ark), keys["ark"], place.now)
        for role in above
    }
    installation = replace(place.installation, certificates=made)
    chip = SnpChip(installation, measurement=bytes(48), now=place.now)
    anchor = installation_anchor("snp", installation.root_pem)
    genuine = verify(parse_report(chip.report(DATA)), chip.collateral(place.now), [anchor], place.now)
    assert failures(genuine) == {"snp.product"}
    assert "product" not in genuine.claims


def test_go_sev_guest_185_a_missing_product_or_an_empty_root_set_never_lets_a_forged_root_in(place: Any):
    """There, a report without a product had no roots to compare with, and any self-made ARK passed."""
    for version in (2, 3):
        for leaf in ({"members": {"2": None}}, {"product_name": "Rome"}):
            chip, collateral = place.make(version=version, leaf=leaf)
            for anchors in ([], VENDOR_ANCHORS, [replace(place.anchor, kind="tdx")]):
                genuine = verify(parse_report(chip.report(DATA)), collateral, anchors, place.now)
                assert "snp.anchor" in failures(genuine)
                assert genuine.root_class is None
                assert genuine.claims == {}
            genuine = verify(parse_report(chip.report(DATA)), collateral, [place.anchor], place.now)
            assert not all_passed(genuine.checks)


def test_an_empty_set_of_anchors_is_a_failure_that_says_so(place: Any):
    genuine = verify(parse_report(place.chip.report(DATA)), place.collateral, [], place.now)
    assert "no trust anchor" in detail(genuine, "snp.anchor")


def test_a_root_of_another_installation_is_refused_though_it_has_the_same_names(place: Any):
    other = SnpInstallation.generate(now=place.now, keys=place.installation.keys)
    genuine = verify(
        parse_report(place.chip.report(DATA)), place.collateral, [installation_anchor("snp", other.root_pem)], place.now
    )
    assert failures(genuine) == {"snp.anchor"}


def test_a_class_of_the_anchor_is_the_class_of_the_evidence(place: Any):
    silicon = TrustAnchor("snp", place.anchor.fingerprint, RootClass.SILICON, "as if")
    report = parse_report(place.chip.report(DATA))
    assert verify(report, place.collateral, [silicon], place.now).root_class is RootClass.SILICON


def test_without_a_crl_its_check_is_not_run_with_the_reason_and_nothing_is_accepted(place: Any):
    genuine = place.judge(place.chip.report(DATA), replace(place.collateral, crl=b""))
    assert outcome(genuine, "snp.crl") is Status.NOT_RUN
    assert detail(genuine, "snp.crl") == NO_CRL
    assert failures(genuine) == set()
    assert not all_passed(genuine.checks)


@pytest.mark.parametrize(("vlek", "role"), [(False, "ask"), (True, "asvk")])
def test_a_revoked_ask_or_asvk_is_refused(place: Any, vlek: Any, role: str):
    chip, collateral = place.make(vlek=vlek)
    revoked = replace(collateral, crl=place.installation.crl(place.now, revoked=(role,)))
    assert failures(place.judge(chip.report(DATA), revoked)) == {"snp.crl"}
    other = replace(collateral, crl=place.installation.crl(place.now, revoked=("ask" if vlek else "asvk",)))
    assert failures(place.judge(chip.report(DATA), other)) == set()


def test_stale_collateral_is_refused_a_list_holds_from_its_issue_to_its_next_update(place: Any):
    report, life = place.chip.report(DATA), 30 * 86_400
    for now in (place.now - 3_600, place.now, place.now + life):
        assert failures(place.judge(report, now=now)) == set()
    for now in (place.now - 3_601, place.now + life + 1):
        assert failures(place.judge(report, now=now)) == {"snp.crl"}


def test_a_list_of_another_root_or_none_at_all_is_refused(place: Any, places: Any):
    report = place.chip.report(DATA)
    for crl in (places["Genoa"].collateral.crl, b"\x30\x00", place.collateral.crl + b"\0", place.collateral.leaf):
        assert failures(place.judge(report, replace(place.collateral, crl=crl))) == {"snp.crl"}


def test_a_certificate_that_has_expired_is_refused(place: Any):
    chip, collateral = place.make(vlek=True)
    later = place.now + YEAR + 1
    current = replace(collateral, crl=place.installation.crl(later))
    assert failures(place.judge(chip.report(DATA), current, later)) == {"snp.chain"}


def test_a_masked_chip_is_refused_for_a_vcek_and_not_for_a_vlek(place: Any):
    genuine = place.judge_chip(chip_id=bytes(64))
    assert failures(genuine) == {"snp.leaf.chip"}
    assert genuine.claims["chip_id"] == ""
    assert failures(place.judge_chip(vlek=True, chip_id=bytes(64))) == set()


def test_a_turin_chip_id_has_eight_bytes_and_zeros(places: Any):
    turin = places["Turin"]
    hwid = b"\x07" * 8
    assert failures(turin.judge_chip(chip_id=hwid.ljust(64, b"\0"), leaf={"hwid": hwid})) == set()
    octets = b"\x04\x08" + hwid
    assert failures(turin.judge_chip(chip_id=hwid.ljust(64, b"\0"), leaf={"hwid": octets})) == set()
    assert failures(turin.judge_chip(chip_id=hwid.ljust(64, b"\1"), leaf={"hwid": hwid})) == {"snp.leaf.chip"}
    assert failures(turin.judge_chip(chip_id=hwid * 8, leaf={"hwid": hwid * 8})) == {"snp.leaf.chip"}
    assert failures(places["Milan"].judge_chip(chip_id=hwid.ljust(64, b"\0"), leaf={"hwid": hwid})) == {"snp.leaf.chip"}


def test_a_vcek_with_a_provider_or_a_vlek_with_a_chip_is_refused(place: Any):
    assert failures(place.judge_chip(leaf={"provider": PROVIDER})) == {"snp.leaf.chip"}
    assert failures(place.judge_chip(leaf={"hwid": None})) == {"snp.leaf.chip"}
    assert failures(place.judge_chip(vlek=True, leaf={"hwid": bytes(64)})) == {"snp.leaf.chip"}
    assert failures(place.judge_chip(vlek=True, leaf={"provider": None})) == {"snp.leaf.chip"}


@pytest.mark.parametrize("signer_info", [2 << 2, 3 << 2, 6 << 2, 7 << 2, 1 << 2, 0b10])
def test_a_signer_other_than_the_certificate_is_of_is_refused(place: Any, signer_info: int):
    genuine = place.judge_chip(signer_info=signer_info)
    assert failures(genuine) == {"snp.report.signer"}
    assert outcome(genuine, "snp.report.signature") is Status.NOT_RUN
    assert genuine.claims == {}


def test_a_vlek_report_with_the_chips_key_masked_or_an_author_key_is_genuine(place: Any):
    assert failures(place.judge_chip(vlek=True, signer_info=1 << 2 | 0b11)) == set()


@pytest.mark.parametrize(
    "said",
    [
        {"policy": 0x3_0000 | 1 << 26},
        {"policy": 0x3_0000 | 1 << 63},
        {"policy": 0x1_0000},
        {"platform_info": 1 << 8},
        {"platform_info": 1 << 63},
        {"signer_info": 1 << 5},
        {"version": 2, "cpuid": b"\x19\x01\x01"},
        {"version": 3, "launch_mitigations": 1},
        {"version": 3, "current_mitigations": 1},
    ],
)
def test_what_is_not_understood_is_refused(place: Any, said: dict[str, Any]):
    assert failures(place.judge_chip(**said)) == {"snp.report.reserved"}


@pytest.mark.parametrize("offset", [0x4C, 0x4F, 0x18B, 0x19F, 0x1EB, 0x1EF, 0x208, 0x29F])
def test_a_reserved_field_that_is_not_zero_is_refused_though_it_is_signed(place: Any, offset: int):
    signed = bytearray(place.chip.report(DATA)[:672])
    signed[offset] = 1
    assert failures(place.judge(place.chip.sign(bytes(signed)))) == {"snp.report.reserved"}


@pytest.mark.parametrize("vmpl", [4, 0xFFFF_FFFF])
def test_a_report_that_the_host_asked_for_is_refused(place: Any, vmpl: int):
    assert failures(place.judge_chip(vmpl=vmpl)) == {"snp.report.vmpl"}
    assert failures(place.judge_chip(vmpl=3)) == set()


def test_tcb_versions_are_compared_part_by_part(places: Any):
    for place in places.values():
        tcb = TCBS[place.installation.product]
        for index in range(8):
            if tcb[index] == 0:
                continue
            lower = tcb[:index] + bytes([tcb[index] - 1]) + tcb[index + 1 :]
            mixed = lower[:7] + bytes([tcb[7] + 1]) if index != 7 else bytes([tcb[0] + 1]) + lower[1:]
            assert failures(place.judge_chip(committed_tcb=lower)) == set()
            assert failures(place.judge_chip(committed_tcb=mixed)) == {"snp.tcb.committed"}
            assert failures(place.judge_chip(current_tcb=lower, committed_tcb=lower)) == {"snp.tcb.reported"}
            assert failures(place.judge_chip(reported_tcb=lower)) == {"snp.leaf.tcb"}
            assert failures(place.judge_chip(reported_tcb=lower, leaf={"tcb": lower})) == set()


def test_the_levels_of_another_products_layout_are_refused(places: Any):
    turin, milan = (9, 1, 2, 3, 5, 6, 7, 8), (1, 2, 4, 5, 6, 7, 3, 8)
    assert failures(places["Milan"].judge_chip(leaf={"levels": turin})) == {"snp.leaf.tcb"}
    assert failures(places["Turin"].judge_chip(leaf={"levels": milan})) == {"snp.leaf.tcb"}


def test_the_certificates_of_two_chips_do_not_mix(place: Any):
    mine, own = place.make()
    other, theirs = place.make()
    assert failures(place.judge(mine.report(DATA), theirs)) == {"snp.report.signature"}
    assert failures(place.judge(other.report(DATA), own)) == {"snp.report.signature"}


def test_a_vlek_and_a_vcek_do_not_stand_below_each_others_issuer(place: Any):
    for vlek, role in ((False, "asvk"), (True, "ask")):
        chip, collateral = place.make(vlek=vlek)
        wrong = replace(collateral, chain=place.installation.chain(role))
        assert failures(place.judge(chip.report(DATA), wrong)) == {"snp.chain"}


def test_something_else_in_the_place_of_a_leaf_is_refused(place: Any):
    chain = place.collateral.chain
    authority = place.installation.certificates["ask"]
    from cryptography.hazmat.primitives.serialization import Encoding

    der = authority.public_bytes(Encoding.DER)
    for leaf in (der, b"", b"\x30\x00", place.collateral.leaf + b"\0", bytes(9000)):
        assert failures(place.judge(place.chip.report(DATA), replace(place.collateral, leaf=leaf))) == {"snp.chain"}
    for text in ("", chain + chain, "x", chain.replace("\n", "\r"), chain[: len(chain) // 2], "\ud800", "\r\n"):
        genuine = place.judge(place.chip.report(DATA), replace(place.collateral, chain=text))
        assert failures(genuine) == {"snp.anchor"}


def test_zero_as_a_signature_is_refused(place: Any):
    report = place.chip.report(DATA)
    assert failures(place.judge(report[:672] + bytes(512))) == {"snp.report.signature"}
    for scalar in (report[672 : 672 + 72] + bytes(440), bytes(72) + report[744:]):
        assert failures(place.judge(report[:672] + scalar)) == {"snp.report.signature"}


def test_no_flipped_bit_in_a_signed_report_is_accepted(place: Any):
    report = place.chip.report(DATA)
    for position in range(0, 672, 3):
        changed = bytearray(report)
        changed[position] ^= 1 << (position % 8)
        try:
            parsed = parse_report(bytes(changed))
        except Unreadable:
            continue
        genuine = verify(parsed, place.collateral, [place.anchor], place.now)
        assert not all_passed(genuine.checks), f"byte {position}"


def test_debug_and_whatever_policy_judges_is_a_claim_and_no_failure(place: Any):
    genuine = place.judge_chip(policy=0x3FF_0000, platform_info=0xFF, vmpl=2)
    assert all_passed(genuine.checks)
    bits = ("debug", "migrate_ma", "single_socket", "cxl", "page_swap_disable", "tsme", "tio", "iommu_write_safe")
    assert [genuine.claims[name] for name in bits] == [1] * len(bits)
    assert genuine.claims["vmpl"] == 2


def test_cuckoo_a_report_of_another_genuine_machine_is_told_apart_by_its_chip(place: Any):
    mine, other = place.judge_chip(), place.judge_chip()
    assert all_passed(mine.checks)
    assert all_passed(other.checks)
    assert mine.claims["chip_id"] != other.claims["chip_id"]


def test_the_root_is_read_once_for_the_same_text(place: Any):
    assert endorsement.authorities(place.collateral.chain) is endorsement.authorities(place.collateral.chain)
