"""The disk below a folder: sequential writes and reads, random reads, commits; past this kernel's cache (O_DIRECT).

Knows: how to go past the cache. Does not know: the disk. The host's cache may still answer: what a guest's disk costs is both.
Not covered: many requests at once; file systems in memory, which are no disk.
"""

from __future__ import annotations

import mmap
import os
import random
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from strongroom.bench.platform.probe import MIB, Found, Missing, Probe, Sizes

PAGE = 4096
NAMES = "disk.write, disk.read, disk.random_read, disk.commit"
IN_MEMORY = frozenset({"tmpfs", "ramfs", "devtmpfs", "rootfs"})


def probes(sizes: Sizes, folder: Path, file_system: str, stack: ExitStack) -> Found:
    """The four figures of the disk that `folder` lies on; a file of `disk_mib` is there meanwhile."""
    if file_system in IN_MEMORY:
        return [Missing(NAMES, f"{folder} is in memory ({file_system}): name a folder on a disk")]
    room = os.statvfs(folder)
    if room.f_bavail * room.f_frsize < 2 * sizes.disk_mib * MIB:
        return [Missing(NAMES, f"{folder} has no room for {2 * sizes.disk_mib} MiB")]
    place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix=".strongroom-bench-", dir=folder))) / "file"
    try:
        file = os.open(place, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_DIRECT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        return [Missing(NAMES, f"the file system ({file_system}) does not go past its cache: {error.strerror}")]
    stack.callback(os.close, file)
    block = stack.enter_context(mmap.mmap(-1, MIB))  # O_DIRECT wants memory that begins with a page
    block[:] = os.urandom(MIB)
    chance = random.Random(0)  # noqa: S311 (where to read, no secret)
    write_once(file, block, sizes.disk_mib)
    return [
        Probe("disk.write", "MB/s", "more", "sequential writes of 1 MiB past the cache, one at a time, and the wait for the disk",
              lambda: write_once(file, block, sizes.disk_mib)),
        Probe("disk.read", "MB/s", "more", "sequential reads of 1 MiB past the cache, one at a time",
              lambda: read_once(file, block, sizes.disk_mib)),
        Probe("disk.random_read", "µs", "less", "4 KiB from anywhere in the file, one at a time",
              lambda: random_once(file, sizes, chance)),
        Probe("disk.commit", "µs", "less", "4 KiB written and waited for, as a database's commit does",
              lambda: commit_once(file, sizes.commits)),
    ]  # fmt: skip


def write_once(file: int, block: mmap.mmap, blocks: int) -> float:
    """Megabytes in a second."""
    began = time.perf_counter()
    for number in range(blocks):
        _whole(os.pwritev(file, [block], number * MIB), MIB)
    os.fdatasync(file)
    return blocks * MIB / (time.perf_counter() - began) / 1e6


def read_once(file: int, block: mmap.mmap, blocks: int) -> float:
    """Megabytes in a second."""
    began = time.perf_counter()
    for number in range(blocks):
        _whole(os.preadv(file, [block], number * MIB), MIB)
    return blocks * MIB / (time.perf_counter() - began) / 1e6


def random_once(file: int, sizes: Sizes, chance: random.Random) -> float:
    """Microseconds for one read."""
    pages = sizes.disk_mib * MIB // PAGE
    places = [chance.randrange(pages) * PAGE for _ in range(sizes.random_reads)]
    with mmap.mmap(-1, PAGE) as page:
        began = time.perf_counter()
        for place in places:
            _whole(os.preadv(file, [page], place), PAGE)
        return (time.perf_counter() - began) / len(places) * 1e6


def commit_once(file: int, commits: int) -> float:
    """Microseconds for one."""
    with mmap.mmap(-1, PAGE) as page:
        page[:] = os.urandom(PAGE)
        began = time.perf_counter()
        for number in range(commits):
            _whole(os.pwritev(file, [page], number * PAGE), PAGE)
            os.fdatasync(file)
        return (time.perf_counter() - began) / commits * 1e6


def _whole(done: int, wanted: int) -> None:
    if done != wanted:
        raise OSError(f"{done} of {wanted} bytes")
