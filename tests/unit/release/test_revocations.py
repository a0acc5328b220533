import dataclasses

import pytest

from strongroom.errors import LeaseEnded, ReleaseRefused, UsageError
from strongroom.records.digest import digest_bytes
from strongroom.records.release import LeaseState
from strongroom.records.revocation import About, Reason, Subject
from strongroom.release import subjects

PPID, PIID = "ab" * 16, "cd" * 16
OTHER_ARTIFACT = digest_bytes(b"another artifact")


def concerning(worker):
    """One subject of every kind that a release to `worker` concerns."""
    return {
        "key": Subject(About.KEY, "model"),
        "policy": Subject(About.POLICY, "policy"),
        "tenant": Subject(About.TENANT, ""),
        "artifact": Subject(About.ARTIFACT, worker.statement.artifacts[0]),
        "worker": Subject(About.WORKER, worker.keyset.digest),
        "machine": Subject(About.MACHINE, f"ppid:{PPID}"),
    }


@pytest.fixture
def wrapped(world):
    world.appraiser.claims = {"ppid": PPID, "piid": PIID, "cpusvn": "00"}
    return world.prepared()


def revoke(world, subject, **members):
    return world.admin.revocations.revoke(subject, who=world.who, now=world.now, **members)


def lift(world, subject):
    world.admin.revocations.lift(subject, who=world.who, now=world.now)


def refusal(act, *words):
    with pytest.raises(ReleaseRefused) as refused:
        act(*words)
    return refused.value.detail


@pytest.mark.parametrize("about", list(About))
def test_a_revocation_ends_what_lives_and_refuses_what_comes_until_it_is_lifted(world, worker, wrapped, about):
    subject = concerning(worker)[about.value]
    lease_id = world.release(world.request(worker, wrapped)).lease_id
    revoked = revoke(world, subject, reason=Reason.COMPROMISED)
    assert [(lease.id, lease.state) for lease in revoked.leases] == [(lease_id, LeaseState.REVOKED)]
    assert world.admin.revocations.all() == (revoked.revocation,)
    assert refusal(world.renew, worker, lease_id) == "lease.revoked"
    assert refusal(world.release, world.request(worker, wrapped)) == f"revoked.{about.value}"
    assert world.leaves()[-1].detail == f"code=release.refused unlogged=0 checks=revoked.{about.value}"

    lift(world, subject)
    assert world.admin.revocations.all() == ()
    assert refusal(world.renew, worker, lease_id) == "lease.revoked"
    world.release(world.request(worker, wrapped))


@pytest.mark.parametrize(
    "subject",
    [
        Subject(About.KEY, "other"),
        Subject(About.POLICY, "other"),
        Subject(About.TENANT, "acme"),
        Subject(About.ARTIFACT, OTHER_ARTIFACT),
        Subject(About.WORKER, digest_bytes(b"another keyset")),
        Subject(About.MACHINE, f"chip_id:{PPID}"),
        Subject(About.MACHINE, f"ppid:{PIID}"),
    ],
    ids=str,
)
def test_what_does_not_concern_a_worker_does_not_end_it(world, worker, wrapped, subject):
    lease_id = world.release(world.request(worker, wrapped)).lease_id
    assert revoke(world, subject).leases == ()
    world.renew(worker, lease_id)
    world.release(world.request(worker, wrapped))


def test_each_act_is_a_leaf_and_a_machine_is_in_it_by_a_digest(world, worker, wrapped):
    lease_id = world.release(world.request(worker, wrapped)).lease_id
    subject = concerning(worker)["machine"]
    revoke(world, subject, reason=Reason.INVESTIGATED)
    lift(world, subject)
    name = f"machine:{digest_bytes(subject.name.encode())}"
    assert [(leaf.subject, leaf.digests, leaf.detail) for leaf in world.leaves()[-3:]] == [
        (name, (world.who,), "in force reason=investigated"),
        (lease_id, (worker.keyset.digest, world.who), "machine"),
        (name, (world.who,), "lifted"),
    ]


def test_a_revocation_that_stands_is_left_as_it_is(world, worker, wrapped):
    world.release(world.request(worker, wrapped))
    subject = concerning(worker)["key"]
    first = revoke(world, subject).revocation
    size = world.log_size()
    world.now += 5
    again = revoke(world, subject, reason=Reason.COMPROMISED)
    assert (again.revocation, again.leases, world.log_size()) == (first, (), size)


def test_leases_that_ended_before_are_not_ended_again(world, worker, wrapped):
    world.release(world.request(worker, wrapped))
    world.now += 300
    assert revoke(world, concerning(worker)["worker"]).leases == ()


def test_revocations_survive_a_restart(world, worker, wrapped):
    revoke(world, concerning(worker)["artifact"])
    world.broker.close()
    world.open()
    assert refusal(world.release, world.request(worker, wrapped)) == "revoked.artifact"


def test_a_tenant_is_revoked_with_all_its_keys(world, worker):
    world.put_policy(policy_id="acme/policy")
    world.admin.create_key("acme/model", "acme/policy", who=world.who, now=world.now)
    wrapped = world.wrap(key_id="acme/model")
    world.release(world.request(worker, wrapped))
    assert revoke(world, Subject(About.TENANT, "other")).leases == ()
    assert len(revoke(world, Subject(About.TENANT, "acme")).leases) == 1
    assert refusal(world.release, world.request(worker, wrapped)) == "revoked.tenant"


def test_a_revocation_while_the_evidence_is_judged_is_seen(world, worker, wrapped):
    """Between the judgement and its transaction."""
    request = world.request(worker, wrapped)
    judged = world.appraiser.__class__.__call__

    class Meanwhile(world.appraiser.__class__):
        def __call__(self, *words, **members):
            verdict = judged(self, *words, **members)
            revoke(world, concerning(worker)["worker"])
            return verdict

    world.appraiser.__class__ = Meanwhile
    assert refusal(world.release, request) == "revoked.worker"
    assert world.admin.leases(now=world.now) == ()


def test_a_machine_that_shows_another_name_at_a_renewal_is_refused(world, worker, wrapped):
    lease_id = world.release(world.request(worker, wrapped)).lease_id
    revoke(world, Subject(About.MACHINE, f"ppid:{PIID}"))
    world.appraiser.claims = {"ppid": PIID}
    assert refusal(world.renew, worker, lease_id) == "revoked.machine"


def test_more_leases_than_a_page_are_ended_in_one_act(world, worker, wrapped, monkeypatch):
    monkeypatch.setattr("strongroom.release.revocations.PAGE", 2)
    workers = [type(worker)() for _ in range(5)]
    ids = {world.release(world.request(each, wrapped)).lease_id for each in workers}
    assert {lease.id for lease in revoke(world, Subject(About.KEY, "model")).leases} == ids


def test_a_lease_of_which_nothing_was_noted_is_found_by_its_record(world, worker, wrapped):
    lease_id = world.release(world.request(worker, wrapped)).lease_id
    lease = world.store.read(lambda reader: reader.lease(lease_id)).lease

    class Bare:
        def lease_notes(self, _lease_id):
            return None

    noted = subjects.notes_at(Bare(), lease)
    assert {subject.about for subject in noted.subjects} == {About.KEY, About.POLICY, About.TENANT, About.WORKER}
    assert noted.boot == subjects.boot_of(worker.keyset.digest, {})


@pytest.mark.parametrize(
    ("about", "name"),
    [
        (About.KEY, "Not A Name"),
        (About.POLICY, ""),
        (About.TENANT, "a/b"),
        (About.TENANT, "A"),
        (About.ARTIFACT, "sha256:00"),
        (About.WORKER, "model"),
        (About.MACHINE, "ppid"),
        (About.MACHINE, "ppid:"),
        (About.MACHINE, "report_data:00"),
        (About.MACHINE, "ppid:a b"),
        (About.MACHINE, "ppid:" + "a" * 257),
    ],
)
def test_a_name_that_can_be_nothing_s_is_refused(world, about, name):
    with pytest.raises(UsageError):
        revoke(world, Subject(about, name))
    assert world.admin.revocations.all() == ()


def test_only_what_stands_is_lifted(world):
    with pytest.raises(UsageError):
        lift(world, Subject(About.KEY, "model"))
    assert world.log_size() == 0


def test_a_lease_is_revoked_by_its_id_and_its_worker_may_come_again(world, worker, wrapped):
    lease_id = world.release(world.request(worker, wrapped)).lease_id
    world.admin.revocations.revoke_lease(lease_id, who=world.who, now=world.now)
    with pytest.raises(LeaseEnded):
        world.admin.revocations.revoke_lease(lease_id, who=world.who, now=world.now)
    world.release(world.request(worker, wrapped))


def test_the_key_that_a_spend_was_granted_belongs_to_the_lease(world, worker, wrapped):
    lease_id = world.release(world.request(worker, wrapped)).lease_id
    lease = world.store.read(lambda reader: reader.lease(lease_id)).lease
    granted = subjects.of_names(["outputs"], ["policy"])

    def note(transaction):
        notes = subjects.notes_at(transaction, lease)
        transaction.note_lease(lease_id, dataclasses.replace(notes, subjects=notes.subjects | granted))

    world.store.write(note)
    world.renew(worker, lease_id)  # which keeps it
    assert [ended.id for ended in revoke(world, Subject(About.KEY, "outputs")).leases] == [lease_id]


def test_what_was_noted_of_a_lease_is_forgotten_when_it_has_ended(world, worker, wrapped):
    """It names the machine; an ended lease needs it no more."""
    old = world.release(world.request(worker, wrapped)).lease_id
    world.now += 299
    new = world.release(world.request(worker, wrapped)).lease_id
    world.now += 1
    world.store.write(lambda transaction: transaction.forget(world.now))
    noted = [world.store.read(lambda reader, each=each: reader.lease_notes(each)) for each in (old, new)]
    assert noted[0] is None
    assert Subject(About.MACHINE, f"ppid:{PPID}") in noted[1].subjects
