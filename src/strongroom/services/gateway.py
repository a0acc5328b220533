"""The gateway of a worker: HTTP over one workload, inside the TEE.

Knows: routes, forms of errors, draining. Does not know: how requests are unsealed (`channel.server` stands before it), how answers are
made and receipted (`workloads.inference.answers`), how the worker got here (`worker`).
Content is taken only sealed. Evidence is given to whoever brings a nonce, at a bounded rate: quotes are slow.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Send

from strongroom.channel.completion import EVENT_STREAM
from strongroom.channel.ohttp_server import OhttpMiddleware
from strongroom.channel.once import Once
from strongroom.channel.server import EhbpMiddleware
from strongroom.channel.server_v2 import SealedMiddleware
from strongroom.engines.port import RequestRejected
from strongroom.errors import ChannelRefused, ServiceUnavailable, StrongroomError, UsageError
from strongroom.records import codec
from strongroom.records.release import PURPOSE_SESSION
from strongroom.records.session import EVIDENCE_PATH, EvidenceRequest, WorkerProof
from strongroom.services.presence import GONE, while_there
from strongroom.services.problems import Defects, read_body, status_of
from strongroom.services.server import PATIENCE_SECONDS, Server
from strongroom.services.shelf import Shelf
from strongroom.services.tenancy.caller import SCOPE as CALLER
from strongroom.services.tenancy.caller import Caller
from strongroom.worker.workload import Session
from strongroom.workloads.inference import answers, requests
from strongroom.workloads.inference.adapters import AdapterUnreadable
from strongroom.workloads.inference.forms import FORMS, form_of
from strongroom.workloads.inference.queue import ComeBack
from strongroom.workloads.inference.workload import Front, InferenceWorkload, NoSuchModel

EVIDENCE_PER_SECOND = 20
MAX_PROVING = 2
"""Quotes under way for users: a renewal waits behind no more than these, however many ask."""
MAX_ASKING = 64
"""Users who may wait for one; more are told to come back."""

MAX_EVIDENCE_REQUEST = 4096


Within = Callable[[ASGIApp], ASGIApp]
"""A layer inside the seal."""


class Busy(Exception):
    """More work than may wait; the client should come back."""


class Gateway:
    """The routes of one worker, as an ASGI application (`app`)."""

    def __init__(
        self,
        workload: InferenceWorkload,
        session: Session,
        *,
        clock: Callable[[], float] = time.monotonic,
        within: Within | None = None,
    ) -> None:
        """`within` wraps the routes inside the seal, as a till does."""
        self._workload, self._session = workload, session
        self._asking = 0
        self._proving = asyncio.Semaphore(MAX_PROVING)
        self._quotes = Bucket(EVIDENCE_PER_SECOND, clock)
        self.routes = [
            Route("/healthz", self.health),
            Route("/v1/models", self.models),
            Route("/v1/models/{name:path}", self.model),
            Route(EVIDENCE_PATH, self.evidence, methods=["POST"]),
            *(Route(path, self.answer, methods=["POST"]) for path in FORMS),
        ]
        handlers: dict[Any, Any] = {StrongroomError: _refusal, Busy: _busy, HTTPException: _nothing_there}
        inner: ASGIApp = Shelf(Starlette(routes=self.routes, exception_handlers=handlers))
        inner = Once(within(inner) if within is not None else inner)
        keys = session.keys
        sealed = SealedMiddleware(inner, keys.channel_v2, keys.keyset.digest, bucket=workload.pacing.bucket)
        self.app: ASGIApp = Defects(OhttpMiddleware(EhbpMiddleware(sealed, keys.channel), inner, keys.channel))

    async def health(self, _: Request) -> Response:
        draining = self._session.draining.is_set()
        lines = [model.line for model in self._workload.models]
        load = {
            "under_way": sum(line.running for line in lines),
            "waiting": sum(line.waiting for line in lines),
            "slots": sum(line.slots for line in lines),
        }
        return JSONResponse({"state": "draining" if draining else "ready", **load}, 503 if draining else 200)

    async def models(self, _: Request) -> Response:
        names = self._workload.names
        ends = {"has_more": False, "first_id": names[0], "last_id": names[-1]}
        return JSONResponse({"object": "list", "data": [_described(name) for name in names], **ends})

    async def model(self, request: Request) -> Response:
        name = request.path_params["name"]
        if name not in self._workload.names:
            raise HTTPException(404)
        return JSONResponse(_described(name))

    async def evidence(self, request: Request) -> Response:
        nonce = codec.decode(EvidenceRequest, await read_body(request, MAX_EVIDENCE_REQUEST)).nonce
        if self._asking >= MAX_ASKING or not self._quotes.take():
            raise Busy
        self._asking += 1
        try:
            async with self._proving:
                bundle = await asyncio.to_thread(self._session.prove, nonce, PURPOSE_SESSION)
        finally:
            self._asking -= 1
        return Response(codec.encode(WorkerProof(bundle, self._session.release)), media_type="application/json")

    async def answer(self, request: Request) -> Response:
        if not request.scope.get("strongroom.sealed"):
            raise ChannelRefused(
                "content is taken only sealed", remedy="Use `strongroom proxy` or `strongroom.Client`."
            )
        if self._session.draining.is_set():
            raise Busy
        body = await request.body()
        form = FORMS[request.url.path]
        asked = requests.parse(body)
        caller: Caller | None = request.scope.get(CALLER)
        model, whose = self._workload.choose(asked.get("model")), caller.name if caller is not None else None
        model.check(whose)

        def generate(operation: str, translated: Mapping[str, Any]) -> AsyncGenerator[bytes]:
            return self._workload.generate(model, asked.get("model"), operation, translated, whose)

        generating = generate if caller is None else caller.through(generate, int(model.settings.get("context", 0)))
        place = caller.steering.adapter if caller is not None else None
        applied = model.beside.applied(form.operation, place)
        told = self._workload, self._session, model, form, asked, body, generating
        namespace = caller.namespace if caller is not None else None
        if requests.streams(asked):
            events = answers.stream(*told, namespace=namespace, adapter=applied)
            first = await while_there(request, _first(events), lambda _: events.aclose())
            return Response(status_code=GONE) if first is None else _Begun(first, events, media_type=EVENT_STREAM)
        answer = await while_there(request, answers.whole(*told, namespace=namespace, adapter=applied))
        return Response(status_code=GONE) if answer is None else Response(answer, media_type="application/json")


async def _first(events: AsyncGenerator[bytes]) -> bytes:
    """The first event, made before anything is sent: what fails before it is an honest status, not a broken stream."""
    try:
        return await anext(events)
    except BaseException:
        await events.aclose()
        raise


class _Begun(StreamingResponse):
    """An answer whose first event is there already. It iterates over `events` itself: a generator more would be one for each token."""

    def __init__(self, first: bytes, events: AsyncGenerator[bytes], *, media_type: str) -> None:
        super().__init__(events, media_type=media_type)
        self._first, self._events = first, events

    async def stream_response(self, send: Send) -> None:
        async with contextlib.aclosing(self._events):
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            await send({"type": "http.response.body", "body": self._first, "more_body": True})
            async for event in self._events:
                await send({"type": "http.response.body", "body": event, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})


class Bucket:
    """At most `rate` a second, `rate` at once."""

    def __init__(self, rate: int, clock: Callable[[], float]) -> None:
        self._rate, self._clock = rate, clock
        self._left, self._at = float(rate), clock()

    def take(self) -> bool:
        now = self._clock()
        self._left = min(self._rate, self._left + (now - self._at) * self._rate)
        self._at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True


def _described(name: str) -> dict[str, Any]:
    """A model in OpenAI's form and in Anthropic's at once: they share a path and no member but `id`."""
    openai = {"object": "model", "created": 0, "owned_by": "strongroom"}
    return {"id": name, **openai, "type": "model", "display_name": name, "created_at": "1970-01-01T00:00:00Z"}


def _told(request: Request, error: StrongroomError, status: int, **headers: str) -> Response:
    """An error in the form of the API that was asked."""
    body = form_of(request.url.path).fault(error, status)
    return Response(
        body, status, {name.replace("_", "-"): value for name, value in headers.items()}, "application/json"
    )


async def _refusal(request: Request, error: Exception) -> Response:
    """Our own errors with the remedy in the message; what the engine said of a request, in its own words."""
    if not isinstance(error, StrongroomError):
        raise error
    if isinstance(error, ComeBack):
        return _told(request, error, error.status, retry_after=str(error.retry_after))
    if isinstance(error, RequestRejected | NoSuchModel | AdapterUnreadable):
        return _told(request, error, error.status)
    return _told(request, error, status_of(error))


async def _nothing_there(request: Request, error: Exception) -> Response:
    """An unknown path, method or model."""
    status = error.status_code if isinstance(error, HTTPException) else 404
    remedy = "See the table of paths in docs/reference/channel.md."
    return _told(request, UsageError("there is nothing at this path, or not by this method", remedy=remedy), status)


async def _busy(request: Request, _: Exception) -> Response:
    error = ServiceUnavailable(
        "the worker is draining, or too many ask for its evidence", remedy="Come back in a moment."
    )
    return _told(request, error, 503, retry_after="1")


LINGER_SECONDS = 1.0
"""How long a draining worker says that it drains before it takes no more connections: a front door looks more often."""


def front(
    host: str,
    port: int,
    ready: Callable[[str], None],
    *,
    within: Within | None = None,
    around: Within | None = None,
    linger: float = 0.0,
    patience: float = PATIENCE_SECONDS,
) -> Front:
    """What `InferenceWorkload` serves through: HTTP on `host`:`port`; `ready` is told the address. Raises `AddressInUse`.

    `within` as in `Gateway`; `around` wraps everything, the channel too; `linger` in seconds, as `LINGER_SECONDS`;
    `patience` as in `Server`.
    """

    async def serve(workload: InferenceWorkload, session: Session) -> None:
        gateway = Gateway(workload, session, within=within)
        tls = session.keys.tls.server_context() if session.keys.tls is not None else None
        app = gateway.app if around is None else around(gateway.app)
        async with Server(app, host=host, port=port, tls=tls, patience=patience) as server:
            ready(server.url)
            await session.draining.wait()
            await asyncio.sleep(linger)

    return serve
