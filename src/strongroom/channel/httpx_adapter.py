"""The transports of `client` for httpx, which is a distinct library with types of its own and is needed only here.

It is `client` from its first import on, with the name of the library changed; a test holds it to that.

Knows: httpx. Does not know: the rules (`exchange`), the wire (`ehbp`).
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from typing import cast

import httpx

from strongroom.channel import exchange
from strongroom.channel.exchange import Channel, Exchange, SealedAnswer, SealedRequest

__all__ = ["AsyncSealedTransport", "Exchange", "SealedTransport"]


class SealedTransport(httpx.BaseTransport):
    """Seals requests and opens answers over the transport `inner`, which it closes with itself."""

    def __init__(
        self,
        inner: httpx.BaseTransport,
        public: bytes,
        *,
        on_exchange: Callable[[Exchange], None],
        clear_paths: Iterable[str] = (),
    ) -> None:
        """`public`, `on_exchange` and `clear_paths` as in `exchange.Channel`."""
        self._inner = inner
        self._channel = Channel(public, on_exchange, frozenset(clear_paths))

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Raises strongroom's errors for refusals of the channel, httpx's for the network's."""
        body = exchange.collect(cast("httpx.SyncByteStream", request.stream))
        if not body:
            return _untrusted(self._inner.handle_request(_clear(self._channel, request)))
        sealed = self._channel.seal(request.method, request.url.path, request.headers.raw, body)
        response = self._inner.handle_request(_outer(request, sealed))
        stream = cast("httpx.SyncByteStream", response.stream)
        with contextlib.ExitStack() as unless_opened:
            unless_opened.callback(stream.close)
            answer = sealed.answer(response.status_code, response.headers.raw)
            if answer is None:
                raise exchange.refusal(response.status_code, response.headers.raw, exchange.prefix(stream))
            unless_opened.pop_all()
        return _opened(response, answer, _OpenedStream(stream, answer))

    def close(self) -> None:
        self._inner.close()


class AsyncSealedTransport(httpx.AsyncBaseTransport):
    """The same for `httpx.AsyncClient`."""

    def __init__(
        self,
        inner: httpx.AsyncBaseTransport,
        public: bytes,
        *,
        on_exchange: Callable[[Exchange], None],
        clear_paths: Iterable[str] = (),
    ) -> None:
        """`public`, `on_exchange` and `clear_paths` as in `exchange.Channel`."""
        self._inner = inner
        self._channel = Channel(public, on_exchange, frozenset(clear_paths))

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Raises strongroom's errors for refusals of the channel, httpx's for the network's."""
        body = await exchange.collect_async(cast("httpx.AsyncByteStream", request.stream))
        if not body:
            return _untrusted(await self._inner.handle_async_request(_clear(self._channel, request)))
        sealed = self._channel.seal(request.method, request.url.path, request.headers.raw, body)
        response = await self._inner.handle_async_request(_outer(request, sealed))
        stream = cast("httpx.AsyncByteStream", response.stream)
        async with contextlib.AsyncExitStack() as unless_opened:
            unless_opened.push_async_callback(stream.aclose)
            answer = sealed.answer(response.status_code, response.headers.raw)
            if answer is None:
                raise exchange.refusal(response.status_code, response.headers.raw, await exchange.prefix_async(stream))
            unless_opened.pop_all()
        return _opened(response, answer, _AsyncOpenedStream(stream, answer))

    async def aclose(self) -> None:
        await self._inner.aclose()


class _OpenedStream(httpx.SyncByteStream):
    def __init__(self, sealed: httpx.SyncByteStream, answer: SealedAnswer) -> None:
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


class _AsyncOpenedStream(httpx.AsyncByteStream):
    def __init__(self, sealed: httpx.AsyncByteStream, answer: SealedAnswer) -> None:
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


def _outer(request: httpx.Request, sealed: SealedRequest) -> httpx.Request:
    stream = httpx.ByteStream(sealed.content)
    return httpx.Request(
        request.method, request.url, headers=sealed.headers, stream=stream, extensions=request.extensions
    )


def _clear(channel: Channel, request: httpx.Request) -> httpx.Request:
    headers = channel.clear_request(request.method, request.url.path, request.headers.raw)
    return httpx.Request(request.method, request.url, headers=headers, extensions=request.extensions)


def _opened(
    response: httpx.Response, answer: SealedAnswer, stream: httpx.SyncByteStream | httpx.AsyncByteStream
) -> httpx.Response:
    return httpx.Response(response.status_code, headers=answer.headers, stream=stream, extensions=response.extensions)


def _untrusted(response: httpx.Response) -> httpx.Response:
    response.headers[exchange.UNTRUSTED_HEADER] = "1"
    return response
