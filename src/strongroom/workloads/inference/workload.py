"""Inference as a workload of a worker.

Knows: that a model artifact, and each adapter's, holds one file an engine can load, and how an engine is fed. Does not know: HTTP
(`services.gateway` is the `front`), evidence, leases, whose an adapter is.
Not covered: several models in one worker.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Awaitable, Mapping, Sequence
from typing import Protocol

from strongroom.channel.pacing import Pacing
from strongroom.engines.process import EngineProcess
from strongroom.errors import EngineUnavailable, MalformedArtifact
from strongroom.sealed.open import OpenedArtifact
from strongroom.worker.workload import Session

MODEL_SUFFIX = ".gguf"


class Front(Protocol):
    """What carries requests to the workload: serves until `session.draining` is set and what is under way has ended."""

    def __call__(self, workload: InferenceWorkload, session: Session) -> Awaitable[None]: ...


class InferenceWorkload:
    """One model in one confined engine. `settings` are the engine's (context, threads, slots, name of the model)."""

    name = "inference"

    def __init__(
        self,
        engine: EngineProcess,
        settings: Mapping[str, str | int],
        front: Front,
        *,
        slots: int = 1,
        queue: int = 16,
        pacing: Pacing | None = None,
    ) -> None:
        self.engine, self.settings = engine, settings
        self.slots, self.queue = slots, queue
        self.pacing = pacing if pacing is not None else Pacing()
        self._front = front
        self._lock, self._wiped = threading.Lock(), False
        self._descriptors: list[int] = []

    @property
    def model(self) -> str:
        """The name under which the model is served; what a request calls it is the client's affair."""
        return str(self.settings["name"])

    def prepare(self) -> None:
        self.engine.spawn()

    async def open(self, artifacts: Sequence[OpenedArtifact]) -> str:
        try:
            for each in artifacts:  # the model, then its adapters
                path, artifact = find_model([each])
                await asyncio.to_thread(self._take, artifact, path)
            model, *adapters = self._descriptors
            confinement = await (
                self.engine.load(model, self.settings, adapters) if adapters else self.engine.load(model, self.settings)
            )
        finally:
            self._let_go()  # the engine has its own; the last one to close it frees the plaintext
        missing = "; ".join(f"{name}: {reason}" for name, reason in confinement.missing.items())
        beside = f" with {len(adapters)} adapters" if adapters else ""
        return f"the model is in memory{beside}, its engine confined{f', but for {missing}' if missing else ''}"

    async def run(self, session: Session) -> None:
        serving = asyncio.ensure_future(self._front(self, session))
        watching = asyncio.ensure_future(self.engine.wait())
        try:
            await asyncio.wait({serving, watching}, return_when=asyncio.FIRST_COMPLETED)
            if serving.done():
                return serving.result()
            session.draining.set()
            await serving
            raise EngineUnavailable("the engine ended; its plaintext went with it")
        finally:
            for task in (serving, watching):
                task.cancel()
            await asyncio.gather(serving, watching, return_exceptions=True)

    def wipe(self) -> None:
        self._wiped = True
        self._let_go()
        self.engine.kill()

    def _take(self, artifact: OpenedArtifact, path: str) -> None:
        """Decrypt on a thread. Nobody can stop a thread, so it looks for itself whether it was wiped meanwhile."""
        descriptor = artifact.into_memfd(path, progress=self._go_on)
        with self._lock:
            late = self._wiped
            if not late:
                self._descriptors.append(descriptor)
        if late:
            os.close(descriptor)
            self._go_on(0, 0)

    def _go_on(self, _done: int, _total: int) -> None:
        if self._wiped:
            raise EngineUnavailable("the worker was wiped while its model was being opened")

    def _let_go(self) -> None:
        with self._lock:
            descriptors, self._descriptors = self._descriptors, []
        for descriptor in descriptors:
            os.close(descriptor)


def find_model(artifacts: Sequence[OpenedArtifact]) -> tuple[str, OpenedArtifact]:
    """The one model file in the artifacts. Raises `MalformedArtifact` if there is none or more than one."""
    found = [(file.path, item) for item in artifacts for file in item.files if file.path.endswith(MODEL_SUFFIX)]
    if len(found) != 1:
        raise MalformedArtifact(
            f"{len(found)} model files where one is needed", remedy=f"Seal a folder with one {MODEL_SUFFIX} file."
        )
    return found[0]
