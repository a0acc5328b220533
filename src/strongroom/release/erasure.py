"""Erasing somebody, or what a tenant called its things, from a log that itself never forgets (release protocol, the log).

Knows: that the salts go, durably and from the database's file as well, and that the act is a leaf. Does not know: what is hidden
(`receipts.hidden`), or who may ask (`owners`). The leaf says how much was erased, and not of whom.
Not covered: backups, exported bundles and what others copied; signatures in stored policies, which name their signer's key as long as
they are kept; blocks of a disk that no file uses any more.
"""

from __future__ import annotations

from strongroom.records.digest import Digest
from strongroom.release import leaves
from strongroom.release.log import Log
from strongroom.release.stores.port import Store, Transaction


class Erasure:
    """The act, over one store and its log."""

    def __init__(self, store: Store, log: Log) -> None:
        self._store, self._log = store, log

    def erase(self, value: str, *, who: Digest, now: int) -> int:
        """Erase what opens `value` in any leaf; how many openings there were, and no leaf where there were none.

        `value` is a fingerprint, or the id of a key, policy or cell; with a slash at its end, a tenant and all its ids. Asking again
        is harmless. Raises `StoreUnavailable`, also where it is erased and the database's file could not be cleaned yet.
        """

        def act(transaction: Transaction) -> int:
            count = transaction.count_openings(value)
            if count:
                self._log.append(transaction, leaves.erased(count, time=now, who=who))
                transaction.erase_openings(value)  # also of this act's leaf, where somebody erases themselves
            return count

        count = self._store.write(act)
        self._store.scrub()
        return count
