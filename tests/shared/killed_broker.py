"""A broker in a process of its own, to be killed, and a worker on a fake chip that proves itself to it."""

import subprocess
import sys

from strongroom.crypto.signatures import public_to_pem
from strongroom.records.digest import digest_bytes
from strongroom.records.worker import Configuration, Statement
from strongroom.release.state import load_or_create
from strongroom.worker.attester import Attester
from strongroom.worker.keys import WorkerKeys
from strongroom_sim import Chip, Installation, mrtd_for

IMAGE, MODEL = digest_bytes(b"image"), digest_bytes(b"model")
BROKER = """
import asyncio, sys
from pathlib import Path
from strongroom.crypto.signatures import public_from_pem
from strongroom.release.opening import open_broker
from strongroom.services.broker import broker_app
from strongroom.services.server import serve_until_signal
from strongroom.tee.anchors import installation_anchor
state, root, owner = map(Path, sys.argv[1:])
anchors = [installation_anchor("tdx", root.read_bytes())]
broker = open_broker(state, anchors=anchors, owners=[public_from_pem(owner.read_bytes())], profile="development")
ready = lambda url: print(url, flush=True)
asyncio.run(serve_until_signal(broker_app(broker), host="127.0.0.1", port=0, ready=ready))
"""


class Processes:
    """Brokers over one state below `folder`, one after the other."""

    def __init__(self, folder):
        self.folder, self.running = folder, []

    def prepare(self, owner, *, now):
        """An installation of fake chips, whose broker knows `owner`; the installation and the broker's fingerprint."""
        installation = Installation.create(self.folder / "installation", now=now)
        (self.folder / "root.pem").write_bytes(installation.root_pem)
        (self.folder / "owner.pem").write_bytes(public_to_pem(owner.public_key()))
        return installation, load_or_create(self.folder / "state").identity.fingerprint

    def start(self):
        """The broker's process and its URL."""
        files = [str(self.folder / name) for name in ("state", "root.pem", "owner.pem")]
        process = subprocess.Popen([sys.executable, "-c", BROKER, *files], stdout=subprocess.PIPE, text=True)
        self.running.append(process)
        return process, process.stdout.readline().strip()

    def close(self):
        for process in self.running:
            process.kill()
            process.wait()
            process.stdout.close()


def worker(installation, fingerprint, *, now):
    """A worker's keys, and who proves that they are held inside a fake chip that runs `MODEL`."""
    keys = WorkerKeys.generate(now=now)
    configuration = Configuration("inference", fingerprint, {}, None)
    statement = Statement("inference", IMAGE, None, (MODEL,), configuration.digest)
    chip, collateral = Chip(installation, mrtd=mrtd_for(IMAGE)), installation.bundle(now)
    return keys, Attester(chip, lambda: collateral, kind="tdx", keyset=keys.keyset, statement=statement)
