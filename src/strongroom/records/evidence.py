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
ARTIFACT = "artifact"
"""The event of something that is opened; the only one that may come after those of the statement."""


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
        return self.measured("sha384")

    def measured(self, algorithm: str) -> bytes:
        """The digest by which a register of this hash (`sha256`, `sha384`, `sha512`) is extended."""
        return hashlib.new(algorithm, frame(EVENT_TAG, codec.encode({"name": self.name, "value": self.value}))).digest()


@dataclass(frozen=True, slots=True)
class Evidence:
    """One worker's proof for one nonce and one purpose: `quote` as the hardware signed it, and all that it is bound to.

    `log` is the firmware's event log (TCG2 or CEL, as the machine gives it), empty where there is none. `events` are
    what the worker itself measured at run time.
    """

    TYPE: ClassVar[str] = "strongroom/evidence/v1"
    kind: str
    quote: bytes
    log: bytes
    events: tuple[Event, ...]
    nonce: bytes
    purpose: str
    keyset: Keyset
    statement: Statement

    @property
    def digest(self) -> Digest:
        return digest_record(self)

    @property
    def later(self) -> tuple[Event, ...]:
        """What was measured after the events that its statement begins with."""
        return self.events[len(events_of(self.statement)) :]

    @property
    def artifacts(self) -> tuple[Digest, ...]:
        """What it says was opened, at the start and later; like all that it says, it counts once it was appraised."""
        return (*self.statement.artifacts, *(Digest(event.value) for event in self.later if event.name == ARTIFACT))


@dataclass(frozen=True, slots=True)
class IntelCollateral:
    """What Intel signs about a platform (PCS API v4), for TDX or for SGX.

    `tcb_info` and `qe_identity` are the exact signed JSON texts, their signatures 64 raw bytes (r, s), chains PEM (leaf
    first), CRLs DER. `pck_chain` is the platform's own chain where the evidence does not bring it, else empty.
    """

    tcb_info: str
    tcb_info_signature: bytes
    tcb_info_chain: str
    qe_identity: str
    qe_identity_signature: bytes
    qe_identity_chain: str
    root_ca_crl: bytes
    pck_crl: bytes
    pck_crl_chain: str
    pck_chain: str = ""


@dataclass(frozen=True, slots=True)
class AmdCollateral:
    """What AMD signs about a chip (57230, KDS): its VCEK or VLEK (DER), ASK or ASVK and ARK (PEM, in this order).

    `crl` is the ARK's revocation list (DER), empty where there is none; its checks then do not run.
    """

    leaf: bytes
    chain: str
    crl: bytes


@dataclass(frozen=True, slots=True)
class ArmCollateral:
    """The key that endorses one CCA platform (CPAK, SubjectPublicKeyInfo DER), and for which platform it stands.

    A signer above it is not standardised: `signature` is empty, and the key itself must be a trust anchor.
    """

    cpak: bytes
    implementation_id: bytes
    instance_id: bytes


@dataclass(frozen=True, slots=True)
class AwsCollateral:
    """CRLs (DER) of the Nitro hierarchy. AWS tells verifiers to leave revocation out; a policy may ask for it."""

    crls: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class TpmCollateral:
    """Certificates from a TPM's AK up to its root (PEM, leaf first), and the CRLs (DER) of those that issue.

    Where an AK has no certificate: an empty chain, and the `enrolment` that a verifier signed (an envelope, as bytes).
    """

    chain: str
    crls: tuple[bytes, ...]
    enrolment: bytes = b""


@dataclass(frozen=True, slots=True)
class Collateral:
    """What vendors sign about the hardware beneath a piece of evidence, unverified until a verifier has judged it.

    One member for each vendor, None where the evidence needs nothing of theirs. Its digest is its address.
    """

    TYPE: ClassVar[str] = "strongroom/collateral/v1"
    intel: IntelCollateral | None = None
    amd: AmdCollateral | None = None
    arm: ArmCollateral | None = None
    aws: AwsCollateral | None = None
    tpm: TpmCollateral | None = None

    @property
    def digest(self) -> Digest:
        return digest_record(self)


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
        *(Event(ARTIFACT, artifact) for artifact in statement.artifacts),
    )
