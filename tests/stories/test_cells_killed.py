"""The broker is killed at random moments: no acknowledged advance is lost, and nothing is debited twice."""

import dataclasses
import os
import random
import signal
import threading
import time

import pytest

pytest.importorskip("strongroom_sim")

from killed_broker import IMAGE, MODEL, Processes, worker

from strongroom.appraisal.policies import sign_policy, template
from strongroom.crypto.signatures import generate_p256, sign_envelope
from strongroom.errors import ServiceUnavailable
from strongroom.receipts.proof import verify_proof
from strongroom.records import codec
from strongroom.records.cell import Advance, CellAnswer, CellKind, Spend
from strongroom.records.digest import digest_bytes
from strongroom.records.release import Edition, KeyRequest, ReleaseRequest, Use
from strongroom.release.client import BrokerClient
from strongroom.release.wire import CELL_PAYLOAD_TYPE, CellCreation
from strongroom_sim import reference_for

ROUNDS, SPENDERS, LIMIT = 6, 3, 1_000_000


@pytest.fixture
def broker(tmp_path):
    made = Processes(tmp_path)
    yield made
    made.close()


class Hand:
    """One of the worker's threads. Its requests go one after the other; one whose answer was lost is sent again first."""

    def __init__(self, lease, receipt_key, seed):
        self.lease, self.key, self.random = lease, receipt_key, random.Random(seed)
        self.unsure, self.done = None, []

    def next(self):
        return Spend("epsilon", self.lease, self.random.randbytes(32), self.random.randint(1, 9), "query", None)

    def work(self, client):
        """Until the broker is gone."""
        try:
            while True:
                self.unsure = self.unsure or self.next()
                self.done.append((self.unsure, self.send(client, self.unsure)))
                self.unsure = None
        except ServiceUnavailable:
            return

    def send(self, client, request):
        verb = "spend" if isinstance(request, Spend) else "advance"
        envelope = sign_envelope(CELL_PAYLOAD_TYPE, codec.encode(request), self.key)
        return client.ask_cell(request.cell_id, verb, envelope, CellAnswer)


class Counting(Hand):
    """The thread that advances the counter, from where its last acknowledged advance left it."""

    def next(self):
        number = self.done[-1][0].next if self.done else 0
        digest = digest_bytes(b"checkpoint %d" % number)
        return Advance("steps", self.lease, self.random.randbytes(32), number, number + 1, digest)


def test_a_kill_at_any_moment_loses_no_advance_and_debits_nothing_twice(broker):
    now, owner = int(time.time()), generate_p256()
    installation, fingerprint = broker.prepare(owner, now=now)
    keys, attester = worker(installation, fingerprint, now=now)
    process, url = broker.start()
    admin = BrokerClient(url, fingerprint=fingerprint, identity=owner)
    lease = _lease(admin, owner, attester)
    admin.create_cell(CellCreation("steps", CellKind.COUNTER, "policy", None, None))
    admin.create_cell(CellCreation("epsilon", CellKind.BUDGET, "policy", LIMIT, None))
    admin.close()
    counting = Counting(lease, keys.receipt, 1)
    hands = [counting, *(Hand(lease, keys.receipt, seed) for seed in range(2, 2 + SPENDERS))]
    delays = random.Random(7)

    for _ in range(ROUNDS):
        client = BrokerClient(url, fingerprint=fingerprint)
        killer = threading.Timer(0.05 + delays.random() * 0.4, os.kill, (process.pid, signal.SIGKILL))
        threads = [threading.Thread(target=hand.work, args=(client,)) for hand in hands]
        for thread in (killer, *threads):
            thread.start()
        for thread in (killer, *threads):
            thread.join()
        client.close()
        process.wait()
        process, url = broker.start()
        _check(url, fingerprint, owner, counting, hands)

    admin = BrokerClient(url, fingerprint=fingerprint, identity=owner)
    for hand in hands:  # what was left unsure is asked once more, and then every number is exact
        if hand.unsure is not None:
            hand.done.append((hand.unsure, hand.send(admin, hand.unsure)))
    spends = [request for hand in hands for request, _ in hand.done if isinstance(request, Spend)]
    advances = [request for request, _ in counting.done]
    epsilon, steps = admin.cell("epsilon"), admin.cell("steps")
    assert spends
    assert advances
    assert (epsilon.value, epsilon.changes) == (LIMIT - sum(spend.amount for spend in spends), len(spends))
    assert (steps.value, steps.digest, steps.changes) == (advances[-1].next, advances[-1].digest, len(advances))
    leaves = [
        verify_proof(answer.proof, origin=admin.identity.log_origin, log_key=admin.identity.log)
        for hand in hands
        for _, answer in hand.done
    ]
    assert len({leaf.digests[1] for leaf in leaves}) == len(leaves)
    admin.close()


def _check(url, fingerprint, owner, counting, hands):
    """After a restart: all that was acknowledged is there, and beside it at most what nobody got an answer to."""
    admin = BrokerClient(url, fingerprint=fingerprint, identity=owner)
    steps, epsilon = admin.cell("steps").value, admin.cell("epsilon").value
    admin.close()
    acknowledged = counting.done[-1][0].next if counting.done else 0
    assert acknowledged <= steps <= acknowledged + 1
    spent = sum(request.amount for hand in hands[1:] for request, _ in hand.done)
    unsure = sum(hand.unsure.amount for hand in hands[1:] if hand.unsure is not None)
    assert LIMIT - spent - unsure <= epsilon <= LIMIT - spent


def _lease(admin, owner, attester):
    """The id of the lease that the worker obtains."""
    policy = template("policy", references=[reference_for(IMAGE)], artifacts=[MODEL], simulated=True)
    admin.put_policy(sign_policy(dataclasses.replace(policy, lease_seconds=3600), owner))
    admin.create_key("key", "policy")
    wrapped = admin.wrap("key", Edition.first(b"artifact-id"), b"k" * 32)
    challenge = admin.challenge("release")
    bundle = attester.prove(challenge.nonce, "release")
    return admin.release(ReleaseRequest(challenge, bundle, (KeyRequest(MODEL, wrapped, Use.OPEN),))).lease_id
