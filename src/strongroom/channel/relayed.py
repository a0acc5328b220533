"""Transports for httpx2 through an oblivious relay: put one into an `httpx2.Client`, and the relay learns who asks, the worker what.

    transport = RelayedTransport(httpx2.HTTPTransport(), Relay("https://relay.example", keyset.channel, verify_receipt))
    client = httpx2.Client(transport=transport)

Answers stream. Errors of the channel are strongroom's own; errors of the network stay the library's.

Knows: httpx2. Does not know: the rules (`exchange_relayed`), the wire (`ohttp`).
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator
from typing import cast

import httpx2

from strongroom.channel import exchange
from strongroom.channel.exchange_relayed import HEADERS, Relay, RelayedAnswer, RelayedRequest, refusal

__all__ = ["AsyncRelayedTransport", "Relay", "RelayedTransport"]


class RelayedTransport(httpx2.BaseTransport):
    """Sends requests through a relay and opens answers, over the transport `inner`, which it closes with itself."""

    def __init__(self, inner: httpx2.BaseTransport, relay: Relay) -> None:
        self._inner, self._relay = inner, relay

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        """Raises strongroom's errors for refusals of the channel, httpx2's for the network's."""
        body = exchange.collect(cast("httpx2.SyncByteStream", request.stream))
        relayed = self._relay.encapsulate(request.method, request.url, request.headers.raw, body)
        response = self._inner.handle_request(_outer(self._relay, relayed, request))
        stream = cast("httpx2.SyncByteStream", response.stream)
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


class AsyncRelayedTransport(httpx2.AsyncBaseTransport):
    """The same for `httpx2.AsyncClient`."""

    def __init__(self, inner: httpx2.AsyncBaseTransport, relay: Relay) -> None:
        self._inner, self._relay = inner, relay

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Raises strongroom's errors for refusals of the channel, httpx2's for the network's."""
        body = await exchange.collect_async(cast("httpx2.AsyncByteStream", request.stream))
        relayed = self._relay.encapsulate(request.method, request.url, request.headers.raw, body)
        response = await self._inner.handle_async_request(_outer(self._relay, relayed, request))
        stream = cast("httpx2.AsyncByteStream", response.stream)
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


class _OpenedStream(httpx2.SyncByteStream):
    def __init__(self, sealed: httpx2.SyncByteStream, first: bytes, rest: Iterator[bytes]) -> None:
        self._sealed, self._first, self._rest = sealed, first, rest

    def __iter__(self) -> Iterator[bytes]:
        if self._first:
            yield self._first
        yield from (content for content in self._rest if content)

    def close(self) -> None:
        self._sealed.close()


class _AsyncOpenedStream(httpx2.AsyncByteStream):
    def __init__(self, sealed: httpx2.AsyncByteStream, first: bytes, rest: AsyncIterator[bytes]) -> None:
        self._sealed, self._first, self._rest = sealed, first, rest

    async def __aiter__(self) -> AsyncIterator[bytes]:
        if self._first:
            yield self._first
        async for content in self._rest:
            if content:
                yield content

    async def aclose(self) -> None:
        await self._sealed.aclose()


def _outer(relay: Relay, relayed: RelayedRequest, request: httpx2.Request) -> httpx2.Request:
    sealed, more = relayed.content, request.extensions
    return httpx2.Request("POST", relay.address, headers=HEADERS, content=sealed, extensions=more)


def _response(
    outer: httpx2.Response, answer: RelayedAnswer, stream: httpx2.SyncByteStream | httpx2.AsyncByteStream
) -> httpx2.Response:
    return httpx2.Response(answer.status, headers=answer.headers, stream=stream, extensions=outer.extensions)
