"""Keys and policies, in SQL.

Knows: the statements. Does not know: connections and commits (`sqlite`), or who may change what.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import sqlalchemy as sa

from strongroom.records.digest import Digest
from strongroom.release.stores.checked import from_row
from strongroom.release.stores.life_rows import OverwritingRows
from strongroom.release.stores.port import KeyState, StoredKey, StoredPolicy
from strongroom.release.stores.rows import insert_new
from strongroom.release.stores.schema import Keys, Policies
from strongroom.release.stores.statements import Statement

_KEY_VERSIONS = sa.select(Keys).where(Keys.c.id == sa.bindparam("id")).order_by(Keys.c.version.desc()).limit(1)
_NEWEST_KEY = Statement(_KEY_VERSIONS)
_KEY = Statement(_KEY_VERSIONS.where(Keys.c.version == sa.bindparam("version")))
_NEWEST_POLICY = Statement(
    sa.select(Policies).where(Policies.c.id == sa.bindparam("id")).order_by(Policies.c.version.desc()).limit(1)
)
_PUT_KEY, _PUT_POLICY = insert_new(Keys), insert_new(Policies)


class KeyRows(OverwritingRows):
    """The part of `Transaction` that is about keys and policies."""

    def key(self, key_id: str, version: int | None = None) -> StoredKey | None:
        if version is None:
            row = self._connection.execute(_NEWEST_KEY, {"id": key_id}).first()
        else:
            row = self._connection.execute(_KEY, {"id": key_id, "version": version}).first()
        return None if row is None else _key(row)

    def keys(self) -> tuple[StoredKey, ...]:
        rows = self._connection.execute(sa.select(Keys).order_by(Keys.c.id, Keys.c.version))
        return tuple(_key(row) for row in rows)

    def put_key(self, key: StoredKey) -> bool:
        row = {
            "id": key.id,
            "version": key.version,
            "policy_id": key.policy_id,
            "wrapped": key.wrapped,
            "state": key.state.value,
            "created": key.created,
        }
        with self.overwriting():
            return self._changed(_PUT_KEY, row) == 1

    def set_key_state(self, key_id: str, state: KeyState) -> int:
        alive = sa.and_(Keys.c.id == key_id, Keys.c.state != KeyState.DESTROYED.value)
        with self.overwriting():
            return self._changed(sa.update(Keys).where(alive).values(state=state.value))

    def policy(self, policy_id: str) -> StoredPolicy | None:
        row = self._connection.execute(_NEWEST_POLICY, {"id": policy_id}).first()
        return None if row is None else _policy(row)

    def policies(self) -> tuple[StoredPolicy, ...]:
        rows = self._connection.execute(sa.select(Policies).order_by(Policies.c.id, Policies.c.version))
        newest = {row.id: _policy(row) for row in rows}
        return tuple(newest.values())

    def put_policy(self, policy: StoredPolicy) -> bool:
        newest = self.policy(policy.id)
        if newest is not None and newest.version >= policy.version:
            return False
        row = {"id": policy.id, "version": policy.version, "digest": policy.digest, "envelope": policy.envelope}
        return self._changed(_PUT_POLICY, row) == 1

    def policies_of(self, digests: Collection[Digest]) -> tuple[StoredPolicy, ...]:
        found = (
            self._connection.execute(sa.select(Policies).where(Policies.c.digest == digest)).first()
            for digest in dict.fromkeys(digests)
        )
        return tuple(_policy(row) for row in found if row is not None)


@from_row
def _key(row: Any) -> StoredKey:
    return StoredKey(row.id, row.version, row.policy_id, row.wrapped, KeyState(row.state), row.created)


@from_row
def _policy(row: Any) -> StoredPolicy:
    return StoredPolicy(row.id, row.version, Digest(row.digest), row.envelope)
