"""Brokers that start in a moment, because they are forked from a process that has imported everything; to be killed.

`STRONGROOM_KILL_SEED` repeats a run's choices, as far as schedulers repeat anything.
"""

import contextlib
import os
import random
import signal
import socket
import subprocess
import sys

from strongroom.crypto.signatures import public_to_pem
from strongroom.release.opening import open_broker
from strongroom.release.state import load_or_create
from strongroom.tee.anchors import installation_anchor
from strongroom_sim import Installation

PARENT = """
import asyncio, os, sys
from pathlib import Path
import strongroom.release.stores.sqlite, strongroom.tee.tdx
from strongroom.crypto.signatures import public_from_pem
from strongroom.release.opening import open_broker
from strongroom.services.broker import broker_app
from strongroom.services.server import serve_until_signal
from strongroom.tee.anchors import installation_anchor

def say(text):
    os.write(1, (text + "\\n").encode())

def serve(folder, port):
    anchors = [installation_anchor("tdx", (folder / "root.pem").read_bytes())]
    owner = public_from_pem((folder / "owner.pem").read_bytes())
    broker = open_broker(folder / "state", anchors=anchors, owners=[owner], profile="development")
    app = broker_app(broker)
    asyncio.run(serve_until_signal(app, host="127.0.0.1", port=port, ready=lambda url: say("url " + url)))

for line in sys.stdin:
    child = os.fork()
    if child == 0:
        try:
            port, _, folder = line.rstrip().partition(" ")
            serve(Path(folder), int(port))
        finally:
            os._exit(1)
    say(f"pid {child}")
    os.waitpid(child, 0)
    say("ended")
"""


def free_port():
    """Below the range that Linux gives to outgoing connections, so that nobody takes it while the broker is down."""
    while True:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


class Forked:
    """One broker's state below `folder`, and processes over it, one after the other."""

    def __init__(self, folder, owner, *, now):
        self.folder, self.owner = folder, owner
        self.installation = Installation.create(folder / "installation", now=now)
        (folder / "root.pem").write_bytes(self.installation.root_pem)
        (folder / "owner.pem").write_bytes(public_to_pem(owner.public_key()))
        self.identity = load_or_create(folder / "state").identity
        self.parent = subprocess.Popen(
            [sys.executable, "-c", PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )
        self.pid, self.port = None, free_port()

    @property
    def address(self):
        return f"http://127.0.0.1:{self.port}"

    def begin(self):
        """Start a process, and do not wait until it serves."""
        self.parent.stdin.write(f"{self.port} {self.folder}\n")
        self.parent.stdin.flush()
        self.pid = int(self._word("pid"))

    def wait(self):
        """Until the process that was begun serves."""
        assert self._word("url") == self.address

    def kill(self):
        """SIGKILL, and wait until the kernel has taken everything back."""
        os.kill(self.pid, signal.SIGKILL)
        while self.parent.stdout.readline() not in {"ended\n", ""}:
            pass
        self.pid = None

    def open(self):
        """The same broker in this process, while no other runs."""
        anchors = [installation_anchor("tdx", self.installation.root_pem)]
        return open_broker(
            self.folder / "state", anchors=anchors, owners=[self.owner.public_key()], profile="development"
        )

    def close(self):
        if self.pid is not None:
            self.kill()
        self.parent.stdin.close()
        self.parent.wait()
        self.parent.stdout.close()

    def _word(self, wanted):
        said, _, word = self.parent.stdout.readline().rstrip("\n").partition(" ")
        assert said == wanted, f"the broker did not start: {said}"
        return word
