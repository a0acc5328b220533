"""`policy explain --spec`: which input of a launch made a live register differ from what its specification says."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from launching import ACPI, LINUX, SNP, STATELESS, TDX, content, log_of, write_files

from strongroom.appraisal.policies import to_toml as policy_to_toml
from strongroom.cli.main import run
from strongroom.launch.measure import measure
from strongroom.launch.spec import to_toml
from strongroom.records import codec
from strongroom.records.launch import LaunchSpec
from strongroom.tee.eventlog import Style
from strongroom_sim import Chip

SPEC = replace(TDX, firmware=replace(STATELESS, observed=ACPI))


class Machine(Chip):
    """A trust domain that was launched from a specification, with its firmware's log."""

    told = b""

    def log(self) -> bytes:
        return self.told


def explained(
    case: Any,
    monkeypatch: pytest.MonkeyPatch,
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    live: LaunchSpec,
    *,
    log: bool = True,
    spec: LaunchSpec = SPEC,
) -> list[str]:
    """What the command says of a machine launched from `live`, which should have been launched from `spec`."""
    found = measure(live, content())
    monkeypatch.setattr(Machine, "told", log_of(found, Style.CCEL, "sha384") if log else b"")
    registers = {name: bytes.fromhex(value) for name, value in found.registers.items()}
    monkeypatch.setitem(
        type(case).prove.__globals__, "Chip", lambda *words, **told: Machine(*words, **told | registers)
    )
    bundle = case.prove()
    write_files(folder)
    files = {
        "evidence.json": codec.encode(bundle),
        "policy.toml": policy_to_toml(case.policy).encode(),
        "spec.toml": to_toml(spec).encode(),
        "root.pem": case.installation.root_pem,
    }
    for name, data in files.items():
        (folder / name).write_bytes(data)
    words = ["policy", "explain", "evidence.json", "--policy", "policy.toml", "--spec", "spec.toml", "--json"]
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", ["strongroom", *words, "--anchor", "root.pem", "--at", "1800000000"])
    with pytest.raises(SystemExit):
        run()
    document = json.loads(capsys.readouterr().out)
    return document.get("inputs") or [document["error"]["message"]]


def test_the_command_line_is_named(case, monkeypatch, tmp_path, capsys):
    live = replace(SPEC, boot=replace(LINUX, command_line="console=ttyS0 init=/bin/sh"))
    said = explained(case, monkeypatch, tmp_path, capsys, live)
    assert said[0].startswith("launch specification: expected")
    assert said[1].startswith("command line: rtmr2 event 1")
    assert len(said) == 2


def test_a_larger_machine_is_named(case, monkeypatch, tmp_path, capsys):
    said = explained(case, monkeypatch, tmp_path, capsys, replace(SPEC, machine=replace(SPEC.machine, memory=4096)))
    assert [text.split(":")[0] for text in said[1:]] == ["memory"]


def test_without_a_log_registers_are_named_alone(case, monkeypatch, tmp_path, capsys):
    live = replace(SPEC, boot=replace(LINUX, command_line="quiet"))
    said = explained(case, monkeypatch, tmp_path, capsys, live, log=False)
    assert said[1].startswith("rtmr2 differs, and no event log says why")


def test_a_specification_of_another_kind_is_refused(case, monkeypatch, tmp_path, capsys):
    (said,) = explained(case, monkeypatch, tmp_path, capsys, SPEC, spec=SNP)
    assert "of a snp machine" in said
