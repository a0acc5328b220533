"""`Client` and `AsyncClient`: verify once, then talk as to any OpenAI server; every answer brings a receipt.

Knows: how proof, channel and receipts fit together for a user. Does not know: how evidence is judged (`client.verification`), how
requests are sealed (`channel`). A client that has not verified sends nothing.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator
from functools import partial
from typing import Any

import httpx2

from strongroom.channel.away import why
from strongroom.channel.client import AsyncSealedTransport, SealedTransport
from strongroom.channel.exchange_v2 import peer_of
from strongroom.channel.relayed import AsyncRelayedTransport, RelayedTransport
from strongroom.client import chat
from strongroom.client.desk import CLEAR_PATHS, PLAIN, Desk
from strongroom.client.fetching import MAX_RECEIPT, Asked, AsyncKeyedTransport, Fetched, KeyedTransport, check
from strongroom.client.network import Network
from strongroom.client.paying import AsyncPayingTransport, PayingTransport
from strongroom.client.resending import AsyncResending, Resending
from strongroom.client.verification import Verification
from strongroom.errors import (
    EngineUnavailable,
    MalformedMessage,
    ServiceUnavailable,
    StrongroomError,
    UsageError,
)
from strongroom.records import codec
from strongroom.records.digest import Digest
from strongroom.records.fetched import RECEIPT_KEY_FIELD, RECEIPTS_PATH
from strongroom.records.fleet import FLEET_PATH, FleetRecord

MAX_PROOF = 4 * 1024 * 1024


class Client(Desk):
    """A user's client. `verify()` runs by itself before the first request."""

    def __init__(self, url: str, *, transport: httpx2.BaseTransport | None = None, **trust: Any) -> None:
        """See `Desk` for `trust`; `transport` replaces the network in tests."""
        super().__init__(url, **trust)
        self._network = Network[httpx2.BaseTransport](httpx2.HTTPTransport, transport, self.way)

    def verify(self, keyset: Digest | None = None) -> Verification:
        """Ask for evidence with a fresh nonce and judge it.

        `keyset` names one worker of a fleet. Raises `AppraisalRefused`, `SimulationNotAccepted` and more.
        """
        nonce, request = self._question(keyset)
        body, meeting = _Bounded(), self._network.meet()
        with (
            _worker_away(),
            httpx2.Client(transport=_Shared(meeting.transport), timeout=_TIMEOUT) as http,
            contextlib.closing(http.send(request, stream=True)) as answer,
        ):
            body.begin(answer)
            self.replicas.met(answer.headers)
            for part in answer.iter_bytes():
                body.add(part)
        return self._admit(self._judge(bytes(body.data), nonce, keyset), partial(self._network.trust, meeting))

    def current(self) -> Verification:
        """The worker in use; verifies where there is none, or its lease or keyset has ended."""
        return self._current() or self.verify()

    def fleet(self) -> FleetRecord:
        """Whom the front door names; nothing in it is trusted. Raises `ServiceUnavailable` where there is no door."""
        body = _Bounded()
        with (
            _worker_away(),
            httpx2.Client(transport=_Shared(self._network.transport), timeout=_TIMEOUT) as http,
            http.stream("GET", self.url + FLEET_PATH, headers=PLAIN) as answer,
        ):
            body.begin(answer)
            for part in answer.iter_bytes():
                body.add(part)
        return codec.decode(FleetRecord, bytes(body.data))

    def network(self) -> httpx2.BaseTransport:
        """The way to the verified worker, without a seal. Raises `TlsKeyMismatch` before anybody was verified."""
        return self._network.transport

    def transport(self, to: Verification | None = None) -> httpx2.BaseTransport:
        """An httpx2 transport that seals every request to the verified worker, and pays for it where there is a wallet.

        `to` is a worker that was verified before, where it is not to be the one in use.
        """
        verification = to or self.current()
        sealed = self._sealed(verification)
        if self._seals_headers(verification):
            sealed = KeyedTransport(sealed, verification, self.asked.append)
        return sealed if self.wallet is None else PayingTransport(sealed, self.wallet, in_field=self.relay is not None)

    def _sealed(self, verification: Verification) -> httpx2.BaseTransport:
        if self.relay is not None:
            return RelayedTransport(_Shared(self._network.transport), self._way(self.relay, verification))
        return SealedTransport(
            _Shared(self._network.transport),
            verification.keyset.channel,
            on_exchange=partial(self._keep, verification),
            clear_paths=CLEAR_PATHS,
            v2=peer_of(verification.keyset),
        )

    def receipt_of(self, asked: Asked) -> Fetched:
        """The receipt of a request in `asked`, fetched from its worker: also of an answer that broke off.

        Raises `ServiceUnavailable` where the worker has none (yet), `ReceiptInvalid` where it is not this request's.
        """
        with (
            _worker_away(),
            httpx2.Client(transport=self._sealed(asked.verification), timeout=_TIMEOUT) as http,
            http.stream("GET", self.url + RECEIPTS_PATH, headers={RECEIPT_KEY_FIELD: asked.key}) as answer,
        ):
            body = _Bounded(MAX_RECEIPT)
            for part in answer.iter_bytes():
                body.add(part)
        return check(asked, answer.status_code, bytes(body.data))

    def resending(self) -> httpx2.BaseTransport:
        """As `transport`, verifying when needed, and sending again what was not read: see `client.resending`."""
        return Resending(self)

    def openai(self, **options: Any) -> Any:
        """The official `openai` client over the sealed channel (extra `openai`)."""
        try:
            import openai
        except ImportError:
            raise UsageError("the openai package is missing", remedy="pip install 'strongroom[openai]'") from None
        self.transport()  # verify now, so that a refusal is this call's
        http = httpx2.Client(transport=self.resending(), timeout=_TIMEOUT)
        return openai.OpenAI(
            base_url=self.url + "/v1", api_key=self._key(options), http_client=http, max_retries=0, **options
        )

    def anthropic(self, **options: Any) -> Any:
        """The official `anthropic` client over the sealed channel (extra `anthropic`)."""
        try:
            import anthropic
        except ImportError:
            raise UsageError("the anthropic package is missing", remedy="pip install 'strongroom[anthropic]'") from None
        self.transport()  # verify now, so that a refusal is this call's
        http = httpx2.Client(transport=self.resending(), timeout=_TIMEOUT)
        return anthropic.Anthropic(
            base_url=self.url, api_key=self._key(options), http_client=http, max_retries=0, **options
        )

    def ask(self, prompt: str, **options: Any) -> str:
        """One answer as text, without any other package."""
        return "".join(self.stream(prompt, **options))

    def stream(self, prompt: str, **options: Any) -> Iterator[str]:
        """One answer, piece by piece; ends only when its receipt was checked."""
        with (
            _worker_away(),
            httpx2.Client(transport=self.resending(), timeout=_TIMEOUT) as http,
            http.stream(
                "POST", self.url + chat.PATH, content=chat.request(prompt, options), headers=self._headers()
            ) as answer,
        ):
            chat.require_ok(answer.status_code, b"" if answer.is_success else answer.read())
            lines, pieces = chat.Lines(), answer.iter_bytes()
            try:
                for data in pieces:
                    yield from lines.feed(data)
            except EngineUnavailable:
                with contextlib.suppress(StrongroomError):
                    list(pieces)  # what the engine failed at has its receipt, too
                raise


class AsyncClient(Desk):
    """The asynchronous twin of `Client`."""

    def __init__(self, url: str, *, transport: httpx2.AsyncBaseTransport | None = None, **trust: Any) -> None:
        super().__init__(url, **trust)
        self._network = Network[httpx2.AsyncBaseTransport](httpx2.AsyncHTTPTransport, transport, self.way)

    async def verify(self, keyset: Digest | None = None) -> Verification:
        """Ask for evidence with a fresh nonce and judge it."""
        nonce, request = self._question(keyset)
        body, meeting = _Bounded(), self._network.meet()
        with _worker_away():
            async with (
                httpx2.AsyncClient(transport=_AsyncShared(meeting.transport), timeout=_TIMEOUT) as http,
                contextlib.aclosing(await http.send(request, stream=True)) as answer,
            ):
                body.begin(answer)
                self.replicas.met(answer.headers)
                async for part in answer.aiter_bytes():
                    body.add(part)
        return self._admit(self._judge(bytes(body.data), nonce, keyset), partial(self._network.trust, meeting))

    async def current(self) -> Verification:
        """The worker in use; verifies where there is none, or its lease or keyset has ended."""
        return self._current() or await self.verify()

    async def fleet(self) -> FleetRecord:
        """Whom the front door names; nothing in it is trusted."""
        body = _Bounded()
        with _worker_away():
            async with (
                httpx2.AsyncClient(transport=_AsyncShared(self._network.transport), timeout=_TIMEOUT) as http,
                http.stream("GET", self.url + FLEET_PATH, headers=PLAIN) as answer,
            ):
                body.begin(answer)
                async for part in answer.aiter_bytes():
                    body.add(part)
        return codec.decode(FleetRecord, bytes(body.data))

    def network(self) -> httpx2.AsyncBaseTransport:
        """The way to the verified worker, without a seal. Raises `TlsKeyMismatch` before anybody was verified."""
        return self._network.transport

    async def transport(self, to: Verification | None = None) -> httpx2.AsyncBaseTransport:
        """An httpx2 transport that seals every request to the verified worker, and pays for it where there is a wallet.

        `to` is a worker that was verified before, where it is not to be the one in use.
        """
        verification = to or await self.current()
        sealed = self._sealed(verification)
        if self._seals_headers(verification):
            sealed = AsyncKeyedTransport(sealed, verification, self.asked.append)
        if self.wallet is None:
            return sealed
        return AsyncPayingTransport(sealed, self.wallet, in_field=self.relay is not None)

    def resending(self) -> httpx2.AsyncBaseTransport:
        """As `transport`, verifying when needed, and sending again what was not read: see `client.resending`."""
        return AsyncResending(self)

    def _sealed(self, verification: Verification) -> httpx2.AsyncBaseTransport:
        if self.relay is not None:
            return AsyncRelayedTransport(_AsyncShared(self._network.transport), self._way(self.relay, verification))
        return AsyncSealedTransport(
            _AsyncShared(self._network.transport),
            verification.keyset.channel,
            on_exchange=partial(self._keep, verification),
            clear_paths=CLEAR_PATHS,
            v2=peer_of(verification.keyset),
        )

    async def receipt_of(self, asked: Asked) -> Fetched:
        """As `Client.receipt_of`."""
        body = _Bounded(MAX_RECEIPT)
        with _worker_away():
            async with (
                httpx2.AsyncClient(transport=self._sealed(asked.verification), timeout=_TIMEOUT) as http,
                http.stream("GET", self.url + RECEIPTS_PATH, headers={RECEIPT_KEY_FIELD: asked.key}) as answer,
            ):
                async for part in answer.aiter_bytes():
                    body.add(part)
        return check(asked, answer.status_code, bytes(body.data))

    async def openai(self, **options: Any) -> Any:
        """The official asynchronous `openai` client over the sealed channel (extra `openai`)."""
        try:
            import openai
        except ImportError:
            raise UsageError("the openai package is missing", remedy="pip install 'strongroom[openai]'") from None
        await self.transport()  # verify now, so that a refusal is this call's
        http = httpx2.AsyncClient(transport=self.resending(), timeout=_TIMEOUT)
        return openai.AsyncOpenAI(
            base_url=self.url + "/v1", api_key=self._key(options), http_client=http, max_retries=0, **options
        )

    async def anthropic(self, **options: Any) -> Any:
        """The official asynchronous `anthropic` client over the sealed channel (extra `anthropic`)."""
        try:
            import anthropic
        except ImportError:
            raise UsageError("the anthropic package is missing", remedy="pip install 'strongroom[anthropic]'") from None
        await self.transport()  # verify now, so that a refusal is this call's
        http = httpx2.AsyncClient(transport=self.resending(), timeout=_TIMEOUT)
        return anthropic.AsyncAnthropic(
            base_url=self.url, api_key=self._key(options), http_client=http, max_retries=0, **options
        )

    async def ask(self, prompt: str, **options: Any) -> str:
        """One answer as text, without any other package."""
        return "".join([piece async for piece in self.stream(prompt, **options)])

    async def stream(self, prompt: str, **options: Any) -> AsyncIterator[str]:
        """One answer, piece by piece; ends only when its receipt was checked."""
        body = chat.request(prompt, options)
        with _worker_away():
            async with (
                httpx2.AsyncClient(transport=self.resending(), timeout=_TIMEOUT) as http,
                http.stream("POST", self.url + chat.PATH, content=body, headers=self._headers()) as answer,
            ):
                chat.require_ok(answer.status_code, b"" if answer.is_success else await answer.aread())
                lines, pieces = chat.Lines(), answer.aiter_bytes()
                try:
                    async for data in pieces:
                        for piece in lines.feed(data):
                            yield piece
                except EngineUnavailable:
                    with contextlib.suppress(StrongroomError):
                        _ = [data async for data in pieces]
                    raise


class _Bounded:
    """What a worker says of itself as it arrives: uncompressed, of bounded size."""

    def __init__(self, most: int = MAX_PROOF) -> None:
        self.data, self._most = bytearray(), most

    def begin(self, answer: httpx2.Response) -> None:
        if answer.status_code != httpx2.codes.OK:
            raise ServiceUnavailable(f"the worker gives no evidence (status {answer.status_code})")
        if answer.headers.get("content-encoding", "identity") != "identity":
            raise MalformedMessage("the worker's proof is in an encoding that was not asked for")

    def add(self, part: bytes) -> None:
        self.data += part
        if len(self.data) > self._most:
            raise MalformedMessage(f"the worker's proof exceeds {self._most} bytes")


class _Shared(httpx2.BaseTransport):
    """A transport that a short-lived client must not close."""

    def __init__(self, inner: httpx2.BaseTransport) -> None:
        self._inner = inner

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        return self._inner.handle_request(request)


class _AsyncShared(httpx2.AsyncBaseTransport):
    """The asynchronous twin of `_Shared`."""

    def __init__(self, inner: httpx2.AsyncBaseTransport) -> None:
        self._inner = inner

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        return await self._inner.handle_async_request(request)


@contextlib.contextmanager
def _worker_away() -> Iterator[None]:
    """What a network does to a request, as our own error."""
    try:
        yield
    except httpx2.HTTPError as error:
        raise ServiceUnavailable(f"the worker does not answer ({why(error)})") from None


_TIMEOUT = httpx2.Timeout(10.0, read=300.0)
