"""The way to a TPM: command bytes in, response bytes out, one at a time, within a time.

Knows: the kernel's resource manager `/dev/tpmrm0` (Linux >= 4.12), which flushes what a process leaves behind; sockets
that speak the same bytes, as a simulated or software TPM serves them at the same place. Does not know: commands
(`commands`). There is no fallback: without a device every call ends in `DeviceUnavailable`.
"""

from __future__ import annotations

import os
import select
import socket
import stat
import time
from pathlib import Path
from typing import Protocol

from strongroom.errors import DeviceUnavailable

DEVICE = Path("dev/tpmrm0")
HEADER_BYTES = 10
MAX_RESPONSE_BYTES = 8192


class Transport(Protocol):
    """Whoever takes one command to a TPM and brings its response. Raises `DeviceUnavailable`."""

    def exchange(self, command: bytes) -> bytes: ...

    def close(self) -> None: ...


class Channel:
    """A descriptor that reads and writes TPM commands: a character device, or a connected socket."""

    def __init__(self, descriptor: int, *, timeout: float = 30.0) -> None:
        """Takes the descriptor over; `timeout` bounds each command, in seconds."""
        os.set_blocking(descriptor, False)
        self._descriptor = descriptor
        self._timeout = timeout

    def exchange(self, command: bytes) -> bytes:
        """The response to `command`, whole, as its header counts it. Raises `DeviceUnavailable`."""
        deadline = time.monotonic() + self._timeout
        try:
            self._write(command, deadline)
            response = b""
            while len(response) < HEADER_BYTES or len(response) < int.from_bytes(response[2:6], "big"):
                self._wait(select.POLLIN, deadline)
                piece = os.read(self._descriptor, MAX_RESPONSE_BYTES)
                response += piece
                if not piece or len(response) > MAX_RESPONSE_BYTES:
                    raise DeviceUnavailable("the TPM gave no whole response")
        except OSError as error:
            raise DeviceUnavailable(f"the TPM cannot be used ({error.strerror or 'error'})") from None
        if len(response) != int.from_bytes(response[2:6], "big"):
            raise DeviceUnavailable("the TPM gave more than one response")
        return response

    def close(self) -> None:
        os.close(self._descriptor)

    def _write(self, command: bytes, deadline: float) -> None:
        """A device takes a command in one write; a socket may take it in pieces."""
        while command:
            self._wait(select.POLLOUT, deadline)
            command = command[os.write(self._descriptor, command) :]

    def _wait(self, event: int, deadline: float) -> None:
        poller = select.poll()
        poller.register(self._descriptor, event)
        left = deadline - time.monotonic()
        if left <= 0 or not poller.poll(left * 1000):
            raise DeviceUnavailable(f"the TPM did not answer within {self._timeout:g} seconds")


def open_device(root: Path = Path("/"), *, timeout: float = 30.0) -> Channel:
    """The TPM below `root`. Raises `DeviceUnavailable`."""
    path = root / DEVICE
    try:
        if stat.S_ISSOCK(path.stat().st_mode):
            connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                connection.connect(str(path))
            except OSError:
                connection.close()
                raise
            return Channel(connection.detach(), timeout=timeout)
        return Channel(os.open(path, os.O_RDWR | os.O_CLOEXEC), timeout=timeout)
    except OSError as error:
        raise DeviceUnavailable(f"there is no TPM to use ({error.strerror or 'error'})") from None
