"""Revocations: what no key is released to any more, or no longer under, until its owner lifts it (release protocol).

Knows: the shapes. Does not know: who may say it (`release.owners`), or what a decision concerns (`release.subjects`).
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import ClassVar

from strongroom.records.digest import Digest
from strongroom.records.release import Lease


class About(enum.StrEnum):
    """What kind of thing a decision concerns.

    A `worker` is a keyset, by its digest; a `machine` is a claim that names the hardware, with its value; a `tenant` is
    what stands before the slash in the names of keys and policies, empty for the broker's own house.
    """

    KEY = "key"
    ARTIFACT = "artifact"
    POLICY = "policy"
    WORKER = "worker"
    MACHINE = "machine"
    TENANT = "tenant"


class Reason(enum.StrEnum):
    """Why, in one word that the log may show."""

    UNSPECIFIED = "unspecified"
    COMPROMISED = "compromised"
    WITHDRAWN = "withdrawn"
    SUPERSEDED = "superseded"
    INVESTIGATED = "investigated"


@dataclass(frozen=True, slots=True, order=True)
class Subject:
    """One thing that decisions may concern."""

    about: About
    name: str

    def __str__(self) -> str:
        return f"{self.about.value}:{self.name}"


@dataclass(frozen=True, slots=True)
class Revocation:
    """In force since `since` (Unix seconds); `who` is the fingerprint of the owner who said it."""

    TYPE: ClassVar[str] = "strongroom/revocation/v1"
    subject: Subject
    since: int
    who: Digest
    reason: Reason


@dataclass(frozen=True, slots=True)
class RevocationRequest:
    """Asks that nothing be released any more that concerns `subject`."""

    TYPE: ClassVar[str] = "strongroom/revocation-request/v1"
    subject: Subject
    reason: Reason


@dataclass(frozen=True, slots=True)
class LiftRequest:
    """Asks that a revocation hold no longer; the leases that it ended stay ended."""

    TYPE: ClassVar[str] = "strongroom/lift-request/v1"
    subject: Subject


@dataclass(frozen=True, slots=True)
class Revoked:
    """The revocation in force, and the leases that it ended."""

    TYPE: ClassVar[str] = "strongroom/revoked/v1"
    revocation: Revocation
    leases: tuple[Lease, ...]


@dataclass(frozen=True, slots=True)
class RevocationList:
    """All revocations in force."""

    TYPE: ClassVar[str] = "strongroom/revocation-list/v1"
    revocations: tuple[Revocation, ...]


@dataclass(frozen=True, slots=True)
class SweepRequest:
    """Asks that live leases be judged again, from after the id `after` on; with `dry_run` nothing is ended."""

    TYPE: ClassVar[str] = "strongroom/sweep-request/v1"
    after: str
    dry_run: bool


@dataclass(frozen=True, slots=True)
class SweptLease:
    """A lease that would be granted no more: what changed (`custody`, `tcb`, `policy`), and the checks that fail now."""

    lease_id: str
    what: str
    failed: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SweepPage:
    """What a sweep found: leases judged, leases of which nothing is kept, and those that end; `next` is where to go on."""

    TYPE: ClassVar[str] = "strongroom/sweep-page/v1"
    judged: int
    unjudged: int
    ended: tuple[SweptLease, ...]
    next: str | None
