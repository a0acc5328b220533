"""A child like the real one, with an adapter that needs no model: what it says is decided by the request."""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from strongroom.engines import child
from strongroom.engines.confine import Bounds, confine
from strongroom.errors import UsageError


class FakeAdapter:
    def load(self, model: int, settings: Mapping[str, Any], scratch: str, adapters: Sequence[int] = ()) -> int:  # noqa: ARG002  # the port
        if "odd" in settings:
            raise UsageError("odd settings")
        if os.pread(model, 5, 0) != b"model":
            raise RuntimeError("secret words that must not travel")
        self._adapters = [os.pread(descriptor, 64, 0).decode() for descriptor in adapters]
        self._stopped = threading.Event()
        return 4

    def run(self, operation: str, request: Mapping[str, Any], emit: Callable[[str], bool]) -> None:
        if operation == "count":
            for number in range(request["to"]):
                emit(json.dumps(number))
        elif operation == "until-stopped":
            while not emit("1"):
                pass
            self._stopped.set()
        elif operation == "was-stopped":
            emit(json.dumps(self._stopped.wait(20)))
        elif operation == "adapters":
            emit(json.dumps(self._adapters))
        elif operation == "reject":
            raise child.Rejected(child.problem(422, "no", "odd_error"))
        elif operation == "break":
            raise KeyError("secret words that must not travel")
        elif operation == "die":
            emit("1")
            os.kill(os.getpid(), signal.SIGKILL) if request.get("kill") else os._exit(9)


def main(control: int, arguments: list[str]) -> None:
    if arguments == ["no-start"]:
        os._exit(3)
    if arguments == ["garbage"]:
        socket.socket(fileno=control).sendall(b"\xff" * 64)
        signal.pause()
    confined = confine(Bounds(control=control))
    try:
        child.Service(socket.socket(fileno=control), FakeAdapter(), confined).serve()
    finally:
        os._exit(0)
