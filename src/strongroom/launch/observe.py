"""The firmware's own register, seen once: a system that has no secret, boots, shows PCR 0 and goes off.

OVMF measures volumes that its own start has changed, so no file tells what PCR 0 will hold. Whoever trusts a firmware boots it once where
nobody interferes, on a machine of their own, and pins what it shows (`firmware.observed`). It depends on the firmware's build, QEMU's
version, the number of CPUs and the size of memory; the driver has no say (seen with OVMF 2022.11 and QEMU 7.2).
Knows: the smallest system that can do it, around Debian's static busybox and the kernel of the image that will be launched. Does not know:
states (`life`). Not covered: what other registers a firmware's start decides (PCR 1, RTMR 0).
"""

from __future__ import annotations

import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Literal

from strongroom.crypto.signatures import generate_p256
from strongroom.errors import LaunchFailed, Unavailable, UsageError
from strongroom.launch.image.cpio import write_cpio
from strongroom.launch.image.tree import Tree
from strongroom.launch.image.unified import unify
from strongroom.launch.life import Launcher
from strongroom.launch.life.drivers import Driver
from strongroom.launch.measure.uki import parse_uki
from strongroom.launch.place import Place
from strongroom.launch.spec import read_images
from strongroom.records.digest import digest_bytes
from strongroom.records.launch import Boot, Device, LaunchSpec, PinnedFile
from strongroom.records.launched import State

LINE = b"console=ttyS0 quiet panic=-1"
INIT = b"""#!/bin/busybox sh
/bin/busybox mount -t sysfs sysfs /sys
echo "pcr0=$(/bin/busybox cat /sys/class/tpm/tpm0/pcr-sha256/0)"
/bin/busybox poweroff -f
"""
SECONDS, PAUSE_SECONDS = 300.0, 0.2
FOLDERS = Path("/var/tmp")  # noqa: S108 (a folder of our own is made in it)
"""Where a hypervisor's account may pass, also where each account has a /tmp of its own."""
TRAVERSABLE = 0o711
_SHOWN = re.compile(rb"pcr0=([0-9A-Fa-f]{64})")


def observe(
    spec: LaunchSpec,
    images: Path,
    driver: Driver,
    *,
    stub: bytes,
    accelerator: Literal["kvm", "tcg"],
    seconds: float = SECONDS,
) -> dict[str, str]:
    """What `firmware.observed` has to say for `spec`, whose files lie below `images`: boots its firmware once, and wipes what that left.

    `stub` is systemd's (`linuxx64.efi.stub`); it does not count for what is seen. Raises `UsageError` for another kind than `tpm`,
    `Unavailable` without busybox, `LaunchFailed` where nothing is shown, and what a launch raises.
    """
    if spec.tee != "tpm" or spec.firmware is None:
        raise UsageError("only the registers of a TPM are observed", remedy="See docs/reference/measurements.md.")
    files = read_images(spec, images)
    image = files[spec.boot.image.digest]
    system = observer(parse_uki(image).kernel if spec.boot.kind == "uki" else image, stub)
    with _folder() as folder:
        (folder / "observer.efi").write_bytes(system)
        pinned = PinnedFile(str(folder / "observer.efi"), digest_bytes(system))
        asked = replace(
            spec,
            name=f"{spec.name[:48]}-observer",
            boot=Boot("uki", pinned, None, None, ()),
            firmware=replace(spec.firmware, observed={}),
            devices=(Device("console", None, "it prints one register"),),
            workload=None,
        )
        place = Place(images=images, state=folder / "state", accelerator=accelerator)
        launcher = Launcher(asked, place, driver, generate_p256(), drain_seconds=0)
        try:
            launcher.up(State.BOOTED)
            return {"pcr0": _shown(launcher, seconds)}
        finally:
            if launcher.status().state not in {None, State.WIPED}:
                launcher.down()


def observer(kernel: bytes, stub: bytes) -> bytes:
    """The system, as a unified kernel image. Raises `Unavailable` without busybox."""
    program = shutil.which("busybox")
    if program is None:
        raise Unavailable("missing program: busybox", remedy="apt-get install busybox-static")
    tree = Tree()
    for folder in ("dev", "proc", "sys"):
        tree.folder(folder, "observer")
    tree.link("bin", "usr/bin", "observer")
    tree.file("usr/bin/busybox", Path(program).read_bytes(), "observer", executable=True)
    tree.file("init", INIT, "observer", executable=True)
    sections = [(".osrel", b"ID=observer\n"), (".cmdline", LINE), (".linux", kernel), (".initrd", write_cpio(tree))]
    return unify(stub, sections)


@contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="sr-observe-", dir=FOLDERS) as folder:
        Path(folder).chmod(TRAVERSABLE)
        yield Path(folder)


def _shown(launcher: Launcher, seconds: float) -> str:
    """PCR 0 as it appears on the machine's console in time."""
    console, deadline, alive = launcher.place.console, time.monotonic() + seconds, True
    while alive and time.monotonic() < deadline:
        alive = bool(launcher.status().alive)
        found = _SHOWN.search(console.read_bytes()) if console.exists() else None
        if found is not None:
            return found[1].decode().lower()
        time.sleep(PAUSE_SECONDS)
    raise LaunchFailed("the observer showed no register")
