"""Transports that pay: each request with a body takes one credit out of a wallet, and carries it inside the seal.

Knows: where a credit travels, and when it may be put back: nobody was reached, or nobody could open the request. Does not
know: sealing (the transport within), what a request costs (one credit).
"""

from __future__ import annotations

import asyncio
from typing import cast

import httpx2

from strongroom.channel import credit, exchange
from strongroom.client.wallet import Wallet
from strongroom.errors import ChannelKeyMismatch

_UNREAD = (httpx2.ConnectError, httpx2.ConnectTimeout, ChannelKeyMismatch)


class PayingTransport(httpx2.BaseTransport):
    """Puts a credit of `wallet` into what `inner` seals; `in_field` where fields are sealed too."""

    def __init__(self, inner: httpx2.BaseTransport, wallet: Wallet, *, in_field: bool) -> None:
        self._inner, self._wallet, self._in_field = inner, wallet, in_field

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        """Raises `CreditRefused` where the wallet is empty, and what `inner` raises."""
        body = exchange.collect(cast("httpx2.SyncByteStream", request.stream))
        if not body:
            return self._inner.handle_request(request)
        taken = self._wallet.take()
        try:
            return self._inner.handle_request(_paid(request, body, taken, in_field=self._in_field))
        except _UNREAD:
            self._wallet.give_back(taken)
            raise

    def close(self) -> None:
        self._inner.close()


class AsyncPayingTransport(httpx2.AsyncBaseTransport):
    """The asynchronous twin of `PayingTransport`."""

    def __init__(self, inner: httpx2.AsyncBaseTransport, wallet: Wallet, *, in_field: bool) -> None:
        self._inner, self._wallet, self._in_field = inner, wallet, in_field

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Raises `CreditRefused` where the wallet is empty, and what `inner` raises."""
        body = await exchange.collect_async(cast("httpx2.AsyncByteStream", request.stream))
        if not body:
            return await self._inner.handle_async_request(request)
        taken = await asyncio.to_thread(self._wallet.take)
        try:
            return await self._inner.handle_async_request(_paid(request, body, taken, in_field=self._in_field))
        except _UNREAD:
            await asyncio.to_thread(self._wallet.give_back, taken)
            raise

    async def aclose(self) -> None:
        await self._inner.aclose()


def _paid(request: httpx2.Request, body: bytes, taken: str, *, in_field: bool) -> httpx2.Request:
    headers = [(name, value) for name, value in request.headers.raw if name.lower() != b"content-length"]
    if in_field:
        headers.append((credit.FIELD.encode(), taken.encode()))
    else:
        body = credit.put_into_json(body, taken)
    return httpx2.Request(request.method, request.url, headers=headers, content=body, extensions=request.extensions)
