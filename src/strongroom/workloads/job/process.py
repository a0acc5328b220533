"""A job's confined child, seen from the worker.

Knows: what is handed over when, and how little to believe of what comes back. Does not know: artifacts, receipts.
All of it may block but `kill`; a thread that waits here is freed by `kill` from another.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from strongroom.engines.confine import Confinement
from strongroom.engines.spawn import Child, spawn_child
from strongroom.errors import EngineUnavailable, MalformedMessage, StrongroomError
from strongroom.records.job import JobSpec
from strongroom.workloads.job.link import Link, Message
from strongroom.workloads.job.outputs import OpenFiles

MAX_OUTPUTS = 256
ANSWER_SECONDS = 60.0
"""How long the child may take to confine itself, or to copy one input file."""

_CHILD = "strongroom.workloads.job.child"
_NEVER_ON_DISK = "own-tmp"


@dataclass(slots=True)
class Files:
    """Open files by the paths that they have in the outputs; `close` them."""

    held: list[tuple[str, int]] = field(default_factory=list)

    def close(self) -> None:
        while self.held:
            os.close(self.held.pop()[1])


class JobProcess:
    """One child for one run."""

    def __init__(self) -> None:
        self._streams, self._outputs = Files(), Files()
        self._child: Child | None = None
        self._link: Link | None = None
        self._using_files = threading.Lock()

    def spawn(self, scratch_bytes: int) -> None:
        """Start it, before any key exists; it confines itself meanwhile. Raises `EngineUnavailable`."""
        if self._child is not None:
            raise EngineUnavailable("a job is spawned once")
        self._child = spawn_child(_CHILD, str(scratch_bytes))
        self._child.socket.settimeout(ANSWER_SECONDS)
        self._link = Link(self._child.socket)

    def hello(self) -> Confinement:
        """How far it came with confining itself. Raises `EngineUnavailable`, `ConfinementUnavailable`.

        Without a file system in memory it is not used at all, whatever the profile: plaintext would lie on a disk.
        """
        report = Confinement.from_report(self._answer("hello").members.get("confinement"))
        if _NEVER_ON_DISK in report.missing:
            report.require()
        return report

    def put(self, path: str, descriptor: int) -> None:
        """Hand over one input file; it has a copy of its own when this returns. Raises `EngineUnavailable`."""
        self._send("input", {"path": path}, descriptor)
        self._answer("taken").close()

    def run(self, spec: JobSpec, code: int) -> bool:
        """Run the job to its end: whether it says that it ended well. False if it is killed or breaks the protocol."""
        try:
            self._running.socket.settimeout(None)
            self._send("run", {"entry": spec.entry, "arguments": list(spec.arguments)}, code)
            with self._using_files:
                return self._collect()
        except (StrongroomError, OSError):
            return False

    def kill(self) -> None:
        """SIGKILL; when this returns nothing writes to its files any more. Never fails, also when called twice."""
        if self._child is not None:
            self._child.kill()

    @contextmanager
    def files(self) -> Iterator[tuple[OpenFiles, OpenFiles]]:
        """Its standard streams, which are held as soon as it runs, and the outputs that it handed over; for the block alone.

        Only after `kill`: until then the job can change them. The block has descriptors of its own, so that `wipe` never waits.
        """
        with self._using_files:
            streams, outputs = (
                tuple((path, os.dup(file)) for path, file in held.held) for held in (self._streams, self._outputs)
            )
        try:
            yield streams, outputs
        finally:
            for _, file in (*streams, *outputs):
                os.close(file)

    def wipe(self) -> None:
        """Kill it and let go of its files, whose memory is then freed. Never fails, also when called twice."""
        self.kill()
        with self._using_files:  # a number that is closed may soon be another file's
            self._streams.close()
            self._outputs.close()

    def _collect(self) -> bool:
        while (message := self._connected.receive()) is not None:
            try:
                if message.kind == "end":
                    return message.members.get("well") is True
                files = {"stream": self._streams, "output": self._outputs}.get(message.kind)
                if files is None or len(self._streams.held) + len(self._outputs.held) >= MAX_OUTPUTS:
                    raise MalformedMessage("a job with more files than it may have, or with a word of its own")
                files.held.append((message.text("path"), message.take()))
            finally:
                message.close()
        return False

    def _answer(self, kind: str) -> Message:
        try:
            message = self._connected.receive()
        except OSError:
            message = None
        if message is None:
            raise EngineUnavailable("the job's process ended or does not answer")
        if message.kind != kind:
            message.close()
            raise MalformedMessage("the job's process answers another question")
        return message

    def _send(self, kind: str, members: dict[str, object], descriptor: int) -> None:
        try:
            self._connected.send(kind, members, descriptor)
        except OSError:
            raise EngineUnavailable("the job's process has ended") from None

    @property
    def _running(self) -> Child:
        if self._child is None:
            raise EngineUnavailable("the job's process is not spawned")
        return self._child

    @property
    def _connected(self) -> Link:
        if self._link is None:
            raise EngineUnavailable("the job's process is not spawned")
        return self._link
