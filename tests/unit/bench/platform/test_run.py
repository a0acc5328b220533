"""Measuring: what is missing and why, what a machine says of itself, and one real run with tiny sizes."""

import errno
import json
import math
import os
from contextlib import ExitStack
from pathlib import Path

import pytest

from strongroom.bench.platform import disk, environment, gpu, kernel, memory, model, network, training
from strongroom.bench.platform.probe import Missing, Probe, Sizes
from strongroom.bench.platform.run import run, sample
from strongroom.bench.platform.saved import parse
from strongroom.errors import Unavailable, UsageError
from strongroom.launch.doctor import Host

TINY = Sizes(
    copy_mib=8, fault_mib=1, calls=50, exits=5, timers=2, wakeups=5, disk_mib=2, random_reads=4, commits=1,
    round_trips=5, stream_mib=2, gpu_mib=1, gpu_copies=1, tokens=2, training_steps=1,
)  # fmt: skip
ALWAYS = {"memory.fault", "kernel.call", "kernel.clock"}


@pytest.fixture
def stack():
    with ExitStack() as made:
        yield made


def names(found):
    return {each.id for each in found if isinstance(each, Probe)}


def why(found):
    return {each.id: each.why for each in found if isinstance(each, Missing)}


def nothing(*_):
    """No progress is shown."""


def test_one_real_run_with_tiny_sizes_is_whole(tmp_path):
    before, seen = os.sched_getaffinity(0), []
    found = run(
        runs=5, sizes=TINY, folder=tmp_path, weights=None, date="2026-11-26", progress=lambda *at: seen.append(at)
    )
    assert names_of(found) >= ALWAYS
    assert parse(json.dumps(found.as_json()).encode()) == found
    for each in found.measured:
        assert each.figure.runs == len(each.samples) == 5
        assert all(0 < value < math.inf for value in each.samples)
    assert any(text.startswith("model.tokens: not measured: no model") for text in found.skipped)
    assert seen == [(turn, 5) for turn in range(6)]
    assert os.sched_getaffinity(0) == before
    assert not list(tmp_path.iterdir())
    assert found.settings["copy_mib"] == 8
    assert found.environment["tee"] in {"tdx", "snp", environment.NO_TEE}


def names_of(found):
    return {each.figure.id for each in found.measured}


@pytest.mark.parametrize("runs", [4, 201])
def test_so_many_runs_are_not_kept(runs, tmp_path):
    with pytest.raises(UsageError):
        run(runs=runs, sizes=TINY, folder=tmp_path, weights=None, date="2026-11-26", progress=nothing)


def test_rounds_take_turns_and_the_first_is_not_counted():
    order = []

    def probe(name):
        return Probe(name, "s", "less", "w", lambda: order.append(name) or float(len(order)))

    found = sample([probe("a"), probe("b")], 5, nothing)
    assert order == ["a", "b"] * 6
    assert found[0].samples == (3.0, 5.0, 7.0, 9.0, 11.0)


@pytest.mark.parametrize("value", [0.0, -1.0, math.inf, math.nan])
def test_what_is_no_measurement_ends_the_run_by_name(value):
    with pytest.raises(Unavailable, match=r"x\.y broke"):
        sample([Probe("x.y", "s", "less", "w", lambda: value)], 5, nothing)


def test_a_disk_that_fills_up_ends_the_run_by_name():
    def full():
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(Unavailable, match=r"disk\.write broke: No space"):
        sample([Probe("disk.write", "s", "less", "w", full)], 5, nothing)


def test_buffers_that_caches_hold_are_not_measured_as_memory(stack):
    found = memory.probes(TINY, 32 * 1024, None, stack)
    assert names(found) == {"memory.fault"}
    assert "not 4 times the last cache" in why(found)["memory.copy"]
    assert names(memory.probes(TINY, 2048, None, stack)) == {"memory.copy", "memory.fault"}


def test_a_machine_with_little_memory_is_not_filled(stack):
    assert not names(memory.probes(TINY, None, 16, stack))


def test_what_takes_two_cores_is_missing_with_one(stack):
    assert not names(network.probes(TINY, None, stack))
    assert "two cores" in why(kernel.probes(TINY, (0, None), stack))["wakeup.round_trip"]


def test_without_the_cpuid_device_no_exit_is_measured(stack, tmp_path):
    found = kernel.probes(TINY, (0, None), stack, devices=tmp_path)
    assert "module cpuid" in why(found)["exit.cpuid"]


def test_a_cpuid_device_is_read_at_the_hypervisors_leaf(stack, tmp_path):
    (tmp_path / "0").mkdir()
    with (tmp_path / "0" / "cpuid").open("wb") as file:
        file.truncate(kernel.HYPERVISOR_LEAF + kernel.CPUID_BYTES)
    found = kernel.probes(TINY, (0, None), stack, devices=tmp_path)
    probe = next(each for each in found if each.id == "exit.cpuid")
    assert isinstance(probe, Probe)
    assert probe.run() > 0


@pytest.mark.parametrize("kind", sorted(disk.IN_MEMORY))
def test_a_file_system_in_memory_is_no_disk(kind, stack, tmp_path):
    assert "in memory" in why(disk.probes(TINY, tmp_path, kind, stack))[disk.NAMES]
    assert not list(tmp_path.iterdir())


def test_a_disk_without_room_is_not_filled(stack, tmp_path):
    assert "no room" in why(disk.probes(Sizes(disk_mib=1 << 40), tmp_path, "ext4", stack))[disk.NAMES]


def test_the_other_side_that_ends_is_noticed(stack):
    peer = kernel.start_peer("pipe", min(os.sched_getaffinity(0)), stack)
    assert kernel.wake_once(peer, 2) > 0
    peer.kill()
    peer.wait()
    with pytest.raises((Unavailable, BrokenPipeError)):
        kernel.wake_once(peer, 2)


def test_bytes_arrive_whole_over_loopback(stack):
    found = network.probes(TINY, min(os.sched_getaffinity(0)), stack)
    assert names(found) == {"network.round_trip", "network.stream"}
    for _ in range(2):
        for probe in found:
            assert isinstance(probe, Probe)
            assert probe.run() > 0


def test_without_a_gpu_nothing_of_pcie_is_made_up():
    if gpu.torch_with_gpu() is not None:
        pytest.skip("there is a GPU here")
    assert why(gpu.probes(TINY)) == {gpu.NAMES: "no GPU that torch can use"}


def test_a_model_that_does_not_load_is_missing_and_says_so(stack, tmp_path):
    broken = tmp_path / "model.gguf"
    broken.write_bytes(b"GGUF" + bytes(60))
    assert "model.tokens" in why(model.probes(TINY, broken, min(os.sched_getaffinity(0)), stack))


def test_a_training_step_learns():
    pytest.importorskip("numpy")
    step = training.in_numpy()
    first = step()
    for _ in range(5):
        last = step()
    assert last < first


def test_a_training_step_in_numpy_follows_the_slope():
    numpy = pytest.importorskip("numpy")
    before = training.RATE
    losses = []
    try:
        for rate in (0.0, 1e-2):
            training.RATE = rate
            step = training.in_numpy()
            losses.append((step(), step()))
    finally:
        training.RATE = before
    assert losses[0][0] == losses[0][1] == losses[1][0]
    assert losses[1][1] < losses[1][0]
    assert numpy.isfinite(losses).all()


def test_without_libraries_there_is_no_training(monkeypatch):
    monkeypatch.setattr(training, "torch_with_gpu", lambda: None)
    monkeypatch.setattr(training, "find_spec", lambda name: None)  # noqa: ARG005
    assert "neither" in why(training.probes(TINY))["training.step"]


def host(folder: Path, files: dict[str, str]) -> Host:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return Host(folder)


@pytest.mark.parametrize(
    ("file", "tee"),
    [
        ("dev/tdx_guest", "tdx"),
        ("sys/class/misc/tdx_guest/dev", "tdx"),
        ("dev/sev-guest", "snp"),
        ("dev/null", environment.NO_TEE),
    ],
)
def test_a_guest_is_known_by_its_device(file, tee, tmp_path):
    assert environment.tee(host(tmp_path, {file: ""})) == tee


def test_a_machine_that_says_nothing_is_unknown(tmp_path):
    said = environment.environment(Host(tmp_path / "none"), folder=tmp_path, gpu="none")
    assert said["cpu"] == said["kernel"] == said["memory"] == said["last_cache"] == said["file_system"] == "unknown"
    assert said["tee"] == environment.NO_TEE


def test_the_last_cache_is_the_largest(tmp_path):
    cache = "sys/devices/system/cpu/cpu0/cache"
    files = {f"{cache}/index0/size": "32K", f"{cache}/index3/size": "32768K\n", f"{cache}/index4/size": "lots"}
    assert environment.cache_kib(host(tmp_path, files)) == 32768


def test_the_file_system_is_found_by_its_device(tmp_path):
    device = tmp_path.stat().st_dev
    line = f"1 0 {os.major(device)}:{os.minor(device)} / / rw shared:1 - ext4 /dev/x rw"
    assert environment.file_system(host(tmp_path, {"proc/self/mountinfo": f"junk\n{line}\n"}), tmp_path) == "ext4"
    assert environment.file_system(Host(tmp_path / "none"), tmp_path) == "unknown"


def test_other_weights_are_other_code(tmp_path):
    one, other = tmp_path / "a", tmp_path / "b"
    one.write_bytes(b"a")
    other.write_bytes(b"b")
    first, second, none = environment.code(one), environment.code(other), environment.code(None)
    assert first["model"] != second["model"]
    assert none["model"] == "none"
    assert {name for name in first if first[name] != second[name]} == {"model"}
    assert first["benchmark"].startswith("sha256:")
