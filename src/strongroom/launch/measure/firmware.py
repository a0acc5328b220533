"""OVMF: its table of GUIDs, what it tells TDX and SEV-SNP to load, and its file of variables.

Knows: the GUIDed table that ends 32 bytes before the end of the firmware (edk2, `OvmfPkg/ResetVector/Ia16/ResetVectorVtf0.asm`),
the TDVF descriptor (Intel "TDX Virtual Firmware Design Guide", section 11), OVMF's SEV metadata
(edk2, `OvmfPkg/ResetVector/X64/OvmfSevMetadata.asm`), and the authenticated variable store (edk2,
`MdeModulePkg/Include/Guid/VariableFormat.h`). Does not know: what these become in a register (`tdx`, `snp`, `tpm`).
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass

from strongroom.errors import MalformedImage
from strongroom.launch.measure.bounds import little, part

FOOTER = "96b582de-1fb2-45f7-baea-a366c55a082d"
TDX_METADATA = "e47a6535-984a-4798-865e-4685a7bf8ec2"
SEV_METADATA = "dc886566-984a-4798-a75e-5585a7bf67cc"
SEV_HASHES = "7255371f-3a3b-4b04-927b-1da6efa8d454"
SEV_RESET = "00f771de-1a7e-4fcb-890e-68c77e2fb44e"
TAIL, ENTRY_BYTES, GUID_BYTES = 32, 18, 16
MAX_SECTIONS, PAGE = 64, 4096
MAX_FIRMWARE, MAX_ADDRESS = 64 << 20, 1 << 64

VOLUME = "fff12b8d-7696-4c8b-a985-2747075b4f50"
STORE = "aaf32c78-947b-439a-a180-2e144ec37792"
STORE_BYTES, VARIABLE_BYTES = 28, 60
START, ADDED = 0x55AA, 0x3F
MAX_VARIABLES = 1024


@dataclass(frozen=True, slots=True)
class TdxSection:
    """One section of a TDVF: where its bytes lie in the file, where in memory, its type and attributes."""

    offset: int
    size: int
    address: int
    memory: int
    kind: int
    attributes: int


@dataclass(frozen=True, slots=True)
class SevSection:
    """One area that SEV-SNP firmware wants prepared: address, size, type."""

    address: int
    size: int
    kind: int


def guid_table(firmware: bytes) -> Mapping[str, bytes]:
    """The entries of OVMF's table, by GUID. Raises `MalformedImage`, also if there is none."""
    if len(firmware) > MAX_FIRMWARE or len(firmware) % PAGE:
        raise MalformedImage("this is not a firmware: its size is not of whole pages, or too large")
    end = len(firmware) - TAIL
    if _guid(part(firmware, end - GUID_BYTES, GUID_BYTES, "the table of the firmware")) != FOOTER:
        raise MalformedImage("this firmware has no table of GUIDs; it is not OVMF, or only its variables")
    length = little(firmware, end - ENTRY_BYTES, 2, "the table of the firmware")
    table = bytes(part(firmware, end - length, length - ENTRY_BYTES, "the table of the firmware"))
    found: dict[str, bytes] = {}
    while table:
        size = little(table, len(table) - ENTRY_BYTES, 2, "an entry of the firmware's table")
        name = _guid(part(table, len(table) - GUID_BYTES, GUID_BYTES, "an entry of the firmware's table"))
        if size < ENTRY_BYTES or size > len(table) or name in found:
            raise MalformedImage("the firmware's table of GUIDs is broken")
        found[name] = table[-size:-ENTRY_BYTES]
        table = table[:-size]
    return found


def tdx_sections(firmware: bytes) -> tuple[TdxSection, ...]:
    """The sections of a TDVF. Raises `MalformedImage`, also where the firmware is not for TDX."""
    start = _metadata(firmware, TDX_METADATA, "TDX")
    if bytes(part(firmware, start, 4, "the TDVF descriptor")) != b"TDVF" or little(firmware, start + 8, 4, "it") != 1:
        raise MalformedImage("this firmware's TDVF descriptor is not of version 1")
    count = little(firmware, start + 12, 4, "the TDVF descriptor")
    if count > MAX_SECTIONS:
        raise MalformedImage("this firmware has too many sections")
    return tuple(_tdx_section(firmware, start + 16 + 32 * number) for number in range(count))


def _tdx_section(firmware: bytes, at: int) -> TdxSection:
    sizes = (4, 4, 8, 8, 4, 4)
    values = []
    for size in sizes:
        values.append(little(firmware, at, size, "a section of the TDVF"))
        at += size
    section = TdxSection(*values)
    if section.address % PAGE or section.memory % PAGE or section.memory > MAX_FIRMWARE:
        raise MalformedImage("a section of the TDVF is not of whole pages, or too large")
    if section.address + section.memory > MAX_ADDRESS:
        raise MalformedImage("a section of the TDVF lies behind the last address")
    if section.size > section.memory or (section.attributes & 1 and section.size != section.memory):
        raise MalformedImage("a section of the TDVF is larger in the file than in memory, or measured in part")
    part(firmware, section.offset, section.size, "a section of the TDVF")
    return section


def sev_sections(firmware: bytes) -> tuple[SevSection, ...]:
    """The areas that SEV-SNP firmware names. Raises `MalformedImage`, also where the firmware is not for SEV-SNP."""
    start = _metadata(firmware, SEV_METADATA, "SEV-SNP")
    if bytes(part(firmware, start, 4, "the SEV metadata")) != b"ASEV" or little(firmware, start + 8, 4, "it") != 1:
        raise MalformedImage("this firmware's SEV metadata is not of version 1")
    count = little(firmware, start + 12, 4, "the SEV metadata")
    if count > MAX_SECTIONS:
        raise MalformedImage("this firmware has too many sections")
    found = []
    for at in range(start + 16, start + 16 + 12 * count, 12):
        address, size, kind = (little(firmware, at + 4 * n, 4, "a section of the SEV metadata") for n in range(3))
        if address % PAGE or size % PAGE or size > MAX_FIRMWARE:
            raise MalformedImage("a section of the SEV metadata is not of whole pages, or too large")
        found.append(SevSection(address, size, kind))
    return tuple(found)


def pointer(firmware: bytes, name: str, what: str) -> int:
    """The first 4 bytes of an entry of the table. Raises `MalformedImage` if it is not there."""
    entry = guid_table(firmware).get(name)
    if entry is None:
        raise MalformedImage(f"this firmware names no {what}")
    return little(entry, 0, 4, what)


def _metadata(firmware: bytes, name: str, what: str) -> int:
    back = pointer(firmware, name, f"sections for {what}")
    if not 0 < back <= len(firmware):
        raise MalformedImage(f"this firmware's sections for {what} lie outside of it")
    return len(firmware) - back


def read_variables(store: bytes) -> Mapping[tuple[str, str], bytes]:
    """The variables of a file for flash (`OVMF_VARS.fd`), by GUID and name. Raises `MalformedImage`."""
    if len(store) > MAX_FIRMWARE or _guid(part(store, 16, GUID_BYTES, "the file of variables")) != VOLUME:
        raise MalformedImage("this is not a file of UEFI variables")
    if bytes(part(store, 40, 4, "the file of variables")) != b"_FVH":
        raise MalformedImage("this is not a file of UEFI variables")
    at = little(store, 48, 2, "the file of variables")
    if _guid(part(store, at, GUID_BYTES, "the store of variables")) != STORE:
        raise MalformedImage("this store of variables is not of the authenticated kind")
    end = at + little(store, at + 16, 4, "the store of variables")
    area = bytes(part(store, at, end - at, "the store of variables"))
    found: dict[tuple[str, str], bytes] = {}
    place = STORE_BYTES
    for _ in range(MAX_VARIABLES):
        if place + VARIABLE_BYTES > len(area) or little(area, place, 2, "a variable") != START:
            return found
        state, name_size = area[place + 2], little(area, place + 36, 4, "a variable")
        size = little(area, place + 40, 4, "a variable")
        name = bytes(part(area, place + VARIABLE_BYTES, name_size, "a variable's name"))
        value = bytes(part(area, place + VARIABLE_BYTES + name_size, size, "a variable's value"))
        if state == ADDED:
            key = _guid(part(area, place + 44, GUID_BYTES, "a variable")), _text(name)
            if key in found:
                raise MalformedImage("a variable stands there twice")
            found[key] = value
        place += -(-(VARIABLE_BYTES + name_size + size) // 4) * 4
    raise MalformedImage("this store holds too many variables")


def _text(name: bytes) -> str:
    try:
        return name.decode("utf-16-le").rstrip("\0")
    except UnicodeDecodeError:
        raise MalformedImage("a variable whose name is not text") from None


def _guid(data: memoryview) -> str:
    return str(uuid.UUID(bytes_le=bytes(data)))
