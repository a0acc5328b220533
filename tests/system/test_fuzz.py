"""Every fuzz target under atheris for a moment, and that a finding is one."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.needs("atheris")

FUZZ = Path(__file__).resolve().parents[2] / "fuzz"
SECONDS = 1
BROKEN = """
from harness import run

def one(data):
    if data.startswith(b"!"):
        raise IndexError("not one of ours")

def seeds():
    return [b"fine", b"!bad"]

run(one, seeds)
"""


def fuzz(script: Path, folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, script, *options], cwd=folder, capture_output=True, text=True, errors="replace", check=False
    )


def test_every_target_survives_being_fuzzed(tmp_path: Path):
    done = fuzz(FUZZ / "every.py", tmp_path, f"-max_total_time={SECONDS}")
    assert done.returncode == 0, done.stderr[-4000:]
    assert list(tmp_path.iterdir()) == []
    begun = re.findall("^== ([a-z_0-9]+)$", done.stderr, re.MULTILINE)
    runs = [int(count) for count in re.findall("^Done ([0-9]+) runs", done.stderr, re.MULTILINE)]
    others = {"harness", "samples", "campaign", "every"}
    assert set(begun) == {path.stem for path in FUZZ.glob("*.py")} - others
    assert len(runs) == len(begun)
    assert min(runs) > 10


def test_what_escapes_a_parser_is_a_finding_and_is_kept(tmp_path: Path):
    shutil.copy(FUZZ / "harness.py", tmp_path)
    (tmp_path / "broken.py").write_text(BROKEN)
    done = fuzz(tmp_path / "broken.py", tmp_path, f"-max_total_time={SECONDS}")
    assert done.returncode != 0
    assert "IndexError: not one of ours" in done.stdout + done.stderr
    assert [path.read_bytes() for path in tmp_path.glob("crash-*")] == [b"!bad"]
