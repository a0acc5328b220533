"""What was verified once is not verified again while it holds: a bounded memory of verified paths and collateral.

Knows: that an entry counts only for exactly the same bytes, and only at a time inside every validity window that was
judged when it was made; so an entry can save work, and never makes anything pass that would not pass afresh. Does not
know: what is verified. Only what passed is remembered. Keys are the bytes themselves, which Python hashes with a key of
its own in each process and compares whole, so no digest stands between. Safe for threads; two that miss at once both
do the work.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

from cryptography import x509

T = TypeVar("T")

MAX_ENTRIES = 64


@dataclass(frozen=True, slots=True)
class Window:
    """From when until when something holds, both included, in Unix seconds."""

    start: float
    end: float

    def within(self, other: Window) -> Window:
        """When both hold."""
        return Window(max(self.start, other.start), min(self.end, other.end))


ALWAYS = Window(float("-inf"), float("inf"))


def of_certificates(certificates: Iterable[x509.Certificate]) -> Window:
    """When all of these are valid."""
    window = ALWAYS
    for certificate in certificates:
        start, end = certificate.not_valid_before_utc.timestamp(), certificate.not_valid_after_utc.timestamp()
        window = window.within(Window(start, end))
    return window


def of_crl(crl: x509.CertificateRevocationList) -> Window:
    """When a CRL holds; never, if it does not say until when."""
    end = crl.next_update_utc
    start = crl.last_update_utc.timestamp()
    return Window(start, start - 1 if end is None else end.timestamp())


class Verified(Generic[T]):
    """The newest verified things, at most `size` of them."""

    def __init__(self, size: int = MAX_ENTRIES) -> None:
        self._size = size
        self._entries: OrderedDict[Hashable, tuple[Window, T]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable, now: int) -> T | None:
        """What was verified of exactly `key`, if it holds at `now`; else None, and the caller verifies."""
        with self._lock:
            entry = self._entries.get(key)
            if entry is None or not entry[0].start <= now <= entry[0].end:
                return None
            self._entries.move_to_end(key)
            return entry[1]

    def put(self, key: Hashable, value: T, window: Window) -> None:
        """Remember `value`, which was verified of `key` and holds in `window`."""
        with self._lock:
            self._entries[key] = (window, value)
            self._entries.move_to_end(key)
            if len(self._entries) > self._size:
                self._entries.popitem(last=False)

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._entries.clear()
