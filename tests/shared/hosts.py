"""Hosts made of files, for `strongroom.launch.doctor`: what Linux shows of a few machines, and what they answer when asked."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from strongroom.launch.doctor import Host
from strongroom.launch.doctor.host import kind_of

GIB = 1 << 30
EFI = "8be4df61-93ca-11d2-aa0d-00e098032b8c"
SHIM = "605dab50-e046-4300-abb6-3dd810dd8b23"
FOLDER = object()
QCNL = """{
  // the caching service
  "pccs_url": "https://pccs.example.org:8081/sgx/certification/v4/",
  "use_secure_cert": true
}"""
NVRM = (
    "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.65.06  Release Build  (dvs-builder)\nGCC version: 13"
)


@dataclass(frozen=True)
class Link:
    target: str


@dataclass(frozen=True)
class Answers:
    """A probe whose answers are given; what is not given cannot be asked."""

    registers: Mapping[int, int] = field(default_factory=dict)
    snp: bytes | None = None
    landlock: int | None = None
    synchronised: bool | None = None
    free: int | None = None
    gpu: Mapping[str, str] = field(default_factory=dict)

    def register(self, number: int) -> int | None:
        return self.registers.get(number)

    def snp_status(self) -> bytes | None:
        return self.snp

    def landlock_abi(self) -> int | None:
        return self.landlock

    def clock_is_synchronised(self) -> bool | None:
        return self.synchronised

    def free_bytes(self) -> int | None:
        return self.free

    def gpu_says(self, option: str) -> str | None:
        return self.gpu.get(option)


@dataclass(frozen=True)
class Machine:
    """A host before it is written: its files by path, and its answers."""

    files: Mapping[str, object]
    answers: Answers = Answers()

    def but(
        self, files: Mapping[str, object] | None = None, *, without: tuple[str, ...] = (), **answers: object
    ) -> Machine:
        """The same machine with other files and answers; all below a path of `without` is gone."""
        kept = {
            p: what
            for p, what in self.files.items()
            if not any(p == gone or p.startswith(f"{gone}/") for gone in without)
        }
        return Machine({**kept, **(files or {})}, replace(self.answers, **answers))

    def written(self, root: Path) -> Host:
        """The machine as a tree below `root`, which is made."""
        root.mkdir(parents=True, exist_ok=True)
        for path, what in self.files.items():
            write(root / path.lstrip("/"), what)
        return Host(root, self.answers, kind)


def kind(place: Path) -> int:
    """Only root can make a device: a plain file stands for each, and for each socket, where this is asked."""
    found = kind_of(place)
    if found != stat.S_IFREG:
        return found
    return stat.S_IFCHR if place.parent.name == "dev" else stat.S_IFSOCK if place.suffix == ".socket" else found


def write(place: Path, what: object) -> None:
    if what is FOLDER:
        place.mkdir(parents=True, exist_ok=True)
        return
    place.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(what, Link):
        place.symlink_to(what.target)
    else:
        place.write_bytes(what if isinstance(what, bytes) else f"{what}\n".encode())


def cpuinfo(vendor: str, family: int, model: int, name: str, flags: str, cpus: int = 4) -> str:
    one = (
        f"vendor_id\t: {vendor}\ncpu family\t: {family}\nmodel\t\t: {model}\nmodel name\t: {name}\nstepping\t: 8\n"
        f"microcode\t: 0x2b000603\nflags\t\t: fpu msr rdrand rdseed {flags}\n"
    )
    return "\n".join(f"processor\t: {i}\n{one}" for i in range(cpus))


def efi(*, value: int) -> bytes:
    return b"\6\0\0\0" + bytes([value])


def gpu(address: str, device: str, driver: str) -> dict[str, object]:
    """A GPU at `address`, as sysfs shows it: the bus has links to the devices, a device to its driver."""
    place = f"/sys/devices/pci0000:00/{address}"
    return {
        f"/sys/bus/pci/devices/{address}": Link(f"../../../devices/pci0000:00/{address}"),
        f"{place}/vendor": "0x10de",
        f"{place}/device": f"0x{device}",
        f"{place}/class": "0x030200",
        f"{place}/driver": Link(f"../../../bus/pci/drivers/{driver}"),
        f"/sys/bus/pci/drivers/{driver}": FOLDER,
    }


def snp_status(
    *, minor: int = 55, state: int = 1, init: int = 3, current: int = 0x1B00_0000_0000_0A04, reported: int | None = None
) -> bytes:
    numbers = (39).to_bytes(4, "little") + bytes(8) + current.to_bytes(8, "little")
    return bytes([1, minor, state, init]) + numbers + (current if reported is None else reported).to_bytes(8, "little")


SERVER = Machine(
    {
        f"/sys/firmware/efi/efivars/SecureBoot-{EFI}": efi(value=1),
        f"/sys/firmware/efi/efivars/SetupMode-{EFI}": efi(value=0),
        "/sys/class/tpm/tpm0": Link("../../devices/pnp0/00:05/tpm/tpm0"),
        "/sys/devices/pnp0/00:05/tpm/tpm0/tpm_version_major": "2",
        "/sys/class/iommu/dmar0": FOLDER,
        "/sys/kernel/iommu_groups/0/devices": FOLDER,
        "/sys/kernel/iommu_groups/1/devices": FOLDER,
        "/sys/kernel/security/lockdown": "none [integrity] confidentiality",
        "/sys/kernel/security/lsm": "lockdown,capability,landlock,yama,apparmor",
        "/sys/kernel/mm/transparent_hugepage/enabled": "always [madvise] never",
        "/sys/devices/system/cpu/online": "0-3",
        "/sys/devices/system/cpu/vulnerabilities/old_microcode": "Not affected",
        "/sys/devices/system/clocksource/clocksource0/current_clocksource": "tsc",
        "/sys/class/dmi/id/bios_vendor": "Example Corp.",
        "/sys/class/dmi/id/bios_version": "2.4b",
        "/sys/class/dmi/id/bios_date": "03/01/2026",
        "/sys/bus/pci/devices": FOLDER,
        "/sys/module/kvm": FOLDER,
        "/dev/kvm": "",
        "/proc/meminfo": "MemTotal: 527433728 kB\nMemFree: 511000000 kB\nMemAvailable: 515000000 kB\nHugePages_Total: 0",
        "/proc/swaps": "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority",
        "/proc/cmdline": "BOOT_IMAGE=/vmlinuz root=/dev/sda2 ro nohibernate kvm_intel.tdx=1",
        "/proc/sys/kernel/osrelease": "6.17.0-8-generic",
        "/proc/sys/kernel/core_pattern": "core",
        "/proc/sys/kernel/seccomp/actions_avail": "kill_process kill_thread trap errno user_notif trace log allow",
        "/proc/sys/user/max_user_namespaces": "256000",
        "/proc/self": Link("4321"),
        **{f"/proc/4321/ns/{name}": FOLDER for name in ("cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts")},
        "/proc/4321/comm": "strongroom",
    },
    Answers(landlock=7, synchronised=True, free=400 * GIB),
)
"""What a good server of either make has."""

SAPPHIRE_RAPIDS = SERVER.but(
    {
        "/proc/cpuinfo": cpuinfo(
            "GenuineIntel", 6, 143, "Intel(R) Xeon(R) Platinum 8480+", "vmx tme sgx tdx_host_platform"
        ),
        "/sys/module/kvm_intel/parameters/tdx": "Y",
        "/sys/module/kvm_intel/parameters/sgx": "Y",
        "/sys/devices/faux/tdx_host/version": "1.5.06",
        "/sys/power/disk": "[platform] shutdown reboot suspend test_resume",
        "/sys/fs/cgroup/misc.capacity": "tdx 63",
        "/run/tdx-qgs/qgs.socket": "",
        "/etc/sgx_default_qcnl.conf": QCNL,
    },
    registers={0x982: 0b11, 0x1401: 1 << 11, 0x87: 64 << 32, 0xA0: 0, 0xCE: 0},
)
TDX_OFF_IN_BIOS = SAPPHIRE_RAPIDS.but(
    {
        "/proc/cpuinfo": cpuinfo("GenuineIntel", 6, 143, "Intel(R) Xeon(R) Platinum 8480+", "vmx tme"),
        "/sys/module/kvm_intel/parameters/tdx": "N",
        "/sys/module/kvm_intel/parameters/sgx": "N",
        "/sys/fs/cgroup/misc.capacity": "",
    },
    without=("/sys/devices/faux", "/run/tdx-qgs"),
    registers={0x982: 0, 0x1401: 0, 0x87: 0, 0xA0: 0, 0xCE: 0},
)
GENOA = SERVER.but(
    {
        "/proc/cpuinfo": cpuinfo(
            "AuthenticAMD", 25, 17, "AMD EPYC 9654 96-Core Processor", "svm sme sev sev_es sev_snp"
        ),
        "/sys/module/kvm_amd/parameters/sev": "Y",
        "/sys/module/kvm_amd/parameters/sev_es": "Y",
        "/sys/module/kvm_amd/parameters/sev_snp": "Y",
        "/sys/module/ccp": FOLDER,
        "/dev/sev": "",
        "/sys/fs/cgroup/misc.capacity": "sev 410\nsev_es 99",
    },
    snp=snp_status(),
)
ALIASES_NOT_CHECKED = GENOA.but(snp=snp_status(minor=51, init=1))
H100 = SAPPHIRE_RAPIDS.but(
    {
        **gpu("0000:45:00.0", "2330", "nvidia"),
        "/proc/driver/nvidia/version": NVRM,
    },
    gpu={"-f": "CC status: ON", "-e": "CC Environment: PRODUCTION", "-d": "DevTools Mode: OFF"},
)
H100_OFF = H100.but(gpu={"-f": "CC status: OFF", "-e": "CC Environment: PRODUCTION", "-d": "DevTools Mode: OFF"})
LAPTOP = SERVER.but(
    {
        "/proc/cpuinfo": cpuinfo("GenuineIntel", 6, 154, "12th Gen Intel(R) Core(TM) i7-1260P", "vmx"),
        f"/sys/firmware/efi/efivars/SecureBoot-{EFI}": efi(value=0),
        "/sys/module/kvm_intel/parameters/tdx": "N",
        "/sys/kernel/security/lockdown": "[none] integrity confidentiality",
        "/proc/swaps": "Filename\tType\tSize\tUsed\tPriority\n/dev/dm-1 partition 8388604 0 -2",
        "/proc/sys/kernel/core_pattern": "|/usr/lib/systemd/systemd-coredump %P %u",
        "/proc/cmdline": "BOOT_IMAGE=/vmlinuz quiet splash",
        "/sys/power/disk": "[platform] shutdown",
    },
)
MICRO_VM = Machine(
    {
        "/proc/cpuinfo": cpuinfo("AuthenticAMD", 25, 17, "AMD EPYC", "hypervisor", cpus=2),
        "/proc/meminfo": "MemTotal: 24684084 kB\nMemAvailable: 23872324 kB\nHugePages_Total: 0",
        "/proc/swaps": "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority",
        "/proc/cmdline": "console=ttyS0 reboot=k panic=1",
        "/proc/sys/kernel/osrelease": "6.18.44",
        "/proc/sys/kernel/core_pattern": "core",
        "/sys/firmware/acpi": FOLDER,
        "/sys/class/iommu": FOLDER,
        "/sys/class/net": FOLDER,
        "/sys/kernel/iommu_groups": FOLDER,
        "/sys/module/kvm": FOLDER,
        "/sys/module/kvm_pvm": FOLDER,
        "/sys/bus/pci/devices": FOLDER,
        "/sys/devices/system/cpu/online": "0-1",
        "/dev/kvm": "",
    },
    Answers(free=70 * GIB),
)
"""A small VM without any TEE whose KVM is software: the node is there, the CPU's module is not."""

READY = {
    "tdx": SAPPHIRE_RAPIDS,
    "snp": GENOA,
    "gpu": H100,
    "worker": SERVER.but({"/proc/cpuinfo": GENOA.files["/proc/cpuinfo"]}),
}


def fifo(place: Path) -> None:
    place.unlink(missing_ok=True)
    os.mkfifo(place)
