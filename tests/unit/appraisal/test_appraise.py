from dataclasses import replace

import pytest

from strongroom.appraisal.appraise import require
from strongroom.appraisal.explain import explain
from strongroom.errors import AppraisalRefused, MalformedEvidence
from strongroom.records.digest import digest_bytes
from strongroom.records.evidence import Event
from strongroom.records.policy import Requirement
from strongroom.records.verdict import Level, Status
from strongroom.tee.anchors import VENDOR_ANCHORS

NOW = 1_800_000_000
OTHER = digest_bytes(b"other")


def test_a_worker_as_the_policy_wants_it_is_accepted_as_simulated(case):
    verdict = require(case.judge())
    assert verdict.accepted
    assert verdict.level is Level.SIMULATED
    assert len({check.id for check in verdict.checks}) == len(verdict.checks)
    assert all(check.status is Status.PASS for check in verdict.checks)


def test_the_same_evidence_gives_the_same_verdict(case):
    assert case.judge() == case.judge()


def test_an_accepted_verdict_needs_every_kind_of_check(case):
    found = {check.id.split(".")[0] for check in case.judge().checks}
    assert found == {"tdx", "binding", "statement", "events", "policy"}


@pytest.mark.parametrize(
    ("how", "ids"),
    [
        ({"nonce": bytes(32)}, {"binding.nonce"}),
        ({"purpose": "session"}, {"binding.purpose"}),
        ({"now": NOW + 25 * 3600}, {"binding.keyset_valid"}),
    ],
)
def test_evidence_for_another_question_is_refused(case, how, ids):
    assert ids <= case.failed(**how)


def test_evidence_of_another_worker_keyset_or_statement_is_not_bound(case):
    evidence = case.bundle.evidence
    keyset = replace(evidence.keyset, channel=bytes(32))
    for changed in (
        replace(evidence, keyset=keyset),
        replace(evidence, statement=replace(evidence.statement, workload="job")),
        replace(evidence, nonce=bytes(32)),
        replace(evidence, purpose="session"),
    ):
        assert "binding.report_data" in case.failed(replace(case.bundle, evidence=changed))


def test_no_anchor_means_no_level_and_no_yes(case):
    verdict = case.judge(anchors=())
    assert verdict.level is Level.NONE
    assert {"anchors", "policy.level"} <= {check.id for check in verdict.failed}


def test_the_vendors_root_does_not_vouch_for_a_fake_chip(case):
    assert case.judge(anchors=VENDOR_ANCHORS).level is Level.NONE


def test_a_policy_for_real_hardware_refuses_a_simulated_place(case, with_policy):
    assert case.failed(policy=with_policy(levels=(Level.CONFIDENTIAL,))) == {"policy.level"}


def test_other_code_is_refused_and_what_it_says_of_itself_is_not_even_judged(case):
    verdict = case.judge(case.prove(image=OTHER))
    outcome = {check.id: check.status for check in verdict.checks}
    assert outcome["statement.image"] is Status.FAIL
    assert outcome["events.replay"] is Status.NOT_RUN
    assert outcome["statement.events"] is Status.NOT_RUN


def test_an_image_without_reference_values_is_refused(case):
    statement = replace(case.statement, image=OTHER)
    assert "statement.image" in case.failed(case.prove(statement=statement, image=OTHER))


def test_another_launch_spec_is_refused_where_it_is_measured_and_where_it_is_said(case):
    assert case.failed(case.prove(launch_spec=OTHER)) == {"statement.launch_spec"}
    said = replace(case.statement, launch_spec=OTHER)
    assert case.failed(case.prove(statement=said, launch_spec=OTHER)) == {"policy.launch_spec"}


def test_what_was_opened_but_not_said_is_seen(case):
    measured = replace(case.statement, artifacts=(*case.statement.artifacts, OTHER))
    assert case.failed(case.prove(measured=measured)) == {"policy.artifacts"}
    measured = replace(case.statement, configuration=OTHER)
    assert case.failed(case.prove(measured=measured)) == {"statement.events"}


def test_what_is_opened_later_is_admitted_as_what_is_opened_first_is(case, with_policy):
    """The policy says which artifacts may be open; when each of them was opened is all the same."""
    later = case.prove(later=[Event("artifact", OTHER)])
    assert later.evidence.artifacts == (*case.statement.artifacts, OTHER)
    assert case.failed(later) == {"policy.artifacts"}
    admits = with_policy(artifacts=Requirement(one_of=(*case.statement.artifacts, OTHER)))
    verdict = require(case.judge(later, policy=admits))
    assert next(check for check in verdict.checks if check.id == "statement.events").detail.endswith("opened later: 1")
    assert case.failed(policy=with_policy(artifacts=Requirement(one_of=(OTHER,)))) == {"policy.artifacts"}


@pytest.mark.parametrize("name", ["configuration", "workload", "policy", "adapter", "job", "", "Artifact", "artifact "])
def test_nothing_but_artifacts_may_be_measured_later(case, with_policy, name):
    anything = with_policy(artifacts=Requirement(any="a test"))
    assert case.failed(case.prove(later=[Event(name, OTHER)]), policy=anything) == {"statement.events"}


@pytest.mark.parametrize("value", ["", "model", "sha256:", "sha256:" + "A" * 64, "sha256:" + "a" * 63])
def test_what_is_opened_later_is_named_by_its_digest(case, with_policy, value):
    anything = with_policy(artifacts=Requirement(any="a test"))
    assert case.failed(case.prove(later=[Event("artifact", value)]), policy=anything) == {"statement.events"}


def test_nothing_is_opened_twice(case, with_policy):
    anything = with_policy(artifacts=Requirement(any="a test"))
    first = Event("artifact", case.statement.artifacts[0])
    for later in ([first], [Event("artifact", OTHER)] * 2):
        assert case.failed(case.prove(later=later, once=False), policy=anything) == {"statement.events"}
    assert require(case.judge(case.prove(later=[first]), policy=anything)), "a worker measures it once"


def test_an_artifact_under_two_names_from_the_start_leaves_later_ones_as_they_are(case, with_policy):
    """Each event is in the register all the same, and of those that come later each is still there once."""
    anything = with_policy(artifacts=Requirement(any="a test"))
    first, other = (Event("artifact", value) for value in (case.statement.artifacts[0], OTHER))
    statement = replace(case.statement, artifacts=case.statement.artifacts * 2)

    def prove(*later, **how):
        return case.prove(statement=statement, later=later, **how)

    assert case.judge(prove(), policy=anything).accepted
    assert case.judge(prove(other), policy=anything).accepted
    for later in ([first], [other, first], [other, other]):
        assert case.failed(prove(*later, once=False), policy=anything) == {"statement.events"}
    said = prove(other, measured=case.statement)
    assert "statement.events" in case.failed(said, policy=anything), "one that was measured once was not opened twice"


@pytest.mark.parametrize(
    "change",
    [
        lambda events: events[:-1],
        lambda events: events[:3],
        lambda events: (*events[:3], events[4], events[3]),
        lambda events: (*events, Event("artifact", digest_bytes(b"never measured"))),
        lambda events: (*events[:-1], Event("artifact", digest_bytes(b"instead"))),
        lambda events: (*events[:2], events[3], events[2], events[4]),
    ],
    ids=["shortened", "as at the start", "reordered", "extended", "replaced", "the later before the first"],
)
def test_a_list_of_later_events_that_was_changed_is_refused(case, with_policy, change):
    anything = with_policy(artifacts=Requirement(any="a test"))
    later = case.prove(later=[Event("artifact", OTHER), Event("artifact", digest_bytes(b"third"))])
    assert case.judge(later, policy=anything).accepted
    changed = replace(later, evidence=replace(later.evidence, events=change(later.evidence.events)))
    assert {"events.replay", "statement.events"} <= case.failed(changed, policy=anything)


@pytest.mark.parametrize("change", ["drop", "add", "swap", "alter"])
def test_an_event_log_that_does_not_replay_is_refused(case, change):
    events = case.bundle.evidence.events
    changed = {
        "drop": events[:-1],
        "add": (*events, Event("artifact", OTHER)),
        "swap": events[::-1],
        "alter": (Event("workload", "job"), *events[1:]),
    }[change]
    evidence = replace(case.bundle.evidence, events=changed)
    assert {"events.replay", "statement.events"} <= case.failed(replace(case.bundle, evidence=evidence))


@pytest.mark.parametrize(
    ("member", "identifier"),
    [("workload", "policy.workload"), ("configuration", "policy.configuration"), ("artifacts", "policy.artifacts")],
)
def test_what_the_policy_does_not_admit_is_refused(case, with_policy, member, identifier):
    changed = with_policy(**{member: Requirement(one_of=("something else",))})
    assert case.failed(policy=changed) == {identifier}


@pytest.mark.parametrize(
    ("member", "wanted", "identifier"),
    [
        ("mrseam", ("00" * 48,), "policy.tdx.mrseam"),
        ("mrsignerseam", ("11" * 48,), "policy.tdx.mrsignerseam"),
        ("xfam", ("00" * 8,), "policy.tdx.xfam"),
        ("debug", ("1",), "policy.tdx.debug"),
        ("sept_ve_disable", ("0",), "policy.tdx.sept_ve_disable"),
        ("perfmon", ("1",), "policy.tdx.perfmon"),
        ("migratable", ("1",), "policy.tdx.migratable"),
        ("mrowner", ("11" * 48,), "policy.tdx.mrowner"),
        ("mrownerconfig", ("11" * 48,), "policy.tdx.mrownerconfig"),
        ("mr_service_td", ("11" * 48,), "policy.tdx.mr_service_td"),
        ("tcb_status", ("OutOfDate",), "policy.tdx.tcb_status"),
    ],
)
def test_each_requirement_on_the_quote_is_a_check_of_its_own(case, with_policy, member, wanted, identifier):
    changed = replace(case.policy.tdx, **{member: Requirement(one_of=wanted)})
    assert case.failed(policy=with_policy(tdx=changed)) == {identifier}
    anything = replace(case.policy.tdx, **{member: Requirement(any="the test says so")})
    assert case.judge(policy=with_policy(tdx=anything)).accepted


def test_a_floor_for_the_evaluation_number_is_kept(case, with_policy):
    changed = replace(case.policy.tdx, tcb_evaluation_minimum=10_000)
    assert case.failed(policy=with_policy(tdx=changed)) == {"policy.tdx.tcb_evaluation"}


def test_a_td_that_its_host_can_debug_is_refused(case):
    assert "policy.tdx.debug" in case.failed(case.prove(debug=True))


def test_a_td_without_sept_ve_disable_is_refused(case):
    assert case.failed(case.prove(sept_ve_disable=False)) == {"policy.tdx.sept_ve_disable"}


def test_a_changed_quote_is_never_accepted(case):
    quote = case.bundle.evidence.quote
    for position in range(0, len(quote), 97):
        changed = quote[:position] + bytes([quote[position] ^ 1]) + quote[position + 1 :]
        evidence = replace(case.bundle.evidence, quote=changed)
        try:
            assert not case.judge(replace(case.bundle, evidence=evidence)).accepted
        except MalformedEvidence:
            pass


def test_evidence_of_an_unknown_kind_is_not_read(case):
    with pytest.raises(MalformedEvidence):
        case.judge(replace(case.bundle, evidence=replace(case.bundle.evidence, kind="sample")))


def test_a_refusal_names_every_check_that_did_not_pass(case):
    with pytest.raises(AppraisalRefused) as caught:
        require(case.judge(nonce=bytes(32), purpose="session"))
    assert caught.value.failed == ("binding.nonce", "binding.purpose")


def test_an_explanation_has_a_cause_for_each_failed_check(case):
    rows = explain(case.judge(case.prove(image=OTHER)))
    assert rows[0][0].id == "statement.image"
    assert "other code" in rows[0][1]
    assert rows[-1][0].status is Status.NOT_RUN


def test_a_worker_that_opened_nothing_is_not_one_that_opened_what_the_policy_names(case, with_policy):
    nothing = case.prove(statement=replace(case.statement, artifacts=()))
    assert case.failed(nothing) == {"policy.artifacts"}
    assert case.judge(nothing, policy=with_policy(artifacts=Requirement(any="the test says so"))).accepted
