"""How often a key may be released at all: a limit that its owner sets when the key is made.

Knows: how releases are counted, in the transaction of the decision. Does not know: retries, which get the stored answer
and are not counted (`broker`). All versions of a key share one limit; renewals release nothing and are not counted. Not
covered: limits for each boot of a worker.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from strongroom.errors import ReleaseRefused, StoreUnavailable
from strongroom.release.stores.port import Transaction


def count(transaction: Transaction, key_ids: Sequence[str]) -> str:
    """Count one release for each of `key_ids`, and say how each limited key stands, for the leaf: `3/10,-`, or nothing.

    Raises `ReleaseRefused`, before anything is written.
    """
    times = Counter(key_ids)
    found = {key_id: transaction.key_uses(key_id) for key_id in times}
    limited = {key_id: uses for key_id, uses in found.items() if uses is not None}
    for key_id, uses in limited.items():
        if uses.used + times[key_id] > uses.limit:
            raise ReleaseRefused(
                f"this key may be released {uses.limit} times, and was released {uses.used} times",
                detail="key.uses",
                remedy="Ask its owner for a key of its own.",
            )
    for key_id in limited:
        if not transaction.use_key(key_id, times[key_id]):
            raise StoreUnavailable("the uses of a key changed within a transaction")
    stand = [f"{uses.used + times[key_id]}/{uses.limit}" if uses else "-" for key_id, uses in found.items()]
    return ",".join(stand) if limited else ""
