"""A boot disk: one unified kernel image as `/EFI/BOOT/BOOTX64.EFI` in a FAT16 file system without a partition table.

Knows: Microsoft's "FAT: General Overview of On-Disk Format" 1.03, of which it writes what one file needs. Does not know: what is in
the image. The same image always gives the same disk. Not covered: images beyond what FAT16 addresses (2 GiB).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from strongroom.errors import UsageError

SECTOR = 512
ROOT_ENTRIES = 512
LEAST_CLUSTERS, MOST_CLUSTERS = 4085, 65524
"""Between these a file system is FAT16, by its number of clusters alone."""
SPARE = 16
"""Clusters that stay free."""
END = 0xFFFF
FOLDERS = 2
DIRECTORY, ARCHIVE = 0x10, 0x20
FIRST_DAY = 0x21  # 1 January 1980
LARGEST = 64
"""Sectors of the largest cluster."""


def boot_disk(image: bytes) -> Iterator[bytes | memoryview]:
    """The disk, piece by piece. Raises `UsageError` for an image that is too large."""
    each = next((size for size in (4, 8, 16, 32, LARGEST) if _clusters(image, size) + SPARE <= MOST_CLUSTERS), None)
    if each is None:
        raise UsageError("an image of 2 GiB or more does not fit on a boot disk")
    cluster = each * SECTOR
    used = _clusters(image, each)
    clusters = max(used, LEAST_CLUSTERS) + SPARE
    table_sectors = -(-(clusters + FOLDERS) * 2 // SECTOR)
    yield _boot_sector(each, clusters, table_sectors)
    yield _table(used, table_sectors) * 2
    yield _entry(b"EFI", DIRECTORY, 2, 0).ljust(ROOT_ENTRIES * 32, b"\0")
    dots = _entry(b".", DIRECTORY, 2, 0) + _entry(b"..", DIRECTORY, 0, 0)
    yield (dots + _entry(b"BOOT", DIRECTORY, 3, 0)).ljust(cluster, b"\0")
    dots = _entry(b".", DIRECTORY, 3, 0) + _entry(b"..", DIRECTORY, 2, 0)
    yield (dots + _entry(b"BOOTX64 EFI", ARCHIVE, 4, len(image))).ljust(cluster, b"\0")
    yield memoryview(image)
    yield bytes((clusters - FOLDERS) * cluster - len(image))


def _clusters(image: bytes, each: int) -> int:
    """How many clusters of `each` sectors are used: two folders and the file."""
    return FOLDERS + -(-len(image) // (each * SECTOR))


def _boot_sector(each: int, clusters: int, table_sectors: int) -> bytes:
    sectors = 1 + 2 * table_sectors + ROOT_ENTRIES * 32 // SECTOR + clusters * each
    small = sectors if sectors < 1 << 16 else 0
    sizes = struct.pack("<HBHBHHBHHHI", SECTOR, each, 1, 2, ROOT_ENTRIES, small, 0xF8, table_sectors, 63, 255, 0)
    rest = struct.pack("<IBBBI11s8s", 0 if small else sectors, 0x80, 0, 0x29, 0, b"NO NAME    ", b"FAT16   ")
    return (b"\xeb\x3c\x90STRONGRM" + sizes + rest).ljust(SECTOR - 2, b"\0") + b"\x55\xaa"


def _table(used: int, sectors: int) -> bytes:
    """The chains: each folder is one cluster, the file goes from the fourth to the last that is used."""
    last = used + 1
    entries = [0xFFF8, END, END, END, *range(5, last + 1), END]
    return struct.pack(f"<{len(entries)}H", *entries).ljust(sectors * SECTOR, b"\0")


def _entry(name: bytes, attributes: int, cluster: int, size: int) -> bytes:
    zeros = (0,) * len("BBHHHHH")
    return struct.pack("<11sBBBHHHHHHHI", name.ljust(11), attributes, *zeros, FIRST_DAY, cluster, size)
