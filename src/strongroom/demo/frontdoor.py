"""A front door that somebody else runs: it forwards HTTP, and may change every answer on the way.

Knows: HTTP bodies. Does not know: keys.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx2

Transform = Callable[[str, bytes], bytes]
DROPPED = frozenset({"transfer-encoding", "content-length", "connection", "date", "server"})


class FrontDoor:
    """Forwards everything to `target`; `transform` is given path and body of each answer and returns the body to send."""

    def __init__(self, target: str, transform: Transform) -> None:
        http = httpx2.Client(timeout=httpx2.Timeout(10.0, read=120.0))

        class Handler(BaseHTTPRequestHandler):
            def _forward(self) -> None:
                body = self._body()
                headers = {n: v for n, v in self.headers.items() if n.lower() not in DROPPED | {"host"}}
                answer = http.request(self.command, target + self.path, content=body, headers=headers)
                changed = transform(self.path, answer.content)
                self.send_response(answer.status_code)
                for name, value in answer.headers.items():
                    if name.lower() not in DROPPED:
                        self.send_header(name, value)
                self.send_header("content-length", str(len(changed)))
                self.end_headers()
                self.wfile.write(changed)

            def _body(self) -> bytes:
                if "chunked" not in self.headers.get("transfer-encoding", ""):
                    return self.rfile.read(int(self.headers.get("content-length") or 0))
                parts = []
                while size := int(self.rfile.readline().split(b";")[0], 16):
                    parts.append(self.rfile.read(size))
                    self.rfile.readline()
                self.rfile.readline()
                return b"".join(parts)

            do_GET = do_POST = _forward  # noqa: N815 (names that http.server wants)

            def log_message(self, *_: object) -> None:
                """Say nothing: the demo's screen belongs to the story."""

        self._http = http
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        """Stop forwarding."""
        self._server.shutdown()
        self._server.server_close()
        self._http.close()
