"""What a worker shows to whoever asks with a nonce: its evidence, and the proof that a broker released its keys.

Knows: the shapes. Does not know: whether they hold (`client.verification`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from strongroom.records.digest import Digest
from strongroom.records.envelope import Envelope
from strongroom.records.evidence import EvidenceBundle
from strongroom.records.release import LogProof
from strongroom.records.verdict import Verdict

EVIDENCE_PATH = "/.well-known/strongroom/evidence"


@dataclass(frozen=True, slots=True)
class EvidenceRequest:
    """A user's own nonce of 32 bytes."""

    TYPE: ClassVar[str] = "strongroom/evidence-request/v1"
    nonce: bytes


@dataclass(frozen=True, slots=True)
class ReleaseProof:
    """That a broker released this worker's keys: its verdict token, the leaf's proof, and the broker's signed identity.

    `chain` is the head of the lease's hash chain of verdict tokens; receipts repeat it.
    """

    TYPE: ClassVar[str] = "strongroom/release-proof/v1"
    token: str
    proof: LogProof
    broker: Envelope
    lease_id: str
    chain: Digest


@dataclass(frozen=True, slots=True)
class VerificationDocument:
    """What a user keeps of a verification, to show it and to check it again offline: the proof, and the verdict reached then.

    The verdict is the user's own word: whoever checks reaches one anew.
    """

    TYPE: ClassVar[str] = "strongroom/verification/v1"
    bundle: EvidenceBundle
    release: ReleaseProof
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class WorkerProof:
    """A worker's answer to an evidence request."""

    TYPE: ClassVar[str] = "strongroom/worker-proof/v1"
    bundle: EvidenceBundle
    release: ReleaseProof
