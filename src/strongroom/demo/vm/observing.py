"""The firmware's own register, seen once: a system that has no secret, boots, shows PCR 0 and goes off.

OVMF measures volumes that its own start has changed, so no file tells what PCR 0 will hold. Whoever trusts a firmware boots it once where
nobody interferes, on a machine of their own, and pins what it shows.
Knows: the smallest system that can do it, around Debian's static busybox. Does not know: what the value is for.
"""

from __future__ import annotations

import re
import shutil
import time
from pathlib import Path

from strongroom.errors import LaunchFailed, Unavailable
from strongroom.launch.image.cpio import write_cpio
from strongroom.launch.image.tree import Tree
from strongroom.launch.image.unified import unify

LINE = b"console=ttyS0 quiet panic=-1"
INIT = b"""#!/bin/busybox sh
/bin/busybox mount -t sysfs sysfs /sys
echo "pcr0=$(/bin/busybox cat /sys/class/tpm/tpm0/pcr-sha256/0)"
/bin/busybox poweroff -f
"""
_SHOWN = re.compile(rb"pcr0=([0-9A-Fa-f]{64})")
PAUSE_SECONDS = 0.2


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


def pcr0_in(console: Path, seconds: float) -> str:
    """PCR 0 as it appears in a console's file within `seconds`. Raises `LaunchFailed`."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = _SHOWN.search(console.read_bytes()) if console.exists() else None
        if found is not None:
            return found[1].decode().lower()
        time.sleep(PAUSE_SECONDS)
    raise LaunchFailed("the observer showed no register")
