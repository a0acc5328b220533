"""When a request is sent again, and to whom: transports over a client, and the one place with the rules (DESIGN section 5).

| what happened | was it read? | then |
|---|---|---|
| another TLS key, 422: other keys than were verified | no | verify again, send again, once |
| a refusal in words that no worker uses, as a 422 rewritten | nobody knows | the same, if it has new keys, is alone and unpaid |
| 503 or 429 from whoever stands before the worker, or sealed 503 from the worker | no | another worker of the fleet, if there is one |
| the connection broke before the answer began, 502 | nobody knows | the same worker, once, with the same identity: it answers it once |
| anything else, or any failure after that | | the error is the caller's |

A worker that was away is verified anew before the next request. The identity is random, sealed, and the same for each sending
(`channel.once`); no other worker is asked where one might have read it.

Knows: the rules. Does not know: how workers are verified (`client`), what is asked.
Not covered: an answer that has begun; it ends with its receipt or with an error. Where a wallet pays, nothing is sent twice on a doubt.
"""

from __future__ import annotations

import enum
import secrets
from typing import TYPE_CHECKING

import httpx2

from strongroom.channel.once import IDENTITY_BYTES, REQUEST_HEADER
from strongroom.client.verification import Verification
from strongroom.errors import ChannelKeyMismatch, ChannelRefused, ServiceUnavailable, StrongroomError, WorkerBusy
from strongroom.records.digest import Digest

if TYPE_CHECKING:
    from strongroom.client.client import AsyncClient, Client

SENDINGS = 5
"""How often one request is sent at most."""
_BUSY = 503
_BROKEN = (
    httpx2.ReadError,
    httpx2.WriteError,
    httpx2.CloseError,
    httpx2.RemoteProtocolError,
    ServiceUnavailable,
)


class Next(enum.Enum):
    """What to do about a failure."""

    VERIFY = enum.auto()
    ELSEWHERE = enum.auto()
    SAME = enum.auto()


class Sendings:
    """One request, however often it is sent. `request` is what is sealed; `left` are workers that did not take it."""

    def __init__(self, request: httpx2.Request, *, doubts: bool) -> None:
        """`doubts`: send again what may have been read."""
        self._count, self._doubts = 0, doubts
        self._unsure = self._reverified = False
        self.left: set[Digest] = set()
        self.request = _identified(request) if request.content else request

    def again(self, error: Exception, used: Verification) -> Next:
        """What follows from `error`, of the sending to `used`. Raises it where nothing does."""
        self._count += 1
        if self._count >= SENDINGS or self._unsure:
            raise error
        if _may_be_other_keys(error) and not self._reverified:
            self._reverified = True
            return Next.VERIFY
        if isinstance(error, WorkerBusy):
            self.left.add(used.keyset.digest)
            return Next.ELSEWHERE
        if isinstance(error, _BROKEN) and self._doubts and used.keyset.channel_v2 is not None:
            self._unsure = True
            return Next.SAME
        raise error

    def untaken(self, answer: httpx2.Response, used: Verification) -> bool:
        """Whether the worker itself said that it takes nothing now, and another may be asked."""
        if answer.status_code != _BUSY or self._unsure or self._count >= SENDINGS - 1:
            return False
        self._count += 1
        self.left.add(used.keyset.digest)
        return True


class Resending(httpx2.BaseTransport):
    """Seals each request to the worker that is verified then."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        """Raises what the last sending raised."""
        request.read()  # so that it can be sealed a second time
        sendings = Sendings(request, doubts=self._client.wallet is None)
        used = self._client.current()
        while True:
            transport = self._client.transport(
                used
            )  # a worker that cannot be asked this way is no worker with other keys
            try:
                answer = transport.handle_request(sendings.request)
            except (StrongroomError, httpx2.TransportError) as error:
                then = _again(self._client, sendings, error, used)
                if then is Next.VERIFY:
                    self._client.drop(used)
                    used, before = self._client.current(), used
                    if not _is_worth(error, before, used):
                        raise
                elif then is Next.ELSEWHERE:
                    other = self._elsewhere(sendings)
                    if other is None:
                        raise
                    used = other
            else:
                if not sendings.untaken(answer, used) or (other := self._elsewhere(sendings)) is None:
                    return answer
                answer.close()
                used = other

    def _elsewhere(self, sendings: Sendings) -> Verification | None:
        """Another worker, verified; None where nobody else is there."""
        client = self._client
        if not client.replicas.many:
            return None
        try:
            named = client.replicas.others(client.fleet(), sendings.left)
        except StrongroomError:
            return None
        for keyset in named:
            try:
                return client.turn_to(keyset) or client.verify(keyset)
            except StrongroomError:
                sendings.left.add(keyset)
        return None


class AsyncResending(httpx2.AsyncBaseTransport):
    """The asynchronous twin of `Resending`."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Raises what the last sending raised."""
        await request.aread()
        sendings = Sendings(request, doubts=self._client.wallet is None)
        used = await self._client.current()
        while True:
            transport = await self._client.transport(used)
            try:
                answer = await transport.handle_async_request(sendings.request)
            except (StrongroomError, httpx2.TransportError) as error:
                then = _again(self._client, sendings, error, used)
                if then is Next.VERIFY:
                    self._client.drop(used)
                    used, before = await self._client.current(), used
                    if not _is_worth(error, before, used):
                        raise
                elif then is Next.ELSEWHERE:
                    other = await self._elsewhere(sendings)
                    if other is None:
                        raise
                    used = other
            else:
                if not sendings.untaken(answer, used) or (other := await self._elsewhere(sendings)) is None:
                    return answer
                await answer.aclose()
                used = other

    async def _elsewhere(self, sendings: Sendings) -> Verification | None:
        """Another worker, verified; None where nobody else is there."""
        client = self._client
        if not client.replicas.many:
            return None
        try:
            named = client.replicas.others(await client.fleet(), sendings.left)
        except StrongroomError:
            return None
        for keyset in named:
            try:
                return client.turn_to(keyset) or await client.verify(keyset)
            except StrongroomError:
                sendings.left.add(keyset)
        return None


def _again(client: Client | AsyncClient, sendings: Sendings, error: Exception, used: Verification) -> Next:
    """What follows; a worker that was away is verified anew before the next request."""
    if type(error) is ChannelRefused and (client.wallet is not None or client.replicas.many):
        client.drop(used)  # it may have been read: not sent to another worker of a fleet, nor paid for twice
        raise error
    try:
        return sendings.again(error, used)
    except ServiceUnavailable:
        if not isinstance(error, WorkerBusy):
            client.drop(used)
        raise


def _may_be_other_keys(error: Exception) -> bool:
    """Said by the worker, or made of that by somebody on the way."""
    return isinstance(error, ChannelKeyMismatch) or type(error) is ChannelRefused


def _is_worth(error: Exception, before: Verification, now: Verification) -> bool:
    return isinstance(error, ChannelKeyMismatch) or before.keyset.digest != now.keyset.digest


def _identified(request: httpx2.Request) -> httpx2.Request:
    headers = [*request.headers.raw, (REQUEST_HEADER.encode(), secrets.token_bytes(IDENTITY_BYTES).hex().encode())]
    return httpx2.Request(
        request.method, request.url, headers=headers, content=request.content, extensions=request.extensions
    )
