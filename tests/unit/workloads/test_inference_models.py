"""Engines that crash, start again, stay down, and take turns in the memory; the engines are doubles, the plaintext is not."""

import asyncio
import os
import threading
from collections import deque
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from strongroom.crypto.hpke import ReleaseKey
from strongroom.crypto.signatures import generate_p256
from strongroom.engines.confine import Confinement
from strongroom.errors import EngineUnavailable, UsageError
from strongroom.records.artifact import ArtifactKind, KeyWrap
from strongroom.sealed.open import Opener
from strongroom.sealed.registries import from_reference
from strongroom.sealed.seal import seal
from strongroom.sealed.wrapping import wrap_to
from strongroom.workloads.inference.models import Model, Restarting, Restarts, Room
from strongroom.workloads.inference.weights import Keep, Weights
from strongroom.workloads.inference.workload import InferenceWorkload, NoSuchModel

QUICK = Restarts(most=2, pause=0.0)


class Double:
    """An engine that says its model's bytes and dies on demand."""

    def __init__(self, made: list["Double"]) -> None:
        made.append(self)
        self.spawned = self.killed = False
        self.content = b""
        self.asked: list[Mapping[str, Any]] = []
        self.gone = asyncio.Event()
        self.hold: asyncio.Event | None = None

    def spawn(self) -> None:
        self.spawned = True

    async def load(self, model: int, settings: Mapping[str, str | int]) -> Confinement:
        assert self.spawned
        if settings.get("broken"):
            raise EngineUnavailable("the engine ended")
        self.content = os.pread(model, 100, 0)
        return Confinement(dict.fromkeys(Confinement.NAMES, "yes"))

    async def generate(self, operation: str, request: Mapping[str, Any]) -> AsyncGenerator[bytes]:  # noqa: ARG002
        self.asked.append(request)
        yield self.content
        if self.hold is not None:
            await self.hold.wait()
        if self.gone.is_set():
            raise EngineUnavailable("the engine ended before its answer did")

    async def wait(self) -> None:
        await self.gone.wait()

    def kill(self) -> None:
        self.killed = True
        self.gone.set()


@pytest.fixture
def sealed(tmp_path: Path):
    """Opens an artifact with one model file of these bytes."""
    owner, keys = generate_p256(), {}

    def opened(content: bytes):
        tag = content.decode()
        source = tmp_path / tag
        source.mkdir()
        (source / "m.gguf").write_bytes(content)

        def wrap(of, data_key: bytes) -> KeyWrap:
            keys[tag] = data_key
            return wrap_to([ReleaseKey.generate().public])(of, data_key)

        registry, _ = from_reference(f"dir:{tmp_path / 'registry'}")
        seal(source, registry, kind=ArtifactKind.MODEL, wrap=wrap, signer=owner, tag=tag)
        return Opener(registry, tag, signer_public=owner.public_key()).open(keys[tag])

    return opened


@asynccontextmanager
async def serving(sealed, *contents: bytes, resident: int | None = None, **options: Any):
    """A workload with a model for each content, opened as a worker opens them: the artifacts are closed afterwards."""
    made: list[Double] = []
    told: list[str] = []
    models = [
        Model({"name": content.decode()}, lambda: Double(made), told=told.append, **options) for content in contents
    ]

    async def front(_workload, _session) -> None:
        raise AssertionError("nothing is served here")

    workload = InferenceWorkload.of(models, front, resident=resident)
    workload.prepare()
    artifacts = [sealed(content) for content in contents]
    try:
        await workload.open(artifacts)
        for artifact in artifacts:
            artifact.close()
        yield workload, made, told
    finally:
        for model in models:
            model.stop()
        workload.wipe()


async def ask(workload: InferenceWorkload, name: str) -> bytes:
    model = workload.choose(name)
    return b"".join([chunk async for chunk in workload.generate(model, name, "completions", {"prompt": "x"})])


async def until(condition) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110  # what is awaited tells nobody
            await asyncio.sleep(0.001)


def test_each_model_answers_to_its_name_and_no_other_name_is_there(sealed):
    async def story() -> None:
        async with serving(sealed, b"one", b"two") as (workload, made, _):
            assert workload.names == ("one", "two")
            assert await ask(workload, "one") == b"one"
            assert await ask(workload, "two") == b"two"
            assert len({workload.choose(name).artifact for name in ("one", "two")}) == 2
            for unknown in ("three", None, 7, ["one"]):
                with pytest.raises(NoSuchModel):
                    workload.choose(unknown)
            assert all("model" not in request for engine in made for request in engine.asked)

    asyncio.run(story())


def test_a_worker_with_one_name_takes_any_and_an_adapters_name_goes_to_the_engine(sealed):
    async def story() -> None:
        async with serving(sealed, b"one") as (workload, _, _):
            assert workload.choose("gpt-4o") is workload.choose(None)
        async with serving(sealed, b"two", adapters=["style"]) as (workload, (engine,), _):
            assert workload.names == ("two", "style")
            await ask(workload, "style")
            await ask(workload, "two")
            assert [request.get("model") for request in engine.asked] == ["style", None]
            with pytest.raises(NoSuchModel):
                workload.choose("other")

    asyncio.run(story())


def test_two_models_of_one_name_are_refused():
    models = [Model({"name": "same"}, lambda: Double([])) for _ in range(2)]
    with pytest.raises(UsageError, match="one name"):
        InferenceWorkload.of(models, lambda *_: asyncio.sleep(0))  # type: ignore[arg-type]


def test_a_crash_costs_its_request_and_the_next_is_answered_by_a_new_engine(sealed):
    async def story() -> None:
        async with serving(sealed, b"one", restarts=QUICK) as (workload, made, told):
            made[0].hold = asyncio.Event()
            answer = workload.generate(workload.models[0], "one", "completions", {})
            assert await anext(answer) == b"one"
            made[0].gone.set()
            made[0].hold.set()
            with pytest.raises(EngineUnavailable):
                await anext(answer)
            await until(lambda: len(made) == 2 and workload.models[0].up)
            assert made[0].killed
            assert await ask(workload, "one") == b"one"
            assert any("ended" in words for words in told)

    asyncio.run(story())


def test_between_a_crash_and_the_new_start_a_request_is_told_when_to_come_back(sealed):
    async def story() -> None:
        async with serving(sealed, b"one", restarts=Restarts(most=1, pause=25.0)) as (workload, made, told):
            made[0].gone.set()
            await until(lambda: len(told) == 1)
            with pytest.raises(Restarting) as refusal:
                workload.models[0].check()
            assert (refusal.value.status, refusal.value.retry_after) == (503, 25)
            with pytest.raises(Restarting):
                await ask(workload, "one")
            assert not workload.models[0].lost.is_set()

    asyncio.run(story())


def test_an_engine_that_crashes_too_often_stays_down_and_the_other_models_serve_on(sealed):
    async def story() -> None:
        async with serving(sealed, b"one", b"two", restarts=QUICK) as (workload, made, _):
            one, two = workload.models
            for starts in (3, 4):
                engine = one._engine
                assert isinstance(engine, Double)
                engine.gone.set()
                await until(lambda starts=starts: len(made) == starts and one.up)
            one._engine.gone.set()  # type: ignore[union-attr]
            await one.lost.wait()
            with pytest.raises(Restarting):
                one.check()
            with pytest.raises(Restarting):
                await ask(workload, "one")
            assert await ask(workload, "two") == b"two"
            assert len(made) == 4
            assert not two.lost.is_set()

    asyncio.run(story())


def test_without_restarts_one_crash_is_the_end_and_no_plaintext_stays(sealed):
    async def story() -> None:
        async with serving(sealed, b"one") as (workload, made, _):
            assert not workload.models[0]._weights._files
            made[0].gone.set()
            await workload.models[0].lost.wait()
            assert len(made) == 1

    asyncio.run(story())


def test_pauses_double_and_old_crashes_are_forgotten():
    crashes: deque[float] = deque()
    restarts = Restarts(most=3, seconds=100.0, pause=1.0)
    assert [restarts.after(crashes, now) for now in (0.0, 1.0, 2.0, 3.0)] == [1.0, 2.0, 4.0, None]
    assert restarts.after(crashes, 500.0) == 1.0


def test_models_take_turns_in_less_memory_than_all_of_them_need(sealed):
    async def story() -> None:
        async with serving(sealed, b"one", b"two", b"three", resident=2) as (workload, made, told):
            assert made == []
            for name in ("one", "two", "three", "one", "three"):
                assert await ask(workload, name) == name.encode()
                assert sum(model.up for model in workload.models) <= 2
                assert all(not model._weights._files for model in workload.models)
            assert [engine.content for engine in made] == [b"one", b"two", b"three", b"one"]
            assert [engine.killed for engine in made] == [True, True, False, False]
            assert sum("make room" in words for words in told) == 2

    asyncio.run(story())


def test_a_model_in_use_is_not_put_down_and_cannot_keep_another_one_out(sealed):
    async def story() -> None:
        async with serving(sealed, b"one", b"two", resident=1, slots=2) as (workload, made, _):
            await ask(workload, "one")
            hold = made[0].hold = asyncio.Event()
            held = asyncio.create_task(ask(workload, "one"))
            await until(lambda: workload.models[0].users == 1)
            other = asyncio.create_task(ask(workload, "two"))
            await asyncio.sleep(0.01)
            late = asyncio.create_task(ask(workload, "one"))
            await asyncio.sleep(0.01)
            assert not made[0].killed
            assert len(made[0].asked) == 2, "a newcomer went past the one that waits"
            hold.set()
            assert await asyncio.gather(held, other, late) == [b"one", b"two", b"one"]
            assert [engine.content for engine in made] == [b"one", b"two", b"one"]

    asyncio.run(story())


def test_a_model_that_does_not_load_on_demand_is_an_error_and_leaves_room(sealed):
    async def story() -> None:
        async with serving(sealed, b"one", b"two", resident=1) as (workload, made, _):
            workload.models[0].settings = {"name": "one", "broken": 1}
            with pytest.raises(EngineUnavailable):
                await ask(workload, "one")
            assert made[0].killed
            assert await ask(workload, "two") == b"two"

    asyncio.run(story())


def test_after_a_crash_on_demand_the_next_request_brings_it_up(sealed):
    async def story() -> None:
        async with serving(sealed, b"one", b"two", resident=1, restarts=QUICK) as (workload, made, _):
            await ask(workload, "one")
            made[0].gone.set()
            await until(lambda: not workload.models[0].up and made[0].killed)
            assert await ask(workload, "one") == b"one"
            assert len(made) == 2

    asyncio.run(story())


def test_whoever_gives_up_while_a_model_loads_harms_nobody(sealed):
    async def story() -> None:
        async with serving(sealed, b"one", b"two", resident=1) as (workload, _, _):
            asking = asyncio.create_task(ask(workload, "one"))
            await asyncio.sleep(0)
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
            assert await ask(workload, "two") == b"two"
            assert sum(model.up for model in workload.models) == 1

    asyncio.run(story())


def test_whoever_gives_up_while_a_model_is_put_down_lets_nobody_load_before_its_memory_is_back():
    happened, ending, go = [], threading.Event(), threading.Event()

    class Slow:
        def kill(self) -> None:
            ending.set()
            go.wait(20)
            happened.append("memory is back")

        async def wait(self) -> None:
            await asyncio.Event().wait()

    class Light(Model):
        async def bring_up(self) -> None:  # type: ignore[override]
            happened.append(self.name)
            self.attach(Slow())  # type: ignore[arg-type]

    async def story() -> None:
        models = [Light({"name": name}, Slow) for name in "abc"]  # type: ignore[arg-type]
        for model in models:
            model.takes_turns()
        room = Room(models, 1)

        async def use(model: Model) -> None:
            async with room.use(model):
                pass

        await use(models[0])
        gives_up = asyncio.create_task(use(models[1]))
        await asyncio.to_thread(ending.wait)
        gives_up.cancel()
        third = asyncio.create_task(use(models[2]))
        for _ in range(5):
            await asyncio.sleep(0)
        assert happened == ["a"]
        go.set()
        await asyncio.gather(gives_up, third, return_exceptions=True)
        assert gives_up.cancelled()
        assert happened == ["a", "memory is back", "c"]
        for model in models:
            model.stop()

    try:
        asyncio.run(story())
    finally:
        go.set()


def test_wiped_means_no_engine_no_plaintext_and_no_key(sealed):
    async def story() -> None:
        async with serving(sealed, b"one", restarts=QUICK) as (workload, made, _):
            (descriptor,) = workload.models[0]._weights.files().values()
            workload.wipe()
            assert made[0].killed
            with pytest.raises(OSError, match="Bad file"):
                os.fstat(descriptor)
            with pytest.raises(EngineUnavailable):
                workload.models[0]._weights.files()
        async with serving(sealed, b"two", b"three", resident=1) as (workload, _, _):
            artifact = workload.models[0]._weights._artifact
            assert artifact is not None
            workload.wipe()
            with pytest.raises(UsageError):
                artifact.read("m.gguf")
            with pytest.raises(EngineUnavailable):
                await ask(workload, "two")

    asyncio.run(story())


def test_what_is_decrypted_after_the_wipe_is_closed_at_once(sealed):
    weights = Weights(Keep.PLAIN)
    weights.wipe()
    with pytest.raises(EngineUnavailable):
        weights.take(sealed(b"late"), ("m.gguf",))
    assert not weights._files
    kept = Weights(Keep.SEALED)
    kept.wipe()
    artifact = sealed(b"later")
    with pytest.raises(EngineUnavailable):
        kept.take(artifact, ("m.gguf",))
    assert kept._artifact is None


def test_a_moved_artifact_lives_on_when_its_first_owner_closes(sealed):
    first = sealed(b"moved")
    second = first.moved()
    first.close()
    assert second.read("m.gguf") == b"moved"
    with pytest.raises(UsageError):
        first.read("m.gguf")
    second.close()


def test_room_for_all_asks_nobody_to_wait():
    async def story() -> None:
        made: list[Double] = []
        models = [Model({"name": str(number)}, lambda: Double(made)) for number in range(2)]
        room = Room(models, 2)
        async with room.use(models[0]), room.use(models[1]):
            assert [model.users for model in models] == [1, 1]
        assert made == []

    asyncio.run(story())


def test_another_artifact_takes_the_place_of_a_model_once_its_last_request_has_ended(sealed):
    async def story() -> None:
        async with serving(sealed, b"one", b"two") as (workload, made, _):
            old, made[0].hold = workload.models[0], asyncio.Event()
            early = asyncio.create_task(ask(workload, "one"))
            await until(lambda: made[0].asked)
            with sealed(b"three") as artifact:
                exchanging = asyncio.create_task(workload.exchange(0, artifact))
                await until(lambda: workload.models[0] is not old)
                assert await ask(workload, "one") == b"three"
                assert workload.models[0].artifact == artifact.digest != old.artifact
                assert not made[0].killed
                made[0].hold.set()
                assert await early == b"one"
                assert "in memory" in await exchanging
            assert (made[0].killed, made[2].killed) == (True, False)
            with pytest.raises(EngineUnavailable):
                old._weights.files()
            with pytest.raises(Restarting):  # who chose it before, and comes late
                await anext(workload.generate(old, "one", "completions", {}))
            assert await ask(workload, "two") == b"two"
            assert workload.names == ("one", "two")

    asyncio.run(story())


def test_models_that_take_turns_are_exchanged_without_being_loaded(sealed):
    async def story() -> None:
        async with serving(sealed, b"one", b"two", resident=1) as (workload, made, _):
            assert await ask(workload, "one") == b"one"
            with sealed(b"three") as artifact:
                assert await workload.exchange(0, artifact) == "it is loaded when it is asked for"
            assert [engine.killed for engine in made] == [True]
            for name, content in (("one", b"three"), ("two", b"two"), ("one", b"three")):
                assert await ask(workload, name) == content
                assert sum(model.up for model in workload.models) <= 1

    asyncio.run(story())


def test_where_the_new_one_does_not_load_the_old_one_stays(sealed, monkeypatch):
    async def broken(_self, _model, _settings) -> Confinement:
        raise EngineUnavailable("the engine ended")

    async def story() -> None:
        async with serving(sealed, b"one") as (workload, made, _):
            with monkeypatch.context() as changed, sealed(b"three") as artifact:
                changed.setattr(Double, "load", broken)
                with pytest.raises(EngineUnavailable):
                    await workload.exchange(0, artifact)
            assert await ask(workload, "one") == b"one"
            assert [engine.killed for engine in made] == [False, True]
            with sealed(b"four") as artifact:
                await workload.exchange(0, artifact)
            assert await ask(workload, "one") == b"four"

    asyncio.run(story())


def test_all_are_lost_only_when_those_that_are_there_now_are(sealed):
    async def story() -> None:
        async with serving(sealed, b"one") as (workload, made, _):
            lost = asyncio.create_task(workload._all_lost())
            with sealed(b"three") as artifact:
                await workload.exchange(0, artifact)
            await asyncio.sleep(0)
            assert not lost.done()
            made[1].kill()
            async with asyncio.timeout(10):
                await lost

    asyncio.run(story())


def test_what_is_wiped_meanwhile_is_wiped_whole(sealed):
    async def story() -> None:
        async with serving(sealed, b"one") as (workload, made, _):
            made[0].hold = asyncio.Event()
            asking = asyncio.create_task(ask(workload, "one"))
            await until(lambda: made[0].asked)
            with sealed(b"three") as artifact:
                exchanging = asyncio.create_task(workload.exchange(0, artifact))
                await until(lambda: len(made) > 1 and made[1].content)
                workload.wipe()
            assert all(engine.killed for engine in made)
            made[0].hold.set()
            await asyncio.gather(asking, exchanging, return_exceptions=True)
            assert all(model._weights._artifact is None and not model._weights._files for model in workload.models)

    asyncio.run(story())
