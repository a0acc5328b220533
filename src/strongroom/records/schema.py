"""JSON Schemas (2020-12) of the records, made from the same types that the codec reads.

Knows: how each type of field looks in JSON. Does not know: any record. The codec stays the judge: a schema cannot say
"no duplicate members" or "canonical base64url".
"""

from __future__ import annotations

import dataclasses
import enum
import types
import typing
from collections.abc import Mapping
from typing import Any, Literal, get_args, get_origin

from strongroom.records import codec

DIALECT = "https://json-schema.org/draft/2020-12/schema"
BASE64 = {"type": "string", "pattern": "^[A-Za-z0-9_-]*$", "contentEncoding": "base64url"}
DIGEST = {"type": "string", "pattern": "^sha256:[0-9a-f]{64}$"}
ENVELOPE = {
    "type": "object",
    "properties": {
        "payloadType": {"type": "string"},
        "payload": {"type": "string", "contentEncoding": "base64"},
        "signatures": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "properties": {"keyid": {"type": "string"}, "sig": {"type": "string", "contentEncoding": "base64"}},
                "required": ["sig"],
                "additionalProperties": False,
            },
        },
    },
    "required": ["payloadType", "payload", "signatures"],
    "additionalProperties": False,
}


def schema(kind: type) -> dict[str, Any]:
    """The schema of one record class."""
    name = codec.record_type(kind) or kind.__name__
    return {"$schema": DIALECT, "$id": f"urn:{name.replace('/', ':')}", "title": name, **_record(kind)}


def _record(kind: type) -> dict[str, Any]:
    members = {name: _type(hint) for name, hint in codec.hints(kind).items()}
    name = codec.record_type(kind)
    if name is not None:
        members = {"type": {"const": name}, **members}
    return {
        "type": "object",
        "description": (kind.__doc__ or "").strip().split("\n")[0],
        "properties": members,
        "required": list(members),
        "additionalProperties": False,
    }


def _type(hint: Any) -> dict[str, Any]:  # noqa: PLR0911 (one line a type)
    if hint is bytes:
        return dict(BASE64)
    plain = {str: "string", bool: "boolean", int: "integer"}.get(hint)
    if plain is not None:
        return {"type": plain}
    if getattr(hint, "__name__", "") == "Digest":
        return dict(DIGEST)
    if getattr(hint, "__name__", "") == "Envelope":
        return ENVELOPE
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return {"anyOf": [{"type": "null"} if item is type(None) else _type(item) for item in arguments]}
    if origin is Literal:
        return {"enum": list(arguments)}
    if origin is tuple:
        return {"type": "array", "items": _type(arguments[0])}
    if origin is not None and issubclass(origin, Mapping):
        return {"type": "object", "additionalProperties": _type(arguments[1])}
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return {"enum": [member.value for member in hint]}
    own = getattr(hint, "SCHEMA", None)
    if isinstance(own, dict):
        return own
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return _record(hint)
    raise TypeError(f"{hint} has no schema")
