"""What an owner may want of an SEV-SNP guest: one case a requirement, and the known attacks that a minimum keeps out."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import pytest

from strongroom.appraisal.kinds.snp import REQUIREMENTS, SNP, exposed, judge, stated, wanted
from strongroom.appraisal.pile import Pile
from strongroom.errors import MalformedEvidence, MalformedRecord
from strongroom.records import codec
from strongroom.records.evidence import Collateral
from strongroom.records.policy.requirement import Requirement
from strongroom.records.policy.snp import PRODUCTS, SnpMinimum, SnpPolicy
from strongroom.records.verdict import Check, Level, Status, all_passed
from strongroom.tee.anchors import installation_anchor
from strongroom.tee.genuine import Genuine
from strongroom.tee.snp import products
from strongroom_sim.snp import MARK, PROVIDER, TCBS, SnpChip, SnpInstallation

NOW = 1_790_000_000
DATA = bytes(range(64))
ZERO, ONE = Requirement(("0",)), Requirement(("1",))
NO_KEY = Requirement(("00" * 48,))
EITHER = Requirement(any="it does not weaken isolation")
MINIMUM = {
    "Milan": SnpMinimum(0, 4, 0, 24, 0xDB, "1.55.29", 0),
    "Turin": SnpMinimum(1, 1, 1, 4, 81, "1.55.29", 0x3F),
}
POLICY = SnpPolicy(
    minimum=MINIMUM,
    debug=ZERO,
    migrate_ma=ZERO,
    smt=ONE,
    single_socket=ZERO,
    cxl=ZERO,
    mem_aes_256_xts=ZERO,
    rapl_dis=ZERO,
    ciphertext_hiding=ZERO,
    page_swap_disable=ZERO,
    platform_smt=ONE,
    tsme=ZERO,
    ecc=ONE,
    platform_rapl_dis=ZERO,
    platform_ciphertext_hiding=ZERO,
    alias_check_complete=ONE,
    iommu_write_safe=ZERO,
    tio=ZERO,
    vmpl=ZERO,
    provisional=ZERO,
    signing_key=Requirement(("vcek",)),
    csp_id=Requirement(("",)),
    family_id=Requirement((MARK.hex(),)),
    image_id=Requirement(("00" * 16,)),
    id_key_digest=NO_KEY,
    author_key_digest=NO_KEY,
    guest_svn_minimum=1,
    guest_abi_minimum="0.31",
)
POLICY_BITS = {
    "smt": 16, "migrate_ma": 18, "debug": 19, "single_socket": 20, "cxl": 21, "mem_aes_256_xts": 22, "rapl_dis": 23,
    "ciphertext_hiding": 24, "page_swap_disable": 25,
}  # fmt: skip
PLATFORM_BITS = {
    "platform_smt": 0, "tsme": 1, "ecc": 2, "platform_rapl_dis": 3, "platform_ciphertext_hiding": 4,
    "alias_check_complete": 5, "iommu_write_safe": 6, "tio": 7,
}  # fmt: skip
TCB = TCBS["Milan"]
OLDER = {part: TCB[:index] + bytes([TCB[index] - 1]) + TCB[index + 1 :] for part, index in
         {"bootloader": 0, "snp": 6, "microcode": 7}.items()}  # fmt: skip
# requirement -> what a report says otherwise
OTHERWISE: dict[str, dict[str, Any]] = {
    **{name: {"policy": 0x3_001F ^ 1 << bit} for name, bit in POLICY_BITS.items()},
    **{name: {"platform_info": 0b10_0101 ^ 1 << bit} for name, bit in PLATFORM_BITS.items()},
    "vmpl": {"vmpl": 1},
    "provisional": {"current_version": bytes((30, 55, 1))},
    "family_id": {"family_id": b"another".ljust(16)},
    "image_id": {"image_id": b"another".ljust(16)},
    "id_key_digest": {"id_key_digest": b"\x01" * 48},
    "author_key_digest": {"author_key_digest": b"\x01" * 48},
    "guest_svn": {"guest_svn": 0},
    "guest_abi": {"policy": 0x3_001E},
    "tcb.bootloader": {"launch_tcb": OLDER["bootloader"]},
    "tcb.snp": {"launch_tcb": OLDER["snp"]},
    "tcb.microcode": {"launch_tcb": OLDER["microcode"]},
    "firmware": {"current_version": bytes((28, 55, 1)), "committed_version": bytes((28, 55, 1))},
}


@pytest.fixture(scope="session")
def installations() -> dict[str, SnpInstallation]:
    milan = SnpInstallation.generate(now=NOW)
    others = {p: SnpInstallation.generate(now=NOW, product=p, keys=milan.keys) for p in ("Genoa", "Turin")}
    return {"Milan": milan, **others}


@pytest.fixture(scope="session")
def judged(installations: dict[str, SnpInstallation]) -> Any:
    def judge_chip(product: str = "Milan", **said: Any) -> Genuine:
        installation = installations[product]
        chip = SnpChip(installation, measurement=bytes(48), now=NOW, **said)
        anchor = installation_anchor("snp", installation.root_pem)
        collateral = Collateral(amd=chip.collateral(NOW))
        return judge(chip.report(DATA), b"", collateral=collateral, anchors=[anchor], now=NOW)

    return judge_chip


def refused(checks: list[Check]) -> set[str]:
    return {check.id for check in checks if check.status is not Status.PASS}


def test_what_is_wanted_is_admitted(judged: Any):
    genuine = judged()
    assert all_passed(genuine.checks)
    assert all_passed(wanted(genuine, POLICY))
    assert all_passed(wanted(judged("Turin", version=5), POLICY))
    assert all_passed(exposed(genuine))


def test_every_member_of_the_policy_makes_a_check(judged: Any):
    made = {check.id for check in wanted(judged(), POLICY)}
    members = {field.name for field in fields(SnpPolicy)}
    assert members - {"minimum", "guest_svn_minimum", "guest_abi_minimum"} == set(REQUIREMENTS)
    assert made == {f"policy.snp.{name}" for name in (
        *REQUIREMENTS, "guest_svn", "guest_abi", "product", *(f"tcb.{part}" for part in products.PARTS), "firmware",
        "mitigations",
    )}  # fmt: skip


@pytest.mark.parametrize("name", OTHERWISE)
def test_a_report_that_says_otherwise_is_refused_for_that_alone(judged: Any, name: str):
    genuine = judged(**OTHERWISE[name])
    assert all_passed(genuine.checks)
    assert refused(wanted(genuine, POLICY)) == {f"policy.snp.{name}"}


def test_a_key_of_another_kind_or_provider_is_refused(judged: Any):
    vlek = judged(vlek=True)
    assert refused(wanted(vlek, POLICY)) == {"policy.snp.signing_key", "policy.snp.csp_id"}
    lent = replace(POLICY, signing_key=Requirement(("vlek",)), csp_id=Requirement((PROVIDER,)))
    assert all_passed(wanted(vlek, lent))
    elsewhere = replace(lent, csp_id=Requirement(("CN=elsewhere",)))
    assert refused(wanted(vlek, elsewhere)) == {"policy.snp.csp_id"}


def test_a_product_that_the_policy_does_not_name_is_refused_with_all_its_minima(judged: Any):
    checks = wanted(judged("Genoa"), POLICY)
    assert {check.id for check in checks if check.status is Status.FAIL} == {"policy.snp.product"}
    assert {check.id for check in checks if check.status is Status.NOT_RUN} == {
        *(f"policy.snp.tcb.{part}" for part in products.PARTS), "policy.snp.firmware", "policy.snp.mitigations",
    }  # fmt: skip


@pytest.mark.parametrize("which", ["launch_tcb", "committed_tcb", "current_tcb", "reported_tcb"])
def test_each_of_the_four_tcb_versions_must_reach_the_minimum(judged: Any, which: str):
    """The order among them is no matter here, so some of these are not genuine; the minimum is asked all the same."""
    said: dict[str, Any] = {which: OLDER["microcode"]}
    if which == "reported_tcb":
        said["leaf"] = {"tcb": OLDER["microcode"]}
    asked = replace(POLICY, provisional=EITHER)
    assert refused(wanted(judged(**said), asked)) == {"policy.snp.tcb.microcode"}


def test_a_minimum_of_an_fmc_is_asked_of_turin_alone(judged: Any):
    turin = judged("Turin", version=5)
    for part in products.PARTS:
        higher = replace(MINIMUM["Turin"], **{part: getattr(MINIMUM["Turin"], part) + 1})
        asked = replace(POLICY, minimum={"Turin": higher})
        assert refused(wanted(turin, asked)) == {f"policy.snp.tcb.{part}"}
    with pytest.raises(ValueError, match="FMC"):
        replace(POLICY, minimum={"Milan": replace(MINIMUM["Milan"], fmc=1)})


def test_mitigations_are_bits_that_both_vectors_must_have(judged: Any):
    for said in ({"launch_mitigations": 0x3E}, {"current_mitigations": 0x1F}, {"launch_mitigations": 0x40}):
        assert refused(wanted(judged("Turin", version=5, **said), POLICY)) == {"policy.snp.mitigations"}
    more = judged("Turin", version=5, launch_mitigations=0xFF, current_mitigations=0x7F)
    assert all_passed(wanted(more, POLICY))


def test_mitigations_of_a_report_without_vectors_are_not_run(judged: Any):
    checks = wanted(judged("Turin", version=3), POLICY)
    assert refused(checks) == {"policy.snp.mitigations"}
    assert {check.status for check in checks if check.id == "policy.snp.mitigations"} == {Status.NOT_RUN}


def test_a_report_that_does_not_hold_says_nothing(judged: Any):
    genuine = judged(signer_info=7 << 2)
    assert genuine.claims == {}
    checks = wanted(genuine, POLICY)
    assert {check.status for check in checks} == {Status.NOT_RUN}
    assert {check.status for check in exposed(genuine)} == {Status.NOT_RUN}


def test_a_policy_without_this_kind_refuses_it(judged: Any):
    assert [(check.id, check.status) for check in wanted(judged(), None)] == [("policy.snp", Status.FAIL)]


def test_debug_is_exposed_without_any_policy(judged: Any):
    assert refused(exposed(judged(policy=0xB_001F))) == {"snp.debug"}


def test_badram_an_unchecked_memory_alias_or_firmware_before_the_fix_is_refused(judged: Any):
    """CVE-2024-21944, AMD-SB-3015: Milan's firmware 1.55.22 checks for aliases, and says so in ALIAS_CHECK_COMPLETE."""
    asked = replace(POLICY, minimum={"Milan": replace(MINIMUM["Milan"], firmware="1.55.22")})
    assert all_passed(wanted(judged(), asked))
    assert refused(wanted(judged(platform_info=0b101), asked)) == {"policy.snp.alias_check_complete"}
    before = {"current_version": bytes((21, 55, 1)), "committed_version": bytes((21, 55, 1))}
    assert refused(wanted(judged(**before), asked)) == {"policy.snp.firmware"}
    other_minor = {"current_version": bytes((99, 54, 1)), "committed_version": bytes((99, 54, 1))}
    assert refused(wanted(judged(**other_minor), asked)) == {"policy.snp.firmware"}
    rollback = judged(committed_version=bytes((21, 55, 1)))
    assert refused(wanted(rollback, asked)) == {"policy.snp.firmware", "policy.snp.provisional"}


def test_cachewarp_microcode_before_the_fix_is_refused_also_where_only_the_launch_was_before_it(judged: Any):
    """CVE-2023-20592, AMD-SB-3005, and what came after in microcode: the least of a product is a number in the policy."""
    tcb = OLDER["microcode"]
    all_old = {"current_tcb": tcb, "committed_tcb": tcb, "reported_tcb": tcb, "launch_tcb": tcb, "leaf": {"tcb": tcb}}
    for said in (all_old, {"launch_tcb": tcb}):
        genuine = judged(**said)
        assert all_passed(genuine.checks)
        assert refused(wanted(genuine, POLICY)) == {"policy.snp.tcb.microcode"}


def test_cipherleaks_and_heracles_what_hides_ciphertext_and_forbids_swapping_can_be_demanded(judged: Any):
    asked = replace(POLICY, ciphertext_hiding=ONE, platform_ciphertext_hiding=ONE, page_swap_disable=ONE)
    names = {"ciphertext_hiding", "platform_ciphertext_hiding", "page_swap_disable"}
    assert refused(wanted(judged(), asked)) == {f"policy.snp.{name}" for name in names}
    assert all_passed(wanted(judged(policy=0x301_001F | 1 << 25 | 1 << 17, platform_info=0b11_0101), asked))


def test_stackwarp_a_platform_with_smt_can_be_refused(judged: Any):
    asked = replace(POLICY, smt=ZERO, platform_smt=ZERO)
    assert refused(wanted(judged(), asked)) == {"policy.snp.smt", "policy.snp.platform_smt"}


@pytest.mark.parametrize("changed", [
    {"minimum": {}}, {"minimum": {"Rome": MINIMUM["Milan"]}}, {"guest_abi_minimum": "1"}, {"guest_abi_minimum": "0.031"},
    {"guest_svn_minimum": -1},
])  # fmt: skip
def test_a_policy_that_asks_nothing_or_nonsense_is_no_policy(changed: dict[str, Any]):
    with pytest.raises(ValueError, match=r"minimum|ABI"):
        replace(POLICY, **changed)


@pytest.mark.parametrize("changed", [
    {"snp": 256}, {"tee": -1}, {"firmware": "1.55"}, {"firmware": ""}, {"firmware": "1.55.22-rc"}, {"mitigations": -1},
])  # fmt: skip
def test_a_minimum_that_is_no_number_is_refused(changed: dict[str, Any]):
    with pytest.raises(ValueError, match=r"TCB version|firmware"):
        replace(MINIMUM["Milan"], **changed)


def test_a_policy_travels():
    assert codec.decode(SnpPolicy, codec.encode(POLICY)) == POLICY
    members = codec.to_json(POLICY)
    for missing in members:
        with pytest.raises(MalformedRecord):
            codec.from_json(SnpPolicy, {name: member for name, member in members.items() if name != missing})
    with pytest.raises(MalformedRecord):
        codec.from_json(SnpPolicy, {**members, "debug": []})
    with pytest.raises(MalformedRecord):
        codec.from_json(SnpPolicy, {**members, "minimum": {}})


def test_products_of_policies_and_of_reports_are_the_same():
    assert PRODUCTS == products.PRODUCTS


def test_what_a_report_states_is_what_is_claimed_of_it(judged: Any, installations: Any):
    chip = SnpChip(installations["Milan"], measurement=bytes(48), now=NOW)
    said = stated(chip.report(DATA))
    genuine = judged()
    assert said.keys() == genuine.claims.keys() - {"signing_key", "csp_id"}
    assert (said["product"], said["report_data"], said["measurement"]) == ("Milan", DATA.hex(), "00" * 48)
    assert "product" not in stated(
        SnpChip(installations["Milan"], measurement=bytes(48), now=NOW, version=2).report(DATA)
    )
    for data in (b"", bytes(1184)):
        with pytest.raises(MalformedEvidence):
            stated(data)


def test_what_belongs_to_a_report_is_gathered_by_who_signed_it(installations: Any):
    installation = installations["Milan"]
    pile = Pile()
    chips = {vlek: SnpChip(installation, measurement=bytes(48), now=NOW, vlek=vlek) for vlek in (False, True)}
    for chip in chips.values():
        collateral = chip.collateral(NOW)
        for piece in (collateral.leaf, collateral.chain.encode(), collateral.crl):
            pile.add(piece)
    for chip in chips.values():
        report = chip.report(DATA)
        found = SNP.gather(report, pile)
        genuine = SNP.judge(
            report, b"", collateral=found, anchors=[installation_anchor("snp", installation.root_pem)], now=NOW
        )
        assert all_passed(genuine.checks)
    unsigned = SnpChip(installation, measurement=bytes(48), now=NOW, signer_info=7 << 2).report(DATA)
    assert SNP.gather(unsigned, pile).amd is None


def test_the_kind_is_what_the_design_says():
    assert (SNP.name, SNP.level, SNP.registers) == ("snp", Level.CONFIDENTIAL, ("measurement",))
    assert (SNP.runtime, SNP.launch_spec, SNP.machine) == (None, ("host_data", "sha256"), ("chip_id",))
