"""What a launcher writes down of one machine: its journal, its plan, what runs, and what was destroyed.

Knows: the shapes, and which states there are. Does not know: when a state is reached (`launch.life`). All of it is the host's own word:
it proves nothing to anybody but who trusts the key that signed a wipe receipt. No secret is in any of these records.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from strongroom.records.digest import Digest, digest_record
from strongroom.records.envelope import Envelope


class State(enum.StrEnum):
    """Where a launch stands. `READY` is the broker's verdict; `FAILED` has a reason; nothing follows `WIPED` but a new launch."""

    PREFLIGHT = "preflight"
    PLANNED = "planned"
    BOOTED = "booted"
    ATTESTED = "attested"
    READY = "ready"
    DRAINING = "draining"
    WIPED = "wiped"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Entry:
    """One transition: the state that was entered, when (Unix milliseconds), and the digest of its evidence.

    `previous` is the digest of the entry before, None for the first. `reason` is empty but for `FAILED`: an error's code.
    """

    TYPE: ClassVar[str] = "strongroom/launch-entry/v1"
    number: int
    previous: Digest | None
    state: State
    time: int
    spec: Digest
    evidence: Digest
    reason: str

    @property
    def digest(self) -> Digest:
        return digest_record(self)


@dataclass(frozen=True, slots=True)
class ProcessId:
    """A process that cannot be mistaken for a later one: its number, its start (clock ticks after boot), the boot's id."""

    pid: int
    started: int
    boot: str


@dataclass(frozen=True, slots=True)
class Running:
    """A machine that was started: by which driver, its processes, and where the driver speaks to it (socket, or domain's UUID)."""

    TYPE: ClassVar[str] = "strongroom/launch-running/v1"
    driver: str
    processes: tuple[ProcessId, ...]
    endpoint: str


@dataclass(frozen=True, slots=True)
class StagedFile:
    """A file in the launch's own folder: its name there, size in bytes, SHA-256."""

    name: str
    size: int
    digest: Digest


@dataclass(frozen=True, slots=True)
class Plan:
    """What will be started, and what its registers will hold: computed from the very bytes that were copied.

    `ports` maps the host's port, in decimal, to the guest's.
    """

    TYPE: ClassVar[str] = "strongroom/launch-plan/v1"
    name: str
    spec: Digest
    image: Digest
    kind: str
    driver: str
    accelerator: str
    registers: Mapping[str, str]
    unknown: Mapping[str, str]
    files: tuple[StagedFile, ...]
    gpus: tuple[str, ...]
    ports: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Wiped:
    """One thing that was destroyed, or was not there, or could not be reached: `what` it is, its `name`, and `how`.

    `size` (bytes) and `digest` are of its content before, None where it has none, or more of it than is read for a receipt.
    """

    what: str
    name: str
    how: str
    size: int | None
    digest: Digest | None
    detail: str


@dataclass(frozen=True, slots=True)
class WipeReceipt:
    """What a launcher destroyed, in which order, and what it cannot prove. Times are Unix milliseconds.

    `journal` is the digest of the journal's last entry when the wiping began. Travels in an envelope that the launcher signed.
    """

    TYPE: ClassVar[str] = "strongroom/wipe-receipt/v1"
    name: str
    spec: Digest
    driver: str
    journal: Digest
    began: int
    ended: int
    steps: tuple[Wiped, ...]
    not_shown: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class WipeDocument:
    """A wipe receipt for offline use: the launcher's public key (SubjectPublicKeyInfo, DER), and the receipt it signed."""

    TYPE: ClassVar[str] = "strongroom/wipe-document/v1"
    launcher: bytes
    receipt: Envelope
