"""Evidence: what a TEE says of itself, signed by hardware, and the vendor's collateral that goes with it.

Knows: the shapes. Does not know: whether any of it is true (`tee`, `appraisal`).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import ClassVar

from strongroom.records import codec
from strongroom.records.digest import Digest, digest_record, frame
from strongroom.records.worker import Keyset, Statement

EVENT_TAG = "strongroom/event/v1"


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that was opened or set at run time: `name` (configuration, artifact, workload) and its `value`.

    The register holds the chain of `measurement`s, so an event that was left out, added or moved is seen.
    """

    name: str
    value: str

    @property
    def measurement(self) -> bytes:
        """The 48 bytes by which a SHA-384 register is extended."""
        return hashlib.sha384(frame(EVENT_TAG, codec.encode({"name": self.name, "value": self.value}))).digest()


@dataclass(frozen=True, slots=True)
class Evidence:
    """One worker's proof for one nonce and one purpose: `quote` as the hardware signed it, and all that it is bound to."""

    TYPE: ClassVar[str] = "strongroom/evidence/v1"
    kind: str
    quote: bytes
    events: tuple[Event, ...]
    nonce: bytes
    purpose: str
    keyset: Keyset
    statement: Statement

    @property
    def digest(self) -> Digest:
        return digest_record(self)


@dataclass(frozen=True, slots=True)
class Collateral:
    """What Intel signs about a platform (PCS v4), unverified until `tee.tdx.verify` has judged it.

    `tcb_info` and `qe_identity` are the exact signed JSON texts, their signatures 64 raw bytes (r, s), chains PEM (leaf first),
    CRLs DER.
    """

    TYPE: ClassVar[str] = "strongroom/collateral/v1"
    tcb_info: str
    tcb_info_signature: bytes
    tcb_info_chain: str
    qe_identity: str
    qe_identity_signature: bytes
    qe_identity_chain: str
    root_ca_crl: bytes
    pck_crl: bytes
    pck_crl_chain: str


@dataclass(frozen=True, slots=True)
class EvidenceBundle:
    """Evidence with the collateral to judge it offline."""

    TYPE: ClassVar[str] = "strongroom/evidence-bundle/v1"
    evidence: Evidence
    collateral: Collateral


def events_of(statement: Statement) -> tuple[Event, ...]:
    """The events that a worker extends before it asks for keys, in order: workload, configuration, each artifact."""
    return (
        Event("workload", statement.workload),
        Event("configuration", statement.configuration),
        *(Event("artifact", artifact) for artifact in statement.artifacts),
    )
