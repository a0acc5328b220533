"""Any server of OpenAI's API inside the boundary as an engine: vLLM, TGI, llama-server and others, over HTTP/1.1 on a given socket.

Knows: the three operations as paths, which members of a request may pass (a list, as in `llama`), how such a server ends a stream and
how it says no. A stream without its `[DONE]`, an answer cut short or of a strange form is `EngineUnavailable`, never a clean end.
With `kind="vllm"` each request carries a `cache_salt`: the trusted side's, or a fresh one, so that no two requests share cached prefixes
unless somebody in here meant it. What steers a request and such a server cannot follow is refused, never ignored.
Does not know: who started the server or confines it (`server`). Total against whatever it sends; one connection for each request.
Not covered: a server that is alive and never answers; whoever asks sets the time limit.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import h11

from strongroom.engines import counting, steering, wire
from strongroom.engines.confine import Confinement
from strongroom.engines.port import RequestRejected
from strongroom.errors import EngineUnavailable, MalformedMessage, UsageError

Kind = Literal["openai", "vllm"]
Connect = Callable[[], Awaitable[socket.socket]]
"""Makes a connected stream socket. Raises `EngineUnavailable`."""

MAX_ANSWER = 32 * 1024 * 1024
MAX_REFUSAL = 64 * 1024
_READ = 1 << 16
_OK, _NOT_OURS, _SERVERS_OWN = 200, frozenset({401, 403, 405}), 500

# fmt: off
_SAMPLING = frozenset({
    "frequency_penalty", "logit_bias", "logprobs", "max_completion_tokens", "max_tokens", "n", "presence_penalty",
    "response_format", "seed", "stop", "stream", "stream_options", "temperature", "top_logprobs", "top_p",
})
# fmt: on
_MORE: Mapping[Kind, frozenset[str]] = {
    "openai": frozenset(),
    "vllm": frozenset({"cache_salt", "min_p", "repetition_penalty", "top_k"}),
}
_OPERATIONS: Mapping[str, tuple[str, frozenset[str]]] = {
    "chat.completions": (
        "/v1/chat/completions",
        _SAMPLING | {"messages", "tools", "tool_choice", "parallel_tool_calls", "reasoning_effort"},
    ),
    "completions": ("/v1/completions", _SAMPLING | {"prompt", "suffix", "echo"}),
    "embeddings": ("/v1/embeddings", frozenset({"input", "encoding_format", "dimensions"})),
    counting.OPERATION: ("/tokenize", counting.MEMBERS),
}
_IGNORED = frozenset({"user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key"})
_LONGEST_NAME = 40


class Upstream:
    """Answers requests as `port.Generator` says, by the server behind `connect`, which knows the model as `name`.

    `adapters` are names of the server's own (LoRA) that a request's `model` may have instead.
    """

    def __init__(self, connect: Connect, *, name: str, kind: Kind = "openai", adapters: Sequence[str] = ()) -> None:
        self._connect, self._name, self._kind = connect, name, kind
        self._adapters = frozenset(adapters)

    async def generate(self, operation: str, request: Mapping[str, Any]) -> AsyncGenerator[bytes]:
        """See `port.Generator.generate`."""
        if operation == counting.OPERATION:
            yield wire.to_json(await self._tokens(request))
            return
        path, body = self._asked(operation, request)
        async with _exchange(await self._connect(), "POST", path, body) as (status, pieces):
            if status != _OK:
                raise _refusal(status, await _whole(pieces, MAX_REFUSAL))
            if request.get("stream") is not True:
                yield _answer(await _whole(pieces, MAX_ANSWER))
                return
            events = Events()
            async for piece in pieces:
                for event in events.feed(piece):
                    yield _answer(event)
            if not events.done:
                raise EngineUnavailable("the engine's server ended before its answer did")

    async def _tokens(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Which ones, says vLLM; of another server only what it counts for an answer is known."""
        vllm = self._kind == "vllm"
        asking, told = (counting.OPERATION, dict(request)) if vllm else counting.reading(request)
        path, body = self._asked(asking, told)
        async with _exchange(await self._connect(), "POST", path, body) as (status, pieces):
            if status != _OK:
                raise _refusal(status, await _whole(pieces, MAX_REFUSAL))
            answer = _answer(await _whole(pieces, MAX_ANSWER))
        if not vllm:
            return counting.counted(answer)
        said = wire.from_json(answer)
        found = {name: said.get(name) for name in ("count", "max_model_len", "tokens")}
        return {**found, "usage": {"prompt_tokens": found["count"]}}

    async def ready(self) -> bool:
        """Whether the server lists its models by now."""
        try:
            async with _exchange(await self._connect(), "GET", "/v1/models", b"") as (status, pieces):
                await _whole(pieces, MAX_ANSWER)
                return status == _OK
        except EngineUnavailable:
            return False

    def _asked(self, operation: str, request: Mapping[str, Any]) -> tuple[str, bytes]:
        if operation not in _OPERATIONS:
            raise _rejected(404, "this engine has no such operation")
        path, known = _OPERATIONS[operation]
        salted = self._kind == "vllm" and operation not in {"embeddings", counting.OPERATION}
        known = known | _MORE[self._kind] | {"model"} if salted else known | {"model"}
        steered, request = steering.take(request)
        if steered.adapter is not None or (steered.cache_salt and self._kind != "vllm"):
            raise _rejected(_SERVERS_OWN, "the engine's server cannot be steered so")
        unknown = sorted(set(request) - known - _IGNORED - {"cache_salt"})
        if unknown:
            raise _rejected(400, f"the member {unknown[0][:_LONGEST_NAME]!r} is not supported")
        asked = {name: value for name, value in request.items() if name in known}
        asked["model"] = asked["model"] if asked.get("model") in self._adapters else self._name
        if salted:
            asked["cache_salt"] = steered.cache_salt or asked.get("cache_salt") or secrets.token_urlsafe(32)
        try:
            return path, wire.to_json(asked)
        except MalformedMessage:
            raise _rejected(400, "a value that JSON cannot hold") from None


class Events:
    """The data of server-sent events out of pieces of any size; `done` once `[DONE]` was among them."""

    def __init__(self) -> None:
        self.done = False
        self._rest, self._data = b"", bytearray()

    def feed(self, piece: bytes) -> Iterator[bytes]:
        """Each event's data that `piece` completes. Raises `EngineUnavailable` for one beyond all limits or after the end."""
        *lines, self._rest = (self._rest + piece).split(b"\n")
        if len(self._rest) + len(self._data) > MAX_ANSWER:
            raise EngineUnavailable("the engine's server sent an event without an end")
        for line in lines:
            text = line.removesuffix(b"\r")
            if text.startswith(b"data:"):
                self._data += (b"\n" if self._data else b"") + text[5:].removeprefix(b" ")
            elif not text and self._data:
                event, self._data = bytes(self._data), bytearray()
                if self.done:
                    raise EngineUnavailable("the engine's server went on after its end")
                if event == b"[DONE]":
                    self.done = True
                else:
                    yield event


@contextlib.asynccontextmanager
async def _exchange(
    connection: socket.socket, method: str, path: str, body: bytes
) -> AsyncIterator[tuple[int, AsyncIterator[bytes]]]:
    """One request; the status and the pieces of its answer. Raises `EngineUnavailable` for what is not HTTP or is cut short."""
    client = h11.Connection(h11.CLIENT)
    headers = [
        ("host", "engine"),
        ("content-type", "application/json"),
        ("content-length", str(len(body))),
        ("connection", "close"),
    ]
    reader, writer = await asyncio.open_connection(sock=connection)
    try:
        begin = client.send(h11.Request(method=method, target=path, headers=headers)) or b""
        writer.write(begin + (client.send(h11.Data(data=body)) or b"") + (client.send(h11.EndOfMessage()) or b""))
        await writer.drain()
        first = await _next(client, reader)
        while isinstance(first, h11.InformationalResponse):
            first = await _next(client, reader)
        if not isinstance(first, h11.Response):
            raise EngineUnavailable("the engine's server ended before it answered")
        yield first.status_code, _pieces(client, reader)
    except (h11.ProtocolError, OSError):
        raise EngineUnavailable("the engine's server broke off") from None
    finally:
        writer.transport.abort()


async def _pieces(client: h11.Connection, reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    while isinstance(event := await _next(client, reader), h11.Data):
        yield bytes(event.data)
    if not isinstance(event, h11.EndOfMessage):
        raise EngineUnavailable("the engine's server ended before its answer did")


async def _next(client: h11.Connection, reader: asyncio.StreamReader) -> Any:
    while (event := client.next_event()) is h11.NEED_DATA:
        client.receive_data(await reader.read(_READ))
    return event


async def _whole(pieces: AsyncIterator[bytes], limit: int) -> bytes:
    body = bytearray()
    async for piece in pieces:
        body += piece
        if len(body) > limit:
            raise EngineUnavailable("the engine's server sent more than an answer can be")
    return bytes(body)


def _answer(text: bytes) -> bytes:
    """A JSON object; one that says that something failed is raised."""
    try:
        answer = wire.from_json(text)
    except MalformedMessage:
        raise EngineUnavailable("the engine's server sent what is not JSON") from None
    if answer.get("error") is None:
        return text
    error = answer["error"] if isinstance(answer["error"], dict) else {}
    status = error.get("code")
    raise _refusal(status if type(status) is int else _SERVERS_OWN, text)


def _refusal(status: int, body: bytes) -> EngineUnavailable | RequestRejected:
    """What the server's no means: the request's fault in its own words, or the server's."""
    if not 400 <= status < _SERVERS_OWN or status in _NOT_OURS:  # noqa: PLR2004  # HTTP's errors of the client
        return EngineUnavailable(f"the engine's server failed with status {status if 0 < status < 1000 else 0}")  # noqa: PLR2004
    try:
        said = wire.from_json(body)
    except MalformedMessage:
        said = {}
    error = said["error"] if isinstance(said.get("error"), dict) else said
    message = error.get("message")
    return _rejected(status, message if isinstance(message, str) else "the engine rejected the request")


def _rejected(status: int, message: str) -> RequestRejected:
    kind = "rate_limit_error" if status == 429 else "invalid_request_error"  # noqa: PLR2004  # HTTP
    kind = "server_error" if status >= _SERVERS_OWN else kind
    reply = {"error": {"code": status, "message": message, "type": kind}}
    return RequestRejected(reply, json.dumps(reply).encode())


class UnsafeUpstream(Upstream):
    """A server that is running already. UNSAFE: nobody measured it, nobody confines it, and what it serves is not what was sealed.

    For development, and for tests. `address` is `unix:PATH` or `HOST:PORT`. Its report of confinement is empty, so that production refuses.
    """

    def __init__(self, address: str, *, name: str, kind: Kind = "openai", adapters: Sequence[str] = ()) -> None:
        """Raises `UsageError` for what is no address."""
        host, _, port = address.rpartition(":")
        if host != "unix" and not (host and port.isascii() and port.isdigit()):
            raise UsageError(f"{address[:80]!r} is no address of a server", remedy="Write unix:PATH or HOST:PORT.")
        super().__init__(self._open, name=name, kind=kind, adapters=adapters)
        self._host, self._port, self._ended = host, port, asyncio.Event()

    def spawn(self) -> None:
        """There is nothing to start."""

    async def load(self, model: int, settings: Mapping[str, str | int]) -> Confinement:  # noqa: ARG002  # the port
        """The server has its own model. Raises `EngineUnavailable` if it does not answer."""
        if not await self.ready():
            raise EngineUnavailable("no server answers there")
        return Confinement({})

    async def wait(self) -> None:
        await self._ended.wait()

    def kill(self) -> None:
        """It is not ours to end."""
        self._ended.set()

    async def _open(self) -> socket.socket:
        family = socket.AF_UNIX if self._host == "unix" else socket.AF_INET
        made = socket.socket(family, socket.SOCK_STREAM)
        made.setblocking(False)
        address = str(Path(self._port)) if self._host == "unix" else (self._host, int(self._port))
        try:
            await asyncio.get_running_loop().sock_connect(made, address)
        except OSError as error:
            made.close()
            raise EngineUnavailable(f"the engine's server does not answer: {error.strerror}") from None
        return made
