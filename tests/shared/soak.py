"""Many streams for a long time while their engine is killed again and again: `make soak`, or `python -m soak --seconds 600 --every 60`.

A whole river in this process: broker, worker, gateway, a user's proxy; the engine a stand-in that answers each prompt in its own way
(`bench.talker`), in a confined child. Stock clients ask through the proxy, without pause. Now and then the engine is killed; if its
worker ends with it, another begins at the same address, with other keys. What must hold: no answer but the right one is ever called whole;
what was told of another is a beginning of the right one; every stream ends, in its own way or with an error in it; memory stays.

Knows: what a stock client may conclude from what it sees. Does not know: how any of it is done. No time is judged.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import signal
import statistics
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
from world import Served, World, world

from strongroom.bench.inference import children
from strongroom.bench.talker import words_of
from strongroom.client.client import AsyncClient
from strongroom.engines import process
from strongroom.engines.process import EngineProcess
from strongroom.services.proxy import Proxy
from strongroom.services.server import BackgroundServer

PATH = "/v1/chat/completions"
BEAT = "0.04"
STUCK_SECONDS = 120.0
"""A stream that says nothing for so long, not even that it lives, has no end."""
DONE = b"data: [DONE]"


@dataclass
class Tally:
    """What became of all streams, how often the engine was killed, and how much memory was resident (MiB, once a second)."""

    outcomes: Counter[str] = field(default_factory=Counter)
    kills: int = 0
    resident: list[float] = field(default_factory=list)

    @property
    def growth(self) -> float:
        """MiB by which the last third of the time needed more than the one before."""
        third = len(self.resident) // 3
        return statistics.median(self.resident[-third:]) - statistics.median(self.resident[third : 2 * third])

    @property
    def broken(self) -> int:
        """Streams that ended as none may."""
        return sum(count for outcome, count in self.outcomes.items() if outcome.startswith("NEVER"))

    def as_json(self) -> dict[str, Any]:
        last = self.resident[-1] if self.resident else 0.0
        return {
            "outcomes": dict(self.outcomes),
            "kills": self.kills,
            "resident": round(last),
            "growth": round(self.growth, 1),
        }


class Keeper:
    """Keeps a worker at one address, whatever happens to its engine."""

    def __init__(self, made: World, slots: int) -> None:
        self._made, self._slots, self._port = made, slots, 0
        self.served = self._start()

    def _start(self) -> Served:
        engine: Any = EngineProcess(profile="development", adapter=BEAT)
        served = Served(self._made, engine, {"port": self._port, "slots": self._slots, "queue": 4 * self._slots})
        served.start()
        if not served.url:
            raise RuntimeError(f"no worker serves: {served.error}")
        self._port = int(served.url.rpartition(":")[2])
        return served

    def kill_engine(self) -> None:
        """SIGKILL to the confined process itself."""
        child: Any = self.served.engine._child  # type: ignore[attr-defined]
        with contextlib.suppress(OSError):
            found = children(child.process.pid)
            os.kill(found[-1] if found else child.process.pid, signal.SIGKILL)

    def look(self) -> None:
        """Start another worker where the one there was has ended."""
        if self.served._ended.is_set():
            self.served = self._start()


def judge(status: int, body: bytes, prompt: str, tokens: int) -> str:
    """What a stock client concludes from what it saw, held against what it should have seen."""
    if status != 200:
        return f"refused {status}"
    said, error = "", False
    for line in body.split(b"\n"):
        if not line.startswith(b"data: {"):
            continue
        event = json.loads(line[6:])
        error = error or "error" in event
        said += "".join(choice.get("delta", {}).get("content") or "" for choice in event.get("choices", ()))
    right, whole = "".join(words_of(prompt, tokens)), DONE in body
    if not right.startswith(said) or (whole and said != right):
        return "NEVER: a wrong answer"
    if whole == error:
        return "NEVER: both an end and an error" if whole else "NEVER: neither an end nor an error"
    return "complete" if whole else "ended in an error"


async def ask(http: httpx2.AsyncClient, prompt: str, tokens: int) -> str:
    """One stream, to whatever end."""
    body, status = bytearray(), 0
    asked = {"model": "m", "messages": [{"role": "user", "content": prompt}], "max_tokens": tokens, "stream": True}
    try:
        async with http.stream("POST", PATH, json=asked) as answer:
            status = answer.status_code
            async for data in answer.aiter_bytes():
                body += data
    except httpx2.TimeoutException:
        return "NEVER: no end"
    except httpx2.HTTPError as error:  # a broken connection is an end if the stream has said so before
        if not status:
            return f"NEVER: {type(error).__name__}"
    return judge(status, bytes(body), prompt, tokens)


async def client(url: str, name: int, until: float, tally: Tally) -> None:
    """One user who asks again and again, and comes back later where there is no room."""
    async with httpx2.AsyncClient(base_url=url, timeout=STUCK_SECONDS) as http:
        number = 0
        while time.monotonic() < until:
            number += 1
            outcome = await ask(http, f"user {name}, question {number}", 20 + (7 * name + 13 * number) % 80)
            tally.outcomes[outcome] += 1
            if outcome.startswith("refused"):
                await asyncio.sleep(0.2)


def resident() -> float:
    """MiB of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


async def soak(made: World, *, seconds: float, every: float, streams: int) -> Tally:
    """Let `streams` clients ask for `seconds`, and kill the engine each `every` seconds."""
    process._CHILD = "strongroom.bench.talker"
    tally, until = Tally(), time.monotonic() + seconds
    keeper = await asyncio.to_thread(Keeper, made, streams)
    trust = {"policy": made.policy, "anchor": made.anchor_file, "broker": made.broker.identity.fingerprint}
    user = AsyncClient(keeper.served.url, **trust, accept_simulated=True)
    with BackgroundServer(Proxy(user).app) as proxy:
        asking = [asyncio.create_task(client(proxy.url, name, until, tally)) for name in range(streams)]
        kill_at = time.monotonic() + every
        while time.monotonic() < until:
            await asyncio.sleep(min(1.0, every / 4))
            tally.resident.append(resident())
            if time.monotonic() >= kill_at:
                keeper.kill_engine()
                tally.kills, kill_at = tally.kills + 1, kill_at + every
            await asyncio.to_thread(keeper.look)
        keeping = asyncio.create_task(_keep(keeper))
        await asyncio.gather(*asking)
        keeping.cancel()
    await asyncio.to_thread(keeper.served.stop)
    return tally


async def _keep(keeper: Keeper) -> None:
    while True:
        await asyncio.sleep(0.2)
        await asyncio.to_thread(keeper.look)


def main() -> None:
    words = argparse.ArgumentParser()
    words.add_argument("--seconds", type=float, default=600)
    words.add_argument("--every", type=float, default=60)
    words.add_argument("--streams", type=int, default=64)
    told = words.parse_args()
    with tempfile.TemporaryDirectory() as folder, world(Path(folder)) as made:
        tally = asyncio.run(soak(made, seconds=told.seconds, every=told.every, streams=told.streams))
    sys.stdout.write(json.dumps(tally.as_json(), indent=2) + "\n")
    sys.exit(bool(tally.broken or not tally.outcomes["complete"]))


if __name__ == "__main__":
    main()
