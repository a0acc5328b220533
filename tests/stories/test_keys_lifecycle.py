"""A key's life at a broker, over HTTP and by the command line: imported, rekeyed by order, destroyed with a proof; and dry runs."""

import dataclasses
import json
import secrets
from unittest import mock

import pytest

pytest.importorskip("strongroom_sim")

from audit_world import LEASE_SECONDS, MODEL, MODEL_ID, AuditedBroker, AuditedWorker
from click.exceptions import Exit
from click.testing import CliRunner

from strongroom.appraisal.policies import sign_policy
from strongroom.cli.main import strongroom
from strongroom.crypto.signatures import private_to_pem
from strongroom.errors import (
    FileUnreadable,
    LeaseEnded,
    LogInvalid,
    LogSetBack,
    NotAuthorised,
    ReleaseRefused,
    SignatureInvalid,
    UsageError,
)
from strongroom.receipts.cosignature import Quorum
from strongroom.records import codec
from strongroom.records.destruction import DestructionDocument
from strongroom.records.digest import digest_bytes
from strongroom.records.release import Edition
from strongroom.release.client import BrokerClient
from strongroom.release.opening import open_broker
from strongroom.release.state import DATABASE
from strongroom.release.witness_client import Seat
from strongroom.services.broker import broker_app
from strongroom.services.server import BackgroundServer
from strongroom.services.witness import open_witness, witness_app

OTHER_MODEL = digest_bytes(b"another sealed model")


class KeyStory:
    """A broker behind HTTP, its owner's files, and the command line."""

    def __init__(self, folder):
        self.folder, self.world = folder, AuditedBroker(folder)
        self.server = BackgroundServer(broker_app(self.world.broker, clock=lambda: self.world.now))
        self.path("owner.pem").write_bytes(private_to_pem(self.world.owner))

    def path(self, name):
        return self.folder / name

    def owner(self, **members):
        return BrokerClient(
            self.server.url, fingerprint=self.world.identity.fingerprint, identity=self.world.owner,
            clock=lambda: self.world.now, **members,
        )  # fmt: skip

    def call(self, *words, code=0, offline=False):
        """What a command printed as JSON. Raises what it raised."""
        where = ["--broker-fingerprint", self.world.identity.fingerprint]
        if not offline:
            where += ["--broker", self.server.url, "--identity", str(self.path("owner.pem"))]
        with mock.patch("time.time", return_value=float(self.world.now)):
            done = CliRunner().invoke(strongroom, [*words, *where, "--json"], standalone_mode=False)
        found = done.exception.exit_code if isinstance(done.exception, Exit) else done.return_value or 0
        if done.exception is not None and not isinstance(done.exception, Exit):
            raise done.exception
        assert found == code, done.output
        return json.loads(done.output)

    def raw(self):
        return b"".join(path.read_bytes() for path in self.path("broker").rglob("*") if path.is_file())

    def rows(self, key_id):
        stored = self.world.broker.store.read(lambda reader: reader.keys())
        return [key.wrapped for key in stored if key.id == key_id]

    def log_size(self):
        return self.world.broker.store.read(lambda reader: reader.log_size())


@pytest.fixture
def story(tmp_path):
    made = KeyStory(tmp_path)
    with made.server:
        yield made
    made.world.broker.close()


def secret_file(story, data, mode=0o600, name="kek"):
    path = story.path(name)
    path.write_bytes(data)
    path.chmod(mode)
    return str(path)


def test_an_owners_own_key_is_imported_once_and_is_nowhere_in_clear(story):
    kek = secrets.token_bytes(32)
    words = ["keys", "import", "own", "--policy-id", "models", "--from-file"]
    sent = []
    send = BrokerClient._send

    def seen(client, method, path, body, headers=None):
        sent.append(body)
        return send(client, method, path, body, headers)

    with mock.patch.object(BrokerClient, "_send", seen):
        info = story.call(*words, secret_file(story, kek))
    assert (info["origin"], info["state"]) == ("imported", "active")
    encoded = codec.b64encode(kek).encode()
    assert sent
    assert not any(kek in body or encoded in body or kek.hex().encode() in body for body in sent)
    assert kek not in story.raw()
    with pytest.raises(UsageError, match="already"):
        story.call(*words, secret_file(story, kek))
    owner = story.owner()
    story.world.wrapped = owner.wrap("own", Edition.first(MODEL_ID), bytes(range(32)))
    assert AuditedWorker(story.world).obtain().lease
    owner.close()


@pytest.mark.parametrize(("data", "mode"), [(b"k" * 32, 0o640), (b"k" * 32, 0o604), (b"k" * 31, 0o600), (b"", 0o600)])
def test_a_key_that_others_can_read_or_that_is_none_is_not_sent(story, data, mode):
    words = ["keys", "import", "own", "--policy-id", "models", "--from-file"]
    size = story.log_size()
    with pytest.raises(FileUnreadable):
        story.call(*words, secret_file(story, data, mode))
    with pytest.raises(FileUnreadable):
        story.call(*words, str(story.path("absent")))
    assert story.log_size() == size


def test_after_an_order_artifacts_must_be_rewrapped(story):
    story.call("keys", "rotate", "model")
    since = story.world.now + 50
    ordered = story.call("keys", "order", "model", "--least-version", "2", "--from", str(since))
    assert [key["refused_from"] for key in ordered["keys"]] == [since, None]
    assert AuditedWorker(story.world).obtain().lease
    story.world.now = since
    with pytest.raises(ReleaseRefused, match="version 1") as refused:
        AuditedWorker(story.world).obtain()
    assert refused.value.detail == "key.version"
    owner = story.owner()
    story.world.wrapped = owner.rewrap(story.world.wrapped)
    owner.close()
    assert AuditedWorker(story.world).obtain().lease
    at_once = story.call("keys", "list")["keys"]
    assert [(key["version"], key["refused_from"]) for key in at_once] == [(1, since), (2, None)]


def test_a_destroyed_key_leaves_a_proof_for_offline_and_no_trace(story):
    worker = AuditedWorker(story.world).obtain()
    story.call("keys", "rotate", "model")
    proof = story.path("proof.json")
    with pytest.raises(ReleaseRefused, match="only a retired key"):
        story.call("keys", "destroy", "model", "-o", str(proof))
    assert not proof.exists()
    story.call("keys", "retire", "model")
    rows = story.rows("model")
    assert all(wrapped in story.raw() for wrapped in rows)
    told = story.call("keys", "destroy", "model", "-o", str(proof))
    assert not any(wrapped in story.raw() for wrapped in rows)
    with pytest.raises(LeaseEnded):
        worker.renew()
    with pytest.raises(ReleaseRefused, match="no such key"):
        AuditedWorker(story.world).obtain()
    with pytest.raises(UsageError, match="already"):
        story.call("keys", "create", "model", "--policy-id", "models")
    with mock.patch("socket.socket.connect", side_effect=AssertionError("this was to be offline")):
        checked = story.call("keys", "check-destroyed", str(proof), offline=True)
    assert checked == told
    assert [one["version"] for one in checked["destruction"]["versions"]] == [1, 2]
    with pytest.raises(UsageError, match="already there"):
        story.call("keys", "destroy", "model", "-o", str(proof))
    story.call("keys", "destroy", "model", "-o", str(story.path("again.json")))
    documents = [codec.decode(DestructionDocument, story.path(n).read_bytes()) for n in ("proof.json", "again.json")]
    assert documents[0].destruction == documents[1].destruction


def test_a_proof_with_another_statement_or_of_another_log_is_refused(story):
    for name in ("second", "model"):
        if name == "second":
            story.call("keys", "create", name, "--policy-id", "models")
        story.call("keys", "retire", name)
        story.call("keys", "destroy", name, "-o", str(story.path(name)))
    first, second = (codec.decode(DestructionDocument, story.path(n).read_bytes()) for n in ("model", "second"))
    for changed, error in (
        (dataclasses.replace(first, proof=second.proof), LogInvalid),
        (dataclasses.replace(first, destruction=second.destruction), LogInvalid),
        (dataclasses.replace(first, destruction=first.broker), SignatureInvalid),
    ):
        story.path("changed").write_bytes(codec.encode(changed))
        with pytest.raises(error):
            story.call("keys", "check-destroyed", str(story.path("changed")), offline=True)


def evidence_file(story, worker):
    _, bundle = worker.prove("release")
    path = story.path("evidence.json")
    path.write_bytes(codec.encode(bundle))
    return str(path)


def signed(story, name, **members):
    path = story.path(name)
    path.write_bytes(sign_policy(dataclasses.replace(story.world.policy, **members), story.world.owner).to_bytes())
    return str(path)


def test_what_would_be_decided_is_told_and_nothing_changes(story):
    worker = AuditedWorker(story.world).obtain()
    evidence = evidence_file(story, worker)
    story.call("keys", "create", "bare", "--policy-id", "none-yet")
    before = story.log_size()
    found = story.call("broker", "explain", evidence, "--key", "model")
    assert found["lease_seconds"] == LEASE_SECONDS
    checks = {check["id"]: check["status"] for check in found["policies"][0]["checks"]}
    assert set(checks.values()) == {"pass"}
    assert {"binding.nonce", "policy.artifacts", "policy.level"} <= checks.keys()
    found = story.call("broker", "explain", evidence, "--key", "model", "--key", "bare", code=1)
    assert [key["code"] for key in found["keys"]] == ["", "policy.missing"]
    draft = signed(story, "draft", version=2, artifacts=(OTHER_MODEL,))
    found = story.call("broker", "explain", evidence, "--key", "model", "--draft", draft, code=1)
    failing = [check["id"] for check in found["policies"][0]["checks"] if check["status"] == "fail"]
    assert (failing, found["policies"][0]["draft"], found["lease_seconds"]) == (["policy.artifacts"], True, None)
    assert story.log_size() == before
    assert worker.renew() is None


def test_a_policy_is_tried_on_live_leases_before_it_is_put(story):
    lives, ended = AuditedWorker(story.world).obtain(), AuditedWorker(story.world).obtain()
    story.world.act("revoke_lease", ended.lease)
    lives.renew()
    before = story.log_size()
    trial = story.call("policy", "put", signed(story, "good", version=2, artifacts=(MODEL, OTHER_MODEL)), "--dry-run")
    assert [(one["lease_id"], one["status"]) for one in trial["leases"]] == [(lives.lease, "pass")]
    bad = signed(story, "bad", version=2, artifacts=(OTHER_MODEL,))
    trial = story.call("policy", "put", bad, "--dry-run", code=1)
    (one,) = trial["leases"]
    assert (one["status"], "policy.artifacts" in [check["id"] for check in one["failed"]]) == ("fail", True)
    trial = story.call("policy", "put", signed(story, "old", version=1), "--dry-run", code=1)
    assert not trial["newer"]
    assert story.log_size() == before
    lives.renew()


def test_only_owners_act_and_ask(story):
    worker = AuditedWorker(story.world)
    _, bundle = worker.prove("release")
    client = BrokerClient(story.server.url, fingerprint=story.world.identity.fingerprint)
    for ask in (
        lambda: client.destroy_key("model"),
        lambda: client.order_rekey("model", 2, 0),
        lambda: client.import_key("own", "models", secrets.token_bytes(32)),
        lambda: client.explain(bundle, ["model"]),
        lambda: client.try_policy(sign_policy(story.world.policy, story.world.owner)),
    ):
        with pytest.raises(NotAuthorised):
            ask()
    client.close()


def test_a_backup_from_before_a_destruction_is_refused_where_the_log_is_witnessed(story, tmp_path):
    world, state = story.world, story.path("broker")
    service = open_witness(tmp_path / "witness", "w.example", {world.identity.log_origin: world.identity.log})

    def start(url):
        return open_broker(
            state, anchors=world.anchors, owners=[world.owner.public_key()], profile="development",
            witnesses=[Seat(url, service.witness)], least=1,
        )  # fmt: skip

    with BackgroundServer(witness_app(service)) as seat:
        world.act("retire_key", "model")
        world.broker.close()
        backup = (state / DATABASE).read_bytes()
        world.broker = start(seat.url)
        with BackgroundServer(broker_app(world.broker, clock=lambda: world.now)) as server:
            client = BrokerClient(
                server.url, fingerprint=world.identity.fingerprint, identity=world.owner,
                clock=lambda: world.now, witnesses=Quorum(1, (service.witness,)),
            )  # fmt: skip
            assert client.destroy_key("model").proof.checkpoint.count("\u2014") == 2  # the log's and the witness's
            client.close()
        world.broker.close()
        (state / DATABASE).write_bytes(backup)
        with pytest.raises(LogSetBack):
            start(seat.url)
        for trace in state.glob(f"{DATABASE}-*"):
            trace.unlink()
        world.broker = open_broker(
            state, anchors=world.anchors, owners=[world.owner.public_key()], profile="development"
        )  # without a witness the backup does open, as the documentation says
        assert world.broker.store.read(lambda reader: reader.key("model")).wrapped
    service.store.close()
