"""A small server of OpenAI's API in a process of its own: `fake_server.py PORT MODEL`. What it does is decided by the prompt."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path
from typing import Any

MODEL = Path(sys.argv[2])


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        self.say(200, {"object": "list", "data": [{"id": "m"}]})

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        prompt = asked.get("prompt") or asked.get("input") or asked["messages"][0]["content"]
        if prompt == "die":
            os._exit(3)
        elif prompt == "outside":
            self.say(200, {"said": outside()})
        elif prompt == "inside":
            self.say(200, {"said": inside()})
        elif prompt == "share":
            self.say(200, {"said": share()})
        elif asked.get("stream"):
            self.stream(asked, cut=prompt == "cut")
        else:
            self.say(200, {"asked": asked, "path": self.path, "model": self.content()})

    def content(self) -> str:
        if MODEL.is_dir():
            return "+".join(sorted(f"{path.relative_to(MODEL)}:{path.read_text()}" for path in MODEL.rglob("*.*")))
        return MODEL.read_text()

    def stream(self, asked: dict[str, Any], *, cut: bool) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("connection", "close")
        self.end_headers()
        for number in range(3):
            self.wfile.write(
                b": a comment\n\ndata: " + json.dumps({"number": number, "model": asked["model"]}).encode() + b"\n\n"
            )
        if not cut:
            self.wfile.write(b"data: [DONE]\n\n")
        self.close_connection = True

    def say(self, status: int, value: dict[str, Any]) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def inside() -> dict[str, str]:
    """What it has: shared memory, the size of its scratch, whether it may execute what it writes, devices."""
    program = Path("/tmp/program")  # noqa: S108  # its own
    program.write_bytes(Path("/bin/true").read_bytes())
    program.chmod(0o700)
    ran = "no"
    with contextlib.suppress(OSError):
        ran = "yes" if subprocess.run([program], check=False).returncode == 0 else "no"
    with contextlib.suppress(OSError):
        Path("/dev/shm/x").write_bytes(b"x")  # noqa: S108  # its own
    scratch = os.statvfs("/tmp")  # noqa: S108  # its own
    return {
        "ran": ran,
        "shared": "yes" if Path("/dev/shm/x").exists() else "no",  # noqa: S108  # its own
        "scratch": str(scratch.f_blocks * scratch.f_frsize >> 20),
        "devices": " ".join(sorted(os.listdir("/dev"))),  # noqa: PTH208
        "sys": "yes" if Path("/sys/kernel").exists() else "no",
    }


def share() -> dict[str, Any]:
    """Memory that another process of this server sees, and whether anything else is where such memory lies."""
    memory = SharedMemory(create=True, size=4096)
    try:
        memory.buf[:5] = b"hello"
        (file,) = Path("/dev/shm").iterdir()  # noqa: S108  # the server's own
        seen = subprocess.run(["/usr/bin/cat", str(file)], capture_output=True, check=True, text=True).stdout
        return {"seen": seen.rstrip("\0"), "alone": file.name == memory.name}
    finally:
        memory.close()
        memory.unlink()


def outside() -> dict[str, str]:
    """What of the world around can be reached from here."""
    tried = {}
    for name, attempt in (
        ("network", lambda: socket.create_connection(("192.0.2.1", 80), 2)),
        ("files", lambda: Path("/etc/passwd").read_text()),
        ("write", lambda: Path("/usr/probe").write_text("x")),
        ("processes", lambda: [p for p in Path("/proc").iterdir() if p.name.isdigit()][20]),
    ):
        try:
            attempt()
            tried[name] = "reached"
        except (OSError, IndexError) as error:
            tried[name] = type(error).__name__
    return tried


ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
