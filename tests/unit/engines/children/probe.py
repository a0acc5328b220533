"""A child that confines itself and then tries what it must not be able to do; it sends what came of each attempt."""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import json
import mmap
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from strongroom.engines import linux, seccomp
from strongroom.engines.confine import Bounds, confine

LIBC = ctypes.CDLL(None, use_errno=True)


def connect(port: int) -> str:
    with socket.socket(socket.AF_INET) as peer:
        peer.connect(("127.0.0.1", port))
    return "connected"


def new_socket(family: int) -> str:
    socket.socket(family).close()
    return "made"


def write(path: str) -> str:
    Path(path).write_bytes(b"x")
    return "written"


def read(path: str) -> str:
    return Path(path).read_text(encoding="utf-8")


def read_memory(process: int, address: int, length: int) -> str:
    """Another process's memory, by the system call made for it."""
    into = ctypes.create_string_buffer(length)

    class Vector(ctypes.Structure):
        _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))

    ours, theirs = Vector(ctypes.addressof(into), length), Vector(address, length)
    if LIBC.process_vm_readv(process, ctypes.byref(ours), 1, ctypes.byref(theirs), 1, 0) < 0:
        raise OSError(ctypes.get_errno(), "process_vm_readv")
    return into.raw.decode("latin-1")


def execute(path: str) -> str:
    os.execv(path, [path])  # noqa: S606  # there is no shell where it tries
    return "executed"


def start(path: str) -> str:
    return str(subprocess.run([path], check=False).returncode)


def fork() -> str:
    if os.fork() == 0:
        os._exit(0)
    return "forked"


def fill(path: str, size: int) -> str:
    """Write `size` bytes."""
    with Path(path).open("wb") as file:
        file.writelines(bytes(1 << 16) for _ in range(size >> 16))
    return "filled"


def map_program(path: str) -> str:
    Path(path).write_bytes(bytes(4096))
    with Path(path).open("rb") as file:
        mmap.mmap(file.fileno(), 4096, prot=mmap.PROT_READ | mmap.PROT_EXEC)
    return "mapped"


def thread() -> str:
    done = threading.Event()
    threading.Thread(target=done.set).start()
    return str(done.wait(20))


def send_signal(process: int) -> str:
    os.kill(process, signal.SIGTERM)
    return "sent"


def undo_not_dumpable() -> str:
    linux.prctl(linux.PR_SET_DUMPABLE, 1)
    return "undone"


def seal_sockets() -> str:
    seccomp.refuse_sockets()
    return "sealed"


def import_late(name: str) -> str:
    importlib.import_module(name)
    return "imported"


def environment() -> list[str]:
    return sorted(os.environ)


def processes() -> list[str]:
    return sorted(entry.name for entry in Path("/proc").iterdir() if entry.name.isdigit())


def existing(paths: list[str]) -> list[str]:
    """Landlock hides what is in a folder, not whether a path exists."""
    return [path for path in paths if Path(path).exists()]


def descriptors() -> list[str]:
    """What the open descriptors lead to, but for the one that lists them."""
    found = []
    for entry in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            found.append(str(entry.readlink()).split(":")[0])
    return found


def status() -> dict[str, str]:
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return {name: value.strip() for name, value in (line.split(":", 1) for line in lines)}


def main(control: int, arguments: list[str]) -> None:
    """Arguments: JSON of the bounds, JSON of a list of [name of a function here, its arguments]."""
    Path("/dev/null").read_text(
        encoding="utf-8"
    )  # what a write needs is imported before there is nothing to import from
    worker = socket.socket(fileno=control)
    bounds = json.loads(arguments[0])
    came: list[Any] = [{}, ""]
    if bounds.pop("confined", True):
        confined = confine(Bounds(control=control, **bounds))
        came = [dict(confined.report.outcomes), confined.scratch]
    for name, given in json.loads(arguments[1]):
        attempt: Callable[..., Any] = getattr(sys.modules[__name__], name)
        try:
            came.append(attempt(*given))
        except (OSError, RuntimeError, ImportError) as error:
            came.append({"refused": type(error).__name__})
    worker.sendall(json.dumps(came).encode())
    os._exit(0)
