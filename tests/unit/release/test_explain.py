import dataclasses

import pytest

from strongroom.appraisal.policies import sign_policy
from strongroom.crypto.signatures import generate_ed25519, generate_p256, raw_public
from strongroom.errors import MalformedEvidence, MalformedRecord, ReleaseRefused, SignatureInvalid
from strongroom.receipts.cosignature import Witness
from strongroom.records import codec
from strongroom.records.evidence import EvidenceBundle
from strongroom.records.explanation import ExplainRequest
from strongroom.records.policy import Requirement, WitnessPolicy
from strongroom.records.release import PURPOSE_RELEASE, Edition
from strongroom.records.revocation import About, Subject
from strongroom.records.verdict import Status
from strongroom.release import explain
from strongroom.release.archive import Archive


@pytest.fixture
def bundle(worker) -> EvidenceBundle:
    return worker.prove(b"n" * 32, PURPOSE_RELEASE)


def signed(world, owner=None, **members):
    return sign_policy(world.policy(**members), owner or world.owner)


def ask(world, bundle, *keys, draft=None):
    return world.broker.explainer.explain(ExplainRequest(bundle, keys, draft), now=world.now)


def everything(world):
    """All that is in the database, table by table."""
    driver = world.store._writer
    tables = [row[0] for row in driver.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    return {table: driver.execute(f"SELECT * FROM {table}").fetchall() for table in tables}  # noqa: S608


def test_the_whole_verdict_and_the_lease_that_would_begin(world, bundle):
    world.prepared()
    found = ask(world, bundle, "model")
    assert (found.lease_seconds, found.time) == (300, world.now)
    (judged,), (key,) = found.policies, found.keys
    assert (judged.id, judged.version, judged.draft, judged.accepted) == ("policy", 1, False, True)
    assert [check.id for check in judged.checks] == ["binding.nonce", "binding.purpose", "policy.test"]
    assert (key.key_id, key.policy_id, key.code) == ("model", "policy", "")


def test_nothing_changes_whatever_is_asked(world, worker, bundle):
    world.release(world.request(worker, world.prepared()))
    before = everything(world)
    for admits in (True, False):
        world.appraiser.admits = admits
        ask(world, bundle, "model", "absent", draft=signed(world, version=9))
        world.broker.explainer.try_policy(signed(world, version=9), now=world.now)
    assert everything(world) == before


def test_what_fails_is_named_and_nothing_would_be_released(world, bundle):
    world.prepared()
    world.appraiser.admits = False
    found = ask(world, bundle, "model")
    assert found.lease_seconds is None
    assert [check.id for check in found.policies[0].checks if check.status is Status.FAIL] == ["policy.test"]


def test_a_key_that_would_be_refused_whatever_is_proved_says_why(world, worker, bundle):
    world.admin.create_key("bare", "none-yet", who=world.who, now=world.now)
    world.prepared()
    world.admin.create_key("once", "policy", who=world.who, now=world.now, max_uses=1)
    assert ask(world, bundle, "once").lease_seconds == 300
    world.release(world.request(worker, world.wrap(key_id="once", of=Edition.first(b"b"))))
    world.admin.create_key("old", "policy", who=world.who, now=world.now)
    world.admin.retire_key("old", who=world.who, now=world.now)
    found = ask(world, bundle, "model", "bare", "once", "old", "absent")
    codes = {key.key_id: key.code for key in found.keys}
    unknown = "key.unknown"
    assert codes == {"model": "", "bare": "policy.missing", "once": "key.uses", "old": unknown, "absent": unknown}
    assert found.lease_seconds is None
    assert [policy.id for policy in found.policies] == ["policy"]


@pytest.mark.parametrize("about", About)
def test_what_was_revoked_would_be_refused_until_it_is_lifted(world, worker, bundle, about):
    world.prepared()
    world.appraiser.claims = {"ppid": "ab" * 16}
    name = {
        About.KEY: "model",
        About.ARTIFACT: worker.statement.artifacts[0],
        About.POLICY: "policy",
        About.WORKER: worker.keyset.digest,
        About.MACHINE: f"ppid:{'ab' * 16}",
        About.TENANT: "",
    }[about]
    subject = Subject(about, name)
    world.admin.revocations.revoke(subject, who=world.who, now=world.now)
    found = ask(world, bundle, "model")
    assert [key.code for key in found.keys] == [f"revoked.{about.value}"]
    assert found.lease_seconds is None
    world.admin.revocations.lift(subject, who=world.who, now=world.now)
    assert ask(world, bundle, "model").lease_seconds == 300


def test_a_key_that_was_released_in_this_boot_would_be_refused(world, worker, another_worker, bundle):
    world.prepared()
    world.admin.create_key("booted", "policy", who=world.who, now=world.now, per_boot=True)
    assert ask(world, bundle, "booted").lease_seconds == 300
    assert [key.code for key in ask(world, bundle, "booted", "booted").keys] == ["key.boot", "key.boot"]
    world.release(world.request(worker, world.wrap(key_id="booted", of=Edition.first(b"b"))))
    found = ask(world, bundle, "booted", "model")
    assert [key.code for key in found.keys] == ["key.boot", ""]
    assert found.lease_seconds is None
    assert ask(world, another_worker.prove(b"n" * 32, PURPOSE_RELEASE), "booted").lease_seconds == 300


def test_witnesses_that_this_broker_does_not_have_are_said_to_be_missing(world, bundle):
    world.prepared()
    key = Witness("elsewhere.example/1", raw_public(generate_ed25519())).key
    policy = dataclasses.replace(world.policy(version=2), witnesses=WitnessPolicy(Requirement((key,)), 1))
    draft = sign_policy(policy, world.owner)
    assert [one.code for one in ask(world, bundle, "model", draft=draft).keys] == ["policy.witnesses"]
    assert ask(world, bundle, "model").lease_seconds == 300
    with pytest.raises(ReleaseRefused) as refused:
        world.broker.explainer.try_policy(draft, now=world.now)
    assert refused.value.detail == "policy.witnesses"


def test_a_lease_is_not_beyond_the_keyset(world, bundle):
    world.prepared()
    world.now = bundle.evidence.keyset.not_after - 100
    assert ask(world, bundle, "model").lease_seconds == 100
    world.now += 100
    found = ask(world, bundle, "model")
    assert (found.lease_seconds, found.keys[0].code) == (None, "keyset.not_after")


def test_a_draft_stands_for_the_policy_of_its_id_and_is_judged_beside_others(world, bundle):
    world.prepared()
    found = ask(world, bundle, "model", draft=signed(world, version=2, lease_seconds=60))
    assert [(one.version, one.draft) for one in found.policies] == [(2, True)]
    assert found.lease_seconds == 60
    found = ask(world, bundle, "model", draft=signed(world, policy_id="other"))
    assert [(one.id, one.draft) for one in found.policies] == [("policy", False), ("other", True)]
    assert found.lease_seconds == 300
    alone = ask(world, bundle, draft=signed(world, policy_id="other"))
    assert (alone.policies[0].accepted, alone.keys, alone.lease_seconds) == (True, (), None)
    with pytest.raises(SignatureInvalid):
        ask(world, bundle, "model", draft=signed(world, generate_p256()))


def test_questions_are_bounded(world, bundle):
    world.prepared()
    for keys in ((), ("model",) * 17):
        with pytest.raises(MalformedRecord):
            ask(world, bundle, *keys)


def trial(world, **members):
    return world.broker.explainer.try_policy(signed(world, **members), now=world.now)


def test_a_policy_is_tried_on_the_newest_evidence_of_each_live_lease(world, worker, another_worker):
    wrapped = world.prepared()
    first = world.release(world.request(worker, wrapped)).lease_id
    shown = world.now
    world.now += 100
    second = world.release(world.request(another_worker, wrapped)).lease_id
    world.renew(worker, first)
    found = trial(world, version=2)
    assert (found.id, found.version, found.newer, found.left_out) == ("policy", 2, True, 0)
    assert [(one.lease_id, one.status, one.at) for one in found.leases] == [
        (first, Status.PASS, shown + 100),
        (second, Status.PASS, shown + 100),
    ]
    world.appraiser.admits = False
    found = trial(world, version=1)
    assert not found.newer
    assert [(one.status, [check.id for check in one.failed]) for one in found.leases] == [
        (Status.FAIL, ["policy.test"])
    ] * 2


def test_only_live_leases_under_the_policys_id_are_tried(world, worker, another_worker):
    wrapped = world.prepared()
    ended = world.release(world.request(worker, wrapped)).lease_id
    world.admin.revoke_lease(ended, who=world.who, now=world.now)
    live = world.release(world.request(another_worker, wrapped)).lease_id
    assert [one.lease_id for one in trial(world, version=2).leases] == [live]
    assert trial(world, policy_id="other").leases == ()
    world.now += 300
    assert trial(world, version=2).leases == ()


def test_evidence_that_is_not_kept_is_never_a_pass(world, worker, another_worker, monkeypatch):
    wrapped = world.prepared()
    world.broker._attempts.archive = Archive(world.broker.log, days=0)
    lost = world.release(world.request(worker, wrapped)).lease_id
    (found,) = trial(world, version=2).leases
    assert (found.lease_id, found.status, found.at) == (lost, Status.NOT_RUN, None)
    world.broker._attempts.archive = Archive(world.broker.log)
    kept = world.release(world.request(another_worker, wrapped)).lease_id
    for _ in range(3):
        world.wrap()
    monkeypatch.setattr(explain, "CHUNK", 2)
    statuses = {one.lease_id: one.status for one in trial(world, version=2).leases}
    assert statuses == {lost: Status.NOT_RUN, kept: Status.PASS}
    monkeypatch.setattr(explain, "SCANNED_LEAVES", 3)
    assert {one.status for one in trial(world, version=2).leases} == {Status.NOT_RUN}


def test_evidence_that_is_not_understood_any_more_is_never_a_pass(world, worker, monkeypatch):
    world.release(world.request(worker, world.prepared()))

    def gone(*_, **__):
        raise MalformedEvidence("no verifier of this kind")

    monkeypatch.setattr(world.broker.explainer, "_appraiser", gone)
    (found,) = trial(world, version=2).leases
    assert (found.status, found.at) == (Status.NOT_RUN, world.now)


def test_leases_that_are_too_many_are_counted(world, worker, another_worker, monkeypatch):
    wrapped = world.prepared()
    for one in (worker, another_worker):
        world.release(world.request(one, wrapped))
    monkeypatch.setattr(explain, "MAX_TRIALS", 1)
    found = trial(world, version=2)
    assert (len(found.leases), found.left_out) == (1, 1)
    assert codec.decode(type(found), codec.encode(found)) == found
