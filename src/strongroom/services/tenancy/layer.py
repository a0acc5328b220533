"""The door: an ASGI layer inside the seal that lets tenants in, each within its limits, and nobody else.

Knows: where credentials travel, the statuses (401 who are you, 403 not here, 429 too much), the errors' forms of both APIs. Does not
know: what is asked, what it costs (`caller`). Nothing of a credential goes on, is logged or is told.
Safety: default deny. Under `/v1/` all but the names of models is for tenants. A credential in a field that came in the clear could be
read by others: such a request is refused, loudly, before anything else of it is looked at, and the credential is not used.
Not covered: who may see the names of models; the counts of a fleet's other workers.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from strongroom.channel.credential import CACHE_FIELD, CACHE_MEMBER, MAX_CREDENTIAL, MEMBER, PLACEHOLDER
from strongroom.channel.server import (
    MAX_BODY,
    SEALED,
    SEALED_FIELDS,
    Application,
    Receive,
    Replay,
    Scope,
    Send,
    read_sealed,
    values,
)
from strongroom.engines.steering import Steering
from strongroom.errors import (
    ChannelRefused,
    CredentialExposed,
    CredentialRefused,
    QuotaExceeded,
    StrongroomError,
    TenantRefused,
)
from strongroom.services.problems import status_of
from strongroom.services.tenancy.caller import SCOPE, Caller, cache_salt, namespace_of
from strongroom.services.tenancy.file import Tenants
from strongroom.services.tenancy.identity import Register
from strongroom.services.tenancy.limits import Meter
from strongroom.workloads.inference.forms import form_of

GUARDED, OPEN = "/v1/", "/v1/models"
SECRET_BYTES = 32
_FIELDS = ("authorization", "x-api-key", CACHE_FIELD)
_BEARER = "bearer "
_STATUSES: tuple[tuple[type[StrongroomError], int], ...] = (
    (CredentialRefused, 401),
    (TenantRefused, 403),
    (QuotaExceeded, 429),
)


@dataclass(frozen=True, slots=True, repr=False)
class Brought:
    """What a request brought of its own: a credential, and a secret that parts its cache from its tenant's others. Both secret."""

    credential: str
    cache_secret: str


class Door:
    """Wraps `app`; requests go on with a `Caller` in their scope."""

    def __init__(
        self,
        app: Application,
        tenants: Tenants,
        *,
        cache: bool = False,
        adapters: Mapping[str, int] | None = None,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
        random: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        """`cache`: the engine keeps prefixes, and who shares them has one salt; without it nobody has one.

        `adapters`: the place of each tenant's adapter. `now` gives Unix seconds.
        """
        self._app, self._register = app, Register(tenants)
        self._cache, self._adapters, self._now = cache, dict(adapters or {}), now
        self._meters = {tenant.name: Meter(tenant, clock) for tenant in tenants.tenants}
        self._secret = random(SECRET_BYTES)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            _refuse_exposed(scope)
            if not _guarded(scope["path"]):
                await self._app(_without_fields(scope), receive, send)
                return
            if not scope.get(SEALED):
                raise ChannelRefused(
                    "content is taken only sealed", remedy="Use `strongroom proxy` or `strongroom.Client`."
                )
            body = await read_sealed(scope, receive, MAX_BODY)
            if body is None:
                return
            brought = _brought(scope, body)
            tenant = self._register.identify(brought.credential, self._now())
            meter = self._meters[tenant.name]
            meter.enter()
        except StrongroomError as error:
            await _refuse(send, scope["path"], error)
            return
        salt = cache_salt(self._secret, tenant.name, brought.cache_secret)
        steering = Steering(salt if self._cache else "", self._adapters.get(tenant.name))
        caller = Caller(tenant.name, steering, namespace_of(salt) if self._cache else None, meter.spend)
        try:
            await self._app({**_without_fields(scope), SCOPE: caller}, Replay(body, receive), send)
        finally:
            meter.leave()


def _guarded(path: str) -> bool:
    return path.startswith(GUARDED) and path != OPEN and not path.startswith(OPEN + "/")


def _refuse_exposed(scope: Scope) -> None:
    if scope.get(SEALED_FIELDS):
        return
    for name in _FIELDS:
        if any(_bare(value) not in {"", PLACEHOLDER} for value in values(scope, name)):
            raise CredentialExposed(f"the field {name} came in the clear, where others can read it")


def _without_fields(scope: Scope) -> Scope:
    """Nobody further in needs to see a credential."""
    hidden = {name.encode() for name in _FIELDS}
    return {**scope, "headers": [pair for pair in scope["headers"] if pair[0].lower() not in hidden]}


def _brought(scope: Scope, body: bytes) -> Brought:
    """What was brought inside the seal. Raises `CredentialRefused` where that is nothing, or two different things."""
    sealed = bool(scope.get(SEALED_FIELDS))
    found = {_bare(value) for name in _FIELDS[:2] for value in values(scope, name)} if sealed else set[str]()
    own = set(values(scope, CACHE_FIELD)) if sealed else set[str]()
    if f'"{MEMBER}"'.encode() in body or f'"{CACHE_MEMBER}"'.encode() in body:
        members = _members(body)
        found |= _text(members, MEMBER)
        own |= _text(members, CACHE_MEMBER)
    found -= {"", PLACEHOLDER}
    if len(found) != 1:
        what = "brought none" if not found else "brought several"
        raise CredentialRefused(f"a request needs one credential, inside the seal, and this one {what}")
    if len(own) > 1 or any(len(secret) > MAX_CREDENTIAL for secret in own):
        raise CredentialRefused("a request has at most one cache secret, of a bounded length")
    return Brought(found.pop(), own.pop() if own else "")


def _bare(value: str) -> str:
    """A credential without the name of its scheme."""
    return value[len(_BEARER) :].strip() if value.lower().startswith(_BEARER) else value.strip()


def _members(body: bytes) -> dict[str, Any]:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


def _text(members: Mapping[str, Any], name: str) -> set[str]:
    value = members.get(name)
    if name in members and (not isinstance(value, str) or not value):
        raise CredentialRefused(f"the member {name} is not text")
    return {value} if isinstance(value, str) else set()


async def _refuse(send: Send, path: str, error: StrongroomError) -> None:
    status = next((status for kind, status in _STATUSES if isinstance(error, kind)), status_of(error))
    body = form_of(path).fault(error, status)
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    if status == 401:  # noqa: PLR2004 (RFC 9110 section 15.5.2)
        headers.append((b"www-authenticate", b"Bearer"))
    if isinstance(error, QuotaExceeded):
        headers.append((b"retry-after", str(error.seconds).encode()))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})
