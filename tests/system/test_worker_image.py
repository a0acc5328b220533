"""The worker image, really built and really booted.

What is proved here: two builds in other folders, at other times and under other accounts' habits give the same bytes; a machine that
boots the image holds the registers that were computed before; its first process closed it before the worker's command ran, and that
command, which looks around inside, finds no shell, nothing to write to, no way out but the one that is named, and no module to load.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from launching import TPM

from strongroom.errors import ServiceUnavailable
from strongroom.launch.image import recipe
from strongroom.launch.image.fetch import fetch
from strongroom.launch.measure import measure
from strongroom.launch.place import Place
from strongroom.launch.qemu import arguments
from strongroom.launch.spec import read_images
from strongroom.records.digest import digest_bytes
from strongroom.records.launch import Boot, Device, Firmware, LaunchSpec, Machine, PinnedFile

ROOT = Path(__file__).resolve().parents[2]
FIRMWARE = (("OVMF_CODE.fd", "OVMF_VARS.fd"), ("OVMF_CODE_4M.fd", "OVMF_VARS_4M.fd"))
PATIENCE = 600
DIGEST = "sha256:" + "5a" * 32
MACHINE = """
version = 1
command = ["/usr/bin/python3.11", "-I", "/etc/strongroom/probe.py", "{image}", "PORT"]
told = {image = "/srv/artifacts/image"}
[network]
address = "10.0.2.15/24"
gateway = "10.0.2.2"
reaches = ["10.0.2.2:PORT"]
hosts = {broker = "10.0.2.2"}
[[disks]]
device = "/dev/vdb"
filesystem = "vfat"
place = "/srv/artifacts"
"""
PROBE = '''
"""What a worker sees of its machine, as one line of JSON."""
import ctypes, json, os, socket, subprocess, sys
from pathlib import Path

def read(path):
    return Path(path).read_text().strip()

def fails(work):
    try:
        work()
    except OSError as error:
        return type(error).__name__
    return ""

def call(host, port):
    with socket.create_connection((host, port), timeout=5) as peer:
        return peer.recv(64).decode()

port = int(sys.argv[2])
version = subprocess.run(["strongroom", "--version"], capture_output=True, text=True)
programs, names = [], []
for folder, _, files in os.walk("/"):
    if not folder.startswith(("/proc", "/sys", "/dev")):
        names += files
        paths = [os.path.join(folder, file) for file in files]
        programs += [path for path in paths if os.access(path, os.X_OK) and not os.path.islink(path)]
libc = ctypes.CDLL(None, use_errno=True)
found = {
    "told": sys.argv[1],
    "version": version.stdout.strip() or version.stderr[-2000:],
    "user": [os.getuid(), os.getgid(), os.getgroups()],
    "uptime": float(read("/proc/uptime").split()[0]),
    "memory": read("/proc/meminfo").splitlines()[:3],
    "modules": fails(lambda: os.stat("/proc/sys/kernel/modules_disabled")) or read("/proc/sys/kernel/modules_disabled"),
    "lockdown": read("/sys/kernel/security/lockdown"),
    "line": read("/proc/cmdline"),
    "swaps": read("/proc/swaps").splitlines()[1:],
    "root": fails(lambda: Path("/usr/x").write_text("x")),
    "artifacts": fails(lambda: Path("/srv/artifacts/x").write_text("x")),
    "named": call("broker", port),
    "unnamed": fails(lambda: call("10.0.2.2", port - 1)),
    "outside": fails(lambda: call("10.0.2.3", 53)),
    "power": libc.reboot(ctypes.c_uint(0x01234567)),
    "tpm": fails(lambda: os.close(os.open("/dev/tpmrm0", os.O_RDWR))),
    "log": len(Path("/sys/kernel/security/tpm0/binary_bios_measurements").read_bytes()) > 1000,
    "programs": sorted(programs),
    "shells": sorted(set(names) & set(SHELLS)),
    "privileges": [line for line in read("/proc/self/status").splitlines() if line.startswith(("NoNewPrivs", "CapEff"))],
    "registers": {f"pcr{n}": read(f"/sys/class/tpm/tpm0/pcr-sha256/{n}").lower() for n in range(16)},
}
print("PROBE " + json.dumps(found), flush=True)
sys.exit(3)
'''


def there(path: Path | str | None, name: str) -> Path:
    """A file of another package, or a skip with its name."""
    if path is None or not Path(path).exists():
        pytest.skip(f"missing program: {name}")
    return Path(path)


def run(*words: object, **kept: object) -> bytes:
    """What a program prints; it must end well."""
    ran = subprocess.run([str(word) for word in words], capture_output=True, check=False, **kept)
    assert ran.returncode == 0, ran.stdout[-4000:] + ran.stderr[-4000:]
    return ran.stdout


def own_wheel(folder: Path, habits: dict[str, str], mask: int) -> None:
    """Our own wheel, from a copy of the source, into `folder`; its time is that of `make wheel`."""
    source = folder.parent / f"source-{folder.name}"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    shutil.copytree(ROOT / "src", source / "src", ignore=shutil.ignore_patterns("__pycache__"))
    kept = {"cwd": source, "env": {**os.environ, **habits, "SOURCE_DATE_EPOCH": "1580601600"}, "umask": mask}
    run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder, **kept)


@pytest.fixture(scope="module")
def packages(tmp_path_factory) -> Path:
    """Everything that an image is made of but our own wheel; `STRONGROOM_IMAGE_FILES` names a folder that was fetched before."""
    named = os.environ.get("STRONGROOM_IMAGE_FILES")
    folder = tmp_path_factory.mktemp("packages") / "files"
    if named:
        shutil.copytree(there(named, "files of the image (STRONGROOM_IMAGE_FILES)"), folder)
        for ours in folder.glob(f"{recipe.OURS}-*.whl"):
            ours.unlink()
        return folder
    try:
        fetch(folder, (ROOT / "requirements" / "demo.txt").read_text(encoding="utf-8"))
    except ServiceUnavailable as error:
        pytest.skip(f"missing program: packages of the image: {error.message}")
    return folder


@pytest.fixture(scope="module")
def listener():
    """A service on this host that greets whoever calls; the machine is allowed to."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    peer, _ = server.accept()
                except OSError:
                    return
                with peer:
                    peer.sendall(b"hello")

        threading.Thread(target=serve, daemon=True).start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)


def made(folder: Path, packages: Path, port: int, habits: dict[str, str], mask: int) -> tuple[Path, dict]:
    """An image, built by the command line from a copy of everything in `folder`; the image, and what was said of it."""
    files, told = folder / "files", folder / "told"
    shutil.copytree(packages, files)
    own_wheel(files, habits, mask)
    told.mkdir()
    (told / "machine.toml").write_text(MACHINE.replace("PORT", str(port)), encoding="utf-8")
    (told / "probe.py").write_text(f"SHELLS = {sorted(recipe.FORBIDDEN)}\n{PROBE}", encoding="utf-8")
    command = (sys.executable, "-m", "strongroom", "image")
    kept = {"cwd": folder, "env": {**os.environ, **habits}, "umask": mask}
    run(*command, "lock", files, "-o", folder / "image.lock", **kept)
    words = ("--files", files, "--configuration", told, "-o", folder / "worker.efi", "--json")
    said = run(*command, "build", folder / "image.lock", *words, **kept)
    return folder / "worker.efi", json.loads(said)


@pytest.fixture(scope="module")
def image(tmp_path_factory, packages, listener):
    folder = tmp_path_factory.mktemp("image")
    return *made(folder, packages, listener, {"TZ": "UTC", "PYTHONHASHSEED": "1"}, 0o022), folder, listener


def pinned(path: Path) -> PinnedFile:
    return PinnedFile(str(path), digest_bytes(path.read_bytes()))


def disk(path: Path, mebibytes: int, *files: tuple[Path, str]) -> Path:
    """A FAT file system in a file, without a partition table."""
    path.touch()
    os.truncate(path, mebibytes << 20)
    run("mformat", "-i", path, "-F", "::")
    for source, target in files:
        for folder in reversed(Path(target).parents):
            if folder != Path("/"):
                run("mmd", "-i", path, f"::{folder}")
        run("mcopy", "-i", path, source, f"::{target}")
    return path


def specification(image: Path) -> LaunchSpec:
    pairs = (pair for pair in FIRMWARE if all(Path("/usr/share/OVMF", name).exists() for name in pair))
    code, variables = next(pairs, (None, None))
    there(code and f"/usr/share/OVMF/{code}", "ovmf")
    firmware = Firmware(pinned(Path("/usr/share/OVMF", code)), pinned(Path("/usr/share/OVMF", variables)), "off", {})
    devices = (
        Device("console", None, "the first process and the worker say nothing secret"),
        Device("network", None, "what goes through is sealed"),
        Device("disk", None, "what is on it is sealed, signed or believed only with evidence"),
    )
    machine = Machine("7.2", "max", 2, 2048, None)
    boot = Boot("uki", pinned(image), None, None, ())
    return replace(TPM, name="image", machine=machine, firmware=firmware, devices=devices, workload=None, boot=boot)


def boot(spec: LaunchSpec, state: Path, image: Path) -> str:
    """Boot a machine to its end, by our own arguments; what stood on its console."""
    state.mkdir()
    shutil.copy(spec.firmware.variables.file, state / "vars.fd")
    (state / "told").write_text(f"{DIGEST}\n", encoding="utf-8")
    boot_disk = disk(state / "boot.img", 192, (image, "/EFI/BOOT/BOOTX64.EFI"))
    artifacts = disk(state / "artifacts.img", 48, (state / "told", "/image"))
    words = ["swtpm", "socket", "--tpm2", "--tpmstate", f"dir={state},mode=0600", "--terminate"]
    words += ["--ctrl", f"type=unixio,path={state}/tpm.sock", "--flags", "startup-clear"]
    with subprocess.Popen(words, stdout=subprocess.DEVNULL) as chip:
        for _ in range(100):
            if (state / "tpm.sock").exists():
                break
            time.sleep(0.05)
        place = Place(images=state, state=state, accelerator="tcg", boot_disk=boot_disk, disks=(artifacts,))
        subprocess.run(arguments(spec, place), check=True, timeout=PATIENCE, stdin=subprocess.DEVNULL)
        chip.wait(timeout=30)
    return (state / "console.log").read_bytes().decode("latin1").replace("\r", "")


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.needs("apt-get")
def test_two_builds_are_the_same_byte_for_byte(tmp_path, packages, image):
    first, said, _, listener = image
    there = tmp_path / "elsewhere, with a longer name"
    there.mkdir()
    habits = {
        "TZ": "Asia/Kathmandu",
        "PYTHONHASHSEED": "4711",
        "LC_ALL": "C",
        "SOURCE_DATE_EPOCH": "0",
        "HOME": str(tmp_path),
    }
    second, again = made(there, packages, listener, habits, 0o077)
    assert again == said
    assert digest_bytes(second.read_bytes()) == digest_bytes(first.read_bytes()) == said["image"]


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.needs("apt-get", "qemu-system-x86_64", "swtpm", "mformat")
def test_the_machine_is_closed_and_holds_what_was_computed(image):
    path, _, folder, _ = image
    spec = specification(path)
    expected = measure(spec, read_images(spec, folder))
    console = boot(spec, folder / "state", path)
    said = re.search(r"^PROBE (.*)$", console, re.MULTILINE)
    assert said, console[-3000:]
    found = json.loads(said[1])
    assert {name: found["registers"][name] for name in expected.registers} == dict(expected.registers)
    assert {"pcr4", "pcr9", "pcr11"} <= set(expected.registers)
    assert re.fullmatch(r"strongroom, version .*", found["version"])
    assert found["told"] == DIGEST
    assert found["user"] == [1000, 1000, []]
    assert found["privileges"] == ["CapEff:\t0000000000000000", "NoNewPrivs:\t1"]
    assert found["modules"] == "1"
    assert found["lockdown"] == "none integrity [confidentiality]"
    assert found["line"] == recipe.COMMAND_LINE
    assert not found["swaps"]
    assert found["root"] == found["artifacts"] == "OSError"
    assert found["named"] == "hello"
    assert found["unnamed"] == found["outside"] == "TimeoutError"  # sent, it would have been refused
    assert found["power"] == -1
    assert not found["tpm"]
    assert found["log"]
    assert found["programs"] == sorted(f"/{name}" for name in recipe.PROGRAMS)
    assert not found["shells"]
    assert "init: the firewall holds, eth0 is up" in console
    assert "init: modules are closed, lockdown is confidentiality, there is no swap" in console
    assert "init: the worker ended with 3" in console
