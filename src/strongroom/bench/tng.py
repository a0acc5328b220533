"""Another project's gateway beside ours: `tng` (of the PyPI package tng-sdk), which carries the same stream over chunked OHTTP.

Two of its processes before the engine's own HTTP server: the user's end and the server's, without attestation (`no_ra`), on loopback. It
pads nothing, gives no receipt, and its streams cut short look whole; what it costs is reported, not judged.

Knows: how it is started and ended. Does not know: what is measured. Not covered: its RA-TLS mode.
"""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from strongroom.errors import Unavailable

PROGRAM = "tng"
WAIT_SECONDS = 30


def program() -> str | None:
    """Where it is installed: beside this Python, or on the path."""
    beside = Path(sys.executable).with_name(PROGRAM)
    return str(beside) if beside.exists() else shutil.which(PROGRAM)


@contextmanager
def tunnel(port: int) -> Iterator[tuple[str, list[int]]]:
    """An address that is the server at loopback's `port`, through both ends; and their processes. Raises `Unavailable`."""
    found = program()
    if found is None:
        raise Unavailable(f"missing program: {PROGRAM}", remedy="pip install tng-sdk")
    entry, between = _free_port(), _free_port()
    with ExitStack() as stack:
        far = stack.enter_context(_end(found, "add_egress", between, port))
        near = stack.enter_context(_end(found, "add_ingress", entry, between))
        yield f"http://127.0.0.1:{entry}", [far, near]


@contextmanager
def _end(found: str, kind: str, port_in: int, port_out: int) -> Iterator[int]:
    mapping = {"in": {"host": "127.0.0.1", "port": port_in}, "out": {"host": "127.0.0.1", "port": port_out}}
    command = [
        found,
        "launch",
        "--config-content",
        json.dumps({kind: [{"mapping": mapping, "ohttp": {}, "no_ra": True}]}),
    ]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until = time.monotonic() + WAIT_SECONDS
        while not _listens(port_in):
            if process.poll() is not None or time.monotonic() > until:
                raise Unavailable(f"{PROGRAM} does not start")
            time.sleep(0.05)
        yield process.pid
    finally:
        process.terminate()
        process.wait(WAIT_SECONDS)


def _listens(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])
