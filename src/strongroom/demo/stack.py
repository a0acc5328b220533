"""The demo's machine: an owner's folder, a host with everything the operator can see, and the processes on it.

Knows: which process needs what of which other. Does not know: the story (`story`) or the attacks (`attacks`).

    owner/   keys, policy and the plaintext model: the owner's own machine, not searched for canaries
    host/    registry, broker, tee-*, wire, logs: everything that the operator has, all of it searched
    user/    receipts
"""

from __future__ import annotations

import contextlib
import itertools
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import strongroom
import strongroom_sim
from strongroom.appraisal.policies import template, to_toml
from strongroom.demo import processes
from strongroom.demo import registry as registries
from strongroom.demo.processes import Process
from strongroom.demo.wire import Relay
from strongroom.errors import Unavailable
from strongroom.records.digest import Digest
from strongroom.records.policy import Policy, Requirement

MODEL_NAME = "smollm2"
KEY_ID = "demo-model"
POLICY_ID = "demo"
LEASE_SECONDS = 6
PACKAGE = Path(strongroom.__file__).parent


@dataclass
class Broker:
    """A running broker."""

    process: Process
    url: str
    fingerprint: str


@dataclass
class WorkerProcess:
    """A running worker on its own fake chip."""

    chip: Process
    process: Process
    url: str


class Stack:
    """Everything on one machine, under `root`. Close it to end every process."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.owner, self.host, self.user = root / "owner", root / "host", root / "user"
        for folder in (self.owner, self.host / "wire", self.host / "logs", self.user):
            folder.mkdir(parents=True)
        self.identity = self.owner / "owner.pem"
        self.signer = self.owner / "owner.pem.pub"
        self.installation = root / "installation"
        self.anchor = self.installation / "root.pem"
        self.registry = f"dir:{self.host / 'registry'}"
        self.image: Digest = strongroom_sim.measure_image(PACKAGE)
        self._cleanup = contextlib.ExitStack()
        self._numbers, self._relays = itertools.count(1), itertools.count(1)

    def close(self) -> None:
        """End every process, newest first."""
        self._cleanup.close()

    # --- the parts, in the order of the story -----------------------------------------------------------------------

    def make_installation(self) -> None:
        """The fake vendor: a CA of this installation alone, and its collateral."""
        subprocess.run(
            [sys.executable, "-m", "strongroom_sim", "init", str(self.installation)], check=True, capture_output=True
        )

    def use_registry(self) -> str:
        """Keep artifacts in a real registry, where one is installed; returns where they lie, in words."""
        if not registries.is_installed():
            return f"a folder ({registries.PROGRAM} is not installed here)"
        self.registry = self._serve(self.host / "registry")
        return f"{registries.PROGRAM} on this machine"

    def registry_over(self, folder: Path) -> str:
        """Serve a copy of what our registry keeps as ours is served; returns how references to it begin."""
        return f"dir:{folder}" if self.registry.startswith("dir:") else self._serve(folder)

    def start_broker(self) -> Broker:
        process = self._start(
            "broker",
            processes.command(
                "broker", "serve", "--state", self.host / "broker", "--owner", self.signer, "--anchor", self.anchor,
                "--profile", "development", "--listen", "127.0.0.1:0",
            ),
        )  # fmt: skip
        ready = process.line(state="ready")
        relay = self._relay(ready["url"], "worker-broker")
        self.broker = Broker(process, relay.url, ready["fingerprint"])
        return self.broker

    def at_broker(self) -> list[str]:
        """The options by which an owner speaks to the broker."""
        return [
            "--broker", self.broker.url, "--broker-fingerprint", self.broker.fingerprint, "--identity", str(self.identity),
        ]  # fmt: skip

    def seal(self, source: Path, name: str) -> str:
        """Seal `source`; returns the artifact's digest."""
        document = processes.must(
            "seal", source, f"{self.registry}:{name}", "--key", KEY_ID, *self.at_broker(), "--kind", "model"
        )
        return str(document["digest"])

    def configuration(self, name: str) -> str:
        """The digest of what the worker will be told, computed by the owner beforehand."""
        document = processes.must("serve", f"{self.registry}:{name}", *self._told(Path("/")), "--show-configuration")
        return str(document["configuration"])

    def policy(self, artifact: str, configuration: str) -> Policy:
        """The owner's policy: this image, this model, this configuration, in a simulated TEE of this installation."""
        reference = strongroom_sim.reference_for(self.image)
        policy = template(POLICY_ID, references=[reference], artifacts=[artifact], simulated=True)
        return replace(
            policy,
            configuration=Requirement(one_of=(configuration,)),
            launch_spec=Requirement(one_of=("none",)),
            lease_seconds=LEASE_SECONDS,
        )

    def publish(self, policy: Policy) -> Path:
        """Write, sign and publish a policy. Returns the TOML file."""
        toml, signed = self.owner / "policy.toml", self.owner / "policy.json"
        toml.write_text(to_toml(policy))
        processes.must("policy", "sign", toml, "--identity", self.identity, "-o", signed)
        processes.must("policy", "put", signed, *self.at_broker())
        return toml

    def start_chip(self, *, image: str | None = None) -> tuple[Process, Path]:
        """A fake TDX chip on which a TD of our image (or another) was launched; and the root of its ABI."""
        number = next(self._numbers)
        root = self.host / f"tee-{number}"
        measured = ["--image", image] if image is not None else ["--measure", str(PACKAGE)]
        process = self._start(
            f"chip-{number}",
            [
                sys.executable, "-m", "strongroom_sim", "chip", "--installation", str(self.installation),
                "--root", str(root), *measured,
            ],
        )  # fmt: skip
        process.line(state="ready")
        return process, root

    def start_worker(
        self, name: str, *, image: str | None = None, registry: str | None = None, broker: str | None = None
    ) -> WorkerProcess:
        """Start a worker for the sealed model `name`; it may not live long."""
        chip, root = self.start_chip(image=image)
        reference = f"{registry or self.registry}:{name}"
        words = processes.command("serve", reference, *self._told(root, broker), "--listen", "127.0.0.1:0")
        return WorkerProcess(chip, self._start(f"worker-{root.name}", words), "")

    def wait_ready(self, worker: WorkerProcess) -> WorkerProcess:
        """Wait until it serves, and put the recording relay before it."""
        ready = worker.process.line(state="serving")
        worker.url = self._relay(ready["detail"], "user-worker").url
        self.worker = worker
        return worker

    def start_proxy(self, policy: Path) -> str:
        """The user's own proxy before the worker; returns its address."""
        process = self._start(
            "proxy",
            processes.command(
                "proxy", self.worker.url, "--listen", "127.0.0.1:0", "--policy", policy, "--anchor", self.anchor,
                "--broker-fingerprint", self.broker.fingerprint, "--accept-simulated",
            ),
        )  # fmt: skip
        return str(process.line(state="ready")["url"])

    def ask(
        self, worker: str, policy: Path, prompt: str, *, user: str, max_tokens: int = 48
    ) -> tuple[dict[str, Any], Path]:
        """A user in a process of its own."""
        receipt = self.user / f"receipt-{time.monotonic_ns()}.json"
        told = {
            "url": worker,
            "policy": str(policy),
            "anchor": str(self.anchor),
            "broker": self.broker.fingerprint,
            "prompt": prompt,
            "user": user,
            "max_tokens": str(max_tokens),
            "receipt": str(receipt),
        }
        done = subprocess.run(
            [sys.executable, "-m", "strongroom.demo.user"],
            input=json.dumps(told).encode(),
            capture_output=True,
            check=False,
            timeout=120,
        )
        document = processes.last_document(done.stdout)
        if done.returncode != 0 and "error" not in document:
            raise Unavailable("the demo's user failed", remedy=done.stderr.decode(errors="replace")[-2000:])
        return document, receipt

    # --- how ---------------------------------------------------------------------------------------------------------

    def _told(self, tee_root: Path, broker: str | None = None) -> list[str]:
        return [
            "--broker", broker or self.broker.url, "--broker-fingerprint", self.broker.fingerprint,
            "--signer", str(self.signer), "--image", self.image, "--collateral", str(self.installation / "collateral.json"),
            "--tee-root", str(tee_root), "--profile", "development", "--name", MODEL_NAME, "--context", "2048",
            "--threads", "2",
        ]  # fmt: skip

    def _serve(self, folder: Path) -> str:
        return f"oci://{registries.address(self._start(folder.name, registries.command(folder)))}/demo"

    def _start(self, name: str, words: list[str]) -> Process:
        """In a place of its own on the host, so that what it leaves behind is found there."""
        place = self.host / "processes" / name
        place.mkdir(parents=True)
        process = Process(words, self.host / "logs" / f"{name}.log", place)
        self._cleanup.callback(process.stop)
        return process

    def _relay(self, target: str, name: str) -> Relay:
        relay = Relay(target, self.host / "wire" / f"{name}-{next(self._relays)}")
        self._cleanup.callback(relay.close)
        return relay


@contextlib.contextmanager
def stack(root: Path) -> Iterator[Stack]:
    """A stack that is ended however the story ends."""
    made = Stack(root)
    try:
        yield made
    finally:
        made.close()
