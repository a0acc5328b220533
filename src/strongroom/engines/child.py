"""Inside the engine's process: import, confine, then take a model and answer.

Knows: the order, and that requests run side by side. Does not know: any library (`ADAPTERS`), nor who asks.
Nothing is printed: output goes nowhere, and what an engine says of a request goes back to the request alone.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NoReturn, Protocol

from strongroom.engines import seccomp, wire
from strongroom.engines.confine import Bounds, Confined, confine
from strongroom.engines.measures import ACHIEVED
from strongroom.engines.wire import Frame, Kind
from strongroom.errors import MalformedMessage, UsageError

MAX_WAITING = 64
MAX_ADAPTERS = 64
_READ = 1 << 16


class Rejected(Exception):
    """An engine's word on a request that it will not do: JSON text in OpenAI's form."""


class Adapter(Protocol):
    """One library, imported before confinement."""

    def load(self, model: int, settings: Mapping[str, Any], scratch: str, adapters: Sequence[int] = ()) -> int:
        """Load the model behind a descriptor; say how many requests run at once. Raises `UsageError` for the settings.

        `adapters` are descriptors, too; `steering` names them by their place.
        """
        ...

    def run(self, operation: str, request: Mapping[str, Any], emit: Callable[[str], bool]) -> None:
        """Answer one request, in the caller's thread. `emit` takes a JSON text and says whether to stop. Raises `Rejected`."""
        ...


def _llama() -> Adapter:
    from strongroom.engines.llama import LlamaAdapter

    return LlamaAdapter()


ADAPTERS: Mapping[str, Callable[[], Adapter]] = {"llama": _llama}
"""By name; nothing is loaded that is not named here and asked for."""


def main(control: int, arguments: list[str]) -> NoReturn:
    """The process's whole life. `arguments` hold the adapter's name."""
    adapter = ADAPTERS[arguments[0]]()
    confined = confine(Bounds(control=control, listener=True))
    service = Service(socket.socket(fileno=control), adapter, confined)
    try:
        service.serve()
    finally:
        os._exit(0)  # no destructor of a native library gets to run


class Service:
    """Reads frames in one thread; answers in others."""

    def __init__(self, control: socket.socket, adapter: Adapter, confined: Confined) -> None:
        self._control, self._adapter, self._confined = control, adapter, confined
        self._sending = threading.Lock()
        self._requests: dict[int, threading.Event] = {}
        self._pool: ThreadPoolExecutor | None = None

    def serve(self) -> None:
        """Until the worker hangs up or breaks the protocol."""
        self._send(Kind.HELLO, 0, wire.to_json(dict(self._confined.report.outcomes)))
        reader, descriptors = wire.FrameReader(wire.FROM_WORKER), list[int]()
        while True:
            data, received, _, _ = socket.recv_fds(self._control, _READ, 1 + MAX_ADAPTERS)
            descriptors += received
            if not data:
                return
            for frame in reader.feed(data):
                self._take(frame, descriptors)

    def _take(self, frame: Frame, descriptors: list[int]) -> None:
        if frame.kind is Kind.LOAD:
            settings = wire.from_json(frame.payload)
            if len(descriptors) != 1 + settings.pop("adapters", 0) or self._pool is not None:
                raise MalformedMessage("a model is handed over once, as one descriptor, and one for each adapter")
            self._load(descriptors[0], settings, descriptors[1:])
            descriptors.clear()
        elif frame.kind is Kind.CANCEL:
            if (stop := self._requests.get(frame.number)) is not None:
                stop.set()
        elif self._pool is None:
            raise MalformedMessage("a request before a model")
        elif len(self._requests) >= MAX_WAITING:
            self._send(Kind.FAILED, frame.number, problem(429, "too many requests wait", "rate_limit_error").encode())
        else:
            stop = self._requests[frame.number] = threading.Event()
            self._pool.submit(self._answer, frame, stop)

    def _load(self, model: int, settings: Mapping[str, Any], adapters: Sequence[int]) -> None:
        try:
            slots = self._adapter.load(model, settings, self._confined.scratch, adapters)
            if self._confined.report.outcomes.get("seccomp") == ACHIEVED:
                seccomp.refuse_sockets()  # the engine's own listener stands; nothing may open another socket from now on
        except UsageError as error:
            self._send(Kind.FAILED, 0, wire.to_json({"message": error.message, "usage": True}))
        except Exception as error:  # noqa: BLE001  # whatever a library raises ends here, as its name alone
            self._send(Kind.FAILED, 0, wire.to_json({"message": type(error).__name__}))
        else:
            self._pool = ThreadPoolExecutor(slots)
            self._send(Kind.LOADED)
        finally:
            for descriptor in (model, *adapters):
                os.close(descriptor)

    def _answer(self, frame: Frame, stop: threading.Event) -> None:
        number = frame.number

        def emit(text: str) -> bool:
            self._send(Kind.CHUNK, number, text.encode())
            return stop.is_set()

        try:
            if not stop.is_set():
                asked = wire.from_json(frame.payload)
                self._adapter.run(asked["operation"], asked["request"], emit)
            self._end(Kind.END, number)
        except Rejected as rejected:
            self._end(Kind.FAILED, number, str(rejected).encode())
        except Exception as error:  # noqa: BLE001  # one request's accident is not another's
            self._end(Kind.FAILED, number, problem(500, type(error).__name__, "server_error").encode())

    def _end(self, kind: Kind, number: int, payload: bytes = b"") -> None:
        del self._requests[number]
        self._send(kind, number, payload)

    def _send(self, kind: Kind, number: int = 0, payload: bytes = b"") -> None:
        frame = wire.pack(kind, number, payload)
        with self._sending:
            self._control.sendall(frame)


def problem(status: int, message: str, kind: str = "invalid_request_error") -> str:
    """An error in OpenAI's form."""
    return wire.to_json({"error": {"code": status, "message": message, "type": kind}}).decode()
