"""One strict codec for all records that travel: frozen dataclass <-> canonical JSON (RFC 8785).

Knows: types of fields, the `type` member that carries name and version, limits. Does not know: what any record means.

What it refuses, always with `MalformedRecord`: unknown, missing and duplicate members, another type or version, floats,
a value of the wrong JSON type, base64 that is not canonical, text that is not UTF-8, trailing bytes, more than
`MAX_BYTES` or `MAX_DEPTH`. Bytes are base64url without padding (RFC 4648 section 5).
Not covered: CBOR; it comes with the kinds of evidence that need it.
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
import enum
import json
import types
import typing
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, Literal, TypeVar, get_args, get_origin

import rfc8785

from strongroom.errors import MalformedRecord

T = TypeVar("T")

MAX_BYTES = 4 * 1024 * 1024
MAX_DEPTH = 24
MAX_INTEGER = 2**53 - 1


def encode(record: object) -> bytes:
    """The canonical bytes of `record` (RFC 8785), the only bytes that are hashed or signed."""
    value = to_json(record)
    # Without floats, and where all text is ASCII, the standard library's JSON is canonical too, and many times faster.
    text = json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return text.encode("ascii") if text.isascii() else rfc8785.dumps(value)


def decode(kind: type[T], data: bytes | str) -> T:
    """Parse `data` as a record of type `kind`. Raises `MalformedRecord`."""
    return from_json(kind, parse_json(data))


def parse_json(data: bytes | str, *, limit: int = MAX_BYTES, read_float: Callable[[str], Any] | None = None) -> Any:
    """JSON without duplicates, floats, NaN, deep nesting or trailing bytes. Raises `MalformedRecord`.

    Foreign formats may write whole numbers as floats: `read_float` then says what such a text means, or raises.
    """
    if len(data) > limit:
        raise MalformedRecord(f"a record of {len(data)} bytes exceeds the limit of {limit}")
    try:
        text = data.decode("utf-8") if isinstance(data, bytes) else data
        value = json.loads(
            text, object_pairs_hook=_no_duplicates, parse_float=read_float or _no_float, parse_constant=_no_float
        )
        if isinstance(data, str) or "\\u" in text:  # half of a surrogate pair is no text, and could not be hashed
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except MalformedRecord:
        raise
    except (ValueError, RecursionError) as error:
        raise MalformedRecord("this is not JSON", detail=type(error).__name__) from None
    _check_depth(value, MAX_DEPTH)
    return value


def to_json(value: object) -> Any:  # noqa: PLR0911 (one line a type)
    """`value` as plain JSON types; records gain their `type` member."""
    kind: Any = type(value)
    if value is None or kind is str or kind is bool:  # most of all values, so they come first
        return value
    if kind is bytes:
        return b64encode(typing.cast("bytes", value))
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, str):
        return value
    if isinstance(value, int):
        if abs(value) > MAX_INTEGER:
            raise MalformedRecord("an integer exceeds what JSON carries exactly")
        return value
    if isinstance(value, bytes):
        return b64encode(value)
    if isinstance(value, tuple | list):
        return [to_json(item) for item in value]
    if isinstance(value, dict | types.MappingProxyType | Mapping):
        return {str(key): to_json(item) for key, item in value.items()}
    hook = getattr(value, "__to_json__", None)
    if hook is not None:
        return hook()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        members = {name: to_json(getattr(value, name)) for name in _names(kind)}
        name = record_type(kind)
        return {"type": name, **members} if name else members
    raise MalformedRecord(f"a {kind.__name__} cannot travel in a record")


def from_json(kind: type[T], value: Any) -> T:
    """The opposite of `to_json`, for a value already parsed. Raises `MalformedRecord`."""
    return typing.cast("T", _decode(kind, value, kind.__name__))


def record_type(kind: type) -> str | None:
    """The name and version that a record class carries in its `TYPE`, or None for a part of a record."""
    name = kind.__dict__.get("TYPE")
    return name if isinstance(name, str) else None


def b64encode(data: bytes) -> str:
    """Base64url without padding (RFC 4648 section 5)."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def b64decode(text: str) -> bytes:
    """Canonical base64url without padding. Raises `MalformedRecord` for anything else, also for non-zero spare bits."""
    try:
        data = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (ValueError, binascii.Error):
        raise MalformedRecord("this is not base64url") from None
    if b64encode(data) != text:
        raise MalformedRecord("this base64url is not canonical")
    return data


@cache
def _names(kind: Any) -> tuple[str, ...]:
    return tuple(field.name for field in dataclasses.fields(kind))


@cache
def hints(kind: type) -> dict[str, Any]:
    """The resolved types of the fields of a record class."""
    resolved = typing.get_type_hints(kind)
    return {field.name: resolved[field.name] for field in dataclasses.fields(kind)}


def _decode(hint: Any, value: Any, where: str) -> Any:
    supertype = getattr(hint, "__supertype__", None)
    if supertype is not None:
        return _check_new_type(hint, _decode(supertype, value, where), where)
    origin = get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        return _decode_optional(hint, value, where)
    if origin is Literal:
        return _expect(value in get_args(hint) and type(value) in {type(a) for a in get_args(hint)}, value, where)
    if origin is tuple:
        item = get_args(hint)[0]
        _expect(isinstance(value, list), value, where)
        return tuple(_decode(item, element, f"{where}[{index}]") for index, element in enumerate(value))
    if origin is not None and issubclass(origin, Mapping):
        _expect(isinstance(value, dict), value, where)
        item = get_args(hint)[1]
        return types.MappingProxyType({key: _decode(item, element, f"{where}.{key}") for key, element in value.items()})
    return _decode_plain(hint, value, where)


def _decode_plain(hint: Any, value: Any, where: str) -> Any:
    if hint is bytes:
        _expect(isinstance(value, str), value, where)
        return b64decode(value)
    if hint is bool or hint is str:
        return _expect(type(value) is hint, value, where)
    if hint is int:
        return _expect(type(value) is int and abs(value) <= MAX_INTEGER, value, where)
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        try:
            return hint(value)
        except ValueError:
            raise MalformedRecord(f"{where} has a value that it cannot have") from None
    if hasattr(hint, "__from_json__"):
        return hint.__from_json__(value, where)
    if dataclasses.is_dataclass(hint):
        return _decode_record(hint, value, where)
    raise MalformedRecord(f"{where} is of a type that cannot travel")


def _decode_record(kind: Any, value: Any, where: str) -> Any:
    _expect(isinstance(value, dict), value, where)
    members = dict(value)
    name = record_type(kind)
    if name is not None:
        found = members.pop("type", None)
        if found != name:
            raise MalformedRecord(
                f"{where} is not a {name}", detail="type", remedy="Another type or an unknown version."
            )
    known = hints(kind)
    unknown, missing = sorted(members.keys() - known.keys()), sorted(known.keys() - members.keys())
    if unknown:
        raise MalformedRecord(f"{where} has the unknown member {unknown[0][:64]!r}", detail="unknown member")
    if missing:
        raise MalformedRecord(f"{where} lacks the member {missing[0]!r}", detail="missing member")
    fields = {key: _decode(hint, members[key], f"{where}.{key}") for key, hint in known.items()}
    try:
        return kind(**fields)
    except (ValueError, TypeError) as error:
        raise MalformedRecord(f"{where}: {error}") from None


def _decode_optional(hint: Any, value: Any, where: str) -> Any:
    options = [option for option in get_args(hint) if option is not type(None)]
    if value is None and type(None) in get_args(hint):
        return None
    if len(options) == 1:
        return _decode(options[0], value, where)
    for option in options:  # a union of plain types, such as str | int: the JSON type decides
        try:
            return _decode(option, value, where)
        except MalformedRecord:
            continue
    raise MalformedRecord(f"{where} has a value of the wrong type")


def _check_new_type(hint: Any, value: Any, where: str) -> Any:
    check = NEW_TYPES.get(hint.__name__)
    if check is None or not check(value):
        raise MalformedRecord(f"{where} is not a {hint.__name__}")
    return hint(value)


def _expect(condition: bool, value: Any, where: str) -> Any:  # noqa: FBT001 (an assertion)
    if not condition:
        raise MalformedRecord(f"{where} has a value of the wrong type or kind")
    return value


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise MalformedRecord("a member occurs twice")
    return members


def _no_float(_: str) -> Any:
    raise MalformedRecord("a record holds no floating-point numbers")


def _check_depth(value: Any, left: int) -> None:
    if left == 0:
        raise MalformedRecord("this record is nested too deeply")
    children = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for child in children:
        _check_depth(child, left - 1)


# Checks of the NewTypes that records use; `records.digest` fills it. An unknown NewType is refused.
NEW_TYPES: dict[str, Any] = {}
