"""What a broker keeps of its decisions for whoever audits them, and how it gives that out, page by page.

Knows: the shapes. Does not know: how long anything is kept (`release.archive`), or whether a decision holds (`audit`).
Not covered: refusals, of which the log's leaf alone is kept, since anybody can cause them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from strongroom.records.digest import Digest
from strongroom.records.envelope import Envelope
from strongroom.records.evidence import Collateral, Evidence
from strongroom.records.release import GrantSummary, Opening


@dataclass(frozen=True, slots=True)
class KeptDecision:
    """One yes: the verdict token, the evidence that was judged, its collateral by digest, the released keys in outline."""

    TYPE: ClassVar[str] = "strongroom/kept-decision/v1"
    token: str
    evidence: Evidence
    collateral: Digest
    grants: tuple[GrantSummary, ...]


@dataclass(frozen=True, slots=True)
class LoggedLeaf:
    """Leaf number `index` as it lies in the log, with its RFC 6962 audit path; `decision` is None if nothing is kept.

    `openings` are of those members that the leaf hides and nobody erased.
    """

    index: int
    leaf: bytes
    path: tuple[bytes, ...]
    decision: KeptDecision | None
    openings: tuple[Opening, ...] = ()


@dataclass(frozen=True, slots=True)
class AuditQuery:
    """Asks for leaves from number `start` on, in the log of `size` entries; a `size` of 0 means the newest.

    With a `lease`: its leaves, and those of policies and keys. Else those of `since` to `until` (Unix seconds, both
    included), with the leaf before and the leaf after them.
    """

    TYPE: ClassVar[str] = "strongroom/audit-query/v1"
    start: int
    size: int
    lease: str | None
    since: int
    until: int


@dataclass(frozen=True, slots=True)
class Cosigned:
    """A state of the log with the cosignatures of witnesses, and the RFC 6962 consistency proof from it to the page's."""

    TYPE: ClassVar[str] = "strongroom/cosigned/v1"
    checkpoint: str
    path: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class AuditPage:
    """One page: leaves in order, the collateral and the signed policies that their decisions rest on, each once.

    Paths lead to the log of `size` entries. `checkpoint` is the newest, and is of that size where the query left the
    size open. `cosigned` is the newest that witnesses signed, None where none did. `next` is the number to go on from, and
    `size` at the end.
    """

    TYPE: ClassVar[str] = "strongroom/audit-page/v1"
    size: int
    checkpoint: str
    leaves: tuple[LoggedLeaf, ...]
    collateral: tuple[Collateral, ...]
    policies: tuple[Envelope, ...]
    cosigned: Cosigned | None
    next: int
