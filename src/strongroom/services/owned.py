"""How an administrator's request becomes an act: who speaks, does their role have the verb, and then what was asked.

Knows: the token in a request, and that a path of administrators cannot be made without a verb (`release.roles`). Does not
know: any path, or what follows from one (`services.broker`, `services.cells`, `services.administrators`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.routing import Route

from strongroom.release import wire
from strongroom.release.broker import Broker
from strongroom.release.roles import Caller, Verb
from strongroom.services.problems import answer, read_body

Act: TypeAlias = Callable[[Request, bytes, Caller, int], Any]
"""What a path does, with the body, who asks, and the time; its result is a record."""


class OwnedRoute(Route):
    """A path of administrators, and the verb that their role must have for it."""

    def __init__(self, method: str, path: str, verb: Verb, endpoint: Callable[[Request], Any]) -> None:
        super().__init__(path, endpoint, methods=[method])
        self.verb = verb


@dataclass(frozen=True, slots=True)
class Owned:
    """Makes the paths of administrators of one broker; `clock` gives Unix seconds."""

    broker: Broker
    clock: Callable[[], float]

    def __call__(
        self, method: str, path: str, verb: Verb, act: Act, *, limit: int = wire.MAX_POLICY_BYTES
    ) -> OwnedRoute:
        """The path at which who has `verb` is told who they are, and `act` is done; a body has at most `limit` bytes."""

        def acted(request: Request, body: bytes) -> Any:
            now = self.broker.time(int(self.clock()))
            scheme, _, token = request.headers.get("authorization", "").partition(" ")
            asked = request.scope.get("raw_path", b"").decode("ascii", "replace") or request.scope["path"]
            signed = token if scheme.lower() == "bearer" else ""
            caller = self.broker.authorise(signed, verb, method=request.method, path=asked, body=body, now=now)
            return act(request, body, caller, now)

        async def endpoint(request: Request) -> Any:
            body = await read_body(request, limit)
            return answer(await run_in_threadpool(acted, request, body))

        return OwnedRoute(method, path, verb, endpoint)
