"""The gateway of a worker: HTTP over one workload, inside the TEE.

Knows: routes, forms of errors, draining. Does not know: how requests are unsealed (`channel.server` stands before it), how answers are
made and receipted (`workloads.inference.answers`), how the worker got here (`worker`).
Content is taken only sealed. Evidence is given to whoever brings a nonce, at a bounded rate: quotes are slow.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp

from strongroom.channel.server import EhbpMiddleware
from strongroom.engines.port import RequestRejected
from strongroom.errors import ChannelRefused, StrongroomError
from strongroom.records import codec
from strongroom.records.release import PURPOSE_SESSION
from strongroom.records.session import EVIDENCE_PATH, EvidenceRequest, WorkerProof
from strongroom.services.problems import Defects, read_body, status_of
from strongroom.services.server import Server
from strongroom.worker.workload import Session
from strongroom.workloads.inference import answers
from strongroom.workloads.inference.workload import Front, InferenceWorkload

EVIDENCE_PER_SECOND = 20
MAX_PROVING = 2
"""Quotes under way for users: a renewal waits behind no more than these, however many ask."""
MAX_ASKING = 64
"""Users who may wait for one; more are told to come back."""

MAX_EVIDENCE_REQUEST = 4096
OPERATIONS = {"/v1/chat/completions": "chat.completions", "/v1/completions": "completions"}


class Busy(Exception):
    """More work than may wait; the client should come back."""


class Gateway:
    """The routes of one worker, as an ASGI application (`app`)."""

    def __init__(
        self, workload: InferenceWorkload, session: Session, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._workload, self._session = workload, session
        self._slots = asyncio.Semaphore(workload.slots)
        self._waiting = self._asking = 0
        self._proving = asyncio.Semaphore(MAX_PROVING)
        self._quotes = Bucket(EVIDENCE_PER_SECOND, clock)
        routes = [
            Route("/healthz", self.health),
            Route("/v1/models", self.models),
            Route(EVIDENCE_PATH, self.evidence, methods=["POST"]),
            *(Route(path, self.answer, methods=["POST"]) for path in OPERATIONS),
        ]
        handlers = {StrongroomError: _refusal, Busy: _busy}
        inner = Starlette(routes=routes, exception_handlers=handlers)
        self.app: ASGIApp = Defects(EhbpMiddleware(inner, session.keys.channel))

    async def health(self, _: Request) -> Response:
        draining = self._session.draining.is_set()
        return JSONResponse({"state": "draining" if draining else "ready"}, 503 if draining else 200)

    async def models(self, _: Request) -> Response:
        model = {"id": self._workload.model, "object": "model", "created": 0, "owned_by": "strongroom"}
        return JSONResponse({"object": "list", "data": [model]})

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
        if self._session.draining.is_set() or self._waiting >= self._workload.queue:
            raise Busy
        body = await request.body()
        operation = OPERATIONS[request.url.path]
        parameters = answers.parse_request(body)
        if parameters.get("stream") is True:
            events = await self._begin(answers.stream(self._workload, self._session, operation, body))
            return StreamingResponse(events, media_type="text/event-stream")
        async with self._turn():
            answer = await answers.whole(self._workload, self._session, operation, body)
        return Response(answer, media_type="application/json")

    async def _begin(self, events: AsyncGenerator[bytes]) -> AsyncIterator[bytes]:
        """The stream, its first event already made: what fails before it is an honest status, not a broken stream."""
        async with contextlib.AsyncExitStack() as stack:
            await stack.enter_async_context(self._turn())
            await stack.enter_async_context(contextlib.aclosing(events))
            first = await anext(events)
            held = stack.pop_all()

        async def rest() -> AsyncIterator[bytes]:
            async with held:
                yield first
                async for event in events:
                    yield event

        return rest()

    @contextlib.asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        """One request's place in the queue, then at the engine."""
        self._waiting += 1
        try:
            await self._slots.acquire()
        finally:
            self._waiting -= 1
        try:
            yield
        finally:
            self._slots.release()


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


async def _refusal(_: Request, error: Exception) -> Response:
    """Our own errors in OpenAI's form, with the remedy in the message; what the engine said of a request, in its own words."""
    if isinstance(error, RequestRejected):
        return Response(error.reply, error.status, media_type="application/json")
    if not isinstance(error, StrongroomError):
        raise error
    return Response(answers.error_document(error), status_of(error), media_type="application/json")


async def _busy(_: Request, __: Exception) -> Response:
    message = {"message": "the worker is draining or its queue is full", "type": "busy", "code": "busy"}
    return JSONResponse({"error": message}, 503, headers={"retry-after": "1"})


def front(host: str, port: int, ready: Callable[[str], None]) -> Front:
    """What `InferenceWorkload` serves through: HTTP on `host`:`port`; `ready` is told the address. Raises `AddressInUse`."""

    async def serve(workload: InferenceWorkload, session: Session) -> None:
        gateway = Gateway(workload, session)
        async with Server(gateway.app, host=host, port=port) as server:
            ready(server.url)
            await session.draining.wait()

    return serve
