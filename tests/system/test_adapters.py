"""Adapters and a cache in the confined engine, on the real small model: one's own, never another's; and files that are no adapters."""

import asyncio
import json
import os
import random
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from lora import adapter, hostile
from small_model import model_bytes

from strongroom.engines.port import RequestRejected
from strongroom.engines.process import EngineProcess
from strongroom.engines.steering import NONE, Steering
from strongroom.errors import EngineUnavailable

pytestmark = pytest.mark.needs("model")

PARIS = "The capital of France is Paris."
ASKED = {"messages": [{"role": "user", "content": "What is the capital of France?"}], "max_tokens": 8, "temperature": 0}


def memory(content: bytes) -> int:
    descriptor = os.memfd_create("test")
    with os.fdopen(os.dup(descriptor), "wb") as file:
        file.write(content)
    return descriptor


@asynccontextmanager
async def engine(adapters: Sequence[bytes] = (), **settings: int) -> AsyncGenerator[EngineProcess]:
    made, held = EngineProcess(profile="development"), [memory(content) for content in (model_bytes(), *adapters)]
    made.spawn()
    try:
        await made.load(held[0], {"name": "small", "context": 256, "threads": 1, **settings}, held[1:])
        yield made
    finally:
        for descriptor in held:
            os.close(descriptor)
        made.kill()


async def ask(of: EngineProcess, told: Steering, **changed: Any) -> tuple[str, int]:
    """What it says, and how many tokens of the prompt it found in a cache."""
    (answer,) = [json.loads(part) async for part in of.generate("chat.completions", told.put_into(ASKED | changed))]
    said = answer["choices"][0]["message"]["content"]
    return str(said), int(answer["usage"]["prompt_tokens_details"]["cached_tokens"])


def test_an_adapter_changes_what_is_said_to_its_tenant_and_to_nobody_else():
    async def story() -> None:
        async with engine([adapter(seed=1), adapter(seed=2)], cache_prompt=1) as both:
            plain, first, second = Steering("c"), Steering("a", 0), Steering("b", 1)
            said = {told: (await ask(both, told))[0] for told in (plain, first, second)}
            assert said[plain] == PARIS
            assert len(set(said.values())) == 3
            for told in (second, first, plain, first):
                assert (await ask(both, told))[0] == said[told]
            with pytest.raises(RequestRejected) as refusal:
                await ask(both, Steering("d", 2))
            assert refusal.value.status == 500
        async with engine([adapter(seed=2)]) as alone:
            assert (await ask(alone, NONE))[0] == PARIS
            assert (await ask(alone, Steering("b", 0)))[0] == said[second]

    asyncio.run(story())


def test_a_prefix_is_found_again_by_its_own_namespace_alone():
    async def story() -> None:
        async with engine(cache_prompt=1) as shared:
            found = [(await ask(shared, Steering(salt)))[1] for salt in ("a", "a", "b", "b", "a", "", "", "a")]
            assert [count > 0 for count in found] == [False, True, False, True, False, False, False, False]
            await ask(shared, Steering("a"))
            with pytest.raises(RequestRejected):
                await ask(shared, Steering("b"), messages=1)
            assert (await ask(shared, Steering("b")))[1] == 0, "what b never reached is still a's"
            with pytest.raises(RequestRejected):
                await ask(shared, Steering("a"), n=2)
        async with engine() as without:
            assert [(await ask(without, Steering("a")))[1] for _ in range(2)] == [0, 0]

    asyncio.run(story())


@pytest.mark.parametrize("wrong", hostile())
def test_a_file_that_is_no_adapter_costs_an_honest_error(wrong: str):
    async def story() -> None:
        with pytest.raises(EngineUnavailable):
            async with engine([hostile()[wrong]]):
                pass

    asyncio.run(story())


def test_an_adapter_with_changed_bytes_is_refused_or_runs_and_the_worker_goes_on():
    async def story() -> None:
        chance, good = random.Random(7), adapter()
        for _ in range(6):
            changed = bytearray(good)
            for at in chance.sample(range(400), 3):
                changed[at] ^= 1 << chance.randrange(8)
            try:
                async with engine([bytes(changed)]) as odd:
                    await ask(odd, Steering("a", 0))
            except (EngineUnavailable, RequestRejected):
                continue

    asyncio.run(story())
