"""What cells and limited keys need of a store: the part of the port (`port`) that is theirs.

Knows: the rows and their promises. Does not know: any database (`cell_rows` has the statements), or any rule of the
broker (`release.cells`, `release.uses`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from strongroom.records.cell import Cell


@dataclass(frozen=True, slots=True)
class KeyUses:
    """How many releases a key allows in all its versions, and how many there were."""

    limit: int
    used: int


class CellReader(Protocol):
    """A part of `port.Reader`."""

    def cell(self, cell_id: str) -> Cell | None: ...

    def cells(self) -> tuple[Cell, ...]: ...

    def cell_asked(self, lease_id: str, nonce: bytes) -> bool:
        """Whether `cell_ask` of the same would be False."""
        ...

    def key_uses(self, key_id: str) -> KeyUses | None:
        """None of a key without a limit."""
        ...


class CellTransaction(CellReader, Protocol):
    """A part of `port.Transaction`."""

    def add_cell(self, cell: Cell) -> bool:
        """False if there is one of this name."""
        ...

    def change_cell(self, before: Cell, after: Cell) -> bool:
        """Store `value`, `digest` and `changes` of `after`; False unless the cell stands as `before`."""
        ...

    def cell_ask(self, lease_id: str, nonce: bytes) -> bool:
        """Use up a nonce under a lease, once: False if it was used before."""
        ...

    def forget_cell_asks(self, now: int) -> None:
        """Drop the nonces of leases that ended by `now`: under these nothing is answered any more."""
        ...

    def limit_key(self, key_id: str, limit: int) -> None:
        """Give a new key its limit."""
        ...

    def use_key(self, key_id: str, times: int) -> bool:
        """Count `times` more releases; False, and nothing counted, where the limit does not allow them."""
        ...
