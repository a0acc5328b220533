"""A broker's log and its witnesses, each a real server: what they sign, what they catch, and that a kill takes no word back."""

import os
import random
import shutil
import signal
import subprocess
import sys
import threading

import httpx2
import pytest

pytest.importorskip("strongroom_sim")

from strongroom.crypto import merkle
from strongroom.crypto.signatures import generate_ed25519, generate_p256, public_to_pem, raw_public
from strongroom.errors import LogInvalid, LogSetBack, WitnessesUnavailable
from strongroom.receipts.cosignature import Quorum, Witness
from strongroom.receipts.note import Checkpoint, sign_checkpoint, verifier_key
from strongroom.receipts.tiles import Tree
from strongroom.receipts.witness import add_checkpoint_body, parse_size
from strongroom.release.client import BrokerClient
from strongroom.release.opening import open_broker
from strongroom.release.state import DATABASE, load_or_create
from strongroom.release.witness_client import Seat
from strongroom.services.broker import broker_app
from strongroom.services.server import BackgroundServer
from strongroom.services.witness import open_witness, witness_app
from strongroom.tee.anchors import installation_anchor
from strongroom_sim import Installation

KILLS = 12


class Watched:
    """A broker's state, its owner, and two witnesses of its log on real ports."""

    def __init__(self, directory):
        self.state, self.owner = directory / "broker", generate_p256()
        self.installation = Installation.create(directory / "installation", now=1_790_000_000)
        self.identity = load_or_create(self.state).identity
        logs = {self.identity.log_origin: self.identity.log}
        self.services = [open_witness(directory / name, f"{name}.example", logs) for name in ("w1", "w2")]
        self.servers = [BackgroundServer(witness_app(service)) for service in self.services]
        self.quorum = Quorum(2, tuple(service.witness for service in self.services))

    def seats(self):
        return [Seat(server.url, one.witness) for server, one in zip(self.servers, self.services, strict=True)]

    def broker(self, *, state=None, least=2):
        return open_broker(
            state or self.state,
            anchors=[installation_anchor("tdx", self.installation.root_pem)],
            owners=[self.owner.public_key()],
            profile="development",
            witnesses=self.seats() if least else (),
            least=least,
        )

    def client(self, server, **members):
        return BrokerClient(server.url, fingerprint=self.identity.fingerprint, identity=self.owner, **members)


@pytest.fixture
def watched(tmp_path):
    made = Watched(tmp_path)
    with made.servers[0], made.servers[1]:
        yield made
    for service in made.services:
        service.store.close()


def sizes(watched):
    """How much of the log each witness has seen."""
    found = []
    for server in watched.servers:
        identity, key = watched.identity, load_or_create(watched.state).log
        note = sign_checkpoint(Checkpoint(identity.log_origin, 1_000_000, bytes(32)), identity.log_origin, key)
        answer = httpx2.post(f"{server.url}/add-checkpoint", content=add_checkpoint_body(999_999, [], note))
        assert answer.status_code == 409
        found.append(parse_size(answer.content))
    return found


def create_key(watched, broker, name):
    """What an owner does leaves a leaf, which nobody waits for."""
    with BackgroundServer(broker_app(broker)) as server:
        client = watched.client(server)
        client.create_key(name, "policy")
        client.close()


def until(condition):
    """Wait for what a background round brings about, for at most 20 seconds."""
    pause = threading.Event()
    for _ in range(400):
        if condition():
            return
        pause.wait(0.05)
    pytest.fail("the witnesses did not get the log's newest state")


def seen_all(watched, broker):
    size = broker.store.read(lambda reader: reader.log_size())
    until(lambda: sizes(watched) == [size, size])
    return size


def test_an_old_backup_restored_is_refused_by_what_the_witnesses_saw(watched, tmp_path):
    broker = watched.broker()
    create_key(watched, broker, "first")
    seen_all(watched, broker)
    broker.close()
    backup = tmp_path / "backup"
    shutil.copytree(watched.state, backup)
    broker = watched.broker()
    create_key(watched, broker, "second")
    size = seen_all(watched, broker)
    broker.close()
    with pytest.raises(LogSetBack, match=f"saw {size} entries of this log, which has {size - 1}"):
        watched.broker(state=backup)
    watched.broker().close()  # while the newest state goes on
    create_key(watched, alone := watched.broker(state=backup, least=0), "another-second")  # as many leaves, but others
    alone.close()
    with pytest.raises(LogSetBack, match="another log of this name"):
        watched.broker(state=backup)
    create_key(watched, alone := watched.broker(state=backup, least=0), "third")  # and more of them
    alone.close()
    with pytest.raises(LogSetBack, match="does not extend"):
        watched.broker(state=backup)
    assert [len(service.store.forks()) for service in watched.services] == [1, 1]  # the proof that it forked
    watched.broker().close()


def test_a_database_that_was_lost_is_no_new_log(watched):
    broker = watched.broker()
    create_key(watched, broker, "first")
    seen_all(watched, broker)
    broker.close()
    (watched.state / DATABASE).unlink()
    with pytest.raises(LogSetBack, match="which has 0"):
        watched.broker()


def test_the_command_line_refuses_with_a_code_of_its_own(watched, tmp_path):
    broker = watched.broker()
    create_key(watched, broker, "first")
    seen_all(watched, broker)
    broker.close()
    (watched.state / DATABASE).unlink()
    (tmp_path / "owner.pem").write_bytes(public_to_pem(watched.owner.public_key()))
    (tmp_path / "root.pem").write_bytes(watched.installation.root_pem)
    command = [sys.executable, "-m", "strongroom", "broker", "serve", "--state", str(watched.state), "--json"]
    command += ["--owner", str(tmp_path / "owner.pem"), "--anchor", str(tmp_path / "root.pem")]
    command += ["--profile", "development", "--listen", "127.0.0.1:0", "--witnesses", "2"]
    for seat in watched.seats():
        command += ["--witness", f"{seat.url}={seat.witness.key}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert '"log.set_back"' in done.stdout


def test_two_brokers_that_share_their_keys_cannot_both_be_witnessed(watched, tmp_path):
    """A split view: what one shows is signed, what the other shows is not, whoever asks first."""
    broker = watched.broker()
    shutil.copytree(watched.state / "keys", tmp_path / "copy" / "keys")
    copy = watched.broker(state=tmp_path / "copy")  # as long as neither log has a leaf, they are one
    create_key(watched, broker, "for-some")
    seen_all(watched, broker)
    create_key(watched, copy, "for-others")
    before = sizes(watched)
    _, size = copy.log.newest(copy.store)
    index = size - 1
    data = copy.store.read(lambda reader: reader.log_leaves(index, size))[0]
    with pytest.raises(WitnessesUnavailable):
        copy._settle(log_proof(copy, index, data))
    assert sizes(watched) == before
    own = log_proof(copy, index, data)
    with pytest.raises(LogInvalid):
        watched.quorum.check(own.checkpoint)
    copy.close()
    broker.close()


def log_proof(broker, index, data):
    from strongroom.records.release import LogProof

    text, size = broker.log.newest(broker.store)
    return LogProof(index, data, broker.log.inclusion_path(index, size), text)


def test_a_killed_witness_never_goes_back(tmp_path):
    """Kill -9 at random moments: whatever it signed, it still holds, and it signs no other state of that size."""
    key, origin, tree = generate_ed25519(), "strongroom.broker/story", Tree()
    for number in range(4000):
        tree.append(merkle.leaf_hash(number.to_bytes(4, "big")))
    command = [
        sys.executable,
        "-m",
        "strongroom",
        "log",
        "witness",
        "--name",
        "w.example",
        "--state",
        str(tmp_path / "w"),
    ]
    command += ["--log", verifier_key(origin, raw_public(key)), "--listen", "127.0.0.1:0"]
    acknowledged, named, delays = 0, set(), random.Random(11)

    def body(old, size, root=None):
        note = sign_checkpoint(Checkpoint(origin, size, root or tree.root(size)), origin, key)
        return add_checkpoint_body(old, tree.consistency_path(old, size), note), note

    for _ in range(KILLS):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        url, vkey = (process.stdout.readline().split()[1] for _ in range(2))
        named.add(vkey)
        quorum = Quorum(1, (Witness.parse(vkey),))
        with httpx2.Client(base_url=url) as http:
            held = http.post("/add-checkpoint", content=body(3999, 4000, bytes(32))[0])
            held = parse_size(held.content) if held.status_code == 409 else 3999
            assert acknowledged <= held <= acknowledged + 1  # at most the last one, whose answer nobody got
            acknowledged = held
            if acknowledged:
                other = http.post("/add-checkpoint", content=body(acknowledged, acknowledged, bytes(32))[0])
                assert (other.status_code, other.text) == (409, f"{acknowledged}\n")
                older = http.post("/add-checkpoint", content=body(acknowledged - 1, acknowledged - 1)[0])
                assert older.status_code == 409
            killer = threading.Timer(0.02 + delays.random() * 0.3, os.kill, (process.pid, signal.SIGKILL))
            killer.start()
            try:
                while acknowledged < 3999:
                    sent, note = body(acknowledged, acknowledged + 1)
                    answer = http.post("/add-checkpoint", content=sent)
                    assert answer.status_code == 200
                    assert quorum.check(note + answer.text)
                    acknowledged += 1
            except httpx2.HTTPError:
                pass  # killed
            killer.join()
        process.wait()
        process.stdout.close()
    assert acknowledged
    assert len(named) == 1
