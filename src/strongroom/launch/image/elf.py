"""Native files as a loader wants them: without what only a debugger reads.

Knows: the ELF header and the program headers of 64-bit little-endian files (System V ABI, "ELF Header", "Program Header"), which name all
that is ever loaded. Sections are for linkers and debuggers: of a program or a shared library everything behind the last segment
goes, and the table of sections with it. Does not know: what is in a segment. Total over any bytes: what is no such file stays as it is.
"""

from __future__ import annotations

import struct

_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_SEGMENT = struct.Struct("<IIQQQQQQ")
_MAGIC = b"\x7fELF\x02\x01"
"""64 bits, little-endian."""
EXECUTABLE, SHARED = 2, 3
"""Kernel modules and object files (1) are put together by their sections and keep them."""
MAX_SEGMENTS = 128


def strip(data: bytes) -> bytes:
    """A program or a shared library without its sections; anything else unchanged."""
    if len(data) < _HEADER.size or not data.startswith(_MAGIC):
        return data
    names = list(_HEADER.unpack_from(data))
    kind, table, each, count = names[1], names[5], names[9], names[10]
    if kind not in {EXECUTABLE, SHARED} or each != _SEGMENT.size or not 0 < count <= MAX_SEGMENTS:
        return data
    end = table + each * count
    if end > len(data):
        return data
    for number in range(count):
        segment = _SEGMENT.unpack_from(data, table + number * each)
        end = max(end, segment[2] + segment[5])
    if end > len(data):
        return data
    names[6], names[11:] = 0, [0, 0, 0]  # no table of sections, of no size, with no names
    return _HEADER.pack(*names) + data[_HEADER.size : end]
