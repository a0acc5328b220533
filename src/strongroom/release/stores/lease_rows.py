"""Leases, in SQL.

Knows: the statements. Does not know: connections and commits (`sqlite`), or when a lease ends.
"""

from __future__ import annotations

import json
from typing import Any

import sqlalchemy as sa

from strongroom.records.digest import Digest
from strongroom.records.release import Lease, LeaseState
from strongroom.release.stores.checked import from_row
from strongroom.release.stores.port import StoredLease
from strongroom.release.stores.rows import Rows
from strongroom.release.stores.schema import Leases
from strongroom.release.stores.statements import Statement

_THIS = Leases.c.id == sa.bindparam("this")
_LEASE = Statement(sa.select(Leases).where(_THIS))
_ADD = Statement(sa.insert(Leases))
_RENEW = Statement(
    sa.update(Leases)
    .where(_THIS, Leases.c.state == LeaseState.ACTIVE.value, Leases.c.renewals == sa.bindparam("before"))
    .values({name: sa.bindparam(name) for name in ("key_ids", "expires", "renewals", "chain")})
)


class LeaseRows(Rows):
    """The part of `Transaction` that is about leases."""

    def lease(self, lease_id: str) -> StoredLease | None:
        row = self._connection.execute(_LEASE, {"this": lease_id}).first()
        return None if row is None else _lease(row)

    def leases(self) -> tuple[StoredLease, ...]:
        rows = self._connection.execute(sa.select(Leases).order_by(Leases.c.granted, Leases.c.id))
        return tuple(_lease(row) for row in rows)

    def add_lease(self, lease: StoredLease) -> None:
        record = lease.lease
        row = {
            "id": record.id,
            "keyset": record.keyset,
            "statement": record.statement,
            "policy_id": record.policy_id,
            "key_ids": json.dumps(record.key_ids),
            "granted": record.granted,
            "expires": record.expires,
            "state": record.state.value,
            "renewals": record.renewals,
            "chain": record.chain,
            "receipt_key": lease.receipt_key,
            "receipts_sequence": lease.receipts_sequence,
        }
        self._connection.execute(_ADD, row)

    def renew_lease(self, lease: Lease) -> bool:
        after = {"expires": lease.expires, "renewals": lease.renewals, "chain": lease.chain}
        after["key_ids"] = json.dumps(lease.key_ids)
        return self._changed(_RENEW, {"this": lease.id, "before": lease.renewals - 1, **after}) == 1

    def revoke_lease(self, lease_id: str) -> bool:
        active = sa.and_(Leases.c.id == lease_id, Leases.c.state == LeaseState.ACTIVE.value)
        return self._changed(sa.update(Leases).where(active).values(state=LeaseState.REVOKED.value)) == 1

    def advance_receipts(self, lease_id: str, sequence: int) -> bool:
        behind = sa.and_(Leases.c.id == lease_id, Leases.c.receipts_sequence < sequence)
        return self._changed(sa.update(Leases).where(behind).values(receipts_sequence=sequence)) == 1


@from_row
def _lease(row: Any) -> StoredLease:
    return StoredLease(lease_of(row), row.receipt_key, row.receipts_sequence)


@from_row
def lease_of(row: Any) -> Lease:
    """The lease in a row of its table."""
    return Lease(
        id=row.id,
        keyset=Digest(row.keyset),
        statement=Digest(row.statement),
        policy_id=row.policy_id,
        key_ids=tuple(json.loads(row.key_ids)),
        granted=row.granted,
        expires=row.expires,
        state=LeaseState(row.state),
        renewals=row.renewals,
        chain=Digest(row.chain),
    )
