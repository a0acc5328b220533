"""`make demo-vm`: the main job in a machine that boots for real, and other machines, each refused with what differs named.

Through QEMU itself, and through libvirt.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 1500
NAMED = {
    "another command line for the kernel": "command line: pcr11",
    "another initrd: a firewall with one hole more": "in the initrd: etc/strongroom/machine.toml",
    "a patched wheel: one line of the worker is another": "in the initrd: usr/lib/python3/dist-packages/strongroom/worker/life.py",
}


@pytest.mark.slow
@pytest.mark.timeout(PATIENCE + 60)
@pytest.mark.needs(
    "make", "apt-get", "qemu-system-x86_64", "swtpm", "swtpm_setup", "mformat", "busybox", "docker-registry", "model"
)
@pytest.mark.parametrize("driver", ["qemu", "libvirt"])
def test_a_machine_boots_and_serves_and_every_other_one_is_refused(driver, request):
    if driver == "libvirt":
        request.getfixturevalue("libvirt")
    ran = subprocess.run(
        [str(shutil.which("make")), "--silent", "demo-vm", f"ARGS=--json --driver {driver}"],
        cwd=ROOT,
        capture_output=True,
        check=False,
        timeout=PATIENCE,
    )
    assert ran.returncode == 0, ran.stdout[-3000:] + ran.stderr[-3000:]
    told = json.loads(ran.stdout)
    assert "Paris" in told["answer"]
    assert all(step["ok"] for step in told["steps"])
    assert len(told["steps"]) == 10
    assert all(attack["refused"] for attack in told["attacks"])
    assert {attack["name"] for attack in told["attacks"]} >= set(NAMED)
    assert len(told["attacks"]) == 5
    for attack in told["attacks"]:
        wanted = NAMED.get(attack["name"])
        assert wanted is None or any(text.startswith(wanted) for text in attack["named"]), attack
    assert told["canaries"] == {"planted": 4, "found": 0}
