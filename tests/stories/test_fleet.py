"""A fleet under load: one worker is killed, one rotated, one revoked, and nobody is told a wrong answer, or answered twice.

The front door's wires, its log and its memory are hunted for what users said.
"""

import asyncio
import json
import secrets
import threading
from collections import Counter
from collections.abc import AsyncGenerator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import httpx2
import pytest
from fleets import DoorProcess, Wire, wait_for
from world import EchoEngine, Served, World, world

from strongroom.client.client import Client
from strongroom.errors import Refused, StrongroomError, Unavailable
from strongroom.receipts.receipt import ReceiptDocument
from strongroom.records import codec
from strongroom.records.fleet import JOIN_PATH, JoinRequest
from strongroom.services.gateway import LINGER_SECONDS

pytestmark = pytest.mark.timeout(240)

CANARY = "canary-" + secrets.token_hex(8)
CLIENTS = 12
AT_LEAST = 6
"""Answers of each client, before and after each blow."""


class Parrot(EchoEngine):
    """Answers with the question itself, word by word, so that a wrong answer is seen; `told` are the questions it answered."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[str] = []

    async def generate(self, _operation: str, request: Mapping[str, Any]) -> AsyncGenerator[bytes]:
        said = request["messages"][-1]["content"]
        self.told.append(said)
        chunks = [f"{word} " for word in said.split()]
        usage = {"prompt_tokens": 5, "completion_tokens": len(chunks)}
        async for chunk in _spoken(chunks, usage):
            yield chunk


async def _spoken(words: list[str], usage: dict[str, int]) -> AsyncGenerator[bytes]:
    for word in words:
        await asyncio.sleep(0.005)
        yield json.dumps({"choices": [{"index": 0, "delta": {"content": word}}]}).encode()
    yield json.dumps({"choices": [], "usage": usage}).encode()


class Crowd:
    """Users who ask all the time, each its own questions; `right` counts answers, `wrong` and `odd` must stay empty."""

    def __init__(self, place: World, url: str) -> None:
        self._place, self._url = place, url
        self.stop = threading.Event()
        self.right: Counter[int] = Counter()
        self.receipts: list[ReceiptDocument] = []
        self.honest: list[StrongroomError] = []
        self.wrong: list[str] = []
        self.odd: list[BaseException] = []
        self.answered: list[str] = []

    def ask_all_the_time(self, number: int) -> None:
        client = self._client()
        for turn in range(100_000):
            if self.stop.is_set():
                return
            question = f"{CANARY} user {number} asks {turn} {secrets.token_hex(4)}"
            try:
                answer = client.ask(question)
            except (Unavailable, Refused) as error:
                self.honest.append(error)
                self.stop.wait(0.05)
                continue
            except BaseException as error:  # noqa: BLE001 (looked at by the test)
                self.odd.append(error)
                continue
            if answer.split() == question.split():
                self.right[number] += 1
                self.answered.append(question)
            else:
                self.wrong.append(answer)

    def _client(self) -> Client:
        return self._place.client(self._url, on_receipt=self.receipts.append)

    def all_went_on(self) -> None:
        """Wait until each user has had some more answers."""
        goal = {number: self.right[number] + AT_LEAST for number in range(CLIENTS)}
        wait_for(lambda: all(self.right[number] >= goal[number] for number in goal), 60)


@pytest.fixture
def place(tmp_path):
    with world(tmp_path / "world", lease_seconds=10) as made:
        yield made


def start(place: World, stack: ExitStack) -> Served:
    return stack.enter_context(place.serving(Parrot(), slots=8, queue=64, linger=LINGER_SECONDS))


def await_ready(door: DoorProcess, count: int) -> None:
    wait_for(lambda: sum(told["standing"] == "ready" for told in door.report().values()) == count)


def test_one_killed_one_rotated_one_revoked_under_load(place, tmp_path):
    with ExitStack() as stack:
        workers = [start(place, stack) for _ in range(3)]
        wires = [stack.enter_context(Wire(worker.url)) for worker in workers]
        door = stack.enter_context(DoorProcess(place, tmp_path / "door", *(wire.url for wire in wires)))
        await_ready(door, 3)
        outside = stack.enter_context(Wire(door.url))
        crowd = Crowd(place, outside.url)
        pool = stack.enter_context(ThreadPoolExecutor(CLIENTS))
        running = [pool.submit(crowd.ask_all_the_time, number) for number in range(CLIENTS)]
        stack.callback(crowd.stop.set)
        crowd.all_went_on()
        assert crowd.honest == []

        # rotated: a new worker joins, the old one drains; not one request is lost
        fresh = start(place, stack)
        fresh_wire = stack.enter_context(Wire(fresh.url))
        httpx2.post(door.operators + JOIN_PATH, content=codec.encode(JoinRequest(fresh_wire.url))).raise_for_status()
        await_ready(door, 4)
        workers[0].loop.call_soon_threadsafe(workers[0].worker.stop)
        assert workers[0].ended()
        crowd.all_went_on()
        assert crowd.honest == []
        await_ready(door, 3)

        # killed: what was under way there ends in an honest error, and everybody goes on
        wires[1].cut()
        crowd.all_went_on()
        await_ready(door, 2)
        assert all(isinstance(error, (Unavailable, Refused)) for error in crowd.honest)

        # revoked: its broker ends its lease, and it drains by itself
        client = place.client(workers[2].url)
        place.admin.revoke(client.verify().release.lease_id)
        assert workers[2].ended()
        assert workers[2].error is not None
        crowd.all_went_on()
        await_ready(door, 1)

        crowd.stop.set()
        for done in running:
            done.result(60)
        assert crowd.odd == []
        assert crowd.wrong == []
        told = Counter(said for worker in (*workers, fresh) for said in worker.engine.told)
        assert max(told.values()) == 1
        assert set(crowd.answered) <= set(told)
        assert len(crowd.receipts) >= len(crowd.answered) > CLIENTS * AT_LEAST * 4

        seen = b"".join(bytes(wire.seen) for wire in (*wires, fresh_wire, outside))
        assert len(seen) > 1 << 20
        assert CANARY.encode() not in seen
        assert CANARY not in door.log.read_text()
        assert CANARY not in repr(door.report())
        assert door.holds(b"/.well-known/strongroom/sealed")  # the hunt finds what is there
        assert not door.holds(CANARY.encode())
