"""The launch digest of a SEV-SNP guest: what MEASUREMENT in its report must be.

Knows: PAGE_INFO, the chain of SHA-384 over pages (AMD "SEV Secure Nested Paging Firmware ABI", 8.17), the order in which QEMU
adds pages, the page of kernel hashes that QEMU writes for OVMF, and the save area of a virtual CPU at reset (AMD APM volume 2,
appendix B, table B-4; the values that KVM and QEMU set). Does not know: reports. Not covered: hypervisors of clouds, whose
save areas differ, and SVSM.
"""

from __future__ import annotations

import hashlib
import struct
import uuid
from collections.abc import Iterable

from strongroom.errors import NotMeasurable
from strongroom.launch.measure import firmware as ovmf
from strongroom.launch.measure.expected import Expected
from strongroom.launch.measure.firmware import PAGE, SevSection
from strongroom.records.launch import LaunchSpec

NORMAL, SAVE_AREA, ZERO, SECRETS, CPUID = 1, 2, 3, 5, 6
SECTION_PAGES = {1: ZERO, 2: SECRETS, 3: CPUID, 4: ZERO}
"""What each type of OVMF's section is added as; 16, the page of kernel hashes, is added as a page with content."""
KERNEL_HASHES = 0x10
SAVE_AREA_ADDRESS = 0xFFFFFFFFF000
TOP = 1 << 32
NO_CONTENT = bytes(48)
RESET_VECTOR = 0xFFFFFFF0

TABLE_GUID = "9438d606-4f22-4cc9-b479-a793d411fd21"
ENTRIES = (
    ("97d02dd8-bd20-4c94-aa78-e7714d36ab2a", "command line"),
    ("44baf731-3a2f-4bd7-9af1-41e29169781d", "initrd"),
    ("4de79437-abd2-427f-b835-d5b172d2045b", "kernel"),
)
ENTRY_BYTES, TABLE_BYTES, TABLE_PADDED = 50, 168, 176

SIGNATURES = {
    "EPYC": (23, 1, 2),
    "EPYC-Rome": (23, 49, 0),
    "EPYC-Milan": (25, 1, 1),
    "EPYC-Genoa": (25, 17, 0),
    "EPYC-Turin": (26, 0, 0),
}
"""QEMU's models of CPUs, and the family, model and stepping that they show."""


class LaunchDigest:
    """GCTX.LD while pages are added."""

    def __init__(self, start: bytes = NO_CONTENT) -> None:
        self.value = start

    def add(self, kind: int, address: int, content: bytes = NO_CONTENT) -> None:
        """One page: `content` is the SHA-384 of its bytes, or zeros where its type is measured without them."""
        information = self.value + content + (0x70).to_bytes(2, "little") + bytes([kind, 0, 0, 0, 0, 0])
        self.value = hashlib.sha384(information + address.to_bytes(8, "little")).digest()

    def add_data(self, kind: int, address: int, data: memoryview | bytes) -> None:
        """Pages with content; `data` is of whole pages."""
        for at in range(0, len(data), PAGE):
            self.add(kind, address + at, hashlib.sha384(data[at : at + PAGE]).digest())


def measurement(
    spec: LaunchSpec, code: bytes, kernel: bytes | None, initrd: bytes | memoryview, command_line: str
) -> Expected:
    """The launch digest of a guest as QEMU starts it. Raises `MalformedImage`, `NotMeasurable`."""
    digest = LaunchDigest()
    digest.add_data(NORMAL, TOP - len(code), memoryview(code))
    sections = ovmf.sev_sections(code)
    table = None
    if kernel is not None:
        if all(section.kind != KERNEL_HASHES for section in sections):
            raise NotMeasurable(
                "this firmware has no page for the hashes of a kernel: what it boots would not be measured",
                remedy="Use an OVMF that is built for it (edk2 OvmfPkg/AmdSev).",
            )
        place = ovmf.pointer(code, ovmf.SEV_HASHES, "place for the hashes of a kernel")
        table = hashes_page(place % PAGE, kernel, initrd, command_line)
    add_sections(digest, sections, table)
    reset = ovmf.pointer(code, ovmf.SEV_RESET, "reset vector for further CPUs")
    features = spec.machine.snp_features or 0
    add_cpus(digest, spec.machine.cpus, reset, signature(spec.machine.cpu), features)
    return Expected("snp", {"measurement": digest.value.hex()}, {}, ())


def add_sections(digest: LaunchDigest, sections: Iterable[SevSection], table: bytes | None) -> None:
    """The areas that the firmware names, in its order. Raises `NotMeasurable` for a type that nobody knows."""
    for section in sections:
        if section.kind == KERNEL_HASHES and table is not None:
            digest.add_data(NORMAL, section.address, table)
            continue
        kind = ZERO if section.kind == KERNEL_HASHES else SECTION_PAGES.get(section.kind)
        if kind is None:
            raise NotMeasurable(f"this firmware wants an area of the unknown type {section.kind}")
        size = PAGE if kind in {SECRETS, CPUID} else section.size
        for address in range(section.address, section.address + size, PAGE):
            digest.add(kind, address)


def hashes_page(offset: int, kernel: bytes, initrd: bytes | memoryview, command_line: str) -> bytes:
    """The page in which QEMU leaves the SHA-256 of command line, initrd and kernel for the firmware to check."""
    contents = (command_line.encode("ascii") + b"\0", initrd, kernel)
    return hashes_table(offset, [hashlib.sha256(content).digest() for content in contents])


def hashes_table(offset: int, digests: Iterable[bytes]) -> bytes:
    """The same from digests, in the order of `ENTRIES`. Raises `NotMeasurable` where the table does not fit the page."""
    entries = b"".join(
        uuid.UUID(guid).bytes_le + ENTRY_BYTES.to_bytes(2, "little") + digest
        for (guid, _), digest in zip(ENTRIES, digests, strict=True)
    )
    table = uuid.UUID(TABLE_GUID).bytes_le + TABLE_BYTES.to_bytes(2, "little") + entries
    if offset + TABLE_PADDED > PAGE:
        raise NotMeasurable("the place that this firmware names for the hashes of a kernel crosses a page")
    return (bytes(offset) + table).ljust(PAGE, b"\0")


def add_cpus(digest: LaunchDigest, count: int, reset: int, cpu: int, features: int) -> None:
    """The save areas of the first CPU and of the others."""
    first, others = save_area(RESET_VECTOR, cpu, features), save_area(reset, cpu, features)
    if count > 1 and not reset:
        raise NotMeasurable("this firmware names no reset vector for further CPUs")
    for number in range(count):
        digest.add(SAVE_AREA, SAVE_AREA_ADDRESS, hashlib.sha384(others if number else first).digest())


def signature(model: str) -> int:
    """The CPUID signature of one of QEMU's models (AMD "CPUID Specification", Fn0000_0001_EAX). Raises `NotMeasurable`."""
    name, _, _ = model.partition("-v")
    found = SIGNATURES.get(name)
    if found is None:
        known = ", ".join(SIGNATURES)
        raise NotMeasurable(f"the CPU model {model} is measured, and not known here", remedy=f"Use one of {known}.")
    family, number, stepping = found
    low, high = min(family, 0xF), max(family - 0xF, 0)
    return high << 20 | (number >> 4) << 16 | low << 8 | (number & 0xF) << 4 | stepping


def save_area(vector: int, cpu: int, features: int) -> bytes:
    """The VMSA page of a CPU that starts at `vector`: everything else in it is zero."""
    page = bytearray(PAGE)
    segments = (
        (0x000, 0, 0x93, 0xFFFF, 0),  # es
        (0x010, 0xF000, 0x9B, 0xFFFF, vector & 0xFFFF0000),  # cs
        (0x020, 0, 0x93, 0xFFFF, 0),  # ss
        (0x030, 0, 0x93, 0xFFFF, 0),  # ds
        (0x040, 0, 0x93, 0xFFFF, 0),  # fs
        (0x050, 0, 0x93, 0xFFFF, 0),  # gs
        (0x060, 0, 0, 0xFFFF, 0),  # gdtr
        (0x070, 0, 0x82, 0xFFFF, 0),  # ldtr
        (0x080, 0, 0, 0xFFFF, 0),  # idtr
        (0x090, 0, 0x8B, 0xFFFF, 0),  # tr
    )
    for at, selector, attributes, limit, base in segments:
        struct.pack_into("<HHIQ", page, at, selector, attributes, limit, base)
    registers = (
        (0x0D0, 0x1000),  # efer: SVME, which KVM sets
        (0x148, 0x40),  # cr4: MCE, which KVM sets
        (0x158, 0x10),  # cr0
        (0x160, 0x400),  # dr7
        (0x168, 0xFFFF0FF0),  # dr6
        (0x170, 0x2),  # rflags
        (0x178, vector & 0xFFFF),  # rip
        (0x268, 0x7040600070406),  # g_pat
        (0x310, cpu),  # rdx
        (0x3B0, features),  # sev_features
        (0x3E8, 0x1),  # xcr0
    )
    for at, value in registers:
        struct.pack_into("<Q", page, at, value)
    struct.pack_into("<I", page, 0x408, 0x1F80)  # mxcsr
    struct.pack_into("<H", page, 0x410, 0x37F)  # x87 control word
    return bytes(page)
