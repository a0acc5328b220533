"""What travels between a broker and those who speak to it, beside the records of release, and where.

Knows: shapes. Does not know: who may say what (`owners`), or what follows from it (`broker`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from strongroom.records import names
from strongroom.records.cell import Cell, CellKind
from strongroom.records.destruction import KeyOrigin
from strongroom.records.digest import Digest
from strongroom.records.release import Edition, Lease
from strongroom.release.roles import Administrator
from strongroom.release.stores.port import KeyState

IDENTITY_PATH = "/v1/identity"
CHALLENGES_PATH = "/v1/challenges"
RELEASES_PATH = "/v1/releases"
LEASES_PATH = "/v1/leases"
RECEIPTS_PATH = "/v1/receipts"
KEYS_PATH = "/v1/keys"
POLICIES_PATH = "/v1/policies"
AUDIT_PATH = "/v1/audit"
ERASURES_PATH = "/v1/log/erasures"
CELLS_PATH = "/v1/cells"
ADMINISTRATORS_PATH = "/v1/administrators"
EXPLAIN_PATH = "/v1/explain"
TRIAL_PATH = "/v1/explain/policy"
REVOCATIONS_PATH = "/v1/revocations"
SWEEPS_PATH = "/v1/sweeps"
ENROLMENTS_PATH = "/v1/enrolments"

RECEIPTS_PAYLOAD_TYPE = "application/vnd.strongroom.receipts-root.v1+json"
CELL_PAYLOAD_TYPE = "application/vnd.strongroom.cell-request.v1+json"
CELL_VIEW_PAYLOAD_TYPE = "application/vnd.strongroom.cell-view.v1+json"

MAX_EVIDENCE_BYTES = 1024 * 1024
MAX_POLICY_BYTES = 512 * 1024
MAX_SMALL_BYTES = 64 * 1024
MAX_EXPLAIN_BYTES = MAX_EVIDENCE_BYTES + MAX_POLICY_BYTES
MAX_ANSWER_BYTES = 4 * 1024 * 1024
MAX_KEYS_PER_REQUEST = 16
CELL_NONCE_BYTES = 32

check_name, check_same_tenant, tenant_of = names.check_name, names.check_same_tenant, names.tenant_of


@dataclass(frozen=True, slots=True)
class ChallengeRequest:
    """Asks for a nonce for one purpose."""

    TYPE: ClassVar[str] = "strongroom/challenge-request/v1"
    purpose: str


@dataclass(frozen=True, slots=True)
class ReceiptsRoot:
    """The Merkle root (32 bytes) over `count` receipts made under one lease.

    `sequence` grows with each root of a lease. Travels in an envelope signed by the receipt key of the lease's keyset.
    """

    TYPE: ClassVar[str] = "strongroom/receipts-root/v1"
    lease_id: str
    sequence: int
    count: int
    root: bytes


@dataclass(frozen=True, slots=True)
class KeyCreation:
    """Asks for a new key under a policy, which may be put later; until it is, the key is released to nobody.

    `max_uses` is how often it may be released at all, or None; with `per_boot` it is released once per boot of a machine.
    """

    TYPE: ClassVar[str] = "strongroom/key-creation/v1"
    key_id: str
    policy_id: str
    max_uses: int | None
    per_boot: bool


@dataclass(frozen=True, slots=True)
class WrapContext:
    """What a data key on its way to the broker is bound to; its canonical bytes are the HPKE `info`."""

    TYPE: ClassVar[str] = "strongroom/wrap-context/v1"
    broker: Digest
    key_id: str
    of: Edition


@dataclass(frozen=True, slots=True)
class WrapRequest:
    """A data key sealed to the broker's `wrapping` key, to be wrapped under the owner's key."""

    TYPE: ClassVar[str] = "strongroom/wrap-request/v1"
    of: Edition
    encapsulation: bytes
    ciphertext: bytes


@dataclass(frozen=True, slots=True)
class ImportContext:
    """What an owner's own key on its way to the broker is bound to; its canonical bytes are the HPKE `info`."""

    TYPE: ClassVar[str] = "strongroom/import-context/v1"
    broker: Digest
    key_id: str
    policy_id: str
    max_uses: int | None


@dataclass(frozen=True, slots=True)
class KeyImport:
    """A key-encryption key that its owner made elsewhere, sealed to the broker's `wrapping` key.

    Otherwise like a `KeyCreation`.
    """

    TYPE: ClassVar[str] = "strongroom/key-import/v1"
    policy_id: str
    max_uses: int | None
    encapsulation: bytes
    ciphertext: bytes


@dataclass(frozen=True, slots=True)
class RekeyOrder:
    """Orders that wrapped keys of versions below `least_version` be released to nobody from `since` on (Unix seconds)."""

    TYPE: ClassVar[str] = "strongroom/rekey-order/v1"
    least_version: int
    since: int


@dataclass(frozen=True, slots=True)
class KeyInfo:
    """One version of a key as its owner sees it: never the key itself.

    `max_uses` is how often it may be released, in all its versions, and `used` how often it was; None without a limit.
    `created` is when this version was made, and so when the key was rotated; `refused_from` is from when an order refuses
    what is wrapped under it, or None. With `per_boot` it is released once per boot.
    """

    TYPE: ClassVar[str] = "strongroom/key-info/v1"
    key_id: str
    version: int
    policy_id: str
    state: KeyState
    created: int
    max_uses: int | None
    used: int | None
    origin: KeyOrigin
    refused_from: int | None
    per_boot: bool


@dataclass(frozen=True, slots=True)
class PolicyInfo:
    """A policy's newest version."""

    TYPE: ClassVar[str] = "strongroom/policy-info/v1"
    id: str
    version: int
    digest: Digest


@dataclass(frozen=True, slots=True)
class KeyList:
    """All keys of a broker."""

    TYPE: ClassVar[str] = "strongroom/key-list/v1"
    keys: tuple[KeyInfo, ...]


@dataclass(frozen=True, slots=True)
class PolicyList:
    """All policies of a broker."""

    TYPE: ClassVar[str] = "strongroom/policy-list/v1"
    policies: tuple[PolicyInfo, ...]


@dataclass(frozen=True, slots=True)
class LeaseList:
    """Leases; as an answer to a revocation, those that it ended."""

    TYPE: ClassVar[str] = "strongroom/lease-list/v1"
    leases: tuple[Lease, ...]


@dataclass(frozen=True, slots=True)
class CellCreation:
    """Asks for a new cell under a policy, which may be put later.

    `limit` is what a budget begins with, None of a counter; `output_key` the key whose wrapped keys its spends may be
    granted, or None.
    """

    TYPE: ClassVar[str] = "strongroom/cell-creation/v1"
    cell_id: str
    kind: CellKind
    policy_id: str
    limit: int | None
    output_key: str | None


@dataclass(frozen=True, slots=True)
class ErasureRequest:
    """Asks that nothing opens `value` in leaves any more: a fingerprint, the id of a key, policy or cell, or `TENANT/`."""

    TYPE: ClassVar[str] = "strongroom/erasure-request/v1"
    value: str


@dataclass(frozen=True, slots=True)
class Erased:
    """How many openings there were, which nobody has any more."""

    TYPE: ClassVar[str] = "strongroom/erased/v1"
    openings: int


@dataclass(frozen=True, slots=True)
class CellList:
    """All cells of a broker."""

    TYPE: ClassVar[str] = "strongroom/cell-list/v1"
    cells: tuple[Cell, ...]


@dataclass(frozen=True, slots=True)
class AdministratorList:
    """All administrators of a broker, its roots first."""

    TYPE: ClassVar[str] = "strongroom/administrator-list/v1"
    administrators: tuple[Administrator, ...]
