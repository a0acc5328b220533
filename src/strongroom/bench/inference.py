"""`bench inference`: what the sealed channel, the gateway and the receipts cost, against the engine's own HTTP server.

Method: two servers with the same model and parameters, each engine on one core; the client, and with it the gateway, on the other;
runs of both arms take turns, in pairs. Every run is the same streamed answer (temperature 0). Knows: how to measure. Does not know:
what is good (`GOALS` says it).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2

from strongroom.bench.figures import Figure, figure
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
RATE_GOAL: float = 0.97
FIRST_TOKEN_GOAL_MS: float = 5.0
TIMEOUT = 60.0

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


def measure(baseline: Arm, sealed: Arm, *, pairs: int, tokens: int, progress: Progress) -> list[Figure]:
    """Pairs of runs, the order within a pair taking turns; the ratio and the difference within each pair are the samples."""
    for arm in (baseline, sealed) * WARM_UP:
        arm.run(tokens)
    found: list[tuple[Run, Run]] = []
    for number in range(pairs):
        first, second = (baseline, sealed) if number % 2 else (sealed, baseline)
        runs = {id(arm): arm.run(tokens) for arm in (first, second)}
        found.append((runs[id(baseline)], runs[id(sealed)]))
        progress(number + 1, pairs)
    own = "the same engine's own HTTP server"
    return [
        figure(
            "inference.tokens_per_second.ratio",
            [ours.rate / theirs.rate for theirs, ours in found],
            unit="ratio",
            baseline=own,
            goal=(">=", RATE_GOAL),
        ),
        figure(
            "inference.first_token.added",
            [(ours.first - theirs.first) * 1000 for theirs, ours in found],
            unit="ms",
            baseline=own,
            goal=("<=", FIRST_TOKEN_GOAL_MS),
        ),
    ]


def inference(model: Path, *, pairs: int, tokens: int, progress: Progress) -> list[Figure]:
    """Set up both arms, measure, clean up. Raises `Unavailable` on a machine with a single core."""
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
        arms = Arm(own.ready["url"], plain), Arm(gateway.ready["url"], sealed)
        return measure(*arms, pairs=pairs, tokens=tokens, progress=progress)


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
def running(name: str, model: Path) -> Iterator[Server]:
    """One arm in a process of its own, until the end. Raises `Unavailable`."""
    command = [sys.executable, "-m", f"strongroom.bench.{name}", str(model), "1", str(CONTEXT)]
    libraries = folder_with_openmp()
    environment = with_folder(dict(os.environ), libraries)
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
