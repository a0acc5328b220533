import threading

import pytest

from strongroom.errors import ClockWrong, MalformedEvidence, MalformedRecord, StoreUnavailable
from strongroom.records.release import LeaseState
from strongroom.release.administrators import Administrators
from strongroom.release.broker import Broker
from strongroom.release.present import Failure
from strongroom.release.sweep import Sweep, Sweeper

FAILURE = Failure("tcb", ("tdx.tcb.platform", "policy.tdx.tcb_status"))


class Again:
    """Says of kept evidence what the test says, and remembers what it was asked."""

    def __init__(self):
        self.answers, self.asked, self.meanwhile = [], [], lambda: None

    def __call__(self, bundle, policy, *, purpose, decided, now):
        self.asked.append((bundle.evidence.purpose, policy.version, purpose, decided, now))
        self.meanwhile()
        answer = self.answers.pop(0) if self.answers else None
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.fixture
def again():
    return Again()


@pytest.fixture
def sweep(world, again):
    return Sweep(world.store, world.admin.revocations, again, administrators=world.broker.administrators)


def act(world, sweep, after="", **members):
    return sweep.page(after, who=world.who, now=world.now, **members)


def states(world):
    return [lease.state for lease in world.admin.leases(now=world.now)]


def test_what_still_passes_goes_on_and_is_judged_by_its_newest_decision(world, worker, sweep, again):
    lease_id = world.release(world.request(worker, world.prepared())).lease_id
    world.now += 5
    world.put_policy(version=2)
    act(world, sweep)
    world.renew(worker, lease_id)
    world.now += 5
    page = act(world, sweep)
    assert (page.judged, page.unjudged, page.ended, page.next) == (1, 0, (), None)
    assert again.asked == [
        ("release", 2, "release", world.now - 10, world.now - 5),
        (f"renew:{lease_id}", 2, f"renew:{lease_id}", world.now - 5, world.now),
    ]
    assert states(world) == [LeaseState.ACTIVE]


def test_what_fails_ends_with_the_checks_in_its_leaf(world, worker, sweep, again):
    lease_id = world.release(world.request(worker, world.prepared())).lease_id
    again.answers = [FAILURE, FAILURE]
    dry = act(world, sweep, dry_run=True)
    size = world.log_size()
    assert states(world) == [LeaseState.ACTIVE]
    assert act(world, sweep) == dry
    assert [(ended.lease_id, ended.what, ended.failed) for ended in dry.ended] == [(lease_id, "tcb", FAILURE.failed)]
    assert world.log_size() == size + 1
    leaf = world.leaves()[-1]
    assert (leaf.subject, leaf.digests) == (lease_id, (worker.keyset.digest, world.who))
    assert leaf.detail == "tcb checks=tdx.tcb.platform,policy.tdx.tcb_status"
    assert act(world, sweep).judged == 0


@pytest.mark.parametrize("error", [MalformedEvidence("no quote"), MalformedRecord("no record")])
def test_evidence_that_no_longer_parses_is_no_yes(world, worker, sweep, again, error):
    world.release(world.request(worker, world.prepared()))
    again.answers = [error]
    assert [(ended.what, ended.failed) for ended in act(world, sweep).ended] == [("policy", (error.code,))]


def test_a_lease_that_is_renewed_while_it_is_judged_is_left_to_its_newer_evidence(world, worker, sweep, again):
    lease_id = world.release(world.request(worker, world.prepared())).lease_id
    again.answers, again.meanwhile = [FAILURE], lambda: world.renew(worker, lease_id)
    page = act(world, sweep)
    assert (page.judged, page.ended) == (1, ())
    assert states(world) == [LeaseState.ACTIVE]


def test_a_lease_that_is_revoked_while_it_is_judged_is_not_ended_twice(world, worker, sweep, again):
    lease_id = world.release(world.request(worker, world.prepared())).lease_id
    again.answers = [FAILURE]
    again.meanwhile = lambda: world.admin.revoke_lease(lease_id, who=world.who, now=world.now)
    assert act(world, sweep).ended == ()
    assert [leaf.detail for leaf in world.leaves() if leaf.event == "revocation"] == ["lease"]


def test_leases_of_which_nothing_is_kept_are_counted_and_left_to_their_term(world, worker, sweep, again):
    wrapped = world.prepared()
    owners = [world.owner.public_key()]
    world.broker = Broker(world.store, world.keys, appraiser=world.appraiser, owner_keys=owners, keep_days=0)
    world.release(world.request(worker, wrapped))
    page = act(world, sweep)
    assert (page.judged, page.unjudged, page.ended, again.asked) == (0, 1, (), [])
    assert states(world) == [LeaseState.ACTIVE]


def test_every_lease_is_judged_once_page_by_page(world, worker, sweep, again, monkeypatch):
    monkeypatch.setattr("strongroom.release.sweep.PAGE_LEASES", 2)
    wrapped = world.prepared()
    for _ in range(5):
        world.release(world.request(type(worker)(), wrapped))
    pages, after = [], ""
    while after is not None:
        pages.append(act(world, sweep, after))
        after = pages[-1].next
    assert [page.judged for page in pages] == [2, 2, 1]
    assert len(again.asked) == 5


def test_a_policy_that_is_not_the_one_that_was_signed_admits_nobody(world, worker, sweep, again):
    world.release(world.request(worker, world.prepared()))
    sweep._administrators = Administrators(
        world.store, world.broker.log, broker=world.broker.identity.fingerprint, roots=()
    )
    assert len(act(world, sweep).ended) == 1
    assert again.asked == []


def test_a_sweeper_outlives_what_goes_wrong(world):
    rounds, done = [], threading.Event()

    class Trouble:
        def page(self, after, **_members):
            rounds.append(after)
            if len(rounds) == 1:
                raise StoreUnavailable("busy")
            done.set()
            return type("Page", (), {"judged": 0, "unjudged": 0, "ended": (), "next": None})

    def refresh():
        raise MalformedRecord("a file is half written")

    sweeper = Sweeper(Trouble(), refresh, seconds=0.001, who=world.who, clock=lambda: world.now)
    try:
        assert done.wait(60)
    finally:
        sweeper.close()
    assert rounds[:2] == ["", ""]
    assert not sweeper._thread.is_alive()


def test_on_a_wrong_clock_a_sweeper_judges_nothing(world):
    """A clock that is far ahead would make all collateral old, and end every lease."""
    times, done, readings = [], threading.Event(), iter([ClockWrong("ahead"), world.now])

    class Watched:
        def page(self, _after, *, now, **_members):
            times.append(now)
            done.set()
            return type("Page", (), {"judged": 0, "unjudged": 0, "ended": (), "next": None})

    def clock():
        found = next(readings, world.now)
        if isinstance(found, Exception):
            raise found
        return found

    sweeper = Sweeper(Watched(), lambda: None, seconds=0.001, who=world.who, clock=clock)
    try:
        assert done.wait(60)
    finally:
        sweeper.close()
    assert set(times) == {world.now}
