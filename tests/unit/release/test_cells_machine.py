"""Cells under any order of events: a budget never falls below zero, a counter never goes back, nothing moves twice."""

import itertools
import shutil
import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule

from strongroom.crypto.signatures import sign_envelope
from strongroom.errors import LeaseEnded, NonceReused, ReleaseRefused
from strongroom.receipts.proof import verify_proof
from strongroom.records import codec
from strongroom.records.cell import Advance, CellKind, Spend
from strongroom.records.digest import digest_bytes
from strongroom.release.wire import CELL_PAYLOAD_TYPE, CellCreation

LIMIT = 40


class Machine(RuleBasedStateMachine):
    """The model: the counter's number, all debits, what each request was answered and until when, whether the lease lives."""

    requests = Bundle("requests")
    World, Worker = None, None

    def __init__(self):
        super().__init__()
        self.directory = Path(tempfile.mkdtemp(prefix="strongroom-test-"))
        self.world, self.worker = self.World(self.directory), self.Worker(not_after=2**40)
        self.wrapped, self.nonces = self.world.prepared(), itertools.count()
        for cell_id, kind, limit in (("steps", CellKind.COUNTER, None), ("epsilon", CellKind.BUDGET, LIMIT)):
            wanted = CellCreation(cell_id, kind, "policy", limit, None)
            self.world.broker.cells.create(wanted, who=self.world.who, now=self.world.now)
        self.number, self.digest, self.debits = 0, None, []
        self.answers, self.seen, self.changes = {}, 0, 0
        self.begin()

    def begin(self):
        self.lease = self.world.release(self.world.request(self.worker, self.world.wrap())).lease_id
        self.ends = self.world.now + 300

    def teardown(self):
        self.world.broker.close()
        shutil.rmtree(self.directory)

    def nonce(self):
        return next(self.nonces).to_bytes(32, "big")

    @rule(target=requests, amount=st.integers(1, 15))
    def want_to_spend(self, amount):
        return Spend("epsilon", self.lease, self.nonce(), amount, "query", None)

    @rule(target=requests, back=st.integers(-2, 2), ahead=st.integers(1, 3), what=st.binary(max_size=2))
    def want_to_advance(self, back, ahead, what):
        expected = max(0, self.number - back)
        return Advance("steps", self.lease, self.nonce(), expected, expected + ahead, digest_bytes(what))

    @rule(seconds=st.integers(1, 100))
    def wait(self, seconds):
        self.world.now += seconds

    @rule()
    def restart(self):
        self.world.broker.close()
        self.world.open()

    @rule()
    def renew(self):
        if self.ends is not None and self.world.now < self.ends:
            self.world.renew(self.worker, self.lease)
            self.ends = self.world.now + 300

    @rule()
    def end_and_begin_anew(self):
        if self.ends is not None and self.world.now < self.ends:
            self.world.admin.revoke_lease(self.lease, who=self.world.who, now=self.world.now)
        self.begin()

    @rule(request=requests)
    def ask(self, request):
        now, name = self.world.now, request.nonce
        lives = request.lease_id == self.lease and now < self.ends
        kept = name in self.answers and now < self.answers[name][0]
        cells = self.world.broker.cells
        verb = cells.spend if isinstance(request, Spend) else cells.advance
        body = sign_envelope(CELL_PAYLOAD_TYPE, codec.encode(request), self.worker.receipt).to_bytes()
        try:
            outcome = verb(request.cell_id, body, now=now)
        except LeaseEnded:
            assert not lives
            return
        except NonceReused:
            assert lives
            assert name in self.answers
            assert not kept
            return
        except ReleaseRefused as refused:
            outcome = refused.detail
        assert lives
        if name in self.answers:
            assert kept
            assert outcome == self.answers[name][1]
            return
        self.answers[name] = now + 60, outcome
        self.decided(request, outcome)

    @rule(request=requests)
    def ask_and_ask_again_much_later(self, request):
        self.ask(request)
        for _ in range(2):
            self.world.now += 61
            self.renew()
            self.ask(request)

    def decided(self, request, outcome):
        left = LIMIT - sum(self.debits)
        if isinstance(request, Spend):
            assert (outcome == "cell.spent") == (request.amount > left)
        else:
            assert (outcome == "cell.expected") == (request.expected != self.number)
        if isinstance(outcome, str):
            return
        self.changes += 1
        identity = self.world.broker.identity
        leaf = verify_proof(outcome.proof, origin=identity.log_origin, log_key=identity.log)
        assert leaf.digests[1] == request.request_digest
        assert outcome.proof.index == self.world.log_size() - 1
        if isinstance(request, Spend):
            self.debits.append(request.amount)
            assert outcome.value == left - request.amount
        else:
            assert request.next > self.number
            self.number, self.digest = request.next, request.digest
            assert outcome.value == request.next

    @invariant()
    def the_debits_are_what_is_missing(self):
        cell = self.world.broker.cells.show("epsilon")
        assert 0 <= cell.value == LIMIT - sum(self.debits)
        assert cell.changes == len(self.debits)

    @invariant()
    def the_counter_stands_where_it_was_put_and_never_goes_back(self):
        cell = self.world.broker.cells.show("steps")
        assert (cell.value, cell.digest) == (self.number, self.digest)
        assert cell.value >= self.seen
        self.seen = cell.value

    @invariant()
    def every_change_is_one_leaf(self):
        moves = [leaf for leaf in self.world.leaves() if leaf.detail.startswith(("advance ", "spend "))]
        assert len(moves) == len({leaf.digests[1] for leaf in moves}) == self.changes


def test_any_order_of_events(world, worker):
    """`world` and `worker` lend their classes: a machine makes its own."""
    Machine.World, Machine.Worker = type(world), type(worker)
    Machine.TestCase.settings = settings(max_examples=12, stateful_step_count=30, deadline=None)
    Machine.TestCase("runTest").runTest()
