"""The broker over HTTP.

Knows: paths, bodies and statuses. Does not know: any rule (`release.broker`, `release.administration`). The broker's
work runs on threads, off the event loop. 403 is a refusal and names the failed checks, 401 means only "who are you?",
413 comes before the body is read. Log lines hold codes, counts, times and digests.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from strongroom.errors import MalformedRecord
from strongroom.records import codec
from strongroom.records.audit import AuditQuery
from strongroom.records.digest import Digest
from strongroom.records.envelope import Envelope
from strongroom.records.release import ReleaseAnswer, WrappedKey
from strongroom.release import wire
from strongroom.release.broker import Broker
from strongroom.services.cells import cell_routes
from strongroom.services.log import log_routes
from strongroom.services.problems import HANDLERS, Defects, answer, read_body

log = logging.getLogger("strongroom.broker")

Clock = Callable[[], float]
OwnerVerb = Callable[[Request, bytes, Digest, int], Any]


def broker_app(broker: Broker, *, clock: Clock = time.time) -> Starlette:
    """The application of `broker`; `clock` gives Unix seconds."""
    routes = [
        Route("/healthz", _health),
        *_public_routes(broker, clock),
        *_owner_routes(broker, clock),
        *cell_routes(broker.cells, clock, lambda verb: _owned(broker, clock, verb), broker.witnessed),
        *log_routes(broker.log, broker.store),
    ]
    return Starlette(routes=routes, exception_handlers=HANDLERS, middleware=[Middleware(Defects)])


def _public_routes(broker: Broker, clock: Clock) -> list[Route]:
    """What anybody may ask: each request proves itself."""

    async def identity(_: Request) -> Response:
        return answer(broker.identity_envelope)

    async def challenge(request: Request) -> Response:
        wanted = codec.decode(wire.ChallengeRequest, await read_body(request, wire.MAX_SMALL_BYTES))
        return answer(broker.challenge(wanted.purpose, now=int(clock())))

    async def release(request: Request) -> Response:
        body = await read_body(request, wire.MAX_EVIDENCE_BYTES)
        given = await run_in_threadpool(broker.release, body, now=int(clock()))
        return _decided("release", given)

    async def renew(request: Request) -> Response:
        body = await read_body(request, wire.MAX_EVIDENCE_BYTES)
        given = await run_in_threadpool(broker.renew, request.path_params["id"], body, now=int(clock()))
        return _decided("renewal", given)

    async def receipts(request: Request) -> Response:
        envelope = Envelope.from_bytes(await read_body(request, wire.MAX_SMALL_BYTES))
        return answer(await run_in_threadpool(broker.post_receipts, envelope, now=int(clock())))

    return [
        Route(wire.IDENTITY_PATH, identity),
        Route(wire.CHALLENGES_PATH, challenge, methods=["POST"]),
        Route(wire.RELEASES_PATH, release, methods=["POST"]),
        Route(f"{wire.LEASES_PATH}/{{id}}/renew", renew, methods=["POST"]),
        Route(wire.RECEIPTS_PATH, receipts, methods=["POST"]),
    ]


def _owner_routes(broker: Broker, clock: Clock) -> list[Route]:
    """What owners may ask, each request signed by one of them."""
    admin = broker.administration

    def create_key(_: Request, body: bytes, who: Digest, now: int) -> wire.KeyInfo:
        wanted = codec.decode(wire.KeyCreation, body)
        return admin.create_key(wanted.key_id, wanted.policy_id, max_uses=wanted.max_uses, who=who, now=now)

    def wrap(request: Request, body: bytes, who: Digest, now: int) -> Any:
        return admin.wrap(request.path_params["id"], codec.decode(wire.WrapRequest, body), who=who, now=now)

    def rotate(request: Request, _: bytes, who: Digest, now: int) -> wire.KeyInfo:
        return admin.rotate_key(request.path_params["id"], who=who, now=now)

    def rewrap(request: Request, body: bytes, who: Digest, now: int) -> Any:
        wrapped = codec.decode(WrappedKey, body)
        if wrapped.key_id != request.path_params["id"]:
            raise MalformedRecord("a wrapped key of another key than the address names")
        return admin.rewrap(wrapped, who=who, now=now)

    def retire(request: Request, _: bytes, who: Digest, now: int) -> wire.KeyList:
        return wire.KeyList(admin.retire_key(request.path_params["id"], who=who, now=now))

    def put_policy(_: Request, body: bytes, who: Digest, now: int) -> wire.PolicyInfo:
        return admin.put_policy(Envelope.from_bytes(body), who=who, now=now)

    def revoke(verb: Callable[..., Any]) -> OwnerVerb:
        return lambda request, _, who, now: wire.LeaseList(verb(request.path_params["id"], who=who, now=now))

    verbs: list[tuple[str, str, OwnerVerb]] = [
        ("GET", wire.KEYS_PATH, lambda *_: wire.KeyList(admin.keys())),
        ("POST", wire.KEYS_PATH, create_key),
        ("POST", f"{wire.KEYS_PATH}/{{id:path}}/wrap", wrap),
        ("POST", f"{wire.KEYS_PATH}/{{id:path}}/rotate", rotate),
        ("POST", f"{wire.KEYS_PATH}/{{id:path}}/rewrap", rewrap),
        ("POST", f"{wire.KEYS_PATH}/{{id:path}}/retire", retire),
        ("POST", f"{wire.KEYS_PATH}/{{id:path}}/revoke", revoke(admin.revoke_key)),
        ("GET", wire.POLICIES_PATH, lambda *_: wire.PolicyList(admin.policies())),
        ("POST", wire.POLICIES_PATH, put_policy),
        ("POST", f"{wire.POLICIES_PATH}/{{id:path}}/revoke", revoke(admin.revoke_policy)),
        ("POST", wire.AUDIT_PATH, lambda _request, body, *_: broker.audit(codec.decode(AuditQuery, body))),
        ("GET", wire.LEASES_PATH, lambda _request, _body, _who, now: wire.LeaseList(admin.leases(now=now))),
        ("POST", f"{wire.LEASES_PATH}/{{id}}/revoke", revoke(admin.revoke_lease)),
    ]
    return [Route(path, _owned(broker, clock, verb), methods=[method]) for method, path, verb in verbs]


def _owned(broker: Broker, clock: Clock, verb: OwnerVerb) -> Callable[[Request], Awaitable[Response]]:
    """An endpoint that first asks who speaks, then does what was asked."""

    def act(request: Request, body: bytes) -> Any:
        now = int(clock())
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        path = request.scope.get("raw_path", b"").decode("ascii", "replace") or request.scope["path"]
        who = broker.authorise(
            token if scheme.lower() == "bearer" else "", method=request.method, path=path, body=body, now=now
        )
        return verb(request, body, who, now)

    async def endpoint(request: Request) -> Response:
        body = await read_body(request, wire.MAX_POLICY_BYTES)
        return answer(await run_in_threadpool(act, request, body))

    return endpoint


def _decided(event: str, given: ReleaseAnswer) -> Response:
    log.info(
        "yes event=%s grants=%d lease_seconds=%d leaf=%d",
        event,
        len(given.grants),
        given.lease_seconds,
        given.proof.index,
    )
    return answer(given)


async def _health(_: Request) -> Response:
    return JSONResponse({"state": "ready"})
