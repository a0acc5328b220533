"""QEMU's machine protocol over a unix socket: one command, its answer.

Knows: the greeting, the capabilities, commands and events (QEMU "QMP Protocol Specification"). Does not know: what a command does.
An answer is the hypervisor's own word. Every line is bounded, every wait has its end.
"""

from __future__ import annotations

import json
import socket
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from strongroom.errors import HypervisorUnavailable

MOST_BYTES = 1 << 20
MOST_LINES = 256


class Monitor:
    """A connection to one QEMU, within a `with`. Raises `HypervisorUnavailable` where it does not answer in `seconds`."""

    def __init__(self, path: Path, *, seconds: float = 5.0) -> None:
        self._path, self._seconds, self._rest = path, seconds, b""
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)

    def __enter__(self) -> Self:
        try:
            self._socket.settimeout(self._seconds)
            self._socket.connect(str(self._path))
            self._greet()
        except OSError as error:
            self._socket.close()
            raise HypervisorUnavailable(f"QEMU's monitor does not answer: {error}") from None
        except HypervisorUnavailable:
            self._socket.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    def _greet(self) -> None:
        if "QMP" not in self._line():
            raise HypervisorUnavailable("what answers is not QEMU's monitor")
        self.ask("qmp_capabilities")

    def ask(self, command: str, **arguments: Any) -> Any:
        """What `command` returns; events in between are dropped."""
        asked: dict[str, Any] = {"execute": command}
        try:
            self._socket.sendall(json.dumps(asked | ({"arguments": arguments} if arguments else {})).encode() + b"\n")
            for _ in range(MOST_LINES):
                answer = self._line()
                if "return" in answer:
                    return answer["return"]
                if "error" in answer:
                    raise HypervisorUnavailable(f"QEMU refuses {command}", detail=str(answer["error"])[:200])
        except OSError as error:
            raise HypervisorUnavailable(f"QEMU's monitor does not answer: {error}") from None
        raise HypervisorUnavailable(f"QEMU does not answer {command}")

    def _line(self) -> dict[str, Any]:
        deadline = time.monotonic() + self._seconds
        while b"\n" not in self._rest:
            if len(self._rest) > MOST_BYTES or time.monotonic() > deadline:
                raise HypervisorUnavailable("QEMU's monitor sends no end of a line")
            part = self._socket.recv(65536)
            if not part:
                raise HypervisorUnavailable("QEMU's monitor hung up")
            self._rest += part
        line, _, self._rest = self._rest.partition(b"\n")
        try:
            found = json.loads(line)
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict):
            raise HypervisorUnavailable("QEMU's monitor does not speak JSON")
        return found
