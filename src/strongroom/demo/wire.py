"""The host's place on the wire: relays that record everything, and a front door that may be hostile.

Knows: bytes and HTTP. Does not know: keys; that is the point.
"""

from __future__ import annotations

import contextlib
import itertools
import socket
import threading
from pathlib import Path
from urllib.parse import urlsplit

BLOCK = 65536


class Relay:
    """A TCP relay on loopback that writes what passes into `folder`, one file a connection and direction."""

    def __init__(self, target: str, folder: Path) -> None:
        parts = urlsplit(target)
        self._target = (parts.hostname or "127.0.0.1", parts.port or 80)
        self._folder, self._numbers = folder, itertools.count()
        folder.mkdir(parents=True, exist_ok=True)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._closed = threading.Event()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while not self._closed.is_set():
            try:
                inward, _ = self._listener.accept()
            except OSError:
                return
            try:
                outward = socket.create_connection(self._target, timeout=10)
            except OSError:
                inward.close()
                continue
            outward.settimeout(None)
            number = next(self._numbers)
            for name, source, sink in (("in", inward, outward), ("out", outward, inward)):
                capture = self._folder / f"{number:04d}-{name}.bin"
                threading.Thread(target=self._pump, args=(source, sink, capture), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, capture: Path) -> None:
        with contextlib.suppress(OSError), capture.open("ab", buffering=0) as file:
            while data := source.recv(BLOCK):
                file.write(data)
                sink.sendall(data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        with contextlib.suppress(OSError):
            source.close()

    def close(self) -> None:
        """Take no more connections."""
        self._closed.set()
        self._listener.close()
