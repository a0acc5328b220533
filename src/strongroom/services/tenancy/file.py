"""The file of tenants: TOML, judged whole before a worker starts, with a digest that its measured configuration names.

Knows: the file's form. Does not know: requests, time. Default deny: an unknown, missing or empty member refuses the file, and each limit
is given, if only as "unlimited".
Not covered: changes while a worker lives; another file is another configuration, hence another worker.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from strongroom.crypto import jwks
from strongroom.errors import FileUnreadable, MalformedRecord, StrongroomError, UsageError
from strongroom.records.digest import Digest, digest_bytes, frame, is_digest

MAX_FILE = 1 << 20
VERSION = 1
UNLIMITED = "unlimited"
LIMITS = ("requests_per_minute", "tokens_per_minute", "tokens_per_day", "concurrent")
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}\Z")
_MOST = 1 << 40


@dataclass(frozen=True, slots=True)
class Issuer:
    """Who signs OIDC tokens: its `iss`, the `aud` that tokens for here have, its keys, and the algorithms it may use."""

    url: str
    audience: str
    keys: tuple[jwks.PublicKey, ...]
    algorithms: frozenset[str]


@dataclass(frozen=True, slots=True)
class Member:
    """Whose tokens are a tenant's: those of the issuer named `issuer` whose `claim` is `value`, or a list that holds it."""

    issuer: str
    claim: str
    value: str


@dataclass(frozen=True, slots=True)
class Tenant:
    """One tenant. A limit is None where there is none; `concurrent` counts requests, the others what their names say."""

    name: str
    keys: tuple[Digest, ...]
    members: tuple[Member, ...]
    requests_per_minute: int | None
    tokens_per_minute: int | None
    tokens_per_day: int | None
    concurrent: int | None


@dataclass(frozen=True, slots=True)
class Tenants:
    """All tenants of a worker and the issuers whose tokens count, by name; `digest` is over every byte that says so."""

    tenants: tuple[Tenant, ...]
    issuers: Mapping[str, Issuer]
    digest: Digest


def read_tenants(path: Path) -> Tenants:
    """The file at `path`, and beside it the key sets that it names. Raises `UsageError`, `FileUnreadable`."""
    data = _read(path)
    document = _table(_parsed(data), "the file", {"version", "tenant"}, {"issuer"})
    if type(document["version"]) is not int or document["version"] != VERSION:
        raise _wrong("version", f"must be {VERSION}")
    framed, issuers = frame("strongroom/tenants/v1", data), dict[str, Issuer]()
    for number, given in enumerate(_list(document.get("issuer", []), "issuer")):
        where = f"issuer {number + 1}"
        table = _table(given, where, {"name", "url", "audience", "jwks", "algorithms"})
        name, keys = _name(table, where), _read(path.parent / _text(table, "jwks", where))
        issuer = _issuer(table, where, keys)
        if name in issuers or issuer.url in {other.url for other in issuers.values()}:
            raise _wrong(where, "is there twice")
        issuers[name] = issuer
        framed += frame("jwks", keys)
    found = [_tenant(given, f"tenant {n + 1}", issuers) for n, given in enumerate(_list(document["tenant"], "tenant"))]
    _check_apart(found)
    return Tenants(tuple(found), issuers, digest_bytes(framed))


def _issuer(table: Mapping[str, Any], where: str, keys: bytes) -> Issuer:
    algorithms = frozenset(_texts(table, "algorithms", where))
    if not algorithms or not algorithms <= jwks.ALGORITHMS:
        raise _wrong(where, f"must have algorithms out of {', '.join(sorted(jwks.ALGORITHMS))}")
    try:
        public = jwks.parse_set(keys)
    except MalformedRecord as error:
        raise _wrong(where, f"has no set of public keys: {error.message}") from None
    return Issuer(_text(table, "url", where), _text(table, "audience", where), public, algorithms)


def _tenant(given: Any, where: str, issuers: Mapping[str, Issuer]) -> Tenant:
    table = _table(given, where, {"name", *LIMITS}, {"keys", "members"})
    keys, members = _texts(table, "keys", where) if "keys" in table else (), list[Member]()
    for item in _list(table.get("members", []), f"{where}: members"):
        fields = _table(item, f"{where}: members", {"issuer", "claim", "value"})
        members.append(Member(*(_text(fields, name, where) for name in ("issuer", "claim", "value"))))
    if not keys and not members:
        raise _wrong(where, "has neither keys nor members, so nobody could ask")
    if not all(is_digest(key) for key in keys):
        raise _wrong(where, "has a key that is not the digest of one (`strongroom tenants key`)")
    if any(member.issuer not in issuers for member in members):
        raise _wrong(where, "has members of an issuer that the file does not describe")
    limits = {name: _limit(table[name], f"{where}: {name}") for name in LIMITS}
    return Tenant(_name(table, where), tuple(Digest(key) for key in keys), tuple(members), **limits)


def _check_apart(tenants: list[Tenant]) -> None:
    """No name, key or member stands for two tenants."""
    if not tenants:
        raise _wrong("the file", "has no tenant")
    things: list[list[Any]] = [
        [tenant.name for tenant in tenants],
        [key for tenant in tenants for key in tenant.keys],
        [member for tenant in tenants for member in tenant.members],
    ]
    if any(len(set(each)) != len(each) for each in things):
        raise _wrong("the file", "has a name, a key or a member twice")


def _limit(value: Any, where: str) -> int | None:
    if value == UNLIMITED:
        return None
    if type(value) is not int or not 1 <= value <= _MOST:
        raise _wrong(where, f'must be a whole number of 1 or more, or "{UNLIMITED}"')
    return value


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE + 1)
    except OSError as error:
        raise FileUnreadable(f"{path}: {error.strerror}") from None
    if len(data) > MAX_FILE:
        raise FileUnreadable(f"{path} exceeds {MAX_FILE} bytes")
    return data


def _parsed(data: bytes) -> Any:
    try:
        return tomllib.loads(data.decode("utf-8"))
    except (ValueError, RecursionError):
        raise _wrong("the file", "is not TOML in UTF-8") from None


def _table(value: Any, where: str, needed: set[str], optional: set[str] | None = None) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise _wrong(where, "must be a table")
    odd = sorted((needed - set(value)) | (set(value) - needed - (optional or set())))
    if odd:
        raise _wrong(where, f"lacks {odd[0][:40]!r}" if odd[0] in needed else f"has the unknown member {odd[0][:40]!r}")
    return value


def _list(value: Any, where: str) -> list[Any]:
    if not isinstance(value, list):
        raise _wrong(where, "must be a list")
    return value


def _texts(table: Mapping[str, Any], name: str, where: str) -> tuple[str, ...]:
    values = _list(table[name], f"{where}: {name}")
    if not all(isinstance(value, str) for value in values):
        raise _wrong(f"{where}: {name}", "must be a list of texts")
    return tuple(values)


def _text(table: Mapping[str, Any], name: str, where: str) -> str:
    value = table[name]
    if not isinstance(value, str) or not value:
        raise _wrong(f"{where}: {name}", "must be text")
    return value


def _name(table: Mapping[str, Any], where: str) -> str:
    name = _text(table, "name", where)
    if _NAME.match(name) is None:
        raise _wrong(where, "has a name that is not up to 63 of a-z, 0-9 and -")
    return name


def _wrong(where: str, what: str) -> StrongroomError:
    return UsageError(f"tenants: {where} {what}", remedy="See docs/how-to/serve-tenants.md.", detail=where)
