"""Frames between a worker and its confined engine: length, request number, kind, payload.

Knows: `!IIB` (payload length, request number, kind), then the payload: JSON, UTF-8. A piece of an answer travels as the engine
wrote it, so that no token is encoded twice. Does not know: what the payloads mean.
The parser is total: an unknown kind or an oversize frame raises `MalformedMessage`; what is incomplete waits for more.
"""

from __future__ import annotations

import enum
import json
import struct
from typing import Any, NamedTuple

from strongroom.errors import MalformedMessage

MAX_PAYLOAD = 32 * 1024 * 1024
_HEADER = struct.Struct("!IIB")
MAX_NUMBER = 2**32 - 1


class Kind(enum.IntEnum):
    """Below 16 the worker speaks, from 16 on the engine."""

    LOAD = 1
    GENERATE = 2
    CANCEL = 3
    HELLO = 16
    LOADED = 17
    CHUNK = 18
    END = 19
    FAILED = 20


_KINDS = {int(kind): kind for kind in Kind}
FROM_WORKER = frozenset({Kind.LOAD, Kind.GENERATE, Kind.CANCEL})
FROM_ENGINE = frozenset(Kind) - FROM_WORKER


class Frame(NamedTuple):
    """`number` is the request's; 0 where a frame belongs to none."""

    kind: Kind
    number: int
    payload: bytes


def pack(kind: Kind, number: int = 0, payload: bytes = b"") -> bytes:
    """One frame. Raises `MalformedMessage` if the payload is larger than `MAX_PAYLOAD` bytes."""
    if len(payload) > MAX_PAYLOAD:
        raise MalformedMessage(f"{len(payload)} bytes exceed the {MAX_PAYLOAD} that go to an engine at once")
    return _HEADER.pack(len(payload), number, kind) + payload


def to_json(value: Any) -> bytes:
    """JSON in ASCII, so that no text is too odd to travel. Raises `MalformedMessage` for what JSON cannot say."""
    try:
        return json.dumps(value, separators=(",", ":"), allow_nan=False).encode("ascii")
    except (TypeError, ValueError, RecursionError):
        raise MalformedMessage("a value that JSON cannot hold") from None


def from_json(payload: bytes) -> dict[str, Any]:
    """A payload that must be a JSON object. Raises `MalformedMessage`."""
    try:
        value = json.loads(payload)
    except (ValueError, RecursionError):
        raise MalformedMessage("a payload that is not JSON") from None
    if not isinstance(value, dict):
        raise MalformedMessage("a payload that is not a JSON object")
    return value


class FrameReader:
    """Cuts a stream of bytes into frames of the kinds that this side may receive."""

    def __init__(self, kinds: frozenset[Kind]) -> None:
        self._kinds = kinds
        self._waiting = bytearray()

    def feed(self, data: bytes) -> list[Frame]:
        """The frames that are complete now. Raises `MalformedMessage`; then the peer is not to be talked to any more."""
        self._waiting += data
        frames = []
        at = 0
        while len(self._waiting) - at >= _HEADER.size:
            length, number, kind = _HEADER.unpack_from(self._waiting, at)
            if kind not in self._kinds or length > MAX_PAYLOAD:
                raise MalformedMessage(f"a frame of kind {kind} and {length} bytes")
            end = at + _HEADER.size + length
            if len(self._waiting) < end:
                break
            frames.append(Frame(_KINDS[kind], number, bytes(self._waiting[at + _HEADER.size : end])))
            at = end
        del self._waiting[:at]
        return frames
