"""A launch from nothing to its receipt, with a double for the machine: order, failures, and what is picked up again."""

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
from launching import FILES, LINUX, TDX, TPM
from lifecycles import KEY, LEASE, Killed, killed_at, make_stage

from strongroom.crypto.signatures import fingerprint
from strongroom.errors import (
    AppraisalRefused,
    FileUnreadable,
    HostNotReady,
    HypervisorUnavailable,
    ImageChanged,
    LaunchBusy,
    LaunchFailed,
    LaunchGone,
    MalformedEvidence,
    MalformedJournal,
    ServiceUnavailable,
    UsageError,
)
from strongroom.launch.life.journal import NAME, Journal, locked
from strongroom.launch.life.wipe import check_wipe
from strongroom.records import codec
from strongroom.records.launch import Device
from strongroom.records.launched import Plan, State, WipeDocument, WipeReceipt

UP = [State.PREFLIGHT, State.PLANNED, State.BOOTED, State.ATTESTED, State.READY]
SILENT = ServiceUnavailable("the worker does not answer")
SIGNER = fingerprint(KEY.public_key())
VERITY = replace(
    TPM,
    boot=replace(LINUX, command_line=f"roothash={'cd' * 32}"),
    devices=tuple(Device("verity-disk", "cd" * 32, None) if one.kind == "disk" else one for one in TPM.devices),
)


@pytest.fixture
def stage(tmp_path):
    return make_stage(tmp_path)


def states(stage):
    return [entry.state for entry in Journal(stage.state, stage.spec.digest).entries]


def evidence(stage, state):
    journal = Journal(stage.state, stage.spec.digest)
    return journal.evidence(journal.last(state))


def die(*_):
    raise Killed


def left(stage):
    """What a wiped folder still holds, but for its records."""
    kept = {NAME, "lock"}
    return sorted(
        str(path.relative_to(stage.state))
        for path in stage.state.rglob("*")
        if path.name not in kept and path.parent.name != "evidence" and path.is_file() and not path.match("wipe-*.json")
    )


# The way up, and down


def test_a_machine_is_brought_up_step_by_step_and_taken_down_with_a_receipt(stage):
    found = stage.launcher().up()
    assert ([entry.state for entry in found.entries], found.alive) == (UP, True)
    assert stage.launcher().status() == found
    plan = codec.decode(Plan, evidence(stage, State.PLANNED))
    assert (plan.spec, plan.image, plan.driver) == (TPM.digest, TPM.image, "double")
    assert "pcr4" in plan.registers
    assert {file.name for file in plan.files} >= {"boot.img", "disk-0.img"}
    receipt = check_wipe(stage.launcher().down(), SIGNER)
    assert states(stage) == [*UP, State.DRAINING, State.WIPED]
    assert stage.revoked == [LEASE]
    assert [(step.what, step.how) for step in receipt.steps if step.what in {"keys", "guest", "nvram", "gpu"}] == [
        ("keys", "revoked"), ("guest", "powered off"), ("nvram", "overwritten"), ("gpu", "none"),
    ]  # fmt: skip
    assert left(stage) == []
    assert receipt.journal == Journal(stage.state, TPM.digest).entries[-2].digest


def test_the_receipt_of_what_is_wiped_stays_the_same(stage):
    stage.launcher().up(State.BOOTED)
    first = stage.launcher().down()
    assert stage.launcher().down() == first
    assert codec.decode(WipeDocument, next(stage.state.glob("wipe-*.json")).read_bytes()) == first


def test_a_wiped_folder_can_be_launched_from_again(stage):
    for life in (1, 2):
        stage.launcher().up()
        stage.launcher().down()
        assert states(stage) == [*UP, State.DRAINING, State.WIPED] * life
    assert stage.driver.started == 2


def test_up_goes_no_further_than_it_should_and_goes_on_from_there(stage):
    assert stage.launcher(attest=None).up(State.BOOTED).state is State.BOOTED
    assert stage.launcher().up(State.ATTESTED).state is State.ATTESTED
    assert stage.launcher().up(State.BOOTED).state is State.ATTESTED
    assert stage.launcher().up().state is State.READY
    assert stage.driver.started == 1
    assert stage.asked.proofs == 2, "what an earlier launcher heard is no verdict of this one"


def test_a_machine_without_anybody_to_ask_is_not_ready(stage):
    with pytest.raises(UsageError, match="nobody is there to ask"):
        stage.launcher(attest=None).up()
    assert not stage.state.exists()


@pytest.mark.parametrize("state", [State.FAILED, State.DRAINING, State.WIPED])
def test_up_is_not_a_way_to_an_end(stage, state):
    with pytest.raises(UsageError):
        stage.launcher().up(state)


def test_without_an_administrators_key_the_receipt_says_that_a_lease_was_left(stage):
    stage.launcher().up()
    receipt = check_wipe(stage.launcher(revoke=None).down(), SIGNER)
    assert [(step.name, step.how) for step in receipt.steps if step.what == "keys"] == [(LEASE, "left")]


def test_a_broker_that_is_away_does_not_keep_a_machine_alive(stage):
    stage.launcher().up()
    receipt = check_wipe(stage.launcher(revoke=lambda _lease: ("unreachable", "it does not answer")).down(), SIGNER)
    assert receipt.steps[0].how == "unreachable"
    assert left(stage) == []


@pytest.mark.parametrize("ends", ["attested", "verdict refused"])
def test_a_lease_that_a_machine_showed_is_ended_though_it_was_never_ready(stage, ends):
    stage.asked.shows = "shown"
    if ends == "attested":
        stage.launcher().up(State.ATTESTED)
    else:
        stage.asked.no = AppraisalRefused("its broker is not in its log")
        with pytest.raises(AppraisalRefused):
            stage.launcher().up()
    receipt = check_wipe(stage.launcher().down(), SIGNER)
    assert stage.revoked == ["shown"]
    assert [(step.name, step.how) for step in receipt.steps if step.what == "keys"] == [("shown", "revoked")]


def test_all_leases_of_a_life_are_ended_and_none_of_an_earlier_one(stage):
    for life in (1, 2):
        stage.asked.shows = f"{life}-first"
        stage.launcher().up()
        stage.asked.shows = f"{life}-second"
        stage.launcher().reattest()
        stage.revoked.clear()
        receipt = check_wipe(stage.launcher().down(), SIGNER)
        assert stage.revoked == [LEASE, f"{life}-second", f"{life}-first"]
        assert {step.name for step in receipt.steps if step.what == "keys"} == set(stage.revoked)


def test_what_was_written_about_a_machine_goes_wherever_it_lies(stage):
    stage.launcher().up()
    for name in ("console.log", "console.log.0", "console.log.2"):
        (stage.state / name).write_bytes(b"what the guest said")
    log = stage.folder / "worker.log"
    log.write_bytes(b"what the hypervisor said")
    receipt = check_wipe(stage.launcher().down(), SIGNER)
    assert left(stage) == []
    assert not log.exists()
    assert {step.name: step.how for step in receipt.steps if step.what == "trace"} == dict.fromkeys(
        ("console.log", "console.log.0", "console.log.2", str(log)), "overwritten"
    )


# On demand


def test_a_machine_that_is_ready_can_be_asked_anew_at_any_time(stage):
    stage.launcher().up()
    for times in (1, 2):
        found = stage.launcher().reattest()
        assert (found.state, found.alive) == (State.READY, True)
        assert states(stage) == [*UP, *[State.ATTESTED, State.READY] * times]
    assert stage.asked.proofs == 3
    assert json.loads(evidence(stage, State.ATTESTED))["proof"] == 3
    assert stage.driver.started == 1
    stage.launcher().down()
    assert stage.revoked == [LEASE]


def test_a_machine_that_is_not_what_it_was_fails_and_runs_on_until_it_is_taken_down(stage):
    stage.launcher().up()
    stage.asked.no = AppraisalRefused("its broker released nothing")
    with pytest.raises(AppraisalRefused):
        stage.launcher().reattest()
    assert states(stage)[-2:] == [State.ATTESTED, State.FAILED]
    assert json.loads(evidence(stage, State.FAILED))["inputs"] == ["command line: pcr9 differs"]
    with pytest.raises(UsageError, match="this launch is failed"):
        stage.launcher().reattest()
    check_wipe(stage.launcher().down(), SIGNER)
    assert stage.revoked == [LEASE], "what it had been given is ended all the same"


def test_a_machine_that_falls_silent_is_no_longer_ready(stage):
    stage.launcher().up()
    stage.asked.errors = [SILENT] * 1000
    with pytest.raises(LaunchFailed, match="no quote"):
        stage.launcher(prove_seconds=3).reattest()
    assert states(stage)[-1] is State.FAILED


def test_a_machine_that_has_ended_is_not_asked(stage):
    stage.launcher().up()
    stage.driver.drain(stage.spec, stage.launcher().place, 0)
    with pytest.raises(LaunchGone):
        stage.launcher().reattest()
    assert states(stage)[-1] is State.FAILED
    assert stage.asked.proofs == 1


def test_nothing_is_asked_where_nothing_was_started(stage):
    with pytest.raises(UsageError):
        stage.launcher().reattest()
    assert not stage.state.exists()
    stage.launcher().up(State.BOOTED)
    with pytest.raises(UsageError, match="nobody is there to ask"):
        stage.launcher(attest=None).reattest()
    assert stage.launcher().reattest().state is State.READY
    stage.launcher().down()
    with pytest.raises(UsageError, match="nothing runs"):
        stage.launcher().reattest()


def test_a_launcher_that_is_killed_while_it_asks_anew_is_picked_up(stage, monkeypatch):
    stage.launcher().up()
    with killed_at(monkeypatch, 1000) as seen:
        stage.launcher().reattest()
    for number in range(1, seen[0] + 1):
        with killed_at(monkeypatch, number), pytest.raises(Killed):
            stage.launcher().reattest()
        assert stage.launcher().up().state is State.READY
    assert stage.driver.started == 1


@pytest.mark.parametrize("at", ["proof", "verdict"])
@pytest.mark.parametrize("error", [UsageError("another policy"), FileUnreadable("no anchor")], ids=["usage", "file"])
def test_what_is_wrong_on_our_own_side_makes_no_machine_fail(stage, at, error):
    stage.launcher().up()
    stage.asked.errors, stage.asked.no = ([error], None) if at == "proof" else ([], error)
    with pytest.raises(type(error)):
        stage.launcher().reattest()
    assert State.FAILED not in states(stage)
    stage.asked.no = None
    assert stage.launcher().reattest().state is State.READY
    assert stage.driver.started == 1


@pytest.mark.parametrize("error", [MalformedEvidence("no quote"), AppraisalRefused("no")], ids=["malformed", "no"])
def test_what_is_wrong_with_the_machines_answer_is_a_failure(stage, error):
    stage.launcher().up()
    stage.asked.errors = [error]
    with pytest.raises(type(error)):
        stage.launcher().reattest()
    assert states(stage)[-1] is State.FAILED


def test_a_launcher_that_goes_on_later_asks_anew(stage):
    launcher = stage.launcher()
    launcher.up(State.ATTESTED)
    assert launcher.up().state is State.READY
    assert stage.asked.proofs == 2, "a proof of an earlier call is no proof of now"


def test_a_journal_that_is_full_takes_nothing_new_and_can_be_ended(stage, monkeypatch):
    stage.launcher().up()
    monkeypatch.setattr("strongroom.launch.life.journal.FULL_BYTES", (stage.state / NAME).stat().st_size - 1)
    with pytest.raises(UsageError, match="is full after 5 entries"):
        stage.launcher().reattest()
    assert stage.launcher().up().state is State.READY
    check_wipe(stage.launcher().down(), SIGNER)
    with pytest.raises(UsageError, match="is full"):
        stage.launcher().up()
    assert states(stage) == [*UP, State.DRAINING, State.WIPED]


# Failures


def test_a_machine_that_runs_though_its_start_failed_is_said_to_run(stage):
    stage.driver.falls_out = HypervisorUnavailable("the monitor does not answer")
    with pytest.raises(HypervisorUnavailable):
        stage.launcher().up()
    found = stage.launcher().status()
    assert (found.state, found.alive) == (State.FAILED, True)
    assert found.running.endpoint == str(stage.state / "machine")
    stage.launcher().down()
    found = stage.launcher().status()
    assert (found.state, found.running, found.alive) == (State.WIPED, None, None)


def test_where_nothing_was_started_nobody_looks_for_it(stage, monkeypatch):
    (stage.folder / "images" / "worker.efi").unlink()
    with pytest.raises(FileUnreadable):
        stage.launcher().up()
    monkeypatch.setattr(type(stage.driver), "find", die)
    assert stage.launcher().status().alive is None


def test_no_quote_is_a_failed_state(stage):
    stage.asked.errors = [SILENT] * 1000
    with pytest.raises(LaunchFailed, match="no quote") as raised:
        stage.launcher(prove_seconds=3).up()
    assert raised.value.detail == "no quote"
    assert states(stage)[-1] is State.FAILED
    assert json.loads(evidence(stage, State.FAILED))["error"]["detail"] == "no quote"


def test_a_machine_that_ends_before_it_proves_anything_has_failed_at_once(stage):
    stage.driver.stops_by_itself, stage.asked.errors = True, [SILENT] * 5
    with pytest.raises(LaunchFailed, match="ended before"):
        stage.launcher().up()
    assert len(stage.asked.errors) == 4


def test_evidence_is_waited_for(stage):
    stage.asked.errors = [SILENT] * 3
    assert stage.launcher().up().state is State.READY


@pytest.mark.parametrize("at", ["proof", "verdict"])
def test_a_no_is_final_and_kept_with_what_differed(stage, at):
    refused = AppraisalRefused("the evidence was not accepted", failed=("statement.image",))
    stage.asked.errors, stage.asked.no = ([refused], None) if at == "proof" else ([], refused)
    with pytest.raises(AppraisalRefused):
        stage.launcher().up()
    assert State.READY not in states(stage)
    kept = json.loads(evidence(stage, State.FAILED))
    assert (kept["error"]["code"], kept["inputs"]) == ("appraisal.refused", ["command line: pcr9 differs"])
    assert Journal(stage.state, TPM.digest).head.reason == "appraisal.refused"


def test_what_failed_is_wiped_and_started_anew(stage):
    stage.driver.refuses = HypervisorUnavailable("no memory")
    with pytest.raises(HypervisorUnavailable):
        stage.launcher().up()
    assert states(stage) == [State.PREFLIGHT, State.PLANNED, State.FAILED]
    stage.driver.refuses = None
    assert stage.launcher().up().state is State.READY
    assert states(stage) == [State.PREFLIGHT, State.PLANNED, State.FAILED, State.DRAINING, State.WIPED, *UP]


def test_a_machine_that_is_gone_is_not_believed_to_run(stage):
    stage.launcher().up()
    (stage.state / "machine").unlink()
    assert stage.launcher().status().alive is False
    assert stage.launcher().up().state is State.READY
    assert states(stage) == [*UP, State.FAILED, State.DRAINING, State.WIPED, *UP]
    assert stage.driver.started == 2


def test_a_host_that_is_not_ready_starts_nothing(tmp_path):
    stage = make_stage(tmp_path, TDX)
    with pytest.raises(HostNotReady, match=r"host\.tdx\.cpu") as raised:
        stage.launcher(place=stage.place(accelerator="kvm")).up(State.BOOTED)
    assert "host.platform.kvm" in raised.value.detail
    assert (states(stage), stage.driver.started) == ([State.PREFLIGHT, State.FAILED], 0)
    assert json.loads(evidence(stage, State.PREFLIGHT))["checks"]


def test_a_node_of_kvm_is_no_kvm(stage):
    with pytest.raises(HostNotReady, match=r"host\.platform\.kvm"):
        stage.launcher(place=stage.place(accelerator="kvm")).up(State.BOOTED)


def test_nothing_is_wiped_while_a_machine_does_not_end(stage, monkeypatch):
    def refuses(*_):
        raise HypervisorUnavailable("QEMU does not end")

    stage.launcher().up()
    with monkeypatch.context() as patched:
        patched.setattr(stage.driver, "drain", refuses)
        with pytest.raises(HypervisorUnavailable):
            stage.launcher().down()
    assert states(stage)[-1] is State.DRAINING
    assert (stage.state / "disk-0.img").exists()
    assert not list(stage.state.glob("wipe-*.json"))
    check_wipe(stage.launcher().down(), SIGNER)
    assert left(stage) == []


# Bad input


@pytest.mark.parametrize("name", ["worker.efi", "OVMF.fd", "OVMF_VARS.fd"])
def test_an_image_that_is_changed_or_missing_is_not_booted(stage, name):
    path = stage.folder / "images" / name
    data = path.read_bytes()
    path.write_bytes(data + b"x")
    with pytest.raises(ImageChanged):
        stage.launcher().up(State.BOOTED)
    path.unlink()
    with pytest.raises(FileUnreadable):
        stage.launcher().up(State.BOOTED)
    assert stage.driver.started == 0
    path.write_bytes(data)
    assert stage.launcher().up(State.BOOTED).state is State.BOOTED


@pytest.mark.parametrize("name", ["boot.img", "images", "disk-0.img"])
def test_a_copy_that_is_changed_after_it_was_measured_is_not_booted(stage, name, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(stage.driver, "start", die)
        with pytest.raises(Killed):
            stage.launcher().up(State.BOOTED)
    path = stage.state / name
    if path.is_dir():
        path = next(path.iterdir())
    with path.open("r+b") as file:
        file.seek(100)
        file.write(b"changed")
    with pytest.raises(ImageChanged, match="after it was measured"):
        stage.launcher().up(State.BOOTED)
    assert stage.driver.started == 0


def test_a_pinned_file_that_changes_while_the_machine_runs_changes_nothing(stage):
    stage.launcher().up(State.BOOTED)
    (stage.folder / "images" / "worker.efi").write_bytes(b"another")
    assert stage.launcher().up().state is State.READY


def test_a_host_that_gives_too_few_disks_or_other_things_is_told_so(stage):
    with pytest.raises(UsageError, match="disks"):
        stage.launcher(place=stage.place(disks=())).up()
    with pytest.raises(FileUnreadable, match="no such disk"):
        stage.launcher(place=stage.place(disks=(stage.folder / "none.img",))).up()
    assert stage.driver.started == 0


def test_the_given_disk_is_never_written(stage):
    stage.launcher().up()
    (stage.state / "disk-0.img").write_bytes(b"what the guest wrote")
    stage.launcher().down()
    assert (stage.folder / "scratch.img").read_bytes().startswith(b"scratch")


def test_a_folder_of_another_specification_is_refused(stage):
    stage.launcher().up(State.BOOTED)
    other = replace(TPM, boot=LINUX)
    for verb in ("up", "down", "status"):
        with pytest.raises(UsageError, match="another launch specification"):
            getattr(stage.launcher(spec=other), verb)()
    assert states(stage)[-1] is State.BOOTED


def test_another_driver_or_accelerator_does_not_take_over(stage):
    stage.launcher().up(State.BOOTED)
    stage.driver.name = "another"
    for verb in ("up", "down"):
        with pytest.raises(UsageError, match="planned for double"):
            getattr(stage.launcher(), verb)()
    stage.driver.name = "double"
    assert stage.launcher().up().state is State.READY


def test_a_folder_that_others_can_write_into_is_refused(stage):
    stage.state.mkdir()
    stage.state.chmod(0o777)
    with pytest.raises(UsageError, match="written by others"):
        stage.launcher().up(State.BOOTED)


@pytest.mark.parametrize("name", ["images/precious.efi", "disk-data.img", "vars.fd", "boot.img", "notes", ".hidden"])
def test_a_folder_that_holds_anything_else_is_not_taken(stage, name):
    path = stage.state / name
    path.parent.mkdir(parents=True)
    path.write_bytes(b"somebody's")
    with pytest.raises(UsageError, match="something else"):
        stage.launcher().up(State.BOOTED)
    for verb in ("up", "down"):
        with pytest.raises(UsageError):
            getattr(stage.launcher(), verb)()
    assert path.read_bytes() == b"somebody's"
    assert stage.driver.started == 0


def test_the_folder_of_the_pinned_files_is_not_taken(stage):
    stage.folder.chmod(0o700)
    for state in (stage.folder, stage.folder / "images"):
        with pytest.raises(UsageError, match="something else"):
            stage.launcher(place=stage.place(state=state, disks=(Path("/dev/null"),))).up(State.BOOTED)
    assert len(list((stage.folder / "images").iterdir())) >= len(FILES)


def test_a_launchers_key_and_what_one_that_was_killed_at_once_left_are_no_hindrance(stage):
    (stage.state / "evidence").mkdir(parents=True)
    for name in (
        "lock",
        "launcher.pem",
        ".launcher.pem.17",
        "evidence/000000-preflight.json",
        "evidence/.000000-preflight.json.part",
    ):
        (stage.state / name).write_bytes(b"{}")
    assert stage.launcher().up().state is State.READY


@pytest.mark.parametrize("name", ["images", "tpm", "evidence"])
def test_what_is_wiped_is_never_behind_a_link(stage, name):
    elsewhere = stage.folder / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "other").write_bytes(b"somebody's")
    stage.launcher().up()
    (stage.state / name).rename(stage.folder / "moved")
    (stage.state / name).symlink_to(elsewhere)
    for verb in ("up", "down"):
        with pytest.raises(UsageError, match="no folder of a launch's own"):
            getattr(stage.launcher(), verb)()
    assert [path.name for path in elsewhere.iterdir()] == ["other"]


def test_only_what_a_launch_makes_is_wiped(stage):
    stage.launcher().up()
    kept = ["images/mine.efi", "disk-data.img", "disk-7.img", ".mine.part", "notes", "images/" + "0" * 64]
    for name in kept:
        (stage.state / name).write_bytes(b"somebody's")
    receipt = check_wipe(stage.launcher().down(), SIGNER)
    assert left(stage) == sorted(kept)
    assert not {step.name for step in receipt.steps} & set(kept)


@pytest.mark.parametrize("kind", ["disk", "verity-disk"])
def test_a_disk_in_the_machines_own_folder_is_refused(stage, kind):
    spec = TPM if kind == "disk" else VERITY
    stage.state.mkdir(mode=0o700)
    (stage.state / "disk-0.img").write_bytes(b"somebody's")
    (stage.folder / "link").symlink_to(stage.state / "disk-0.img")
    for path in (stage.state / "disk-0.img", stage.folder / "link"):
        with pytest.raises(UsageError, match="lies in the machine's own folder"):
            stage.launcher(spec=spec, place=stage.place(disks=(path,)))
    assert (stage.state / "disk-0.img").read_bytes() == b"somebody's"


def test_a_verity_disk_is_opened_where_it_lies(stage):
    stage.launcher(spec=VERITY).up()
    assert not (stage.state / "disk-0.img").exists()
    check_wipe(stage.launcher(spec=VERITY).down(), SIGNER)
    assert (stage.folder / "scratch.img").read_bytes().startswith(b"scratch")


def test_a_folder_whose_name_qemu_would_read_as_options_is_refused(stage):
    with pytest.raises(UsageError, match="no name for a machine"):
        stage.launcher(place=stage.place(state=stage.folder / "a,readonly=off"))


def test_a_folder_whose_name_is_no_text_is_refused_before_anything_starts(stage):
    with pytest.raises(UsageError, match="no name for a machine"):
        stage.launcher(place=stage.place(state=stage.folder / os.fsdecode(b"caf\xe9")))


@pytest.mark.parametrize("name", ["evidence", "images"])
def test_a_file_where_a_folder_belongs_is_said(stage, name):
    stage.state.mkdir()
    (stage.state / name).write_text("")
    with pytest.raises(UsageError, match=name):
        stage.launcher().up(State.BOOTED)
    assert stage.driver.started == 0


@pytest.mark.parametrize("seconds", [float("inf"), float("nan"), -1.0, 86401.0])
def test_nobody_waits_for_ever(stage, seconds):
    for name in ("prove_seconds", "drain_seconds"):
        with pytest.raises(UsageError, match="waited for"):
            stage.launcher(**{name: seconds})


def test_two_launchers_do_not_work_in_one_folder(stage):
    stage.launcher().up(State.BOOTED)
    with locked(stage.state):
        for verb in ("up", "down"):
            with pytest.raises(LaunchBusy):
                getattr(stage.launcher(), verb)()
        assert stage.launcher().status().state is State.BOOTED


def test_nothing_is_made_where_nothing_was_launched(stage):
    with pytest.raises(UsageError, match="nothing was launched"):
        stage.launcher().down()
    assert stage.launcher().status().state is None
    assert not stage.state.exists()


def test_a_journal_that_somebody_changed_is_not_gone_on_from(stage):
    stage.launcher().up()
    path = stage.state / NAME
    path.write_bytes(path.read_bytes().replace(b'"planned"', b'"attested"'))
    for verb in ("up", "down", "status"):
        with pytest.raises(MalformedJournal):
            getattr(stage.launcher(), verb)()


# Killed at every step


def waits(stage, monkeypatch, act):
    with killed_at(monkeypatch, 0) as seen:
        act(stage)
    return seen[0]


def test_a_launcher_that_is_killed_at_any_moment_is_picked_up_again(tmp_path, monkeypatch):
    (tmp_path / "whole").mkdir()
    count = waits(make_stage(tmp_path / "whole"), monkeypatch, lambda stage: stage.launcher().up())
    assert count > 20
    for number in range(1, count + 1):
        (tmp_path / f"{number}").mkdir()
        stage = make_stage(tmp_path / f"{number}")
        with killed_at(monkeypatch, number), pytest.raises(Killed):
            stage.launcher().up()
        assert stage.launcher().up().state is State.READY
        assert states(stage)[-5:] == UP
        assert (stage.state / "machine").exists()
        check_wipe(stage.launcher().down(), SIGNER)
        assert left(stage) == []


def test_a_wipe_that_is_killed_at_any_moment_ends_with_a_whole_receipt(tmp_path, monkeypatch):
    def up_and_down(stage):
        stage.launcher().up()
        stage.launcher().down()

    for name in ("up", "both"):
        (tmp_path / name).mkdir()
    up = waits(make_stage(tmp_path / "up"), monkeypatch, lambda stage: stage.launcher().up())
    both = waits(make_stage(tmp_path / "both"), monkeypatch, up_and_down)
    wanted = {"keys", "guest", "disk", "tpm", "nvram", "boot-disk", "image"}
    for number in range(1, both - up + 1):
        (tmp_path / f"{number}").mkdir()
        stage = make_stage(tmp_path / f"{number}")
        stage.launcher().up()
        with killed_at(monkeypatch, number), pytest.raises(Killed):
            stage.launcher().down()
        receipt = check_wipe(stage.launcher().down(), SIGNER)
        assert {step.what for step in receipt.steps if step.how != "none"} >= wanted
        assert next(step.how for step in receipt.steps if step.what == "keys") == "revoked"
        assert next(step.how for step in receipt.steps if step.what == "guest") in {"powered off", "not running"}
        assert all(step.digest is not None for step in receipt.steps if step.what == "tpm")
        assert left(stage) == []
        assert not (stage.state / "machine").exists()


def test_notes_of_an_earlier_wipe_are_none_of_this_one(stage, monkeypatch):
    stage.launcher().up()
    with monkeypatch.context() as patched:
        patched.setattr("strongroom.launch.life.wipe.forget_notes", die)
        with pytest.raises(Killed):
            stage.launcher().down()
    assert states(stage)[-1] is State.WIPED
    stage.launcher().up()
    receipt = check_wipe(stage.launcher().down(), SIGNER)
    assert stage.revoked == [LEASE, LEASE]
    assert receipt.steps[1].how == "powered off"
    assert left(stage) == []


def test_a_plan_is_booted_as_it_was_made(stage, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(stage.driver, "start", die)
        with pytest.raises(Killed):
            stage.launcher().up(State.BOOTED)
    with pytest.raises(UsageError, match="other ports"):
        stage.launcher(place=stage.place(ports={8443: 443})).up(State.BOOTED)
    assert stage.launcher(place=stage.place(ports={8443: 443})).up(State.BOOTED).state is State.BOOTED


@pytest.mark.parametrize("after", [*UP, State.DRAINING])
def test_a_power_cut_at_each_state_is_survived(stage, monkeypatch, after):
    """The newest line is torn, and the machine is gone, as after a power cut."""
    if after is State.DRAINING:
        stage.launcher().up()
        with monkeypatch.context() as patched:
            patched.setattr("strongroom.launch.life.wipe.files", die)
            with pytest.raises(Killed):
                stage.launcher().down()
    else:
        first = after if after in {State.BOOTED, State.ATTESTED, State.READY} else State.BOOTED
        stage.launcher().up(first)
        lines = (stage.state / NAME).read_bytes().splitlines(keepends=True)[: UP.index(after) + 1]
        (stage.state / NAME).write_bytes(b"".join(lines))
    whole = (stage.state / NAME).read_bytes()
    (stage.state / NAME).write_bytes(whole[:-20])
    (stage.state / "machine").unlink(missing_ok=True)
    assert stage.launcher().up().state is State.READY
    assert (stage.state / "machine").exists()
    check_wipe(stage.launcher().down(), SIGNER)
    assert left(stage) == []


def test_a_machine_that_was_started_and_never_written_down_is_ended_first(stage, monkeypatch):
    real = type(stage.driver).start

    def start_and_die(self, spec, place):
        real(self, spec, place)
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(type(stage.driver), "start", start_and_die)
        with pytest.raises(Killed):
            stage.launcher().up()
    assert states(stage)[-1] is State.PLANNED
    assert (stage.state / "machine").exists()
    assert stage.launcher().up().state is State.READY
    assert states(stage) == [State.PREFLIGHT, State.PLANNED, State.DRAINING, State.WIPED, *UP]
    assert stage.driver.started == 2


def test_a_receipt_says_what_it_cannot_show(stage):
    stage.launcher().up(State.BOOTED)
    receipt = codec.decode(WipeReceipt, stage.launcher().down().receipt.payload)
    assert any("SSD" in text for text in receipt.not_shown)
