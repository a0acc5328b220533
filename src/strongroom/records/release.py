"""What passes between a worker and a broker: challenge, request, grant, lease, and the leaves of the broker's log.

Knows: the shapes. Does not know: who decides (`release`), or how a grant is sealed and signed (`release.grants`).
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import ClassVar

from strongroom.records import codec
from strongroom.records.digest import Digest, digest_bytes, digest_record, frame
from strongroom.records.envelope import Envelope
from strongroom.records.evidence import EvidenceBundle

PURPOSE_RELEASE = "release"
PURPOSE_SESSION = "session"
SEALED_TAG = "strongroom/sealed-key/v1"


def renewal_purpose(lease_id: str) -> str:
    """The purpose of a challenge, and so of the evidence, by which one lease is renewed."""
    return f"renew:{lease_id}"


class Use(enum.StrEnum):
    """What a released key may do."""

    OPEN = "open"
    SEAL = "seal"


@dataclass(frozen=True, slots=True)
class Challenge:
    """A nonce the broker can recognise without having stored it: `mac` is over the other members under the broker's secret."""

    TYPE: ClassVar[str] = "strongroom/challenge/v1"
    nonce: bytes
    purpose: str
    expires: int
    mac: bytes


@dataclass(frozen=True, slots=True)
class Edition:
    """Which artifact a data key opens: its random id, the id of the first of its line, and its place in that line."""

    artifact_id: bytes
    line: bytes
    edition: int

    @classmethod
    def first(cls, artifact_id: bytes) -> Edition:
        """The first of a line, which bears its id."""
        return cls(artifact_id, artifact_id, 1)


@dataclass(frozen=True, slots=True)
class WrappedKey:
    """An artifact's data key under the owner's key at a broker; only that broker can unwrap it, and only as `of` says."""

    TYPE: ClassVar[str] = "strongroom/wrapped-key/v1"
    key_id: str
    key_version: int
    broker: Digest
    of: Edition
    ciphertext: bytes

    @property
    def artifact_id(self) -> bytes:
        return self.of.artifact_id


@dataclass(frozen=True, slots=True)
class KeyRequest:
    """One key that a worker asks for: the artifact as it lies in the registry, and its wrapped data key."""

    artifact: Digest
    wrapped: WrappedKey
    use: Use


@dataclass(frozen=True, slots=True)
class ReleaseRequest:
    """A worker's proof, in answer to `challenge`, and the keys it asks for."""

    TYPE: ClassVar[str] = "strongroom/release-request/v1"
    challenge: Challenge
    bundle: EvidenceBundle
    keys: tuple[KeyRequest, ...]


@dataclass(frozen=True, slots=True)
class RenewalRequest:
    """A worker's fresh proof, by which one lease goes on."""

    TYPE: ClassVar[str] = "strongroom/renewal-request/v1"
    challenge: Challenge
    bundle: EvidenceBundle
    lease_id: str


@dataclass(frozen=True, slots=True)
class ExtensionRequest:
    """A renewal that asks for further keys, of artifacts that the worker measured since; the lease then holds these too."""

    TYPE: ClassVar[str] = "strongroom/extension-request/v1"
    challenge: Challenge
    bundle: EvidenceBundle
    lease_id: str
    keys: tuple[KeyRequest, ...]


@dataclass(frozen=True, slots=True)
class GrantContext:
    """All that a released key is bound to. Its canonical bytes are the HPKE `info` under which the key was sealed."""

    TYPE: ClassVar[str] = "strongroom/grant-context/v1"
    nonce: bytes
    keyset: Digest
    statement: Digest
    evidence: Digest
    policy: Digest
    key_id: str
    use: Use
    artifact: Digest
    artifact_id: bytes
    lease_id: str
    lease_seconds: int
    expires: int


@dataclass(frozen=True, slots=True)
class GrantSummary:
    """A grant without its key: the context, and the digest of what was sealed. Its digest is the grant's."""

    TYPE: ClassVar[str] = "strongroom/grant-summary/v1"
    context: GrantContext
    sealed: Digest

    @property
    def digest(self) -> Digest:
        return digest_record(self)


@dataclass(frozen=True, slots=True)
class Grant:
    """A released key: `ciphertext` opens only with the worker's release key under `context`. Travels in a signed envelope."""

    TYPE: ClassVar[str] = "strongroom/grant/v1"
    context: GrantContext
    encapsulation: bytes
    ciphertext: bytes

    @property
    def summary(self) -> GrantSummary:
        """The grant as it may be shown later, when nobody should hold the sealed key any more."""
        sealed = codec.encode({"ciphertext": self.ciphertext, "encapsulation": self.encapsulation})
        return GrantSummary(self.context, digest_bytes(frame(SEALED_TAG, sealed)))

    @property
    def digest(self) -> Digest:
        return self.summary.digest


@dataclass(frozen=True, slots=True)
class LogProof:
    """That a leaf is in the broker's log, for offline use: index, the leaf's bytes, the RFC 6962 audit path, a signed checkpoint."""

    TYPE: ClassVar[str] = "strongroom/log-proof/v1"
    index: int
    leaf: bytes
    path: tuple[bytes, ...]
    checkpoint: str


@dataclass(frozen=True, slots=True)
class ReleaseAnswer:
    """The broker's yes: the verdict as a signed token (EAR), one signed grant a key, the lease, and the proof that it is logged."""

    TYPE: ClassVar[str] = "strongroom/release-answer/v1"
    token: str
    lease_id: str
    lease_seconds: int
    grants: tuple[Envelope, ...]
    proof: LogProof


class LeaseState(enum.StrEnum):
    """A lease is active until it expires or is revoked; there is no way back."""

    ACTIVE = "active"
    EXPIRED = "expired"
    REVOKED = "revoked"


@dataclass(frozen=True, slots=True)
class Lease:
    """The time for which released keys hold. `chain` is the head of the hash chain of verdict tokens."""

    TYPE: ClassVar[str] = "strongroom/lease/v1"
    id: str
    keyset: Digest
    statement: Digest
    policy_id: str
    key_ids: tuple[str, ...]
    granted: int
    expires: int
    state: LeaseState
    renewals: int
    chain: Digest


@dataclass(frozen=True, slots=True)
class BrokerIdentity:
    """A broker's public keys, signed by the first of them. Its fingerprint is `digest_record` of this.

    `signing` signs grants and this record (Ed25519, 32 bytes); `token` signs verdict tokens (ECDSA P-384, SPKI DER); `log` signs
    checkpoints (Ed25519, 32 bytes) under the name `log_origin`; `wrapping` takes data keys in (ML-KEM-768+X25519, 1216 bytes).
    """

    TYPE: ClassVar[str] = "strongroom/broker-identity/v1"
    signing: bytes
    token: bytes
    log: bytes
    log_origin: str
    wrapping: bytes

    @property
    def fingerprint(self) -> Digest:
        return digest_record(self)


@dataclass(frozen=True, slots=True)
class Leaf:
    """One entry of the broker's log: what happened, to which digests, when. No names of people, no secrets.

    `event`: release, refusal, renewal, revocation, policy, key, destruction, receipts, cell, administrator, erasure, enrolment. Members
    that point to somebody are commitments, written like digests (`receipts.hidden`).
    """

    TYPE: ClassVar[str] = "strongroom/leaf/v1"
    event: str
    time: int
    subject: str
    digests: tuple[Digest, ...]
    detail: str


@dataclass(frozen=True, slots=True)
class Opening:
    """What opens one member of a leaf: its name (`subject`, `detail`, `digests[0]`), the salt (32 bytes), the value."""

    member: str
    salt: bytes
    value: str
