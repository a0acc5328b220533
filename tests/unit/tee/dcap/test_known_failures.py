"""Failures of other verifiers and known attacks on Intel's TEEs, each by its name: here they are refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from dcap_world import DATA, JUDGES, MRENCLAVE, NOW, Place, collateral_of, failures, make_place, noon, read_quote

from strongroom.appraisal.kinds.sgx import SGX
from strongroom.appraisal.kinds.tdx import TDX
from strongroom.appraisal.policies import template
from strongroom.errors import MalformedEvidence
from strongroom.records.policy import Policy, Reference, Requirement
from strongroom.records.verdict import RootClass, Status, all_passed
from strongroom.tee.anchors import VENDOR_ANCHORS
from strongroom.tee.genuine import Genuine
from strongroom_sim import Chip, Installation, tcb
from strongroom_sim import sgx as simulated
from strongroom_sim.ca import sign_raw
from strongroom_sim.quoting import QuotingEnclave
from strongroom_sim.sgx import SgxEnclave

EMR_02 = "bundles/90c06f_2026-02-05.json"


@pytest.fixture(scope="module")
def td() -> Place:
    return make_place("tdx")


@pytest.fixture(scope="module")
def judged(vectors: Path) -> Callable[[str, str, str], Genuine]:
    """A real TDX quote with a real bundle on a day."""

    def judge(name: str, bundle: str, day: str) -> Genuine:
        collateral = collateral_of((vectors / "tdx" / bundle).read_bytes())
        return JUDGES["tdx"](read_quote(vectors / "tdx", name), collateral, list(VENDOR_ANCHORS), noon(day))

    return judge


@pytest.fixture(scope="module")
def policy() -> Policy:
    image: Any = "sha256:" + "0" * 64
    return template(
        "strict", references=[Reference(image, "tdx", {"mrtd": ("00" * 48,)})], artifacts=[image], simulated=True
    )


def unwanted(genuine: Genuine, policy: Policy) -> set[str]:
    return {check.id for check in TDX.wanted(genuine, policy) if check.status is not Status.PASS}


def test_go_tdx_guest_module_status_replaces_platform(judged: Any, policy: Policy):
    """Platform OutOfDate, module UpToDate: the worst of both counts."""
    genuine = judged(
        "v4_00a06d_gnr_platform_outofdate_module_uptodate.quote", "bundles/00a06d_2026-02-05.json", "2026-02-05"
    )
    assert (genuine.claims["tcb_status_platform"], genuine.claims["tcb_status_module"]) == ("OutOfDate", "UpToDate")
    assert genuine.tcb_status == "OutOfDate"
    assert "policy.tdx.tcb_status" in unwanted(genuine, policy)


@pytest.mark.parametrize("kind", ["tdx", "sgx"])
@pytest.mark.parametrize("document", ["tcb_info", "qe_identity"])
def test_dcap_qvl_role_confusion(kind: str, document: str):
    """A platform's own key must not sign collateral, nor may the CA of platforms."""
    place = make_place(kind)
    text = getattr(place.collateral, document)
    chains = {"pck": place.installation.pck_chain.decode(), "platform-ca": place.collateral.pck_crl_chain}
    for role, chain in chains.items():
        signed = sign_raw(place.installation.keys[role], text.encode())
        confused = replace(place.collateral, **{f"{document}_chain": chain, f"{document}_signature": signed})
        assert failures(place.judge(place.quote, confused)) == {f"{kind}.{document}.signer"}


@pytest.mark.parametrize("kind", ["tdx", "sgx"])
@pytest.mark.parametrize("tail", [b"\0", b"x", bytes(100)])
def test_dcap_qvl_trailing_bytes(kind: str, tail: bytes):
    """One verdict, one byte string: nothing may follow the end of a quote."""
    place = make_place(kind)
    with pytest.raises(MalformedEvidence):
        place.judge(place.quote + tail)


def test_svn_rule_of_cos_113(judged: Any):
    """TEE_TCB_SVN counts from index 2 where the module is judged apart; whoever compares all 16 says OutOfDate."""
    genuine = judged("v4_00806f05_gcp_cos113_module_rule.quote", "bundles/00806f05_2025-06-25.json", "2025-06-25")
    assert all_passed(genuine.checks)
    assert genuine.tcb_status == "UpToDate"
    assert bytes.fromhex(str(genuine.claims["tee_tcb_svn"]))[1] > 0


def test_dk_tee_attestation_takes_its_root_from_the_quote(vectors: Path):
    """A whole hierarchy that only looks like Intel's counts for nothing, however complete, unless its root is an anchor."""
    for kind in ("tdx", "sgx"):
        forged = make_place(kind)
        for anchors in ([], list(VENDOR_ANCHORS)):
            genuine = JUDGES[kind](forged.quote, forged.collateral, anchors, NOW)
            assert failures(genuine) == {f"{kind}.anchor"}
            assert (genuine.root_class, dict(genuine.claims)) == (None, {})
    samples = (vectors / "sgx/intelqvl_testroot/quote.dat").read_bytes()
    chain = "".join((vectors / f"sgx/intelqvl_testroot/{name}.pem").read_text() for name in ("pckCert", "pckSignChain"))
    brought = replace(make_place("sgx").collateral, pck_chain=chain)
    assert failures(JUDGES["sgx"](samples, brought, list(VENDOR_ANCHORS), noon("2020-01-01"))) == {"sgx.anchor"}


def test_dk_tee_attestation_omits_the_binding_of_the_attestation_key(td: Place):
    other = Chip(td.installation, mrtd=bytes(48))
    from strongroom.crypto.signatures import generate_p256

    liar = QuotingEnclave(td.installation, tcb.QE_PRODUCT, vouches_for=generate_p256())
    assert all_passed(td.judge(other.quote(DATA)).checks)
    forged = Chip(td.installation, mrtd=bytes(48), quoting_enclave=liar)
    assert failures(td.judge(forged.quote(DATA))) == {"tdx.qe.binding"}


def test_debug_is_refused_without_any_policy(judged: Any):
    """Where debug is left to a policy language alone, whoever writes no policy accepts debug TDs and enclaves."""
    genuine = judged("v4_50806f_DEBUG.quote", "bundles/50806f_2023-06-25.json", "2023-06-25")
    assert all_passed(genuine.checks)
    assert {check.id for check in TDX.exposed(genuine) if check.status is Status.FAIL} >= {"tdx.debug"}
    place = make_place("sgx")
    enclave = SgxEnclave(place.installation, mrenclave=MRENCLAVE, attributes=[simulated.DEBUG])
    exposed = SGX.exposed(place.judge(enclave.quote(DATA)))
    assert {check.id for check in exposed if check.status is Status.FAIL} == {"sgx.debug"}


def test_tdxdown_is_kept_out_by_the_modules_svn_and_by_its_measurement(td: Place, policy: Policy):
    """An old TDX module lets the host single-step a TD: its SVN makes the TD out of date, and MRSEAM can be pinned."""
    old = Chip(td.installation, mrtd=bytes(48), tee_tcb_svn=bytes([3, 1, 5]) + bytes(13))
    genuine = td.judge(old.quote(DATA))
    assert (genuine.claims["tcb_status_platform"], genuine.claims["tcb_status_module"]) == ("UpToDate", "OutOfDate")
    assert genuine.tcb_status == "OutOfDate"
    assert unwanted(genuine, policy) >= {"policy.tdx.tcb_status", "policy.tdx.advisories"}
    good = td.judge(td.quote)
    assert policy.tdx is not None
    for value, refused in ((str(good.claims["mrseam"]), set()), ("00" * 48, {"policy.tdx.mrseam"})):
        pinned = replace(policy, tdx=replace(policy.tdx, mrseam=Requirement((value,))))
        assert unwanted(good, pinned) == refused


def test_a_module_that_was_rolled_back_under_a_running_td_is_seen(td: Place, policy: Policy):
    chip = Chip(td.installation, mrtd=bytes(48), tee_tcb_svn2=tcb.TEE_TCB_SVN_OUT_OF_DATE)
    genuine = td.judge(chip.quote(DATA))
    assert genuine.tcb_status == "OutOfDate"
    assert "policy.tdx.tcb_status" in unwanted(genuine, policy)


@pytest.mark.parametrize(
    ("bit", "check"),
    [(63, "perfmon"), (29, "migratable"), (0, "debug"), (4, "reserved_bits"), (17, "reserved_bits")],
    ids=["PERFMON", "MIGRATABLE", "DEBUG", "profiling", "SERVTD_EXT"],
)
def test_attributes_that_open_a_td_are_refused(td: Place, policy: Policy, bit: int, check: str):
    chip = Chip(td.installation, mrtd=bytes(48), attributes=[bit])
    assert unwanted(td.judge(chip.quote(DATA)), policy) == {f"policy.tdx.{check}"}


@pytest.mark.parametrize(("bit", "member"), [(30, "pks"), (31, "kl")])
def test_protection_keys_and_key_locker_are_the_owners_choice(td: Place, policy: Policy, bit: int, member: str):
    genuine = td.judge(Chip(td.installation, mrtd=bytes(48), attributes=[bit]).quote(DATA))
    assert unwanted(genuine, policy) == set()
    assert policy.tdx is not None
    closed = replace(policy, tdx=replace(policy.tdx, **{member: Requirement(("0",))}))
    assert unwanted(genuine, closed) == {f"policy.tdx.{member}"}


def test_a_migration_service_td_must_be_named(judged: Any, td: Place, policy: Policy):
    """A bound service TD may carry the TD's memory to another machine: its measurement must be wanted."""
    genuine = judged("v5_90c06f_servicetd_outofdate.quote", "bundles/90c06f_2025-06-25.json", "2025-06-25")
    assert genuine.tcb_status == "UpToDate"
    assert "policy.tdx.mr_service_td" in unwanted(genuine, policy)
    chip = Chip(td.installation, mrtd=bytes(48), tee_tcb_svn2=tcb.TEE_TCB_SVN, mr_service_td=bytes([1]) * 48)
    assert unwanted(td.judge(chip.quote(DATA)), policy) == {"policy.tdx.mr_service_td"}


@pytest.mark.parametrize("kind", ["tdx", "sgx"])
def test_pceid_mismatch(kind: str):
    place = make_place(kind)
    other = place.installation.resigned(place.collateral, "tcb_info", pceId="0001")
    assert failures(place.judge(place.quote, other)) == {f"{kind}.tcb_info.pceid"}
    platform = replace(place.installation.platform, pceid=b"\1\0")
    elsewhere = place.installation.reissued("pck", NOW, platform=platform)
    quote = (Chip(elsewhere, mrtd=bytes(48)) if kind == "tdx" else SgxEnclave(elsewhere, mrenclave=MRENCLAVE)).quote(
        DATA
    )
    assert failures(place.judge(quote)) == {f"{kind}.tcb_info.pceid"}


def test_crl_of_the_other_ca(vectors: Path):
    """The list of the Processor CA says nothing of a platform under the Platform CA, and the other way round."""
    td_bundle = collateral_of((vectors / "tdx/v4_b0c06f_uptodate.collateral.json").read_bytes())
    sgx_bundle = collateral_of((vectors / "sgx/v3_00a067_config_and_swhardening.collateral.json").read_bytes())
    td_quote = read_quote(vectors / "tdx", "v4_b0c06f_uptodate.quote")
    sgx_quote = read_quote(vectors / "sgx", "v3_00a067_config_and_swhardening.quote")
    now, anchors = noon("2025-07-04"), list(VENDOR_ANCHORS)
    for kind, quote, bundle, other in (
        ("tdx", td_quote, td_bundle, sgx_bundle),
        ("sgx", sgx_quote, sgx_bundle, td_bundle),
    ):
        assert all_passed(JUDGES[kind](quote, bundle, anchors, now).checks)
        for changed in (
            replace(bundle, pck_crl=other.pck_crl),
            replace(bundle, pck_crl=other.pck_crl, pck_crl_chain=other.pck_crl_chain),
            replace(bundle, pck_crl_chain=other.pck_crl_chain),
        ):
            assert failures(JUDGES[kind](quote, changed, anchors, now)) == {f"{kind}.pck.crl"}


def test_stale_collateral(judged: Any):
    """One second past nextUpdate is past it; the evaluation number is a claim that a policy puts a floor under."""
    genuine = judged("v5_90c06f_uptodate.quote", EMR_02, "2026-02-05")
    assert genuine.claims["tcb_evaluation_number"] == 18
    stale = judged("v5_90c06f_uptodate.quote", EMR_02, "2026-02-12")
    assert failures(stale) == {"tdx.pck.crl", "tdx.tcb_info.fresh", "tdx.qe_identity.fresh"}


def test_an_empty_set_of_anchors_never_means_success():
    for kind in ("tdx", "sgx"):
        place = make_place(kind)
        genuine = JUDGES[kind](place.quote, place.collateral, [], NOW)
        assert failures(genuine) == {f"{kind}.anchor"}


def test_a_simulated_root_is_of_class_installation_however_real_the_rest_looks():
    installation = Installation.ephemeral(NOW)
    for kind in ("tdx", "sgx"):
        assert Place(installation, kind).judge(Place(installation, kind).quote).root_class is RootClass.INSTALLATION
