"""What the broker's rules need of a database: a port of two verbs, `read` and `write`, over one kind of transaction.

Knows: the rows and the promises. Does not know: any database. The promises:
- `write(work)` runs `work` alone; when it returns, all that `work` wrote is durable, and when it raises, nothing is. A
  store may run several works in one commit, as long as each keeps that promise; so `work` must not wait for anything
  outside.
- `read(work)` sees one consistent state, never half of a `write`.
- A private key is in a row only wrapped, a data key never, an answer only with sealed grants.
Every method may raise `StoreUnavailable`.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from strongroom.records.digest import Digest
from strongroom.records.release import Lease, Opening
from strongroom.release.stores.administrators import AdministratorReader, AdministratorTransaction
from strongroom.release.stores.cells import CellReader, CellTransaction
from strongroom.release.stores.lives import LifeReader, LifeTransaction
from strongroom.release.stores.revocations import RevocationReader, RevocationTransaction

T = TypeVar("T")


class KeyState(enum.StrEnum):
    """A retired key wraps and releases nothing, and leases that hold it are not renewed; a destroyed one is no more.

    There is no way back.
    """

    ACTIVE = "active"
    RETIRED = "retired"
    DESTROYED = "destroyed"


@dataclass(frozen=True, slots=True)
class StoredKey:
    """One version of a key-encryption key: `wrapped` is it under the root key, which is never in the store.

    Of a destroyed key nothing is wrapped.
    """

    id: str
    version: int
    policy_id: str
    wrapped: bytes
    state: KeyState
    created: int


@dataclass(frozen=True, slots=True)
class StoredPolicy:
    """One version of a policy, in the envelope that its owner signed."""

    id: str
    version: int
    digest: Digest
    envelope: bytes


@dataclass(frozen=True, slots=True)
class StoredLease:
    """A lease, the key that signs the receipts made under it (Ed25519, 32 bytes), and the last sequence of them logged.

    The lease's state is `ACTIVE` or `REVOKED` here; whether it has expired is a question of the time that asks.
    """

    lease: Lease
    receipt_key: bytes
    receipts_sequence: int


@dataclass(frozen=True, slots=True)
class StoredAnswer:
    """What was answered to a request, to answer the same bytes the same way: a yes, or the problem of a no."""

    released: bool
    body: bytes


class Reader(CellReader, AdministratorReader, LifeReader, RevocationReader, Protocol):
    """One consistent state of the store."""

    def is_consumed(self, scope: str, nonce: bytes, expires: int) -> bool:
        """Whether `consume` of the same would be False."""
        ...

    def answer(self, request: Digest, now: int) -> StoredAnswer | None:
        """The answer kept for a request, if it is to be kept beyond `now`."""
        ...

    def key(self, key_id: str, version: int | None = None) -> StoredKey | None:
        """One version of a key, or the newest."""
        ...

    def keys(self) -> tuple[StoredKey, ...]: ...

    def policy(self, policy_id: str) -> StoredPolicy | None:
        """The newest version of a policy."""
        ...

    def policies(self) -> tuple[StoredPolicy, ...]:
        """The newest version of each policy."""
        ...

    def lease(self, lease_id: str) -> StoredLease | None: ...

    def leases(self) -> tuple[StoredLease, ...]: ...

    def policies_of(self, digests: Collection[Digest]) -> tuple[StoredPolicy, ...]:
        """Those versions of policies, old ones too, that have one of `digests`."""
        ...

    def decision(self, position: int) -> bytes | None:
        """What is kept of the decision whose leaf is number `position`, if it is still kept."""
        ...

    def collateral(self, digest: Digest) -> bytes | None:
        """Kept collateral, by its digest."""
        ...

    def openings(self, position: int) -> tuple[Opening, ...]:
        """What is still kept to open the leaf number `position`."""
        ...

    def count_openings(self, value: str) -> int:
        """How many openings `erase_openings` would erase."""
        ...

    def log_size(self) -> int: ...

    def log_leaves(self, start: int, end: int) -> tuple[bytes, ...]:
        """The bytes of leaves `start` up to, not including, `end`."""
        ...

    def log_checkpoint(self) -> str | None:
        """The newest signed checkpoint."""
        ...

    def log_cosigned(self) -> str | None:
        """The checkpoint that was kept with cosignatures last; it may be older than the newest."""
        ...


class Transaction(Reader, CellTransaction, AdministratorTransaction, LifeTransaction, RevocationTransaction, Protocol):
    """A reader that can write."""

    def consume(self, scope: str, nonce: bytes, expires: int) -> bool:
        """Use up `nonce` within `scope`, once: False if it was used before, or expired before what was forgotten."""
        ...

    def forget(self, now: int) -> None:
        """Drop nonces, answers, decisions with their collateral, and notes about leases, that ended by `now`.

        What expired by then counts as consumed from here on, so that a clock set back revives no nonce.
        """
        ...

    def keep_answer(self, request: Digest, answer: StoredAnswer, until: int) -> None: ...

    def put_key(self, key: StoredKey) -> bool:
        """Add a version of a key; False if there is one."""
        ...

    def set_key_state(self, key_id: str, state: KeyState) -> int:
        """Set the state of all versions of a key, unless it was destroyed; how many there are."""
        ...

    def put_policy(self, policy: StoredPolicy) -> bool:
        """Add a version of a policy; False unless it is newer than the newest."""
        ...

    def add_lease(self, lease: StoredLease) -> None: ...

    def renew_lease(self, lease: Lease) -> bool:
        """Store `key_ids`, `expires`, `renewals` and `chain` of a lease renewed once.

        False unless it is active and one renewal behind.
        """
        ...

    def revoke_lease(self, lease_id: str) -> bool:
        """False unless it was active."""
        ...

    def advance_receipts(self, lease_id: str, sequence: int) -> bool:
        """Set the last sequence of receipts logged under a lease; False unless it grows."""
        ...

    def keep_decision(self, position: int, decision: bytes, collateral: tuple[Digest, bytes], until: int) -> None:
        """Keep a decision and its collateral beyond its transaction; the same collateral is kept once."""
        ...

    def log_extend(self, leaves: Sequence[bytes], checkpoint: str) -> None:
        """Add the next leaves, and the checkpoint over the grown log."""
        ...

    def keep_openings(self, openings: Sequence[tuple[int, Opening]]) -> None:
        """Keep what opens leaves, each with the leaf's number."""
        ...

    def erase_openings(self, value: str) -> None:
        """Erase all openings of `value`, with or without a kind before it, and of details that name it.

        `TENANT/` is all ids of that tenant, and the tenant itself.
        """
        ...

    def keep_cosigned(self, checkpoint: str) -> None:
        """Keep a checkpoint with its cosignatures, instead of the last one that was kept."""
        ...


class Store(Protocol):
    """See the promises in the module's head."""

    def read(self, work: Callable[[Reader], T]) -> T: ...

    def write(self, work: Callable[[Transaction], T]) -> T: ...

    def scrub(self) -> None:
        """When it returns, the store's files hold no trace of what was destroyed or erased before."""
        ...

    def close(self) -> None: ...
