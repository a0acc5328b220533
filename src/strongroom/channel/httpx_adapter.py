"""The transports of `client` for httpx, which is a distinct library with types of its own and is needed only here.

It is `client` from its first import on, with the name of the library changed; a test holds it to that.

Knows: httpx. Does not know: the rules (`exchange`, `exchange_v2`), the wire (`ehbp`, `v2`).
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from typing import cast

import httpx

from strongroom.channel import exchange
from strongroom.channel.exchange import Exchange, SealedAnswer, SealedRequest
from strongroom.channel.exchange_v2 import SealedAnswerV2, SealedRequestV2, Speaker
from strongroom.channel.v2 import Peer

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
        v2: Peer | None = None,
    ) -> None:
        """`public`, `on_exchange` and `clear_paths` as in `exchange.Channel`; `v2` from `exchange_v2.peer_of`."""
        self._inner = inner
        self._speaker = Speaker.to(public, v2, on_exchange, frozenset(clear_paths))

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Raises strongroom's errors for refusals of the channel, httpx's for the network's."""
        body = exchange.collect(cast("httpx.SyncByteStream", request.stream))
        sealed = self._speaker.seal(request.method, _url(request), request.headers.raw, body)
        if sealed is None:
            return _untrusted(self._inner.handle_request(_clear(self._speaker, request)))
        response = self._inner.handle_request(_outer(request, sealed))
        stream = cast("httpx.SyncByteStream", response.stream)
        with contextlib.ExitStack() as unless_opened:
            unless_opened.callback(stream.close)
            answer = sealed.answer(response.status_code, response.headers.raw)
            if answer is None:
                raise sealed.refusal(response.status_code, response.headers.raw, exchange.prefix(stream))
            opened = _OpenedStream(stream, answer)
            opened.begin()
            unless_opened.pop_all()
        return _opened(response, answer, opened)

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
        v2: Peer | None = None,
    ) -> None:
        """`public`, `on_exchange` and `clear_paths` as in `exchange.Channel`; `v2` from `exchange_v2.peer_of`."""
        self._inner = inner
        self._speaker = Speaker.to(public, v2, on_exchange, frozenset(clear_paths))

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Raises strongroom's errors for refusals of the channel, httpx's for the network's."""
        body = await exchange.collect_async(cast("httpx.AsyncByteStream", request.stream))
        sealed = self._speaker.seal(request.method, _url(request), request.headers.raw, body)
        if sealed is None:
            return _untrusted(await self._inner.handle_async_request(_clear(self._speaker, request)))
        response = await self._inner.handle_async_request(_outer(request, sealed))
        stream = cast("httpx.AsyncByteStream", response.stream)
        async with contextlib.AsyncExitStack() as unless_opened:
            unless_opened.push_async_callback(stream.aclose)
            answer = sealed.answer(response.status_code, response.headers.raw)
            if answer is None:
                raise sealed.refusal(response.status_code, response.headers.raw, await exchange.prefix_async(stream))
            opened = _AsyncOpenedStream(stream, answer)
            await opened.begin()
            unless_opened.pop_all()
        return _opened(response, answer, opened)

    async def aclose(self) -> None:
        await self._inner.aclose()


class _OpenedStream(httpx.SyncByteStream):
    def __init__(self, sealed: httpx.SyncByteStream, answer: SealedAnswer | SealedAnswerV2) -> None:
        self._sealed = sealed
        self._pieces = iter(sealed)
        self._answer = answer
        self._first = b""

    def begin(self) -> None:
        """Read until the head of the answer is known."""
        while not self._answer.ready:
            data = next(self._pieces, None)
            self._first += self._answer.finish() if data is None else self._answer.feed(data)

    def __iter__(self) -> Iterator[bytes]:
        if first := self._first:
            yield first
        for data in self._pieces:
            if plaintext := self._answer.feed(data):
                yield plaintext
        if rest := self._answer.finish():
            yield rest

    def close(self) -> None:
        self._sealed.close()


class _AsyncOpenedStream(httpx.AsyncByteStream):
    def __init__(self, sealed: httpx.AsyncByteStream, answer: SealedAnswer | SealedAnswerV2) -> None:
        self._sealed = sealed
        self._pieces = aiter(sealed)
        self._answer = answer
        self._first = b""

    async def begin(self) -> None:
        """Read until the head of the answer is known."""
        while not self._answer.ready:
            data = await anext(self._pieces, None)
            self._first += self._answer.finish() if data is None else self._answer.feed(data)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        if first := self._first:
            yield first
        async for data in self._pieces:
            if plaintext := self._answer.feed(data):
                yield plaintext
        if rest := self._answer.finish():
            yield rest

    async def aclose(self) -> None:
        await self._sealed.aclose()


def _url(request: httpx.Request) -> tuple[str, str]:
    return request.url.path, request.url.raw_path.decode("ascii")


def _outer(request: httpx.Request, sealed: SealedRequest | SealedRequestV2) -> httpx.Request:
    url = request.url if sealed.target is None else request.url.join(sealed.target)
    stream = httpx.ByteStream(sealed.content)
    return httpx.Request(sealed.method, url, headers=sealed.headers, stream=stream, extensions=request.extensions)


def _clear(speaker: Speaker, request: httpx.Request) -> httpx.Request:
    headers = speaker.first.clear_request(request.method, request.url.path, request.headers.raw)
    return httpx.Request(request.method, request.url, headers=headers, extensions=request.extensions)


def _opened(
    response: httpx.Response,
    answer: SealedAnswer | SealedAnswerV2,
    stream: httpx.SyncByteStream | httpx.AsyncByteStream,
) -> httpx.Response:
    return httpx.Response(answer.status, headers=answer.headers, stream=stream, extensions=response.extensions)


def _untrusted(response: httpx.Response) -> httpx.Response:
    response.headers[exchange.UNTRUSTED_HEADER] = "1"
    return response
