"""Sealed requests are answered once: the encapsulations seen under one channel key.

An encapsulation is fresh for every request and is bound, byte for byte, into the keys of its frames (RFC 9180, section
4.1), so nobody can send a recorded request under another one. They are remembered as long as their key lives and never
forgotten before: when there is no more room, requests are refused until the worker has a new keyset.

Safety: only encapsulations whose frames have opened are remembered, so filling the memory costs as many sealed
requests. One key must be served by one process with one such memory; a keyset that dies with its process needs none
on disk.

Knows: which encapsulations were used. Does not know: HTTP, keys.
"""

from __future__ import annotations

from threading import Lock

from strongroom.errors import RequestReplayed, ServiceUnavailable

CAPACITY = 1_000_000
"""Requests under one channel key, about 120 bytes of memory each."""


class UsedEncapsulations:
    """The memory of one channel key."""

    def __init__(self, capacity: int = CAPACITY) -> None:
        self._capacity = capacity
        self._seen: set[bytes] = set()
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self._seen)

    def use(self, encapsulation: bytes) -> None:
        """Remember `encapsulation`. Raises RequestReplayed if it was used, ServiceUnavailable if there is no room."""
        with self._lock:
            if encapsulation in self._seen:
                raise RequestReplayed("this sealed request was sent before")
            if len(self._seen) >= self._capacity:
                raise ServiceUnavailable(
                    "the worker's channel key has served all the requests it may",
                    remedy="Renew the worker's keyset; it proves itself anew.",
                )
            self._seen.add(encapsulation)
