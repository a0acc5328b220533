"""Tokens in a second: a real model in the engine that workers run, one thread, one stream.

Knows: the engine's port. Does not know: channels and receipts, whose cost is `bench inference`.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from contextlib import ExitStack
from pathlib import Path

from strongroom.bench.gateway import in_memory
from strongroom.bench.platform.probe import Found, Missing, Probe, Sizes, on_core
from strongroom.engines.process import EngineProcess
from strongroom.errors import StrongroomError, Unavailable

CONTEXT = 2048
PROMPT = "Tell me a long story about a lighthouse keeper and the sea."


def probes(sizes: Sizes, model: Path | None, core: int, stack: ExitStack) -> Found:
    """`model.tokens`, the engine on `core`; `Missing` without a model, or without an engine that loads it."""
    if model is None:
        return [Missing("model.tokens", "no model")]
    loop = stack.enter_context(asyncio.Runner())
    engine = EngineProcess(profile="development")
    stack.callback(engine.kill)
    descriptor = in_memory(str(model))
    try:
        with on_core(core):
            engine.spawn()
        loop.run(engine.load(descriptor, {"name": "bench", "threads": 1, "context": CONTEXT, "slots": 1}))
    except StrongroomError as error:
        return [Missing("model.tokens", error.message)]
    finally:
        os.close(descriptor)
    return [
        Probe("model.tokens", "tokens/s", "more", "one streamed answer of the engine, on one core, its prompt's reading included",
              lambda: loop.run(answer_once(engine, sizes.tokens))),
    ]  # fmt: skip


async def answer_once(engine: EngineProcess, tokens: int) -> float:
    """Tokens in a second. Raises `Unavailable` where the answer has none."""
    request = {
        "messages": [{"role": "user", "content": PROMPT}],
        "max_tokens": tokens,
        "temperature": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    count, began = 0, time.perf_counter()
    async for event in engine.generate("chat.completions", request):
        usage = json.loads(event).get("usage")
        count = int(usage["completion_tokens"]) if usage else count
    took = time.perf_counter() - began
    if count < 1:
        raise Unavailable("the engine of the benchmark gave no tokens")
    return count / took
