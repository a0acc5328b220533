"""Adapters beside a model: one that the engine cannot read is nobody's but its owner's trouble."""

import asyncio
import os
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any

import pytest

from strongroom.engines.confine import Confinement
from strongroom.engines.steering import Steering
from strongroom.errors import EngineUnavailable, MalformedMessage
from strongroom.records.digest import digest_bytes
from strongroom.workloads.inference.adapters import Adapters, AdapterUnreadable
from strongroom.workloads.inference.models import Model, Restarts

NAMES = [b"bad 1", b"good 1", b"bad 2", b"good 2", b"good 3"]


class Memory:
    """An opened artifact of one file."""

    def __init__(self, content: bytes) -> None:
        self.content, self.digest = content, digest_bytes(content)

    def into_memfd(self, _path: str, **_: Any) -> int:
        descriptor = os.memfd_create("test")
        os.write(descriptor, self.content)
        return descriptor


class Reader:
    """An engine that ends at a bad adapter, or at a bad model."""

    made: list["Reader"]

    def __init__(self) -> None:
        self.adapters: list[bytes] = []
        self.asked: list[Mapping[str, Any]] = []
        self.spawned = self.killed = False
        self.gone = asyncio.Event()
        self.made.append(self)

    def spawn(self) -> None:
        self.spawned = True

    async def load(self, model: int, _: Mapping[str, str | int], adapters: Sequence[int] = ()) -> Confinement:
        assert self.spawned
        self.adapters = [os.pread(adapter, 100, 0) for adapter in adapters]
        if any(content.startswith(b"bad") for content in [os.pread(model, 100, 0), *self.adapters]):
            raise EngineUnavailable("the engine ended")
        return Confinement({})

    async def generate(self, operation: str, request: Mapping[str, Any]) -> AsyncGenerator[bytes]:  # noqa: ARG002
        self.asked.append(request)
        yield b"{}"

    async def wait(self) -> None:
        await self.gone.wait()

    def kill(self) -> None:
        self.killed = True


@pytest.fixture
def made(monkeypatch) -> list[Reader]:
    monkeypatch.setattr(Reader, "made", [], raising=False)
    return Reader.made


async def opened(model: bytes, adapters: Sequence[bytes], **options: Any) -> Model:
    found = Model({"name": "m"}, Reader, **options)
    found.prepare()
    beside = [(Memory(content), "a.gguf") for content in adapters]
    await found.open(Memory(model), ("m.gguf",), beside)  # type: ignore[arg-type]
    return found


async def ask(model: Model, told: Steering, operation: str = "completions") -> Mapping[str, Any]:
    """The request as the engine saw it."""
    assert [chunk async for chunk in model.generate(operation, told.put_into({"prompt": "x"}))] == [b"{}"]
    return Reader.made[-1].asked[-1]


def test_what_can_be_read_is_served_and_what_cannot_is_an_error_to_its_owner(made):
    async def story() -> None:
        model = await opened(b"model", NAMES)
        assert model.beside.broken == {0, 2}
        assert made[-1].adapters == [b"good 1", b"good 2", b"good 3"]
        assert [engine.killed for engine in made] == [True] * (len(made) - 1) + [False]
        for place, at in ((1, 0), (3, 1), (4, 2), (None, None)):
            assert await ask(model, Steering("s", place)) == Steering("s", at).put_into({"prompt": "x"})
        for place in (0, 2):
            with pytest.raises(AdapterUnreadable):
                await ask(model, Steering("s", place))
            assert await ask(model, Steering("s", place), "embeddings") == Steering("s").put_into({"prompt": "x"})
        model.stop()
        model.wipe()

    asyncio.run(story())


def test_the_only_adapter_is_known_to_be_broken_when_the_model_loads_without(made):
    async def story() -> None:
        model = await opened(b"model", [b"bad"])
        assert (model.beside.broken, len(made), made[-1].adapters) == ({0}, 2, [])
        model.stop()
        model.wipe()

    asyncio.run(story())


def test_good_adapters_cost_no_second_engine_and_a_restart_knows_the_broken_ones(made):
    async def story() -> None:
        good = await opened(b"model", [b"good 1", b"good 2"])
        assert (len(made), good.beside.broken) == (1, set())
        made.clear()
        model = await opened(b"model", NAMES, restarts=Restarts(most=1, pause=0.0))
        engines = len(made)
        made[-1].gone.set()
        for _ in range(100_000):
            if len(made) > engines and model.up:
                break
            await asyncio.sleep(0)
        assert len(made) == engines + 1
        assert made[-1].adapters == [b"good 1", b"good 2", b"good 3"]
        for each in (good, model):
            each.stop()
            each.wipe()

    asyncio.run(story())


def test_a_broken_model_is_no_adapters_fault(made):
    async def story() -> None:
        with pytest.raises(EngineUnavailable):
            await opened(b"bad model", [b"good 1", b"good 2"])
        assert len(made) == 2
        assert all(engine.killed for engine in made)

    asyncio.run(story())


def test_whose_artifact_was_applied():
    beside = Adapters([digest_bytes(b"a"), digest_bytes(b"b")])
    assert beside.applied("completions", 1) == digest_bytes(b"b")
    assert beside.applied("completions", None) is None
    assert beside.applied("embeddings", 1) is None
    assert beside.placed("completions", {"prompt": "x"}) == {"prompt": "x"}
    with pytest.raises(MalformedMessage):
        beside.placed("completions", {"strongroom": {"adapter": "x"}})
