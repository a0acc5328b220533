"""Revocations under any order of events: what is revoked never holds a live lease, and nothing else is refused."""

import shutil
import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from strongroom.errors import LeaseEnded, ReleaseRefused, UsageError
from strongroom.records.release import LeaseState
from strongroom.records.revocation import About, Subject

WORKERS, KEYS = 3, ("model", "acme/model")
ABOUT = st.sampled_from(list(About))


def policy_of(key):
    return key.replace("model", "policy")


class Machine(RuleBasedStateMachine):
    """The model: what is revoked, and of each lease its worker, what it concerns, its end (None once revoked)."""

    World, Worker = None, None

    def __init__(self):
        super().__init__()
        self.directory = Path(tempfile.mkdtemp(prefix="strongroom-test-"))
        self.world = self.World(self.directory)
        self.revoked, self.leases = set(), {}

    @initialize()
    def prepare(self):
        world = self.world
        self.workers = [self.Worker(not_after=2**40) for _ in range(WORKERS)]
        for key in KEYS:
            world.put_policy(policy_id=policy_of(key))
            world.admin.create_key(key, policy_of(key), who=world.who, now=world.now)
        self.wrapped = {key: world.wrap(key_id=key) for key in KEYS}

    def teardown(self):
        self.world.broker.close()
        shutil.rmtree(self.directory)

    def concerns(self, number, key):
        """Every worker has a machine of its own, and they share an artifact."""
        worker = self.workers[number]
        return {
            Subject(About.KEY, key),
            Subject(About.POLICY, policy_of(key)),
            Subject(About.TENANT, key.rpartition("/")[0]),
            Subject(About.ARTIFACT, worker.statement.artifacts[0]),
            Subject(About.WORKER, worker.keyset.digest),
            Subject(About.MACHINE, f"ppid:{number}"),
        }

    def one(self, about, number, key):
        (found,) = (subject for subject in self.concerns(number, key) if subject.about is about)
        return found

    def judges(self, number):
        self.world.appraiser.claims = {"ppid": str(number)}

    @rule(number=st.integers(0, WORKERS - 1), key=st.sampled_from(KEYS))
    def release(self, number, key):
        self.judges(number)
        concerns = self.concerns(number, key)
        try:
            answer = self.world.release(self.world.request(self.workers[number], self.wrapped[key]))
        except ReleaseRefused as refused:
            assert refused.detail in {f"revoked.{found.about.value}" for found in concerns & self.revoked}  # noqa: PT017
            return
        assert not concerns & self.revoked
        self.leases[answer.lease_id] = [number, concerns, self.world.now + answer.lease_seconds]

    @rule(choice=st.integers(0, 50))
    def renew(self, choice):
        if not self.leases:
            return
        lease_id = sorted(self.leases)[choice % len(self.leases)]
        number, _, end = self.leases[lease_id]
        self.judges(number)
        live = end is not None and self.world.now < end
        try:
            answer = self.world.renew(self.workers[number], lease_id)
        except LeaseEnded:
            assert not live
            return
        assert live
        self.leases[lease_id][2] = self.world.now + answer.lease_seconds

    @rule(about=ABOUT, number=st.integers(0, WORKERS - 1), key=st.sampled_from(KEYS))
    def revoke(self, about, number, key):
        subject, now = self.one(about, number, key), self.world.now
        done = self.world.admin.revocations.revoke(subject, who=self.world.who, now=now)
        live = {
            lease_id
            for lease_id, (_, concerns, end) in self.leases.items()
            if subject in concerns and end is not None and now < end
        }
        assert {lease.id for lease in done.leases} == live
        for lease_id in live:
            self.leases[lease_id][2] = None
        self.revoked.add(subject)

    @rule(about=ABOUT, number=st.integers(0, WORKERS - 1), key=st.sampled_from(KEYS))
    def lift(self, about, number, key):
        subject = self.one(about, number, key)
        try:
            self.world.admin.revocations.lift(subject, who=self.world.who, now=self.world.now)
        except UsageError:
            assert subject not in self.revoked
            return
        self.revoked.remove(subject)

    @rule(seconds=st.integers(1, 200))
    def wait(self, seconds):
        self.world.now += seconds

    @rule()
    def restart(self):
        self.world.broker.close()
        self.world.open()

    @invariant()
    def a_revoked_subject_never_holds_a_live_lease(self):
        for lease in self.world.admin.leases(now=self.world.now):
            _, concerns, end = self.leases[lease.id]
            live = lease.state is LeaseState.ACTIVE
            assert live == (end is not None and self.world.now < end)
            assert not (live and concerns & self.revoked)

    @invariant()
    def what_stands_is_what_was_said(self):
        assert {standing.subject for standing in self.world.admin.revocations.all()} == self.revoked


def test_any_order_of_revocations_releases_and_renewals(world, worker):
    """`world` and `worker` lend their classes: a machine makes its own."""
    Machine.World, Machine.Worker = type(world), type(worker)
    Machine.TestCase.settings = settings(max_examples=20, stateful_step_count=25, deadline=None)
    Machine.TestCase("runTest").runTest()
