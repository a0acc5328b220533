"""`bench inference`: what the sealed channel, the gateway and the receipts cost, against the engine's own HTTP server.

Method: servers with the same model and parameters, each engine on one core; the client, and with it the gateway, on the other; runs of
all arms take turns. Every run is the same streamed answer (temperature 0). The measured arm is what a worker does unless told otherwise:
version 2 of the channel, padding, a receipt for each answer, a root of receipts each interval. Where `tng` is installed, it carries the
same stream side by side, for comparison. Knows: how to measure. Does not know: what is good (`RATE_GOAL` and the others say it).
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2

from strongroom.bench import tng
from strongroom.bench.figures import Figure, Goal, figure
from strongroom.channel.client import Exchange, SealedTransport
from strongroom.channel.exchange_v2 import peer_of
from strongroom.client import chat
from strongroom.engines.openmp import folder_with_openmp, with_folder
from strongroom.errors import Unavailable
from strongroom.receipts.receipt import SealedReceipt, verify_receipt
from strongroom.records import codec
from strongroom.records.worker import Keyset

ENGINE_CORE, CLIENT_CORE = 0, 1
CONTEXT = 2048
PROMPT = "Tell me a long story about a lighthouse keeper and the sea."
WARM_UP = 3
RATE_GOAL: Goal = (">=", 0.99)
FIRST_TOKEN_GOAL: Goal = ("<=", 3.0)
"""Milliseconds."""
REPORTED: tuple[Goal, Goal] = (">=", 0.0), ("<=", math.inf)
"""Goals of what is compared and not judged."""
TIMEOUT = 60.0

OURS, OWN_SERVER = "inference", "the same engine's own HTTP server"

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Run:
    """One streamed answer: tokens, seconds to the first, seconds in all."""

    tokens: int
    first: float
    total: float

    @property
    def rate(self) -> float:
        """Tokens per second over the whole answer."""
        return self.tokens / self.total


@dataclass(frozen=True, slots=True)
class Arm:
    """One server as the client sees it."""

    url: str
    http: httpx2.Client

    def run(self, tokens: int) -> Run:
        body = chat.request(PROMPT, {"max_tokens": tokens, "temperature": 0})
        lines, count, first = chat.Lines(), 0, 0.0
        began = time.perf_counter()
        with self.http.stream(
            "POST", self.url + chat.PATH, content=body, headers={"content-type": "application/json"}
        ) as answer:
            chat.require_ok(answer.status_code, b"" if answer.is_success else answer.read())
            for data in answer.iter_bytes():
                for _ in lines.feed(data):
                    first = first or time.perf_counter() - began
                    count += 1
        if not count:
            raise Unavailable("an arm of the benchmark gave no tokens")
        return Run(count, first, time.perf_counter() - began)


def measure(baseline: Arm, others: Mapping[str, Arm], *, pairs: int, tokens: int, progress: Progress) -> list[Figure]:
    """Rounds of one run for each arm, in turning order; ratio and difference to the baseline within each round are the samples.

    `others` by the beginning of their figures' names; only what begins with `inference` alone is judged.
    """
    arms = [baseline, *others.values()]
    for arm in arms * WARM_UP:
        arm.run(tokens)
    found: list[dict[int, Run]] = []
    for number in range(pairs):
        turned = arms[number % len(arms) :] + arms[: number % len(arms)]
        found.append({id(arm): arm.run(tokens) for arm in turned})
        progress(number + 1, pairs)
    figures = []
    for name, arm in others.items():
        rounds = [(runs[id(baseline)], runs[id(arm)]) for runs in found]
        rate, first = (RATE_GOAL, FIRST_TOKEN_GOAL) if name == OURS else REPORTED
        ratios = [one.rate / own.rate for own, one in rounds]
        added = [(one.first - own.first) * 1000 for own, one in rounds]
        figures += [
            figure(f"{name}.tokens_per_second.ratio", ratios, unit="ratio", baseline=OWN_SERVER, goal=rate),
            figure(f"{name}.first_token.added", added, unit="ms", baseline=OWN_SERVER, goal=first),
        ]
    return figures


def inference(model: Path, *, pairs: int, tokens: int, progress: Progress) -> list[Figure]:
    """Set up all arms, measure, clean up. Raises `Unavailable` on a machine with a single core."""
    before = os.sched_getaffinity(0)
    if not {ENGINE_CORE, CLIENT_CORE} <= before:
        raise Unavailable("this benchmark needs two cores", remedy="Run it on a machine with at least two.")
    with ExitStack() as stack:
        own = stack.enter_context(running("baseline", model))
        gateway = stack.enter_context(running("gateway", model))
        pin(own.process, ENGINE_CORE)
        pin(gateway.process, CLIENT_CORE)
        for child in children(gateway.process):
            pin(child, ENGINE_CORE)
        stack.callback(os.sched_setaffinity, 0, before)
        os.sched_setaffinity(0, {CLIENT_CORE})
        plain = stack.enter_context(httpx2.Client(timeout=TIMEOUT))
        sealed = stack.enter_context(httpx2.Client(timeout=TIMEOUT, transport=sealed_transport(gateway.ready)))
        others = {OURS: Arm(gateway.ready["url"], sealed)}
        if tng.program() is not None:
            url, ends = stack.enter_context(tng.tunnel(httpx2.URL(own.ready["url"]).port or 80))
            for end in ends:
                pin(end, CLIENT_CORE)
            others["inference.tng"] = Arm(url, plain)
        return measure(Arm(own.ready["url"], plain), others, pairs=pairs, tokens=tokens, progress=progress)


def skipped() -> list[str]:
    """What the figures lack on this machine, and why."""
    return [] if tng.program() is not None else [f"inference.tng: missing program: {tng.PROGRAM} (pip install tng-sdk)"]


def sealed_transport(ready: dict[str, Any]) -> SealedTransport:
    """The user's transport as `strongroom.Client` makes it, each receipt checked."""
    keyset = codec.from_json(Keyset, ready["keyset"])

    def check(exchange: Exchange) -> None:
        verify_receipt(
            codec.decode(SealedReceipt, exchange.sealed_receipt),
            keyset=keyset,
            request_sha256=exchange.request_sha256,
            response_sha256=exchange.response_sha256,
        )

    return SealedTransport(httpx2.HTTPTransport(), keyset.channel, on_exchange=check, v2=peer_of(keyset))


@dataclass(frozen=True, slots=True)
class Server:
    """One arm's process and the line it printed when it was ready."""

    process: int
    ready: dict[str, Any]


@contextmanager
def running(name: str, model: Path, *, slots: int = 1) -> Iterator[Server]:
    """One arm in a process of its own, until the end. Raises `Unavailable`."""
    command = [sys.executable, "-m", f"strongroom.bench.{name}", str(model), "1", str(CONTEXT), str(slots)]
    libraries = folder_with_openmp()
    environment = with_folder(dict(os.environ), libraries.name if libraries is not None else None)
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment
    ) as process:
        try:
            line = process.stdout.readline() if process.stdout is not None else b""
            if not line:
                raise Unavailable(f"the {name} of the benchmark does not start")
            yield Server(process.pid, json.loads(line))
        finally:
            process.kill()
            if libraries is not None:
                libraries.cleanup()


def children(process: int) -> list[int]:
    """All descendants of a process."""
    found = []
    for task in Path(f"/proc/{process}/task").iterdir():
        for child in map(int, (task / "children").read_text().split()):
            found += [child, *children(child)]
    return found


def pin(process: int, core: int) -> None:
    """All threads of a process onto one core."""
    for task in Path(f"/proc/{process}/task").iterdir():
        os.sched_setaffinity(int(task.name), {core})
