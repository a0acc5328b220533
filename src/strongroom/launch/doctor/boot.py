"""How this machine was started and what it is: secure boot, TPM, lockdown, IOMMU, KVM, firmware, clock.

Knows: where Linux says so. Does not know: TEEs.
Sources: Linux `filesystems/efivarfs.rst`, `ABI/stable/sysfs-class-tpm`, `ABI/testing/sysfs-kernel-iommu_groups`,
`ABI/testing/sysfs-devices-system-cpu` (old_microcode), `ABI/testing/sysfs-firmware-dmi-tables`, `man 7 kernel_lockdown`,
`man 2 adjtimex`; shim's MokSBStateRT.
Not covered: whether the keys that secure boot admits are good ones; measured boot says what was started.
"""

from __future__ import annotations

import re
import stat

from strongroom.launch.doctor import facts
from strongroom.launch.doctor.finding import Finding, failed, passed, shown, unknown
from strongroom.launch.doctor.host import Host

LEAST_KERNEL = (6, 11)
_GLOBAL = "8be4df61-93ca-11d2-aa0d-00e098032b8c"
_SHIM = "605dab50-e046-4300-abb6-3dd810dd8b23"
_MODULES = {"kvm_intel": (facts.INTEL, "vmx"), "kvm_amd": (facts.AMD, "svm")}


def secure_boot(host: Host) -> Finding:
    """UEFI Secure Boot is on, not in setup mode, and shim has not been told to skip it."""
    remedy = "Switch Secure Boot on in the firmware's setup, with keys of yours or of your distribution."
    firmware = host.names("/sys/firmware")
    if firmware is None:
        return unknown("/sys/firmware cannot be read", "Mount sysfs, or look as root.")
    if "efi" not in firmware:
        return failed("this machine was not started by UEFI", remedy)
    on, open_to_keys = facts.efi_flag(host, "SecureBoot", _GLOBAL), facts.efi_flag(host, "SetupMode", _GLOBAL)
    if on is None or open_to_keys is None:
        remedy = "mount -t efivarfs none /sys/firmware/efi/efivars, and look as root."
        return unknown("the firmware's variables SecureBoot and SetupMode cannot be read", remedy)
    if not on or open_to_keys:
        return failed(
            "Secure Boot is off" if not on else "the firmware is in setup mode: anybody may enrol keys", remedy
        )
    return _shim(host)


def _shim(host: Host) -> Finding:
    """Shim tells the kernel by a variable that it checks nothing; where it says nothing, it checks."""
    skips = facts.efi_flag(host, "MokSBStateRT", _SHIM)
    remedy = "mokutil --enable-validation, then restart."
    if skips:
        return failed("shim does not check what it starts (MokSBState)", remedy)
    if skips is None and host.there(f"/sys/firmware/efi/efivars/MokSBStateRT-{_SHIM}") is not False:
        return unknown("shim's variable MokSBStateRT cannot be read", remedy)
    return passed("on")


def tpm(host: Host) -> Finding:
    """There is a TPM, and it is of version 2.0."""
    classes = host.names("/sys/class")
    if classes is None:
        return unknown("/sys/class cannot be read", "Mount sysfs, or look as root.")
    found = [name for name in host.names("/sys/class/tpm") or () if re.fullmatch(r"tpm\d{1,4}", name, re.ASCII)]
    if not found:
        return failed("there is no TPM", "Switch the TPM (PTT, fTPM) on in the firmware's setup, or fit one.")
    major = {host.text(f"/sys/class/tpm/{name}/tpm_version_major") for name in found}
    if "2" in major:
        return passed(f"TPM 2.0 ({', '.join(found[:4])})")
    if major == {"1"}:
        return failed("the TPM is of version 1.2", "Update the TPM to 2.0, or switch on the one in the CPU's firmware.")
    return unknown("the TPM does not say its version", "Update the kernel to 5.6 or newer.")


def kernel(host: Host) -> Finding:
    """Linux 6.11 or newer: the first in which KVM holds SEV-SNP guests; TDX guests came with 6.16."""
    text = host.text("/proc/sys/kernel/osrelease")
    found = facts.version(text)
    if found is None:
        return unknown("/proc/sys/kernel/osrelease does not say it", "Mount proc.")
    said = f"Linux {shown(text or '')}"
    return passed(said) if found >= LEAST_KERNEL else failed(said, "Use Linux 6.11 or newer, and for TDX 6.16.")


def lockdown(host: Host) -> Finding:
    """The kernel is locked down: not even root may change it while it runs."""
    remedy = "Start the kernel with lockdown=confidentiality (or integrity), or with Secure Boot where that implies it."
    text = host.text("/sys/kernel/security/lockdown")
    if text is None:
        listed = host.names("/sys/kernel/security")
        if listed:
            return failed("this kernel has no lockdown", remedy)
        return unknown("/sys/kernel/security cannot be read", "mount -t securityfs none /sys/kernel/security")
    chosen = re.findall(r"\[([a-z]+)\]", text)
    if chosen in (["integrity"], ["confidentiality"]):
        return passed(chosen[0])
    return failed("off", remedy) if chosen == ["none"] else unknown(f"it says {shown(text)}", remedy)


def iommu(host: Host) -> Finding:
    """An IOMMU is on, and devices are in its groups."""
    units, groups = host.names("/sys/class/iommu"), host.names("/sys/kernel/iommu_groups")
    if units is None or groups is None:
        return unknown("/sys/class/iommu or /sys/kernel/iommu_groups cannot be read", "Mount sysfs, or look as root.")
    if units and groups:
        return passed(f"{len(units)} units, {len(groups)} groups")
    remedy = "Switch VT-d or AMD-Vi on in the firmware's setup; on Intel start the kernel with intel_iommu=on."
    return failed("no IOMMU is in use", remedy)


def kvm(host: Host) -> Finding:
    """KVM is the CPU's own: by its module and the CPU's flag. The node /dev/kvm alone proves nothing."""
    remedy = "Switch VT-x or SVM on in the firmware's setup and load kvm_intel or kvm_amd; inside a VM use QEMU's TCG."
    modules, cpu = host.names("/sys/module"), facts.cpu(host)
    if modules is None or cpu is None:
        return unknown("/sys/module or /proc/cpuinfo cannot be read", "Mount sysfs and proc, or look as root.")
    node = host.node("/dev/kvm", stat.S_IFCHR)
    for module, (vendor, flag) in _MODULES.items():
        if module in modules and cpu.vendor == vendor and flag in cpu.flags:
            return (
                passed(module)
                if node
                else failed(f"{module} is loaded, but there is no device /dev/kvm", "modprobe kvm, or mount /dev.")
            )
    other = [name for name in modules if name.startswith("kvm_")]
    if node:
        return failed(f"/dev/kvm is there, but not the CPU's KVM ({shown(', '.join(other) or 'no module')})", remedy)
    return failed("neither kvm_intel nor kvm_amd works here", remedy)


def microcode(host: Host) -> Finding:
    """The CPU says its microcode's revision, and the kernel knows no newer one that it should have."""
    remedy = "Update the firmware, or install intel-microcode or amd64-microcode, and restart."
    cpu = facts.cpu(host)
    if cpu is None or not re.fullmatch(r"0x[0-9a-f]{1,16}", cpu.microcode) or int(cpu.microcode, 16) == 0:
        return unknown("/proc/cpuinfo does not say it", remedy)
    age = host.text("/sys/devices/system/cpu/vulnerabilities/old_microcode")
    if age is None:
        return unknown(f"{cpu.microcode}; this kernel does not know whether that is old", "Use Linux 6.16 or newer.")
    return passed(f"{cpu.microcode}") if age == "Not affected" else failed(f"{cpu.microcode}: {shown(age)}", remedy)


def bios(host: Host) -> Finding:
    """The firmware says who made it, and its version and date: what an operator must know to update it."""
    said = [host.text(f"/sys/class/dmi/id/bios_{name}") for name in ("vendor", "version", "date")]
    words = [word for word in said if word]
    if len(words) == len(said):
        return passed(shown(" ".join(words)))
    return unknown("the firmware does not say its maker, version and date (DMI)", "Look in the firmware's setup.")


def clock_source(host: Host) -> Finding:
    """Time is counted by the CPU itself (tsc), not by a device that somebody else can move."""
    source = host.text("/sys/devices/system/clocksource/clocksource0/current_clocksource")
    if source is None:
        return unknown("the clock source cannot be read", "Mount sysfs.")
    if source == "tsc":
        return passed("tsc")
    return failed(shown(source), "Start the kernel with clocksource=tsc, on a CPU with an invariant TSC.")


def clock_service(host: Host) -> Finding:
    """A time service steers the clock: certificates, nonces and leases end by it."""
    synchronised = host.probe.clock_is_synchronised()
    if synchronised:
        return passed("synchronised")
    remedy = "Run chrony or systemd-timesyncd, with NTS where your servers offer it."
    if synchronised is None:
        return unknown("the running kernel was not asked", remedy)
    return failed("the kernel says that nobody steers its clock", remedy)
