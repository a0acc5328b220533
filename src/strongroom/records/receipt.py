"""The receipt: what was done, on what, by which code, signed by a key that only the attested worker holds.

Knows: the shape and the commitments. Does not know: keys and proofs (`receipts`).
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from strongroom.records.digest import Digest, digest_record

PAYLOAD_TYPE = "application/vnd.strongroom.receipt.v1+json"


@dataclass(frozen=True, slots=True)
class Receipt:
    """One answer, job or round. `request` and `response` are commitments under a salt that only the sealed answer carries.

    `cache` commits in the same way to the namespace of the prefix cache that the answer could draw on; None: no cache was used.
    `outcome` is `complete`, `cut` or `failed`; `chain` the head of the lease's chain of verdict tokens; `usage` counts;
    `model` is the one of the artifacts that answered, or None where no single one did; `adapter` the one that was applied to it, if any.
    """

    TYPE: ClassVar[str] = "strongroom/receipt/v1"
    workload: str
    keyset: Digest
    statement: Digest
    evidence: Digest
    policy: Digest
    artifacts: tuple[Digest, ...]
    request: bytes
    response: bytes
    usage: Mapping[str, int]
    outcome: str
    lease_id: str
    chain: Digest
    sequence: int
    time: int
    cache: bytes | None = None
    model: Digest | None = None
    adapter: Digest | None = None

    def __post_init__(self) -> None:
        if self.model is not None and self.model not in self.artifacts:
            raise ValueError("a receipt whose model is none of its artifacts")
        if self.adapter is not None and self.adapter not in self.artifacts:
            raise ValueError("a receipt whose adapter is none of its artifacts")

    @property
    def digest(self) -> Digest:
        return digest_record(self)


def commitment(salt: bytes, label: str, sha256: bytes) -> bytes:
    """HMAC-SHA256 under `salt` of a label and a SHA-256: tells nothing without the salt, and nothing else opens it."""
    return hmac.new(salt, label.encode("ascii") + b"\0" + sha256, hashlib.sha256).digest()
