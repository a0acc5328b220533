"""The broker over HTTP.

Knows: paths, bodies and statuses. Does not know: any rule (`release.broker`, `release.administration`), or who may ask for
what (`release.roles`, `owned`). The broker's work runs on threads, off the event loop. 403 is a refusal and names the
failed checks, or the role and the verb that it lacks; 401 means only "who are you?"; 413 comes before the body is read.
Log lines hold codes, counts, times and digests.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from strongroom.errors import MalformedRecord
from strongroom.records import codec
from strongroom.records.audit import AuditPage, AuditQuery
from strongroom.records.digest import is_digest
from strongroom.records.envelope import Envelope
from strongroom.records.policy import Policy
from strongroom.records.release import ReleaseAnswer, WrappedKey
from strongroom.release import wire
from strongroom.release.broker import Broker
from strongroom.release.clock import WatchedClock
from strongroom.release.roles import Caller, Verb
from strongroom.services.administrators import administrator_routes
from strongroom.services.cells import cell_routes
from strongroom.services.enrolments import enrolment_routes
from strongroom.services.keys import key_routes
from strongroom.services.log import log_routes
from strongroom.services.owned import Act, Owned
from strongroom.services.problems import HANDLERS, Bodies, Defects, answer, read_body
from strongroom.services.revocations import revocation_routes

log = logging.getLogger("strongroom.broker")

T = TypeVar("T")

Clock = Callable[[], float]


def broker_app(broker: Broker, *, clock: Clock | None = None) -> Starlette:
    """The application of `broker`; `clock` gives Unix seconds, the machine's own where it is None."""
    clock = clock or WatchedClock()
    owned = Owned(broker, clock)
    routes = [
        Route("/healthz", _health),
        *_public_routes(broker, clock),
        *enrolment_routes(broker, clock),
        *_owner_routes(broker, owned),
        *key_routes(broker, owned),
        *administrator_routes(broker.administrators, owned),
        *cell_routes(broker.cells, clock, owned, broker.witnessed),
        *revocation_routes(broker, owned),
        *log_routes(broker.log, broker.store),
    ]
    return Starlette(routes=routes, exception_handlers=HANDLERS, middleware=[Middleware(Defects), Middleware(Bodies)])


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

    async def extend(request: Request) -> Response:
        body = await read_body(request, wire.MAX_EVIDENCE_BYTES)
        given = await run_in_threadpool(broker.extend, request.path_params["id"], body, now=int(clock()))
        return _decided("extension", given)

    async def receipts(request: Request) -> Response:
        envelope = Envelope.from_bytes(await read_body(request, wire.MAX_SMALL_BYTES))
        return answer(await run_in_threadpool(broker.post_receipts, envelope, now=int(clock())))

    return [
        Route(wire.IDENTITY_PATH, identity),
        Route(wire.CHALLENGES_PATH, challenge, methods=["POST"]),
        Route(wire.RELEASES_PATH, release, methods=["POST"]),
        Route(f"{wire.LEASES_PATH}/{{id}}/renew", renew, methods=["POST"]),
        Route(f"{wire.LEASES_PATH}/{{id}}/extend", extend, methods=["POST"]),
        Route(wire.RECEIPTS_PATH, receipts, methods=["POST"]),
    ]


def _owner_routes(broker: Broker, owned: Owned) -> list[Route]:
    """What administrators may ask about keys, policies and leases. An id may be `TENANT/NAME`, and so hold a slash."""
    admin = broker.administration

    def create_key(_: Request, body: bytes, caller: Caller, now: int) -> wire.KeyInfo:
        wanted = codec.decode(wire.KeyCreation, body)
        return admin.create_key(
            wanted.key_id,
            wanted.policy_id,
            max_uses=wanted.max_uses,
            per_boot=wanted.per_boot,
            who=caller.on(wanted.key_id, wanted.policy_id),
            now=now,
        )

    def wrap(request: Request, body: bytes, caller: Caller, now: int) -> Any:
        wanted, key_id = codec.decode(wire.WrapRequest, body), request.path_params["id"]
        return admin.wrap(key_id, wanted, who=caller.on(key_id), now=now)

    def rewrap(request: Request, body: bytes, caller: Caller, now: int) -> Any:
        wrapped = codec.decode(WrappedKey, body)
        if wrapped.key_id != request.path_params["id"]:
            raise MalformedRecord("a wrapped key of another key than the address names")
        return admin.rewrap(wrapped, who=caller.on(wrapped.key_id), now=now)

    def put_policy(_: Request, body: bytes, caller: Caller, now: int) -> wire.PolicyInfo:
        envelope = Envelope.from_bytes(body)
        claimed = codec.decode(Policy, envelope.payload)  # whose it says it is; its signature is looked at next
        return admin.put_policy(envelope, who=caller.on(claimed.id), now=now)

    def erase(_: Request, body: bytes, caller: Caller, now: int) -> wire.Erased:
        value = codec.decode(wire.ErasureRequest, body).value
        who = caller.everywhere() if is_digest(value) else caller.on(value)
        return wire.Erased(broker.erasure.erase(value, who=who, now=now))

    def one(verb: Callable[..., Any], made: Callable[[Any], Any] = lambda found: found) -> Act:
        """What is done to the one key or policy that the path names."""
        return lambda request, _, caller, now: made(
            verb(request.path_params["id"], who=caller.on(request.path_params["id"]), now=now)
        )

    return [
        owned("GET", wire.KEYS_PATH, Verb.KEYS_LIST, _seen(admin.keys, lambda key: [key.key_id], wire.KeyList)),
        owned("POST", wire.KEYS_PATH, Verb.KEYS_CREATE, create_key),
        owned("POST", f"{wire.KEYS_PATH}/{{id:path}}/wrap", Verb.KEYS_WRAP, wrap),
        owned("POST", f"{wire.KEYS_PATH}/{{id:path}}/rotate", Verb.KEYS_ROTATE, one(admin.rotate_key)),
        owned("POST", f"{wire.KEYS_PATH}/{{id:path}}/rewrap", Verb.KEYS_WRAP, rewrap),
        owned("POST", f"{wire.KEYS_PATH}/{{id:path}}/retire", Verb.KEYS_RETIRE, one(admin.retire_key, wire.KeyList)),
        owned("GET", wire.POLICIES_PATH, Verb.POLICIES_LIST, _seen(admin.policies, lambda x: [x.id], wire.PolicyList)),
        owned("POST", wire.POLICIES_PATH, Verb.POLICIES_PUT, put_policy),
        owned("POST", wire.ERASURES_PATH, Verb.LOG_ERASE, erase),
        *_lease_routes(broker, owned),
    ]


def _lease_routes(broker: Broker, owned: Owned) -> list[Route]:
    """Leases, and the audit of them. A lease is of every tenant whose key it holds."""
    admin = broker.administration

    def leases(_request: Request, _body: bytes, caller: Caller, now: int) -> wire.LeaseList:
        return wire.LeaseList(tuple(lease for lease in admin.leases(now=now) if caller.sees(*lease.key_ids)))

    def revoke(request: Request, _: bytes, caller: Caller, now: int) -> wire.LeaseList:
        lease_id = request.path_params["id"]
        return wire.LeaseList(admin.revoke_lease(lease_id, who=caller.on_any(*admin.held(lease_id)), now=now))

    def audit(_request: Request, body: bytes, caller: Caller, _now: int) -> AuditPage:
        return broker.audit(codec.decode(AuditQuery, body), sees=caller.sees)

    return [
        owned("GET", wire.LEASES_PATH, Verb.LEASES_LIST, leases),
        owned("POST", f"{wire.LEASES_PATH}/{{id}}/revoke", Verb.LEASES_REVOKE, revoke),
        owned("POST", wire.AUDIT_PATH, Verb.AUDIT_READ, audit),
    ]


def _seen(
    everything: Callable[[], Iterable[T]], names: Callable[[T], Iterable[str]], made: Callable[[tuple[T, ...]], Any]
) -> Act:
    """A list of what is the caller's to see; `names` says by which ids."""
    return lambda _request, _body, caller, _now: made(tuple(x for x in everything() if caller.sees(*names(x))))


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
