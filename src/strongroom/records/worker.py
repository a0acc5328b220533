"""What a worker says of itself: its keys, what it runs and how it is configured.

Knows: keyset, workload statement, configuration. Does not know: how any of it is proved (`binding`, `evidence`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from strongroom.records.digest import Digest, digest_record

CHANNEL_V2 = "strongroom/2"
"""Version 2 of the sealed channel in a keyset's list of channels."""
RELEASE_BYTES = 1216
"""Length of an ML-KEM-768+X25519 public key."""


@dataclass(frozen=True, slots=True)
class Keyset:
    """The public keys that one worker holds inside its TEE; their digest is bound into its evidence.

    `channel` is an X25519 key (32 bytes) for request encryption; `release` an ML-KEM-768+X25519 key (1216 bytes) to which
    keys are released; `receipt` an Ed25519 key (32 bytes); `tls` the SHA-256 of the TLS key's SPKI, or None where the worker
    speaks no TLS; `channels` the versions spoken, best first, so that stripping one is seen; `not_after` in Unix seconds;
    `channel_v2` an ML-KEM-768+X25519 key (1216 bytes) for requests in version 2, there exactly if `channels` lists it.
    """

    TYPE: ClassVar[str] = "strongroom/keyset/v1"
    channel: bytes
    release: bytes
    receipt: bytes
    tls: Digest | None
    channels: tuple[str, ...]
    not_after: int
    channel_v2: bytes | None = None

    def __post_init__(self) -> None:
        lengths = (len(self.channel), len(self.release), len(self.receipt))
        if lengths != (32, RELEASE_BYTES, 32):
            raise ValueError(f"keys of {lengths} bytes where (32, {RELEASE_BYTES}, 32) are needed")
        if not self.channels:
            raise ValueError("a keyset without a channel")
        if (self.channel_v2 is not None) != (CHANNEL_V2 in self.channels):
            raise ValueError(f"a keyset whose channels and key do not agree about {CHANNEL_V2}")
        if self.channel_v2 is not None and len(self.channel_v2) != RELEASE_BYTES:
            raise ValueError(f"a key of {len(self.channel_v2)} bytes where {RELEASE_BYTES} are needed")

    @property
    def digest(self) -> Digest:
        return digest_record(self)


@dataclass(frozen=True, slots=True)
class Statement:
    """The workload statement: what runs. Each member counts only where it is measured (see `appraisal.statement`)."""

    TYPE: ClassVar[str] = "strongroom/statement/v1"
    workload: str
    image: Digest
    launch_spec: Digest | None
    artifacts: tuple[Digest, ...]
    configuration: Digest

    @property
    def digest(self) -> Digest:
        return digest_record(self)


@dataclass(frozen=True, slots=True)
class Configuration:
    """What a worker was told to do. Its digest is extended into a run-time register before any key is asked for.

    `broker` is the fingerprint of the one broker whose grants the worker takes; `settings` are the workload's own options
    (text and numbers); `job` the digest of a job specification, or None. `least` of `witnesses` (verifier keys) must have signed
    the broker's log before the worker takes a grant; none where none is named.
    """

    TYPE: ClassVar[str] = "strongroom/configuration/v1"
    workload: str
    broker: Digest
    settings: Mapping[str, str | int]
    job: Digest | None
    witnesses: tuple[str, ...] = ()
    least: int = 0

    def __post_init__(self) -> None:
        if not bool(self.witnesses) <= self.least <= len(self.witnesses):
            raise ValueError("at least one of the named witnesses must sign, and no more than are named")

    @property
    def digest(self) -> Digest:
        return digest_record(self)
