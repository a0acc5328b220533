"""The broker is killed at random moments: what it acknowledged is still there, and no nonce is decided twice."""

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
from strongroom.crypto.signatures import generate_p256
from strongroom.errors import NonceReused, ServiceUnavailable, Unavailable
from strongroom.records.release import Edition, KeyRequest, ReleaseRequest, Use
from strongroom.release.client import BrokerClient
from strongroom.release.opening import open_broker
from strongroom.tee.anchors import installation_anchor
from strongroom_sim import reference_for

ROUNDS = 6


@pytest.fixture
def broker(tmp_path):
    made = Processes(tmp_path)
    yield made
    made.close()


def test_a_kill_at_any_moment_releases_no_key_twice_and_forgets_no_release(tmp_path, broker):
    now, owner = int(time.time()), generate_p256()
    installation, fingerprint = broker.prepare(owner, now=now)
    process, url = broker.start()
    anchors = [installation_anchor("tdx", installation.root_pem)]
    admin = BrokerClient(url, fingerprint=fingerprint, identity=owner)
    policy = template("policy", references=[reference_for(IMAGE)], artifacts=[MODEL], simulated=True)
    admin.put_policy(sign_policy(dataclasses.replace(policy, lease_seconds=3600), owner))
    admin.create_key("key", "policy")
    wrapped = admin.wrap("key", Edition.first(b"artifact-id"), b"k" * 32)
    admin.close()
    _, attester = worker(installation, fingerprint, now=now)
    acknowledged, unsure = {}, []
    delays = random.Random(7)

    for _ in range(ROUNDS):
        client = BrokerClient(url, fingerprint=fingerprint)
        for request in unsure:  # cut off last time: now the kept answer, or a first decision, or no more
            try:
                acknowledged[request.challenge.nonce] = client.release(request).lease_id
            except NonceReused:
                pytest.fail("a nonce was consumed without the answer that the same bytes get")
        unsure.clear()
        killer = threading.Timer(0.05 + delays.random() * 0.4, os.kill, (process.pid, signal.SIGKILL))
        killer.start()
        request = None
        try:
            while True:
                challenge = client.challenge("release")
                bundle = attester.prove(challenge.nonce, "release")
                request = ReleaseRequest(challenge, bundle, (KeyRequest(MODEL, wrapped, Use.OPEN),))
                acknowledged[challenge.nonce] = client.release(request).lease_id
                request = None
        except ServiceUnavailable:
            unsure += [request] if request is not None else []
        killer.join()
        client.close()
        process.wait()
        process, url = broker.start()

    admin = BrokerClient(url, fingerprint=fingerprint, identity=owner)
    leases = [lease.id for lease in admin.leases()]
    admin.close()
    assert len(leases) == len(set(leases))
    assert set(acknowledged.values()) <= set(leases)
    assert len(leases) - len(acknowledged) <= len(unsure)  # at most the last one, whose answer nobody got
    assert acknowledged
    with pytest.raises(Unavailable):  # and while it runs, the state is its own
        open_broker(tmp_path / "state", anchors=anchors, owners=[owner.public_key()], profile="development")
