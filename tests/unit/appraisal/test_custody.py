"""Whose machine it is: the tests change one thing each of a list that allows the case's machine."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from strongroom.appraisal.custody import check_custody
from strongroom.appraisal.signed import Known, open_custody, open_references, sign_custody, sign_references
from strongroom.crypto.signatures import fingerprint, generate_ed25519
from strongroom.errors import SignatureInvalid
from strongroom.records.policy import CustodyPolicy, Requirement, Signer
from strongroom.records.reference import CustodyList, Machine, ReferenceValues
from strongroom.records.verdict import Status

NOW = 1_800_000_000
CUSTODIAN, BUILDER, STRANGER = generate_ed25519(), generate_ed25519(), generate_ed25519()
ANY = Requirement(any="nobody asked")
HOME = Requirement(one_of=("DE",))


def custody(**changed: Any) -> CustodyPolicy:
    wanted = CustodyPolicy(
        custodians=Requirement(one_of=(fingerprint(CUSTODIAN.public_key()),)),
        minimum=1,
        sites=ANY,
        jurisdictions=HOME,
    )
    return replace(wanted, **changed)


@pytest.fixture
def ppid(case: Any) -> str:
    return str(case.judge().claims["ppid"])


@pytest.fixture
def known(ppid: str) -> Callable[..., Known]:
    def make(*machines: Machine, key: Any = CUSTODIAN, **changed: Any) -> Known:
        made = machines or (Machine("ppid", ppid, "allow", "hall 1", "DE"),)
        found = replace(CustodyList("custodian", 1, NOW - 10, NOW + 10, made), **changed)
        return Known(custody=(open_custody(sign_custody(found, key), key.public_key()),))

    return make


def test_a_machine_that_its_custodian_allows_is_accepted(case: Any, with_policy: Any, known: Any):
    verdict = case.judge(policy=with_policy(custody=custody()), known=known())
    assert verdict.accepted
    assert {c.detail for c in verdict.checks if c.id == "policy.custody.jurisdiction"} == {"DE"}


def test_the_cuckoo_a_genuine_quote_from_somebody_elses_machine_is_refused(case: Any, with_policy: Any, known: Any):
    other = known(Machine("ppid", "00" * 16, "allow", "hall 1", "DE"))
    assert "policy.custody.allowed" in case.failed(policy=with_policy(custody=custody()), known=other)


def test_tee_fail_a_machine_whose_keys_were_taken_is_denied_by_name(case: Any, ppid: str, known: Any):
    """A denial counts in every list that was given, also where the policy asks for no custodian."""
    denied = known(Machine("ppid", ppid, "deny", "hall 1", "DE"), key=STRANGER)
    assert case.failed(known=denied) == {"policy.custody.denied"}


@pytest.mark.parametrize("change", [{"issued": NOW + 1, "not_after": NOW + 9}, {"not_after": NOW}])
def test_a_denial_counts_when_its_list_has_ended(case: Any, ppid: str, known: Any, change: Any):
    """Whoever holds the newest list back must not make a denied machine welcome."""
    denied = known(Machine("ppid", ppid, "deny", "hall 1", "DE"), key=STRANGER, **change)
    assert case.failed(known=denied) == {"policy.custody.denied"}


def test_a_machine_without_a_name_may_be_the_one_that_a_list_denies(ppid: str, known: Any):
    nobody = custody(custodians=ANY, jurisdictions=ANY)
    denied = known(Machine("ppid", ppid, "deny", "hall 1", "DE")).custody
    for claims in ({}, {"ppid": ""}):
        first, *rest = check_custody(claims, ("ppid", "piid"), denied, nobody, now=NOW)
        assert (first.id, first.status) == ("policy.custody.denied", Status.NOT_RUN)
        assert {check.status for check in rest} == {Status.PASS}
    others = check_custody({}, ("chip_id",), denied, nobody, now=NOW)
    assert {check.status for check in others} == {Status.PASS}


@pytest.mark.parametrize(
    "change",
    [{"issued": NOW + 1, "not_after": NOW + 9}, {"not_after": NOW}, {"key": STRANGER}],
    ids=["not yet", "no more", "of a stranger"],
)
def test_a_list_that_does_not_count_allows_nothing(case: Any, with_policy: Any, known: Any, change: Any):
    verdict = case.judge(policy=with_policy(custody=custody()), known=known(**change))
    assert {c.id for c in verdict.failed} == {f"policy.custody.{n}" for n in ("allowed", "site", "jurisdiction")}
    assert all(c.status is Status.NOT_RUN for c in verdict.failed)


def test_no_list_at_all_is_not_a_pass(case: Any, with_policy: Any):
    assert "policy.custody.allowed" in case.failed(policy=with_policy(custody=custody()))


def test_an_older_list_than_the_policy_demands_does_not_count(case: Any, with_policy: Any, known: Any):
    policy = with_policy(custody=custody(minimum=2))
    assert "policy.custody.allowed" in case.failed(policy=policy, known=known())
    assert case.judge(policy=policy, known=known(version=2)).accepted


def test_a_machine_abroad_is_refused(case: Any, with_policy: Any, known: Any, ppid: str):
    abroad = known(Machine("ppid", ppid, "allow", "hall 9", "XX"))
    assert case.failed(policy=with_policy(custody=custody()), known=abroad) == {"policy.custody.jurisdiction"}


def test_another_site_is_refused(case: Any, with_policy: Any, known: Any):
    policy = with_policy(custody=custody(sites=Requirement(one_of=("hall 2",))))
    assert case.failed(policy=policy, known=known()) == {"policy.custody.site"}


def test_a_jurisdiction_without_a_custodian_is_nobodys_word(case: Any, with_policy: Any, known: Any):
    policy = with_policy(custody=custody(custodians=ANY))
    assert case.failed(policy=policy, known=known()) == {"policy.custody.jurisdiction"}


def test_an_identifier_of_another_name_allows_nothing(case: Any, with_policy: Any, known: Any, ppid: str):
    other = known(Machine("piid", ppid, "allow", "hall 1", "DE"))
    assert "policy.custody.allowed" in case.failed(policy=with_policy(custody=custody()), known=other)


# Reference values signed by their builder.


def values(case: Any, version: int = 1, key: Any = BUILDER) -> Known:
    found = ReferenceValues("builder", version, case.policy.references, ())
    return Known(references=(open_references(sign_references(found, key), key.public_key()),))


def test_reference_values_count_if_the_policy_names_their_builder(case: Any, with_policy: Any):
    signer = Signer(fingerprint(BUILDER.public_key()), 1)
    policy = with_policy(references=(), builders=(signer,))
    assert case.judge(policy=policy, known=values(case)).accepted
    for given in (values(case, key=STRANGER), Known()):
        assert "statement.image" in case.failed(policy=policy, known=given)
    newer = with_policy(references=(), builders=(replace(signer, minimum=2),))
    assert "statement.image" in case.failed(policy=newer, known=values(case))
    assert case.judge(policy=newer, known=values(case, 2)).accepted


def test_what_somebody_else_signed_is_not_opened(case: Any):
    envelope = sign_references(ReferenceValues("builder", 1, case.policy.references, ()), BUILDER)
    with pytest.raises(SignatureInvalid):
        open_references(envelope, STRANGER.public_key())
    machines = sign_custody(CustodyList("c", 1, 1, 2, ()), CUSTODIAN)
    for envelope_of_one_type, opened in ((machines, open_references), (envelope, open_custody)):
        with pytest.raises(SignatureInvalid):
            opened(envelope_of_one_type, CUSTODIAN.public_key())
