"""Machines that really boot, brought up and taken down: QEMU and libvirt, OVMF, a software TPM, under emulation.

What is proved here: a machine outlives its launcher and is picked up again, also by a launcher that was killed; a machine that is no
worker never gets further than BOOTED; both drivers give the same registers, which were computed before; nothing runs and nothing is
left after `down`, whose receipt holds.
"""

from __future__ import annotations

import contextlib
import functools
import json
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import pytest
from booting import STUB, sleeper
from launching import LINUX, TPM, place_for
from lifecycles import KEY

from strongroom.appraisal.policies import template
from strongroom.crypto.signatures import fingerprint
from strongroom.errors import HypervisorUnavailable, LaunchFailed, UsageError
from strongroom.launch.libvirt import domain
from strongroom.launch.life import Launcher, processes
from strongroom.launch.life.attest import WorkerAttest
from strongroom.launch.life.drivers import driver
from strongroom.launch.life.drivers.libvirt import LOGS, TPM_LOGS, Libvirt
from strongroom.launch.life.wipe import check_wipe
from strongroom.launch.measure import measure
from strongroom.launch.observe import FOLDERS
from strongroom.launch.place import Place
from strongroom.launch.spec import read_images, to_toml
from strongroom.records.digest import digest_bytes
from strongroom.records.launched import State
from strongroom.records.reference import Reference

SIGNER = fingerprint(KEY.public_key())
PATIENCE = 240.0
REGISTERS = 4
FIRMWARES = "pcr0"
"""Observed, not computed."""


@pytest.fixture(scope="module")
def spec(tmp_path_factory):
    return sleeper(tmp_path_factory.mktemp("image"))


@pytest.fixture
def made_policy():
    """A user's policy for machines with a software TPM; its reference values are put in by the launch."""
    reference = Reference(digest_bytes(b"another image"), "tpm", {"pcr0": ("00" * 32,)})
    return template("policy", references=[reference], artifacts=[digest_bytes(b"model")], simulated=True, kind="tpm")


@pytest.fixture
def state():
    """A folder that libvirt's account can reach, with a short path, wiped of processes at the end."""
    with tempfile.TemporaryDirectory(prefix="sr-", dir="/var/tmp") as folder:
        Path(folder).chmod(0o711)
        made = Path(folder) / "state"
        yield made
        for process in (
            *processes.with_word("qemu-system-x86_64", str(made / "qemu.pid")),
            *processes.with_word("swtpm", f"file={made / 'swtpm.pid'}"),
        ):
            processes.end(process, seconds=5)


def launcher(spec, state, name="qemu", **changed):
    place = Place(images=Path("/"), state=state, accelerator="tcg", **changed.pop("place", {}))
    return Launcher(spec, place, driver(name), KEY, drain_seconds=0.5, **changed)


def printed(state):
    """Registers as the machine prints them on its console; a test may read there, a launcher never does."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            text = (state / "console.log").read_bytes().decode("latin1")
            found = {name: value.lower() for name, value in re.findall(r"(pcr\d+)=([0-9A-F]{64})", text)}
            if len(found) == REGISTERS and "UP" in text:
                return found
        time.sleep(0.2)
    raise AssertionError((state / "console.log").read_bytes()[-2000:])


def expected(spec, registers):
    wanted = measure(spec, read_images(spec, Path("/"))).registers
    assert {
        **{name: wanted[name] for name in registers if name != FIRMWARES},
        FIRMWARES: registers[FIRMWARES],
    } == registers


def strongroom(*words, **options):
    return subprocess.Popen([sys.executable, "-m", "strongroom", *map(str, words)], stdout=subprocess.PIPE, **options)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.mark.needs("qemu-system-x86_64", "swtpm", "objcopy", "busybox")
def test_a_machine_outlives_its_launcher_and_leaves_a_receipt(spec, state, tmp_path):
    (tmp_path / "spec.toml").write_text(to_toml(spec))
    words = (tmp_path / "spec.toml", "--state", state)
    with strongroom("launch", "up", *words, "--until", "booted", "--json") as up:
        lines = [json.loads(line) for line in up.stdout]
    assert up.returncode == 0
    assert [line["state"] for line in lines] == ["preflight", "planned", "booted", "booted"]
    expected(spec, printed(state))
    with strongroom("launch", "status", *words, "--json") as status:
        found = json.loads(status.stdout.read())
    assert (found["state"], found["alive"]) == ("booted", True)
    with strongroom("launch", "down", *words, "--drain-seconds", "0.5", "--json") as down:
        last = json.loads(down.stdout.read().splitlines()[-1])
    assert down.returncode == 0
    assert processes.with_word("qemu-system-x86_64", str(state / "qemu.pid")) == ()
    assert processes.with_word("swtpm", f"file={state / 'swtpm.pid'}") == ()
    with strongroom("launch", "check-wipe", last["receipt"], "--launcher", last["launcher"], "--json") as check:
        receipt = json.loads(check.stdout.read())
    assert check.returncode == 0
    steps = {step["what"]: step for step in receipt["steps"]}
    assert (steps["guest"]["how"], steps["tpm"]["how"], steps["nvram"]["how"]) == ("quit", "overwritten", "overwritten")
    assert not [path for path in state.rglob("*") if path.suffix in {".img", ".fd", ".sock", ".log"}]
    with strongroom("launch", "check-wipe", last["receipt"], "--launcher", digest_bytes(b"x"), "--json") as check:
        assert json.loads(check.stdout.read())["error"]["code"] == "signature.invalid"


@pytest.mark.needs("qemu-system-x86_64", "swtpm", "objcopy", "busybox")
@pytest.mark.parametrize("after", ["planned", "swtpm", "qemu", "booted"])
def test_a_launcher_that_is_killed_is_picked_up_again(spec, state, tmp_path, after):
    (tmp_path / "spec.toml").write_text(to_toml(spec))
    words = (tmp_path / "spec.toml", "--state", state, "--until", "booted", "--json")
    sign = {"swtpm": state / "tpm.sock", "qemu": state / "qmp.sock"}.get(after)
    with strongroom("launch", "up", *words) as first:
        if sign is None:
            while json.loads(first.stdout.readline())["state"] != after:
                pass
        else:
            deadline = time.monotonic() + PATIENCE
            while not sign.exists() and time.monotonic() < deadline:
                time.sleep(0.001)
        first.send_signal(signal.SIGKILL)
    assert launcher(spec, state).up(State.BOOTED).state is State.BOOTED
    (machine,) = processes.with_word("qemu-system-x86_64", str(state / "qemu.pid"))
    (chip,) = processes.with_word("swtpm", f"file={state / 'swtpm.pid'}")
    found = launcher(spec, state).status()
    assert (set(found.running.processes), found.alive) == ({machine, chip}, True)
    check_wipe(launcher(spec, state).down(), SIGNER)
    assert not processes.alive(machine)
    assert not processes.alive(chip)


@pytest.mark.needs("qemu-system-x86_64", "swtpm", "objcopy", "busybox")
def test_a_machine_that_is_killed_is_not_believed_to_run(spec, state):
    running = launcher(spec, state).up(State.BOOTED).running
    for process in running.processes:
        processes.end(process, seconds=5, first=signal.SIGKILL)
    assert launcher(spec, state).status().alive is False
    again = launcher(spec, state).up(State.BOOTED)
    assert (again.alive, again.running == running) == (True, False)
    launcher(spec, state).down()


@pytest.mark.needs("qemu-system-x86_64", "swtpm", "objcopy", "busybox")
def test_a_machine_that_is_no_worker_gives_no_quote(spec, state, made_policy):
    spec = replace(spec, firmware=replace(spec.firmware, observed={"pcr0": "a0" * 32}))
    port = free_port()
    attest = WorkerAttest(f"http://127.0.0.1:{port}", policy=made_policy, broker=digest_bytes(b"broker"))
    with pytest.raises(LaunchFailed, match="no quote"):
        launcher(spec, state, attest=attest, prove_seconds=3, place={"ports": {port: 8443}}).up()
    assert launcher(spec, state).status().entries[-1].reason == "launch.failed"
    check_wipe(launcher(spec, state).down(), SIGNER)


@pytest.mark.needs("qemu-system-x86_64", "swtpm", "objcopy", "busybox")
def test_qemus_own_words_say_why_it_does_not_start(spec, state):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(HypervisorUnavailable, match=r"qemu-system-x86_64: .*forwarding"):
            launcher(spec, state, place={"ports": {port: 8443}}).up(State.BOOTED)
    assert launcher(spec, state).status().state is State.FAILED
    check_wipe(launcher(spec, state).down(), SIGNER)
    assert processes.with_word("swtpm", f"file={state / 'swtpm.pid'}") == ()


def test_a_path_that_is_too_long_for_a_socket_is_refused_before_anything_starts(spec, state):
    long = state / ("x" * 100)
    with pytest.raises(UsageError, match="too long for a socket"):
        launcher(spec, long).up(State.BOOTED)


# libvirt


@pytest.mark.needs("qemu-system-x86_64", "swtpm", "objcopy", "busybox")
def test_libvirt_starts_the_same_machine_from_the_same_specification(spec, state, libvirt):
    port = free_port()
    try:
        found = launcher(spec, state, "libvirt", place={"ports": {port: 8443}}).up(State.BOOTED)
        assert (found.state, found.alive) == (State.BOOTED, True)
        expected(spec, printed(state))
        with socket.create_connection(("127.0.0.1", port), timeout=10):
            pass
        assert launcher(spec, state, "libvirt").status() == found
        written = [LOGS / f"{spec.name}.log", TPM_LOGS / f"{spec.name}-swtpm.log"]
        assert all(path.exists() for path in written)
        (state / "console.log.0").write_bytes(b"an older part of the console, as virtlogd keeps it")
        with pytest.raises(UsageError, match="planned for libvirt"):
            launcher(spec, state).down()
    finally:
        document = launcher(spec, state, "libvirt").down()
    receipt = check_wipe(document, SIGNER)
    steps = {step.what: step for step in receipt.steps}
    assert (steps["guest"].how, steps["tpm"].how, steps["nvram"].how) == ("quit", "overwritten", "overwritten")
    assert not Path("/var/lib/libvirt/swtpm", found.running.endpoint).exists()
    assert {step.name for step in receipt.steps if step.what == "trace"} >= {"console.log.0", *map(str, written)}
    assert not [*state.glob("console.log*"), *LOGS.glob(f"{spec.name}.log*"), *TPM_LOGS.glob(f"{spec.name}-swtpm.log*")]
    with contextlib.closing(libvirt.open("qemu:///system")) as connection:
        assert spec.name not in [one.name() for one in connection.listAllDomains()]
    assert launcher(spec, state, "libvirt").status().state is State.WIPED


@pytest.mark.needs("qemu-system-x86_64", "swtpm", "objcopy", "busybox")
def test_a_domain_of_another_folder_is_never_touched(spec, state, libvirt):
    del libvirt
    try:
        launcher(spec, state, "libvirt").up(State.BOOTED)
        other = state.with_name("other")
        with pytest.raises(UsageError, match="another domain"):
            launcher(spec, other, "libvirt").up(State.BOOTED)
        assert launcher(spec, state, "libvirt").status().alive
    finally:
        launcher(spec, state, "libvirt").down()


@pytest.mark.parametrize(
    ("folder", "asked", "ours"),
    [
        ("/srv/launches/worker", "/srv/launches/worker", True),
        ("/srv/launches/worker", "/launches/worker", False),
        ("/srv/launches/worker/more", "/srv/launches/worker", False),
        ("/var/lib/o'brien/<w&\">", "/var/lib/o'brien/<w&\">", True),
    ],
    ids=["the same", "the end of it", "the beginning of it", "quoted"],
)
def test_a_domain_is_told_by_what_it_says_of_its_launch(libvirt, folder, asked, ours):
    """At libvirt's own test driver, which starts nothing."""
    text = domain(TPM, replace(place_for(TPM), state=Path(folder)))
    metadata = text[text.index("  <metadata>") : text.index("  <memory")]
    tiny = f"<domain type='test'><name>worker</name>{metadata}<memory>1024</memory><os><type>hvm</type></os></domain>"
    with contextlib.closing(libvirt.open("test:///default")) as connection:
        connection.defineXML(tiny)
        place = replace(place_for(TPM), state=Path(asked))
        find = functools.partial(Libvirt("test:///default")._ours, connection, place=place)
        if ours:
            assert find(TPM).name() == "worker"
            with pytest.raises(UsageError, match="another domain"):
                find(replace(TPM, boot=LINUX))
        else:
            with pytest.raises(UsageError, match="another domain"):
                find(TPM)


@pytest.mark.needs("qemu-system-x86_64", "swtpm", "objcopy", "busybox")
def test_who_may_not_make_chips_for_libvirt_is_told_so_before_anything_is_defined(spec, state, libvirt, monkeypatch):
    from strongroom.launch.life.drivers import libvirt as ours

    monkeypatch.setattr(ours, "TPMS", state / "of-another-account")
    place = Place(images=Path("/"), state=state, accelerator="tcg")
    config = Path("/etc/swtpm_setup.conf")
    with pytest.raises(UsageError, match="not ours to write"):
        Launcher(spec, place, driver("libvirt", tpm_config=config), KEY).up(State.BOOTED)
    with contextlib.closing(libvirt.open("qemu:///system")) as connection:
        assert spec.name not in [one.name() for one in connection.listAllDomains()]


@pytest.mark.needs("qemu-system-x86_64", "swtpm", "objcopy", "busybox")
def test_what_a_firmware_shows_once_is_what_a_later_machine_shows(spec, state, tmp_path):
    (tmp_path / "spec.toml").write_text(to_toml(spec))
    words = (tmp_path / "spec.toml", "--stub", STUB, "--json")
    with strongroom("launch", "observe", *words) as observe:
        observed = json.loads(observe.stdout.read())["observed"]
    assert observe.returncode == 0
    assert not list(FOLDERS.glob("sr-observe-*"))
    launcher(spec, state).up(State.BOOTED)
    assert printed(state)["pcr0"] == observed["pcr0"]
    launcher(spec, state).down()
