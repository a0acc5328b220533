"""What an owner asks a broker to judge without any consequence, and what it says.

Knows: the shapes. Does not know: who judges (`release.explain`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from strongroom.records.digest import Digest
from strongroom.records.envelope import Envelope
from strongroom.records.evidence import EvidenceBundle
from strongroom.records.verdict import Check, Level, Status


@dataclass(frozen=True, slots=True)
class ExplainRequest:
    """Asks what would come of this evidence, if a worker that brings it asked for the keys named.

    `draft` is a signed policy that is not in force; it is judged beside, and counts for the keys under its id. None without.
    """

    TYPE: ClassVar[str] = "strongroom/explain-request/v1"
    bundle: EvidenceBundle
    keys: tuple[str, ...]
    draft: Envelope | None


@dataclass(frozen=True, slots=True)
class PolicyJudgement:
    """The whole verdict under one policy; `draft` says that this one is not in force."""

    id: str
    version: int
    digest: Digest
    draft: bool
    accepted: bool
    level: Level
    checks: tuple[Check, ...]


@dataclass(frozen=True, slots=True)
class KeyOutlook:
    """Why a key itself would be refused, whatever the evidence proves: a code and a sentence; both empty if it would not."""

    key_id: str
    policy_id: str | None
    code: str
    reason: str


@dataclass(frozen=True, slots=True)
class Explanation:
    """What would come of it at `time` (Unix seconds), for a request of all these keys together, which is refused as a whole.

    `lease_seconds` is the term of the lease that would begin, None where nothing would be released.
    """

    TYPE: ClassVar[str] = "strongroom/explanation/v1"
    time: int
    policies: tuple[PolicyJudgement, ...]
    keys: tuple[KeyOutlook, ...]
    lease_seconds: int | None


@dataclass(frozen=True, slots=True)
class LeaseTrial:
    """Whether the evidence by which a live lease last went on would pass under another policy.

    `at` is when it was shown (Unix seconds), and judged as of; None, with the status not-run, where it is not kept.
    `failed` are the checks that would not pass.
    """

    lease_id: str
    key_ids: tuple[str, ...]
    status: Status
    at: int | None
    failed: tuple[Check, ...]


@dataclass(frozen=True, slots=True)
class PolicyTrial:
    """What a policy would do to the live leases under its id; `newer` says whether its version could be put at all.

    `left_out` is how many leases were too many to be tried.
    """

    TYPE: ClassVar[str] = "strongroom/policy-trial/v1"
    id: str
    version: int
    digest: Digest
    newer: bool
    leases: tuple[LeaseTrial, ...]
    left_out: int
