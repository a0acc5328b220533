"""Capacity: whether there is room for one worker's machine.

Knows: memory, CPUs, disk, huge pages. Does not know: how large your model is.
Sources: Linux `filesystems/proc.rst`, `admin-guide/mm/transhuge.rst`. The floors are those of the smallest worker machine: 2 GiB of
memory (OVMF, kernel, initramfs and worker under QEMU), 2 CPUs, and 10 GiB for image and overlay.
"""

from __future__ import annotations

import re

from strongroom.launch.doctor import facts
from strongroom.launch.doctor.finding import Finding, failed, passed, shown, unknown
from strongroom.launch.doctor.host import Host

GIB = 1 << 30
LEAST_MEMORY = 2 * GIB
LEAST_DISK = 10 * GIB
LEAST_CPUS = 2
MOST_BYTES = 1 << 56
"""More than any machine has."""


def memory(host: Host) -> Finding:
    """At least 2 GiB are available."""
    found = facts.memory(host)
    total, available = (found.get(name) for name in ("MemTotal", "MemAvailable"))
    if total is None or available is None or available > total or total * 1024 > MOST_BYTES:
        return unknown("/proc/meminfo does not say it", "Mount proc.")
    said = f"{available * 1024 / GIB:.1f} of {total * 1024 / GIB:.1f} GiB are available"
    return (
        passed(said)
        if available * 1024 >= LEAST_MEMORY
        else failed(said, "Free some, or fit more: a worker wants 2 GiB.")
    )


def cpus(host: Host) -> Finding:
    """At least two CPUs are online."""
    count = facts.cpus_online(host)
    if count is None:
        return unknown("/sys/devices/system/cpu/online does not say it", "Mount sysfs.")
    return passed(f"{count}") if count >= LEAST_CPUS else failed(f"{count}", "Use a machine with two CPUs or more.")


def disk(host: Host) -> Finding:
    """At least 10 GiB are free where machines' overlays go (/var/lib)."""
    free = host.probe.free_bytes()
    if free is None or not 0 <= free <= MOST_BYTES:
        return unknown("the file system was not asked, or does not say it", "Look with df.")
    said = f"{free / GIB:.1f} GiB are free"
    return passed(said) if free >= LEAST_DISK else failed(said, "Free some: image and overlay want 10 GiB.")


def huge_pages(host: Host) -> Finding:
    """Memory comes in huge pages, transparent or set aside: small ones make the first touch of a model slow."""
    text = host.text("/sys/kernel/mm/transparent_hugepage/enabled")
    chosen = re.findall(r"\[([a-z]+)\]", text or "")
    if chosen in (["always"], ["madvise"]):
        return passed(f"transparent: {chosen[0]}")
    count = facts.memory(host).get("HugePages_Total")
    if count:
        return passed(f"{count} set aside")
    remedy = "echo madvise > /sys/kernel/mm/transparent_hugepage/enabled, or set some aside (vm.nr_hugepages)."
    if chosen == ["never"] and count == 0:
        return failed("none", remedy)
    return unknown(f"the kernel says {shown(text)}" if text else "the kernel does not say it", remedy)
