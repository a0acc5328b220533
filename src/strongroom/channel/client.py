"""Transports for httpx2 that speak the sealed channel: put one into an `httpx2.Client`, and any SDK on it is sealed.

    transport = SealedTransport(httpx2.HTTPTransport(), keyset.channel, on_exchange=verify_receipt)
    client = httpx2.Client(transport=transport)

With `v2`, to a worker that speaks version 2, everything is sealed. Otherwise requests without a body go in the clear, only
to paths that the caller allows, and their answers carry the header `strongroom-untrusted: 1`. Answers stream. Errors of
the channel are strongroom's own; errors of the network stay the library's, because SDKs know what to do about those.

Knows: httpx2. Does not know: the rules (`exchange`, `exchange_v2`), the wire (`ehbp`, `v2`).
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from typing import cast

import httpx2

from strongroom.channel import exchange
from strongroom.channel.exchange import Exchange, SealedAnswer, SealedRequest
from strongroom.channel.exchange_v2 import SealedAnswerV2, SealedRequestV2, Speaker
from strongroom.channel.v2 import Peer

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
        v2: Peer | None = None,
    ) -> None:
        """`public`, `on_exchange` and `clear_paths` as in `exchange.Channel`; `v2` from `exchange_v2.peer_of`."""
        self._inner = inner
        self._speaker = Speaker.to(public, v2, on_exchange, frozenset(clear_paths))

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        """Raises strongroom's errors for refusals of the channel, httpx2's for the network's."""
        body = exchange.collect(cast("httpx2.SyncByteStream", request.stream))
        sealed = self._speaker.seal(request.method, _url(request), request.headers.raw, body)
        if sealed is None:
            return _untrusted(self._inner.handle_request(_clear(self._speaker, request)))
        response = self._inner.handle_request(_outer(request, sealed))
        stream = cast("httpx2.SyncByteStream", response.stream)
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


class AsyncSealedTransport(httpx2.AsyncBaseTransport):
    """The same for `httpx2.AsyncClient`."""

    def __init__(
        self,
        inner: httpx2.AsyncBaseTransport,
        public: bytes,
        *,
        on_exchange: Callable[[Exchange], None],
        clear_paths: Iterable[str] = (),
        v2: Peer | None = None,
    ) -> None:
        """`public`, `on_exchange` and `clear_paths` as in `exchange.Channel`; `v2` from `exchange_v2.peer_of`."""
        self._inner = inner
        self._speaker = Speaker.to(public, v2, on_exchange, frozenset(clear_paths))

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Raises strongroom's errors for refusals of the channel, httpx2's for the network's."""
        body = await exchange.collect_async(cast("httpx2.AsyncByteStream", request.stream))
        sealed = self._speaker.seal(request.method, _url(request), request.headers.raw, body)
        if sealed is None:
            return _untrusted(await self._inner.handle_async_request(_clear(self._speaker, request)))
        response = await self._inner.handle_async_request(_outer(request, sealed))
        stream = cast("httpx2.AsyncByteStream", response.stream)
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


class _OpenedStream(httpx2.SyncByteStream):
    def __init__(self, sealed: httpx2.SyncByteStream, answer: SealedAnswer | SealedAnswerV2) -> None:
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


class _AsyncOpenedStream(httpx2.AsyncByteStream):
    def __init__(self, sealed: httpx2.AsyncByteStream, answer: SealedAnswer | SealedAnswerV2) -> None:
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


def _url(request: httpx2.Request) -> tuple[str, str]:
    return request.url.path, request.url.raw_path.decode("ascii")


def _outer(request: httpx2.Request, sealed: SealedRequest | SealedRequestV2) -> httpx2.Request:
    url = request.url if sealed.target is None else request.url.join(sealed.target)
    stream = httpx2.ByteStream(sealed.content)
    return httpx2.Request(sealed.method, url, headers=sealed.headers, stream=stream, extensions=request.extensions)


def _clear(speaker: Speaker, request: httpx2.Request) -> httpx2.Request:
    headers = speaker.first.clear_request(request.method, request.url.path, request.headers.raw)
    return httpx2.Request(request.method, request.url, headers=headers, extensions=request.extensions)


def _opened(
    response: httpx2.Response,
    answer: SealedAnswer | SealedAnswerV2,
    stream: httpx2.SyncByteStream | httpx2.AsyncByteStream,
) -> httpx2.Response:
    return httpx2.Response(answer.status, headers=answer.headers, stream=stream, extensions=response.extensions)


def _untrusted(response: httpx2.Response) -> httpx2.Response:
    response.headers[exchange.UNTRUSTED_HEADER] = "1"
    return response
