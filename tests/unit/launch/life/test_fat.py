"""Boot disks: what a reader of FAT16 finds on them."""

import shutil
import struct
import subprocess
from itertools import chain, islice

import pytest

from strongroom.errors import UsageError
from strongroom.launch.life import fat

MTYPE = shutil.which("mtype")
SIZES = (1, 511, 2048, 2049, 300_000, 9 << 20)


def disk_of(image):
    return b"".join(fat.boot_disk(image))


def read(disk, *names):
    """The content of a file by its path, through the tables; an independent and naive reader."""
    each, reserved, tables, roots = struct.unpack_from("<BHBH", disk, 13)
    (table_sectors,) = struct.unpack_from("<H", disk, 22)
    table = struct.unpack_from(f"<{table_sectors * 256}H", disk, reserved * 512)
    root = (reserved + tables * table_sectors) * 512
    data, cluster = root + roots * 32, each * 512

    def content(first):
        parts = []
        while first < 0xFFF8:
            assert first >= 2
            at = data + (first - 2) * cluster
            parts.append(disk[at : at + cluster])
            first = table[first]
        return b"".join(parts)

    entries = disk[root:data]
    for name in names:
        rows = [entries[at : at + 32] for at in range(0, len(entries), 32)]
        (row,) = (row for row in rows if row[:11] == name.ljust(11))
        first, size = struct.unpack_from("<HI", row, 26)
        entries = content(first)
    return entries[:size]


@pytest.mark.parametrize("size", SIZES)
def test_the_image_is_where_firmware_looks(size):
    image = bytes(islice(chain.from_iterable(range(256) for _ in range(size // 256 + 1)), size))
    disk = disk_of(image)
    assert read(disk, b"EFI", b"BOOT", b"BOOTX64 EFI") == image
    assert disk[510:512] == b"\x55\xaa"
    small, large = struct.unpack_from("<H", disk, 19)[0], struct.unpack_from("<I", disk, 32)[0]
    assert (small or large) * 512 == len(disk)
    each, tables = disk[13], struct.unpack_from("<H", disk, 22)[0]
    clusters = ((small or large) - 1 - 2 * tables - 32) // each
    assert fat.LEAST_CLUSTERS <= clusters <= fat.MOST_CLUSTERS, "by its clusters it is FAT16"
    assert disk[512:][: tables * 512] == disk[512 + tables * 512 :][: tables * 512], "both tables are the same"
    assert disk == disk_of(image)


class Sized(bytes):
    """An image by its size alone."""

    def __new__(cls, size):
        made = super().__new__(cls)
        made.size = size
        return made

    def __len__(self):
        return self.size


@pytest.mark.parametrize("each", [4, 8, 16, 32, 64])
@pytest.mark.parametrize("spare", range(-1, 19))
def test_a_disk_at_the_end_of_a_size_of_clusters_is_fat16_all_the_same(each, spare):
    size = (fat.MOST_CLUSTERS - fat.FOLDERS - spare) * each * 512
    try:
        sector = next(fat.boot_disk(Sized(size)))
    except UsageError:
        assert each == fat.LARGEST
        assert spare < 16, "there was room"
        return
    (tables,), (sectors,) = struct.unpack_from("<H", sector, 22), struct.unpack_from("<I", sector, 32)
    clusters = (sectors - 1 - 2 * tables - 32) // sector[13]
    assert size // 512 // sector[13] + fat.FOLDERS <= clusters <= fat.MOST_CLUSTERS


def test_an_image_beyond_fat16_is_refused():
    class Huge(bytes):
        def __len__(self):
            return 2 << 30

    with pytest.raises(UsageError):
        next(fat.boot_disk(Huge()))


@pytest.mark.skipif(MTYPE is None, reason="missing program: mtype (mtools)")
def test_mtools_reads_it(tmp_path):
    image = b"an image" * 100_000
    (tmp_path / "disk").write_bytes(disk_of(image))
    ran = subprocess.run([MTYPE, "-i", tmp_path / "disk", "::/EFI/BOOT/BOOTX64.EFI"], capture_output=True, check=True)
    assert ran.stdout == image
