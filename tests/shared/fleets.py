"""A front door with real workers behind it, and wires between them that keep every byte and can be cut."""

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import httpx2
from world import WAIT, World

from strongroom.appraisal.policies import to_toml
from strongroom.client.client import AsyncClient
from strongroom.demo.processes import Process, command
from strongroom.services.door import Door
from strongroom.services.fleet import Fleet
from strongroom.services.server import Server


def wait_for(what: Callable[[], Any], seconds: float = WAIT) -> Any:
    """What `what` gives as soon as it is true."""
    deadline = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.02)
    return found


class Background:
    """A coroutine's life on a thread of its own: `open` runs within, until `close`."""

    def __enter__(self) -> Any:
        self._up = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._live()), daemon=True)
        self._thread.start()
        assert self._up.wait(WAIT)
        return self

    def __exit__(self, *_: object) -> None:
        self.loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(WAIT)
        assert not self._thread.is_alive()

    def within(self) -> Any:
        """The asynchronous context to live in."""
        raise NotImplementedError

    async def _live(self) -> None:
        self.loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        async with self.within():
            self._up.set()
            await self._stop.wait()


class Wire(Background):
    """A TCP forwarder to `target`: `seen` is what went over it, `cut` breaks it for ever, at once."""

    def __init__(self, target: str) -> None:
        self._target = httpx2.URL(target)
        self.seen = bytearray()
        self._dead = False
        self._writers: set[asyncio.StreamWriter] = set()
        self._carrying: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @contextlib.asynccontextmanager
    async def within(self) -> Any:
        self._server = await asyncio.start_server(self._carry, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        try:
            yield
        finally:
            self._cut()
            await asyncio.sleep(0)
            await asyncio.gather(*self._carrying, return_exceptions=True)

    def cut(self) -> None:
        """As when the power goes: connections are reset, new ones refused."""
        done = threading.Event()
        self.loop.call_soon_threadsafe(lambda: (self._cut(), done.set()))
        assert done.wait(WAIT)

    def _cut(self) -> None:
        self._dead = True
        self._server.close()
        for writer in list(self._writers):
            writer.transport.abort()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._carrying.add(task)
        task.add_done_callback(self._carrying.discard)
        try:
            there = await asyncio.open_connection(self._target.host, self._target.port)
        except OSError:
            writer.transport.abort()
            return
        pairs = ((reader, there[1]), (there[0], writer))
        self._writers |= {writer, there[1]}
        if self._dead:
            self._cut()
        await asyncio.gather(*(self._pump(*pair) for pair in pairs), return_exceptions=True)
        for end in (writer, there[1]):
            self._writers.discard(end)
            end.transport.abort()

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        while data := await source.read(1 << 16):
            self.seen += data
            sink.write(data)
            await sink.drain()
        with contextlib.suppress(OSError):
            sink.write_eof()


class Reported:
    """What operators see of a door, at the address `operators`."""

    operators: str

    def report(self) -> dict[str, dict[str, Any]]:
        """The operators' report, by the workers' addresses."""
        told = httpx2.get(self.operators + "/fleet").json()
        return {worker["url"]: worker for worker in told["workers"]}

    def await_standing(self, url: str, standing: str) -> dict[str, Any]:
        """The report of one worker once it stands as said."""
        return wait_for(lambda: (found := self.report().get(url)) and found["standing"] == standing and found)


class DoorProcess(Reported):
    """The same as `OpenDoor` by the command line, in a process of its own, so that its memory can be looked at."""

    def __init__(self, world: World, folder: Path, *urls: str) -> None:
        folder.mkdir()
        policy = folder / "policy.toml"
        policy.write_text(to_toml(world.policy))
        trust = ["--policy", policy, "--anchor", world.anchor_file, "--accept-simulated"]
        broker = ["--broker-fingerprint", world.broker.identity.fingerprint]
        listen = ["--listen", "127.0.0.1:0", "--operators", "127.0.0.1:0"]
        workers = [word for url in urls for word in ("--worker", url)]
        self.log = folder / "log"
        self._process = Process(command("front-door", *listen, *workers, *trust, *broker), self.log)

    def __enter__(self) -> Self:
        self.operators = self._process.line(state="operators")["url"]
        self.url = self._process.line(state="ready")["url"]
        return self

    def __exit__(self, *_: object) -> None:
        self._process.stop()

    def holds(self, secret: bytes) -> bool:
        """Whether these bytes are anywhere in the memory that the process may write to."""
        number = self._process.process.pid
        regions = Path(f"/proc/{number}/maps").read_text(encoding="utf-8").splitlines()
        with Path(f"/proc/{number}/mem").open("rb", buffering=0) as memory:
            for region in regions:
                place, access = region.split()[:2]
                start, end = (int(edge, 16) for edge in place.split("-"))
                if access.startswith("rw"):
                    try:
                        memory.seek(start)
                        found = secret in memory.read(end - start)
                    except OSError:
                        continue  # a region that the kernel keeps to itself, or one that is gone
                    if found:
                        return True
        return False


class OpenDoor(Reported, Background):
    """A door that is open: `url` for clients, `operators` for who runs it, `fleet` behind it."""

    def __init__(self, world: World, *urls: str, **changed: Any) -> None:
        trust = {
            "policy": world.policy,
            "anchor": world.anchor_file,
            "broker": world.broker.identity.fingerprint,
            "accept_simulated": True,
        } | changed
        self.fleet = Fleet(lambda url: AsyncClient(url, **trust), look_seconds=0.1)
        for url in urls:
            self.fleet.add(url, configured=True)
        self.door = Door(self.fleet)

    @contextlib.asynccontextmanager
    async def within(self) -> Any:
        app, operators = (Server(found, host="127.0.0.1", port=0) for found in (self.door.app, self.door.operators))
        async with self.fleet.watched(), operators, app:
            self.url, self.operators = app.url, operators.url
            yield


@contextmanager
def opened(world: World, *urls: str, **changed: Any) -> Iterator[OpenDoor]:
    """A door before workers that are all admitted."""
    with OpenDoor(world, *urls, **changed) as door:
        for url in urls:
            door.await_standing(url, "ready")
        yield door
