"""What the worker, and never a request's author, tells an engine about a request: whose cache and whose adapter.

    request["strongroom"] = {"cache_salt": text, "adapter": number or null}

Knows: the member, which a gateway sets and drops from whatever a client sent. Does not know: tenants; how an engine obeys.
An engine that knows no steering refuses the member, since it is on no engine's list; it is never ignored.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from strongroom.errors import MalformedMessage

MEMBER = "strongroom"


@dataclass(frozen=True, slots=True)
class Steering:
    """`cache_salt` names whose prefixes may be found in a cache and left there, "" for nobody's.

    `adapter` is the place, from 0, of the adapter to be used among those that were loaded; None for the model as it is.
    """

    cache_salt: str = ""
    adapter: int | None = None

    def put_into(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """The request with this beside its own members."""
        return {**request, MEMBER: {"cache_salt": self.cache_salt, "adapter": self.adapter}}


NONE = Steering()


def take(request: Mapping[str, Any]) -> tuple[Steering, dict[str, Any]]:
    """What steers a request, and the request without it. Raises `MalformedMessage` for what no worker says."""
    rest = dict(request)
    told = rest.pop(MEMBER, None)
    if told is None:
        return NONE, rest
    if not isinstance(told, dict) or set(told) != {"cache_salt", "adapter"}:
        raise MalformedMessage("what steers a request is not what a worker says")
    salt, adapter = told["cache_salt"], told["adapter"]
    if not isinstance(salt, str) or not (adapter is None or (type(adapter) is int and adapter >= 0)):
        raise MalformedMessage("what steers a request is not what a worker says")
    return Steering(salt, adapter), rest
