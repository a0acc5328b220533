"""The fleet record: the workers behind one front door, each with keys of its own.

Knows: the shapes. Does not know: whether any worker is what it says (`client.verification`). The record is a list of whom one may
ask and is signed by nobody: a client verifies the worker that it uses, by its own nonce, and takes keys from that evidence alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from strongroom.records.digest import Digest

FLEET_PATH = "/.well-known/strongroom/fleet"
JOIN_PATH = FLEET_PATH + "/join"
FLEET_HEADER = "strongroom-fleet"
"""How many workers stand behind a door; on its answers to questions for evidence, and on no worker's own."""
AFFINITY_HEADER = "strongroom-affinity"
"""A client's random 16 bytes in hexadecimal: equal ones are sent to the same worker, while it lasts."""
AFFINITY_BYTES = 16


@dataclass(frozen=True, slots=True)
class FleetEntry:
    """One worker: the digests of its keyset and of the evidence that the door last judged, and the models it serves.

    `not_after` is when its lease or its keyset ends, `added` when the door admitted it (Unix seconds).
    """

    TYPE: ClassVar[str] = "strongroom/fleet-entry/v1"
    keyset: Digest
    evidence: Digest
    models: tuple[str, ...]
    not_after: int
    added: int


@dataclass(frozen=True, slots=True)
class FleetRecord:
    """The workers that take requests at `time` (Unix seconds), in no order."""

    TYPE: ClassVar[str] = "strongroom/fleet/v1"
    entries: tuple[FleetEntry, ...]
    time: int


@dataclass(frozen=True, slots=True)
class JoinRequest:
    """Where a worker can be asked for evidence, as the door sees it: scheme, host and port."""

    TYPE: ClassVar[str] = "strongroom/fleet-join/v1"
    url: str
