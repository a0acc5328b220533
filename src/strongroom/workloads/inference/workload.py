"""Inference as a workload of a worker.

Knows: which artifact is which model's, and which model a request means. Does not know: HTTP (`services.gateway` is the `front`),
evidence, leases, how a model is kept up (`models`).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Mapping, Sequence
from contextlib import aclosing
from typing import Any, Protocol

from strongroom.channel.pacing import Pacing
from strongroom.engines.nursery import Nursery
from strongroom.errors import EngineUnavailable, MalformedArtifact, UsageError
from strongroom.sealed.open import OpenedArtifact
from strongroom.worker.workload import Session
from strongroom.workloads.inference.models import Engine, Model, Room

MODEL_SUFFIX = ".gguf"


class Front(Protocol):
    """What carries requests to the workload: serves until `session.draining` is set and what is under way has ended."""

    def __call__(self, workload: InferenceWorkload, session: Session) -> Awaitable[None]: ...


class NoSuchModel(UsageError):
    """A request for a model that this worker does not serve; `status` is HTTP's."""

    code = "inference.no_such_model"
    default_remedy = "Ask for one of those that /v1/models lists."
    status = 404


class InferenceWorkload:
    """One or several models, each in a confined engine of its own (`of`); or one in an engine that is there and never starts again.

    `settings` are the engine's (context, threads, slots, name of the model).
    """

    name = "inference"

    def __init__(
        self,
        engine: Engine,
        settings: Mapping[str, str | int],
        front: Front,
        *,
        slots: int = 1,
        queue: int = 16,
        pacing: Pacing | None = None,
    ) -> None:
        only = Model(settings, lambda: engine, slots=slots, queue=queue)
        self._set_up([only], front, pacing=pacing, nursery=None, resident=None)

    @classmethod
    def of(
        cls,
        models: Sequence[Model],
        front: Front,
        *,
        pacing: Pacing | None = None,
        nursery: Nursery | None = None,
        resident: int | None = None,
    ) -> InferenceWorkload:
        """`models` in the order of their artifacts. `nursery` makes their engines and is spawned and ended here.

        `resident` is how many are in memory at once where that is fewer than all. Raises `UsageError` if two share a name.
        """
        made = cls.__new__(cls)
        made._set_up(models, front, pacing=pacing, nursery=nursery, resident=resident)  # noqa: SLF001  # its own class
        return made

    def _set_up(
        self,
        models: Sequence[Model],
        front: Front,
        *,
        pacing: Pacing | None,
        nursery: Nursery | None,
        resident: int | None,
    ) -> None:
        self.models = tuple(models)
        self._leaving: list[Model] = []
        self._beside = False
        self.pacing = pacing if pacing is not None else Pacing()
        self._front, self._nursery = front, nursery
        places = len(self.models) if resident is None else resident
        if places < len(self.models):
            for model in self.models:
                model.takes_turns()
        self._room = Room(self.models, places)
        self._names = {name: model for model in self.models for name in (model.name, *model.adapters)}
        if len(self._names) != sum(1 + len(model.adapters) for model in self.models):
            raise UsageError("two models of one name", remedy="Give each its own: NAME=REFERENCE.")

    @property
    def model(self) -> str:
        """The name of the model, or of the first one."""
        return self.models[0].name

    @property
    def names(self) -> tuple[str, ...]:
        """All names under which something is served."""
        return tuple(self._names)

    def choose(self, named: object) -> Model:
        """The model that a request means. A worker with one name takes any. Raises `NoSuchModel`."""
        if len(self._names) == 1:
            return self.models[0]
        found = self._names.get(named) if isinstance(named, str) else None
        if found is None:
            raise NoSuchModel("there is no model of this name here")
        return found

    async def generate(
        self, model: Model, named: object, operation: str, request: Mapping[str, Any], whose: str | None = None
    ) -> AsyncGenerator[bytes]:
        """What the model says once it is this request's turn. `named` is the name it was asked by: an adapter's goes to the engine.

        Raises `ComeBack`, and as `engines.port.Generator.generate`.
        """
        asked = {**request, "model": named} if named in model.adapters else request
        async with model.line.turn(whose), self._room.use(model), aclosing(model.generate(operation, asked)) as chunks:
            async for chunk in chunks:
                yield chunk

    def prepare(self) -> None:
        if self._nursery is not None:
            self._nursery.spawn()
        for model in self.models:
            model.prepare()

    async def open(self, artifacts: Sequence[OpenedArtifact]) -> str:
        if len(self.models) == 1:
            only = self.models[0]
            beside: tuple[tuple[OpenedArtifact, str], ...] = ()
            if not only.whole:  # the model, then its adapters
                beside = tuple((each, find_model([each])[0]) for each in artifacts[1:])
                artifacts = artifacts[:1]
                self._beside = bool(beside)
            told = await self._open(only, artifacts, beside)
            return told or "the model is ready to be loaded"
        if len(artifacts) != len(self.models):
            raise MalformedArtifact(f"{len(artifacts)} artifacts for {len(self.models)} models")
        said = [await self._open(model, [artifact]) for model, artifact in zip(self.models, artifacts, strict=True)]
        missing = next((words for words in said if words), "each is loaded when it is asked for")
        return f"{len(self.models)} models: {missing}"

    @property
    def exchangeable(self) -> int:
        """How many of its artifacts can be exchanged: all models, but none whose adapters were opened with it."""
        return 0 if self._beside else len(self.models)

    async def exchange(self, position: int, artifact: OpenedArtifact) -> str:
        """Another artifact for one of the models; both are in memory until the last request of the old one has ended."""
        old = self.models[position]
        new = old.successor()
        self._leaving = [new]  # wiped with all others, should all be wiped now
        try:
            await asyncio.to_thread(new.prepare)
            said = await self._open(new, [artifact])
        except BaseException:
            new.stop()
            await asyncio.to_thread(new.wipe)
            raise
        self.models = tuple(new if model is old else model for model in self.models)
        self._names = {name: new if model is old else model for name, model in self._names.items()}
        self._room.exchange(old, new)
        self._leaving = [old]
        await old.retire()
        self._leaving = []
        return said or "it is loaded when it is asked for"

    async def _open(
        self, model: Model, artifacts: Sequence[OpenedArtifact], adapters: Sequence[tuple[OpenedArtifact, str]] = ()
    ) -> str:
        artifact, paths = model_files(artifacts, whole=model.whole)
        confinement = await model.open(artifact, paths, adapters)
        if confinement is None:
            return ""
        missing = "; ".join(f"{name}: {reason}" for name, reason in confinement.missing.items())
        broken = sorted(model.beside.broken)
        beside = f" with {len(adapters) - len(broken)} adapters" if adapters else ""
        if broken:
            beside += f", without those that it cannot read (by place: {', '.join(str(1 + place) for place in broken)})"
        return f"the model is in memory{beside}, its engine confined{f', but for {missing}' if missing else ''}"

    async def run(self, session: Session) -> None:
        serving = asyncio.ensure_future(self._front(self, session))
        watching = asyncio.ensure_future(self._all_lost())
        try:
            await asyncio.wait({serving, watching}, return_when=asyncio.FIRST_COMPLETED)
            if serving.done():
                return serving.result()
            session.draining.set()
            await serving
            raise EngineUnavailable("the engine ended; its plaintext went with it")
        finally:
            for model in self.models:
                model.stop()
            for task in (serving, watching):
                task.cancel()
            await asyncio.gather(serving, watching, return_exceptions=True)

    async def _all_lost(self) -> None:
        """A model that makes way is lost too, and then another one is looked at."""
        while left := [model for model in self.models if not model.lost.is_set()]:
            await left[0].lost.wait()

    def wipe(self) -> None:
        for model in (*self.models, *self._leaving):
            model.wipe()
        if self._nursery is not None:
            self._nursery.kill()


def model_files(artifacts: Sequence[OpenedArtifact], *, whole: bool) -> tuple[OpenedArtifact, tuple[str, ...]]:
    """The artifact and the files that an engine gets: the one model file, or all of one artifact. Raises `MalformedArtifact`."""
    if whole:
        (artifact,) = artifacts
        return artifact, tuple(file.path for file in artifact.files)
    path, artifact = find_model(artifacts)
    return artifact, (path,)


def find_model(artifacts: Sequence[OpenedArtifact]) -> tuple[str, OpenedArtifact]:
    """The one model file in the artifacts. Raises `MalformedArtifact` if there is none or more than one."""
    found = [(file.path, item) for item in artifacts for file in item.files if file.path.endswith(MODEL_SUFFIX)]
    if len(found) != 1:
        raise MalformedArtifact(
            f"{len(found)} model files where one is needed", remedy=f"Seal a folder with one {MODEL_SUFFIX} file."
        )
    return found[0]
