"""Which measured input made a register differ: a TD that booted with a log, and was booted again with one thing changed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from strongroom.appraisal.explain import (
    expected_inputs,
    explain,
    explain_events,
    explain_registers,
    measured_inputs,
)
from strongroom.appraisal.signed import Known
from strongroom.crypto.signatures import fingerprint, generate_ed25519
from strongroom.errors import MalformedEvidence
from strongroom.records.evidence import Event
from strongroom.records.policy import Reference
from strongroom.records.reference import MeasuredInput, ReferenceValues
from strongroom.records.verdict import Check, Status
from strongroom.tee.eventlog import Style, replay
from strongroom_sim import Chip
from strongroom_sim.eventlog import EventLog

ZERO = bytes(48)


class Booted(Chip):
    """A TD whose firmware logged what it measured."""

    def __init__(self, *words: Any, written: bytes, **changed: Any) -> None:
        super().__init__(*words, **changed)
        self._written = written

    def log(self) -> bytes:
        return self._written


@dataclass
class Boot:
    """One boot: its log, and the registers that it leaves."""

    written: bytes
    registers: dict[str, bytes]


def boot(**changed: Any) -> Boot:
    made = EventLog(Style.CCEL, ("sha384",)).boot(**changed)
    found = replay(made.log, "sha384")
    return Boot(made.serialised(), {f"rtmr{number}": found.get(number, ZERO) for number in range(3)})


GOOD = boot(command_line="quiet")


@pytest.fixture
def pinned(case: Any) -> Any:
    """The case's policy with the registers of the good boot as reference values."""
    registers = {**case.policy.references[0].registers, **{n: (v.hex(),) for n, v in GOOD.registers.items()}}
    reference = Reference(case.statement.image, "tdx", registers)
    case.policy = replace(case.policy, references=(reference,))
    return case


def proved(case: Any, monkeypatch: pytest.MonkeyPatch, told: Boot, *, log: bytes | None = None) -> Any:
    written = told.written if log is None else log
    monkeypatch.setitem(type(case).prove.__globals__, "Chip", lambda *w, **c: Booted(*w, written=written, **c))
    return case.prove(**told.registers)


def test_a_boot_as_it_should_be_is_accepted_and_leaves_nothing_to_explain(pinned: Any, monkeypatch: pytest.MonkeyPatch):
    bundle = proved(pinned, monkeypatch, GOOD)
    verdict = pinned.judge(bundle)
    assert verdict.accepted
    assert verdict.claims["secure_boot"] == "1"
    assert explain_registers(bundle.evidence, verdict, measured_inputs("tdx", GOOD.written)) == []


@pytest.mark.parametrize(
    ("changed", "register", "words"),
    [
        ({"command_line": "quiet init=/bin/sh"}, "rtmr2", "init=/bin/sh"),
        ({"command_line": "quiet", "initrd": b"another initrd"}, "rtmr2", "initrd"),
        ({"command_line": "quiet", "kernel": b"another kernel"}, "rtmr", "differs"),
        ({"command_line": "quiet", "firmware": b"another firmware"}, "rtmr0", "differs"),
        ({"command_line": "quiet", "secure_boot": False}, "rtmr0", "SecureBoot"),
    ],
    ids=["command line", "initrd", "kernel", "firmware", "secure boot"],
)
def test_the_changed_input_is_named(
    pinned: Any, monkeypatch: pytest.MonkeyPatch, changed: dict[str, Any], register: str, words: str
):
    bundle = proved(pinned, monkeypatch, boot(**changed))
    verdict = pinned.judge(bundle)
    assert [check.id for check in verdict.failed if check.status is Status.FAIL] == ["statement.image"]
    found = explain_registers(bundle.evidence, verdict, measured_inputs("tdx", GOOD.written))
    assert any(text.startswith(register) and words in text for text in found), found


def test_a_log_that_does_not_replay_explains_nothing(pinned: Any, monkeypatch: pytest.MonkeyPatch):
    """Whoever booted something else shows the good boot's log."""
    bundle = proved(pinned, monkeypatch, boot(command_line="quiet init=/bin/sh"), log=GOOD.written)
    verdict = pinned.judge(bundle)
    assert "tdx.log.replay" in {check.id for check in verdict.failed}
    (text,) = explain_registers(bundle.evidence, verdict, measured_inputs("tdx", GOOD.written))
    assert "does not explain the registers" in text


def test_without_a_log_or_an_expectation_nobody_can_say(pinned: Any):
    verdict = pinned.judge()
    assert "no event log" in explain_registers(pinned.bundle.evidence, verdict, measured_inputs("tdx", GOOD.written))[0]
    assert explain_registers(pinned.bundle.evidence, verdict, ()) == []
    with pytest.raises(MalformedEvidence):
        measured_inputs("snp", b"")


def test_builders_name_the_inputs_of_their_image(pinned: Any, monkeypatch: pytest.MonkeyPatch):
    image = pinned.statement.image
    rows = tuple(
        MeasuredInput(image, row.register, row.type, row.digest, row.description)
        for row in measured_inputs("tdx", GOOD.written)
    )
    values = ReferenceValues("builder", 1, pinned.policy.references, rows)
    known = Known(references=((fingerprint(generate_ed25519().public_key()), values),))
    bundle = proved(pinned, monkeypatch, boot(command_line="quiet init=/bin/sh"))
    found = explain_registers(bundle.evidence, pinned.judge(bundle), expected_inputs(known, image))
    assert any("init=/bin/sh" in text for text in found)
    assert expected_inputs(known, "sha256:" + "0" * 64) == ()  # type: ignore[arg-type]


def test_a_run_time_event_that_is_not_what_is_stated_is_named(pinned: Any):
    evidence = pinned.bundle.evidence
    other = Event("artifact", "sha256:" + "1" * 64)
    changed = replace(evidence, events=(*evidence.events[:-1], other))
    assert explain_events(evidence) == []
    assert "event 3 differs: stated artifact" in explain_events(changed)[0]
    assert "event 4 was added" in explain_events(replace(evidence, events=(*evidence.events, other)))[0]
    assert "event 3 is missing" in explain_events(replace(evidence, events=evidence.events[:-1]))[0]


def test_every_check_that_can_fail_has_a_cause_of_its_kind():
    from strongroom.appraisal.kinds import KINDS
    from strongroom.records.verdict import Level, Verdict

    for kind in (*KINDS, "azure", "gce"):
        name = kind.rpartition("-")[2]
        check = Check(f"{name}.something", Status.FAIL, "")
        verdict = Verdict(Level.NONE, (check,), {}, "sha256:" + "0" * 64, None, "none", 0)  # type: ignore[arg-type]
        assert explain(verdict)[0][1], kind


def test_the_command_line_names_the_input(
    pinned: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    import sys

    from strongroom.appraisal.policies import to_toml
    from strongroom.cli.main import run
    from strongroom.records import codec

    bundle = proved(pinned, monkeypatch, boot(command_line="quiet init=/bin/sh"))
    files = {
        "evidence.json": codec.encode(bundle),
        "policy.toml": to_toml(pinned.policy).encode(),
        "good.log": GOOD.written,
        "root.pem": pinned.installation.root_pem,
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    words = ["policy", "explain", "evidence.json", "--policy", "policy.toml", "--expected-log", "good.log"]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["strongroom", *words, "--anchor", "root.pem", "--at", "1800000000"])
    with pytest.raises(SystemExit) as ended:
        run()
    said = capsys.readouterr().out
    assert ended.value.code == 1
    assert "statement.image" in said
    assert "input: rtmr2 event" in said
    assert "init=/bin/sh" in said
