"""What an owner may want of an SGX enclave: one case a requirement."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from dcap_world import DATA, MRENCLAVE, Place, make_place

from strongroom.appraisal.kinds.sgx import SGX, exposed, gather, judge, stated, wanted
from strongroom.appraisal.pile import Pile
from strongroom.errors import MalformedEvidence, MalformedRecord
from strongroom.records import codec
from strongroom.records.evidence import Collateral
from strongroom.records.policy.requirement import Requirement
from strongroom.records.policy.sgx import SgxPolicy
from strongroom.records.verdict import Check, Level, Status, all_passed
from strongroom.tee.genuine import Genuine
from strongroom_sim import sgx as simulated
from strongroom_sim import tcb
from strongroom_sim.sgx import MRSIGNER, XFRM, SgxEnclave

ZERO = Requirement(("0",))
POLICY = SgxPolicy(
    debug=ZERO,
    provision_key=ZERO,
    einittoken_key=ZERO,
    kss=ZERO,
    config_id=Requirement(("00" * 64,)),
    config_svn_minimum=0,
    mrsigner=Requirement((MRSIGNER.hex(),)),
    isvprodid=Requirement(("1",)),
    isvsvn_minimum=1,
    xfrm=Requirement((XFRM.hex(),)),
    miscselect=Requirement(("00" * 4,)),
    dynamic_platform=ZERO,
    cached_keys=ZERO,
    smt=ZERO,
    tcb_status=Requirement(("UpToDate",)),
    advisories=Requirement(("none",)),
    tcb_evaluation_minimum=1,
    tcb_date_minimum="2026-01-01",
)
MEMBERS = {field.name for field in fields(SgxPolicy)}


@pytest.fixture(scope="module")
def place() -> Place:
    return make_place("sgx")


def proved(place: Place, **enclave: Any) -> Genuine:
    quote = SgxEnclave(place.installation, mrenclave=MRENCLAVE, **enclave).quote(DATA)
    return judge(quote, b"", collateral=Collateral(intel=place.collateral), anchors=[place.anchor], now=place.now)


def failed(checks: list[Check]) -> set[str]:
    return {check.id for check in checks if check.status is not Status.PASS}


def test_a_good_enclave_is_all_that_is_wanted(place: Place):
    checks = wanted(proved(place), POLICY)
    assert all_passed(checks)
    names = {name.removesuffix("_minimum") for name in MEMBERS} | {"reserved_bits"}
    assert {check.id for check in checks} == {f"policy.sgx.{name}" for name in names}


@pytest.mark.parametrize(
    ("enclave", "check"),
    [
        ({"attributes": [simulated.DEBUG]}, "debug"),
        ({"attributes": [simulated.PROVISION_KEY]}, "provision_key"),
        ({"attributes": [simulated.EINITTOKEN_KEY]}, "einittoken_key"),
        ({"attributes": [simulated.KSS]}, "kss"),
        ({"attributes": [3]}, "reserved_bits"),
        ({"attributes": [63]}, "reserved_bits"),
        ({"config_id": bytes([1]) * 64}, "config_id"),
        ({"mrsigner": bytes(32)}, "mrsigner"),
        ({"isvprodid": 2}, "isvprodid"),
        ({"isvsvn": 0}, "isvsvn"),
        ({"xfrm": bytes([3]) + bytes(7)}, "xfrm"),
        ({"miscselect": b"\x01\0\0\0"}, "miscselect"),
    ],
)
def test_an_enclave_that_differs_in_one_thing_fails_that_requirement(place: Place, enclave: Any, check: str):
    assert failed(wanted(proved(place, **enclave), POLICY)) == {f"policy.sgx.{check}"}


@pytest.mark.parametrize(
    ("asked", "check"),
    [
        ({"config_svn_minimum": 1}, "config_svn"),
        ({"tcb_evaluation_minimum": 2}, "tcb_evaluation"),
        ({"tcb_date_minimum": "2026-01-02"}, "tcb_date"),
        ({"tcb_status": Requirement(("OutOfDate",))}, "tcb_status"),
        ({"dynamic_platform": Requirement(("1",))}, "dynamic_platform"),
        ({"cached_keys": Requirement(("1",))}, "cached_keys"),
        ({"smt": Requirement(("",))}, "smt"),
    ],
)
def test_a_policy_that_wants_another_platform_is_not_met(place: Place, asked: Any, check: str):
    assert failed(wanted(proved(place), replace(POLICY, **asked))) == {f"policy.sgx.{check}"}


def test_an_old_platform_must_be_admitted_by_status_date_and_advisory(place: Place):
    old = replace(place.installation.platform, components=(3,) * 16)
    elsewhere = place.installation.reissued("pck", place.now, platform=old)
    quote = SgxEnclave(elsewhere, mrenclave=MRENCLAVE).quote(DATA)
    genuine = judge(quote, b"", collateral=Collateral(intel=place.collateral), anchors=[place.anchor], now=place.now)
    assert failed(wanted(genuine, POLICY)) == {
        f"policy.sgx.{name}" for name in ("tcb_status", "advisories", "tcb_date")
    }
    admitting = replace(
        POLICY,
        tcb_status=Requirement(("OutOfDate",)),
        advisories=Requirement((tcb.ADVISORY,)),
        tcb_date_minimum="2025-01-01",
    )
    assert all_passed(wanted(genuine, admitting))


def test_advisories_that_old_collateral_does_not_state_are_not_none(place: Place):
    genuine = replace(proved(place), advisories=("unstated",))
    assert failed(wanted(genuine, POLICY)) == {"policy.sgx.advisories"}


def test_without_claims_no_requirement_passes():
    empty = Genuine("sgx", (), None, None, (), {})
    assert failed(wanted(empty, POLICY)) == {check.id for check in wanted(empty, POLICY)}
    assert failed(exposed(empty)) == {check.id for check in exposed(empty)}


def test_a_policy_without_sgx_admits_none(place: Place):
    assert failed(wanted(proved(place), None)) == {"policy.sgx"}


def test_a_debug_enclave_is_exposed_without_any_policy(place: Place):
    assert failed(exposed(proved(place))) == set()
    assert failed(exposed(proved(place, attributes=[simulated.DEBUG]))) == {"sgx.debug"}


def test_what_a_quote_states_is_what_is_claimed_of_it(place: Place):
    said = stated(place.quote)
    assert said.items() <= dict(proved(place).claims).items()
    with pytest.raises(MalformedEvidence):
        stated(b"")


def test_the_kind_is_confidential_and_pins_the_enclave():
    assert (SGX.name, SGX.level, SGX.registers) == ("sgx", Level.CONFIDENTIAL, ("mrenclave",))
    assert (SGX.runtime, SGX.launch_spec) == (None, None)


def test_collateral_is_gathered_for_an_enclave_and_not_for_a_td(place: Place):
    pile = Pile()
    pile.bundles.append(Collateral(intel=place.collateral))
    assert gather(place.quote, pile).intel == place.collateral


@pytest.mark.parametrize("text", ["", "2025", "2025-3-1", "2025-02-30", "2025-01-01T00:00:00Z", "yesterday!"])
def test_a_date_that_is_none_is_refused(text: str):
    with pytest.raises(ValueError, match=r"."):
        replace(POLICY, tcb_date_minimum=text)
    record = codec.to_json(POLICY) | {"tcb_date_minimum": text}
    with pytest.raises(MalformedRecord):
        codec.from_json(SgxPolicy, record)


def test_a_policy_reads_back_as_it_was_written():
    assert codec.from_json(SgxPolicy, codec.to_json(POLICY)) == POLICY
    for member in MEMBERS:
        with pytest.raises(MalformedRecord):
            codec.from_json(SgxPolicy, {name: value for name, value in codec.to_json(POLICY).items() if name != member})


def test_a_real_enclave_with_old_settings_is_genuine_and_not_wanted(vectors: Path):
    import dcap_world

    from strongroom.tee.anchors import VENDOR_ANCHORS

    folder = vectors / "sgx"
    quote = (folder / "v3_00a067_config_and_swhardening.quote").read_bytes()
    bundle = dcap_world.collateral_of((folder / "v3_00a067_config_and_swhardening.collateral.json").read_bytes())
    genuine = judge(
        quote, b"", collateral=Collateral(intel=bundle), anchors=VENDOR_ANCHORS, now=dcap_world.noon("2025-07-04")
    )
    assert all_passed(genuine.checks)
    mine = replace(POLICY, mrsigner=Requirement(any="whoever"), isvprodid=ZERO, isvsvn_minimum=0)
    unstated = {"dynamic_platform": Requirement(("",)), "cached_keys": Requirement(("",)), "smt": Requirement(("",))}
    assert failed(wanted(genuine, replace(mine, **unstated))) == {
        "policy.sgx.tcb_status",
        "policy.sgx.advisories",
        "policy.sgx.tcb_date",
    }
