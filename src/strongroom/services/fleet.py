"""The registry of workers behind a front door: who is admitted, for how long, and who takes the next request.

Each worker is admitted by its own evidence for the door's own nonce, under the door's policy, as any client would; again before
its lease or keyset ends, after it was away, and when it did not know a key that it should have. Between, its health is asked for.
One whose evidence does not pass, or that is draining or away, gets nothing new; what is under way goes on.

A worker is picked by rendezvous hashing, so that equal affinities meet the same worker and its warm cache while the fleet changes
around it; the load on it is bounded: one with much more to do than others is passed over.

Knows: standing, load, addresses. Does not know: HTTP paths of clients, anything sealed (`door`). It holds no key. What it admits
nobody needs to believe: clients verify for themselves.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import hashlib
import json
import math
import time
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import httpx2

from strongroom.channel.away import why
from strongroom.client.client import AsyncClient
from strongroom.client.verification import Verification
from strongroom.errors import StrongroomError, Unavailable, UsageError
from strongroom.records.digest import Digest, raw
from strongroom.records.fleet import FleetEntry, FleetRecord
from strongroom.services.carry import origin

LOOK_SECONDS = 0.25
"""How often a worker's health is asked for: more often than a draining worker lingers."""
FIRST_SECONDS = 5.0
LOOK_LIMIT = 30.0
"""How long one look may take."""
AGAIN_SECONDS = 5.0
"""How long after a refusal its evidence is asked for again."""
FORGET_SECONDS = 600.0
"""After so long without being admitted a worker that joined by itself is forgotten; those of the configuration never are."""
MAX_WORKERS = 256
MAX_MODELS = 64
MAX_ANSWER = 64 << 10
OVERLOAD = 1.25
"""How much more than the mean a worker may have to do and still be picked for its place in the order."""

MakeClient = Callable[[str], AsyncClient]
"""A verifier of the worker at an address."""


class Standing(enum.StrEnum):
    """What a worker may be given: `ready` new requests; the others only what is under way."""

    AWAY = "away"
    READY = "ready"
    DRAINING = "draining"
    REFUSED = "refused"


@dataclass(slots=True, eq=False)
class Member:
    """One worker as the door sees it. `reason` says why it is not ready, in words of our own errors."""

    url: str
    client: AsyncClient
    configured: bool
    seen: float
    standing: Standing = Standing.AWAY
    reason: str = "not asked yet"
    verification: Verification | None = None
    models: tuple[str, ...] = ()
    added: int = 0
    again: float = 0.0
    in_flight: int = 0
    busy: int = 0
    slots: int = 1

    @property
    def load(self) -> float:
        """Requests for each place at the engine: our own, or what the worker says where others ask it too."""
        return max(self.in_flight, self.busy) / self.slots

    def keyset(self) -> Digest | None:
        return self.verification.keyset.digest if self.verification is not None else None

    def doubt(self) -> None:
        """Ask for evidence at the next look."""
        self.again = 0.0


@dataclass(slots=True)
class Fleet:
    """All workers of one door. `clock` gives Unix seconds, `ticks` a clock that nobody sets."""

    make: MakeClient
    clock: Callable[[], float] = time.time
    ticks: Callable[[], float] = time.monotonic
    look_seconds: float = LOOK_SECONDS
    again_seconds: float = AGAIN_SECONDS
    members: dict[str, Member] = field(default_factory=dict)
    _watches: dict[str, asyncio.Task[None]] = field(default_factory=dict)
    _watching: bool = False

    def add(self, url: str, *, configured: bool = False) -> Member:
        """Have a look at the worker at `url` from now on; its evidence alone admits it. Raises `UsageError`."""
        url = origin(url)
        if url not in self.members:
            if len(self.members) >= MAX_WORKERS:
                raise UsageError(f"a fleet has at most {MAX_WORKERS} workers", remedy="Open a second door.")
            self.members[url] = Member(url, self.make(url), configured, self.ticks())
            self._watch(url)
        return self.members[url]

    @contextlib.asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        """Within, workers are looked at; it begins when each had its first look, or after `FIRST_SECONDS`."""
        looks = [asyncio.ensure_future(self.look(member)) for member in self.members.values()]
        if looks:
            _, late = await asyncio.wait(looks, timeout=FIRST_SECONDS)
            for look in late:
                look.cancel()
        self._watching = True
        for url in self.members:
            self._watch(url)
        try:
            yield
        finally:
            self._watching = False
            tasks = list(self._watches.values())
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def ready(self) -> list[Member]:
        now = self.clock()
        return [
            member
            for member in self.members.values()
            if member.standing is Standing.READY and member.verification is not None and now < member.verification.ends
        ]

    def holder(self, keyset: str) -> Member | None:
        """The worker with these keys, whatever its standing."""
        return next((member for member in self.members.values() if member.keyset() == keyset), None)

    def pick(self, affinity: bytes, avoid: Iterable[Member] = ()) -> Member | None:
        """Who takes the next request; None where nobody does."""
        avoided = set(avoid)
        ready = [member for member in self.ready() if member not in avoided]
        if not ready:
            return None
        most = OVERLOAD * sum(member.load for member in ready) / len(ready)
        bound = max(1.0, math.ceil(most))  # nobody is passed over for a request that would not wait
        ranked = sorted(ready, key=lambda member: _rank(affinity, member), reverse=True)
        return next((member for member in ranked if member.load < bound), min(ready, key=lambda member: member.load))

    def record(self) -> FleetRecord:
        """Whom a client may ask."""
        entries = []
        for member in self.ready():
            if (found := member.verification) is not None:
                evidence = found.bundle.evidence
                entries.append(
                    FleetEntry(evidence.keyset.digest, evidence.digest, member.models, found.ends, member.added)
                )
        return FleetRecord(tuple(entries), int(self.clock()))

    def report(self) -> dict[str, Any]:
        """For operators: every worker, and why it is not given anything."""
        told = [
            {
                "url": member.url,
                "standing": member.standing.value,
                "reason": member.reason,
                "keyset": member.keyset(),
                "models": list(member.models),
                "not_after": member.verification.ends if member.verification is not None else None,
                "in_flight": member.in_flight,
                "load": round(member.load, 3),
            }
            for member in self.members.values()
        ]
        return {"workers": told, "time": int(self.clock())}

    def _watch(self, url: str) -> None:
        if self._watching:
            self._watches[url] = asyncio.create_task(self._look_on(url))

    async def _look_on(self, url: str) -> None:
        while (member := self.members.get(url)) is not None:
            await self.look(member)
            now = self.ticks()
            if member.standing in {Standing.READY, Standing.DRAINING}:
                member.seen = now
            elif not member.configured and now - member.seen > FORGET_SECONDS:
                del self.members[url], self._watches[url]
                return
            await asyncio.sleep(self.look_seconds)

    async def look(self, member: Member) -> None:
        """Evidence where it is due, health otherwise."""
        try:
            async with asyncio.timeout(LOOK_LIMIT):
                if self._due(member):
                    await self._prove(member)
                else:
                    await self._ask_health(member)
        except TimeoutError:
            _stand(member, Standing.AWAY, f"it did not answer within {LOOK_LIMIT:.0f} s")
        except Unavailable as error:
            _stand(member, Standing.AWAY, f"{error.code}: {error.message}")
        except StrongroomError as error:
            member.verification = None
            _stand(member, Standing.REFUSED, f"{error.code}: {error}")

    def _due(self, member: Member) -> bool:
        """Who was away may be another one by now."""
        if member.standing is Standing.REFUSED:
            return self.clock() >= member.again
        if member.verification is None or member.standing is Standing.AWAY:
            return True
        return self.clock() >= min(member.again, member.verification.ends)

    async def _prove(self, member: Member) -> None:
        member.again = self.clock() + self.again_seconds
        before, now = member.keyset(), self.clock()
        found = await member.client.verify()
        if found.keyset.digest != before:
            member.added = int(now)
        member.verification = found
        member.again = now + (found.ends - now) / 2
        member.models = await _models(member)
        await self._ask_health(member)

    async def _ask_health(self, member: Member) -> None:
        if member.verification is None:
            return
        status, told = await _get(member, "/healthz")
        if status == httpx2.codes.SERVICE_UNAVAILABLE:
            _stand(member, Standing.DRAINING, "it takes no new work")
        elif status != httpx2.codes.OK:
            _stand(member, Standing.AWAY, f"its health has status {status}")
        else:
            member.busy = _count(told, "under_way") + _count(told, "waiting")
            member.slots = max(1, _count(told, "slots"))
            _stand(member, Standing.READY, "")


def _stand(member: Member, standing: Standing, reason: str) -> None:
    member.standing, member.reason = standing, reason


def _rank(affinity: bytes, member: Member) -> bytes:
    """Rendezvous hashing: each affinity has an order of its own over the workers, which others' coming and going leaves alone."""
    keyset = member.keyset()
    return hashlib.sha256(affinity + raw(keyset)).digest() if keyset is not None else b""


def _count(told: Any, name: str) -> int:
    value = told.get(name) if isinstance(told, dict) else None
    return value if type(value) is int and 0 <= value < 1 << 20 else 0


async def _models(member: Member) -> tuple[str, ...]:
    """The names that a worker gives its models: hints for people and clients, bounded; what cannot be printed is no name."""
    _, told = await _get(member, "/v1/models")
    data = told.get("data") if isinstance(told, dict) else None
    named = [item.get("id") for item in data if isinstance(item, dict)] if isinstance(data, list) else []
    return tuple(name[:256] for name in named[:MAX_MODELS] if isinstance(name, str) and name.isprintable())


async def _get(member: Member, path: str) -> tuple[int, Any]:
    """Status and JSON of a small answer. Raises `Unavailable`."""
    request = httpx2.Request("GET", member.url + path, headers={"accept-encoding": "identity"}, extensions=_PATIENCE)
    body = bytearray()
    try:
        async with contextlib.aclosing(await member.client.network().handle_async_request(request)) as answer:
            async for part in answer.aiter_raw():
                body += part
                if len(body) > MAX_ANSWER:
                    raise Unavailable(f"an answer of more than {MAX_ANSWER} bytes")
        return answer.status_code, json.loads(body)
    except httpx2.HTTPError as error:
        raise Unavailable(f"the worker does not answer ({why(error)})") from None
    except (ValueError, RecursionError):
        return answer.status_code, None


_PATIENCE = {"timeout": {"connect": 2.0, "read": 5.0, "write": 5.0, "pool": 5.0}}
