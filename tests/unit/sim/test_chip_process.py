"""The simulated chip as a process: started, used by workers that die, stopped."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import strongroom_sim
from strongroom.errors import DeviceUnavailable
from strongroom.records import codec
from strongroom.records.digest import digest_bytes
from strongroom.records.evidence import Collateral
from strongroom.tee.tdx import Collector, parse_quote
from strongroom_sim import Installation, measure_image, mrconfigid_for, mrtd_for

DATA = bytes(range(64))
IMAGE = digest_bytes(b"image")
SPEC = digest_bytes(b"launch specification")


def simulator(*words: str | Path) -> list[str]:
    return [sys.executable, "-m", "strongroom_sim", *map(str, words)]


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("sim") / "installation"
    done = subprocess.run(simulator("init", directory), capture_output=True, text=True, check=True)
    assert "SIMULATED" in done.stderr
    assert json.loads(done.stdout)["anchor"] == str(directory / "root.pem")
    return directory


@pytest.fixture
def chip(installation: Path, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    words = simulator("chip", "--installation", installation, "--root", tmp_path / "td", "--image", IMAGE)
    with subprocess.Popen(
        [*words, "--launch-spec", SPEC], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        ready: dict[str, Any] = json.loads(process.stdout.readline())
        assert ready["state"] == "ready"
        assert ready["simulated"] is True
        assert ready["mrtd"] == mrtd_for(IMAGE).hex()
        yield process
        process.kill()


@pytest.mark.usefixtures("chip")
def test_the_production_collector_gets_a_quote_of_what_was_launched(tmp_path: Path):
    body = parse_quote(Collector(tmp_path / "td").quote(DATA)).body
    assert (body.mrtd, body.mrconfigid, body.reportdata) == (mrtd_for(IMAGE), mrconfigid_for(SPEC), DATA)


WORKER = """
import sys, pathlib
from strongroom.tee.tdx import Collector
collector = Collector(pathlib.Path(sys.argv[1]))
print("go", flush=True)
while True:
    collector.quote(bytes(64))
    print("quote", flush=True)
"""


@pytest.mark.usefixtures("chip")
def test_workers_killed_at_any_moment_do_not_wedge_the_chip(tmp_path: Path):
    for quotes in range(5):
        with subprocess.Popen([sys.executable, "-c", WORKER, str(tmp_path / "td")], stdout=subprocess.PIPE) as worker:
            assert worker.stdout is not None
            assert worker.stdout.readline() == b"go\n"
            for _ in range(quotes):  # let it get so many, then kill it in the middle of the next
                assert worker.stdout.readline() == b"quote\n"
            worker.kill()
        data = os.urandom(64)
        assert parse_quote(Collector(tmp_path / "td").quote(data)).body.reportdata == data


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_stopped_chip_is_no_device(chip: subprocess.Popen[str], tmp_path: Path, number: signal.Signals):
    chip.send_signal(number)
    assert chip.wait(timeout=30) == (0 if number is signal.SIGTERM else -number)
    with pytest.raises(DeviceUnavailable):
        Collector(tmp_path / "td").quote(DATA)


def test_a_chip_ends_with_its_parent(installation: Path, tmp_path: Path):
    words = simulator("chip", "--installation", installation, "--root", tmp_path / "td", "--image", IMAGE)
    script = "import subprocess, sys; subprocess.Popen(sys.argv[1:]); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", script, *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as parent:
        assert parent.stdout is not None
        assert json.loads(parent.stdout.readline())["state"] == "ready"
        parent.kill()
        assert parent.stdout.read() == ""  # ends only when the chip, which holds the other end, has ended


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("chip", "--root", "td", "--installation", "nowhere", "--image", IMAGE), 3),
        (("chip", "--root", "td", "--installation", "nowhere"), 2),
        (("chip", "--root", "td", "--installation", "nowhere", "--image", "latest"), 2),
        (("chip", "--root", "td"), 2),
        (("init", "."), 2),
        (("nonsense",), 2),
    ],
)
def test_a_wrong_call_ends_in_one_clear_error(tmp_path: Path, words: tuple[str, ...], code: int):
    (tmp_path / "something").write_text("here")
    done = subprocess.run(simulator(*words), cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == code
    assert "Traceback" not in done.stderr


def test_a_root_that_is_in_use_is_refused(installation: Path, chip: subprocess.Popen[str], tmp_path: Path):
    assert chip.poll() is None
    words = simulator("chip", "--installation", installation, "--root", tmp_path / "td", "--image", IMAGE)
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 4
    assert "device.unavailable" in done.stderr
    assert "remove its folder" in done.stderr


def test_the_written_collateral_is_a_record(installation: Path):
    collateral = codec.decode(Collateral, (installation / "collateral.json").read_bytes())
    assert collateral.intel is not None
    assert collateral.intel.pck_crl
    renewed = Installation.load(installation)
    renewed.renew(1_790_000_000)
    assert codec.decode(Collateral, (installation / "collateral.json").read_bytes()) != collateral


def test_measuring_a_package_is_of_paths_and_contents(tmp_path: Path):
    package = tmp_path / "package"
    (package / "inner").mkdir(parents=True)
    (package / "a.py").write_text("1")
    (package / "inner" / "b.py").write_text("2")
    first = measure_image(package)
    (package / "notes.txt").write_text("not code")
    assert measure_image(package) == first
    (package / "inner" / "b.py").rename(package / "b.py")
    moved = measure_image(package)
    (package / "b.py").write_text("3")
    assert len({first, moved, measure_image(package)}) == 3
    assert measure_image(Path(strongroom_sim.__file__).parent) == measure_image(Path(strongroom_sim.__file__).parent)
