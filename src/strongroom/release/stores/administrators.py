"""What administrators need of a store: the part of the port (`port`) that is theirs.

Knows: the row and its promises. Does not know: any database (`administrator_rows` has the statements), or any rule of the
broker (`release.administrators`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from strongroom.records.digest import Digest


@dataclass(frozen=True, slots=True)
class StoredAdministrator:
    """An administrator by the fingerprint of their key: the appointment that a root signed, who brought it, and when.

    Role and tenant stand in the appointment alone, so that whoever writes the database can give nobody a role.
    """

    fingerprint: Digest
    appointment: bytes
    added_by: Digest
    added: int


class AdministratorReader(Protocol):
    """A part of `port.Reader`."""

    def administrators(self) -> tuple[StoredAdministrator, ...]:
        """All of them, in the order in which they were added."""
        ...


class AdministratorTransaction(AdministratorReader, Protocol):
    """A part of `port.Transaction`."""

    def put_administrator(self, administrator: StoredAdministrator) -> None:
        """Add one, or put it in the place of the one with the same key."""
        ...

    def remove_administrator(self, fingerprint: Digest) -> bool:
        """False if there is none."""
        ...
