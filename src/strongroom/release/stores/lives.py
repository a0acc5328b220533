"""What a key's life needs of a store beside its rows: where it came from, what was ordered about it, how it ended.

Knows: the rows and their promises; a part of the port (`port`). Does not know: any database (`life_rows` has the
statements), or any rule (`release.lifecycle`, `release.orders`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from strongroom.records.destruction import KeyOrigin


@dataclass(frozen=True, slots=True)
class KeyOrder:
    """From `since` on (Unix seconds), wrapped keys of versions below `least` are released to nobody."""

    least: int
    since: int


@dataclass(frozen=True, slots=True)
class StoredDestruction:
    """The number of a destruction's leaf in the log, and the signed statement."""

    position: int
    envelope: bytes


class LifeReader(Protocol):
    """A part of `port.Reader`."""

    def key_origin(self, key_id: str, version: int) -> KeyOrigin: ...

    def key_orders(self, key_id: str) -> tuple[KeyOrder, ...]:
        """All orders about a key, by their least versions."""
        ...

    def destruction(self, key_id: str) -> StoredDestruction | None: ...


class LifeTransaction(LifeReader, Protocol):
    """A part of `port.Transaction`."""

    def mark_imported(self, key_id: str, version: int) -> None: ...

    def put_order(self, key_id: str, order: KeyOrder) -> bool:
        """Add an order, or bring one of the same version forward; False where one as strict is there."""
        ...

    def destroy_key(self, key_id: str, destruction: StoredDestruction) -> None:
        """Overwrite what is wrapped in all versions of a key; its rows stay, so that its name is never given again.

        Once this is durable, `Store.scrub` must be called for its traces.
        """
        ...
