"""Who may do what at a broker: the one table of roles, and what a role says of one request.

Knows: verbs, roles, tenants. Does not know: who holds a role (`administrators`), how they sign (`owners`), paths
(`services`). Whatever is not in `ALLOWED` is refused. A role holds for one tenant, or for `EVERY`: the house's own
namespace is no tenant, so only who is there for every tenant acts in it. See docs/decisions/0013.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from strongroom.errors import NotPermitted, UsageError
from strongroom.records.digest import Digest
from strongroom.records.names import check_tenant, tenant_of

EVERY = "*"
"""The tenant of who acts for all tenants and for the house; no tenant can have this name."""


class Verb(enum.StrEnum):
    """What an administrator can ask for; every path of theirs names one."""

    ADMINISTRATORS_LIST = "administrators.list"
    ADMINISTRATORS_CHANGE = "administrators.change"
    POLICIES_LIST = "policies.list"
    POLICIES_PUT = "policies.put"
    KEYS_LIST = "keys.list"
    KEYS_CREATE = "keys.create"
    KEYS_WRAP = "keys.wrap"
    KEYS_ROTATE = "keys.rotate"
    KEYS_RETIRE = "keys.retire"
    KEYS_DESTROY = "keys.destroy"
    EXPLAIN = "explain"
    LEASES_LIST = "leases.list"
    LEASES_REVOKE = "leases.revoke"
    CELLS_LIST = "cells.list"
    CELLS_CREATE = "cells.create"
    AUDIT_READ = "audit.read"
    LOG_ERASE = "log.erase"


class Role(enum.StrEnum):
    """Roots are named when the broker starts, and only there; the others are appointed by a root."""

    ROOT = "root"
    OWNER = "owner"
    OPERATOR = "operator"
    AUDITOR = "auditor"


_READS = frozenset({Verb.POLICIES_LIST, Verb.KEYS_LIST, Verb.LEASES_LIST, Verb.CELLS_LIST})
ALLOWED: Mapping[Role, frozenset[Verb]] = {
    Role.ROOT: frozenset(Verb),
    Role.OWNER: _READS
    | {
        Verb.ADMINISTRATORS_LIST,
        Verb.POLICIES_PUT,
        Verb.KEYS_CREATE,
        Verb.KEYS_WRAP,
        Verb.KEYS_ROTATE,
        Verb.KEYS_RETIRE,
        Verb.KEYS_DESTROY,
        Verb.EXPLAIN,
        Verb.LEASES_REVOKE,
        Verb.CELLS_CREATE,
        Verb.AUDIT_READ,
        Verb.LOG_ERASE,
    },
    Role.OPERATOR: _READS | {Verb.KEYS_RETIRE, Verb.LEASES_REVOKE},
    Role.AUDITOR: _READS | {Verb.ADMINISTRATORS_LIST, Verb.AUDIT_READ, Verb.EXPLAIN},
}
"""The table of roles."""


@dataclass(frozen=True, slots=True)
class Appointment:
    """What a root signs to make the holder of `key` (P-256, SPKI DER) an administrator of the broker with this fingerprint."""

    TYPE: ClassVar[str] = "strongroom/appointment/v1"
    broker: Digest
    key: bytes
    role: Role
    tenant: str


@dataclass(frozen=True, slots=True)
class Administrator:
    """Who may act at a broker, as what, for whom.

    `added_by` is the fingerprint of the root who asked for it, `added` when (Unix seconds); both are None of a root.
    """

    TYPE: ClassVar[str] = "strongroom/administrator/v1"
    fingerprint: Digest
    key: bytes
    role: Role
    tenant: str
    added_by: Digest | None
    added: int | None

    def may(self, verb: Verb, tenant: str) -> bool:
        """Whether this role allows `verb` for `tenant`; the empty tenant is the house's own namespace."""
        return verb in ALLOWED[self.role] and self.tenant in {EVERY, tenant or EVERY}


@dataclass(frozen=True, slots=True)
class Caller:
    """One request of an administrator, whose role has its verb. Who it was is told only for ids that it may act on."""

    administrator: Administrator
    verb: Verb

    def __post_init__(self) -> None:
        """Raises `NotPermitted` where the role does not have the verb: there is no caller then."""
        if self.verb not in ALLOWED[self.administrator.role]:
            raise self._refused()

    def on(self, *names: str) -> Digest:
        """Who acts, if it may act on every one of the keys, policies or cells `names`. Raises `NotPermitted`."""
        return self._told(bool(names) and all(map(self._covers, names)), *names)

    def on_any(self, *names: str) -> Digest:
        """Who acts, if it may act on one of `names`; on none of them, only who is there for every tenant."""
        return self._told(self.sees(*names), *names)

    def everywhere(self) -> Digest:
        """Who acts, if for every tenant. Raises `NotPermitted`."""
        return self._told(granted=False)

    def sees(self, *names: str) -> bool:
        """Whether one of `names` is this caller's to see."""
        return self.administrator.tenant == EVERY or any(map(self._covers, names))

    def _covers(self, name: str) -> bool:
        return self.administrator.may(self.verb, tenant_of(name))

    def _told(self, granted: bool, *names: str) -> Digest:  # noqa: FBT001 (private, and named by its callers)
        if granted or self.administrator.tenant == EVERY:
            return self.administrator.fingerprint
        raise self._refused(*names)

    def _refused(self, *names: str) -> NotPermitted:
        role, mine = self.administrator.role.value, self.administrator.tenant
        others = sorted({tenant_of(name) for name in names if not self._covers(name)})
        whose = f" for {', '.join(other or 'the house' for other in others)}" if others else ""
        return NotPermitted(
            f"the role {role} of {'every tenant' if mine == EVERY else f'the tenant {mine}'} does not allow {self.verb.value}{whose}",
            detail=f"{role} {self.verb.value}",
            remedy=f"Ask who may: {_who(self.verb)}.",
        )


def check_appointed(role: Role, tenant: str) -> None:
    """Return if somebody can be made `role` for `tenant`. Raises `UsageError`."""
    if role is Role.ROOT:
        raise UsageError(
            "roots are named when the broker starts, and not added", remedy="Start it with another --owner."
        )
    if tenant != EVERY:
        check_tenant(tenant)


def _who(verb: Verb) -> str:
    """The roles that have `verb`, in words."""
    return " or ".join(role.value for role in Role if verb in ALLOWED[role])
