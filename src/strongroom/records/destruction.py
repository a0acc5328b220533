"""The proof that a broker destroyed a key: what it signs about it, and the document that is kept of it.

Knows: the shapes. Does not know: how a key is destroyed (`release.lifecycle`), or how the proof is checked
(`receipts.destruction`).
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import ClassVar

from strongroom.records.digest import Digest
from strongroom.records.envelope import Envelope
from strongroom.records.release import LogProof


class KeyOrigin(enum.StrEnum):
    """Where one version of a key was made: by the broker, or by its owner, who may have other copies."""

    CREATED = "created"
    IMPORTED = "imported"


@dataclass(frozen=True, slots=True)
class DestroyedVersion:
    """One version of a destroyed key: when it was made (Unix seconds), where, and the digest of its row as it was stored."""

    version: int
    created: int
    origin: KeyOrigin
    row: Digest


@dataclass(frozen=True, slots=True)
class KeyDestruction:
    """Says that a broker overwrote all versions of a key, at whose word and when (Unix seconds).

    `who` is the fingerprint of an owner's public key. Travels in an envelope that the broker signed.
    """

    TYPE: ClassVar[str] = "strongroom/key-destruction/v1"
    broker: Digest
    key_id: str
    versions: tuple[DestroyedVersion, ...]
    who: Digest
    time: int


@dataclass(frozen=True, slots=True)
class DestructionDocument:
    """A destruction for offline use: the broker's signed identity, its signed statement, and that its leaf is in the log."""

    TYPE: ClassVar[str] = "strongroom/destruction-document/v1"
    broker: Envelope
    destruction: Envelope
    proof: LogProof
