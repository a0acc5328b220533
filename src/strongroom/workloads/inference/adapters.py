"""The adapters beside a model: whose place is which artifact, and which of them the model's engine can read.

An adapter is a file of its owner's, and a confined engine reads it. One that the engine cannot read, or that makes it crash while it
loads, costs its own tenant an error; the model and all other adapters are served without it. Which one it is, is found by loading each by
itself, in an engine of its own.

Knows: places, which the worker says (`engines.steering`). Does not know: tenants, how engines are made.
Not covered: an adapter that loads and makes the engine crash when it is used; that is an engine's crash as any other (`models`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from strongroom.engines import steering
from strongroom.errors import UsageError
from strongroom.records.digest import Digest

_UNADAPTED = "embeddings"
"""The operation that no adapter is applied to."""


class AdapterUnreadable(UsageError):
    """A request of somebody whose adapter the engine cannot read; `status` is HTTP's. It is not answered by the model alone."""

    code = "inference.adapter_unreadable"
    default_remedy = "Seal an adapter of this very model (LoRA in GGUF), and have a new worker open it."
    status = 422


class Adapters:
    """`artifacts` in the order of their places; `broken` are the places that cannot be read."""

    def __init__(self, artifacts: Sequence[Digest] = ()) -> None:
        self.artifacts, self.broken = tuple(artifacts), frozenset[int]()

    def readable(self, descriptors: Sequence[int]) -> dict[int, int]:
        """By place, the descriptors of those that are not known to be broken."""
        return {place: each for place, each in enumerate(descriptors) if place not in self.broken}

    def applied(self, operation: str, place: int | None) -> Digest | None:
        """The artifact that changes the answer to such a request; None for the model as it is."""
        return None if place is None or operation == _UNADAPTED else self.artifacts[place]

    def placed(self, operation: str, request: Mapping[str, Any]) -> Mapping[str, Any]:
        """The request as the engine counts adapters, which has the readable ones alone. Raises `AdapterUnreadable`."""
        if steering.MEMBER not in request:
            return request
        told, rest = steering.take(request)
        if told.adapter is None:
            return request
        if operation == _UNADAPTED:
            return replace(told, adapter=None).put_into(rest)
        if told.adapter in self.broken:
            raise AdapterUnreadable("the engine cannot read your adapter")
        before = sum(place < told.adapter for place in self.broken)
        return replace(told, adapter=told.adapter - before).put_into(rest)
