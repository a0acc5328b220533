"""The process around an engine, with a child that needs no model but is confined like the real one."""

import asyncio
import json
import os
import signal
import threading
from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager

import pytest

from strongroom.engines import process as module
from strongroom.engines.confine import Confinement
from strongroom.engines.port import RequestRejected
from strongroom.engines.process import EngineProcess
from strongroom.errors import ConfinementUnavailable, EngineUnavailable, UsageError


@pytest.fixture(autouse=True)
def fake_child(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "_CHILD", "fake_engine")


def memory(content: bytes) -> int:
    descriptor = os.memfd_create("model")
    os.write(descriptor, content)
    return descriptor


@asynccontextmanager
async def spawned(adapter: str = "fake") -> AsyncGenerator[EngineProcess]:
    engine = EngineProcess(profile="development", adapter=adapter)
    engine.spawn()
    try:
        yield engine
    finally:
        engine.kill()


@asynccontextmanager
async def loaded() -> AsyncGenerator[EngineProcess]:
    async with spawned() as engine:
        model = memory(b"model")
        try:
            await engine.load(model, {})
        finally:
            os.close(model)
        yield engine


async def collect(engine: EngineProcess, operation: str, **request: object) -> list[bytes]:
    return [chunk async for chunk in engine.generate(operation, request)]


def test_requests_run_side_by_side_and_each_gets_its_own_answer():
    async def story() -> None:
        async with loaded() as engine:
            answers = await asyncio.gather(*(collect(engine, "count", to=length) for length in range(12)))
            assert answers == [[str(number).encode() for number in range(length)] for length in range(12)]

    asyncio.run(story())


def test_adapters_are_handed_over_beside_the_model_in_their_order():
    async def story() -> None:
        async with spawned() as engine:
            descriptors = [memory(content) for content in (b"model", b"first", b"second")]
            await engine.load(descriptors[0], {}, descriptors[1:])
            for descriptor in descriptors:
                os.close(descriptor)
            assert [json.loads(said) for said in await collect(engine, "adapters")] == [["first", "second"]]

    asyncio.run(story())


def test_closing_an_answer_stops_the_request_and_no_other():
    async def story() -> None:
        async with loaded() as engine:
            async with aclosing(engine.generate("until-stopped", {})) as endless:
                await anext(endless)
                assert await collect(engine, "count", to=2) == [b"0", b"1"]
            assert await collect(engine, "was-stopped") == [b"true"]

    asyncio.run(story())


def test_cancelling_the_task_stops_the_request():
    async def story() -> None:
        async with loaded() as engine:
            begun = asyncio.Event()

            async def consume() -> None:
                async with aclosing(engine.generate("until-stopped", {})) as endless:
                    async for _ in endless:
                        begun.set()

            task = asyncio.create_task(consume())
            await begun.wait()
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            assert await collect(engine, "was-stopped") == [b"true"]

    asyncio.run(story())


def test_a_rejected_request_carries_the_engines_words_and_leaves_the_engine_alive():
    async def story() -> None:
        async with loaded() as engine:
            with pytest.raises(RequestRejected) as rejection:
                await collect(engine, "reject")
            assert rejection.value.status == 422
            assert rejection.value.reply == b'{"error":{"code":422,"message":"no","type":"odd_error"}}'
            assert await collect(engine, "count", to=1) == [b"0"]

    asyncio.run(story())


def test_an_accident_inside_tells_its_kind_and_not_its_words():
    async def story() -> None:
        async with loaded() as engine:
            with pytest.raises(RequestRejected) as rejection:
                await collect(engine, "break")
            assert rejection.value.status == 500
            assert b"KeyError" in rejection.value.reply
            assert b"secret" not in rejection.value.reply

    asyncio.run(story())


def test_a_request_that_json_cannot_say_is_rejected_before_it_leaves():
    async def story() -> None:
        async with loaded() as engine:
            with pytest.raises(RequestRejected):
                await collect(engine, "count", to=float("inf"))
            assert engine.alive

    asyncio.run(story())


def test_an_engine_that_dies_ends_its_requests_with_an_error():
    async def story() -> None:
        async with loaded() as engine:
            endless = asyncio.create_task(collect(engine, "until-stopped"))
            with pytest.raises(EngineUnavailable):
                await collect(engine, "die")
            with pytest.raises(EngineUnavailable):
                await endless
            await engine.wait()
            assert not engine.alive
            with pytest.raises(EngineUnavailable):
                await collect(engine, "count", to=1)

    asyncio.run(story())


@pytest.mark.parametrize("from_another_thread", [False, True])
def test_a_killed_engine_ends_its_requests_with_an_error(*, from_another_thread: bool):
    async def story() -> None:
        async with loaded() as engine:
            answer = engine.generate("until-stopped", {})
            await anext(answer)
            if from_another_thread:
                thread = threading.Thread(target=engine.kill)
                thread.start()
                await asyncio.to_thread(thread.join)
            else:
                engine.kill()
            with pytest.raises(EngineUnavailable):
                async for _ in answer:
                    pass
            assert not engine.alive

    asyncio.run(story())


def test_a_supervisor_that_is_killed_takes_the_engine_with_it():
    async def story() -> None:
        async with loaded() as engine:
            waiting = asyncio.create_task(engine.wait())
            child = engine._child
            assert child is not None
            os.kill(child.process.pid, signal.SIGKILL)
            await waiting
            assert not engine.alive

    asyncio.run(story())


def test_kill_may_be_called_twice_and_before_anything_was_spawned():
    EngineProcess(profile="development").kill()
    engine = EngineProcess(profile="development")
    engine.spawn()
    engine.kill()
    engine.kill()
    with pytest.raises(EngineUnavailable):
        asyncio.run(engine.ready())


def test_an_engine_is_spawned_once():
    engine = EngineProcess(profile="development")
    engine.spawn()
    try:
        with pytest.raises(EngineUnavailable):
            engine.spawn()
    finally:
        engine.kill()


def test_an_engine_that_was_not_spawned_is_unavailable():
    with pytest.raises(EngineUnavailable):
        asyncio.run(EngineProcess(profile="development").ready())


@pytest.mark.parametrize("adapter", ["no-start", "garbage"])
def test_a_child_that_does_not_start_or_talks_nonsense_is_unavailable(adapter: str):
    async def story() -> None:
        async with spawned(adapter) as engine:
            with pytest.raises(EngineUnavailable):
                await engine.ready()

    asyncio.run(story())


def test_settings_that_make_no_sense_are_a_usage_error():
    async def story() -> None:
        async with spawned() as engine:
            with pytest.raises(UsageError, match="odd settings"):
                await engine.load(memory(b"model"), {"odd": 1})

    asyncio.run(story())


def test_a_model_that_does_not_load_is_unavailable_and_its_words_stay_inside():
    async def story() -> None:
        async with spawned() as engine:
            with pytest.raises(EngineUnavailable) as failure:
                await engine.load(memory(b"other"), {})
            assert "secret" not in failure.value.message
            assert not engine.alive

    asyncio.run(story())


def test_production_hands_no_model_to_an_engine_with_a_missing_measure(monkeypatch: pytest.MonkeyPatch):
    async def story() -> None:
        engine = EngineProcess(profile="production", adapter="fake")
        engine.spawn()
        try:
            outcomes = dict((await engine.ready()).outcomes) | {"seccomp": "the kernel forbids it"}
            monkeypatch.setattr(Confinement, "from_report", lambda _: Confinement(outcomes))
            with pytest.raises(ConfinementUnavailable, match="production") as refusal:
                await engine.load(memory(b"model"), {})
            assert "seccomp: the kernel forbids it" in refusal.value.detail
            assert not engine.alive
        finally:
            engine.kill()

    asyncio.run(story())


def test_a_request_before_the_model_is_unavailable():
    async def story() -> None:
        async with spawned() as engine:
            await engine.ready()
            with pytest.raises(EngineUnavailable):
                await collect(engine, "count", to=1)

    asyncio.run(story())
