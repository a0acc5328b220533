"""MRTD and the RTMRs of a trust domain with OVMF (TDVF).

Knows: how the TDX module measures pages (Intel "TDX Module ABI", TDH.MEM.PAGE.ADD and TDH.MR.EXTEND), in which order QEMU
adds them, what OVMF measures into RTMR 0 (the list of memory that QEMU gives it, the volume of variables, Secure Boot, ACPI
tables, boot entries), and which register takes which PCR's events (UEFI 2.11, section 38.4.1: 1 and 7 into RTMR 0; 2 to 6
into RTMR 1; 8 to 15 into RTMR 2). Not computable: the ACPI tables, which QEMU makes; three digests of theirs may be given as
observed, for one version of QEMU and one set of devices. RTMR 3 is the running worker's.
Not covered: RTMR 0 of machines that boot a disk, whose boot entries name the host's devices; RTMR 0 of edk2 since
stable202505, which measures more; both are unknown unless `rtmr0` is given as observed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

from strongroom.errors import NotMeasurable
from strongroom.launch.measure import uefi
from strongroom.launch.measure.bounds import part
from strongroom.launch.measure.expected import Chain, Expected
from strongroom.launch.measure.firmware import PAGE, TdxSection, tdx_sections
from strongroom.records.launch import Firmware, LaunchSpec
from strongroom.tee.eventlog import codes

EXTENDED, AUGMENTED = 0x1, 0x2
VARIABLE_VOLUME, TD_HOB, TEMPORARY = 1, 2, 3
CHUNK, RECORD = 256, 128
SINGLE_PASS = (9, 0)
"""Since this version QEMU adds and measures page by page; before, patched ones added all pages of a section first."""
UNPATCHED = (10, 0)
"""Since this version QEMU does not write into a kernel that it gives to a confidential guest's firmware."""
FIRST_STUB = 255
"""The first systemd-stub that measures into RTMRs."""
ACPI = ("acpi-loader", "acpi-rsdp", "acpi-tables")
BOOT_MENU = bytes.fromhex(
    "090100002c0055006900410070007000000004071400c9bdb87cebf8344faaea3ee4af6516a10406140021aa2c4614760345836e8ab6f46623317fff0400"
)
"""The only boot entry of a machine that is given its kernel: OVMF's own menu, UiApp, in OVMF's volume."""
EXISTING, UNACCEPTED = 0x00, 0x07
LARGE, LOW_OF_LARGE, FOUR_GIB = 0xB0000000, 0x80000000, 1 << 32


def mrtd(firmware: bytes, qemu: str) -> str:
    """MRTD, as hexadecimal: what is in memory before the domain runs. Raises `MalformedImage`."""
    digest = hashlib.sha384()
    single = version(qemu) >= SINGLE_PASS
    for section in tdx_sections(firmware):
        pages = range(section.address, section.address + section.memory, PAGE)
        content = part(firmware, section.offset, section.size, "a section of the TDVF")
        extended = bool(section.attributes & EXTENDED)
        steps = [pages] if not single else [range(page, page + PAGE, PAGE) for page in pages]
        for step in steps:
            if not section.attributes & AUGMENTED:
                for page in step:
                    digest.update(_record(b"MEM.PAGE.ADD", page))
            if extended:
                for at in range(step.start, step.stop, CHUNK):
                    digest.update(_record(b"MR.EXTEND", at))
                    digest.update(content[at - section.address : at - section.address + CHUNK])
    return digest.hexdigest()


def _record(name: bytes, address: int) -> bytes:
    return name.ljust(16, b"\0") + address.to_bytes(8, "little") + bytes(RECORD - 24)


def version(text: str) -> tuple[int, int]:
    """QEMU's version as numbers."""
    major, _, minor = text.partition(".")
    return int(major), int(minor)


def hand_off(sections: Sequence[TdxSection], memory: int) -> bytes:
    """The hand-off blocks (PI 1.8, volume 3) in which QEMU tells a domain about its memory of `memory` bytes."""
    base = next((section.address for section in sections if section.kind == TD_HOB), 0)
    taken = sorted((s.address, s.address + s.memory) for s in sections if s.kind in {TD_HOB, TEMPORARY})
    low = memory if memory < LARGE else LOW_OF_LARGE
    blocks, at = [], 0
    for start, end in taken:
        if start < at or end > low:
            raise NotMeasurable("the machine has less memory below 4 GiB than its firmware uses, or uses it twice")
        if start > at:
            blocks.append(_resource(UNACCEPTED, at, start - at))
        blocks.append(_resource(EXISTING, start, end - start))
        at = end
    blocks.append(_resource(UNACCEPTED, at, low - at))
    if memory > low:
        blocks.append(_resource(UNACCEPTED, FOUR_GIB, memory - low))
    body = b"".join(blocks)
    end = base + 56 + len(body) + 8
    header = _hob(1, 56) + (9).to_bytes(4, "little") + bytes(36) + end.to_bytes(8, "little")
    return header + body


def _hob(kind: int, length: int) -> bytes:
    return kind.to_bytes(2, "little") + length.to_bytes(2, "little") + bytes(4)


def _resource(kind: int, start: int, length: int) -> bytes:
    attributes = (7).to_bytes(4, "little")
    numbers = kind.to_bytes(4, "little") + attributes + start.to_bytes(8, "little") + length.to_bytes(8, "little")
    return _hob(3, 48) + bytes(16) + numbers


def registers(
    spec: LaunchSpec, firmware: Firmware, code: bytes, files: uefi.Files, variables: Mapping[tuple[str, str], bytes]
) -> Expected:
    """MRTD and RTMR 0 to 3. Raises `MalformedImage`, `NotMeasurable`."""
    qemu = spec.machine.qemu or ""
    chain = Chain("sha384")
    chain.fix("mrtd", mrtd(code, qemu))
    _rtmr0(chain, spec, firmware, code, files, variables)
    uefi.images(chain, "rtmr1", spec, files, patch=version(qemu) < UNPATCHED)
    uefi.leaving(chain, "rtmr1")
    if files.uki is not None and files.uki.stub >= FIRST_STUB:
        uefi.sections(chain, "rtmr2", files.uki)
        for phase in spec.boot.phases:
            chain.data("rtmr2", codes.IPL, phase.encode(), "boot phase", phase)
    uefi.handed_over(chain, "rtmr2", spec, files)
    observed = firmware.observed.get("rtmr0")
    if observed is not None:
        chain.fix("rtmr0", observed)
    chain.give_up("rtmr3", "zeros at launch; the worker extends it while it runs")
    return chain.finish("tdx")


def _rtmr0(
    chain: Chain,
    spec: LaunchSpec,
    firmware: Firmware,
    code: bytes,
    files: uefi.Files,
    variables: Mapping[tuple[str, str], bytes],
) -> None:
    sections = tdx_sections(code)
    hob = hand_off(sections, spec.machine.memory << 20)
    chain.data("rtmr0", codes.EFI_HANDOFF_TABLES2, hob, "memory", "TdxTable")
    for section in sections:
        if section.kind == VARIABLE_VOLUME:
            volume = bytes(part(code, section.offset, section.size, "the volume of variables"))
            chain.data("rtmr0", codes.EFI_PLATFORM_FIRMWARE_BLOB2, volume, uefi.FIRMWARE, "volume of variables")
    uefi.secure_boot(chain, "rtmr0", firmware, variables)
    missing = [name for name in ACPI if name not in firmware.observed]
    if missing:
        chain.give_up("rtmr0", f"QEMU makes the ACPI tables: observe {', '.join(missing)} once for these devices")
    for name in ACPI:
        digest = bytes.fromhex(firmware.observed.get(name, ""))
        chain.extend("rtmr0", codes.PLATFORM_CONFIG_FLAGS, digest, "devices, CPUs and QEMU's version", "ACPI DATA")
    if files.uki is not None:
        chain.give_up(
            "rtmr0", "the boot entries of a machine that boots a disk name devices of the host: observe rtmr0"
        )
    chain.data("rtmr0", codes.EFI_VARIABLE_BOOT, bytes(2), uefi.PATH, "BootOrder")
    chain.data("rtmr0", codes.EFI_VARIABLE_BOOT, BOOT_MENU, uefi.PATH, "Boot0000")
