"""The workers of one fleet that a client has verified, each with keys of its own. No I/O.

Knows: who was verified, and how one of them is named to a front door. Does not know: whether evidence holds (`verification`), when a
worker is left for another (`resending`).
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from strongroom.channel.v2 import KEYSET_HEADER
from strongroom.client.verification import Verification
from strongroom.records.digest import Digest, raw
from strongroom.records.fleet import AFFINITY_BYTES, AFFINITY_HEADER, FLEET_HEADER, FleetRecord

MAX_KEPT = 16


@dataclass(slots=True)
class Replicas:
    """`affinity` is drawn once for a client, so that a door sends it to the same worker; `many` says that a door was met."""

    affinity: bytes = field(default_factory=lambda: secrets.token_bytes(AFFINITY_BYTES), repr=False)
    many: bool = False
    _kept: dict[Digest, Verification] = field(default_factory=dict)

    def met(self, headers: Mapping[str, str]) -> None:
        """What stood at the head of an answer with evidence: a hint that there are several workers."""
        self.many = FLEET_HEADER in headers

    def address(self, keyset: Digest | None) -> dict[str, str]:
        """The headers that name the worker to be asked, or what it is chosen by."""
        return {AFFINITY_HEADER: self.affinity.hex()} if keyset is None else {KEYSET_HEADER: keyset}

    def keep(self, found: Verification) -> None:
        """Remember a verified worker; the oldest go."""
        self._kept.pop(found.keyset.digest, None)
        self._kept[found.keyset.digest] = found
        while len(self._kept) > MAX_KEPT:
            self._kept.pop(next(iter(self._kept)))

    def drop(self, keyset: Digest) -> None:
        self._kept.pop(keyset, None)

    def others(self, record: FleetRecord, avoid: Collection[Digest]) -> list[Digest]:
        """Whom to ask instead, in this client's own order: two clients of one busy worker go different ways."""
        named = {entry.keyset for entry in record.entries} - set(avoid)
        return sorted(named, key=lambda keyset: hashlib.sha256(self.affinity + raw(keyset)).digest(), reverse=True)

    def verified(self, keyset: Digest, now: float) -> Verification | None:
        """The worker with these keys, if it was verified and its lease has not ended."""
        found = self._kept.get(keyset)
        return found if found is not None and now < found.ends else None
