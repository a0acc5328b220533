"""A server of OpenAI's API, started as a child in a world of its own: no network but a loopback that nobody else has.

The command is part of the measured configuration, the image has the program, the artifact its files. Connections are made by the child,
which sits where the server sits, and handed over as descriptors: no port of it is open to any other process.
The server is free to start processes and threads, so neither seccomp nor Landlock hold it: the namespaces, a root without the machine's
files, an account without rights and no capabilities do (`confine.ServerConfinement`).

Knows: the life of that child from the worker's side. Does not know: HTTP (`upstream`), what the server is.
Not covered: whether a GPU that it is given deserves it: nothing has proved the card, so whoever gives it one says `unsafe`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import threading
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from strongroom.engines.confine import ServerConfinement
from strongroom.engines.process import Profile, Spawn
from strongroom.engines.spawn import Child, spawn_child
from strongroom.engines.upstream import Kind, Upstream
from strongroom.errors import EngineUnavailable, UsageError

SCRATCH_MIB = 512


@dataclass(frozen=True, slots=True)
class Needs:
    """What a server has beyond what every one has. All of it is measured with the command.

    `scratch` is the size in MiB of its /tmp, and of its /dev/shm. What it `compiles` into its /tmp it may execute. With
    `unsafe_gpus` it has the machine's GPUs, which hold the model then in memory that no evidence speaks for: UNSAFE.
    """

    scratch: int = SCRATCH_MIB
    compiles: bool = False
    unsafe_gpus: bool = False

    @property
    def arguments(self) -> tuple[str, ...]:
        """For the child."""
        return str(self.scratch), str(int(self.unsafe_gpus)), str(int(self.compiles))

    @property
    def settings(self) -> dict[str, str | int]:
        """What of it stands in the measured configuration: all that is not as it is for every server."""
        told: dict[str, str | int] = {}
        if self.scratch != SCRATCH_MIB:
            told["scratch"] = self.scratch
        if self.compiles:
            told["compiles"] = 1
        if self.unsafe_gpus:
            told["gpus"] = "unsafe"
        return told


NOTHING_MORE = Needs()
MAX_FILES = 200
"""Files of one model: as many descriptors as the kernel takes in one message, and some less."""
_CHILD = "strongroom.engines.server_child"
_ANSWER_SECONDS = 30.0
_MAX_LINE = 64 * 1024
_LOOK_AGAIN = 0.1


class ServerProcess:
    """Implements `port.Generator`, as `process.EngineProcess` does, with a server inside.

    `command` is what to run, with `{model}` (the one file, or the folder of all), `{folder}`, `{port}` and `{name}` in it;
    `patience` bounds the seconds until the server lists its models. `spawn` anywhere; all else in one event loop; `kill` anywhere.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        profile: Profile,
        kind: Kind = "openai",
        adapters: Sequence[str] = (),
        needs: Needs = NOTHING_MORE,
        spawn: Spawn = spawn_child,
        patience: float = 600.0,
    ) -> None:
        """Raises `UsageError` for GPUs in production."""
        if needs.unsafe_gpus and profile == "production":
            raise UsageError(
                "nothing has proved the GPUs of this machine",
                remedy="Leave them out, or serve what may be seen by its host.",
            )
        self._needs = needs
        self._command, self._profile, self._kind, self._adapters = tuple(command), profile, kind, adapters
        self._spawn, self._patience = spawn, patience
        self._child: Child | None = None
        self._asking = threading.Lock()
        self._upstream: Upstream | None = None
        self._ended: asyncio.Future[None] | None = None
        self._lifeline = -1

    def spawn(self) -> None:
        """Start the child. Raises `EngineUnavailable`."""
        if self._child is not None:
            raise EngineUnavailable("an engine is spawned once")
        self._child = self._spawn(_CHILD, *self._needs.arguments)
        self._child.socket.settimeout(_ANSWER_SECONDS)

    @property
    def alive(self) -> bool:
        """Whether the server answered and its child still runs."""
        return self._upstream is not None and self._ended is not None and not self._ended.done()

    async def load(
        self, model: int, settings: Mapping[str, str | int], adapters: Sequence[int] = ()
    ) -> ServerConfinement:
        """As `load_folder` with one file. Raises `UsageError` for adapters, which a server has by names of its own."""
        if adapters:
            raise UsageError("a server takes no adapters beside its model")
        return await self.load_folder({"model.gguf": model}, settings)

    async def load_folder(self, files: Mapping[str, int], settings: Mapping[str, str | int]) -> ServerConfinement:
        """Hand over the files (path: descriptor), start the server and wait until it answers.

        Raises `ConfinementUnavailable` in production where a measure is missing, `EngineUnavailable` for a server that ends or
        does not answer in time, or for more files than fit.
        """
        if len(files) > MAX_FILES:
            raise EngineUnavailable(f"{len(files)} files of a model, where a server takes {MAX_FILES}")
        hello, descriptors = await asyncio.to_thread(self._answer)
        self._watch(descriptors)
        confinement = ServerConfinement.from_report(hello)
        if self._profile == "production":
            confinement.require()
        name = str(settings["name"])
        told = {"files": list(files), "command": self._command, "name": name}
        await asyncio.to_thread(self._ask, told, list(files.values()))
        upstream = Upstream(self._connect, name=name, kind=self._kind, adapters=self._adapters)
        try:
            async with asyncio.timeout(self._patience):
                while not await upstream.ready():
                    if self._ended is None or self._ended.done():
                        raise EngineUnavailable("the engine's server ended while it started")
                    await asyncio.sleep(_LOOK_AGAIN)
        except TimeoutError:
            raise EngineUnavailable("the engine's server does not answer in time") from None
        self._upstream = upstream
        return confinement

    async def generate(self, operation: str, request: Mapping[str, Any]) -> AsyncGenerator[bytes]:
        """See `port.Generator.generate`."""
        if self._upstream is None or not self.alive:
            raise EngineUnavailable("no engine runs")
        async with contextlib.aclosing(self._upstream.generate(operation, request)) as chunks:
            async for chunk in chunks:
                yield chunk

    async def wait(self) -> None:
        """Return when the server or its child has ended, however it ended."""
        if self._ended is not None:
            await asyncio.shield(self._ended)

    def kill(self) -> None:
        """SIGKILL server and child; when this returns, their memory is given back. Never fails, also when called twice."""
        if self._child is not None:
            self._child.kill()

    def _watch(self, descriptors: list[int]) -> None:
        """The child holds the other end of this pipe and never writes: what comes is its end."""
        if len(descriptors) != 1:
            raise EngineUnavailable("the engine's child does not speak as it should")
        loop = asyncio.get_running_loop()
        self._ended, self._lifeline = loop.create_future(), descriptors[0]

        def over() -> None:
            loop.remove_reader(self._lifeline)
            os.close(self._lifeline)
            if self._ended is not None and not self._ended.done():
                self._ended.set_result(None)

        loop.add_reader(self._lifeline, over)

    async def _connect(self) -> socket.socket:
        asking = asyncio.create_task(asyncio.to_thread(self._ask, {"connect": True}, []))
        try:
            _, descriptors = await asyncio.shield(asking)
        except asyncio.CancelledError:
            asking.add_done_callback(_close_answered)  # the thread goes on, and what it gets is nobody's
            raise
        if len(descriptors) != 1:
            _close(descriptors)
            raise EngineUnavailable("the engine's server does not answer")
        made = socket.socket(fileno=descriptors[0])
        made.setblocking(False)
        return made

    def _ask(self, told: Mapping[str, Any], descriptors: list[int]) -> tuple[dict[str, Any], list[int]]:
        with self._asking:
            if self._child is None:
                raise EngineUnavailable("the engine is not spawned")
            try:
                line = json.dumps(told).encode() + b"\n"
                sent = socket.send_fds(self._child.socket, [line], descriptors)
                self._child.socket.sendall(line[sent:])
            except OSError:
                raise EngineUnavailable("the engine's child does not answer") from None
            return self._answer()

    def _answer(self) -> tuple[dict[str, Any], list[int]]:
        """One line from the child, with what came along."""
        if self._child is None:
            raise EngineUnavailable("the engine is not spawned")
        line, descriptors = bytearray(), list[int]()
        with contextlib.ExitStack() as otherwise:
            otherwise.callback(_close, descriptors)
            try:
                while not line.endswith(b"\n"):
                    piece, came, _, _ = socket.recv_fds(self._child.socket, _MAX_LINE, 1)
                    line += piece
                    descriptors += came
                    if not piece or len(line) > _MAX_LINE:
                        raise EngineUnavailable("the engine's child ended")
                found = json.loads(line)
            except (OSError, ValueError, RecursionError):
                raise EngineUnavailable("the engine's child does not speak as it should") from None
            otherwise.pop_all()
        return (found if isinstance(found, dict) else {}), descriptors


def _close_answered(asking: asyncio.Task[tuple[dict[str, Any], list[int]]]) -> None:
    if not asking.cancelled() and asking.exception() is None:
        _close(asking.result()[1])


def _close(descriptors: Iterable[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)
