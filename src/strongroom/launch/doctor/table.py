"""Every check of a host, and who asks for it.

Knows: the list. Does not know: how a check is made.
"""

from __future__ import annotations

from collections.abc import Callable

from strongroom.launch.doctor import boot, capacity, facts, gpu, snp, tdx, worker
from strongroom.launch.doctor.finding import Check, Finding
from strongroom.launch.doctor.host import Host

PURPOSES = {
    "tdx": "start trust domains of Intel TDX",
    "snp": "start guests of AMD SEV-SNP",
    "gpu": "give a confidential GPU to a guest, or use one in it",
    "worker": "run a worker, inside a guest or on its own",
    "launcher": "hold machines at all: how it was started, what it is, what room it has",
}
"""What a host may be asked to be, by the word of `--for`."""

_LAUNCHER, _WORKER = frozenset({"launcher"}), frozenset({"worker"})
_TDX, _SNP, _GPU = frozenset({"tdx"}), frozenset({"snp"}), frozenset({"gpu"})
_EFI, _INTEL, _AMD = "UEFI, shim", "Intel TDX enabling guide", "SEV-SNP Firmware ABI 8.3"
_NVIDIA = "NVIDIA deployment guide"
_ROWS: tuple[tuple[str, frozenset[str], str, str, Callable[[Host], Finding]], ...] = (
    ("boot.secure", _LAUNCHER, "Secure Boot is on, not in setup mode, and shim checks what it starts", _EFI, boot.secure_boot),
    ("boot.tpm", _LAUNCHER, "there is a TPM 2.0", "Linux, sysfs-class-tpm", boot.tpm),
    ("boot.kernel", _LAUNCHER, "Linux 6.11 or newer, with which SEV-SNP hosts begin (TDX: 6.16)", "Linux releases", boot.kernel),
    ("boot.lockdown", _LAUNCHER | _WORKER, "the kernel is locked down: integrity or confidentiality", "kernel_lockdown(7)", boot.lockdown),
    ("platform.iommu", _LAUNCHER | _SNP | _GPU, "an IOMMU is on, with devices in its groups", "Linux, sysfs", boot.iommu),
    ("platform.kvm", _LAUNCHER | _TDX | _SNP, "the CPU's own kvm_intel or kvm_amd is loaded, not only a node", "Linux, sysfs", boot.kvm),
    ("platform.microcode", _LAUNCHER | _TDX | _SNP, "the CPU says its microcode; the kernel knows no newer", "Linux 6.16", boot.microcode),
    ("platform.bios", _LAUNCHER, "the firmware says its maker, version and date", "SMBIOS", boot.bios),
    ("clock.source", _LAUNCHER | _WORKER, "the clock is the CPU's own (tsc)", "Linux, sysfs", boot.clock_source),
    ("clock.service", _LAUNCHER | _WORKER, "a time service steers the clock", "adjtimex(2)", boot.clock_service),
    ("capacity.memory", _LAUNCHER, "2 GiB are available", "proc(5)", capacity.memory),
    ("capacity.cpus", _LAUNCHER, "two CPUs are online", "Linux, sysfs", capacity.cpus),
    ("capacity.disk", _LAUNCHER, "10 GiB are free in /var/lib", "statvfs(3)", capacity.disk),
    ("capacity.huge_pages", _LAUNCHER, "huge pages are transparent, or some are set aside", "Linux, transhuge", capacity.huge_pages),
    ("tdx.cpu", _TDX, "Intel's CPU has the flag tdx_host_platform", "Linux, arch/x86/tdx", tdx.cpu),
    ("tdx.kvm", _TDX, "kvm_intel.tdx is Y", "Linux, arch/x86/tdx", tdx.kvm),
    ("tdx.module", _TDX, "the kernel says the TDX module's version", "Linux, sysfs-devices-faux-tdx-host", tdx.module),
    ("tdx.memory_encryption", _TDX, "register 0x982, bit 1: memory encryption is on", _INTEL, tdx.memory_encryption),
    ("tdx.seam", _TDX, "register 0x1401, bit 11: memory is set aside for the module", _INTEL, tdx.seam),
    ("tdx.keys", _TDX, "register 0x87, bits 63:32: more than 16 keys", _INTEL, tdx.keys),
    ("tdx.mcheck", _TDX, "register 0xa0 is 0", _INTEL, tdx.mcheck),
    ("tdx.production", _TDX, "register 0xce, bit 27 is 0: a production CPU", _INTEL, tdx.production),
    ("tdx.hibernation", _TDX, "the kernel was started with nohibernate, or cannot hibernate", "Linux, arch/x86/tdx", tdx.hibernation),
    ("tdx.sgx", _TDX, "kvm_intel.sgx is Y", _INTEL, tdx.sgx),
    ("tdx.quotes", _TDX, "the quote generation service has its socket, or runs", "Intel DCAP", tdx.quotes),
    ("tdx.collateral", _TDX, "it is configured with a PCCS, by HTTPS whose certificate counts", "Intel DCAP", tdx.collateral),
    ("tdx.capacity", _TDX, "the kernel counts keys for trust domains", "Linux, cgroup misc", tdx.capacity),
    ("snp.cpu", _SNP, "AMD's CPU is Milan, Genoa or Turin and has the flag sev_snp", "AMD 57230", snp.cpu),
    ("snp.kvm", _SNP, "kvm_amd.sev, sev_es and sev_snp are Y", "Linux, sysfs", snp.kvm),
    ("snp.device", _SNP, "the device /dev/sev is there", "Linux, psp-sev.h", snp.device),
    ("snp.firmware", _SNP, "the firmware's interface is 1.51 or newer", "virtee snphost", snp.firmware),
    ("snp.initialised", _SNP, "the firmware's state is INIT", _AMD, snp.initialised),
    ("snp.rmp", _SNP, "IS_RMP_INIT is 1", _AMD, snp.rmp),
    ("snp.aliases", _SNP, "ALIAS_CHECK_COMPLETE is 1", f"{_AMD}; AMD-SB-3015", snp.aliases),
    ("snp.tcb", _SNP, "current and reported TCB version are the same, and not zero", _AMD, snp.tcb),
    ("snp.capacity", _SNP, "the kernel counts ASIDs for encrypted guests", "Linux, cgroup misc", snp.capacity),
    ("gpu.device", _GPU, "every NVIDIA GPU is of a model with a confidential mode", "`doctor --matrix`", gpu.device),
    ("gpu.driver", _GPU, "all are held by vfio-pci, or by NVIDIA's open driver, new enough for each model", _NVIDIA, gpu.driver),
    ("gpu.mode", _GPU, "NVIDIA's tool says: status ON, environment PRODUCTION, developer tools OFF", _NVIDIA, gpu.mode),
    ("worker.swap", _WORKER, "there is no swap", "proc(5)", worker.swap),
    ("worker.cores", _WORKER, "core_pattern is no pipe to a program, and no socket", "core(5)", worker.cores),
    ("worker.landlock", _WORKER, "Landlock's ABI is 6 or newer (Linux 6.12)", "Linux, landlock", worker.landlock),
    ("worker.seccomp", _WORKER, "filters of system calls: allow, errno, kill_process", "Linux, seccomp_filter", worker.seccomp),
    ("worker.namespaces", _WORKER, "ordinary accounts may make namespaces, of all six kinds", "user_namespaces(7)", worker.namespaces),
    ("worker.entropy", _WORKER, "the CPU has rdrand and rdseed", "Intel SDM, AMD APM", worker.entropy),
)  # fmt: skip

CHECKS = tuple(
    Check(f"host.{name}", name.partition(".")[0], purposes, passes_if, source, look)
    for name, purposes, passes_if, source, look in _ROWS
)
"""In the order in which they are made. `host.` keeps them apart from the checks of a verdict: these prove nothing."""


def purposes_of(host: Host) -> tuple[str, ...]:
    """What to ask of a host where nobody said: what it looks like. An unknown CPU is asked for everything, and fails."""
    cpu = facts.cpu(host)
    by_vendor = {facts.INTEL: "tdx", facts.AMD: "snp"}
    if cpu is None or cpu.vendor not in by_vendor:
        return tuple(PURPOSES)
    gpus = ("gpu",) if facts.nvidia_gpus(host) != () else ()
    return (by_vendor[cpu.vendor], *gpus, "launcher")
