"""The models of a worker: each in an engine of its own, which may crash and start again, or take turns in the memory with others.

A crashed engine costs its requests an error and nobody else anything: it starts again after a pause, from plaintext or a data key that
the worker holds already, so that nothing is released anew and nothing is opened that was not measured at the start. After too many
crashes it stays down: something that crashes as often is broken, or being probed.

Knows: the states of an engine, its line, who makes room for whom. Does not know: which library runs (`make`), HTTP, receipts.
An artifact that was not named at the start comes in a `successor` under the same name, once it was measured and released
(`worker.later`); the other is let go of when its last request has ended. Not covered: a further name.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from strongroom.engines.measures import Measures
from strongroom.errors import EngineUnavailable, StrongroomError
from strongroom.records.digest import Digest
from strongroom.sealed.open import OpenedArtifact
from strongroom.workloads.inference.adapters import Adapters
from strongroom.workloads.inference.queue import ComeBack, Line
from strongroom.workloads.inference.weights import Keep, Weights

MAX_PAUSE = 30.0
"""Seconds between a crash and the next start, at most."""


class Engine(Protocol):
    """What a model runs in (`engines.process`, `engines.server`), besides `engines.port.Generator`."""

    def spawn(self) -> None: ...

    async def load(self, model: int, settings: Mapping[str, str | int], adapters: Sequence[int] = ()) -> Measures: ...

    def generate(self, operation: str, request: Mapping[str, Any]) -> AsyncGenerator[bytes]: ...

    async def wait(self) -> None: ...

    def kill(self) -> None: ...


@runtime_checkable
class FolderEngine(Protocol):
    """An engine that takes all files of its artifact and not just the one model file."""

    async def load_folder(self, files: Mapping[str, int], settings: Mapping[str, str | int]) -> Measures: ...


class Restarting(ComeBack):
    """The engine crashed and starts again; `retry_after` says when."""


@dataclass(frozen=True, slots=True)
class Restarts:
    """At most `most` new starts in any `seconds`; before the first a pause of `pause` seconds, before each further one twice that."""

    most: int = 0
    seconds: float = 600.0
    pause: float = 0.5

    def after(self, crashes: deque[float], now: float) -> float | None:
        """The pause after one more crash at `now`; None if there were too many. `crashes` are the moments of those before."""
        while crashes and now - crashes[0] > self.seconds:
            crashes.popleft()
        crashes.append(now)
        return None if len(crashes) > self.most else min(self.pause * 2 ** (len(crashes) - 1), MAX_PAUSE)


class Model:
    """One model under one name. `settings` are its engine's and have the `name`; `make` makes an engine that is not spawned yet.

    `adapters` are further names that the engine itself knows (LoRA). `whole` engines get all files of
    the artifact. `told` is given a sentence for each start and crash. For one
    event loop, but for `wipe`.
    """

    def __init__(
        self,
        settings: Mapping[str, str | int],
        make: Callable[[], Engine],
        *,
        slots: int = 1,
        queue: int = 16,
        restarts: Restarts = Restarts(),
        adapters: Sequence[str] = (),
        whole: bool = False,
        told: Callable[[str], None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.settings, self.adapters, self.whole = settings, tuple(adapters), whole
        self.line = Line(slots, queue, clock)
        self.artifact: Digest | None = None
        self.beside = Adapters()
        self.lost = asyncio.Event()
        self.users, self.used = 0, 0.0
        self._make, self._restarts, self._told, self._clock = make, restarts, told, clock
        self._weights = Weights(Keep.PLAIN if restarts.most else Keep.NOTHING)
        self._engine: Engine | None = None
        self._up = self._wiped = False
        self._crashes: deque[float] = deque()
        self._back_at = 0.0
        self._watching: set[asyncio.Task[None]] = set()

    @property
    def name(self) -> str:
        return str(self.settings["name"])

    @property
    def up(self) -> bool:
        """Whether an engine has it in memory."""
        return self._up

    def takes_turns(self) -> None:
        """Its engine is made when it is asked for and ended to make room; the data key stays."""
        self._weights = Weights(Keep.SEALED)

    def successor(self) -> Model:
        """One like it and still empty, for another artifact under the same name; it has its own line and engines."""
        made = Model(
            self.settings,
            self._make,
            slots=self.line.slots,
            queue=self.line.room,
            restarts=self._restarts,
            adapters=self.adapters,
            whole=self.whole,
            told=self._told,
            clock=self._clock,
        )
        made._weights = Weights(self._weights.keep)  # its own class
        return made

    async def retire(self) -> None:
        """Wait until all who are in its line had their turn, and wipe it. Who comes late is told to come back."""
        async with self.line.alone():
            self.stop()
            await asyncio.to_thread(self.wipe)
            self.lost.set()

    def prepare(self) -> None:
        """Spawn the first engine. Raises `EngineUnavailable`."""
        if self._weights.keep is not Keep.SEALED:
            self._engine = self._make()
            self._engine.spawn()

    async def open(
        self, artifact: OpenedArtifact, paths: tuple[str, ...], beside: Sequence[tuple[OpenedArtifact, str]] = ()
    ) -> Measures | None:
        """Take the artifact, and adapters `beside` it; load it, unless it takes turns.

        The engine's confinement. Raises what opening and loading raise.
        """
        self.artifact, self.beside = artifact.digest, Adapters([each.digest for each, _ in beside])
        await asyncio.to_thread(self._weights.take, artifact, paths, beside)
        return None if self._weights.keep is Keep.SEALED else await self.bring_up()

    async def bring_up(self) -> Measures:
        """Make an engine, unless there is one, and load the model. Raises `EngineUnavailable`, `UsageError` and `SealBroken`."""
        began = self._clock()
        try:
            engine = self._engine if self._engine is not None else await asyncio.to_thread(self._spawned)
            self._engine = engine
            files = await asyncio.to_thread(self._weights.files)
            engine, confinement = await self._loaded(engine, files)
            self._unless_wiped()
        except BaseException:
            self._let_go()
            raise
        finally:
            self._weights.handed_over()
        self.attach(engine)
        if self._crashes or self._weights.keep is Keep.SEALED:  # the first of all is told with the worker's own state
            self._told(f"{self.name}: in memory after {self._clock() - began:.1f} s")
        return confinement

    async def _loaded(self, engine: Engine, files: Mapping[str, int]) -> tuple[Engine, Measures]:
        """The engine that has the model and each adapter that can be read. Raises as `bring_up`."""
        beside = self.beside.readable(self._weights.beside())
        try:
            return engine, await _load(engine, files, self.settings, list(beside.values()))
        except EngineUnavailable:
            if not beside:
                raise
        alone = await self._try(files, [])  # or it is the model's own fault
        broken = set(beside) if len(beside) == 1 else set()
        for place, adapter in beside.items() if len(beside) > 1 else ():
            try:
                await self._try(files, [adapter])
            except EngineUnavailable:
                broken.add(place)
        self.beside.broken |= broken
        good = self.beside.readable(self._weights.beside())
        return await self._try(files, list(good.values())) if len(beside) > 1 else alone

    async def _try(self, files: Mapping[str, int], beside: Sequence[int]) -> tuple[Engine, Measures]:
        """Another engine with these adapters; the one before is ended."""
        self._let_go()
        self._unless_wiped()
        engine = self._engine = await asyncio.to_thread(self._spawned)
        return engine, await _load(engine, files, self.settings, beside)

    def attach(self, engine: Engine) -> None:
        """This engine has the model in memory."""
        self._engine, self._up = engine, True
        watch = asyncio.create_task(self._watch(engine))
        self._watching.add(watch)
        watch.add_done_callback(self._watching.discard)

    async def put_down(self) -> None:
        """End the engine, to make room. Its memory is given back when this returns."""
        engine, self._engine, self._up = self._engine, None, False
        if engine is not None:
            await asyncio.to_thread(engine.kill)
            self._told(f"{self.name}: out of memory, to make room")

    def check(self, whose: str | None = None) -> None:
        """Raises `Restarting`, `Full` or `TooMany` for a request that need not be read any further."""
        if self.lost.is_set():
            raise Restarting("this model's engine crashed too often and stays down", retry_after=60)
        if not self._up and (left := self._back_at - self._clock()) > 0:
            raise Restarting("the engine crashed and starts again", retry_after=max(1, math.ceil(left)))
        self.line.check(whose)

    def generate(self, operation: str, request: Mapping[str, Any]) -> AsyncGenerator[bytes]:
        """What `engines.port.Generator.generate` says. Raises `Restarting`, at once, while there is no engine, and `AdapterUnreadable`."""
        request = self.beside.placed(operation, request)
        self.check_engine()
        engine = self._engine
        if engine is None or not self._up:
            raise Restarting("the engine starts again")
        return engine.generate(operation, request)

    def check_engine(self) -> None:
        """Raises `Restarting` while it makes no sense to start an engine."""
        if self.lost.is_set() or (not self._up and self._clock() < self._back_at):
            raise Restarting("the engine crashed and starts again", retry_after=1)

    def stop(self) -> None:
        """No new starts."""
        for watch in self._watching:
            watch.cancel()

    def wipe(self) -> None:
        """End the engine, close the plaintext, overwrite the key. Never fails, also when called twice."""
        self._wiped = True
        self._weights.wipe()
        self._let_go()

    def _unless_wiped(self) -> None:
        if self._wiped:
            raise EngineUnavailable("the worker was wiped while its model was being loaded")

    def _let_go(self) -> None:
        engine, self._engine, self._up = self._engine, None, False
        if engine is not None:
            engine.kill()

    def _spawned(self) -> Engine:
        engine = self._make()
        engine.spawn()
        return engine

    async def _watch(self, engine: Engine) -> None:
        await engine.wait()
        if self._engine is not engine or self._wiped:
            return  # it was put down
        self._engine, self._up = None, False
        await asyncio.to_thread(engine.kill)
        while (pause := self._restarts.after(self._crashes, self._clock())) is not None:
            self._back_at = self._clock() + pause
            self._told(f"{self.name}: its engine ended; it may start again in {pause:.1f} s")
            await asyncio.sleep(pause)
            if self._weights.keep is Keep.SEALED:
                return  # whoever asks next brings it up
            try:
                await self.bring_up()
            except StrongroomError:
                continue
            return
        self._told(f"{self.name}: its engine ended and stays down")
        self.lost.set()


async def _load(
    engine: Engine, files: Mapping[str, int], settings: Mapping[str, str | int], beside: Sequence[int]
) -> Measures:
    if isinstance(engine, FolderEngine):
        return await engine.load_folder(files, settings)
    (model,) = files.values()
    return await (engine.load(model, settings, beside) if beside else engine.load(model, settings))


class Room:
    """Room in memory for `places` of the models at once; who is not in has to wait until a model that nobody uses makes room.

    Requests pass one door in the order of their arrival, so that a model in constant use cannot keep the others out for ever.
    """

    def __init__(self, models: Sequence[Model], places: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._models, self._places, self._clock = models, places, clock
        self._door = asyncio.Lock()
        self._left = asyncio.Event()

    @contextlib.asynccontextmanager
    async def use(self, model: Model) -> AsyncIterator[None]:
        """`model` is in memory within, unless it crashes. Raises `Restarting`, and what loading raises."""
        if self._places < len(self._models):
            async with self._door:
                await self._enter(model)
                model.users += 1
        else:
            model.users += 1
        try:
            yield
        finally:
            model.users -= 1
            model.used = self._clock()
            self._left.set()

    def exchange(self, old: Model, new: Model) -> None:
        """`new` has the place of `old`."""
        self._models = [new if model is old else model for model in self._models]

    async def _enter(self, model: Model) -> None:
        model.check_engine()
        if model.up:
            return
        while sum(other.up for other in self._models) >= self._places:
            idle = [other for other in self._models if other.up and not other.users]
            if idle:
                await _whole(min(idle, key=lambda other: other.used).put_down())
                continue
            self._left.clear()
            await self._left.wait()
        await _whole(model.bring_up())


async def _whole(work: Coroutine[Any, Any, object]) -> None:
    """`work`, to its end also where whoever asked is gone: nobody passes the door while something loads or is put down."""
    working = asyncio.create_task(work)
    try:
        await asyncio.shield(working)
    except asyncio.CancelledError:
        await asyncio.gather(working, return_exceptions=True)
        raise
