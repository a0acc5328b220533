"""What the kernel's tables say, parsed totally: what does not read as expected is None, never a guess.

Knows: the forms of /proc/cpuinfo, /proc/meminfo, /proc/swaps, switches of modules, misc.capacity, PCI devices, SNP_PLATFORM_STATUS.
Does not know: what is good. Numbers that no machine has count as not said.
Sources: Linux `Documentation/filesystems/proc.rst`, `admin-guide/cgroup-v2.rst` (misc), `ABI/testing/sysfs-bus-pci`;
SEV-SNP Firmware ABI, publication 56860, section 8.3 (byte 3: bit 0 IS_RMP_INIT, bit 1 ALIAS_CHECK_COMPLETE).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from strongroom.launch.doctor.host import Host
from strongroom.launch.doctor.probe import SNP_STATUS_BYTES

INTEL, AMD = "GenuineIntel", "AuthenticAMD"
MOST_DIGITS = 18
MOST_CPUS = 8192
MOST_DEVICES = 512
_NVIDIA = "0x10de"
_DISPLAY, _CONTROLLER_3D = "0x0300", "0x0302"


@dataclass(frozen=True, slots=True)
class Cpu:
    """The first CPU of /proc/cpuinfo. `family` and `model` are None where they are not said."""

    vendor: str
    flags: frozenset[str]
    family: int | None
    model: int | None
    name: str
    microcode: str


@dataclass(frozen=True, slots=True)
class PciDevice:
    """A device: its address, its vendor's number for it (four hex digits), the driver that holds it ('' for none)."""

    address: str
    device: str
    driver: str


@dataclass(frozen=True, slots=True)
class SnpStatus:
    """What AMD's firmware says of itself: `version` of its interface, `build`, both TCB versions as raw numbers."""

    version: tuple[int, int]
    build: int
    initialised: bool
    rmp_initialised: bool
    aliases_checked: bool
    tcb_current: int
    tcb_reported: int


def number(text: str | None) -> int | None:
    """A plain decimal number, or None."""
    if text is None or not text.isascii() or not text.isdigit() or len(text) > MOST_DIGITS:
        return None
    return int(text)


def version(text: str | None, parts: int = 2) -> tuple[int, ...] | None:
    """The first `parts` numbers of `1.2.3-anything`, or None."""
    found = re.match(r"(\d{1,6})" + r"\.(\d{1,6})" * (parts - 1) + r"(?![\d])", text or "", re.ASCII)
    return tuple(map(int, found.groups())) if found else None


def switch(host: Host, path: str) -> bool | None:
    """A kernel parameter that is Y or N, 1 or 0; None where it is missing or says anything else."""
    return {"Y": True, "1": True, "N": False, "0": False}.get(host.text(path) or "")


def cpu(host: Host) -> Cpu | None:
    """The first CPU, or None."""
    text = host.text("/proc/cpuinfo", head=True)
    fields: dict[str, str] = {}
    for line in (text or "").splitlines():
        if not line.strip():
            break
        name, _, value = line.partition(":")
        fields.setdefault(name.strip(), value.strip())
    if "vendor_id" not in fields or "flags" not in fields:
        return None
    return Cpu(
        fields["vendor_id"],
        frozenset(fields["flags"].split()),
        number(fields.get("cpu family")),
        number(fields.get("model")),
        fields.get("model name", ""),
        fields.get("microcode", ""),
    )


def cpus_online(host: Host) -> int | None:
    """How many CPUs are online: `0-3,6` is five."""
    count = 0
    for part in (host.text("/sys/devices/system/cpu/online") or "x").split(","):
        first, dash, last = part.partition("-")
        low, high = number(first), number(last if dash else first)
        if low is None or high is None or high < low:
            return None
        count += high - low + 1
    return count if count <= MOST_CPUS else None


def memory(host: Host) -> dict[str, int]:
    """/proc/meminfo: name to its number, in kibibytes where it has a unit, as a count where not. What does not parse is left out."""
    found: dict[str, int] = {}
    for line in (host.text("/proc/meminfo") or "").splitlines():
        name, _, value = line.partition(":")
        words = value.split()
        amount = number(words[0]) if words else None
        if amount is not None and (len(words) == 1 or words[1:] == ["kB"]):
            found.setdefault(name.strip(), amount)
    return found


def swap_devices(host: Host) -> int | None:
    """How many swap devices are in use, or None where the table is missing or has another heading."""
    lines = (host.text("/proc/swaps") or "").splitlines()
    return len(lines) - 1 if lines and lines[0].split()[:2] == ["Filename", "Type"] else None


def capacity(host: Host, name: str) -> int | None:
    """How many of something the kernel's misc controller has: `tdx`, `sev`, `sev_es`; 0 where it counts others but not this."""
    found: dict[str, int] = {}
    text = host.text("/sys/fs/cgroup/misc.capacity")
    if text is None:
        return None
    for line in text.splitlines():
        words = line.split()
        amount = number(words[1]) if len(words) == 2 else None  # noqa: PLR2004  # a name and a number
        if amount is None:
            return None
        found[words[0]] = amount
    return found.get(name, 0)


def nvidia_gpus(host: Host) -> tuple[PciDevice, ...] | None:
    """NVIDIA's display and 3D controllers on the PCI bus, or None where the bus cannot be read or a device has no number."""
    bus = "/sys/bus/pci/devices"
    names = host.names(bus)
    if names is None or len(names) > MOST_DEVICES:
        return None
    found: list[PciDevice] = []
    for name in names:
        vendor, kind = host.text(f"{bus}/{name}/vendor"), host.text(f"{bus}/{name}/class")
        if vendor is None or kind is None:
            return None
        if vendor != _NVIDIA or kind[:6] not in {_DISPLAY, _CONTROLLER_3D}:
            continue
        device = re.fullmatch(r"0x([0-9a-f]{4})", host.text(f"{bus}/{name}/device") or "")
        if device is None:
            return None
        driver = host.resolve(f"{bus}/{name}/driver")
        found.append(PciDevice(name, device[1], driver.name if driver else ""))
    return tuple(found)


def efi_flag(host: Host, name: str, owner: str) -> bool | None:
    """A variable of the firmware that is one byte, 0 or 1, behind its four bytes of attributes (Linux, efivarfs.rst)."""
    data = host.data(f"/sys/firmware/efi/efivars/{name}-{owner}")
    return {b"\0": False, b"\1": True}.get(data[4:]) if data is not None and len(data) == 5 else None  # noqa: PLR2004


def snp_status(host: Host) -> SnpStatus | None:
    """The answer of AMD's firmware, or None where there is none or it is of another length."""
    data = host.probe.snp_status()
    if data is None or len(data) != SNP_STATUS_BYTES:
        return None
    return SnpStatus(
        version=(data[0], data[1]),
        build=int.from_bytes(data[4:8], "little"),
        initialised=data[2] == 1,
        rmp_initialised=bool(data[3] & 1),
        aliases_checked=bool(data[3] & 2),
        tcb_current=int.from_bytes(data[16:24], "little"),
        tcb_reported=int.from_bytes(data[24:32], "little"),
    )
