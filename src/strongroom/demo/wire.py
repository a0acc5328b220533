"""The host's place on the wire: relays that record everything, and a front door that may be hostile.

Knows: bytes and HTTP. Does not know: keys; that is the point.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from pathlib import Path
from urllib.parse import urlsplit

BLOCK = 65536


class Relay:
    """A TCP relay on loopback that writes every byte of both directions into `capture`."""

    def __init__(self, target: str, capture: Path) -> None:
        parts = urlsplit(target)
        self._target = (parts.hostname or "127.0.0.1", parts.port or 80)
        self._capture = capture.open("ab", buffering=0)
        self._lock = threading.Lock()
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
            for source, sink in ((inward, outward), (outward, inward)):
                threading.Thread(target=self._pump, args=(source, sink), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(BLOCK):
                with self._lock:
                    self._capture.write(data)
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
        with self._lock:
            self._capture.close()
