"""How keys, policies and cells at a broker are named, and whose each is: `NAME`, or `TENANT/NAME`.

Knows: the rule, which stands here alone. Does not know: who may do what for a tenant (`release.roles`). An id without a
slash is in the house's own namespace, whose tenant is written as the empty text. Not covered: tenants within tenants.
"""

from __future__ import annotations

import re

from strongroom.errors import UsageError

_PART = r"[a-z0-9][a-z0-9._-]{0,63}"
_NAME = re.compile(rf"{_PART}(?:/{_PART})?")
_TENANT = re.compile(_PART)


def check_name(name: str) -> str:
    """`name` itself if it can name a key, a policy or a cell. Raises `UsageError`."""
    if _NAME.fullmatch(name) is None:
        raise UsageError(
            "keys, policies and cells are named NAME or TENANT/NAME, each of 1 to 64 of a-z, 0-9, '.', '_' and '-', the"
            " first a letter or digit",
            remedy="Choose another name.",
        )
    return name


def check_tenant(name: str) -> str:
    """`name` itself if it can name a tenant. Raises `UsageError`."""
    if _TENANT.fullmatch(name) is None:
        raise UsageError(
            "a tenant is named by 1 to 64 of a-z, 0-9, '.', '_' and '-', the first a letter or digit",
            remedy="Choose another name.",
        )
    return name


def tenant_of(name: str) -> str:
    """Whose namespace the id `name` is in: the part before its slash, or nothing for the house's own."""
    tenant, slash, _ = name.partition("/")
    return tenant if slash else ""


def check_same_tenant(*names: str) -> None:
    """Return if all of `names` are in one namespace: no tenant's key is under another's policy. Raises `UsageError`."""
    if len({tenant_of(name) for name in names}) > 1:
        raise UsageError(
            "a key or a cell, and what it is under, belong to one tenant",
            remedy="Name both TENANT/NAME with the same tenant, or both without.",
        )
