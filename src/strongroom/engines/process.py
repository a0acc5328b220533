"""An engine in a confined process of its own, for an asyncio worker.

Knows: the order (spawn before keys exist, confine, then hand over the model), many requests over one socket, and how the end is
noticed. Does not know: which library runs inside (`child`), how the child is confined (`confine`).
Not covered: an engine that is alive and never answers; whoever asks sets the time limit. A consumer slower than the model makes
pieces wait in memory, at most one context's worth for each request.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import socket
from collections.abc import AsyncGenerator, Mapping, Sequence
from tempfile import TemporaryDirectory
from typing import Any, Literal, Protocol

from strongroom.engines import wire
from strongroom.engines.confine import Confinement
from strongroom.engines.inbox import Inbox
from strongroom.engines.openmp import folder_with_openmp
from strongroom.engines.port import RequestRejected
from strongroom.engines.spawn import Child, spawn_child
from strongroom.engines.wire import Frame, Kind
from strongroom.errors import EngineUnavailable, MalformedMessage, StrongroomError, UsageError

Profile = Literal["production", "development"]
_CHILD = "strongroom.engines.child"


class Spawn(Protocol):
    """`spawn.spawn_child`, or a nursery's `child`."""

    def __call__(self, module: str, *arguments: str, libraries: str | None = None) -> Child: ...


class EngineProcess:
    """Implements `port.Generator`. `spawn` may be called anywhere; everything else in one event loop; `kill` anywhere.

    With `profile="production"` no model is handed over unless every measure of confinement holds; in development
    `confinement.missing` is to be shown to people.
    """

    def __init__(self, *, profile: Profile, adapter: str = "llama", spawn: Spawn = spawn_child) -> None:
        """`spawn` makes the child; a worker that has keys already leaves that to its nursery."""
        self._profile, self._adapter, self._spawn = profile, adapter, spawn
        self._child: Child | None = None
        self._libraries: TemporaryDirectory[str] | None = None
        self._connection: _Connection | None = None
        self._loaded = False
        self._numbers = itertools.count(1)

    def spawn(self) -> None:
        """Start the child; it imports and confines itself meanwhile. Before any key exists. Raises `EngineUnavailable`."""
        if self._child is not None:
            raise EngineUnavailable("an engine is spawned once")
        self._libraries = folder_with_openmp()
        name = self._libraries.name if self._libraries is not None else None
        self._child = self._spawn(_CHILD, self._adapter, libraries=name)

    async def ready(self) -> Confinement:
        """Wait until the child has confined itself, and say how far it came. Raises `EngineUnavailable`."""
        hello = (await self._connect()).hello.result()
        self._forget_libraries()  # the child has loaded what it needs
        return Confinement.from_report(wire.from_json(hello.payload))

    async def load(self, model: int, settings: Mapping[str, str | int], adapters: Sequence[int] = ()) -> Confinement:
        """Hand over a descriptor of the model (a sealed memfd; the caller may close it then) and wait until it is loaded.

        `settings` are those of the library's adapter; `adapters` are descriptors of what is loaded beside the model, which requests
        name by their place (`steering`). Raises `ConfinementUnavailable` in production where a measure is missing, `UsageError` for
        settings that make no sense, `EngineUnavailable` if the engine cannot load this.
        """
        confinement = await self.ready()
        if self._profile == "production":
            confinement.require()
        connection = await self._connect()
        told = {**settings, "adapters": len(adapters)} if adapters else dict(settings)
        connection.send_with_descriptors(wire.pack(Kind.LOAD, 0, wire.to_json(told)), [model, *adapters])
        frame = await asyncio.shield(connection.loaded)
        if frame.kind is Kind.FAILED:
            failure = wire.from_json(frame.payload)
            kind = UsageError if failure.get("usage") is True else EngineUnavailable
            raise kind(f"the engine did not load the model: {str(failure.get('message'))[:200]}")
        self._loaded = True
        return confinement

    @property
    def alive(self) -> bool:
        """Whether the model is loaded and the process runs."""
        return self._loaded and self._connection is not None and not self._connection.ended.done()

    async def generate(self, operation: str, request: Mapping[str, Any]) -> AsyncGenerator[bytes]:
        """See `port.Generator.generate`."""
        connection = self._connection
        if connection is None or not self.alive:
            raise EngineUnavailable("no engine runs")
        try:
            body = wire.to_json({"operation": operation, "request": dict(request)})
            number = next(self._numbers) % wire.MAX_NUMBER + 1
            frames = connection.ask(number, wire.pack(Kind.GENERATE, number, body))
        except MalformedMessage as error:
            raise _rejected(413, error.message) from None
        try:
            while (frame := await frames.get()) is not None:
                if frame.kind is Kind.CHUNK:
                    yield frame.payload
                    continue
                connection.forget(number)
                if frame.kind is Kind.FAILED:
                    raise RequestRejected(wire.from_json(frame.payload), frame.payload)
                return
            raise EngineUnavailable("the engine ended before its answer did")
        finally:
            connection.cancel(number)

    async def wait(self) -> None:
        """Return when the engine has ended, however it ended."""
        with contextlib.suppress(EngineUnavailable):
            await asyncio.shield((await self._connect()).ended)

    def kill(self) -> None:
        """SIGKILL and reap; when this returns, the plaintext's memory is given back. Never fails, also when called twice."""
        child, connection = self._child, self._connection
        if child is not None:
            child.kill()
        if connection is not None:
            connection.abort()
        self._forget_libraries()
        self._loaded = False

    def _forget_libraries(self) -> None:
        folder, self._libraries = self._libraries, None
        if folder is not None:
            folder.cleanup()

    async def _connect(self) -> _Connection:
        """The connection, with the child's first frame arrived. Raises `EngineUnavailable`."""
        if self._child is None:
            raise EngineUnavailable("the engine is not spawned")
        if self._connection is None:
            self._connection = _Connection(self._child)
            await self._connection.open()
        await asyncio.shield(self._connection.hello)
        return self._connection


class _Connection(asyncio.Protocol):
    """The worker's end of the socket: sorts frames by request."""

    def __init__(self, child: Child) -> None:
        self._child = child
        self._loop = asyncio.get_running_loop()
        self._reader = wire.FrameReader(wire.FROM_ENGINE)
        self._streams: dict[int, Inbox[Frame | None]] = {}
        self._transport: asyncio.Transport | None = None
        self.hello: asyncio.Future[Frame] = self._loop.create_future()
        self.loaded: asyncio.Future[Frame] = self._loop.create_future()
        self.ended: asyncio.Future[None] = self._loop.create_future()

    async def open(self) -> None:
        """Attach to the loop with a descriptor of its own; the child keeps its one, to see the end of the process."""
        try:
            self._socket = self._child.socket.dup()
        except OSError:
            self.connection_lost(None)
            return
        self._socket.setblocking(False)
        self._transport, _ = await self._loop.create_unix_connection(lambda: self, sock=self._socket)

    def send_with_descriptors(self, frame: bytes, descriptors: Sequence[int]) -> None:
        """The one frame that carries descriptors. Nothing else was written before, so that the buffer has room."""
        try:
            sent = socket.send_fds(self._socket, [frame], list(descriptors))
        except OSError as error:
            raise EngineUnavailable(f"the model could not be handed over: {error.strerror}") from None
        if sent != len(frame):
            raise EngineUnavailable("the model could not be handed over in one piece")

    def ask(self, number: int, frame: bytes) -> Inbox[Frame | None]:
        """Send a request; its frames arrive in the queue, and None if the engine ends."""
        frames = self._streams[number] = Inbox[Frame | None]()
        self._write(frame)
        return frames

    def forget(self, number: int) -> None:
        """Nothing more is awaited for this request."""
        self._streams.pop(number, None)

    def cancel(self, number: int) -> None:
        """Stop a request, unless it has ended; what still arrives for it is dropped."""
        if self._streams.pop(number, None) is not None:
            self._write(wire.pack(Kind.CANCEL, number))

    def abort(self) -> None:
        """Close at once, from any thread, also when the loop is gone."""
        if self._transport is not None:
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._transport.abort)

    def _write(self, frame: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(frame)

    def data_received(self, data: bytes) -> None:
        """One piece of the stream; a child that breaks the protocol is killed."""
        try:
            for frame in self._reader.feed(data):
                self._sort(frame)
        except MalformedMessage:
            self.abort()

    def _sort(self, frame: Frame) -> None:
        if (frames := self._streams.get(frame.number)) is not None:
            frames.put_nowait(frame)
        elif frame.kind is Kind.HELLO:
            _settle(self.hello, frame)
        elif frame.number == 0:
            _settle(self.loaded, frame)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  # asyncio's signature
        """The child is gone, or will be at once; everyone who waits is told."""
        self._child.kill()
        _settle(
            self.hello,
            EngineUnavailable("the engine ended while it started; is its library, and libgomp.so.1, installed?"),
        )
        _settle(self.loaded, EngineUnavailable("the engine ended"))
        for frames in self._streams.values():
            frames.put_nowait(None)
        self._streams.clear()
        if not self.ended.done():
            self.ended.set_result(None)


def _settle(future: asyncio.Future[Frame], outcome: Frame | StrongroomError) -> None:
    if future.done():
        return
    if isinstance(outcome, Frame):
        future.set_result(outcome)
    else:
        future.set_exception(outcome)
        future.exception()  # nobody need be waiting


def _rejected(status: int, message: str) -> RequestRejected:
    reply = {"error": {"code": status, "message": message, "type": "invalid_request_error"}}
    return RequestRejected(reply, wire.to_json(reply))
