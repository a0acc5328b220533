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
import contextlib
import dataclasses
import enum
import json
import types
import typing
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from functools import cache
from typing import Any, Literal, TypeVar, get_args, get_origin

import rfc8785

from strongroom.errors import MalformedRecord

T = TypeVar("T")

MAX_BYTES = 4 * 1024 * 1024
MAX_DEPTH = 24
MAX_INTEGER = 2**53 - 1
UTF16_UNIT = 2
_URL_SAFE = bytes.maketrans(b"+/", b"-_")
_CANONICAL = json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":"), check_circular=False)


def encode(record: object) -> bytes:
    """The canonical bytes of `record` (RFC 8785), the only bytes that are hashed or signed."""
    value = to_json(record)
    # Without floats the standard library's JSON is canonical too, and many times faster, as long as members are in the
    # order of UTF-16 code units (section 3.2.3); that is the order of code points where no character needs two units.
    text = _CANONICAL.encode(value)
    if text.isascii():
        return text.encode("ascii")
    with contextlib.suppress(UnicodeEncodeError):
        if len(text.encode("utf-16-le")) == UTF16_UNIT * len(text):
            return text.encode("utf-8")
    return rfc8785.dumps(value)


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


def to_json(value: object) -> Any:
    """`value` as plain JSON types; records gain their `type` member."""
    return _ENCODERS[type(value)](value)


def from_json(kind: type[T], value: Any) -> T:
    """The opposite of `to_json`, for a value already parsed. Raises `MalformedRecord`."""
    return typing.cast("T", _decoder(typing.cast("Any", kind))(value, kind.__name__))


def record_type(kind: type) -> str | None:
    """The name and version that a record class carries in its `TYPE`, or None for a part of a record."""
    name = kind.__dict__.get("TYPE")
    return name if isinstance(name, str) else None


def b64encode(data: bytes) -> str:
    """Base64url without padding (RFC 4648 section 5)."""
    return binascii.b2a_base64(data, newline=False).translate(_URL_SAFE, b"=").decode("ascii")


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
def hints(kind: type) -> dict[str, Any]:
    """The resolved types of the fields of a record class."""
    resolved = typing.get_type_hints(kind)
    return {field.name: resolved[field.name] for field in dataclasses.fields(kind)}


class _Encoders(dict[type, Callable[[Any], Any]]):
    """How the values of each type become JSON, found once for each type."""

    def __missing__(self, kind: type) -> Callable[[Any], Any]:
        self[kind] = encoder = _encoder(kind)
        return encoder


_ENCODERS = _Encoders()
_PLAIN = frozenset({str, bool, types.NoneType})
"""Types whose values are JSON already; most members are."""


def _encoder(kind: Any) -> Callable[[Any], Any]:  # noqa: PLR0911 (one line a type)
    if issubclass(kind, enum.Enum):
        return lambda value: value.value
    if issubclass(kind, str | bool | types.NoneType):
        return lambda value: value
    if issubclass(kind, int):
        return _exact
    if issubclass(kind, bytes):
        return b64encode
    if issubclass(kind, tuple | list):
        return lambda value: [_ENCODERS[type(item)](item) for item in value]
    if issubclass(kind, Mapping):
        return lambda value: {
            str(key): item if type(item) in _PLAIN else _ENCODERS[type(item)](item) for key, item in value.items()
        }
    if hasattr(kind, "__to_json__"):
        return lambda value: value.__to_json__()
    if dataclasses.is_dataclass(kind):
        return _record_encoder(kind)
    raise MalformedRecord(f"a {kind.__name__} cannot travel in a record")


def _record_encoder(kind: Any) -> Callable[[Any], Any]:
    names = tuple(field.name for field in dataclasses.fields(kind))
    name = record_type(kind)
    typed = {} if name is None else {"type": name}

    def encode_record(value: Any) -> dict[str, Any]:
        members = dict(typed)
        for name in names:
            member = getattr(value, name)
            member_kind = type(member)
            members[name] = member if member_kind in _PLAIN else _ENCODERS[member_kind](member)
        return members

    return encode_record


def _exact(value: int) -> int:
    if abs(value) > MAX_INTEGER:
        raise MalformedRecord("an integer exceeds what JSON carries exactly")
    return value


Decoder = Callable[[Any, str], Any]
"""From a JSON value, and where it stands, to a value of one type. Raises `MalformedRecord`."""


@cache
def _decoder(hint: Any) -> Decoder:
    supertype = getattr(hint, "__supertype__", None)
    if supertype is not None:
        return _new_type_decoder(hint, _decoder(supertype))
    origin = get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        return _union_decoder(hint)
    if origin is Literal:
        known = frozenset((type(choice), choice) for choice in get_args(hint))
        kinds = {kind for kind, _ in known}
        return lambda value, where: _expect(type(value) in kinds and (type(value), value) in known, value, where)
    if origin is tuple:
        return _tuple_decoder(_decoder(get_args(hint)[0]))
    if origin is not None and issubclass(origin, Mapping):
        return _mapping_decoder(_decoder(get_args(hint)[1]))
    return _plain_decoder(hint)


def _plain_decoder(hint: Any) -> Decoder:  # noqa: PLR0911 (one line a type)
    if hint is bytes:
        return lambda value, where: b64decode(_expect(type(value) is str, value, where))
    if hint is bool or hint is str:
        return lambda value, where: _expect(type(value) is hint, value, where)
    if hint is int:
        return lambda value, where: _expect(type(value) is int and abs(value) <= MAX_INTEGER, value, where)
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return _enum_decoder(hint)
    if hasattr(hint, "__from_json__"):
        return typing.cast("Decoder", hint.__from_json__)
    if dataclasses.is_dataclass(hint):
        return _record_decoder(hint)
    return _decode_nothing


def _record_decoder(kind: Any) -> Decoder:
    name = record_type(kind)
    decoders: dict[str, Decoder] = {}  # filled when it is first used, since a record may hold its own kind

    def decode_record(value: Any, where: str) -> Any:
        _expect(isinstance(value, dict), value, where)
        if name is not None and value.get("type") != name:
            raise MalformedRecord(
                f"{where} is not a {name}", detail="type", remedy="Another type or an unknown version."
            )
        if not decoders:
            decoders.update({key: _decoder(hint) for key, hint in hints(kind).items()})
        members = value.keys() if name is None else value.keys() - {"type"}
        if members != decoders.keys():
            raise _another_shape(members, decoders.keys(), where)
        fields = {key: decoder(value[key], f"{where}.{key}") for key, decoder in decoders.items()}
        try:
            return kind(**fields)
        except (ValueError, TypeError) as error:
            raise MalformedRecord(f"{where}: {error}") from None

    return decode_record


def _another_shape(members: AbstractSet[str], known: AbstractSet[str], where: str) -> MalformedRecord:
    unknown, missing = sorted(members - known), sorted(known - members)
    if unknown:
        return MalformedRecord(f"{where} has the unknown member {unknown[0][:64]!r}", detail="unknown member")
    return MalformedRecord(f"{where} lacks the member {missing[0]!r}", detail="missing member")


def _tuple_decoder(item: Decoder) -> Decoder:
    def decode_tuple(value: Any, where: str) -> Any:
        _expect(isinstance(value, list), value, where)
        return tuple(item(element, f"{where}[{index}]") for index, element in enumerate(value))

    return decode_tuple


def _mapping_decoder(item: Decoder) -> Decoder:
    def decode_mapping(value: Any, where: str) -> Any:
        _expect(isinstance(value, dict), value, where)
        return types.MappingProxyType({key: item(element, f"{where}.{key}") for key, element in value.items()})

    return decode_mapping


def _enum_decoder(hint: Any) -> Decoder:
    def decode_enum(value: Any, where: str) -> Any:
        try:
            return hint(value)
        except ValueError:
            raise MalformedRecord(f"{where} has a value that it cannot have") from None

    return decode_enum


def _union_decoder(hint: Any) -> Decoder:
    """A union of plain types, such as str | int: the JSON type decides."""
    optional = type(None) in get_args(hint)
    options = [_decoder(option) for option in get_args(hint) if option is not type(None)]

    def decode_union(value: Any, where: str) -> Any:
        if value is None and optional:
            return None
        if len(options) == 1:
            return options[0](value, where)
        for option in options:
            with contextlib.suppress(MalformedRecord):
                return option(value, where)
        raise MalformedRecord(f"{where} has a value of the wrong type")

    return decode_union


def _new_type_decoder(hint: Any, inner: Decoder) -> Decoder:
    def decode_new_type(value: Any, where: str) -> Any:
        found = inner(value, where)
        check = NEW_TYPES.get(hint.__name__)
        if check is None or not check(found):
            raise MalformedRecord(f"{where} is not a {hint.__name__}")
        return found

    return decode_new_type


def _decode_nothing(_: Any, where: str) -> Any:
    raise MalformedRecord(f"{where} is of a type that cannot travel")


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
