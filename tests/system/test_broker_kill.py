"""kill -9 of the broker, 200 times at random moments, under everything at once: releases, renewals, cells, owners' acts.

After each kill the database opens, the log verifies and extends all that was seen of it, the tables say what the log says,
and what any client holds is there. Not in the ordinary run: `-m slow` takes it, and so does STRONGROOM_REQUIRE=all.
"""

import contextlib
import dataclasses
import os
import random
import threading
import time

import httpx2
import pytest

pytest.importorskip("strongroom_sim")

from consistency import Looked
from forked_broker import Forked
from killed_broker import IMAGE, MODEL, worker

from strongroom.appraisal.policies import sign_policy, template
from strongroom.crypto.signatures import generate_p256, sign_envelope
from strongroom.errors import LeaseEnded, NonceReused, ReleaseRefused, ServiceUnavailable, UsageError
from strongroom.receipts.chain import chain_head
from strongroom.receipts.note import open_checkpoint
from strongroom.records import codec
from strongroom.records.cell import Advance, CellAnswer, CellKind, Spend
from strongroom.records.digest import digest_bytes
from strongroom.records.release import (
    Edition,
    KeyRequest,
    LeaseState,
    ReleaseRequest,
    RenewalRequest,
    Use,
    renewal_purpose,
)
from strongroom.release.attempts import RETRY_SECONDS
from strongroom.release.client import BrokerClient
from strongroom.release.wire import CELL_PAYLOAD_TYPE, CellCreation
from strongroom_sim import reference_for

SEED = int(os.environ.get("STRONGROOM_KILL_SEED") or random.SystemRandom().randrange(1 << 32))
KILLS, LIVES = 200, 2
WORKERS, LIMIT, WAIT = 3, 10**9, 60

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


class House:
    """A broker that comes and goes, and what all clients together hold of it."""

    def __init__(self, folder, seed):
        self.now, self.owner = int(time.time()), generate_p256()
        self.forked = Forked(folder, self.owner, now=self.now)
        self.identity = self.forked.identity
        self.seed, self.looked = seed, Looked(self.identity)
        self.up, self.stopping, self.url = threading.Event(), threading.Event(), self.forked.address
        self.seen, self.proofs, self.leases, self.revoked, self.surprises = [], [], {}, set(), []
        self.http = httpx2.Client(base_url=self.url)
        self.keys, self.version, self.retried = {"key"}, 1, 0

    def client(self, *, owner=False):
        known = self.identity.fingerprint
        return BrokerClient(self.url, fingerprint=known, identity=self.owner if owner else None)

    def start(self):
        self.forked.begin()
        self.forked.wait()
        self.up.set()

    def kill(self):
        self.up.clear()
        self.forked.kill()

    def policy(self, version):
        made = template("policy", references=[reference_for(IMAGE)], artifacts=[MODEL], simulated=True)
        return sign_policy(dataclasses.replace(made, version=version, lease_seconds=3600), self.owner)

    def prepare(self):
        self.start()
        admin = self.client(owner=True)
        admin.put_policy(self.policy(1))
        admin.create_key("key", "policy", max_uses=LIMIT)
        self.wrapped = admin.wrap("key", Edition.first(b"artifact-id"), b"k" * 32)
        admin.create_cell(CellCreation("epsilon", CellKind.BUDGET, "policy", LIMIT, None))
        for number in range(WORKERS):
            admin.create_cell(CellCreation(f"steps-{number}", CellKind.COUNTER, "policy", None, None))
        admin.close()

    def look(self):
        """Open what a kill left, here, and hold it against everything that was seen."""
        held, seen = list(self.proofs), list(self.seen)
        leases, revoked, keys, version = dict(self.leases), set(self.revoked), set(self.keys), self.version
        broker = self.forked.open()
        try:
            self.looked.look(broker.store)
            for proof in held:
                self.looked.holds(proof)
            for checkpoint in seen:
                self.looked.extends(checkpoint)
            del (
                self.proofs[: len(held)],
                self.seen[: len(seen)],
            )  # the log's entries never change, so each is held against it once
            found = {stored.lease.id: stored.lease for stored in broker.store.read(lambda r: r.leases())}
            assert {lease for lease, _ in leases.values()} <= set(found)
            for lease, tokens in leases.values():
                assert found[lease].renewals in {len(tokens) - 1, len(tokens)}  # one whose answer nobody got
                if found[lease].renewals == len(tokens) - 1:
                    assert found[lease].chain == heads(tokens)
            assert {lease.id for lease in found.values() if lease.state is LeaseState.REVOKED} >= revoked
            assert {key.id for key in broker.store.read(lambda r: r.keys())} >= keys
            assert broker.store.read(lambda r: r.policy("policy")).version >= version
        finally:
            broker.close()

    def read_checkpoint(self):
        """What anybody sees while the broker runs is what it goes on from."""
        try:
            text = self.http.get("/checkpoint").text
        except httpx2.HTTPError:
            raise ServiceUnavailable("the broker is gone") from None
        self.seen.append(open_checkpoint(text, self.identity.log_origin, self.identity.log))


def heads(tokens):
    chain = None
    for token in tokens:
        chain = chain_head(chain, token)
    return chain


class Client(threading.Thread):
    """In a loop, over the lives of the broker; what it does not expect ends it, and is kept."""

    def __init__(self, house, name, *, owner=False):
        super().__init__(daemon=True)
        self.house, self.owner, self.random = house, owner, random.Random(f"{house.seed} {name}")

    def run(self):
        broker = self.house.client(owner=self.owner)
        while not self.house.stopping.is_set():
            try:
                self.turn(broker)
            except ServiceUnavailable:  # the honest error of a request in flight
                self.house.up.wait(WAIT)
            except BaseException as error:  # noqa: BLE001 (shown by the test)
                self.house.surprises.append(error)
                break
        broker.close()


class Worker(Client):
    """Proves itself, renews, moves its cells; and sends again, byte for byte, whatever had no answer."""

    def __init__(self, house, number):
        super().__init__(house, f"worker {number}")
        self.number, self.steps = number, 0
        self.keys, self.attester = worker(house.forked.installation, house.identity.fingerprint, now=house.now)
        self.unsure, self.last = None, None

    def turn(self, broker):
        if self.unsure is not None:
            self.unsure(broker)  # sets it to None when it is settled
        if self.last is not None and self.random.random() < 0.3:
            self.repeat(broker)
        self.release(broker)

    def settle(self, broker, act):
        """Do `act` until it was answered, over as many lives of the broker as that takes."""
        self.unsure = act
        act(broker)

    def refused(self, error):
        """The one refusal that may come: the owner's new policy overtook the judgement."""
        if error.detail != "facts.changed":
            raise error
        self.unsure = None

    def release(self, broker):
        challenge = broker.challenge("release")
        bundle = self.attester.prove(challenge.nonce, "release")
        request = ReleaseRequest(challenge, bundle, (KeyRequest(MODEL, self.house.wrapped, Use.OPEN),))

        def act(client):
            try:
                answer = client.release(request)
            except ReleaseRefused as error:
                self.refused(error)
                return
            self.house.leases[challenge.nonce] = (answer.lease_id, [answer.token])
            self.house.proofs.append(answer.proof)
            self.last = (request, answer, time.monotonic())
            self.unsure = None

        self.settle(broker, act)
        if self.last is not None and self.last[0] is request:
            for act in self.random.choices([self.renew, self.spend, self.advance, self.another], k=4):
                act(broker)

    def repeat(self, broker):
        """The same bytes once more get the same answer, also from a broker that was killed in between."""
        request, answer, asked = self.last
        try:
            assert broker.release(request) == answer
        except NonceReused:
            assert time.monotonic() - asked > RETRY_SECONDS - 2
        self.house.retried += 1
        self.last = None

    def another(self, broker):
        """Other bytes under a nonce that was answered."""
        request = self.last[0]
        bundle = self.attester.prove(request.challenge.nonce, "release")
        with pytest.raises(NonceReused):
            broker.release(dataclasses.replace(request, bundle=bundle))

    def renew(self, broker):
        nonce, lease = self.last[0].challenge.nonce, self.last[1].lease_id
        purpose = renewal_purpose(lease)
        challenge = broker.challenge(purpose)
        request = RenewalRequest(challenge, self.attester.prove(challenge.nonce, purpose), lease)

        def act(client):
            try:
                answer = client.renew(request)
            except LeaseEnded:  # the owner was quicker
                self.unsure = None
                return
            except ReleaseRefused as error:
                self.refused(error)
                return
            self.house.leases[nonce] = (lease, [*self.house.leases[nonce][1], answer.token])
            self.house.proofs.append(answer.proof)
            self.unsure = None

        self.settle(broker, act)

    def spend(self, broker):
        amount = self.random.randint(1, 9)
        self.ask(broker, Spend("epsilon", self.last[1].lease_id, self.random.randbytes(32), amount, "query", None))

    def advance(self, broker):
        here, digest = self.steps, digest_bytes(b"%d" % self.steps)
        cell, lease = f"steps-{self.number}", self.last[1].lease_id
        if self.ask(broker, Advance(cell, lease, self.random.randbytes(32), here, here + 1, digest)):
            self.steps = here + 1

    def ask(self, broker, request):
        verb = "spend" if isinstance(request, Spend) else "advance"
        envelope = sign_envelope(CELL_PAYLOAD_TYPE, codec.encode(request), self.keys.receipt)
        done = []

        def act(client):
            try:
                answer = client.ask_cell(request.cell_id, verb, envelope, CellAnswer)
            except LeaseEnded:
                self.unsure = None
                if isinstance(request, Advance):
                    self.resync()
                return
            self.house.proofs.append(answer.proof)
            if isinstance(request, Advance):
                assert answer.value == request.next
                self.steps = answer.value
            done.append(True)
            self.unsure = None

        self.settle(broker, act)
        return bool(done)

    def resync(self):
        """A lease was revoked between an advance and its answer: whether it counted, the cell says."""
        owner = self.house.client(owner=True)
        try:
            value = owner.cell(f"steps-{self.number}").value
        finally:
            owner.close()
        assert value in {self.steps, self.steps + 1}
        self.steps = value


class Owner(Client):
    """New policies, keys and cells; revocations."""

    def __init__(self, house):
        super().__init__(house, "owner", owner=True)
        self.count = 0

    def turn(self, broker):
        self.house.read_checkpoint()
        self.random.choice([self.put_policy, self.create, self.revoke, self.rotate])(broker)
        self.house.stopping.wait(0.03)  # each policy refuses what was being decided under the one before

    def put_policy(self, broker):
        version = self.house.version + 1
        assert broker.put_policy(self.house.policy(version)).version == version  # once more the same, if it was cut off
        self.house.version = version

    def create(self, broker):
        self.count += 1
        with contextlib.suppress(UsageError):
            broker.create_key(f"key-{self.count}", "later", max_uses=3)
        self.house.keys.add(f"key-{self.count}")

    def rotate(self, broker):
        if self.count:
            with contextlib.suppress(UsageError):  # one that was cut off before it was made
                broker.rotate_key(f"key-{self.random.randint(1, self.count)}")

    def revoke(self, broker):
        held = list(self.house.leases.values())
        if held:
            lease, _ = self.random.choice(held)
            with contextlib.suppress(LeaseEnded):
                broker.revoke(lease)
            self.house.revoked.add(lease)


@pytest.fixture
def house(tmp_path, request):
    made = House(tmp_path, f"{SEED} {request.param}")
    yield made
    made.stopping.set()
    made.forked.close()
    made.http.close()


@pytest.mark.parametrize("house", range(LIVES), indirect=True)
def test_a_broker_killed_200_times_keeps_every_promise(house):
    print(f"seed {SEED}")  # noqa: T201 (shown with a failure)
    chance = random.Random(f"{house.seed} kills")
    house.prepare()
    clients = [*(Worker(house, number) for number in range(WORKERS)), Owner(house)]
    for client in clients:
        client.start()
    for number in range(KILLS // LIVES):
        time.sleep(chance.uniform(0, 0.5))  # the random moment is the test
        house.kill()
        if chance.random() < 0.15:  # in the middle of a start, too
            house.forked.begin()
            time.sleep(chance.uniform(0, 0.08))
            house.forked.kill()
        if chance.random() < 0.7 or number == KILLS // LIVES - 1:  # else the next process is the first to open it
            house.look()
        assert not house.surprises, house.surprises
        house.start()
    time.sleep(0.3)
    house.stopping.set()
    for client in clients:
        client.join(WAIT)
        assert not client.is_alive()
    assert not house.surprises, house.surprises
    broker = house.client()
    for client in clients[:WORKERS]:  # what was left unsure is asked once more, and then every number is exact
        if client.unsure is not None:
            client.unsure(broker)
    broker.close()
    house.kill()
    house.look()
    events = {leaf.event for leaf in house.looked.leaves}
    assert events >= {"release", "renewal", "cell", "policy", "key", "revocation"}
    begun = sum(leaf.event == "release" for leaf in house.looked.leaves)
    assert begun == len(house.leases), "a nonce was answered twice, or a release forgotten"
    assert house.retried
