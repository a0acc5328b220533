"""A broker under any order of events: nonces are used once, leases end once, policies never go back, every act is logged."""

import shutil
import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, multiple, rule

from strongroom.crypto.merkle import leaf_hash, root
from strongroom.errors import LeaseEnded, NonceReused, ReleaseRefused
from strongroom.receipts.note import open_checkpoint
from strongroom.receipts.proof import verify_proof
from strongroom.records.release import LeaseState


class Machine(RuleBasedStateMachine):
    """The model: `used` nonces, the end of each lease or None once revoked, the policy's version, the number of leaves."""

    requests, leases = Bundle("requests"), Bundle("leases")
    World, Worker = None, None

    def __init__(self):
        super().__init__()
        self.directory = Path(tempfile.mkdtemp(prefix="strongroom-test-"))
        self.world, self.worker = self.World(self.directory), self.Worker(not_after=2**40)
        self.wrapped = self.world.prepared()
        self.used, self.answers, self.ends = set(), {}, {}
        self.version, self.leaves, self.refusals = 1, self.world.log_size(), 0

    def teardown(self):
        self.world.broker.close()
        shutil.rmtree(self.directory)

    @rule(target=requests)
    def prove(self):
        return self.world.request(self.worker, self.wrapped)

    @rule(seconds=st.integers(1, 200))
    def wait(self, seconds):
        self.world.now += seconds

    @rule()
    def restart(self):
        self.world.broker.close()
        self.world.open()

    @rule(target=leases, request=requests)
    def release(self, request):
        nonce, now = request.challenge.nonce, self.world.now
        kept = nonce in self.answers and now < self.answers[nonce][0]
        fresh = nonce not in self.used and now < request.challenge.expires
        try:
            answer = self.world.release(request)
        except NonceReused:
            assert nonce in self.used
            assert not kept
            self.leaves = self.world.log_size()
            return multiple()
        except ReleaseRefused as refused:
            assert (fresh, refused.detail) == (False, "challenge.expired")  # noqa: PT017 (either outcome may be right)
            return multiple()
        if kept:
            assert answer == self.answers[nonce][1]
            return multiple()
        assert fresh
        self.used.add(nonce)
        self.answers[nonce] = now + 60, answer
        self.ends[answer.lease_id] = now + answer.lease_seconds
        self._logged(answer)
        return answer.lease_id

    @rule(lease_id=leases)
    def renew(self, lease_id):
        end, now = self.ends[lease_id], self.world.now
        try:
            answer = self.world.renew(self.worker, lease_id)
        except LeaseEnded:
            assert end is None or now >= end
            self.leaves = self.world.log_size()
            return
        assert end is not None
        assert now < end
        self.ends[lease_id] = now + answer.lease_seconds
        self._logged(answer)

    @rule(lease_id=leases)
    def revoke(self, lease_id):
        end, now = self.ends[lease_id], self.world.now
        try:
            self.world.admin.revoke_lease(lease_id, who=self.world.who, now=now)
        except LeaseEnded:
            assert end is None or now >= end
            return
        assert end is not None
        assert now < end
        self.ends[lease_id] = None
        self.leaves += 1

    @rule(version=st.integers(1, 6), lease_seconds=st.integers(30, 400))
    def put_policy(self, version, lease_seconds):
        try:
            self.world.put_policy(version=version, lease_seconds=lease_seconds)
        except ReleaseRefused:
            assert version <= self.version
            return
        if version > self.version:
            self.version, self.leaves = version, self.leaves + 1

    def _logged(self, answer):
        identity = self.world.broker.identity
        leaf = verify_proof(answer.proof, origin=identity.log_origin, log_key=identity.log)
        assert leaf.subject == answer.lease_id
        assert answer.proof.index == self.leaves
        self.leaves += 1

    @invariant()
    def the_newest_policy_is_in_force(self):
        assert [policy.version for policy in self.world.admin.policies()] == [self.version]

    @invariant()
    def the_log_grows_by_exactly_what_was_decided(self):
        entries = self.world.store.read(lambda reader: reader.log_leaves(0, reader.log_size()))
        identity = self.world.broker.identity
        checkpoint = open_checkpoint(
            self.world.broker.log.checkpoint(self.world.store), identity.log_origin, identity.log
        )
        assert (len(entries), checkpoint.size) == (self.leaves, self.leaves)
        assert checkpoint.root == root([leaf_hash(entry) for entry in entries])

    @invariant()
    def every_lease_is_in_the_state_that_its_story_says(self):
        now = self.world.now
        for lease in self.world.admin.leases(now=now):
            end = self.ends[lease.id]
            expected = LeaseState.REVOKED if end is None else LeaseState.ACTIVE if now < end else LeaseState.EXPIRED
            assert lease.state is expected


def test_any_order_of_events(world, worker):
    """`world` and `worker` lend their classes: a machine makes its own."""
    Machine.World, Machine.Worker = type(world), type(worker)
    Machine.TestCase.settings = settings(max_examples=15, stateful_step_count=25, deadline=None)
    Machine.TestCase("runTest").runTest()
