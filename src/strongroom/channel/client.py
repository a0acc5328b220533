"""Transports for httpx2 that speak the sealed channel: put one into an `httpx2.Client`, and any SDK on it is sealed.

    transport = SealedTransport(httpx2.HTTPTransport(), keyset.channel, on_exchange=verify_receipt)
    client = httpx2.Client(transport=transport)

Requests with a body are sealed; those without go in the clear, only to paths that the caller allows, and their
answers carry the header `strongroom-untrusted: 1`. Answers stream. Errors of the channel are strongroom's own; errors
of the network stay the library's, because SDKs know what to do about those.

Knows: httpx2. Does not know: the rules (`exchange`), the wire (`ehbp`).
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from typing import cast

import httpx2

from strongroom.channel import exchange
from strongroom.channel.exchange import Channel, Exchange, SealedAnswer, SealedRequest

__all__ = ["AsyncSealedTransport", "Exchange", "SealedTransport"]


class SealedTransport(httpx2.BaseTransport):
    """Seals requests and opens answers over the transport `inner`, which it closes with itself."""

    def __init__(
        self,
        inner: httpx2.BaseTransport,
        public: bytes,
        *,
        on_exchange: Callable[[Exchange], None],
        clear_paths: Iterable[str] = (),
    ) -> None:
        """`public`, `on_exchange` and `clear_paths` as in `exchange.Channel`."""
        self._inner = inner
        self._channel = Channel(public, on_exchange, frozenset(clear_paths))

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        """Raises strongroom's errors for refusals of the channel, httpx2's for the network's."""
        body = exchange.collect(cast("httpx2.SyncByteStream", request.stream))
        if not body:
            return _untrusted(self._inner.handle_request(_clear(self._channel, request)))
        sealed = self._channel.seal(request.method, request.url.path, request.headers.raw, body)
        response = self._inner.handle_request(_outer(request, sealed))
        stream = cast("httpx2.SyncByteStream", response.stream)
        with contextlib.ExitStack() as unless_opened:
            unless_opened.callback(stream.close)
            answer = sealed.answer(response.status_code, response.headers.raw)
            if answer is None:
                raise exchange.refusal(response.status_code, response.headers.raw, exchange.prefix(stream))
            unless_opened.pop_all()
        return _opened(response, answer, _OpenedStream(stream, answer))

    def close(self) -> None:
        self._inner.close()


class AsyncSealedTransport(httpx2.AsyncBaseTransport):
    """The same for `httpx2.AsyncClient`."""

    def __init__(
        self,
        inner: httpx2.AsyncBaseTransport,
        public: bytes,
        *,
        on_exchange: Callable[[Exchange], None],
        clear_paths: Iterable[str] = (),
    ) -> None:
        """`public`, `on_exchange` and `clear_paths` as in `exchange.Channel`."""
        self._inner = inner
        self._channel = Channel(public, on_exchange, frozenset(clear_paths))

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Raises strongroom's errors for refusals of the channel, httpx2's for the network's."""
        body = await exchange.collect_async(cast("httpx2.AsyncByteStream", request.stream))
        if not body:
            return _untrusted(await self._inner.handle_async_request(_clear(self._channel, request)))
        sealed = self._channel.seal(request.method, request.url.path, request.headers.raw, body)
        response = await self._inner.handle_async_request(_outer(request, sealed))
        stream = cast("httpx2.AsyncByteStream", response.stream)
        async with contextlib.AsyncExitStack() as unless_opened:
            unless_opened.push_async_callback(stream.aclose)
            answer = sealed.answer(response.status_code, response.headers.raw)
            if answer is None:
                raise exchange.refusal(response.status_code, response.headers.raw, await exchange.prefix_async(stream))
            unless_opened.pop_all()
        return _opened(response, answer, _AsyncOpenedStream(stream, answer))

    async def aclose(self) -> None:
        await self._inner.aclose()


class _OpenedStream(httpx2.SyncByteStream):
    def __init__(self, sealed: httpx2.SyncByteStream, answer: SealedAnswer) -> None:
        self._sealed = sealed
        self._answer = answer

    def __iter__(self) -> Iterator[bytes]:
        for data in self._sealed:
            if plaintext := self._answer.feed(data):
                yield plaintext
        if rest := self._answer.finish():
            yield rest

    def close(self) -> None:
        self._sealed.close()


class _AsyncOpenedStream(httpx2.AsyncByteStream):
    def __init__(self, sealed: httpx2.AsyncByteStream, answer: SealedAnswer) -> None:
        self._sealed = sealed
        self._answer = answer

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for data in self._sealed:
            if plaintext := self._answer.feed(data):
                yield plaintext
        if rest := self._answer.finish():
            yield rest

    async def aclose(self) -> None:
        await self._sealed.aclose()


def _outer(request: httpx2.Request, sealed: SealedRequest) -> httpx2.Request:
    stream = httpx2.ByteStream(sealed.content)
    return httpx2.Request(
        request.method, request.url, headers=sealed.headers, stream=stream, extensions=request.extensions
    )


def _clear(channel: Channel, request: httpx2.Request) -> httpx2.Request:
    headers = channel.clear_request(request.method, request.url.path, request.headers.raw)
    return httpx2.Request(request.method, request.url, headers=headers, extensions=request.extensions)


def _opened(
    response: httpx2.Response, answer: SealedAnswer, stream: httpx2.SyncByteStream | httpx2.AsyncByteStream
) -> httpx2.Response:
    return httpx2.Response(response.status_code, headers=answer.headers, stream=stream, extensions=response.extensions)


def _untrusted(response: httpx2.Response) -> httpx2.Response:
    response.headers[exchange.UNTRUSTED_HEADER] = "1"
    return response
