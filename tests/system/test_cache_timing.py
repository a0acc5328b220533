"""Can the time an answer takes tell that another tenant asked the same before? Measured on real prefills, with a control that must tell.

The model is the real small one, cut down to its first layers: each prefill of about fifty tokens is real and quick, so that hundreds fit.
A trial is three requests: the victim asks with a fresh prefix, then the prober asks once with that prefix and once with another, in
random order. The AUC is the chance that a probe of the first kind was quicker than one of the second: 0.5 tells nothing, 1 everything.
Only orders of times count, no length of any. By chance alone 500 probes exceed 0.55 once in forty times, so then more are made, and
all of them judged together: a leak stays.
"""

import asyncio
import os
import random
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest
from small_model import shortened

from strongroom.engines.process import EngineProcess
from strongroom.engines.steering import Steering
from strongroom.services.tenancy.caller import cache_salt

pytestmark = [pytest.mark.needs("model"), pytest.mark.timeout(600)]

LAYERS = 2
PAIRS = 250
"""In one round: 500 probes."""
ROUNDS = 5
MOST = 0.55
TELLING = 0.9
CONTROLS = 40
TOKENS = 48
WORDS = ("river", "stone", "moon", "table", "green", "seven", "bread", "cloud", "horse", "paper", "window", "garden")
SECRET = b"a worker's own secret, of 32 byte"
VICTIM, PROBER = (Steering(cache_salt(SECRET, tenant)) for tenant in ("acme", "zeta"))


@asynccontextmanager
async def engine(**settings: int) -> AsyncGenerator[EngineProcess]:
    made, model = EngineProcess(profile="development"), os.memfd_create("model")
    with os.fdopen(model, "wb") as file:
        file.write(shortened(LAYERS))
        file.flush()
        made.spawn()
        await made.load(model, {"name": "small", "context": 256, "threads": 1, **settings})
    try:
        yield made
    finally:
        made.kill()


async def ask(of: EngineProcess, told: Steering, prompt: str) -> float:
    """Seconds until the answer, which has one token."""
    request = told.put_into({"prompt": prompt, "max_tokens": 1, "temperature": 0})
    began = time.perf_counter()
    async for _ in of.generate("completions", request):
        pass
    return time.perf_counter() - began


async def trials(
    of: EngineProcess, victim: Steering, prober: Steering, count: int, seed: int
) -> tuple[list[float], list[float]]:
    """Times of probes whose prefix the victim had just asked with, and of those whose prefix nobody had."""
    chance = random.Random(seed)

    def prefix() -> str:
        return " ".join(chance.choice(WORDS) for _ in range(TOKENS))

    asked, fresh = list[float](), list[float]()
    for _ in range(count):
        shared = prefix()
        await ask(of, victim, shared)
        kinds = [(asked, shared), (fresh, prefix())]
        if victim != prober:  # in the control the second probe would take the place of what the first looks for
            chance.shuffle(kinds)
        for times, prompt in kinds:
            times.append(await ask(of, prober, prompt))
    return asked, fresh


def auc(asked: list[float], fresh: list[float]) -> float:
    """Mann and Whitney's: the share of pairs in which the first is quicker."""
    return sum((one < other) + (one == other) / 2 for one in asked for other in fresh) / (len(asked) * len(fresh))


def test_the_measure_itself():
    assert auc([1, 2], [3, 4]) == 1
    assert auc([3, 4], [1, 2]) == 0
    assert auc([1, 2], [1, 2]) == 0.5


def test_the_control_one_tenant_with_a_cache_is_told_by_time(record_property):
    async def story() -> float:
        async with engine(cache_prompt=1, slots=2) as shared:
            return auc(*await trials(shared, PROBER, PROBER, CONTROLS, seed=1))

    found = asyncio.run(story())
    record_property("auc", found)
    print(f"AUC of the control: {found:.3f}")  # noqa: T201
    assert found >= TELLING


@pytest.mark.parametrize(
    ("settings", "victim", "prober"),
    [({"cache_prompt": 1, "slots": 2}, VICTIM, PROBER), ({"cache_prompt": 1, "slots": 1}, VICTIM, PROBER)],
    ids=["a slot for each", "one slot for both"],
)
def test_another_tenants_prefix_is_not_told_by_time(record_property, settings, victim, prober):
    async def story() -> tuple[float, int]:
        asked, fresh = list[float](), list[float]()
        async with engine(**settings) as shared:
            for number in range(ROUNDS):
                more = await trials(shared, victim, prober, PAIRS, seed=100 + number)
                asked, fresh = asked + more[0], fresh + more[1]
                if auc(asked, fresh) <= MOST:
                    break
        return auc(asked, fresh), len(asked) + len(fresh)

    found, probes = asyncio.run(story())
    record_property("auc", found)
    record_property("probes", probes)
    print(f"AUC over {probes} probes: {found:.3f}")  # noqa: T201
    assert probes >= 2 * PAIRS
    assert found <= MOST


def test_without_a_cache_not_even_ones_own_prefix_is_told_by_time(record_property):
    async def story() -> float:
        async with engine(cache_prompt=0) as none:
            return auc(*await trials(none, PROBER, PROBER, CONTROLS, seed=2))

    found = asyncio.run(story())
    record_property("auc", found)
    print(f"AUC without a cache: {found:.3f}")  # noqa: T201
    assert found < TELLING, "the control tells by the cache and by nothing else"
