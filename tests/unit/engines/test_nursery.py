"""Children from a process that never held a key: like any other, and gone when they should be."""

import asyncio
import os
import signal
import threading
from pathlib import Path

import pytest

from strongroom.engines import process as module
from strongroom.engines.nursery import Nursery
from strongroom.engines.process import EngineProcess
from strongroom.errors import EngineUnavailable


@pytest.fixture
def nursery(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "_CHILD", "fake_engine")
    made = Nursery()
    made.spawn()
    yield made
    made.kill()


async def loaded(nursery: Nursery) -> EngineProcess:
    engine = EngineProcess(profile="development", adapter="fake", spawn=nursery.child)
    engine.spawn()
    model = os.memfd_create("model")
    os.write(model, b"model")
    try:
        await engine.load(model, {})
    finally:
        os.close(model)
    return engine


def test_one_after_the_other_answers_and_ends(nursery):
    async def story() -> None:
        for _ in range(3):
            engine = await loaded(nursery)
            assert [chunk async for chunk in engine.generate("count", {"to": 2})] == [b"0", b"1"]
            await asyncio.to_thread(engine.kill)
            assert not engine.alive
            engine.kill()

    asyncio.run(story())


def test_children_are_not_this_processs_own(nursery):
    before = own_children()

    async def story() -> None:
        engine = await loaded(nursery)
        assert own_children() == before
        engine.kill()

    asyncio.run(story())


def own_children() -> str:
    return Path(f"/proc/self/task/{threading.get_native_id()}/children").read_text(encoding="utf-8")


def test_a_child_that_dies_is_noticed_and_another_one_takes_its_place(nursery):
    async def story() -> None:
        engine = await loaded(nursery)
        with pytest.raises(EngineUnavailable):
            _ = [chunk async for chunk in engine.generate("die", {})]
        await engine.wait()
        engine.kill()
        engine = await loaded(nursery)
        assert [chunk async for chunk in engine.generate("count", {"to": 1})] == [b"0"]
        engine.kill()

    asyncio.run(story())


def test_without_a_nursery_nothing_starts(nursery):
    assert nursery._own is not None
    os.kill(nursery._own.process.pid, signal.SIGKILL)
    nursery._own.process.wait()
    with pytest.raises(EngineUnavailable):
        nursery.child("fake_engine", "fake")
    nursery.kill()
    with pytest.raises(EngineUnavailable):
        nursery.child("fake_engine", "fake")
    nursery.kill()


def test_a_request_too_long_to_be_one_ends_the_nursery_and_not_the_worker(nursery):
    with pytest.raises(EngineUnavailable):
        nursery.child("fake_engine", "x" * 100_000)
