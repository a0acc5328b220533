"""Machines for tests that really boot: a kernel, an initrd of busybox, OVMF, and specifications that pin them.

What is missing on this machine is a skip with its name.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from launching import TPM

from strongroom.records.digest import digest_bytes
from strongroom.records.launch import Boot, Device, Firmware, LaunchSpec, Machine, PinnedFile

FIRMWARE = (("OVMF_CODE.fd", "OVMF_VARS.fd"), ("OVMF_CODE_4M.fd", "OVMF_VARS_4M.fd"))
STUB = Path("/usr/lib/systemd/boot/efi/linuxx64.efi.stub")
LINE = "console=ttyS0 quiet panic=-1"
SLEEPER = """#!/bin/busybox sh
/bin/busybox mount -t sysfs sysfs /sys
for n in 0 4 9 11; do echo "pcr$n=$(/bin/busybox cat /sys/class/tpm/tpm0/pcr-sha256/$n)"; done
echo UP
while true; do /bin/busybox sleep 60; done
"""
"""An init that prints four registers and stays; it is no worker, and proves nothing."""
QEMU = "qemu-system-x86_64"


def there(path: Path | str | None, name: str) -> Path:
    """A file of another package, or a skip with its name."""
    if path is None or not Path(path).exists():
        pytest.skip(f"missing program: {name}")
    return Path(path)


def run(*words: str | Path) -> bytes:
    """What a program prints; it must end well."""
    ran = subprocess.run([str(word) for word in words], capture_output=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


def kernel() -> Path:
    named = os.environ.get("STRONGROOM_KERNEL")
    found = [Path(named)] if named else sorted(Path("/boot").glob("vmlinuz-*"))
    return there(found[-1] if found else None, "a Linux kernel (STRONGROOM_KERNEL)")


def archive(files: dict[str, bytes | None]) -> bytes:
    """A cpio archive (newc) of folders and executable files."""
    made = b""
    for number, (name, data) in enumerate([*files.items(), ("TRAILER!!!", b"")], start=1):
        mode = 0o040755 if data is None else 0o100755
        fields = (number, mode, 0, 0, 1, 0, len(data or b""), 0, 0, 0, 0, len(name) + 1, 0)
        head = b"070701" + b"".join(b"%08x" % value for value in fields) + name.encode() + b"\0"
        made += head + bytes(-len(head) % 4) + (data or b"") + bytes(-len(data or b"") % 4)
    return made


def unified(folder: Path, linux: Path, initrd: Path, line: str) -> Path:
    """A unified kernel image, put together by objcopy around systemd's stub."""
    (folder / "cmdline").write_text(line)
    (folder / "osrel").write_text("ID=strongroom-test\n")
    sections = {".osrel": ("osrel", 0x20000), ".cmdline": ("cmdline", 0x30000), ".linux": (linux, 0x2000000)}
    words = ["objcopy"]
    for name, (file, place) in {**sections, ".initrd": (initrd, 0x4000000)}.items():
        words += ["--add-section", f"{name}={folder / file}", "--change-section-vma", f"{name}={place:#x}"]
    run(*words, there(STUB, "systemd-boot-efi"), folder / "worker.efi")
    return folder / "worker.efi"


def pinned(path: Path) -> PinnedFile:
    return PinnedFile(str(path), digest_bytes(path.read_bytes()))


def firmware() -> Firmware:
    """Debian's OVMF, without Secure Boot."""
    pairs = ([Path("/usr/share/OVMF", name) for name in pair] for pair in FIRMWARE)
    found = next((pair for pair in pairs if all(path.exists() for path in pair)), None)
    code, variables = found or (there(None, "ovmf"),) * 2
    return Firmware(pinned(code), pinned(variables), "off", {})


def qemu_version() -> str:
    """QEMU's version here, as a specification writes it."""
    found = re.search(r"version (\d+\.\d+)", run(there(shutil.which(QEMU), QEMU), "--version").decode())
    assert found
    return found[1]


def sleeper(folder: Path, *, name: str = "sleeper", init: str = SLEEPER) -> LaunchSpec:
    """A machine with a TPM whose unified kernel image is made in `folder`; all else of it stands in Debian's packages."""
    busybox = there(shutil.which("busybox"), "busybox").read_bytes()
    initrd = folder / "initrd"
    folders = dict.fromkeys(("bin", "sys", "dev", "proc"))
    initrd.write_bytes(archive({**folders, "bin/busybox": busybox, "init": init.encode()}))
    image = unified(folder, kernel(), initrd, LINE)
    devices = (Device("console", None, "it prints registers"), Device("network", None, "nobody listens"))
    machine = Machine(qemu_version(), "max", 1, 512, None)
    spec = replace(TPM, name=name, machine=machine, firmware=firmware(), devices=devices, workload=None)
    return replace(spec, boot=Boot("uki", pinned(image), None, None, ()))
