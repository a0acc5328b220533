"""Programs of UEFI (Microsoft PE/COFF) and the digest by which firmware measures and signs them.

Knows: headers, sections, and the Authenticode digest (Microsoft "Windows Authenticode Portable Executable Signature Format",
"Calculating the PE Image Hash"; TCG PC Client Platform Firmware Profile, 3.3.4.5), which leaves out the checksum, the
directory entry of the signatures and the signatures themselves. Does not know: what stands in a section (`uki`), whose
signature is right. Not covered: PE32 of 32-bit machines.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from strongroom.errors import MalformedImage
from strongroom.launch.measure.bounds import little, part

HEADER_POINTER = 0x3C
SIGNATURE = b"PE\0\0"
PE32_PLUS = 0x20B
COFF_BYTES, SECTION_BYTES = 24, 40
CHECKSUM, HEADERS_SIZE, DIRECTORY_COUNT, DIRECTORIES = 64, 60, 108, 112
SECURITY = 4
"""Offsets in the optional header of PE32+, and the number of the directory of signatures."""
MAX_SECTIONS = 96


@dataclass(frozen=True, slots=True)
class Section:
    """One section: its name, where its bytes lie in the file, and how many of them the image has in memory."""

    name: str
    start: int
    size: int
    virtual_size: int


@dataclass(frozen=True, slots=True)
class Program:
    """A parsed PE32+ file."""

    data: bytes
    checksum: int
    security: int
    headers: int
    signatures: int
    sections: tuple[Section, ...]

    def content(self, section: Section) -> bytes | memoryview:
        """What the section holds once it is loaded: cut or filled with zeros to its size in memory."""
        stored = part(self.data, section.start, min(section.size, section.virtual_size), section.name)
        fill = section.virtual_size - len(stored)
        return bytes(stored) + bytes(fill) if fill else stored


def parse_program(data: bytes) -> Program:
    """Read the headers of a PE32+ file. Raises `MalformedImage`."""
    if bytes(data[:2]) != b"MZ":
        raise MalformedImage("this is not a program of UEFI: it does not begin with MZ")
    start = little(data, HEADER_POINTER, 4, "the PE header")
    if part(data, start, 4, "the PE header") != SIGNATURE:
        raise MalformedImage("this is not a program of UEFI: it has no PE header")
    count, optional_size = little(data, start + 6, 2, "the sections"), little(data, start + 20, 2, "the header")
    optional = start + COFF_BYTES
    if little(data, optional, 2, "the optional header") != PE32_PLUS:
        raise MalformedImage("this program is not of a 64-bit machine")
    if count > MAX_SECTIONS:
        raise MalformedImage(f"a program of {count} sections exceeds the limit of {MAX_SECTIONS}")
    directories = little(data, optional + DIRECTORY_COUNT, 4, "the directories")
    security = optional + DIRECTORIES + 8 * SECURITY
    if directories <= SECURITY or optional_size < DIRECTORIES + 8 * (SECURITY + 1):
        raise MalformedImage("this program has no directory of signatures")
    headers = little(data, optional + HEADERS_SIZE, 4, "the headers")
    table = optional + optional_size
    part(data, table, SECTION_BYTES * count, "the table of sections")
    if not security + 8 <= headers <= len(data):
        raise MalformedImage("the headers of this program do not fit it")
    sections = tuple(_section(data, table + SECTION_BYTES * number) for number in range(count))
    return Program(
        data=data,
        checksum=optional + CHECKSUM,
        security=security,
        headers=headers,
        signatures=_signatures(data, security),
        sections=sections,
    )


def _section(data: bytes, at: int) -> Section:
    name = bytes(part(data, at, 8, "a section")).rstrip(b"\0").decode("ascii", "replace")
    virtual_size, size = little(data, at + 8, 4, name), little(data, at + 16, 4, name)
    start = little(data, at + 20, 4, name)
    if size:
        part(data, start, size, f"the section {name}")
    if virtual_size > len(data):
        raise MalformedImage(f"the section {name} is larger in memory than the whole file")
    return Section(name, start, size, virtual_size)


def _signatures(data: bytes, at: int) -> int:
    """How many bytes of signatures stand at the end."""
    start, size = little(data, at, 4, "the signatures"), little(data, at + 4, 4, "the signatures")
    if size and start + size != len(data):
        raise MalformedImage("the signatures of this program are not at its end")
    return size


def authenticode(program: Program, algorithm: str) -> bytes:
    """The Authenticode digest with a hash of `hashlib`. Raises `MalformedImage` where sections overlap."""
    data, view = program.data, memoryview(program.data)
    digest = hashlib.new(algorithm)
    digest.update(view[: program.checksum])
    digest.update(view[program.checksum + 4 : program.security])
    digest.update(view[program.security + 8 : program.headers])
    hashed = program.headers
    for section in sorted(program.sections, key=lambda one: one.start):
        if section.size:
            digest.update(part(data, section.start, section.size, section.name))
            hashed += section.size
    end = len(data) - program.signatures
    if hashed > end:
        raise MalformedImage("sections of this program overlap")
    digest.update(view[hashed:end])
    return digest.digest()
