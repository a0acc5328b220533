"""Inside the child that has a server: confine, take the model's files, start the server, make connections to it.

Knows: the order, and where the files are for the server (links to descriptors that this process holds). Does not know: what the server
is, nor what is said over the connections. When the worker hangs up or the server ends, this process ends, and whatever is left in its
process namespace with it.
"""

from __future__ import annotations

import json
import os
import select
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any, NoReturn

from strongroom.engines.confine import Bounds, confine, python_paths

_PROGRAMS = ("/usr", "/bin", "/sbin", "/lib", "/lib64", "/opt", "/etc/ld.so.cache", "/etc/alternatives")
"""Where programs and their libraries are, besides this Python's own folders."""
_GPUS = ("nvidia[0-9]*", "nvidiactl", "nvidia-uvm", "nvidia-uvm-tools", "nvidia-caps/*")
_PROCESSORS = ("/sys/devices/system/cpu", "/sys/devices/system/node")
"""How many processors there are and which memory is near which: /proc says the most of it, and servers place their threads by this."""
_OPEN_FILES = 4096
_MAX_LINE, _MAX_FILES = 64 * 1024, 253
_HOST, _CONNECT_SECONDS = "127.0.0.1", 20.0


def main(control: int, arguments: list[str]) -> NoReturn:
    """The child's whole life. `arguments` are those of `server.Needs.arguments`."""
    scratch_mib, gpus, compiles = (int(argument) for argument in arguments)
    programs = (path for path in (*_PROGRAMS, *_PROCESSORS, sys.prefix, sys.base_prefix) if Path(path).exists())
    readable = tuple(dict.fromkeys([*python_paths(), *programs]))
    bounds = Bounds(
        control=control,
        readable=(*readable, "/sys") if gpus else readable,  # where drivers look for the card
        scratch_bytes=scratch_mib << 20,
        open_files=_OPEN_FILES,
        server=True,
        devices=tuple(str(node) for name in _GPUS for node in sorted(Path("/dev").glob(name))) if gpus else (),
        compiles=bool(compiles),
    )
    confined = confine(bounds)
    try:
        _serve(socket.socket(fileno=control), dict(confined.report.outcomes), Path(confined.scratch))
    finally:
        os._exit(0)


def _serve(worker: socket.socket, report: dict[str, str], scratch: Path) -> None:
    lifeline, held = os.pipe()
    socket.send_fds(worker, [_line(report)], [lifeline])
    os.close(lifeline)
    told, descriptors = _read(worker)
    os.set_inheritable(held, False)
    port = _free_port()
    server = _start(told, descriptors, scratch, port)
    worker.sendall(_line({}))
    ended, events = os.pidfd_open(server.pid), select.poll()
    events.register(ended, select.POLLIN)
    events.register(worker, select.POLLIN)
    while all(descriptor != ended for descriptor, _ in events.poll()):
        asked, _ = _read(worker)
        if not asked:
            return
        _connect(worker, port)


def _start(told: dict[str, Any], descriptors: list[int], scratch: Path, port: int) -> subprocess.Popen[bytes]:
    """The server, with the files as links below a folder. A relative path stays below it: the worker's index has no others."""
    folder = scratch / "model"
    for path, descriptor in zip(told["files"], descriptors, strict=True):
        link = folder / path
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(f"/proc/{os.getpid()}/fd/{descriptor}")
    model = folder / told["files"][0] if len(told["files"]) == 1 else folder
    words = {"{model}": str(model), "{folder}": str(folder), "{port}": str(port), "{name}": told["name"]}
    command = [_filled(word, words) for word in told["command"]]
    kept = {name: os.environ[name] for name in ("LANG", "LC_ALL", "LD_LIBRARY_PATH", "TZ") if name in os.environ}
    environment = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": str(scratch), "TMPDIR": str(scratch), **kept}
    return subprocess.Popen(command, cwd="/", env=environment, pass_fds=descriptors)  # its world is confined


def _filled(word: str, words: dict[str, str]) -> str:
    for name, value in words.items():
        word = word.replace(name, value)
    return word


def _connect(worker: socket.socket, port: int) -> None:
    made = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    made.settimeout(_CONNECT_SECONDS)
    try:
        made.connect((_HOST, port))
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        socket.send_fds(worker, [_line({})], [made.fileno()])
    except OSError:
        worker.sendall(_line({}))
    finally:
        made.close()


def _free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind((_HOST, 0))
        return int(probe.getsockname()[1])


def _line(value: dict[str, str]) -> bytes:
    return json.dumps(value).encode() + b"\n"


def _read(worker: socket.socket) -> tuple[dict[str, Any], list[int]]:
    """One line from the worker with its descriptors; nothing if it hung up."""
    line, descriptors = bytearray(), list[int]()
    while not line.endswith(b"\n"):
        piece, came, _, _ = socket.recv_fds(worker, _MAX_LINE, _MAX_FILES)
        line, descriptors = line + piece, descriptors + came
        if not piece or len(line) > _MAX_LINE:
            return {}, descriptors
    found = json.loads(line)
    return (found if isinstance(found, dict) else {}), descriptors
