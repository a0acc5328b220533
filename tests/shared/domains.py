"""libvirt for tests: its services, started here unless they run, and its Python API."""

from __future__ import annotations

import contextlib
import importlib
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from booting import there

from strongroom.launch.life import processes

AUTHORITY = Path("/var/lib/swtpm-localca")
PACKAGES = Path("/usr/lib/python3/dist-packages")
MODULES = ("libvirt.py", "libvirt_qemu.py", "libvirtmod.*", "libvirtmod_qemu.*")


@pytest.fixture(scope="session")
def libvirts_modules(tmp_path_factory):
    """A folder with Debian's Python API, where this Python has none of its own; found by every test from here on."""
    if importlib.util.find_spec("libvirt") is not None:
        yield None
        return
    folder = tmp_path_factory.mktemp("modules")
    for pattern in MODULES:
        for path in PACKAGES.glob(pattern):
            (folder / path.name).symlink_to(path)
    sys.path.insert(0, str(folder))
    yield folder
    sys.path.remove(str(folder))


@pytest.fixture
def libvirt(libvirts_modules, tmp_path, monkeypatch):
    """The Python API: this Python's own, or Debian's where it is the same. Processes that the test starts find it too."""
    there(shutil.which("libvirtd"), "libvirtd")
    there(shutil.which("virtlogd"), "virtlogd")
    if libvirts_modules is not None:
        monkeypatch.setenv("PYTHONPATH", str(libvirts_modules))
    try:
        library = importlib.import_module("libvirt")
    except ImportError:
        pytest.skip("missing program: libvirt's Python API")
    for path in AUTHORITY.glob("*"):  # of whoever ran swtpm_setup last, which libvirt runs as `tss`
        shutil.chown(path, "tss")
    with contextlib.ExitStack() as started:
        for name, sign in (("virtlogd", "virtlogd-sock"), ("libvirtd", "libvirt-sock")):
            if not _answers(Path("/run/libvirt", sign)):
                file = tmp_path / f"{name}.pid"
                subprocess.run([name, "-d", "-p", file], check=True, timeout=60)
                started.callback(_end, file)
        yield library


def _end(file):
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
