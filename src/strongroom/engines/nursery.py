"""A process that was made before any key existed and makes children later: no fork ever copies a key.

A worker must be able to start an engine anew when one crashed, or another model's when memory is short; by then it holds keys,
and a fork of it would hold them, too, if only for a moment. So it asks this process, which never had any, and gets the new child's
socket and a descriptor of the process, over which it watches and ends it.

Knows: how children are asked for and handed over. Does not know: what runs in them.
When the worker hangs up, the nursery ends; children see their own socket hang up and end by themselves.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import threading
from typing import Any, NoReturn

from strongroom.engines import linux
from strongroom.engines.spawn import Child, ChildProcess, spawn_child
from strongroom.errors import EngineUnavailable

_MODULE = "strongroom.engines.nursery"
_ANSWER_SECONDS = 30.0
_MAX_REQUEST = 64 * 1024


def main(control: int, arguments: list[str]) -> NoReturn:  # noqa: ARG001  # as `spawn_child` calls it
    """The nursery's whole life: one request at a time, until the worker hangs up."""
    with contextlib.suppress(OSError):
        linux.prctl(linux.PR_SET_PDEATHSIG, signal.SIGKILL)
    worker, children = socket.socket(fileno=control), list[Any]()
    with contextlib.suppress(OSError):
        while asked := _line(worker):
            children = [process for process in children if process.poll() is None]  # reaps whoever ended
            children += _serve(worker, json.loads(asked))
    os._exit(0)


def _serve(worker: socket.socket, asked: dict[str, Any]) -> list[Any]:
    """The process that was made, if one was."""
    try:
        child = spawn_child(asked["module"], *asked["arguments"], libraries=asked["libraries"])
        process = os.pidfd_open(child.process.pid)
    except (EngineUnavailable, OSError):
        worker.sendall(b"-")
        return []
    socket.send_fds(worker, [b"+"], [child.socket.fileno(), process])
    os.close(process)
    child.socket.close()
    return [child.process]


def _line(worker: socket.socket) -> bytes:
    line = bytearray()
    while not line.endswith(b"\n"):
        piece = worker.recv(_MAX_REQUEST)
        line += piece
        if not piece or len(line) > _MAX_REQUEST:
            return b""
    return bytes(line)


class Nursery:
    """The worker's side. `spawn` before any key exists; `child` as often as needed, from any thread; `kill` at the end."""

    def __init__(self) -> None:
        self._own: Child | None = None
        self._asking = threading.Lock()

    def spawn(self) -> None:
        """Raises `EngineUnavailable`."""
        self._own = spawn_child(_MODULE)
        self._own.socket.settimeout(_ANSWER_SECONDS)

    def child(self, module: str, *arguments: str, libraries: str | None = None) -> Child:
        """As `spawn.spawn_child`, without a fork of this process. Raises `EngineUnavailable`."""
        asked = {"module": module, "arguments": arguments, "libraries": libraries}
        with self._asking:
            if self._own is None:
                raise EngineUnavailable("no process is there to start an engine")
            try:
                self._own.socket.sendall(json.dumps(asked).encode() + b"\n")
                answer, descriptors, _, _ = socket.recv_fds(self._own.socket, 1, 2)
            except OSError:
                raise EngineUnavailable("the process that starts engines does not answer") from None
        if answer != b"+" or len(descriptors) != 2:  # noqa: PLR2004  # a socket and a process
            for descriptor in descriptors:
                os.close(descriptor)
            raise EngineUnavailable("a child process cannot be started")
        return Child(_Adopted(descriptors[1]), socket.socket(fileno=descriptors[0]))

    def kill(self) -> None:
        """End the nursery; children end by their own sockets. Never fails, also when called twice."""
        own, self._own = self._own, None
        if own is not None:
            own.kill()


class _Adopted(ChildProcess):
    """A process that another one made, held by a descriptor: its number cannot come to mean somebody else."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor, self._lock = descriptor, threading.Lock()

    def terminate(self) -> None:
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        self._signal(signal.SIGKILL)

    def wait(self, timeout: float | None = None) -> object:
        """Raises `TimeoutError`."""
        with self._lock:
            if self._descriptor < 0:
                return None
            ended = select.poll()
            ended.register(self._descriptor, select.POLLIN)
            if not ended.poll(None if timeout is None else timeout * 1000):
                raise TimeoutError
            os.close(self._descriptor)
            self._descriptor = -1
            return None

    def _signal(self, number: int) -> None:
        with self._lock, contextlib.suppress(OSError):
            if self._descriptor >= 0:
                signal.pidfd_send_signal(self._descriptor, number)
