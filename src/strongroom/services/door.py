"""The front door of a fleet: one address, several verified workers behind it, each with keys of its own.

What is sealed goes on as it came, and streams both ways: to exactly the worker whose keyset it names (version 2), else to the
one that this caller was given keys of (EHBP version 1, oblivious HTTP). Questions for evidence go to the worker they name, else to
the one that is picked by load and affinity. What is not sealed goes no further than this: the list of models.

Safety: the door holds no key, reads no body and logs nothing of a request. Only named headers go on, so credentials in the clear and
addresses of callers stay here; content in the clear is refused before its body is read. Of callers it remembers a keyed hash of
their address, for as long as stock clients may hold a key. It is trusted with nothing but being there: it can refuse, delay
and choose among workers, and each client verifies the one that it speaks to.

Knows: paths, headers, sizes. Does not know: who is admitted (`fleet`), what is asked.
Not covered: its own TLS, which ends before it; callers behind one address (another proxy, a relay) share a worker in version 1.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator

import httpx2
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ExceptionHandler

from strongroom.channel import ehbp, ohttp, v2
from strongroom.errors import ChannelKeyMismatch, ChannelRefused, ServiceUnavailable, StrongroomError, WorkerBusy
from strongroom.records import codec
from strongroom.records.fleet import AFFINITY_BYTES, AFFINITY_HEADER, FLEET_HEADER, FLEET_PATH, JOIN_PATH, JoinRequest
from strongroom.records.session import EVIDENCE_PATH
from strongroom.services.carry import Carried, bounded
from strongroom.services.fleet import Fleet, Member, Standing
from strongroom.services.presence import GONE, while_there
from strongroom.services.problems import HANDLERS, Defects, Oversize, answer, problem, read_body

MAX_REQUEST = 20 << 20
MAX_QUESTION = 4096
MAX_ANSWER = 256 << 20
READ_SECONDS = 60.0
STICKY_SECONDS = 900.0
"""How long after its last request a caller of version 1 is sent to the worker whose key it was given."""
MAX_STICKY = 100_000

_CARRIED_REQUEST_HEADERS = (
    *("content-type", "accept", "content-length", "incremental"),
    *(ehbp.ENCAPSULATION_HEADER, v2.KEYSET_HEADER),
)
_CARRIED_ANSWER_HEADERS = (
    *("content-type", "content-length", "cache-control", "x-accel-buffering", "retry-after", "incremental"),
    ehbp.NONCE_HEADER,
)
_TIMEOUT = {"timeout": {"connect": 2.0, "read": 300.0, "write": 60.0, "pool": 10.0}}
_KEY_PROBLEM = 422


class Door:
    """`app` is for callers, `operators` for those who run it: listen with that one where nobody else can reach it."""

    def __init__(self, fleet: Fleet, *, ticks: Callable[[], float] = time.monotonic) -> None:
        self._fleet = fleet
        self._sticky = Sticky(ticks)
        routes = [
            Route("/healthz", self.health),
            Route(FLEET_PATH, self.record),
            Route(EVIDENCE_PATH, self.evidence, methods=["POST"]),
            Route(ehbp.KEYS_PATH, self.keys),
            Route(ohttp.GATEWAY_PATH, self.keys),
            Route(ohttp.GATEWAY_PATH, self.first, methods=["POST"]),
            Route(v2.PATH, self.second, methods=["POST"]),
            Route("/v1/models", self.models),
            Route("/v1/models/{name:path}", self.models),
            Route("/v1/{path:path}", self.first, methods=["POST"]),
        ]
        inner = [
            Route("/healthz", self.health),
            Route("/fleet", self.report),
            Route(JOIN_PATH, self.join, methods=["POST"]),
        ]
        self.app = Starlette(routes=routes, exception_handlers=_HANDLERS, middleware=[Middleware(Defects)])
        self.operators = Starlette(routes=inner, exception_handlers=_HANDLERS, middleware=[Middleware(Defects)])

    async def health(self, _: Request) -> Response:
        ready = len(self._fleet.ready())
        return JSONResponse({"state": "ready" if ready else "empty", "workers": ready}, 200 if ready else 503)

    async def record(self, _: Request) -> Response:
        return answer(self._fleet.record())

    async def report(self, _: Request) -> Response:
        return JSONResponse(self._fleet.report(), headers={"cache-control": "no-store"})

    async def join(self, request: Request) -> Response:
        """Look at one more worker; whether it is admitted is seen in the report."""
        asked = codec.decode(JoinRequest, await read_body(request, MAX_QUESTION))
        member = self._fleet.add(asked.url)
        return JSONResponse({"url": member.url, "standing": member.standing.value}, 202)

    async def evidence(self, request: Request) -> Response:
        """A caller's nonce, to the worker that it names or else to the one that shall be its own."""
        named = request.headers.get(v2.KEYSET_HEADER)
        if named is not None:
            member = self._holder(named)
        elif AFFINITY_HEADER in request.headers:
            member = self._picked(
                request
            )  # this client names the keyset in what follows, and leaves stock clients theirs
        else:
            member = self._sticky_or_picked(request)
        carried = await self._carry(request, member, MAX_QUESTION)
        carried.headers[FLEET_HEADER] = str(len(self._fleet.ready()))
        return carried

    async def keys(self, request: Request) -> Response:
        """One worker's key configuration; this caller's requests go to the same one."""
        return await self._carry(request, self._sticky_or_picked(request), 0)

    async def models(self, request: Request) -> Response:
        return await self._carry(request, self._sticky_or_picked(request), 0)

    async def first(self, request: Request) -> Response:
        """A request sealed in version 1, or through a relay: nothing in it names a worker."""
        if request.url.path != ohttp.GATEWAY_PATH and ehbp.ENCAPSULATION_HEADER not in request.headers:
            raise ChannelRefused(
                "content is taken only sealed", remedy="Use `strongroom proxy` or `strongroom.Client`."
            )
        member = self._sticky.get(request)
        if member is None or member.standing is not Standing.READY:
            self._sticky.forget(request)
            raise ChannelKeyMismatch("this caller was given no key of a worker that is there")
        return await self._carry(request, member, MAX_REQUEST)

    async def second(self, request: Request) -> Response:
        """A request sealed in version 2, to the worker that has the key."""
        return await self._carry(request, self._holder(request.headers.get(v2.KEYSET_HEADER, "")), MAX_REQUEST)

    def _holder(self, keyset: str) -> Member:
        member = self._fleet.holder(keyset)
        if member is None or member.standing is Standing.REFUSED:
            raise ChannelKeyMismatch("no worker behind this door holds that keyset")
        if member.standing is not Standing.READY:  # one that closes may break off what it still accepts
            raise WorkerBusy("the worker with that keyset takes no new requests; nothing was sent")
        return member

    def _sticky_or_picked(self, request: Request) -> Member:
        member = self._sticky.get(request)
        if member is None or member.standing is not Standing.READY:
            member = self._picked(request)
        self._sticky.put(request, member)
        return member

    def _picked(self, request: Request) -> Member:
        member = self._fleet.pick(_affinity(request))
        if member is None:
            raise WorkerBusy("no worker behind this door takes requests now")
        return member

    async def _carry(self, request: Request, member: Member, limit: int) -> Response:
        """One request on, one answer back. What could not be sent is said to be unread (503), what broke off is not (502)."""
        read = asyncio.Event()
        outgoing = _outgoing(request, member, limit, read)
        async with contextlib.AsyncExitStack() as stack:
            stack.enter_context(_counted(member))
            try:
                sending = member.client.network().handle_async_request(outgoing)
                answered = await while_there(request, sending, httpx2.Response.aclose, read=read)
            except httpx2.PoolTimeout:
                raise WorkerBusy("this worker has as many connections as it may") from None
            except (httpx2.ConnectError, httpx2.ConnectTimeout):
                member.standing, member.reason = Standing.AWAY, "no connection"
                raise WorkerBusy("this worker cannot be reached; nothing was sent") from None
            except httpx2.HTTPError as error:
                member.doubt()
                return problem(ServiceUnavailable(f"the worker went away ({type(error).__name__})"), 502)
            if answered is None:
                return Response(status_code=GONE)
            stack.push_async_callback(answered.aclose)
            if answered.status_code == _KEY_PROBLEM:
                member.doubt()  # it may have been started anew
            headers = {name: answered.headers[name] for name in _CARRIED_ANSWER_HEADERS if name in answered.headers}
            return Carried(answered, headers, MAX_ANSWER, stack.pop_all())


class Sticky:
    """Which worker callers of version 1 were given a key of, by a keyed hash of their address."""

    def __init__(self, ticks: Callable[[], float]) -> None:
        self._ticks, self._key = ticks, secrets.token_bytes(32)
        self._known: OrderedDict[bytes, tuple[Member, float]] = OrderedDict()

    def get(self, request: Request) -> Member | None:
        caller, now = self._caller(request), self._ticks()
        member, until = self._known.get(caller, (None, 0.0))
        if member is None or now >= until:
            return None
        self._keep(caller, member, now)
        return member

    def put(self, request: Request, member: Member) -> None:
        self._keep(self._caller(request), member, self._ticks())

    def forget(self, request: Request) -> None:
        self._known.pop(self._caller(request), None)

    def _keep(self, caller: bytes, member: Member, now: float) -> None:
        self._known[caller] = member, now + STICKY_SECONDS
        self._known.move_to_end(caller)
        while len(self._known) > MAX_STICKY:
            self._known.popitem(last=False)

    def _caller(self, request: Request) -> bytes:
        host = request.client.host if request.client is not None else ""
        return hashlib.blake2b(host.encode(), key=self._key, digest_size=16).digest()


def _affinity(request: Request) -> bytes:
    """What a worker is chosen by: the caller's own random bytes, or nobody's."""
    given = request.headers.get(AFFINITY_HEADER, "")
    try:
        affinity = bytes.fromhex(given)
    except ValueError:
        affinity = b""
    return affinity if len(affinity) == AFFINITY_BYTES else secrets.token_bytes(AFFINITY_BYTES)


def _outgoing(request: Request, member: Member, limit: int, read: asyncio.Event) -> httpx2.Request:
    """The request as it goes on: method, path, named headers, body."""
    headers = {name: request.headers[name] for name in _CARRIED_REQUEST_HEADERS if name in request.headers}
    headers["accept-encoding"] = "identity"
    declared = headers.get("content-length", "")
    if declared.isascii() and declared.isdigit() and int(declared) > limit:
        raise Oversize(f"a request of more than {limit} bytes")
    url = member.url + request.url.path
    if request.method in {"GET", "HEAD"}:
        read.set()
        headers.pop("content-length", None)
        return httpx2.Request(request.method, url, headers=headers, extensions=_TIMEOUT)
    body = bounded(request, limit, READ_SECONDS, read)
    return httpx2.Request(request.method, url, headers=headers, content=body, extensions=_TIMEOUT)


@contextlib.contextmanager
def _counted(member: Member) -> Iterator[None]:
    member.in_flight += 1
    try:
        yield
    finally:
        member.in_flight -= 1


async def _other_keys(_: Request, error: Exception) -> Response:
    """EHBP's own word for it, which stock clients know: fetch keys, send again."""
    told = {"type": ehbp.KEY_CONFIG_PROBLEM, "title": str(error), "status": 422, "code": ChannelKeyMismatch.code}
    return JSONResponse(told, _KEY_PROBLEM, media_type=ehbp.PROBLEM_MEDIA_TYPE)


async def _busy(_: Request, error: Exception) -> Response:
    if not isinstance(error, StrongroomError):
        raise error
    told = problem(error, 503)
    told.headers["retry-after"] = "1"
    return told


_HANDLERS: dict[int | type[Exception], ExceptionHandler] = {
    **HANDLERS,
    ChannelKeyMismatch: _other_keys,
    WorkerBusy: _busy,
}
