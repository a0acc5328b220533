"""What was spent: a set to which each credit is added once.

Knows: the port, and two implementations. Does not know: credits (32 bytes each), HTTP.
Safety: the set protects who is paid, not who asks: an operator who winds it back gives away answers. It holds hashes of
serials and nothing of who spent them or when. In memory it ends with the process, so that its credits could be spent
once more; several workers that take the same issuer's credits share one file, or let each credit be spent once at each.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Protocol

from strongroom.services.database import Database

APPLICATION_ID = 0x53747273
SCHEMA_VERSION = 1


class Spent(Protocol):
    """A double-spend set; may be called from many threads."""

    def add(self, spent: bytes) -> bool:
        """Add `spent` for good before returning; False if it was there. Of two equal calls at once, one is True."""
        ...

    def remove(self, spent: bytes) -> None:
        """Take back what `add` added, for a request that came to nothing."""
        ...


class SpentInMemory:
    """For one worker, as long as it lives."""

    def __init__(self) -> None:
        self._spent: set[bytes] = set()
        self._lock = threading.Lock()

    def add(self, spent: bytes) -> bool:
        with self._lock:
            if spent in self._spent:
                return False
            self._spent.add(spent)
            return True

    def remove(self, spent: bytes) -> None:
        with self._lock:
            self._spent.discard(spent)


class SpentInFile:
    """In one SQLite file, which workers on one machine may share. Raises `StoreUnavailable`."""

    def __init__(self, path: Path) -> None:
        table = "CREATE TABLE spent (serial BLOB PRIMARY KEY) STRICT, WITHOUT ROWID"
        self._database = Database(path, APPLICATION_ID, SCHEMA_VERSION, [table])

    def add(self, spent: bytes) -> bool:
        with self._database.transaction() as connection:
            return connection.execute("INSERT OR IGNORE INTO spent VALUES (?)", (spent,)).rowcount == 1

    def remove(self, spent: bytes) -> None:
        with self._database.transaction() as connection:
            connection.execute("DELETE FROM spent WHERE serial = ?", (spent,))

    def close(self) -> None:
        self._database.close()
