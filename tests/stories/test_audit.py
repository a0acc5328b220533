"""An owner exports what the broker decided, over HTTP; an auditor, who has only public keys, checks it offline."""

import json
import threading
from unittest import mock

import pytest

pytest.importorskip("strongroom_sim")

from audit_world import AuditedBroker, AuditedWorker
from click.testing import CliRunner

from strongroom.cli.main import strongroom
from strongroom.crypto.signatures import generate_p256, private_to_pem, public_to_pem
from strongroom.errors import NotAuthorised, ReleaseRefused, Unreadable, UsageError
from strongroom.records import codec
from strongroom.records.digest import digest_bytes
from strongroom.records.release import RenewalRequest, renewal_purpose
from strongroom.release.client import BrokerClient
from strongroom.services.broker import broker_app
from strongroom.services.server import BackgroundServer


class AuditStory:
    """The broker behind HTTP, the files of its owner and those of the auditor, and the command line."""

    def __init__(self, folder):
        self.folder, self.world = folder, AuditedBroker(folder)
        self.server = BackgroundServer(broker_app(self.world.broker))
        self.exporter = generate_p256()
        for name, data in {
            "owner.pem": private_to_pem(self.world.owner),
            "owner.pub": public_to_pem(self.world.owner.public_key()),
            "exporter.pem": private_to_pem(self.exporter),
            "exporter.pub": public_to_pem(self.exporter.public_key()),
            "root.pem": self.world.installation.root_pem,
        }.items():
            (folder / name).write_bytes(data)

    def path(self, name):
        return str(self.folder / name)

    def call(self, *words, group="audit"):
        """The outcome of a command, and what it printed as JSON."""
        done = CliRunner().invoke(strongroom, [group, *words, "--json"], standalone_mode=False)
        if done.exception is not None:
            raise done.exception
        return done.return_value or 0, json.loads(done.output)

    def export(self, name, *what):
        return self.call(
            "export", *what, "-o", self.path(name), "--broker", self.server.url,
            "--broker-fingerprint", self.world.identity.fingerprint, "--identity", self.path("owner.pem"),
        )  # fmt: skip

    def erase(self, *whom):
        return self.call(
            "erase", *whom, "--yes", "--broker", self.server.url,
            "--broker-fingerprint", self.world.identity.fingerprint, "--identity", self.path("owner.pem"), group="log",
        )  # fmt: skip

    def verify(self, name, *more):
        """As an auditor does, with no network at all."""
        with mock.patch("socket.socket.connect", side_effect=AssertionError("this was to be offline")):
            return self.call(
                "verify", self.path(name), "--broker-fingerprint", self.world.identity.fingerprint,
                "--owner", self.path("owner.pub"), "--anchor", self.path("root.pem"), "--accept-simulated", *more,
            )  # fmt: skip


@pytest.fixture
def story(tmp_path):
    made = AuditStory(tmp_path)
    with made.server:
        yield made
    made.world.broker.close()


def test_what_was_exported_is_checked_offline_with_a_report_and_a_revoked_lease_shows(story):
    worker = AuditedWorker(story.world).obtain()
    worker.renew()
    (story.folder / "receipt.json").write_bytes(worker.receipt())
    worker.log_receipts()
    story.world.act("revoke_lease", worker.lease)
    purpose = renewal_purpose(worker.lease)
    challenge, bundle = worker.prove(purpose)
    with pytest.raises(ReleaseRefused):
        story.world.broker.renew(
            worker.lease, codec.encode(RenewalRequest(challenge, bundle, worker.lease)), now=story.world.now
        )

    code, said = story.export(
        "audit.tar",
        "--lease",
        worker.lease,
        "--receipt",
        story.path("receipt.json"),
        "--sign",
        story.path("exporter.pem"),
    )
    assert (code, said["decisions"]) == (0, 2)
    code, said = story.verify(
        "audit.tar", "--exporter", story.path("exporter.pub"), "--report", story.path("report.md")
    )
    assert (code, said["accepted"]) == (0, True)
    assert [check["id"] for check in said["checks"] if check["status"] != "pass"] == [
        "audit.witnesses"
    ]  # none is named
    report = (story.folder / "report.md").read_text()
    assert "**The bundle holds.**" in report
    assert "revoked at" in report


def test_a_span_and_a_policy_are_exported_while_workers_go_on(story):
    workers = [AuditedWorker(story.world).obtain() for _ in range(3)]
    goes_on = threading.Thread(target=lambda: [worker.renew() for worker in workers for _ in range(3)])
    goes_on.start()
    exports = {"span.tar": ("--since", str(story.world.now - 5)), "policy.tar": ("--policy", "models")}
    made = {name: story.export(name, *what) for name, what in exports.items()}
    goes_on.join()
    for name, (code, said) in made.items():
        assert code == 0
        assert said["decisions"] >= len(workers)
        assert story.verify(name)[1]["accepted"]


def test_an_auditor_who_names_somebody_else_refuses(story):
    AuditedWorker(story.world).obtain()
    story.export("audit.tar", "--policy", "models")
    code, said = story.verify("audit.tar", "--exporter", story.path("exporter.pub"))
    assert code == 1
    assert [check["id"] for check in said["checks"] if check["status"] == "fail"] == ["audit.signature"]
    code, said = story.call(
        "verify", story.path("audit.tar"), "--broker-fingerprint", story.world.identity.fingerprint,
        "--owner", story.path("owner.pub"), "--anchor", story.path("root.pem"),
    )  # fmt: skip
    assert code == 1
    assert [check["id"] for check in said["checks"] if check["status"] == "fail"] == ["audit.levels"]


def test_a_broker_that_keeps_nothing_gives_a_bundle_that_does_not_hold(story):
    story.world.broker._attempts.archive = type(story.world.broker.archive)(story.world.broker.log, days=0)
    worker = AuditedWorker(story.world).obtain()
    story.export("audit.tar", "--lease", worker.lease)
    code, said = story.verify("audit.tar")
    assert code == 1
    assert [check["id"] for check in said["checks"] if check["status"] == "not-run" and check["items"]] == [
        "audit.decisions"
    ]


def test_what_is_no_bundle_is_unreadable_and_a_question_without_a_scope_has_no_meaning(story):
    (story.folder / "none.tar").write_bytes(b"nothing")
    with pytest.raises(Unreadable):
        story.verify("none.tar")
    for what in ((), ("--lease", "a", "--policy", "b"), ("--lease", "a", "--since", "5")):
        with pytest.raises(UsageError):
            story.export("audit.tar", *what)
    with pytest.raises(UsageError):
        story.export("audit.tar", "--lease", "unknown")


def test_only_an_owner_is_shown_what_was_kept(story):
    for identity, kind in ((None, NotAuthorised), (generate_p256(), NotAuthorised)):
        client = BrokerClient(story.server.url, fingerprint=story.world.identity.fingerprint, identity=identity)
        with pytest.raises(kind):
            list(client.audit())
        client.close()


def test_a_person_is_erased_and_every_proof_holds_as_before(story):
    """Whoever set this broker up leaves, and asks to be forgotten; bundles of before and after both hold."""
    AuditedWorker(story.world).obtain()
    since = ("--since", str(story.world.now - 3600))
    story.export("before.tar", *since)
    who = digest_bytes(b"owner")
    assert who in (story.folder / "before.tar").read_text("latin-1")
    assert story.erase("--who", who) == (0, {"openings": 3})
    story.export("after.tar", *since)
    assert who not in (story.folder / "after.tar").read_text("latin-1")
    database = b"".join(path.read_bytes() for path in story.folder.glob("broker/broker.db*"))
    assert who.encode() not in database
    for name, erased in (("before.tar", False), ("after.tar", True)):
        code, said = story.verify(name)
        (found,) = [check for check in said["checks"] if check["id"] == "audit.openings"]
        assert (code, said["accepted"], "3 that were erased" in found["detail"]) == (0, True, erased)
    assert story.export("named.tar", "--policy", "models")[0] == 0  # what things are called was not asked to go
