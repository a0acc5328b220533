import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from strongroom.engines import linux
from strongroom.errors import ConfinementUnavailable
from strongroom.worker import hardening
from strongroom.worker.hardening import Hardening

HARDENED = """
import json, os, resource
from strongroom.engines import linux
from strongroom.worker.hardening import harden
report = harden()
dumpable = linux.prctl(3)
print(json.dumps([dict(report.outcomes), resource.getrlimit(resource.RLIMIT_CORE), dumpable]))
"""


def test_a_hardened_process_leaves_no_core_and_cannot_be_dumped():
    done = subprocess.run(
        [sys.executable, "-c", HARDENED],
        env={"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        check=True,
    )
    outcomes, core, dumpable = json.loads(done.stdout)
    assert set(outcomes) == set(Hardening.NAMES)
    assert outcomes["no-core-dump"] == outcomes["not-dumpable"] == "yes"
    assert core == [0, 0]
    assert dumpable == 0


@pytest.mark.parametrize(
    ("may_lock", "swap", "outcome"),
    [(True, True, "yes"), (False, False, "yes"), (False, True, "no"), (True, False, "yes")],
)
def test_memory_stays_out_of_swap_if_it_is_locked_or_there_is_none(
    monkeypatch: pytest.MonkeyPatch, *, may_lock: bool, swap: bool, outcome: str
):
    locked = []
    monkeypatch.setattr(hardening, "_may_lock_everything", lambda: may_lock)
    monkeypatch.setattr(linux, "lock_all_memory", lambda: locked.append(True))
    monkeypatch.setattr(linux, "swap_in_use", lambda: swap)
    if outcome == "yes":
        hardening._stay_in_memory()
        assert bool(locked) == may_lock
    else:
        with pytest.raises(OSError, match="swap"):
            hardening._stay_in_memory()


@pytest.mark.parametrize(
    ("table", "in_use"),
    [("Filename Type Size\n", False), ("Filename Type Size\n/dev/vda2 partition 1\n", True), ("", True), (None, True)],
)
def test_swap_is_in_use_unless_the_kernel_lists_none(tmp_path: Path, table: str | None, *, in_use: bool):
    path = tmp_path / "swaps"
    if table is not None:
        path.write_text(table, encoding="utf-8")
    assert linux.swap_in_use(str(path)) is in_use


def test_a_missing_measure_is_refused():
    with pytest.raises(ConfinementUnavailable):
        Hardening({"no-core-dump": "yes"}).require()
