"""`Client` and `AsyncClient`: verify once, then talk as to any OpenAI server; every answer brings a receipt.

Knows: how proof, channel and receipts fit together for a user. Does not know: how evidence is judged (`client.verification`), how
requests are sealed (`channel`). A client that has not verified sends nothing.
"""

from __future__ import annotations

import contextlib
import secrets
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2

from strongroom.appraisal.policies import from_toml
from strongroom.channel.client import AsyncSealedTransport, Exchange, SealedTransport
from strongroom.client import chat
from strongroom.client.verification import Trust, Verification, verify_worker
from strongroom.errors import FileUnreadable, ServiceUnavailable, UsageError
from strongroom.receipts.receipt import ReceiptDocument, SealedReceipt, verify_receipt
from strongroom.records import codec
from strongroom.records.digest import Digest
from strongroom.records.policy import Policy
from strongroom.records.session import EVIDENCE_PATH, EvidenceRequest, WorkerProof
from strongroom.tee.anchors import VENDOR_ANCHORS, TrustAnchor, installation_anchor

CLEAR_PATHS = frozenset({"/v1/models", "/healthz"})
"""Paths whose requests carry nothing and whose answers are not trusted."""

NONCE_BYTES = 32
KEPT_RECEIPTS = 1024
MAX_PROOF = 4 * 1024 * 1024


class _Desk:
    """What both clients share: trust, the verified worker, receipts. No I/O."""

    def __init__(
        self,
        url: str,
        *,
        policy: Policy | str | Path,
        anchor: str | Path | None = None,
        broker: str | None = None,
        accept_simulated: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """What a user holds before any worker is met.

        `url` of the worker or of what stands before it; `policy` as a record or a TOML file of your own; `anchor` the PEM file
        of an installation root (simulated TEEs); `broker` the fingerprint of the broker that must have released the keys.
        """
        self.url = url.rstrip("/")
        if not self.url.startswith(("http://", "https://")):
            raise UsageError(f"{url!r} is not an http address", remedy="Give an address such as http://127.0.0.1:8443.")
        anchors: tuple[TrustAnchor, ...] = VENDOR_ANCHORS
        if anchor is not None:
            anchors = (*anchors, installation_anchor("tdx", _read(anchor)))
        self.trust = Trust(
            policy=policy if isinstance(policy, Policy) else from_toml(_read(policy).decode("utf-8", "replace")),
            anchors=anchors,
            broker=Digest(broker) if broker else None,
            accept_simulated=accept_simulated,
        )
        self.verification: Verification | None = None
        self.receipts: deque[ReceiptDocument] = deque(maxlen=KEPT_RECEIPTS)
        self._clock = clock

    @property
    def last_receipt(self) -> ReceiptDocument:
        """The receipt of the newest answer, with all that is needed to check it offline."""
        if not self.receipts:
            raise UsageError("there is no receipt yet", remedy="Ask something first.")
        return self.receipts[-1]

    def _judge(self, answer: httpx2.Response, nonce: bytes) -> Verification:
        if answer.status_code != httpx2.codes.OK:
            raise ServiceUnavailable(f"the worker gives no evidence (status {answer.status_code})")
        proof = codec.decode(WorkerProof, answer.content)
        self.verification = verify_worker(proof, self.trust, nonce=nonce, now=int(self._clock()))
        return self.verification

    def _keep(self, exchange: Exchange) -> None:
        """Check the receipt of an answer against what was sent and received; only then is the answer complete."""
        verification = self.verification
        if verification is None:
            raise UsageError("an answer came from a worker that was not verified")
        sealed = codec.decode(SealedReceipt, exchange.sealed_receipt)
        verify_receipt(
            sealed,
            keyset=verification.keyset,
            request_sha256=exchange.request_sha256,
            response_sha256=exchange.response_sha256,
        )
        self.receipts.append(
            ReceiptDocument(
                receipt=sealed,
                request_sha256=exchange.request_sha256,
                response_sha256=exchange.response_sha256,
                bundle=verification.bundle,
                release=verification.release,
            )
        )


class Client(_Desk):
    """A user's client. `verify()` runs by itself before the first request."""

    def __init__(self, url: str, *, transport: httpx2.BaseTransport | None = None, **trust: Any) -> None:
        """See `_Desk` for `trust`; `transport` replaces the network in tests."""
        super().__init__(url, **trust)
        self._outer = transport if transport is not None else httpx2.HTTPTransport()

    def verify(self) -> Verification:
        """Ask for evidence with a fresh nonce and judge it. Raises `AppraisalRefused`, `SimulationNotAccepted` and more."""
        nonce = secrets.token_bytes(NONCE_BYTES)
        request = httpx2.Request(
            "POST", self.url + EVIDENCE_PATH, content=codec.encode(EvidenceRequest(nonce)), headers=_JSON
        )
        with _worker_away(), httpx2.Client(transport=_Shared(self._outer), timeout=_TIMEOUT) as http:
            answer = http.send(request)
        return self._judge(answer, nonce)

    def transport(self) -> SealedTransport:
        """An httpx2 transport that seals every request to the verified worker."""
        verification = self.verification or self.verify()
        return SealedTransport(
            _Shared(self._outer),
            verification.keyset.channel,
            on_exchange=self._keep,
            clear_paths=CLEAR_PATHS,
        )

    def openai(self, **options: Any) -> Any:
        """The official `openai` client over the sealed channel (extra `openai`)."""
        try:
            import openai
        except ImportError:
            raise UsageError("the openai package is missing", remedy="pip install 'strongroom[openai]'") from None
        http = httpx2.Client(transport=self.transport(), timeout=_TIMEOUT)
        return openai.OpenAI(
            base_url=self.url + "/v1", api_key="sealed-channel", http_client=http, max_retries=0, **options
        )

    def ask(self, prompt: str, **options: Any) -> str:
        """One answer as text, without any other package."""
        return "".join(self.stream(prompt, **options))

    def stream(self, prompt: str, **options: Any) -> Iterator[str]:
        """One answer, piece by piece; ends only when its receipt was checked."""
        with (
            _worker_away(),
            httpx2.Client(transport=self.transport(), timeout=_TIMEOUT) as http,
            http.stream("POST", self.url + chat.PATH, content=chat.request(prompt, options), headers=_JSON) as answer,
        ):
            chat.require_ok(answer.status_code, b"" if answer.is_success else answer.read())
            lines = chat.Lines()
            for data in answer.iter_bytes():
                yield from lines.feed(data)


class AsyncClient(_Desk):
    """The asynchronous twin of `Client`."""

    def __init__(self, url: str, *, transport: httpx2.AsyncBaseTransport | None = None, **trust: Any) -> None:
        super().__init__(url, **trust)
        self._outer = transport if transport is not None else httpx2.AsyncHTTPTransport()

    async def verify(self) -> Verification:
        """Ask for evidence with a fresh nonce and judge it."""
        nonce = secrets.token_bytes(NONCE_BYTES)
        request = httpx2.Request(
            "POST", self.url + EVIDENCE_PATH, content=codec.encode(EvidenceRequest(nonce)), headers=_JSON
        )
        with _worker_away():
            async with httpx2.AsyncClient(transport=_AsyncShared(self._outer), timeout=_TIMEOUT) as http:
                answer = await http.send(request)
        return self._judge(answer, nonce)

    async def transport(self) -> AsyncSealedTransport:
        """An httpx2 transport that seals every request to the verified worker."""
        verification = self.verification or await self.verify()
        return AsyncSealedTransport(
            _AsyncShared(self._outer),
            verification.keyset.channel,
            on_exchange=self._keep,
            clear_paths=CLEAR_PATHS,
        )

    async def openai(self, **options: Any) -> Any:
        """The official asynchronous `openai` client over the sealed channel (extra `openai`)."""
        try:
            import openai
        except ImportError:
            raise UsageError("the openai package is missing", remedy="pip install 'strongroom[openai]'") from None
        http = httpx2.AsyncClient(transport=await self.transport(), timeout=_TIMEOUT)
        return openai.AsyncOpenAI(
            base_url=self.url + "/v1", api_key="sealed-channel", http_client=http, max_retries=0, **options
        )

    async def ask(self, prompt: str, **options: Any) -> str:
        """One answer as text, without any other package."""
        return "".join([piece async for piece in self.stream(prompt, **options)])

    async def stream(self, prompt: str, **options: Any) -> AsyncIterator[str]:
        """One answer, piece by piece; ends only when its receipt was checked."""
        body = chat.request(prompt, options)
        with _worker_away():
            async with (
                httpx2.AsyncClient(transport=await self.transport(), timeout=_TIMEOUT) as http,
                http.stream("POST", self.url + chat.PATH, content=body, headers=_JSON) as answer,
            ):
                chat.require_ok(answer.status_code, b"" if answer.is_success else await answer.aread())
                lines = chat.Lines()
                async for data in answer.aiter_bytes():
                    for piece in lines.feed(data):
                        yield piece


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
        raise ServiceUnavailable(f"the worker does not answer ({type(error).__name__})") from None


_JSON = {"content-type": "application/json"}
_TIMEOUT = httpx2.Timeout(10.0, read=300.0)


def _read(path: str | Path) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise FileUnreadable(f"{path}: {error.strerror}") from None
