"""GPUs: which NVIDIA GPUs are here, who holds them, and whether they are in confidential mode.

Knows: the PCI bus, NVIDIA's driver, its tool's words. Does not know: whether a GPU is genuine: its own evidence says that.
Sources: Linux `ABI/testing/sysfs-bus-pci`; NVIDIA's deployment guides (`nvidia-smi conf-compute -f`, `-e`, `-d`: status ON, environment
PRODUCTION, developer tools OFF); `matrix.toml` beside this room for device numbers and drivers.
Not covered: the mode of a GPU that vfio-pci holds: it is in a register that `nvidia_gpu_tools.py --query-cc-mode` reads, so unknown.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from strongroom.launch.doctor import facts
from strongroom.launch.doctor.finding import Finding, failed, passed, shown, unknown
from strongroom.launch.doctor.host import Host
from strongroom.launch.matrix import matrix

VFIO, NVIDIA = "vfio-pci", "nvidia"
_OPTIONS = {"-f": "CC status: ON", "-e": "CC Environment: PRODUCTION", "-d": "DevTools Mode: OFF"}
"""What `nvidia-smi conf-compute` must print, and nothing else."""
_MODE = "With the GPU free: nvidia_gpu_tools.py --set-cc-mode=on --reset-after-cc-mode-switch (several Hopper GPUs: --set-ppcie-mode=on)."


def device(host: Host) -> Finding:
    """Every NVIDIA GPU on the bus is of a model that has a confidential mode."""
    found = facts.nvidia_gpus(host)
    if found is None:
        return unknown("the PCI bus cannot be read", "Mount sysfs, or look as root.")
    if not found:
        return failed("no NVIDIA GPU", "Fit one of `strongroom doctor --matrix`, or give it to this machine.")
    models = matrix().models
    others = sorted({gpu.device for gpu in found if gpu.device not in models})
    if others:
        return unknown(f"10de:{others[0]} is not among the models known here", "See `strongroom doctor --matrix`.")
    names = sorted({models[gpu.device] for gpu in found})
    return passed(shown(f"{len(found)} × {', '.join(names)}"))


def driver(host: Host) -> Finding:
    """Every GPU is held for guests (vfio-pci), or by NVIDIA's open driver of a version that has the confidential mode."""
    found = facts.nvidia_gpus(host)
    if found is None:
        return unknown("the PCI bus cannot be read", "Mount sysfs, or look as root.")
    if not found:
        return failed("no NVIDIA GPU", "Fit one of `strongroom doctor --matrix`, or give it to this machine.")
    holders = {gpu.driver for gpu in found}
    if holders == {VFIO}:
        return passed("vfio-pci: held for guests")
    if holders != {NVIDIA}:
        others = ", ".join(sorted(name or "nobody" for name in holders))
        return failed(
            f"held by {shown(others)}",
            "On a host of guests bind them all to vfio-pci; in a guest use NVIDIA's open driver.",
        )
    return _own_driver(host, {gpu.device for gpu in found})


def held(host: Host, addresses: Sequence[str]) -> Finding:
    """The GPUs at these addresses (each with its domain) are held for guests, whoever holds others: what a launch needs."""
    found = facts.nvidia_gpus(host)
    if found is None:
        return unknown("the PCI bus cannot be read", "Mount sysfs, or look as root.")
    if not addresses:
        return failed("no GPU is given", "Name each by its PCI address (--gpu).")
    by = {gpu.address: gpu.driver for gpu in found}
    for address in addresses:
        if by.get(address) != VFIO:
            said = f"held by {by[address] or 'nobody'}" if address in by else "no NVIDIA GPU"
            return failed(
                f"{shown(address)}: {shown(said)}", "Bind it to vfio-pci (driverctl set-override), before the launch."
            )
    return passed("vfio-pci: held for guests")


def _own_driver(host: Host, devices: set[str]) -> Finding:
    text = host.text("/proc/driver/nvidia/version", head=True) or ""
    line = text.partition("\n")[0]
    kernel_module = re.search(r"NVIDIA UNIX (Open )?(?:\S+ )?Kernel Module(?: for \S+)?\s+(\d[\d.]{0,30})", line)
    if kernel_module is None:
        return unknown("/proc/driver/nvidia/version does not say which driver", "Install NVIDIA's open driver.")
    version = facts.version(kernel_module[2], 3)
    needed = {matrix().least_driver(device) for device in devices}
    least = max((facts.version(text, 3) or () for text in needed if text is not None), default=())
    listed = ".".join(map(str, least)) or "a listed version"
    remedy = f"Install NVIDIA's open driver, {listed} or newer; see `strongroom doctor --matrix`."
    if not kernel_module[1]:
        return failed(f"{shown(kernel_module[2])}, but not the open kernel module", remedy)
    if version is None or not least or None in needed:
        return unknown(f"{shown(kernel_module[2])}", remedy)
    said = f"open kernel module {shown(kernel_module[2])}"
    return passed(said) if version >= least else failed(said, remedy)


def mode(host: Host) -> Finding:
    """NVIDIA's tool says: confidential mode on, environment production, developer tools off."""
    if facts.nvidia_gpus(host) == ():
        return failed("no NVIDIA GPU", "Fit one of `strongroom doctor --matrix`, or give it to this machine.")
    for option, wanted in _OPTIONS.items():
        said = host.probe.gpu_says(option)
        name, _, _ = wanted.partition(":")
        if said is None:
            return unknown(
                "nvidia-smi is not here, or does not answer", f"Ask nvidia_gpu_tools.py --query-cc-mode. {_MODE}"
            )
        if said == wanted:
            continue
        if said.startswith(f"{name}:"):
            return failed(shown(said), _MODE)
        return unknown(f"nvidia-smi says {shown(said)}", _MODE)
    return passed("on, production, no developer tools")
