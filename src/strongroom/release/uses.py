"""How often a key may be released: at all, or once per boot of a machine, as its owner says when the key is made.

Knows: how releases are counted, in the transaction of the decision. Does not know: retries, which get the stored answer
and are not counted (`broker`); what a boot is (`subjects`). All versions of a key share one limit; renewals release
nothing and are not counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from strongroom.errors import ReleaseRefused, StoreUnavailable
from strongroom.records.digest import Digest
from strongroom.release.stores.port import Reader, Transaction


def count(transaction: Transaction, key_ids: Sequence[str], *, boot: Digest) -> str:
    """Count one release in `boot` for each of `key_ids`, and say how each limited key stands, for the leaf.

    `3/10,-,b,3/10b`, or nothing where none is limited; `b` is of a key that is released once per boot.

    Raises `ReleaseRefused`, before anything is written.
    """
    times = Counter(key_ids)
    booted = {key_id for key_id in times if once_per_boot(transaction, key_id, times[key_id], boot)}
    found = {key_id: transaction.key_uses(key_id) for key_id in times}
    limited = {key_id: uses for key_id, uses in found.items() if uses is not None}
    for key_id, uses in limited.items():
        if uses.used + times[key_id] > uses.limit:
            raise ReleaseRefused(
                f"this key may be released {uses.limit} times, and was released {uses.used} times",
                detail="key.uses",
                remedy="Ask its owner for a key of its own.",
            )
    done = [transaction.use_key(key_id, times[key_id]) for key_id in limited]
    done += [transaction.use_key_in(key_id, boot) for key_id in booted]
    if not all(done):
        raise StoreUnavailable("the uses of a key changed within a transaction")
    stand = {key_id: f"{uses.used + times[key_id]}/{uses.limit}" for key_id, uses in limited.items()}
    marks = [f"{stand.get(key_id, '')}{'b' if key_id in booted else ''}" or "-" for key_id in found]
    return ",".join(marks) if limited or booted else ""


def once_per_boot(reader: Reader, key_id: str, times: int, boot: Digest) -> bool:
    """Whether this key is released once per boot; `times` is how often it is asked for now. Raises `ReleaseRefused` where that is over."""
    before = reader.key_released_in(key_id, boot)
    if before or (before is not None and times > 1):
        raise ReleaseRefused(
            "this key is released once per boot, and was in this one",
            detail="key.boot",
            remedy="Boot the machine anew, or ask the key's owner for a key of its own.",
        )
    return before is not None
