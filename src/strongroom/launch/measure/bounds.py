"""Reading numbers out of files that somebody else made, never past their end.

Knows: offsets and little-endian integers. Does not know: any format.
"""

from __future__ import annotations

from strongroom.errors import MalformedImage

MAX_IMAGE_BYTES = 1 << 30
"""Of any one file that is measured: a gigabyte."""


def part(data: bytes, start: int, length: int, what: str) -> memoryview:
    """`length` bytes from `start`, without a copy. Raises `MalformedImage` where they are not all there."""
    if start < 0 or length < 0 or start + length > len(data):
        raise MalformedImage(f"{what} lies outside the file")
    return memoryview(data)[start : start + length]


def little(data: bytes, start: int, length: int, what: str) -> int:
    """A little-endian number. Raises `MalformedImage`."""
    return int.from_bytes(part(data, start, length, what), "little")
