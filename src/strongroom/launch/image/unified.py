"""Unified kernel images, written: sections added to systemd's stub, one way only.

Knows: where a PE32+ file keeps its table of sections and sizes (Microsoft "PE Format"), and the sections of the UKI
specification. Does not know: what is in them; `measure.pe` and `measure.uki` read the result again. Not covered: signing.
"""

from __future__ import annotations

from collections.abc import Sequence

from strongroom.errors import MalformedImage
from strongroom.launch.measure.bounds import little, part
from strongroom.launch.measure.pe import COFF_BYTES, HEADER_POINTER, SECTION_BYTES, parse_program

SECTION_ALIGNMENT, FILE_ALIGNMENT, IMAGE_SIZE, CHECKSUM = 32, 36, 56, 64
READ_INITIALISED = 0x4000_0040
MAX_MEMORY = 1 << 31


def unify(stub: bytes, sections: Sequence[tuple[str, bytes]]) -> bytes:
    """The stub with `sections` behind its own, in this order. Raises `MalformedImage` where they do not fit."""
    program = parse_program(stub)
    if program.signatures:
        raise MalformedImage("the stub is signed: what is added would break its signature")
    start = little(stub, HEADER_POINTER, 4, "the PE header")
    optional = start + COFF_BYTES
    align_memory, align_file = (
        little(stub, optional + at, 4, "an alignment") for at in (SECTION_ALIGNMENT, FILE_ALIGNMENT)
    )
    if not (0 < align_file <= align_memory <= 1 << 16 and align_memory % align_file == 0):
        raise MalformedImage("the alignment of the stub's sections is odd")
    count = len(program.sections)
    table = optional + little(stub, start + 20, 2, "the header") + SECTION_BYTES * count
    starts = [one.start for one in program.sections if one.size]
    if not starts:
        raise MalformedImage("the stub has no sections")
    room = min(starts) - table
    if room < SECTION_BYTES * len(sections) or any(part(stub, table, SECTION_BYTES * len(sections), "the table")):
        raise MalformedImage("the stub has no room for more sections")
    made = bytearray(stub)
    memory = max(_end(stub, table - SECTION_BYTES * (count - number)) for number in range(count))
    for number, (name, data) in enumerate(sections):
        memory += -memory % align_memory
        made += bytes(-len(made) % align_file)
        header = name.encode("ascii").ljust(8, b"\0")
        size = len(data) + -len(data) % align_file
        for value in (len(data), memory, size, len(made), 0, 0, 0, READ_INITIALISED):
            header += value.to_bytes(4, "little")
        if len(header) != SECTION_BYTES or memory + len(data) > MAX_MEMORY:
            raise MalformedImage(f"the section {name[:16]} does not fit")
        made[table + SECTION_BYTES * number : table + SECTION_BYTES * (number + 1)] = header
        made += data + bytes(size - len(data))
        memory += len(data)
    memory += -memory % align_memory
    made[start + 6 : start + 8] = (count + len(sections)).to_bytes(2, "little")
    made[optional + IMAGE_SIZE : optional + IMAGE_SIZE + 4] = memory.to_bytes(4, "little")
    made[optional + CHECKSUM : optional + CHECKSUM + 4] = bytes(4)
    return bytes(made)


def _end(stub: bytes, header: int) -> int:
    return little(stub, header + 8, 4, "a section") + little(stub, header + 12, 4, "a section")
