"""Hosts that lie, break and mock: nothing hangs, nothing crashes, and nothing passes because of it."""

import os
import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import hosts
import pytest
from hosts import FOLDER, GENOA, H100, SAPPHIRE_RAPIDS, SERVER, Answers, Link
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from strongroom.launch.doctor import CHECKS, Host, Status, examine, purposes_of

HUGE = object()
FIFO = object()
NOT_UTF8 = b"\x80"
EVERYTHING = {**SERVER.files, **SAPPHIRE_RAPIDS.files, **GENOA.files, **H100.files}
"""Every file that any host has."""
KEPT = {"capacity.huge_pages": "/proc/meminfo"}
"""Checks with two ways to pass, and the file that the second one reads."""


@dataclass(frozen=True, slots=True)
class Watched(Host):
    """A host that remembers which files were read."""

    read: set[str] = field(default_factory=set)

    def data(self, path, *, head=False):
        self.read.add(path)
        return Host.data(self, path, head=head)


def wreck(place, how):
    """Put something else where a file, a link or a folder is."""
    if place.is_dir() and not place.is_symlink():
        shutil.rmtree(place)
    else:
        place.unlink(missing_ok=True)
    place.parent.mkdir(parents=True, exist_ok=True)
    if how is None:
        return
    if how is FIFO:
        hosts.fifo(place)
    elif how is HUGE:
        with place.open("wb") as file:
            file.write(b"9" * 64)
            file.truncate(1 << 42)
    else:
        hosts.write(place, how)


def files_of(machine):
    return sorted(path for path, what in machine.files.items() if what is not FOLDER and not isinstance(what, Link))


def readers(host):
    """Which checks read which file."""
    found = {}
    for check in CHECKS:
        host.read.clear()
        check.look(host)
        for path in host.read:
            found.setdefault(path, []).append(check)
    return found


WRECKS = {
    "gone": None,
    "fifo": FIFO,
    "huge": HUGE,
    "folder": FOLDER,
    "loop": Link("."),
    "binary": b"\x80\xff",
    "zeros": b"\0" * 9,
    "empty": "",
    "negative": "-1",
    "long": "9" * 4000,
}
FREE_TEXT = ("/sys/class/dmi/", "/proc/sys/kernel/core_pattern")
"""What may say almost anything."""


@pytest.mark.timeout(120)
@pytest.mark.parametrize("name", WRECKS)
@pytest.mark.parametrize("machine", [SAPPHIRE_RAPIDS, GENOA, H100], ids=["tdx", "snp", "gpu"])
def test_what_reads_a_wrecked_file_does_not_pass(machine, name, tmp_path):
    root, how = tmp_path / "host", WRECKS[name]
    machine.written(root)
    host = Watched(root, machine.answers, hosts.kind)
    reading = readers(host)
    for path in files_of(machine):
        place = root / path.lstrip("/")
        before = place.read_bytes()
        wreck(place, how)
        for check in reading.get(path, ()):
            finding = check.look(host)
            lenient = path == KEPT.get(check.id) or (path.startswith(FREE_TEXT) and isinstance(how, str))
            assert lenient or finding.status is not Status.PASS, (check.id, path, finding)
        wreck(place, before)


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    "how",
    [FIFO, HUGE, FOLDER, Link("."), Link("/"), Link("../../../../../.."), b"\x80\xff", "9" * 4000],
    ids=["fifo", "huge", "folder", "loop", "root", "up", "binary", "long"],
)
def test_a_host_that_is_nothing_but_mockery_is_ready_for_nothing(how, tmp_path):
    for path in EVERYTHING:
        place = tmp_path / path.lstrip("/")
        if not any(parent.is_symlink() or parent.is_file() or parent.is_fifo() for parent in place.parents):
            wreck(place, how)
    host = Host(tmp_path)
    report = examine(host, purposes_of(host))
    assert not report.accepted
    assert not any(report.as_dict()["ready"].values())


def test_absurd_answers_are_not_believed(tmp_path):
    absurd = Answers(
        registers=dict.fromkeys((0x982, 0x1401, 0x87, 0xA0, 0xCE), (1 << 64) - 1), snp=b"\xff" * 33, landlock=-7,
        synchronised=None, free=1 << 90, gpu=dict.fromkeys(("-f", "-e", "-d"), "ON\n" * 9),
    )  # fmt: skip
    for number, machine in enumerate((SAPPHIRE_RAPIDS, GENOA, H100)):
        host = Host(machine.written(tmp_path / str(number)).root, absurd)
        report = examine(host, purposes_of(host))
        assert not any(report.as_dict()["ready"].values())
        found = {check.id: finding.status for check, finding in report.findings}
        doubted = (
            "tdx.keys",
            "tdx.mcheck",
            "tdx.production",
            "snp.firmware",
            "snp.aliases",
            "capacity.disk",
            "gpu.mode",
            "worker.landlock",
        )
        assert all(found[f"host.{name}"] is not Status.PASS for name in doubted)


BYTES = st.binary(max_size=48).map(lambda tail: NOT_UTF8 + tail)
HOWS = st.one_of(
    st.none(),
    st.just(FIFO),
    st.just(HUGE),
    st.just(FOLDER),
    st.sampled_from([Link("."), Link("/proc"), Link("nowhere")]),
    BYTES,
)
MACHINES = st.sampled_from([SAPPHIRE_RAPIDS, GENOA, H100])


@pytest.mark.timeout(300)
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(machine=MACHINES, wrecks=st.dictionaries(st.sampled_from(sorted(EVERYTHING)), HOWS, min_size=1, max_size=12))
def test_whatever_is_wrecked_nothing_breaks_and_nothing_passes_by_it(machine, wrecks):
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        machine.written(root)
        wrecked = set()
        for path, how in wrecks.items():
            place = root / path.lstrip("/")
            if Path(os.path.realpath(place.parent)) == place.parent or not place.parent.exists():
                try:
                    wreck(place, how)
                except (NotADirectoryError, FileExistsError):
                    continue  # something above it was wrecked already
                wrecked.add(path)
        host = Watched(root, machine.answers, hosts.kind)
        for check in CHECKS:
            host.read.clear()
            finding = check.look(host)
            if finding.status is Status.PASS:
                assert not (host.read & wrecked) - {KEPT.get(check.id)}, (check.id, finding)


@settings(max_examples=80, deadline=None)
@given(
    registers=st.dictionaries(st.sampled_from([0x982, 0x1401, 0x87, 0xA0, 0xCE]), st.integers(0, (1 << 64) - 1)),
    snp=st.one_of(st.none(), st.binary(max_size=40), st.binary(min_size=32, max_size=32)),
    landlock=st.one_of(st.none(), st.integers(-5, 12)),
    free=st.one_of(st.none(), st.integers(-(1 << 70), 1 << 70)),
    gpu=st.dictionaries(st.sampled_from(["-f", "-e", "-d"]), st.text(max_size=30)),
)
def test_whatever_is_answered_nothing_breaks(registers, snp, landlock, free, gpu):
    host = Host(Path("/nonexistent"), Answers(registers, snp, landlock, None, free, gpu))
    report = examine(host, purposes_of(host))
    assert not report.accepted
    found = {check.id: finding.status for check, finding in report.findings}
    assert found["host.tdx.keys"] is not Status.PASS or 16 < registers[0x87] >> 32 < 1 << 15
    assert found["host.snp.aliases"] is not Status.PASS or (len(snp) == 32 and snp[3] & 2)
    assert found["host.worker.landlock"] is not Status.PASS or landlock >= 6
