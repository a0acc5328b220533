"""Rekey orders: from a moment on, what is wrapped under old versions of a key is released to nobody.

Knows: which wrapped keys an order refuses; it is asked in the transaction of the release. Does not know: who may order
(`owners`), or how orders are kept. Orders only get stricter. An order is about wrappings: a worker that holds a data key
already goes on renewing its lease, since `rewrap` does not change the data key. Not covered: data keys that somebody should
not have any more; that is for `rekey`, and for the floors of editions in a policy.
"""

from __future__ import annotations

from collections.abc import Sequence

from strongroom.errors import ReleaseRefused
from strongroom.release.stores.port import Reader, StoredKey


def refused_from(reader: Reader, key: StoredKey) -> int | None:
    """From when on (Unix seconds) what is wrapped under this version of a key is refused, or None."""
    return min((order.since for order in reader.key_orders(key.id) if key.version < order.least), default=None)


def check(reader: Reader, keys: Sequence[StoredKey], *, now: int) -> None:
    """Return if no order in force refuses one of these versions. Raises `ReleaseRefused`."""
    for key in keys:
        since = refused_from(reader, key)
        if since is not None and since <= now:
            raise ReleaseRefused(
                f"the owner ordered that nothing wrapped under version {key.version} of this key be released any more",
                detail="key.version",
                remedy="Bring the artifact under the newest version: `strongroom rewrap`.",
            )
