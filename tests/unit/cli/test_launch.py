"""`strongroom launch` as a person types it, with a double for the machine."""

import json
import re

import pytest
from launching import TPM
from lifecycles import LEASE, Double, make_stage

from strongroom.crypto.signatures import generate_p256, private_to_pem
from strongroom.errors import AppraisalRefused, LeaseEnded, NotAuthorised, NotPermitted, ServiceUnavailable
from strongroom.launch.life import drivers, journal
from strongroom.launch.spec import to_toml
from strongroom.records.digest import digest_bytes
from strongroom.records.launched import State
from strongroom.release.client import BrokerClient


@pytest.fixture
def stage(tmp_path, monkeypatch):
    made = make_stage(tmp_path)
    (tmp_path / "images" / "worker.toml").write_text(to_toml(TPM))
    monkeypatch.chdir(tmp_path / "images")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "home"))
    double = Double(name="qemu")
    monkeypatch.setattr(drivers, "driver", lambda name, **_: double if name == "qemu" else pytest.fail(name))
    return made


UP = ("launch", "up", "worker.toml", "--until", "booted", "--disk", "../scratch.img", "--vsock-cid", "7")


def test_up_status_down_and_the_receipt(strongroom, stage):
    ran = strongroom(*UP)
    assert ran.code == 0, ran.err
    assert [line.split()[1] for line in ran.out.splitlines() if "✓" in line] == ["preflight", "planned", "booted"]
    assert "the machine runs" in ran.out
    shown = strongroom("launch", "status", "worker.toml", "--json")
    assert (shown.code, shown.document["state"], shown.document["alive"]) == (0, "booted", True)
    assert [entry["state"] for entry in shown.document["entries"]] == ["preflight", "planned", "booted"]
    assert re.search(r"worker  booted  20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ", strongroom("launch", "list").out)
    down = strongroom("launch", "down", "worker.toml")
    assert down.code == 0, down.err
    assert "not shown: " in down.out
    receipt, launcher = (line.split()[1] for line in down.out.splitlines()[-2:])
    checked = strongroom("launch", "check-wipe", receipt, "--launcher", launcher)
    assert (checked.code, "the receipt holds" in checked.out) == (0, True)
    assert (
        strongroom("launch", "check-wipe", receipt, "--launcher", digest_bytes(b"x"), "--json").error
        == "signature.invalid"
    )
    assert strongroom("launch", "status", "worker.toml").code == 1
    (listed,) = strongroom("launch", "list", "--json").document["launches"]
    assert (listed["state"], listed["spec"]) == ("wiped", TPM.digest)
    assert (stage.folder / "home" / "strongroom" / "launches" / "worker").is_dir()


def test_programs_are_told_line_by_line(strongroom, stage):
    lines = [json.loads(line) for line in strongroom(*UP, "--json").out.splitlines()]
    assert [line["state"] for line in lines] == ["preflight", "planned", "booted", "booted"]
    assert all(line["seconds"] >= 0 for line in lines[:3])
    assert (lines[3]["spec"], lines[3]["alive"]) == (TPM.digest, True)
    last = json.loads(strongroom("launch", "down", "worker.toml", "--json").out.splitlines()[-1])
    assert last["receipt"].endswith("wipe-000003.json")
    assert stage.driver.started == 0, "the command line's own double was used"


def test_ready_is_what_is_wanted_unless_somebody_says_less(strongroom, stage):
    ran = strongroom("launch", "up", "worker.toml", "--json")
    assert (ran.code, ran.error) == (2, "usage")
    policy = ("--policy", "none.toml", "--broker-fingerprint", digest_bytes(b"b"))
    assert "where does the worker answer" in strongroom("launch", "up", "worker.toml", *policy).err
    assert not list((stage.folder / "home").glob("**/journal.jsonl"))


def test_a_failure_is_named_and_shown(strongroom, stage):
    (stage.folder / "images" / "worker.efi").write_bytes(b"another")
    ran = strongroom(*UP)
    assert ran.code == 1
    assert "✗ failed" in ran.out
    assert "launch.image_changed" in ran.err
    shown = strongroom("launch", "status", "worker.toml", "--json")
    assert (shown.code, shown.document["reason"]) == (1, "launch.image_changed")


@pytest.mark.parametrize("forward", ["8443", "a:b", "0:80", "1:99999", "1:2:3"])
def test_ports_are_two_numbers(strongroom, stage, forward):  # noqa: ARG001 (the files are there)
    assert strongroom(*UP, "--forward", forward, "--json").code == 2


def test_a_lease_is_ended_by_whom_and_where_must_be_said_together(strongroom, stage):
    strongroom(*UP)
    (stage.folder / "me.pem").write_bytes(private_to_pem(generate_p256()))
    ran = strongroom("launch", "down", "worker.toml", "--identity", stage.folder / "me.pem", "--json")
    assert (ran.code, ran.error) == (2, "usage")


BROKER = ("--broker", "http://127.0.0.1:9", "--broker-fingerprint", digest_bytes(b"b"), "--identity")


def test_a_key_that_is_not_there_is_said_before_anything_is_destroyed(strongroom, stage):
    strongroom(*UP)
    ran = strongroom("launch", "down", "worker.toml", *BROKER, stage.folder / "typo.pem", "--json")
    assert (ran.code, ran.error) == (3, "file.unreadable")
    assert strongroom("launch", "status", "worker.toml", "--json").document["state"] == "booted"


@pytest.mark.parametrize(
    ("error", "how"),
    [
        (NotPermitted("not allowed"), "refused"),
        (NotAuthorised("who are you"), "refused"),
        (LeaseEnded("revoked before"), "ended"),
        (ServiceUnavailable("away"), "unreachable"),
        (None, "revoked"),
    ],
    ids=["not permitted", "not authorised", "ended", "away", "yes"],
)
def test_what_a_broker_says_to_the_end_of_a_lease_is_told_apart(strongroom, stage, monkeypatch, error, how):
    from strongroom.cli import launch

    def revoke(_client, lease_id):
        assert lease_id == LEASE
        if error is not None:
            raise error
        return ()

    monkeypatch.setattr(BrokerClient, "revoke", revoke)
    monkeypatch.setattr(launch, "_attest", lambda _given, _ports: stage.asked)
    (stage.folder / "me.pem").write_bytes(private_to_pem(generate_p256()))
    strongroom(*UP)
    strongroom("launch", "attest", "worker.toml")
    ran = strongroom("launch", "down", "worker.toml", *BROKER, stage.folder / "me.pem")
    assert [line.split()[2] for line in ran.out.splitlines() if LEASE in line] == [how]


def test_nothing_launched_is_said(strongroom, stage):
    for verb in ("status", "down"):
        ran = strongroom("launch", verb, "worker.toml", "--json")
        assert (ran.code, ran.error) == (2, "usage")
    assert strongroom("launch", "list", "--json").document == {"launches": []}
    assert not list((stage.folder / "home").glob("**/journal.jsonl"))


def test_a_list_goes_on_past_a_broken_journal(strongroom, stage):
    strongroom(*UP)
    other = stage.folder / "home" / "strongroom" / "launches" / "broken"
    other.mkdir()
    (other / journal.NAME).write_text("{}\n")
    found = {row["name"]: row["state"] for row in strongroom("launch", "list", "--json").document["launches"]}
    assert found == {"broken": "launch.journal", "worker": State.BOOTED}


def test_a_launchers_own_key_signs(strongroom, stage):
    strongroom("keys", "new", "launcher.pem")
    strongroom(*UP, "--key", "launcher.pem")
    ran = json.loads(
        strongroom("launch", "down", "worker.toml", "--key", "launcher.pem", "--json").out.splitlines()[-1]
    )
    fingerprint = ran["launcher"]
    assert strongroom("launch", "check-wipe", ran["receipt"], "--launcher", fingerprint).code == 0
    assert not (stage.folder / "home" / "strongroom" / "launches" / "worker" / "launcher.pem").exists()


def test_a_wipe_that_was_done_says_whose_key_signed_it_then(strongroom, stage):  # noqa: ARG001 (the files are there)
    strongroom(*UP)
    first, again = (
        json.loads(strongroom("launch", "down", "worker.toml", "--json", *key).out.splitlines()[-1])["launcher"]
        for key in ((), ("--key", strongroom("keys", "new", "another.pem") and "another.pem"))
    )
    assert first == again


@pytest.mark.parametrize("option", [("--drain-seconds", "inf"), ("--drain-seconds", "nan"), ("--wait", "inf")])
def test_nobody_is_waited_for_for_ever(strongroom, stage, option):
    ran = strongroom(*UP, *option, "--json")
    assert (ran.code, ran.error) == (2, "usage")
    assert not list((stage.folder / "home").glob("**/journal.jsonl"))


def test_a_folder_that_cannot_be_made_is_said(strongroom, stage):  # noqa: ARG001 (the files are there)
    ran = strongroom(*UP, "--state", "/proc/nope/state", "--json")
    assert (ran.code, ran.error) == (3, "file.unreadable")


def test_a_running_machine_is_asked_anew_where_it_was_said_to_answer(strongroom, stage, monkeypatch):
    from strongroom.cli import launch

    asked = []
    monkeypatch.setattr(launch, "_attest", lambda _given, ports: asked.append(ports) or stage.asked)
    assert strongroom("launch", "attest", "worker.toml", "--json").error == "usage"
    assert not list((stage.folder / "home").glob("**/journal.jsonl"))
    assert strongroom(*UP, "--forward", "18443:8443").code == 0
    ran = strongroom("launch", "attest", "worker.toml")
    assert ran.code == 0, ran.err
    assert [line.split()[1] for line in ran.out.splitlines() if "✓" in line] == ["attested", "ready"]
    assert asked[-1] == (18443,)
    shown = strongroom("launch", "status", "worker.toml", "--json").document
    assert [entry["state"] for entry in shown["entries"]][-3:] == ["booted", "attested", "ready"]
    stage.asked.errors = [AppraisalRefused("another image")]
    ran = strongroom("launch", "attest", "worker.toml")
    assert (ran.code, "appraisal.refused" in ran.err) == (1, True)
    shown = strongroom("launch", "status", "worker.toml", "--json").document
    assert (shown["state"], shown["reason"], shown["alive"]) == ("failed", "appraisal.refused", True)


@pytest.mark.usefixtures("stage")
def test_nobody_is_asked_without_a_policy_and_a_broker(strongroom):
    assert strongroom(*UP).code == 0
    assert "without --policy" in strongroom("launch", "attest", "worker.toml").err
    assert strongroom("launch", "status", "worker.toml", "--json").document["state"] == "booted"


def test_a_specification_that_is_none_says_where_it_is_explained(strongroom, stage):
    (stage.folder / "images" / "worker.toml").write_text('name = "worker"\n')
    assert "docs/reference/launch-spec.md" in strongroom(*UP).err
