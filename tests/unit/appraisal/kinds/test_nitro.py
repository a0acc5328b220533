"""What an owner may want of an enclave: one requirement at a time, and what nobody has to ask for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from strongroom.appraisal.kinds.nitro import NITRO, exposed, gather, judge, stated, wanted
from strongroom.appraisal.pile import Pile
from strongroom.errors import MalformedEvidence
from strongroom.records.evidence import AwsCollateral, Collateral
from strongroom.records.policy.nitro import NitroPolicy
from strongroom.records.policy.requirement import Requirement
from strongroom.records.verdict import Check, Level, Status
from strongroom.tee.anchors import VENDOR_ANCHORS, installation_anchor
from strongroom.tee.genuine import Genuine
from strongroom.tee.nitro import unwrap
from strongroom_sim.nitro import Enclave, NitroCloud

NOW = 1_790_000_000
ZERO, ONE, ROLE = "00" * 48, b"\x01" * 48, b"\x03" * 48
NONCE = b"nonce"
REQUIREMENTS = ("debug", "pcr3", "pcr4", "pcr8", "module", "nonce", "revocation", "maximum_age")


@pytest.fixture(scope="module")
def cloud() -> NitroCloud:
    return NitroCloud.create(now=NOW)


@pytest.fixture(scope="module")
def enclave(cloud: NitroCloud) -> Enclave:
    return Enclave(cloud, {0: ONE, 1: ONE, 2: ONE, 3: ROLE, 4: ONE})


def judged(cloud: NitroCloud, quote: bytes, *, now: int = NOW, crls: AwsCollateral | None = None) -> Genuine:
    anchors = [installation_anchor("nitro", cloud.root_pem)]
    return judge(quote, b"", collateral=Collateral(aws=crls), anchors=anchors, now=now)


@pytest.fixture(scope="module")
def genuine(cloud: NitroCloud, enclave: Enclave) -> Genuine:
    return judged(cloud, enclave.quote(bytes(64), nonce=NONCE, now=NOW), crls=cloud.collateral(NOW))


@pytest.fixture
def policy(enclave: Enclave) -> NitroPolicy:
    return NitroPolicy(
        debug=Requirement(("0",)),
        pcr3=Requirement((ROLE.hex(),)),
        pcr4=Requirement((ONE.hex(),)),
        pcr8=Requirement((ZERO,)),
        module=Requirement((enclave.module_id,)),
        nonce=Requirement((NONCE.hex(),)),
        revocation=Requirement(("checked",)),
        maximum_age=60,
    )


def status_of(checks: list[Check]) -> dict[str, Status]:
    return {check.id: check.status for check in checks}


def test_what_is_wanted_is_there(genuine: Genuine, policy: NitroPolicy):
    found = status_of(wanted(genuine, policy))
    assert found == dict.fromkeys((f"policy.nitro.{name}" for name in REQUIREMENTS), Status.PASS)


@pytest.mark.parametrize("name", REQUIREMENTS[:-1])
def test_each_requirement_fails_alone(genuine: Genuine, policy: NitroPolicy, name: str):
    other = replace(policy, **{name: Requirement(("something else",))})
    found = status_of(wanted(genuine, other))
    assert {check for check, status in found.items() if status is Status.FAIL} == {f"policy.nitro.{name}"}
    any_value = replace(policy, **{name: Requirement(any="a reason")})
    checks = {check.id: check for check in wanted(genuine, any_value)}
    assert checks[f"policy.nitro.{name}"].status is Status.PASS
    assert "a reason" in checks[f"policy.nitro.{name}"].detail


def test_a_debug_enclave_is_refused_by_policy_too(cloud: NitroCloud, enclave: Enclave, policy: NitroPolicy):
    payload = {**enclave.payload(nonce=NONCE, now=NOW)}
    payload["pcrs"] = {**payload["pcrs"], 0: bytes(48), 1: bytes(48), 2: bytes(48)}
    found = status_of(wanted(judged(cloud, enclave.sign(payload), crls=cloud.collateral(NOW)), policy))
    assert {check for check, status in found.items() if status is Status.FAIL} == {"policy.nitro.debug"}


def test_a_document_that_is_too_old_fails(cloud: NitroCloud, enclave: Enclave, policy: NitroPolicy):
    quote = enclave.quote(bytes(64), nonce=NONCE, now=NOW)
    for age, expected in ((60, Status.PASS), (61, Status.FAIL)):
        found = judged(cloud, quote, now=NOW + age, crls=cloud.collateral(NOW))
        assert status_of(wanted(found, policy))["policy.nitro.maximum_age"] is expected


@pytest.mark.parametrize("age", [0, -1])
def test_a_policy_without_a_greatest_age_is_none(policy: NitroPolicy, age: int):
    with pytest.raises(ValueError, match="age"):
        replace(policy, maximum_age=age)


def test_revocation_that_was_not_checked_fails_where_it_is_wanted(
    cloud: NitroCloud, enclave: Enclave, policy: NitroPolicy
):
    found = judged(cloud, enclave.quote(bytes(64), nonce=NONCE, now=NOW))
    assert status_of(wanted(found, policy))["policy.nitro.revocation"] is Status.FAIL
    lax = replace(policy, revocation=Requirement(any="AWS tells verifiers to leave it out"))
    assert status_of(wanted(found, lax))["policy.nitro.revocation"] is Status.PASS


def test_a_register_that_was_left_out_is_not_run_and_never_a_pass(
    cloud: NitroCloud, enclave: Enclave, policy: NitroPolicy
):
    payload = {**enclave.payload(nonce=NONCE, now=NOW), "pcrs": {0: ONE, 1: ONE, 2: ONE}}
    found = status_of(wanted(judged(cloud, enclave.sign(payload)), policy))
    assert {found[f"policy.nitro.{name}"] for name in ("pcr3", "pcr4", "pcr8")} == {Status.NOT_RUN}


def test_evidence_that_is_not_genuine_makes_every_check_not_run(
    cloud: NitroCloud, enclave: Enclave, policy: NitroPolicy
):
    found = judged(cloud, enclave.quote(bytes(64), now=NOW), now=NOW + 86_400)
    assert set(status_of(wanted(found, policy)).values()) == {Status.NOT_RUN}
    assert status_of(exposed(found)) == {"nitro.debug": Status.NOT_RUN}


def test_a_policy_without_nitro_admits_none(genuine: Genuine):
    assert status_of(wanted(genuine, None)) == {"policy.nitro": Status.FAIL}


def test_zero_pcrs_are_refused_without_a_policy(cloud: NitroCloud, genuine: Genuine):
    assert status_of(exposed(genuine)) == {"nitro.debug": Status.PASS}
    debug = Enclave(cloud, {0: ONE}, debug=True)
    assert status_of(exposed(judged(cloud, debug.quote(bytes(64), now=NOW)))) == {"nitro.debug": Status.FAIL}


@pytest.mark.parametrize("zero", [0, 1, 2])
def test_one_zero_register_of_the_image_is_enough_to_refuse(cloud: NitroCloud, zero: int):
    enclave = Enclave(cloud, {index: ONE for index in range(3) if index != zero})
    (check,) = exposed(judged(cloud, enclave.quote(bytes(64), now=NOW)))
    assert check.status is Status.FAIL
    assert f"pcr{zero}" in check.detail


def test_a_real_debug_enclave_is_refused_and_a_real_one_is_not(vectors: Path):
    for name, now, expected in (
        ("DEBUG_2025-12-25.scale.bin", 1_766_650_846, Status.FAIL),
        ("prod_2025-12-25.nsm.bin", 1_766_668_537, Status.PASS),
    ):
        document: Any = unwrap((vectors / "nitro" / name).read_bytes())
        found = judge(document, b"", collateral=Collateral(), anchors=VENDOR_ANCHORS, now=now)
        assert (name, status_of(exposed(found))) == (name, {"nitro.debug": expected})


def test_the_crls_of_those_in_the_bundle_are_gathered_and_no_others(cloud: NitroCloud, enclave: Enclave):
    quote = enclave.quote(bytes(64), nonce=NONCE, now=NOW)
    crls = [*cloud.collateral(NOW).crls, *NitroCloud.create(now=NOW).collateral(NOW).crls]
    pile = Pile(crls=[x509.load_der_x509_crl(crl) for crl in crls])
    collateral = gather(quote, pile).aws
    assert collateral is not None
    assert sorted(collateral.crls) == sorted(crls[:2])
    assert gather(quote, Pile()).aws == AwsCollateral(())
    bundle = Collateral(aws=AwsCollateral((b"crl",)))
    assert gather(quote, Pile(bundles=[bundle])) == bundle


def test_what_a_document_says_is_shown_before_it_is_judged(cloud: NitroCloud, enclave: Enclave):
    found = stated(enclave.quote(bytes(64), now=NOW))
    assert (found["module_id"], found["instance"], found["pcr0"]) == (enclave.module_id, cloud.instance, ONE.hex())
    for call in (lambda: stated(b"x"), lambda: gather(b"x", Pile()), lambda: judged(cloud, b"x")):
        with pytest.raises(MalformedEvidence):
            call()


def test_the_kind_as_appraisals_see_it(genuine: Genuine):
    assert (NITRO.name, NITRO.level, NITRO.registers) == ("nitro", Level.CONFIDENTIAL, ("pcr0", "pcr1", "pcr2"))
    assert (NITRO.runtime, NITRO.launch_spec) == (None, None)
    assert {*NITRO.registers, *NITRO.machine} <= set(genuine.claims)
