"""What an owner may want of a realm and its platform: one requirement at a time, and what nobody has to ask for."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest

from strongroom.appraisal.kinds.cca import CCA, exposed, gather, judge, stated, wanted
from strongroom.appraisal.pile import Pile
from strongroom.appraisal.statement import launch_register, replay
from strongroom.errors import MalformedEvidence
from strongroom.records.evidence import Collateral, Event
from strongroom.records.policy.cca import CcaPolicy
from strongroom.records.policy.requirement import Requirement
from strongroom.records.verdict import Check, Level, Status
from strongroom.tee.genuine import Genuine
from strongroom_sim.cca import CcaPlatform, Realm

NOW = 1_790_000_000
ZERO = "00" * 64
REQUIREMENTS = (
    "lifecycle",
    "implementation_id",
    "instance_id",
    "config",
    "realm_hash",
    "rem1",
    "rem2",
    "rem3",
    "components",
)


@pytest.fixture(scope="module")
def platform() -> CcaPlatform:
    return CcaPlatform()


def judged(platform: CcaPlatform, quote: bytes) -> Genuine:
    collateral = Collateral(arm=platform.collateral)
    return judge(quote, b"", collateral=collateral, anchors=[platform.anchor], now=NOW)


@pytest.fixture(scope="module")
def genuine(platform: CcaPlatform) -> Genuine:
    return judged(platform, Realm(platform, rim=b"r" * 64).quote(bytes(64)))


@pytest.fixture(scope="module")
def components(genuine: Genuine) -> tuple[str, ...]:
    return tuple(str(genuine.claims[f"component{index}"]) for index in range(3))


@pytest.fixture
def policy(platform: CcaPlatform, components: tuple[str, ...]) -> CcaPolicy:
    return CcaPolicy(
        lifecycle=Requirement(("secured",)),
        implementation_id=Requirement((platform.implementation_id.hex(),)),
        instance_id=Requirement((platform.instance_id.hex(),)),
        config=Requirement(("cfcfcfcf",)),
        components=Requirement(components),
        realm_hash=Requirement(("sha-512",)),
        rem1=Requirement((ZERO,)),
        rem2=Requirement((ZERO,)),
        rem3=Requirement((ZERO,)),
    )


def status_of(checks: list[Check]) -> dict[str, Status]:
    return {check.id: check.status for check in checks}


def failing(checks: list[Check]) -> set[str]:
    return {check.id for check in checks if check.status is Status.FAIL}


def test_what_is_wanted_is_there(genuine: Genuine, policy: CcaPolicy):
    found = status_of(wanted(genuine, policy))
    assert found == dict.fromkeys((f"policy.cca.{name}" for name in REQUIREMENTS), Status.PASS)


@pytest.mark.parametrize("name", REQUIREMENTS)
def test_each_requirement_fails_alone(genuine: Genuine, policy: CcaPolicy, name: str):
    other = replace(policy, **{name: Requirement(("something:else:altogether",))})
    assert failing(wanted(genuine, other)) == {f"policy.cca.{name}"}
    any_value = replace(policy, **{name: Requirement(any="a reason")})
    checks = {check.id: check for check in wanted(genuine, any_value)}
    assert checks[f"policy.cca.{name}"].status is Status.PASS
    assert "a reason" in checks[f"policy.cca.{name}"].detail


@pytest.mark.parametrize("register", [1, 2, 3])
def test_a_register_that_nothing_here_extends_is_noticed_when_something_does(
    platform: CcaPlatform, policy: CcaPolicy, register: int
):
    realm = Realm(platform, rim=b"r" * 64)
    realm.extend(register + 1, b"surprise")  # measurement 0 is the RIM
    assert failing(wanted(judged(platform, realm.quote(bytes(64))), policy)) == {f"policy.cca.rem{register}"}


def test_several_measurements_of_one_component_may_be_admitted(
    genuine: Genuine, policy: CcaPolicy, components: tuple[str, ...]
):
    newer = components[2].replace(components[2].split(":")[1], "ab" * 32)
    assert not failing(wanted(genuine, replace(policy, components=Requirement((newer, *components)))))
    assert failing(wanted(genuine, replace(policy, components=Requirement((*components[:2], newer)))))


def test_a_component_that_is_not_named_and_one_that_is_missing_are_refused(
    genuine: Genuine, policy: CcaPolicy, components: tuple[str, ...]
):
    unnamed = replace(policy, components=Requirement(components[:2]))
    missing = replace(policy, components=Requirement((*components, f"SCP:{'00' * 32}:{'00' * 32}")))
    for asked, detail in ((unnamed, "not admitted: RMM"), (missing, "missing: SCP")):
        (check,) = (check for check in wanted(genuine, asked) if check.status is Status.FAIL)
        assert check.id == "policy.cca.components"
        assert detail in check.detail


def test_evidence_that_is_not_genuine_makes_every_check_not_run(genuine: Genuine, policy: CcaPolicy):
    nothing = replace(genuine, claims={})
    assert set(status_of(wanted(nothing, policy)).values()) == {Status.NOT_RUN}
    lax = replace(policy, components=Requirement(any="a reason"))
    assert set(status_of(wanted(nothing, lax)).values()) == {Status.NOT_RUN}
    assert status_of(exposed(nothing)) == {"cca.lifecycle": Status.NOT_RUN}


@pytest.mark.parametrize("lifecycle", [0x1000, 0x4000, 0x5000])
def test_a_platform_that_is_being_made_or_debugged_is_refused_by_policy_too(policy: CcaPolicy, lifecycle: int):
    platform = CcaPlatform(lifecycle=lifecycle)
    found = judged(platform, Realm(platform, rim=b"r" * 64).quote(bytes(64)))
    here = replace(policy, implementation_id=Requirement(any="any"), instance_id=Requirement(any="any"))
    assert failing(wanted(found, here)) == {"policy.cca.lifecycle"}
    assert not failing(wanted(found, replace(here, lifecycle=Requirement(("secured", "open")))))


def test_a_policy_without_cca_admits_none(genuine: Genuine):
    assert status_of(wanted(genuine, None)) == {"policy.cca": Status.FAIL}


@pytest.mark.parametrize(
    ("lifecycle", "expected"),
    [
        (0x0000, Status.FAIL),
        (0x1000, Status.FAIL),
        (0x20FF, Status.FAIL),
        (0x3000, Status.PASS),
        (0x3003, Status.PASS),
        (0x30FF, Status.PASS),
        (0x4000, Status.FAIL),
        (0x5000, Status.FAIL),
        (0x6000, Status.FAIL),
    ],
)
def test_only_a_secured_platform_is_closed_to_its_host(lifecycle: int, expected: Status):
    platform = CcaPlatform(lifecycle=lifecycle)
    found = judged(platform, Realm(platform, rim=bytes(64)).quote(bytes(64)))
    assert status_of(exposed(found)) == {"cca.lifecycle": expected}


def test_events_replay_to_the_register_that_the_kind_names(platform: CcaPlatform):
    events = [Event("workload", "a"), Event("artifact", "b")]
    realm = Realm(platform, rim=bytes(64))
    assert CCA.runtime is not None
    for event in events:
        realm.extend(CCA.runtime.index, event.measured(CCA.runtime.algorithm))
    claims = judged(platform, realm.quote(bytes(64))).claims
    assert claims[CCA.runtime.claim] == replay(events, CCA.runtime.algorithm) != ZERO


def test_the_launch_specification_fills_the_personalization_value(platform: CcaPlatform):
    assert CCA.launch_spec == ("rpv", "sha512")
    held = launch_register("sha256:" + "0" * 64, "sha512")  # type: ignore[arg-type]
    found = judged(platform, Realm(platform, rim=bytes(64), rpv=bytes.fromhex(held)).quote(bytes(64)))
    assert found.claims["rpv"] == held
    assert launch_register(None, "sha512") == ZERO
    assert len(hashlib.sha512().digest()) == 64


def test_the_platforms_key_is_gathered_by_its_names(platform: CcaPlatform):
    quote = Realm(platform, rim=bytes(64)).quote(bytes(64))
    mine = (platform.cpak, platform.implementation_id, platform.instance_id)
    other = (CcaPlatform().cpak, platform.implementation_id, b"\x01" + bytes(32))
    assert gather(quote, Pile(keys=[other, mine])).arm == platform.collateral
    assert gather(quote, Pile(keys=[other])).arm is None


def test_the_example_token_under_its_key(vectors: Path):
    pile = Pile()
    pile.add((vectors / "cca/example_tastore.json").read_bytes())
    quote = (vectors / "cca/example_token.cbor").read_bytes()
    collateral = gather(quote, pile)
    assert collateral.arm is not None
    found = judge(quote, b"", collateral=collateral, anchors=[], now=NOW)
    assert "cca.anchor" in {check.id for check in found.checks if check.status is Status.FAIL}
    assert stated(quote)["lifecycle"] == 12291


def test_bytes_that_are_no_token_are_malformed(platform: CcaPlatform):
    for call in (lambda: stated(b"x"), lambda: gather(b"x", Pile()), lambda: judged(platform, b"x")):
        with pytest.raises(MalformedEvidence):
            call()


def test_the_kind_as_appraisals_see_it(genuine: Genuine):
    assert (CCA.name, CCA.level, CCA.registers) == ("cca", Level.CONFIDENTIAL, ("rim",))
    assert {*CCA.registers, *CCA.machine, "rem0", "rpv"} <= set(genuine.claims)
