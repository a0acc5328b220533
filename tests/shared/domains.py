"""libvirt for tests: its services, started here unless they run, and its Python API."""

from __future__ import annotations

import importlib
import shutil
import socket
import subprocess
from pathlib import Path

import pytest
from booting import there

from strongroom.launch.life import processes

AUTHORITY = Path("/var/lib/swtpm-localca")
PACKAGES = Path("/usr/lib/python3/dist-packages")
MODULES = ("libvirt.py", "libvirt_qemu.py", "libvirtmod.*", "libvirtmod_qemu.*")


@pytest.fixture
def libvirt(tmp_path_factory, monkeypatch):
    """The Python API: this Python's own, or Debian's where it is the same. Processes that the test starts find it too."""
    there(shutil.which("libvirtd"), "libvirtd")
    there(shutil.which("virtlogd"), "virtlogd")
    folder = tmp_path_factory.mktemp("modules")
    if importlib.util.find_spec("libvirt") is None:
        for pattern in MODULES:
            for path in PACKAGES.glob(pattern):
                (folder / path.name).symlink_to(path)
        monkeypatch.syspath_prepend(folder)
        monkeypatch.setenv("PYTHONPATH", str(folder))
    try:
        library = importlib.import_module("libvirt")
    except ImportError:
        pytest.skip("missing program: libvirt's Python API")
    for path in AUTHORITY.glob("*"):  # of whoever ran swtpm_setup last, which libvirt runs as `tss`
        shutil.chown(path, "tss")
    started = []
    for name, sign in (("virtlogd", "virtlogd-sock"), ("libvirtd", "libvirt-sock")):
        if not _answers(Path("/run/libvirt", sign)):
            file = folder / f"{name}.pid"
            subprocess.run([name, "-d", "-p", file], check=True, timeout=60)
            started.append(file)
    yield library
    for file in reversed(started):
        process = processes.identify(int(file.read_text()))
        if process is not None:
            processes.end(process, seconds=20)


def _answers(path):
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
    return True
