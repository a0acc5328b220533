"""An estate for system tests: an installation of fake chips, an owner, and a broker that is a real process and can be killed.

Knows: how each part is started and ended. Does not know: what a test wants to see. Every process is ended by its own id.
"""

from __future__ import annotations

import contextlib
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from strongroom.appraisal.policies import sign_policy, template
from strongroom.crypto.signatures import generate_p256, private_to_pem, public_to_pem
from strongroom.demo import processes
from strongroom.demo.processes import Process
from strongroom.records import codec
from strongroom.records.artifact import ArtifactKind, KeyWrap
from strongroom.records.digest import Digest, digest_bytes
from strongroom.records.envelope import Envelope
from strongroom.records.policy import Policy, Requirement
from strongroom.records.release import Edition
from strongroom.release.client import BrokerClient
from strongroom.sealed.open import Opener
from strongroom.sealed.registries import from_reference
from strongroom.sealed.seal import seal
from strongroom_sim import Chip, Installation, abi, mrtd_for, reference_for

KEY_ID, POLICY_ID = "model", "policy"
IMAGE = digest_bytes(b"the image of the tests")
LOW_PORTS = range(20_000, 32_000)
"""Below the range that Linux gives to outgoing connections, so that nobody takes a port while its broker is down."""


@dataclass
class Estate:
    """One owner, one installation and one broker under `root`. `up` is set while the broker answers; `owners` are further ones' keys."""

    root: Path
    installation: Installation
    port: int
    owner: object = field(default_factory=generate_p256)
    up: threading.Event = field(default_factory=threading.Event)
    broker: Process | None = None
    fingerprint: Digest | None = None
    owners: list[Path] = field(default_factory=list)
    starts: int = 0
    ended: list[Process] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.identity, self.signer = self.root / "owner.pem", self.root / "owner.pem.pub"
        self.identity.write_bytes(private_to_pem(self.owner))
        self.signer.write_bytes(public_to_pem(self.owner.public_key()))
        self.anchor = self.root / "installation" / "root.pem"
        self.collateral = self.root / "installation" / "collateral.json"
        self.collateral_record = self.installation.bundle(int(time.time()))
        self.host = self.root / "host"
        self.host.mkdir()

    # The broker

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def begin(self, state: Path | None = None, *, port: int | None = None) -> Process:
        """Start a broker process on `state`; it may be killed before it is ready."""
        self.starts += 1
        words = processes.command(
            "broker", "serve", "--state", state or self.host / "broker", "--owner", self.signer, "--anchor", self.anchor,
            "--profile", "development", "--listen", f"127.0.0.1:{self.port if port is None else port}",
            *(word for owner in self.owners for word in ("--owner", owner)),
        )  # fmt: skip
        process = Process(words, self.root / f"broker-{self.starts}.log")
        self.ended.append(process)
        return process

    def start(self) -> None:
        """Start the broker and wait until it answers; it is always the same one."""
        self.broker = self.begin()
        fingerprint = Digest(self.broker.line(state="ready")["fingerprint"])
        assert self.fingerprint in (None, fingerprint), "the broker came back as another one"
        self.fingerprint = fingerprint
        self.up.set()

    def kill(self) -> None:
        """SIGKILL, and wait until the kernel has taken everything back."""
        self.up.clear()
        if self.broker is not None:
            self.broker.process.kill()
            self.broker.process.wait()

    def close(self) -> None:
        for process in self.ended:
            if process.process.poll() is None:
                process.process.kill()
            process.stop()

    def client(self, *, owner: bool = False) -> BrokerClient:
        return BrokerClient(self.url, fingerprint=self.fingerprint, identity=self.owner if owner else None)

    # What the owner makes

    def policy(self, *artifacts: Digest, version: int = 1, lease_seconds: int = 60) -> Policy:
        made = template(POLICY_ID, references=[reference_for(IMAGE)], artifacts=artifacts, simulated=True)
        return replace(made, version=version, lease_seconds=lease_seconds, launch_spec=Requirement(one_of=("none",)))

    def signed(self, policy: Policy) -> Envelope:
        return sign_policy(policy, self.owner)

    def seal(self, source: Path, tag: str) -> Opener:
        """Seal `source` under the broker's key into the estate's registry."""
        registry, _ = from_reference(f"dir:{self.host / 'registry'}")
        client = self.client(owner=True)

        def wrap(of: Edition, data_key: bytes) -> KeyWrap:
            return KeyWrap(broker=client.wrap(KEY_ID, of, data_key), recipients=())

        seal(source, registry, kind=ArtifactKind.MODEL, wrap=wrap, signer=self.owner, tag=tag)
        client.close()
        return Opener(registry, tag, signer_public=self.owner.public_key())

    def chip(self) -> Chip:
        """A fresh TD of the image that the policy names."""
        return Chip(self.installation, mrtd=mrtd_for(IMAGE))

    @contextlib.contextmanager
    def served_chip(self, root: Path) -> Iterator[Path]:
        """A fresh TD behind the kernel's files below `root`, for a worker in a process of its own."""
        stop = threading.Event()
        with abi.Device(self.chip(), root) as device:
            serving = threading.Thread(target=device.serve, args=(stop.is_set,), daemon=True)
            serving.start()
            try:
                yield root
            finally:
                stop.set()
                serving.join()

    def worker(self, tag: str, tee_root: Path, log: Path, *options: str, name: str = "") -> Process:
        """A real worker for the sealed model `tag`, under `name`, with further `options`."""
        return Process(
            processes.command(
                "serve", f"{name and name + '='}dir:{self.host / 'registry'}:{tag}", "--broker", self.url, "--broker-fingerprint",
                self.fingerprint, "--signer", self.signer, "--image", IMAGE, "--collateral", self.collateral,
                "--tee-root", tee_root, "--profile", "development", "--listen", "127.0.0.1:0", "--context", "512", *options,
            ),
            log,
        )  # fmt: skip


def free_low_port() -> int:
    """A port that nobody holds now, and that no outgoing connection will be given."""
    for port in random.sample(LOW_PORTS, 64):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise RuntimeError("no free port")


def make_estate(root: Path) -> Estate:
    installation = Installation.create(root / "installation", now=int(time.time()))
    made = Estate(root, installation, free_low_port())
    assert codec.decode(type(made.collateral_record), made.collateral.read_bytes())
    return made


@pytest.fixture
def estate(tmp_path: Path) -> Iterator[Estate]:
    """An estate whose broker is not started yet."""
    made = make_estate(tmp_path)
    yield made
    made.close()


@pytest.fixture(scope="module")
def new_estate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], Estate]]:
    """Estates that live as long as a module's tests."""
    made: list[Estate] = []

    def make() -> Estate:
        made.append(make_estate(tmp_path_factory.mktemp("estate")))
        return made[-1]

    yield make
    for estate in made:
        estate.close()
