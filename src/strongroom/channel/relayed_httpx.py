"""The transports of `relayed` for httpx, which is a distinct library with types of its own and is needed only here.

It is `relayed` from its first import on, with the name of the library changed; a test holds it to that.

Knows: httpx. Does not know: the rules (`exchange_relayed`), the wire (`ohttp`).
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator
from typing import cast

import httpx

from strongroom.channel import exchange
from strongroom.channel.exchange_relayed import HEADERS, Relay, RelayedAnswer, RelayedRequest, refusal

__all__ = ["AsyncRelayedTransport", "Relay", "RelayedTransport"]


class RelayedTransport(httpx.BaseTransport):
    """Sends requests through a relay and opens answers, over the transport `inner`, which it closes with itself."""

    def __init__(self, inner: httpx.BaseTransport, relay: Relay) -> None:
        self._inner, self._relay = inner, relay

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Raises strongroom's errors for refusals of the channel, httpx's for the network's."""
        body = exchange.collect(cast("httpx.SyncByteStream", request.stream))
        relayed = self._relay.encapsulate(request.method, request.url, request.headers.raw, body)
        response = self._inner.handle_request(_outer(self._relay, relayed, request))
        stream = cast("httpx.SyncByteStream", response.stream)
        with contextlib.ExitStack() as unless_opened:
            unless_opened.callback(stream.close)
            answer = relayed.begin(response.status_code, response.headers.raw)
            if answer is None:
                raise refusal(response.status_code, response.headers.raw, exchange.prefix(stream))
            opened = _opened(iter(stream), answer)
            first = next(opened, b"")  # the status is inside: nothing can be said before the head is open
            unless_opened.pop_all()
        return _response(response, answer, _OpenedStream(stream, first, opened))

    def close(self) -> None:
        self._inner.close()


class AsyncRelayedTransport(httpx.AsyncBaseTransport):
    """The same for `httpx.AsyncClient`."""

    def __init__(self, inner: httpx.AsyncBaseTransport, relay: Relay) -> None:
        self._inner, self._relay = inner, relay

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Raises strongroom's errors for refusals of the channel, httpx's for the network's."""
        body = await exchange.collect_async(cast("httpx.AsyncByteStream", request.stream))
        relayed = self._relay.encapsulate(request.method, request.url, request.headers.raw, body)
        response = await self._inner.handle_async_request(_outer(self._relay, relayed, request))
        stream = cast("httpx.AsyncByteStream", response.stream)
        async with contextlib.AsyncExitStack() as unless_opened:
            unless_opened.push_async_callback(stream.aclose)
            answer = relayed.begin(response.status_code, response.headers.raw)
            if answer is None:
                raise refusal(response.status_code, response.headers.raw, await exchange.prefix_async(stream))
            opened = _opened_async(aiter(stream), answer)
            first = await anext(opened, b"")
            unless_opened.pop_all()
        return _response(response, answer, _AsyncOpenedStream(stream, first, opened))

    async def aclose(self) -> None:
        await self._inner.aclose()


def _opened(pieces: Iterator[bytes], answer: RelayedAnswer) -> Iterator[bytes]:
    """The content of `answer`; the first piece, perhaps empty, comes as soon as the head is open."""
    begun = False
    for data in pieces:
        content = answer.feed(data)
        if content or (answer.status and not begun):
            begun = True
            yield content
    yield answer.finish()


async def _opened_async(pieces: AsyncIterator[bytes], answer: RelayedAnswer) -> AsyncIterator[bytes]:
    """The same, asynchronously."""
    begun = False
    async for data in pieces:
        content = answer.feed(data)
        if content or (answer.status and not begun):
            begun = True
            yield content
    yield answer.finish()


class _OpenedStream(httpx.SyncByteStream):
    def __init__(self, sealed: httpx.SyncByteStream, first: bytes, rest: Iterator[bytes]) -> None:
        self._sealed, self._first, self._rest = sealed, first, rest

    def __iter__(self) -> Iterator[bytes]:
        if self._first:
            yield self._first
        yield from (content for content in self._rest if content)

    def close(self) -> None:
        self._sealed.close()


class _AsyncOpenedStream(httpx.AsyncByteStream):
    def __init__(self, sealed: httpx.AsyncByteStream, first: bytes, rest: AsyncIterator[bytes]) -> None:
        self._sealed, self._first, self._rest = sealed, first, rest

    async def __aiter__(self) -> AsyncIterator[bytes]:
        if self._first:
            yield self._first
        async for content in self._rest:
            if content:
                yield content

    async def aclose(self) -> None:
        await self._sealed.aclose()


def _outer(relay: Relay, relayed: RelayedRequest, request: httpx.Request) -> httpx.Request:
    sealed, more = relayed.content, request.extensions
    return httpx.Request("POST", relay.address, headers=HEADERS, content=sealed, extensions=more)


def _response(
    outer: httpx.Response, answer: RelayedAnswer, stream: httpx.SyncByteStream | httpx.AsyncByteStream
) -> httpx.Response:
    return httpx.Response(answer.status, headers=answer.headers, stream=stream, extensions=outer.extensions)
