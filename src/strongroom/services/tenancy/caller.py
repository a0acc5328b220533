"""Who asks, as the routes inside the seal see it: what steers the engine for them, and what their answers are charged to.

Knows: how a request is steered and what it used. Does not know: who the tenant is, credentials.
What a request used is what the engine says at its end. One that nobody waited for is charged by estimate: a token for each piece
that was made, or all that were asked for where the answer is not streamed, and one for each four bytes of the request.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from strongroom.engines.steering import Steering
from strongroom.errors import StrongroomError
from strongroom.records.codec import b64encode
from strongroom.records.digest import frame
from strongroom.workloads.inference.answers import Generate, usage_of

SCOPE = "strongroom.tenant"
"""The member of an ASGI scope that holds the `Caller`."""
_BYTES_PER_TOKEN = 4
_ANSWERING = frozenset({"chat.completions", "completions"})


@dataclass(frozen=True, slots=True)
class Caller:
    """`name` is the tenant's; `namespace` names the cache that answers can draw on, for receipts; None where the engine keeps none."""

    name: str
    steering: Steering
    namespace: bytes | None
    spend: Callable[[int], None]

    def through(self, generate: Generate, context: int = 0) -> Generate:
        """`generate` for this caller: steered, and charged for whatever comes of it. `context` is the model's, in tokens; 0: unknown."""

        async def steered(operation: str, request: Mapping[str, Any]) -> AsyncGenerator[bytes]:
            used, pieces = 0, 0
            try:
                async with contextlib.aclosing(generate(operation, self.steering.put_into(request))) as chunks:
                    async for chunk in chunks:
                        pieces += 1
                        if b'"usage"' in chunk:
                            used = sum(usage_of(chunk).values()) or used
                        yield chunk
            except StrongroomError:
                used = used or pieces
                raise
            except BaseException:  # whoever asked went away, and the engine perhaps goes on
                used = used or _estimate(operation, request, pieces, context)
                raise
            finally:
                self.spend(used or pieces)

        return steered


def _estimate(operation: str, request: Mapping[str, Any], pieces: int, context: int) -> int:
    """Where no limit was set, the model's context is one."""
    made = pieces
    if operation in _ANSWERING and not request.get("stream"):
        limits = [request.get(name) for name in ("max_tokens", "max_completion_tokens")]
        made = max((limit for limit in limits if type(limit) is int and limit > 0), default=max(pieces, context))
    return made + len(json.dumps(request)) // _BYTES_PER_TOKEN


def cache_salt(secret: bytes, tenant: str, user_secret: str = "") -> str:
    """Whose cache it is: HMAC-SHA256 under a secret of the worker's own, so that nobody outside can name or guess one."""
    framed = frame("strongroom/cache-salt/v1", frame(tenant, user_secret.encode()))
    return b64encode(hmac.digest(secret, framed, "sha256"))


def namespace_of(salt: str) -> bytes:
    """The name of a cache for receipts (32 bytes); it does not tell the salt."""
    return hashlib.sha256(frame("strongroom/cache-namespace/v1", salt.encode())).digest()
