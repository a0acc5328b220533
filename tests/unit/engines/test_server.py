"""A server as an engine: a real process in its confined child, and what it may do there."""

import asyncio
import json
import os
import socket
import sys
import threading
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from strongroom.engines.nursery import Nursery
from strongroom.engines.server import MAX_FILES, Needs, ServerProcess
from strongroom.errors import ConfinementUnavailable, EngineUnavailable, UsageError

COMMAND = (sys.executable, str(Path(__file__).parent / "children" / "fake_server.py"), "{port}", "{model}")


@asynccontextmanager
async def served(command=COMMAND, files=None, profile="development", **options):
    engine = ServerProcess(command, profile=profile, **options)
    engine.spawn()
    descriptors = {}
    for path, content in (files or {"m.gguf": b"weights"}).items():
        descriptors[path] = os.memfd_create("model")
        os.write(descriptors[path], content)
    try:
        engine.confinement = await engine.load_folder(descriptors, {"name": "m"})  # type: ignore[attr-defined]
        yield engine
    finally:
        for descriptor in descriptors.values():
            os.close(descriptor)
        await asyncio.to_thread(engine.kill)
        engine.kill()


async def ask(engine, prompt="x", **more):
    return [json.loads(text) async for text in engine.generate("completions", {"prompt": prompt, **more})]


def test_it_answers_from_the_one_file_and_ends_when_it_is_told():
    async def story() -> None:
        async with served() as engine:
            (answer,) = await ask(engine, temperature=0)
            assert answer["model"] == "weights"
            assert answer["asked"] == {"prompt": "x", "temperature": 0, "model": "m"}
            assert [event["number"] for event in await ask(engine, stream=True)] == [0, 1, 2]
            many = await asyncio.gather(*(ask(engine, stream=True) for _ in range(8)))
            assert all(len(events) == 3 for events in many)
            waiting = asyncio.create_task(engine.wait())
        await waiting
        assert not engine.alive
        with pytest.raises(EngineUnavailable):
            await ask(engine)

    asyncio.run(story())


def test_it_gets_a_folder_where_the_model_has_many_files():
    async def story() -> None:
        async with served(files={"config.json": b"{}", "sub/w.bin": b"w"}) as engine:
            (answer,) = await ask(engine)
            assert answer["model"] == "config.json:{}+sub/w.bin:w"

    asyncio.run(story())


def test_a_server_that_dies_costs_its_request_and_is_noticed():
    async def story() -> None:
        async with served() as engine:
            with pytest.raises(EngineUnavailable):
                await ask(engine, "die")
            await engine.wait()
            assert not engine.alive

    asyncio.run(story())


def test_it_reaches_nothing_outside():
    async def story() -> None:
        async with served() as engine:
            missing = engine.confinement.missing
            ((answer),) = await ask(engine, "outside")
            told = answer["said"]
            for measure, attempts in (
                ("network-namespace", ("network",)),
                ("own-root", ("files", "write")),
                ("own-proc", ("processes",)),
            ):
                if measure not in missing:
                    assert all(told[attempt] != "reached" for attempt in attempts), told
            if "network-namespace" not in missing:
                assert "loopback" not in missing

    asyncio.run(story())


@pytest.mark.parametrize("needs", [Needs(), Needs(scratch=32, compiles=True), Needs(unsafe_gpus=True)], ids=str)
def test_it_has_what_it_was_told_to_need_and_no_more(needs):
    cards = [path.name for path in Path("/dev").glob("nvidia*")] if needs.unsafe_gpus else []

    async def story() -> None:
        async with served(needs=needs) as engine:
            if "own-root" in engine.confinement.missing:
                pytest.skip("missing program: a kernel that gives a process a root of its own")
            ((answer),) = await ask(engine, "inside")
            told = answer["said"]
            assert told["shared"] == "yes"
            assert told["ran"] == ("yes" if needs.compiles else "no")
            assert told["scratch"] == str(needs.scratch)
            assert told["sys"] == ("yes" if needs.unsafe_gpus else "no")
            assert set(told["devices"].split()) == {"null", "zero", "random", "urandom", "shm", *cards}

    asyncio.run(story())


def test_its_processes_share_memory_with_each_other_and_with_nobody_else():
    async def story() -> None:
        async with served() as engine:
            if "own-root" in engine.confinement.missing:
                pytest.skip("no root of its own on this kernel")
            ((answer),) = await ask(engine, "share")
            assert answer["said"] == {"seen": "hello", "alone": True}

    asyncio.run(story())


def test_production_gives_no_server_gpus_that_nothing_has_proved():
    with pytest.raises(UsageError, match="GPUs"):
        ServerProcess(COMMAND, profile="production", needs=Needs(unsafe_gpus=True))


def test_a_nursery_starts_one_as_well():
    nursery = Nursery()
    nursery.spawn()

    async def story() -> None:
        async with served(spawn=nursery.child) as engine:
            assert (await ask(engine))[0]["model"] == "weights"

    try:
        asyncio.run(story())
    finally:
        nursery.kill()


@pytest.mark.parametrize("command", [("/nowhere/at-all",), (sys.executable, "-c", "pass")], ids=["missing", "ends"])
def test_a_server_that_does_not_start_is_unavailable(command):
    async def story() -> None:
        with pytest.raises(EngineUnavailable):
            async with served(command):
                pass

    asyncio.run(story())


def test_a_server_that_never_answers_is_unavailable_in_time():
    async def story() -> None:
        with pytest.raises(EngineUnavailable, match="in time"):
            async with served((sys.executable, "-c", "import time; time.sleep(600)"), patience=0.5):
                pass

    asyncio.run(story())


class Answering:
    """Stands where a child stands: each time it is asked, and the test says `go`, it answers with a connection, and `told`."""

    def __init__(self, *told: bytes) -> None:
        self.socket, self._other = socket.socketpair()
        self.asked, self.go = threading.Semaphore(0), threading.Semaphore(0)
        self.ends: list[socket.socket] = []
        self._told = told
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        told = list(self._told)
        while self._other.recv(1 << 16):
            self.asked.release()
            self.go.acquire()
            ours, theirs = socket.socketpair()
            ours.settimeout(5)
            self.ends.append(ours)
            socket.send_fds(self._other, [told.pop(0) if told else b"{}\n"], [theirs.fileno()])
            theirs.close()

    def kill(self) -> None:
        self.socket.close()
        self.go.release()
        self._thread.join()
        for each in (*self.ends, self._other):
            each.close()


def test_a_connection_that_comes_after_its_request_was_called_off_is_closed():
    child = Answering()

    async def story() -> None:
        engine = ServerProcess(COMMAND, profile="development", spawn=lambda *_: child)
        engine.spawn()
        asking = asyncio.create_task(engine._connect())
        await asyncio.to_thread(child.asked.acquire)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        child.go.release()
        child.go.release()
        with await engine._connect() as kept:
            called_off, waited_for = child.ends
            assert await asyncio.to_thread(called_off.recv, 1) == b"", "nobody holds its other end"
            kept.sendall(b"x")
            assert waited_for.recv(1) == b"x"

    try:
        asyncio.run(story())
    finally:
        child.kill()


@pytest.mark.parametrize("told", [b"no JSON\n", b"[" * 60_000 + b"\n"], ids=["text", "too deep"])
def test_what_comes_with_a_strange_answer_is_closed(told):
    child = Answering(told)

    async def story() -> None:
        engine = ServerProcess(COMMAND, profile="development", spawn=lambda *_: child)
        engine.spawn()
        child.go.release()
        with pytest.raises(EngineUnavailable):
            await engine._connect()
        assert child.ends[0].recv(1) == b""

    try:
        asyncio.run(story())
    finally:
        child.kill()


def test_more_files_than_fit_are_refused():
    async def story() -> None:
        engine = ServerProcess(COMMAND, profile="development")
        with pytest.raises(EngineUnavailable, match="files"):
            await engine.load_folder({str(number): 0 for number in range(MAX_FILES + 1)}, {"name": "m"})

    asyncio.run(story())


def test_production_starts_no_server_with_a_missing_measure(monkeypatch):
    from strongroom.engines.confine import ServerConfinement

    monkeypatch.setattr(ServerConfinement, "from_report", lambda _: ServerConfinement({}))

    async def story() -> None:
        with pytest.raises(ConfinementUnavailable):
            async with served(profile="production"):
                pass

    asyncio.run(story())
