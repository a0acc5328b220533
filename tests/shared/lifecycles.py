"""Launches for tests: a driver and a machine that are doubles, a world that a power cut can end at any durable step.

A double's machine is a file in the launch's folder, so that it outlives its launcher as a process would.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hosts import MICRO_VM
from launching import TPM, write_files

from strongroom.crypto.signatures import generate_p256
from strongroom.errors import StrongroomError
from strongroom.launch.doctor import Host
from strongroom.launch.life import Launcher
from strongroom.launch.life.attest import Proof, Readiness
from strongroom.launch.place import Place
from strongroom.records.launch import LaunchSpec
from strongroom.records.launched import Running

KEY = generate_p256()
LEASE = "lease-of-the-machine"


class Killed(BaseException):
    """The launcher is no more: nothing that catches errors sees it."""


@dataclass
class Double:
    """A driver whose machines are files. `started` and `asked` say what it was told."""

    name: str = "double"
    started: int = 0
    said: list[str] = field(default_factory=list)
    refuses: StrongroomError | None = None
    stops_by_itself: bool = False
    falls_out: StrongroomError | None = None
    """Raised once the machine runs: its driver cannot say that it does."""

    def check(self, spec: LaunchSpec, place: Place) -> None:
        self.said.append(f"check {spec.name} {place.state.name}")

    def start(self, spec: LaunchSpec, place: Place) -> Running:
        if self.refuses is not None:
            raise self.refuses
        assert not self._machine(place).exists(), "two machines in one folder"
        for path in (place.variables, *place.copies.values(), *([place.boot_disk] if place.boot_disk else [])):
            assert path.is_file(), path
        (place.state / "tpm").mkdir(exist_ok=True)
        (place.state / "tpm" / "state").write_bytes(b"what the chip keeps")
        self.started += 1
        if not self.stops_by_itself:
            self._machine(place).write_text(spec.name)
        if self.falls_out is not None:
            raise self.falls_out
        return Running(self.name, (), str(self._machine(place)))

    def find(self, spec: LaunchSpec, place: Place) -> Running | None:
        del spec
        return Running(self.name, (), str(self._machine(place))) if self._machine(place).exists() else None

    def alive(self, running: Running) -> bool:
        return Path(running.endpoint).exists()

    def drain(self, spec: LaunchSpec, place: Place, seconds: float) -> str:
        self.said.append(f"drain {spec.name} {seconds}")
        if not self._machine(place).exists():
            return "not running"
        self._machine(place).unlink()
        return "powered off"

    def remains(self, spec: LaunchSpec, place: Place) -> tuple[str, ...]:
        del spec
        return tuple(str(path) for path in (place.state / "tpm").glob("*"))

    def traces(self, spec: LaunchSpec, place: Place) -> tuple[str, ...]:
        return tuple(str(path) for path in place.state.parent.glob(f"{spec.name}.log"))

    def forget(self, spec: LaunchSpec, place: Place) -> None:
        del spec
        if (place.state / "tpm").exists():
            (place.state / "tpm").rmdir()

    def _machine(self, place: Place) -> Path:
        return place.state / "machine"


@dataclass
class Asked:
    """A machine's answers: `errors` come first, one a question; then it proves itself, and its broker says yes or `no`.

    `shows` is the lease that its proof names.
    """

    errors: list[StrongroomError] = field(default_factory=list)
    no: StrongroomError | None = None
    proofs: int = 0
    shows: str = ""

    def check(self, spec: LaunchSpec, expected: Any) -> None:
        assert expected.kind == spec.tee

    def knock(self) -> None:
        if self.errors:
            raise self.errors.pop(0)

    def prove(self, spec: LaunchSpec, expected: Any) -> Proof:
        assert expected.registers
        if self.errors:
            raise self.errors.pop(0)
        self.proofs += 1
        release = {"release": {"lease_id": self.shows}} if self.shows else {}
        return Proof(json.dumps({"proof": self.proofs, "of": spec.name, **release}).encode())

    def ready(self) -> Readiness:
        assert self.proofs, "asked for a verdict on nothing"
        if self.no is not None:
            raise self.no
        return Readiness(json.dumps({"release": {"lease_id": LEASE}}).encode(), LEASE)

    def refused(self) -> dict[str, Any]:
        return {"proof": None, "inputs": ["command line: pcr9 differs"]}


class Clock:
    """Time that goes on only when somebody sleeps, or looks."""

    def __init__(self) -> None:
        self.now = 1_790_000_000.0

    def __call__(self) -> float:
        self.now += 0.001
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@dataclass
class Stage:
    """A host with a specification's files, and launchers for it."""

    folder: Path
    spec: LaunchSpec
    driver: Double = field(default_factory=Double)
    asked: Asked = field(default_factory=Asked)
    revoked: list[str] = field(default_factory=list)
    clock: Clock = field(default_factory=Clock)
    host: Host | None = None

    @property
    def state(self) -> Path:
        return self.folder / "state"

    def place(self, **changed: Any) -> Place:
        given: dict[str, Any] = {
            "images": self.folder / "images", "state": self.state, "accelerator": "tcg",
            "disks": (self.folder / "scratch.img",), "vsock_cid": 7,
        }  # fmt: skip
        return Place(**(given | changed))

    def launcher(self, *, spec: LaunchSpec | None = None, place: Place | None = None, **changed: Any) -> Launcher:
        """A new launcher, as a new process would have."""
        given: dict[str, Any] = {
            "attest": self.asked, "revoke": self.revoke, "host": self.host, "clock": self.clock, "sleep": self.clock.sleep,
        }  # fmt: skip
        return Launcher(spec or self.spec, place or self.place(), self.driver, KEY, **(given | changed))

    def revoke(self, lease_id: str) -> tuple[str, str]:
        self.revoked.append(lease_id)
        return "revoked", ""


def make_stage(folder: Path, spec: LaunchSpec = TPM) -> Stage:
    """The files of `spec`, a scratch disk, and a small host without any TEE."""
    (folder / "images").mkdir()
    write_files(folder / "images")
    (folder / "scratch.img").write_bytes(b"scratch" + bytes(4096))
    return Stage(folder, spec, host=MICRO_VM.written(folder / "host"))


@contextmanager
def killed_at(monkeypatch: pytest.MonkeyPatch, number: int) -> Iterator[list[int]]:
    """Within this, the launcher is killed at its `number`th wait for the disk; the list holds how many there were."""
    real, seen = os.fsync, [0]

    def fsync(descriptor: int) -> None:
        seen[0] += 1
        if seen[0] == number:
            raise Killed
        real(descriptor)

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", fsync)
        yield seen
