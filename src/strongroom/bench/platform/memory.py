"""Memory: copying far more than caches hold, and the first touch of fresh pages.

Knows: how to measure both on one core. Does not know: what they should be.
Not covered: latency (an interpreter's own time hides it), several cores at once, memory of other NUMA nodes.
"""

from __future__ import annotations

import mmap
import os
import time
from contextlib import ExitStack

from strongroom.bench.platform.probe import MIB, Found, Missing, Probe, Sizes

CACHES = 4
"""A buffer counts as far larger than the last cache from this many times its size."""


def probes(sizes: Sizes, cache_kib: int | None, free_mib: int | None, stack: ExitStack) -> Found:
    """`memory.copy` and `memory.fault`. `cache_kib` is the last cache's size, None where the machine does not say it."""
    needed = 2 * sizes.copy_mib + sizes.fault_mib
    if free_mib is not None and free_mib < 2 * needed:
        why = f"it takes {needed} MiB, and {free_mib} MiB are available: give a smaller size"
        return [Missing("memory.copy, memory.fault", why)]
    fault = Probe(
        "memory.fault",
        "µs/page",
        "less",
        "the first write to each 4 KiB page of fresh anonymous memory, huge pages switched off",
        lambda: fault_once(sizes.fault_mib),
    )
    if cache_kib is not None and sizes.copy_mib * 1024 < CACHES * cache_kib:
        why = f"buffers of {sizes.copy_mib} MiB are not {CACHES} times the last cache of {cache_kib} KiB: give a greater size"
        return [Missing("memory.copy", why), fault]
    source, target = (_filled(sizes.copy_mib * MIB, stack) for _ in range(2))
    copy = Probe(
        "memory.copy",
        "GB/s",
        "more",
        "one core's copies between two buffers far larger than its caches; a byte that is copied counts once",
        lambda: copy_once(source, target),
    )
    return [copy, fault]


def copy_once(source: memoryview, target: memoryview) -> float:
    """Gigabytes copied in a second."""
    began = time.perf_counter()
    target[:] = source
    return len(source) / (time.perf_counter() - began) / 1e9


def fault_once(mebibytes: int) -> float:
    """Microseconds for each fresh page. The kernel's own stock of pages is warm: what is new to the machine was new long ago."""
    with mmap.mmap(-1, mebibytes * MIB) as area:
        area.madvise(mmap.MADV_NOHUGEPAGE)
        pages = len(area) // mmap.PAGESIZE
        ones = bytes(pages)
        with memoryview(area) as view, view[:: mmap.PAGESIZE] as first:
            began = time.perf_counter()
            first[:] = ones
            return (time.perf_counter() - began) / pages * 1e6


def _filled(size: int, stack: ExitStack) -> memoryview:
    """Memory with content that no host can compress or merge."""
    area = stack.enter_context(mmap.mmap(-1, size))
    view = stack.enter_context(memoryview(area))
    for start in range(0, size, MIB):
        view[start : start + MIB] = os.urandom(MIB)
    return view
