"""The way to one worker: first met over any TLS, then only over the TLS whose key its evidence names.

Knows: which connections may carry what. Does not know: evidence, sealing. Evidence is no secret and proves itself, so it may come over a
connection that nobody vouches for; the key that this very connection showed must then be the one in the evidence, and every later
connection shows it again before a byte is sent. A worker whose keyset names no TLS key is behind somebody else's TLS, which then is
checked as usual, by certificate authorities. What is asked at an `http` address has the sealed channel alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from strongroom.channel import pinning
from strongroom.client.way import DIRECT, Way
from strongroom.errors import TlsKeyMismatch
from strongroom.records.digest import Digest

T = TypeVar("T")


@dataclass(slots=True)
class Meeting(Generic[T]):
    """One first contact: the transport to use for it, and the TLS keys that its connections showed."""

    transport: T
    shown: list[Digest] = field(default_factory=list)


class Network(Generic[T]):
    """Transports to one worker, made by `make` (with `verify` and `proxy`, see `way`) unless one was `given` for all."""

    def __init__(self, make: Callable[..., T], given: T | None, way: Way = DIRECT) -> None:
        self._make, self._given, self._way = make, given, way
        self._pin: Digest | None = None
        self._kept: T | None = given

    def meet(self) -> Meeting[T]:
        """For asking for evidence. The transport is the caller's to close, unless it was given."""
        if self._given is not None:
            return Meeting(self._given)
        shown: list[Digest] = []
        return Meeting(self._make(**self._way.options(pinning.context(shown.append))), shown)

    def trust(self, meeting: Meeting[T], tls: Digest | None) -> None:
        """`tls` is what the verified evidence names. Raises `TlsKeyMismatch` if the meeting's connections showed another key."""
        pin = tls if meeting.shown else None
        if pin is not None and set(meeting.shown) != {pin}:
            raise TlsKeyMismatch("the evidence names another TLS key than the connection that it came over")
        if self._kept is None or (self._given is None and pin != self._pin):
            judge = None if pin is None else pinning.context(pinning.only(pin))
            self._kept, self._pin = self._make(**self._way.options(judge)), pin  # the old one serves what is under way

    @property
    def transport(self) -> T:
        """For everything else. Raises `TlsKeyMismatch` before `trust` has said yes."""
        if self._kept is None:
            raise TlsKeyMismatch("nothing vouches for this worker yet")
        return self._kept
