"""What an owner may want of a TPM: one requirement at a time, and what nobody has to ask for."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from strongroom.appraisal.kinds.tpm import TPM, exposed, gather, judge, stated, wanted
from strongroom.appraisal.pile import Pile
from strongroom.appraisal.statement import replay
from strongroom.errors import MalformedEvidence
from strongroom.records import codec
from strongroom.records.evidence import Collateral, Event
from strongroom.records.policy.requirement import Requirement
from strongroom.records.policy.tpm import TpmPolicy
from strongroom.records.verdict import Check, Level, Status
from strongroom.tee.anchors import installation_anchor
from strongroom.tee.genuine import Genuine
from strongroom_sim.tpm import Tpm, TpmMaker

NOW = 1_790_000_000
ANY = Requirement(any="not asked here")


@pytest.fixture(scope="module")
def tpm() -> Tpm:
    made = Tpm(TpmMaker.generate(now=NOW), NOW)
    made.boot(b"image")
    return made


def judged(tpm: Tpm, quote: bytes) -> Genuine:
    anchors = [installation_anchor("tpm", tpm.maker.root_pem)]
    return judge(quote, b"", collateral=Collateral(tpm=tpm.ak_collateral(NOW)), anchors=anchors, now=NOW)


@pytest.fixture(scope="module")
def genuine(tpm: Tpm) -> Genuine:
    return judged(tpm, tpm.quote(bytes(32)))


@pytest.fixture
def policy(genuine: Genuine) -> TpmPolicy:
    return TpmPolicy(
        measured=Requirement(("1",)),
        bank=Requirement(("sha256",)),
        pcrs={"pcr1": Requirement((str(genuine.claims["pcr1"]),)), "pcr14": Requirement(("00" * 32,))},
        source=Requirement(("certificate",)),
        ak_names=Requirement((str(genuine.claims["ak_name"]),)),
        endorsements=Requirement((str(genuine.claims["endorsement"]),)),
        firmware_minimum="0" * 16,
        clock_safe=Requirement(("1",)),
        secure_boot=Requirement(any="this machine has no Secure Boot"),
    )


def outcomes(checks: list[Check]) -> dict[str, Status]:
    return {check.id: check.status for check in checks}


def test_what_is_asked_is_found(genuine: Genuine, policy: TpmPolicy):
    found = outcomes(wanted(genuine, policy))
    assert set(found) == {
        f"policy.tpm.{name}"
        for name in (
            "measured",
            "bank",
            "pcrs",
            "source",
            "ak_names",
            "endorsements",
            "firmware",
            "clock_safe",
            "secure_boot",
        )
    }
    assert set(found.values()) == {Status.PASS}


@pytest.mark.parametrize(
    ("name", "check"),
    [
        ("measured", "measured"),
        ("bank", "bank"),
        ("source", "source"),
        ("ak_names", "ak_names"),
        ("endorsements", "endorsements"),
        ("clock_safe", "clock_safe"),
    ],
)
def test_each_requirement_refuses_what_it_does_not_name(genuine: Genuine, policy: TpmPolicy, name: str, check: str):
    found = outcomes(wanted(genuine, replace(policy, **{name: Requirement(("something else",))})))
    assert {key for key, status in found.items() if status is not Status.PASS} == {f"policy.tpm.{check}"}


def test_a_register_that_the_policy_pins_must_be_quoted_and_equal(tpm: Tpm, genuine: Genuine, policy: TpmPolicy):
    other = replace(policy, pcrs={"pcr1": Requirement(("11" * 32,))})
    assert outcomes(wanted(genuine, other))["policy.tpm.pcrs"] is Status.FAIL
    less = judged(tpm, tpm.quote(bytes(32), (0, 4)))
    assert outcomes(wanted(less, policy))["policy.tpm.pcrs"] is Status.NOT_RUN
    assert outcomes(wanted(less, replace(policy, pcrs={"pcr1": ANY})))["policy.tpm.pcrs"] is Status.NOT_RUN
    assert outcomes(wanted(less, replace(policy, pcrs={})))["policy.tpm.pcrs"] is Status.PASS


def test_firmware_below_the_minimum_is_refused(genuine: Genuine, policy: TpmPolicy):
    for minimum, status in ((b"strngsim".hex(), Status.PASS), (b"strngsin".hex(), Status.FAIL)):
        found = outcomes(wanted(genuine, replace(policy, firmware_minimum=minimum)))
        assert found["policy.tpm.firmware"] is status


def test_secure_boot_is_what_the_log_tells_and_nothing_else(genuine: Genuine, policy: TpmPolicy):
    demanded = replace(policy, secure_boot=Requirement(("1",)))
    assert outcomes(wanted(genuine, demanded))["policy.tpm.secure_boot"] is Status.NOT_RUN
    for told, status in (("1", Status.PASS), ("0", Status.FAIL)):
        with_log = replace(genuine, claims={**genuine.claims, "secure_boot": told})
        assert outcomes(wanted(with_log, demanded))["policy.tpm.secure_boot"] is status


def test_without_a_genuine_quote_nothing_is_found(genuine: Genuine, policy: TpmPolicy):
    nothing = replace(genuine, claims={})
    found = outcomes(wanted(nothing, policy))
    assert {check for check, status in found.items() if status is Status.PASS} == {"policy.tpm.secure_boot"}
    assert outcomes(exposed(nothing)) == {"tpm.measured": Status.NOT_RUN}


def test_a_policy_without_a_word_about_tpms_admits_none(genuine: Genuine):
    assert outcomes(wanted(genuine, None)) == {"policy.tpm": Status.FAIL}
    assert outcomes(TPM.wanted(genuine, SimpleNamespace(tpm=None))) == {"policy.tpm": Status.FAIL}  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "change", [{"firmware_minimum": "1"}, {"firmware_minimum": "G" * 16}, {"pcrs": {"pcr24": ANY}}]
)
def test_a_policy_that_cannot_be_meant_is_refused(policy: TpmPolicy, change: dict[str, object]):
    with pytest.raises(ValueError, match=r"register|digits"):
        replace(policy, **change)


def test_a_policy_survives_its_codec(policy: TpmPolicy):
    assert codec.from_json(TpmPolicy, codec.to_json(policy)) == policy


def test_a_machine_that_measured_nothing_is_exposed(tpm: Tpm, genuine: Genuine):
    assert outcomes(exposed(genuine)) == {"tpm.measured": Status.PASS}
    blank = Tpm(tpm.maker, NOW)
    assert outcomes(exposed(judged(blank, blank.quote(bytes(32))))) == {"tpm.measured": Status.FAIL}
    assert outcomes(exposed(judged(tpm, tpm.quote(bytes(32), (1, 2))))) == {"tpm.measured": Status.NOT_RUN}


def test_the_runtime_register_holds_what_the_worker_measured(tpm: Tpm):
    worker = Tpm(tpm.maker, NOW)
    events = [Event("workload", "a"), Event("artifact", "b")]
    for event in events:
        worker.extend(15, "sha256", event.measured("sha256"))
    assert TPM.runtime is not None
    claims = judged(worker, worker.quote(bytes(32))).claims
    assert claims[TPM.runtime.claim] == replay(events, TPM.runtime.algorithm)


def test_the_kind_is_measured_and_pins_code(genuine: Genuine):
    assert TPM.level is Level.MEASURED
    assert set(TPM.registers) <= genuine.claims.keys()
    assert not {"pcr15", "pcr16", "pcr23"} & set(TPM.registers)


def test_what_is_said_is_shown_unjudged_and_its_certificate_is_found_in_a_pile(tpm: Tpm):
    quote = tpm.quote(bytes(32))
    assert stated(quote)["pcr0"] == tpm.pcrs["sha256"][0].hex()
    with pytest.raises(MalformedEvidence):
        stated(b"nonsense")
    pile = Pile()
    collateral = tpm.ak_collateral(NOW)
    pile.add(collateral.chain.encode())
    pile.add(tpm.maker.certify_ek(tpm.ek_ecc.public_key(), NOW).public_bytes(Encoding.DER))
    for crl in collateral.crls:
        pile.add(crl)
    found = gather(quote, pile).tpm
    assert found is not None
    assert found.chain == collateral.chain
    assert set(found.crls) == set(collateral.crls)
    assert gather(quote, Pile()).tpm is None
