"""The broker is killed at random moments: what it acknowledged is still there, and no nonce is decided twice."""

import dataclasses
import os
import random
import signal
import subprocess
import sys
import threading
import time

import pytest

pytest.importorskip("strongroom_sim")

from strongroom.appraisal.policies import sign_policy, template
from strongroom.crypto.signatures import generate_p256, public_to_pem
from strongroom.errors import NonceReused, ServiceUnavailable, Unavailable
from strongroom.records.digest import digest_bytes
from strongroom.records.release import Edition, KeyRequest, ReleaseRequest, Use
from strongroom.records.worker import Configuration, Statement
from strongroom.release.client import BrokerClient
from strongroom.release.opening import open_broker
from strongroom.tee.anchors import installation_anchor
from strongroom.worker.attester import Attester
from strongroom.worker.keys import WorkerKeys
from strongroom_sim import Chip, Installation, mrtd_for, reference_for

IMAGE, MODEL = digest_bytes(b"image"), digest_bytes(b"model")
ROUNDS = 6
BROKER = """
import asyncio, sys
from pathlib import Path
from strongroom.crypto.signatures import public_from_pem
from strongroom.release.opening import open_broker
from strongroom.services.broker import broker_app
from strongroom.services.server import serve_until_signal
from strongroom.tee.anchors import installation_anchor
state, root, owner = map(Path, sys.argv[1:])
anchors = [installation_anchor("tdx", root.read_bytes())]
broker = open_broker(state, anchors=anchors, owners=[public_from_pem(owner.read_bytes())], profile="development")
ready = lambda url: print(url, flush=True)
asyncio.run(serve_until_signal(broker_app(broker), host="127.0.0.1", port=0, ready=ready))
"""


@pytest.fixture
def start(tmp_path):
    """Start the broker over the same state; its process and its URL."""
    running = []

    def begin():
        command = [sys.executable, "-c", BROKER, *(str(tmp_path / name) for name in ("state", "root.pem", "owner.pem"))]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        running.append(process)
        return process, process.stdout.readline().strip()

    yield begin
    for process in running:
        process.kill()
        process.wait()
        process.stdout.close()


def test_a_kill_at_any_moment_releases_no_key_twice_and_forgets_no_release(tmp_path, start):
    now = int(time.time())
    installation, owner = Installation.create(tmp_path / "installation", now=now), generate_p256()
    (tmp_path / "root.pem").write_bytes(installation.root_pem)
    (tmp_path / "owner.pem").write_bytes(public_to_pem(owner.public_key()))
    process, url = start()
    anchors = [installation_anchor("tdx", installation.root_pem)]
    fingerprint = _fingerprint(tmp_path)
    admin = BrokerClient(url, fingerprint=fingerprint, identity=owner)
    policy = template("policy", references=[reference_for(IMAGE)], artifacts=[MODEL], simulated=True)
    admin.put_policy(sign_policy(dataclasses.replace(policy, lease_seconds=3600), owner))
    admin.create_key("key", "policy")
    wrapped = admin.wrap("key", Edition.first(b"artifact-id"), b"k" * 32)
    admin.close()
    attester = _attester(installation, fingerprint, now)
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
        process, url = start()

    admin = BrokerClient(url, fingerprint=fingerprint, identity=owner)
    leases = [lease.id for lease in admin.leases()]
    admin.close()
    assert len(leases) == len(set(leases))
    assert set(acknowledged.values()) <= set(leases)
    assert len(leases) - len(acknowledged) <= len(unsure)  # at most the last one, whose answer nobody got
    assert acknowledged
    with pytest.raises(Unavailable):  # and while it runs, the state is its own
        open_broker(tmp_path / "state", anchors=anchors, owners=[owner.public_key()], profile="development")


def _fingerprint(directory):
    from strongroom.release.state import load_or_create

    return load_or_create(directory / "state").identity.fingerprint


def _attester(installation, fingerprint, now):
    keys = WorkerKeys.generate(now=now)
    configuration = Configuration("inference", fingerprint, {}, None)
    statement = Statement("inference", IMAGE, None, (MODEL,), configuration.digest)
    chip, collateral = Chip(installation, mrtd=mrtd_for(IMAGE)), installation.bundle(now)
    return Attester(chip, lambda: collateral, kind="tdx", keyset=keys.keyset, statement=statement)
