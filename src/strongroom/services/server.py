"""An HTTP server for any of the applications: bind first, then serve, then stop in order.

Knows: addresses, ports, life and end of a server. Does not know: what it serves. Access logs are off: an address and a
path are somebody's business; who may hold a connection how long, `connections` says. TLS is given (a worker's own, see
`channel.pinning`); a broker's ends before it.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import signal
import socket
import ssl
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from strongroom.errors import AddressInUse, ServiceUnavailable, UsageError
from strongroom.services.connections import Connection

STOP_SECONDS = 5
PATIENCE_SECONDS = 60.0
"""How long a reader may leave what was sent to it where it is."""
MAX_PORT = 65535


def parse_listen(text: str) -> tuple[str, int]:
    """`HOST:PORT` (IPv6 in brackets) as host and port; port 0 takes a free one. Raises `UsageError`."""
    host, colon, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    number = int(port) if port.isascii() and port.isdigit() else -1
    if not colon or not host or not 0 <= number <= MAX_PORT:
        raise UsageError(f"{text!r} is not an address to listen on", remedy="Write HOST:PORT, as 127.0.0.1:8080.")
    return host, number


def bind(host: str, port: int) -> socket.socket:
    """A bound socket. Raises `AddressInUse`, or `UsageError` for an address that this machine does not have."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Named TCP, because asyncio switches Nagle's algorithm off only there: streamed tokens must not wait for acknowledgements.
    bound = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((host, port))
        bound.listen(socket.SOMAXCONN)  # so that a second server is refused now, and not when it serves
    except OSError as error:
        bound.close()
        if error.errno in {errno.EADDRINUSE, errno.EACCES}:
            raise AddressInUse(f"{host}:{port} cannot be taken: {error.strerror}") from None
        raise UsageError(f"{host}:{port} is not an address of this machine", remedy="Listen on 127.0.0.1.") from None
    return bound


def require_free(host: str, port: int) -> None:
    """That an address can be listened on, asked before what cannot be undone. Raises what `bind` raises."""
    bind(host, port).close()


class Server:
    """`app` on `host`:`port`, served within `async with`; `url` and `port` say where.

    A reader that takes next to nothing (less than 48 KiB) for `patience` seconds while more waits for it is cut off: else it holds an
    engine, a place in the queue and memory for as long as it likes. Raises `AddressInUse` on entering.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        host: str,
        port: int,
        tls: ssl.SSLContext | None = None,
        patience: float = PATIENCE_SECONDS,
    ) -> None:
        self._app, self._host, self._port, self._tls, self._patience = app, host, port, tls, patience
        self._server: _Quiet | None = None
        self._serving: asyncio.Task[None] | None = None

    @property
    def port(self) -> int:
        return self._port

    @property
    def url(self) -> str:
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http{'' if self._tls is None else 's'}://{host}:{self._port}"

    async def __aenter__(self) -> Self:
        bound = bind(self._host, self._port)
        self._port = bound.getsockname()[1]
        self._server = _Quiet(_config(self._app, self._tls, self._patience))
        self._serving = asyncio.create_task(self._server.serve([bound]))
        started = asyncio.create_task(self._server.up.wait())
        await asyncio.wait({self._serving, started}, return_when=asyncio.FIRST_COMPLETED)
        if self._serving.done():
            started.cancel()
            raise ServiceUnavailable("the server ended before it began")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Take no new requests, let those under way end within `STOP_SECONDS`, close."""
        if self._server is not None and self._serving is not None:
            self._server.should_exit = True
            await self._serving


async def serve_until_signal(app: ASGIApp, *, host: str, port: int, ready: Callable[[str], None]) -> None:
    """Serve `app` until SIGTERM or SIGINT; `ready` is told the URL. Raises `AddressInUse`."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    try:
        async with Server(app, host=host, port=port) as server:
            ready(server.url)
            await stop.wait()
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


class BackgroundServer:
    """The same on a thread of its own, for what is not asynchronous: `with BackgroundServer(app) as server`."""

    def __init__(
        self, app: ASGIApp, *, host: str = "127.0.0.1", port: int = 0, tls: ssl.SSLContext | None = None
    ) -> None:
        self._inner = Server(app, host=host, port=port, tls=tls)
        self._up = threading.Event()
        self._failed: list[BaseException] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._thread = threading.Thread(target=self._run, name="strongroom-server", daemon=True)

    @property
    def url(self) -> str:
        return self._inner.url

    @property
    def port(self) -> int:
        return self._inner.port

    def __enter__(self) -> Self:
        self._thread.start()
        self._up.wait()
        if self._failed:
            raise self._failed[0]
        return self

    def __exit__(self, *_: object) -> None:
        if self._loop is not None and self._stop is not None:
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    def _run(self) -> None:
        try:
            asyncio.run(self._live())
        except BaseException as error:  # noqa: BLE001 (raised again by whoever entered)
            self._failed.append(error)
        finally:
            self._up.set()

    async def _live(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        async with self._inner:
            self._up.set()
            await self._stop.wait()


class _Quiet(uvicorn.Server):
    """uvicorn without its signal handlers, and with an event for "now it accepts"."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.up = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.up.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Any:
        yield


def _patient(seconds: float) -> type[H11Protocol]:
    """Uvicorn's protocol, which cuts off a reader that makes it wait for longer."""

    class Patient(Connection):
        _cutting: asyncio.TimerHandle | None = None

        def pause_writing(self) -> None:
            super().pause_writing()
            self._cutting = self.loop.call_later(seconds, self.transport.abort)

        def resume_writing(self) -> None:
            self._calm()
            super().resume_writing()

        def connection_lost(self, exc: Exception | None) -> None:
            self._calm()
            super().connection_lost(exc)

        def _calm(self) -> None:
            if self._cutting is not None:
                self._cutting.cancel()
                self._cutting = None

    return Patient


def _config(app: ASGIApp, tls: ssl.SSLContext | None, patience: float) -> uvicorn.Config:
    """Parser and loop are named, so that what else is installed beside us does not change how requests are read."""
    return uvicorn.Config(
        app,
        http=_patient(patience),
        loop="asyncio",
        log_config=None,
        access_log=False,
        lifespan="off",
        server_header=False,
        date_header=False,
        timeout_graceful_shutdown=STOP_SECONDS,
        timeout_keep_alive=30,
        ws="none",
        ssl_context_factory=None if tls is None else lambda _config, _default: tls,
    )
