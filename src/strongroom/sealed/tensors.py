"""The header of a safetensors file: which tensors it holds, and where.

Format (github.com/huggingface/safetensors, README, section Format): u64 (little-endian) length of the header; the header,
JSON: name -> {dtype, shape, data_offsets [begin, end)} relative to its end, and `__metadata__`; then the tensors' bytes,
which leave no holes and do not overlap.

Knows: the header. Does not know: encryption, frameworks. Total: whatever is not exactly this has no map.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from strongroom.records.artifact import MAX_TENSORS, Tensor

MAX_HEADER_BYTES = 16 * 1024 * 1024
LENGTH_BYTES = 8
METADATA = "__metadata__"
_MEMBERS = {"dtype", "shape", "data_offsets"}


def tensors_of(read: Callable[[int, int], bytes], size: int) -> tuple[Tensor, ...]:
    """The map of a file of `size` bytes that is read by `read(offset, length)`; empty for what is no safetensors file."""
    if size < LENGTH_BYTES:
        return ()
    length = int.from_bytes(read(0, LENGTH_BYTES), "little")
    if not 0 < length <= min(MAX_HEADER_BYTES, size - LENGTH_BYTES):
        return ()
    try:
        header = json.loads(read(LENGTH_BYTES, length), object_pairs_hook=_once)
        return _mapped(header, LENGTH_BYTES + length, size)
    except (ValueError, TypeError, KeyError, RecursionError):
        return ()


def _mapped(header: Any, start: int, size: int) -> tuple[Tensor, ...]:
    """Raises `ValueError`, `TypeError` or `KeyError` for another form."""
    if not isinstance(header, dict):
        raise TypeError("a header that is no object")
    named = {name: entry for name, entry in header.items() if name != METADATA}
    if len(named) > MAX_TENSORS:
        raise ValueError("too many tensors")
    found = sorted((_tensor(name, entry, start) for name, entry in named.items()), key=lambda t: (t.start, t.end))
    at = start
    for tensor in found:
        if tensor.start != at:
            raise ValueError("a hole, or two tensors in one place")
        at = tensor.end
    if at != size:
        raise ValueError("bytes behind the last tensor")
    return tuple(found)


def _tensor(name: str, entry: Mapping[str, Any], start: int) -> Tensor:
    if not isinstance(entry, dict) or entry.keys() != _MEMBERS:
        raise ValueError("an entry of another form")
    shape, (begin, end) = entry["shape"], entry["data_offsets"]
    numbers = [*shape, begin, end]
    if not isinstance(entry["dtype"], str) or any(type(number) is not int for number in numbers):
        raise ValueError("an entry of another form")
    return Tensor(name, entry["dtype"], tuple(shape), start + begin, start + end)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name that occurs twice")
    return found
