"""`Client` and `AsyncClient`: verify once, then talk as to any OpenAI server; every answer brings a receipt.

Knows: how proof, channel and receipts fit together for a user. Does not know: how evidence is judged (`client.verification`), how
requests are sealed (`channel`). A client that has not verified sends nothing.
"""

from __future__ import annotations

import contextlib
import secrets
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx2

from strongroom.appraisal.gather import read_anchors, read_enroller
from strongroom.appraisal.policies import from_toml
from strongroom.appraisal.signed import NOTHING, Known
from strongroom.channel.client import AsyncSealedTransport, Exchange, SealedTransport
from strongroom.client import chat
from strongroom.client.verification import Trust, Verification, verify_worker
from strongroom.errors import FileUnreadable, MalformedMessage, ReceiptInvalid, ServiceUnavailable, UsageError
from strongroom.receipts.receipt import ReceiptDocument, SealedReceipt, verify_document
from strongroom.records import codec
from strongroom.records.digest import Digest, is_digest
from strongroom.records.policy import Policy
from strongroom.records.session import EVIDENCE_PATH, EvidenceRequest, WorkerProof
from strongroom.tee.anchors import VENDOR_ANCHORS, TrustAnchor

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
        enrollers: Iterable[str | Path] = (),
        broker: str | None = None,
        accept_simulated: bool = False,
        known: Known = NOTHING,
        on_receipt: Callable[[ReceiptDocument], None] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """What a user holds before any worker is met.

        `url` of the worker or of what stands before it; `policy` as a record or a TOML file of your own; `anchor` the PEM file
        of an installation root (simulated TEEs); `enrollers` the public keys (PEM files) of who enrols TPMs; `broker` the
        fingerprint of the broker that must have released the keys.
        `known` are signed reference values, custody lists and provenance (`appraisal.signed`).
        `on_receipt` is given each answer's receipt document once it was checked, before the answer's end.
        """
        self.url = url.rstrip("/")
        if not _is_address(self.url):
            raise UsageError(f"{url!r} is not an http address", remedy="Give an address such as http://127.0.0.1:8443.")
        anchors: tuple[TrustAnchor, ...] = (*VENDOR_ANCHORS, *(read_enroller(_read(path)) for path in enrollers))
        if anchor is not None:
            anchors = (*anchors, *read_anchors(_read(anchor)))
        self.trust = Trust(
            policy=policy if isinstance(policy, Policy) else from_toml(_read(policy).decode("utf-8", "replace")),
            anchors=anchors,
            broker=_digest(broker) if broker is not None else None,
            accept_simulated=accept_simulated,
            known=known,
        )
        self.verification: Verification | None = None
        self.receipts: deque[ReceiptDocument] = deque(maxlen=KEPT_RECEIPTS)
        self._on_receipt = on_receipt
        self._clock = clock

    @property
    def last_receipt(self) -> ReceiptDocument:
        """The receipt of the newest answer, with all that is needed to check it offline."""
        if not self.receipts:
            raise UsageError("there is no receipt yet", remedy="Ask something first.")
        return self.receipts[-1]

    def _question(self) -> tuple[bytes, httpx2.Request]:
        nonce = secrets.token_bytes(NONCE_BYTES)
        content = codec.encode(EvidenceRequest(nonce))
        return nonce, httpx2.Request("POST", self.url + EVIDENCE_PATH, content=content, headers=_PLAIN_JSON)

    def _judge(self, answer: bytes, nonce: bytes) -> Verification:
        proof = codec.decode(WorkerProof, answer)
        self.verification = verify_worker(proof, self.trust, nonce=nonce, now=int(self._clock()))
        return self.verification

    def _current(self) -> Verification | None:
        """The verification, unless the lease or the keyset behind it has ended."""
        found = self.verification
        return found if found is not None and self._clock() < found.ends else None

    def _keep(self, verification: Verification, exchange: Exchange) -> None:
        """Check the receipt of an answer against what was sent and received; only then is the answer complete."""
        document = ReceiptDocument(
            receipt=codec.decode(SealedReceipt, exchange.sealed_receipt),
            request_sha256=exchange.request_sha256,
            response_sha256=exchange.response_sha256,
            bundle=verification.bundle,
            release=verification.release,
        )
        receipt = verify_document(document)
        if receipt.artifacts != verification.bundle.evidence.statement.artifacts:
            raise ReceiptInvalid("this receipt names other artifacts than the evidence", detail="artifacts")
        self.receipts.append(document)
        if self._on_receipt is not None:
            self._on_receipt(document)
        if receipt.outcome != "complete":
            raise ReceiptInvalid(f"this answer was {receipt.outcome}, not complete", detail="outcome")


class Client(_Desk):
    """A user's client. `verify()` runs by itself before the first request."""

    def __init__(self, url: str, *, transport: httpx2.BaseTransport | None = None, **trust: Any) -> None:
        """See `_Desk` for `trust`; `transport` replaces the network in tests."""
        super().__init__(url, **trust)
        self._outer = transport if transport is not None else httpx2.HTTPTransport()

    def verify(self) -> Verification:
        """Ask for evidence with a fresh nonce and judge it. Raises `AppraisalRefused`, `SimulationNotAccepted` and more."""
        nonce, request = self._question()
        body = _Bounded()
        with (
            _worker_away(),
            httpx2.Client(transport=_Shared(self._outer), timeout=_TIMEOUT) as http,
            contextlib.closing(http.send(request, stream=True)) as answer,
        ):
            body.begin(answer)
            for part in answer.iter_bytes():
                body.add(part)
        return self._judge(bytes(body.data), nonce)

    def transport(self) -> SealedTransport:
        """An httpx2 transport that seals every request to the verified worker."""
        verification = self._current() or self.verify()
        return SealedTransport(
            _Shared(self._outer),
            verification.keyset.channel,
            on_exchange=partial(self._keep, verification),
            clear_paths=CLEAR_PATHS,
        )

    def openai(self, **options: Any) -> Any:
        """The official `openai` client over the sealed channel (extra `openai`)."""
        try:
            import openai
        except ImportError:
            raise UsageError("the openai package is missing", remedy="pip install 'strongroom[openai]'") from None
        self.transport()  # verify now, so that a refusal is this call's
        http = httpx2.Client(transport=_Verified(self), timeout=_TIMEOUT)
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
        nonce, request = self._question()
        body = _Bounded()
        with _worker_away():
            async with (
                httpx2.AsyncClient(transport=_AsyncShared(self._outer), timeout=_TIMEOUT) as http,
                contextlib.aclosing(await http.send(request, stream=True)) as answer,
            ):
                body.begin(answer)
                async for part in answer.aiter_bytes():
                    body.add(part)
        return self._judge(bytes(body.data), nonce)

    async def transport(self) -> AsyncSealedTransport:
        """An httpx2 transport that seals every request to the verified worker."""
        verification = self._current() or await self.verify()
        return AsyncSealedTransport(
            _AsyncShared(self._outer),
            verification.keyset.channel,
            on_exchange=partial(self._keep, verification),
            clear_paths=CLEAR_PATHS,
        )

    async def openai(self, **options: Any) -> Any:
        """The official asynchronous `openai` client over the sealed channel (extra `openai`)."""
        try:
            import openai
        except ImportError:
            raise UsageError("the openai package is missing", remedy="pip install 'strongroom[openai]'") from None
        await self.transport()  # verify now, so that a refusal is this call's
        http = httpx2.AsyncClient(transport=_AsyncVerified(self), timeout=_TIMEOUT)
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


class _Verified(httpx2.BaseTransport):
    """Seals each request to the worker as it is verified then: a lease that ended is never relied on."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        return self._client.transport().handle_request(request)


class _AsyncVerified(httpx2.AsyncBaseTransport):
    """The asynchronous twin of `_Verified`."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        return await (await self._client.transport()).handle_async_request(request)


class _Bounded:
    """A worker's proof as it arrives: uncompressed, of bounded size."""

    def __init__(self) -> None:
        self.data = bytearray()

    def begin(self, answer: httpx2.Response) -> None:
        if answer.status_code != httpx2.codes.OK:
            raise ServiceUnavailable(f"the worker gives no evidence (status {answer.status_code})")
        if answer.headers.get("content-encoding", "identity") != "identity":
            raise MalformedMessage("the worker's proof is in an encoding that was not asked for")

    def add(self, part: bytes) -> None:
        self.data += part
        if len(self.data) > MAX_PROOF:
            raise MalformedMessage(f"the worker's proof exceeds {MAX_PROOF} bytes")


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
_PLAIN_JSON = {**_JSON, "accept-encoding": "identity"}
_TIMEOUT = httpx2.Timeout(10.0, read=300.0)


def _is_address(url: str) -> bool:
    try:
        found = httpx2.URL(url)
    except httpx2.InvalidURL:
        return False
    return found.scheme in {"http", "https"} and bool(found.host)


def _digest(text: str) -> Digest:
    if not is_digest(text):
        raise UsageError("a broker's fingerprint is sha256: and 64 hexadecimal digits")
    return Digest(text)


def _read(path: str | Path) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise FileUnreadable(f"{path}: {error.strerror}") from None
