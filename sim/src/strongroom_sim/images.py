"""Images to measure, made from nothing: programs of UEFI, unified kernel images, firmware, variables, enclave images.

Knows: the layouts, just so far that real parsers read them. Does not know: how they are measured. None of them boots.
"""

from __future__ import annotations

import binascii
import struct
import uuid
from collections.abc import Iterable, Mapping

from strongroom.launch.measure import firmware as ovmf
from strongroom.launch.measure.eif import COMMAND_LINE, KERNEL, RAMDISK

ALIGNMENT = 512
PAGE = 4096
STUB = b"#### LoaderInfo: systemd-stub 257.1-1 ####"
FLASH_BYTES = 64 * 1024
SEV_AREAS = (
    (0x800000, 0x9000, 1),
    (0x80A000, 0x3000, 1),
    (0x80D000, 0x1000, 2),
    (0x80E000, 0x1000, 3),
    (0x810000, 0x1000, 16),
)
TDX_AREAS = ((0x810000, 0x10000, 3), (0x80B000, 0x2000, 3), (0x809000, 0x2000, 2), (0x800000, 0x6000, 3))
SEV_HASHES_AT, SEV_RESET_AT = 0x810C00, 0x80B004


def program(sections: Mapping[str, bytes], *, setup: bytes = b"", signature: bytes = b"", tail: bytes = b"") -> bytes:
    """A PE32+ file; `setup` stands at 0x1f1, where a Linux kernel has its setup header."""
    start = 0x80 if not setup else 0x400
    count, optional = len(sections), 240
    table = start + 24 + optional
    headers = -(-(table + 40 * count) // ALIGNMENT) * ALIGNMENT
    image = bytearray(headers)
    image[0:2], image[0x3C:0x40] = b"MZ", struct.pack("<I", start)
    if setup:
        image[0x1F1 : 0x1F1 + len(setup)] = setup
    image[start : start + 24] = struct.pack("<4sHHIIIHH", b"PE\0\0", 0x8664, count, 0, 0, 0, optional, 0x22E)
    image[start + 24 : start + 26] = struct.pack("<H", 0x20B)
    struct.pack_into("<I", image, start + 24 + 60, headers)
    struct.pack_into("<I", image, start + 24 + 108, 16)
    body = bytearray()
    for number, (name, content) in enumerate(sections.items()):
        stored = content.ljust(-(-len(content) // ALIGNMENT) * ALIGNMENT, b"\0")
        where = headers + len(body) if stored else 0
        row = struct.pack("<8sIIII", name.encode(), len(content), PAGE * (number + 1), len(stored), where)
        image[table + 40 * number : table + 40 * number + len(row)] = row
        body += stored
    whole = image + body + tail
    if signature:
        struct.pack_into("<II", whole, start + 24 + 112 + 32, len(whole), len(signature))
    return bytes(whole + signature)


def kernel(version: int = 0x20F, *, text: bytes = b"kernel") -> bytes:
    """A Linux kernel with an EFI stub, as far as its headers go."""
    setup = bytearray(0x80)
    setup[0x11:0x15] = b"HdrS"
    struct.pack_into("<H", setup, 0x15, version)
    setup[0x20] = 1
    struct.pack_into("<H", setup, 0x45, 0x7F)
    return program({".text": text}, setup=bytes(setup))


def unified(
    linux: bytes | None = None,
    *,
    command_line: bytes = b"console=ttyS0 quiet",
    initrd: bytes = b"initrd",
    stub: bytes = STUB,
    more: Mapping[str, bytes] | None = None,
) -> bytes:
    """A unified kernel image."""
    parts = {".text": b"stub", ".sdmagic": stub, ".osrel": b"ID=strongroom-sim\n", ".cmdline": command_line}
    return program({**parts, ".linux": kernel() if linux is None else linux, ".initrd": initrd, **(more or {})})


def firmware(
    *,
    code: bytes = b"code",
    sev: Iterable[tuple[int, int, int]] = SEV_AREAS,
    tdx: Iterable[tuple[int, int, int]] = TDX_AREAS,
) -> bytes:
    """An OVMF of 64 KiB: 8 KiB for variables, and tables for both TDX and SEV-SNP."""
    image = bytearray(FLASH_BYTES)
    variables_size = 2 * PAGE
    image[variables_size : variables_size + len(code)] = code
    rows = [(variables_size, FLASH_BYTES - variables_size, (1 << 32) - FLASH_BYTES + variables_size, 0, 1)]
    rows += [(0, variables_size, (1 << 32) - FLASH_BYTES, 1, 0)]
    areas = [(at, size, address, size, kind, flags) for at, size, address, kind, flags in rows]
    areas += [(0, 0, address, size, kind, 0) for address, size, kind in tdx]
    descriptor = b"TDVF" + struct.pack("<III", 16 + 32 * len(areas), 1, len(areas))
    descriptor += b"".join(struct.pack("<IIQQII", *area) for area in areas)
    sections = list(sev)
    metadata = b"ASEV" + struct.pack("<III", 16 + 12 * len(sections), 1, len(sections))
    metadata += b"".join(struct.pack("<III", *section) for section in sections)
    tdx_at, sev_at = FLASH_BYTES - 2048, FLASH_BYTES - 1024
    image[tdx_at : tdx_at + len(descriptor)], image[sev_at : sev_at + len(metadata)] = descriptor, metadata
    entries = (
        (ovmf.SEV_RESET, struct.pack("<I", SEV_RESET_AT)),
        (ovmf.SEV_HASHES, struct.pack("<II", SEV_HASHES_AT, 0x400)),
        (ovmf.SEV_METADATA, struct.pack("<I", FLASH_BYTES - sev_at)),
        (ovmf.TDX_METADATA, struct.pack("<I", FLASH_BYTES - tdx_at)),
    )
    table = b"".join(data + struct.pack("<H", len(data) + 18) + uuid.UUID(name).bytes_le for name, data in entries)
    table += struct.pack("<H", len(table) + 18) + uuid.UUID(ovmf.FOOTER).bytes_le
    end = FLASH_BYTES - 32
    image[end - len(table) : end] = table
    return bytes(image)


def variables(values: Mapping[tuple[str, str], bytes] | None = None, *, state: int = ovmf.ADDED) -> bytes:
    """A file of UEFI variables, by GUID and name."""
    area = b""
    for (guid, name), value in (values or {}).items():
        text = (name + "\0").encode("utf-16-le")
        head = struct.pack(
            "<HBBIQ16sIII16s", ovmf.START, state, 0, 7, 0, bytes(16), 0, len(text), len(value), uuid.UUID(guid).bytes_le
        )
        one = head + text + value
        area += one.ljust(-(-len(one) // 4) * 4, b"\xff")
    size = 4 * PAGE
    store = uuid.UUID(ovmf.STORE).bytes_le + struct.pack("<IBBHI", size - 72, 0x5A, 0xFE, 0, 0) + area
    head = bytes(16) + uuid.UUID(ovmf.VOLUME).bytes_le + struct.pack("<Q4sIHHHBB", size, b"_FVH", 0, 72, 0, 0, 0, 2)
    return (head.ljust(72, b"\0") + store).ljust(size, b"\xff")


def enclave(
    sections: Iterable[tuple[int, bytes]] = (
        (KERNEL, b"kernel"),
        (COMMAND_LINE, b"quiet"),
        (RAMDISK, b"one"),
        (RAMDISK, b"two"),
    ),
    *,
    version: int = 4,
) -> bytes:
    """An enclave image with these sections."""
    offsets, sizes, body = [], [], b""
    for kind, content in sections:
        offsets.append(548 + len(body))
        sizes.append(len(content))
        body += struct.pack(">HHQ", kind, 0, len(content)) + content
    blank = [0] * (32 - len(sizes))
    head = b".eif" + struct.pack(">HHQQHH", version, 0, 1 << 30, 2, 0, len(sizes))
    head += struct.pack(">32Q32QI", *offsets, *blank, *sizes, *blank, 0)
    return head + struct.pack(">I", binascii.crc32(head + body)) + body
