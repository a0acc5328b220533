"""AMD SEV-SNP: whether this host is ready to start guests that its firmware vouches for.

Knows: modules, the device, what the firmware says. Does not know: whether a report holds, nor minimum TCB versions: those are a policy's.
Sources: SEV-SNP Firmware ABI, publication 56860, section 8.3; Linux `include/uapi/linux/psp-sev.h`, `admin-guide/cgroup-v2.rst`
(misc); the least firmware version, 1.51, is the one that virtee's snphost asks for; ALIAS_CHECK_COMPLETE exists since Milan
1.55.22 and Genoa 1.55.38 (AMD-SB-3015, CVE-2024-21944: memory modules that lie about their size).
"""

from __future__ import annotations

import stat

from strongroom.launch.doctor import facts
from strongroom.launch.doctor.finding import Finding, failed, passed, shown, unknown
from strongroom.launch.doctor.host import Host
from strongroom.tee.snp import products

LEAST_FIRMWARE = (1, 51)
_BIOS = "In the firmware's setup switch on SMEE, SEV-SNP, the RMP and the IOMMU, with SEV-ES ASIDs above 0."
_NO_FIRMWARE = "Load the module ccp, and look as root where /dev/sev is."


def cpu(host: Host) -> Finding:
    """The CPU is AMD's, of a product whose reports are known here, and the kernel found SEV-SNP."""
    found = facts.cpu(host)
    if found is None:
        return unknown("/proc/cpuinfo cannot be read", "Mount proc.")
    if found.vendor != facts.AMD:
        return failed(f"a CPU of {shown(found.vendor)}", "SEV-SNP needs an AMD EPYC of the third generation or later.")
    if "sev_snp" not in found.flags:
        return failed("no flag sev_snp", _BIOS)
    product = None if found.family is None or found.model is None else products.of_cpuid(found.family, found.model)
    if product is None:
        return unknown(
            f"{shown(found.name)}: no product that is known here", "Update strongroom, or use Milan, Genoa or Turin."
        )
    return passed(f"{product}: {shown(found.name)}")


def kvm(host: Host) -> Finding:
    """KVM may start SEV, SEV-ES and SEV-SNP guests."""
    remedy = "Load it with kvm_amd.sev=1 sev_es=1 sev_snp=1, on a kernel that has SNP hosts (upstream: 6.11)."
    modules = host.names("/sys/module")
    if modules is None:
        return unknown("/sys/module cannot be read", "Mount sysfs.")
    if "kvm_amd" not in modules:
        return failed("kvm_amd is not loaded", remedy)
    on = {name: facts.switch(host, f"/sys/module/kvm_amd/parameters/{name}") for name in ("sev", "sev_es", "sev_snp")}
    off = [name for name, value in on.items() if value is False]
    if off:
        return failed(f"kvm_amd.{off[-1]}=N", remedy)
    if all(on.values()):
        return passed("sev, sev_es, sev_snp")
    if host.there("/sys/module/kvm_amd/parameters/sev_snp") is False:
        return failed("kvm_amd has no parameter sev_snp", remedy)
    return unknown("kvm_amd's parameters cannot be read", remedy)


def device(host: Host) -> Finding:
    """The security processor has its device."""
    there = host.node("/dev/sev", stat.S_IFCHR)
    if there:
        return passed("/dev/sev")
    return (
        unknown("/dev cannot be read", "Mount /dev.")
        if there is None
        else failed("no device /dev/sev", "Load the module ccp.")
    )


def firmware(host: Host) -> Finding:
    """SEV-SNP's firmware is of interface 1.51 or newer."""
    status = facts.snp_status(host)
    if status is None:
        return _silent()
    said = f"{status.version[0]}.{status.version[1]}, build {status.build}"
    remedy = "Update the machine's firmware, or load AMD's SEV firmware (linux-firmware, amd/)."
    return passed(said) if status.version >= LEAST_FIRMWARE else failed(said, remedy)


def initialised(host: Host) -> Finding:
    """The firmware's SEV-SNP is initialised."""
    status = facts.snp_status(host)
    if status is None:
        return _silent()
    return (
        passed("yes")
        if status.initialised
        else failed("no", "Look for 'SEV-SNP API' in the kernel's log; then " + _BIOS)
    )


def rmp(host: Host) -> Finding:
    """The table that says which page belongs to whom (RMP) is initialised."""
    status = facts.snp_status(host)
    if status is None:
        return _silent()
    return (
        passed("initialised")
        if status.rmp_initialised
        else failed("not initialised", f"{_BIOS} It must cover all memory.")
    )


def aliases(host: Host) -> Finding:
    """The firmware has looked for memory modules that show one cell at two addresses, and found none."""
    status = facts.snp_status(host)
    if status is None:
        return _silent()
    remedy = "Update the firmware (Milan 1.55.22, Genoa 1.55.38 or newer); if it stays so, a memory module lies about its size."
    return passed("complete") if status.aliases_checked else failed("not complete", remedy)


def tcb(host: Host) -> Finding:
    """The firmware reports the TCB version that it has, so that evidence is of what runs."""
    status = facts.snp_status(host)
    if status is None:
        return _silent()
    said = f"current {status.tcb_current:016x}, reported {status.tcb_reported:016x}"
    if status.tcb_current == 0:
        return unknown(said, "A TCB version of zero is none; update the firmware.")
    same = status.tcb_current == status.tcb_reported
    return passed(said) if same else failed(said, "snphost commit, once you are sure that you will not go back.")


def capacity(host: Host) -> Finding:
    """The kernel counts numbers for encrypted guests (ASIDs): so many can run at once."""
    count = facts.capacity(host, "sev_es")
    if count is None:
        return unknown("/sys/fs/cgroup/misc.capacity cannot be read", "Use cgroup version 2 with the misc controller.")
    return passed(f"{count} guests at once") if count else failed("none", _BIOS)


def _silent() -> Finding:
    return unknown("the firmware was not asked, or did not answer", _NO_FIRMWARE)
