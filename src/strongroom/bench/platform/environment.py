"""What a machine says of itself, and what decides a figure besides the machine: code, versions, sizes.

Knows: where Linux says it. Does not know: whether it is true. A guest's word for its TEE proves nothing: that is what evidence is for.
"""

from __future__ import annotations

import hashlib
import os
import platform
from collections.abc import Mapping
from dataclasses import asdict
from importlib import metadata
from pathlib import Path

from strongroom.bench.platform.probe import Sizes
from strongroom.launch.doctor import Host, facts
from strongroom.records.digest import digest_bytes

NO_TEE = "none seen"
LIBRARIES = ("strongroom", "numpy", "torch", "xllamacpp")
HERE = Path(__file__).parent

Facts = Mapping[str, str]


def tee(host: Host) -> str:
    """`tdx` or `snp` where the kernel has that guest's device, else `none seen`: a guest below a paravisor has neither."""
    if host.there("/dev/tdx_guest") or host.there("/sys/class/misc/tdx_guest"):
        return "tdx"
    return "snp" if host.there("/dev/sev-guest") else NO_TEE


def cache_kib(host: Host) -> int | None:
    """The last cache of the first CPU, or None."""
    sizes = []
    for name in host.names("/sys/devices/system/cpu/cpu0/cache") or ():
        text = host.text(f"/sys/devices/system/cpu/cpu0/cache/{name}/size") or ""
        if text.endswith("K") and (size := facts.number(text[:-1])) is not None:
            sizes.append(size)
    return max(sizes, default=None)


def free_mib(host: Host) -> int | None:
    """Memory that is available, or None."""
    free = facts.memory(host).get("MemAvailable")
    return None if free is None else free // 1024


def file_system(host: Host, folder: Path) -> str:
    """The type of file system that `folder` is on, or `unknown`."""
    try:
        device = folder.stat().st_dev
    except OSError:
        return "unknown"
    wanted = f"{os.major(device)}:{os.minor(device)}"
    for line in (host.text("/proc/self/mountinfo") or "").splitlines():
        place, _, rest = line.partition(" - ")
        if place.split()[2:3] == [wanted] and rest:
            return rest.split()[0]
    return "unknown"


def environment(host: Host, *, folder: Path, gpu: str) -> Facts:
    """The machine in a few facts; each is words, `unknown` where it is not said. `load` is that of now: ask before measuring."""
    cpu = facts.cpu(host)
    memory, cache = facts.memory(host).get("MemTotal"), cache_kib(host)
    said: dict[str, str | None] = {
        "cpu": cpu.name if cpu is not None else None,
        "cpus": str(facts.cpus_online(host) or "unknown"),
        "memory": None if memory is None else f"{memory // 1024} MiB",
        "last_cache": None if cache is None else f"{cache} KiB",
        "kernel": host.text("/proc/sys/kernel/osrelease"),
        "virtual": None if cpu is None else "yes" if "hypervisor" in cpu.flags else "no",
        "tee": tee(host),
        "load": (host.text("/proc/loadavg") or "unknown").split()[0],
        "clock": host.text("/sys/devices/system/clocksource/clocksource0/current_clocksource"),
        "huge_pages": host.text("/sys/kernel/mm/transparent_hugepage/enabled"),
        "file_system": file_system(host, folder),
        "gpu": gpu,
    }
    return {name: (text or "unknown")[:200] for name, text in said.items()}


def code(model: Path | None) -> Facts:
    """What is measured with: this folder's own files, and whatever else decides the figures."""
    whole = hashlib.sha256()
    for path in sorted(HERE.glob("*.py")):
        whole.update(hashlib.sha256(path.read_bytes()).digest())
    versions = {name: _version(name) for name in LIBRARIES}
    return {
        "benchmark": "sha256:" + whole.hexdigest(),
        "model": "none" if model is None else digest_bytes(model.read_bytes()),
        "python": platform.python_version(),
        **versions,
    }


def settings(sizes: Sizes) -> dict[str, int]:
    """The sizes by name."""
    return asdict(sizes)


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "absent"
