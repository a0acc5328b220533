"""CBOR (RFC 8949): foreign bytes read strictly, our own written deterministically (section 4.2.1).

Knows: which items are admitted, and how a map is taken apart member by member. Does not know: what any of it means.
Safety: every head is walked before the decoder sees a byte, so nothing is built from a length that is not there, from
a tag that nobody asked for (shared references, big numbers, patterns) or from a second spelling of a number. Refused:
floating point, `undefined` and other simple values, tags that the caller does not name, keys that are not integers or
strings, the same key twice, lengths that are not the shortest, anything after the end; and lengths left open, unless
the caller admits them because a vendor's device writes them. Not covered: sequences of items.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, TypeAlias

import cbor2

from strongroom.errors import MalformedEvidence, UsageError

Tag: TypeAlias = cbor2.CBORTag
"""A tagged item: `tag` is its number, `value` what it holds."""
Key: TypeAlias = int | str

MAX_BYTES = 64 * 1024
MAX_DEPTH = 16

_UINT, _NEGATIVE, _BYTES, _TEXT, _ARRAY, _MAP, _TAG, _SIMPLE = range(8)
_KEYS = {_UINT, _NEGATIVE, _BYTES, _TEXT}
_FALSE, _TRUE, _NULL = 20, 21, 22
_OPEN = 31
_BREAK = 0xFF
_DIRECT = 24
_WIDTHS = {24: 1, 25: 2, 26: 4, 27: 8}


def decode(
    data: bytes,
    *,
    limit: int = MAX_BYTES,
    depth: int = MAX_DEPTH,
    tags: Collection[int] = (),
    open_lengths: bool = False,
) -> Any:
    """The one item that `data` is: int, bytes, str, bool, None, tuple, read-only mapping, or a `Tag` named in `tags`.

    `limit` is the size in bytes, `depth` how many arrays, maps and tags may stand inside one another. Raises
    `MalformedEvidence`.
    """
    if len(data) > limit:
        raise MalformedEvidence(f"CBOR of {len(data)} bytes exceeds the limit of {limit}")
    walker = _Walker(data, frozenset(tags), open_lengths=open_lengths)
    walker.item(depth)
    if walker.position != len(data):
        raise MalformedEvidence(f"{len(data) - walker.position} bytes follow the end of a CBOR item")
    try:
        return cbor2.loads(data, max_depth=2 * depth + 2, allow_duplicate_keys=False, immutable=True)
    except (cbor2.CBORDecodeError, ValueError, TypeError, RecursionError):
        raise MalformedEvidence("CBOR that holds a key twice, or text that is not UTF-8") from None


def encode(value: Any) -> bytes:
    """`value` in the core deterministic encoding: shortest heads, keys in the order of their encoded bytes.

    Admits what `decode` gives, lists and dicts besides. Raises `UsageError` for anything else.
    """
    return cbor2.dumps(_ordered(value))


def _ordered(value: Any) -> Any:
    if value is None or isinstance(value, bool | bytes | str):
        return value
    if isinstance(value, int):
        if not -(1 << 64) <= value < 1 << 64:
            raise UsageError("an integer that does not fit into a CBOR head")
        return value
    if isinstance(value, Tag):
        return Tag(value.tag, _ordered(value.value))
    if isinstance(value, Mapping):
        return {key: _ordered(value[key]) for key in sorted(value, key=_encoded_key)}
    if isinstance(value, Sequence):
        return [_ordered(item) for item in value]
    raise UsageError(f"{type(value).__name__} is nothing that CBOR is written from")


def _encoded_key(key: Any) -> bytes:
    if isinstance(key, bool) or not isinstance(key, int | str | bytes):
        raise UsageError("a key of a CBOR map must be an integer or a string")
    return cbor2.dumps(_ordered(key))


class _Walker:
    """The heads of an item, one after the other, without building anything."""

    def __init__(self, data: bytes, tags: frozenset[int], *, open_lengths: bool) -> None:
        self._data = data
        self._tags = tags
        self._open = open_lengths
        self.position = 0

    def item(self, depth: int, *, key: bool = False) -> None:
        """Step over one item with at most `depth` levels in it."""
        major, argument = self._head()
        if key and major not in _KEYS:
            raise MalformedEvidence("a CBOR map has a key that is neither an integer nor a string")
        if major in {_BYTES, _TEXT}:
            self._string(major, argument)
        elif major == _SIMPLE:
            if argument not in {_FALSE, _TRUE, _NULL}:
                raise MalformedEvidence("CBOR that holds a floating-point or simple value")
        elif major in {_ARRAY, _MAP, _TAG}:
            if depth < 1:
                raise MalformedEvidence("CBOR that is nested too deeply")
            self._nested(major, argument, depth - 1)

    def _nested(self, major: int, argument: int | None, depth: int) -> None:
        if major == _TAG:
            if argument not in self._tags:
                raise MalformedEvidence(f"a CBOR tag {argument} that is not expected here")
            self.item(depth)
            return
        count = 0
        while not self._ended() if argument is None else count < argument:
            self.item(depth, key=major == _MAP)
            if major == _MAP:
                self.item(depth)
            count += 1

    def _string(self, major: int, length: int | None) -> None:
        if length is not None:
            self._skip(length)
            return
        while not self._ended():
            inner, size = self._head()
            if inner != major or size is None:
                raise MalformedEvidence("a CBOR string is made of something else than its own pieces")
            self._skip(size)

    def _head(self) -> tuple[int, int | None]:
        """Major type and argument; None where a length is left open."""
        initial = self._data[self._skip(1)]
        major, short = initial >> 5, initial & 0x1F
        if short < _DIRECT:
            return major, short
        if short == _OPEN and major in {_BYTES, _TEXT, _ARRAY, _MAP}:
            if not self._open:
                raise MalformedEvidence("CBOR with a length that is left open")
            return major, None
        width = _WIDTHS.get(short)
        if width is None or major == _SIMPLE:  # reserved, or a floating-point number, a simple value, a stray break
            raise MalformedEvidence("CBOR with a head that is not admitted")
        start = self._skip(width)
        value = int.from_bytes(self._data[start : self.position], "big")
        if value < (_DIRECT if width == 1 else 1 << (4 * width)):
            raise MalformedEvidence("CBOR with a number that is not in its shortest form")
        return major, value

    def _skip(self, length: int) -> int:
        """Move over `length` bytes, which must be there; returns where they begin."""
        start = self.position
        if length > len(self._data) - start:
            raise MalformedEvidence("CBOR that ends early")
        self.position = start + length
        return start

    def _ended(self) -> bool:
        if self.position < len(self._data) and self._data[self.position] == _BREAK:
            self.position += 1
            return True
        return False


class Fields:
    """The members of one decoded map: each is taken once, with its exact type; `end` refuses what is left over."""

    def __init__(self, value: Any, what: str) -> None:
        """`what` names the map in errors. Raises `MalformedEvidence` unless `value` is a map."""
        if not isinstance(value, Mapping):
            raise MalformedEvidence(f"{what} is not a map")
        self._left: dict[Any, Any] = dict(value)
        self._what = what

    def octets(self, key: Key, sizes: Collection[int]) -> bytes:
        """A byte string whose length is one of `sizes`."""
        found = self._take(key)
        if not isinstance(found, bytes) or len(found) not in sizes:
            raise self._wrong(key, "a byte string of an admitted length")
        return found

    def text(self, key: Key, limit: int) -> str:
        """A text of 1 to `limit` characters, printable and of ASCII, because it is shown to people."""
        found = self._take(key)
        if not isinstance(found, str) or not 1 <= len(found) <= limit or not (found.isascii() and found.isprintable()):
            raise self._wrong(key, f"a printable text of 1 to {limit} characters")
        return found

    def integer(self, key: Key, admitted: range) -> int:
        """An integer within `admitted`."""
        found = self._take(key)
        if type(found) is not int or found not in admitted:
            raise self._wrong(key, f"an integer from {admitted.start} to {admitted.stop - 1}")
        return found

    def items(self, key: Key, counts: range) -> tuple[Any, ...]:
        """An array with as many items as `counts` admits."""
        found = self._take(key)
        if not isinstance(found, tuple) or len(found) not in counts:
            raise self._wrong(key, f"an array of {counts.start} to {counts.stop - 1} items")
        return found

    def mapping(self, key: Key, counts: range) -> Mapping[Any, Any]:
        """A map with as many members as `counts` admits."""
        found = self._take(key)
        if not isinstance(found, Mapping) or len(found) not in counts:
            raise self._wrong(key, f"a map of {counts.start} to {counts.stop - 1} members")
        return found

    def has(self, key: Key, *, null: bool = False) -> bool:
        """Whether an optional member is there; with `null`, a member that is null counts as absent and is taken."""
        if null and key in self._left and self._left[key] is None:
            del self._left[key]
        return key in self._left

    def end(self) -> None:
        """Raises `MalformedEvidence` if a member was not taken: nobody knows what it means."""
        if self._left:
            raise MalformedEvidence(
                f"{self._what} has a member that is not known: {str(next(iter(self._left)))[:32]!r}"
            )

    def _take(self, key: Key) -> Any:
        if key not in self._left:
            raise MalformedEvidence(f"{self._what} lacks its member {key!r}")
        return self._left.pop(key)

    def _wrong(self, key: Key, wanted: str) -> MalformedEvidence:
        return MalformedEvidence(f"member {key!r} of {self._what} is not {wanted}")
