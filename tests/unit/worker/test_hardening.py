import ctypes
import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from strongroom.engines import linux
from strongroom.errors import ConfinementUnavailable
from strongroom.worker import hardening
from strongroom.worker.hardening import Hardening, Protection, SecretBytes

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


def test_a_secret_moves_in_and_leaves_zeros_behind():
    source = bytearray(b"canary of the worker")
    with SecretBytes.take(source) as secret:
        assert bytes(secret.view) == b"canary of the worker"
        assert len(secret) == 20
    assert source == bytes(20)


def test_a_wiped_secret_is_gone_for_those_who_still_hold_a_view():
    secret = SecretBytes.take(bytearray(b"canary"))
    view = secret.view
    secret.wipe()
    secret.wipe()
    assert bytes(view) == bytes(6)
    assert secret.wiped
    with pytest.raises(ValueError, match="wiped"):
        _ = secret.view


def test_a_secret_is_wiped_when_its_block_ends_in_an_error():
    secret = SecretBytes.take(bytearray(b"canary"))
    view = secret.view
    with pytest.raises(KeyError), secret:
        raise KeyError
    assert bytes(view) == bytes(6)


def test_a_secret_shows_itself_to_nobody():
    with SecretBytes.take(bytearray(b"canary")) as secret:
        assert "canary" not in f"{secret!r} {secret}"
        with pytest.raises(TypeError):
            pickle.dumps(secret)


@pytest.mark.parametrize("size", [0, -1])
def test_a_secret_without_bytes_is_refused(size: int):
    with pytest.raises(ValueError, match="without bytes"):
        SecretBytes(size)


def test_the_pages_of_a_secret_are_marked_in_the_kernels_own_table():
    with SecretBytes.take(bytearray(b"canary")) as secret:
        address = ctypes.addressof(ctypes.c_char.from_buffer(secret.view))
        flags = flags_of(address)
    expected = {"locked": "lo", "not-forked": "dc", "not-dumped": "dd"}
    achieved = {flag for name, flag in expected.items() if secret.protection.outcomes[name] == "yes"}
    assert achieved <= flags
    assert {"dc", "dd"} <= achieved
    assert set(secret.protection.outcomes) == set(Protection.NAMES)


def flags_of(address: int) -> set[str]:
    """The VmFlags of the mapping that holds an address (proc(5), smaps)."""
    inside = False
    with open("/proc/self/smaps", encoding="utf-8") as lines:  # noqa: PTH123
        for line in lines:
            first = line.split()[0]
            if "-" in first and not first.endswith(":"):
                low, high = (int(part, 16) for part in first.split("-"))
                inside = low <= address < high
            elif inside and first == "VmFlags:":
                return set(line.split()[1:])
    raise AssertionError("no such mapping")
