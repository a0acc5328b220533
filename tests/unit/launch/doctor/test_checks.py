"""For each check: what makes it fail alone, and what makes it unknown."""

import hosts
import pytest
from hosts import EFI, FOLDER, GENOA, GIB, H100, SAPPHIRE_RAPIDS, SHIM, Link, efi, snp_status

from strongroom.launch.doctor import CHECKS, Status, examine

FAIL, UNKNOWN, PASS = Status.FAIL, Status.UNKNOWN, Status.PASS
TSC = "/sys/devices/system/clocksource/clocksource0/current_clocksource"
SMBIOS = "/sys/class/dmi/id"
VARIABLES = "/sys/firmware/efi/efivars"
LOCKDOWN = "/sys/kernel/security/lockdown"
QCNL = "/etc/sgx_default_qcnl.conf"
CPUINFO = "/proc/cpuinfo"
H200_SAYS = (
    "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.159.04  Release Build  (nixbld@)  \nGCC version:  gcc"
)
"""As a machine with an H200 says it."""
DRIVER = "/proc/driver/nvidia/version"
HTTP, HTTPS = '"pccs_url": "http://pccs.example.org/"', '"pccs_url": "https://pccs.example.org/"'
SPR, EPYC = SAPPHIRE_RAPIDS, GENOA


def registers(**changed):
    return {**SPR.answers.registers, **{int(name[1:], 16): value for name, value in changed.items()}}


def own(vendor="GenuineIntel", flags="vmx tme sgx tdx_host_platform", family=6, model=143, **words):
    text = hosts.cpuinfo(vendor, family, model, "A CPU", flags)
    for old, new in words.items():
        text = text.replace(old, new)
    return {CPUINFO: text}


def open_module(version):
    return f"NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  {version}  Release Build"


CASES = [
    ("boot.secure", FAIL, SPR.but({f"{VARIABLES}/SecureBoot-{EFI}": efi(value=0)})),
    ("boot.secure", FAIL, SPR.but({f"{VARIABLES}/SetupMode-{EFI}": efi(value=1)})),
    ("boot.secure", FAIL, SPR.but({f"{VARIABLES}/MokSBStateRT-{SHIM}": efi(value=1)})),
    ("boot.secure", PASS, SPR.but({f"{VARIABLES}/MokSBStateRT-{SHIM}": efi(value=0)})),
    ("boot.secure", UNKNOWN, SPR.but({f"{VARIABLES}/MokSBStateRT-{SHIM}": b"\1"})),
    ("boot.secure", UNKNOWN, SPR.but({f"{VARIABLES}/SecureBoot-{EFI}": b"\1"})),
    ("boot.secure", UNKNOWN, SPR.but({f"{VARIABLES}/SecureBoot-{EFI}": efi(value=2)})),
    ("boot.secure", UNKNOWN, SPR.but({f"{VARIABLES}/SecureBoot-{EFI}": efi(value=1) + b"\0"})),
    ("boot.secure", UNKNOWN, SPR.but(without=(f"{VARIABLES}/SetupMode-{EFI}",))),
    ("boot.secure", FAIL, SPR.but({"/sys/firmware/acpi": FOLDER}, without=("/sys/firmware/efi",))),
    ("boot.secure", UNKNOWN, SPR.but(without=("/sys/firmware",))),
    ("boot.tpm", FAIL, SPR.but({"/sys/devices/pnp0/00:05/tpm/tpm0/tpm_version_major": "1"})),
    ("boot.tpm", UNKNOWN, SPR.but({"/sys/devices/pnp0/00:05/tpm/tpm0/tpm_version_major": "22"})),
    ("boot.tpm", UNKNOWN, SPR.but(without=("/sys/devices/pnp0",))),
    ("boot.tpm", FAIL, SPR.but({"/sys/class/tpm": FOLDER}, without=("/sys/class/tpm",))),
    ("boot.kernel", FAIL, SPR.but({"/proc/sys/kernel/osrelease": "6.1.0-56-cloud-amd64"})),
    ("boot.kernel", UNKNOWN, SPR.but({"/proc/sys/kernel/osrelease": "newest"})),
    ("boot.kernel", UNKNOWN, SPR.but({"/proc/sys/kernel/osrelease": "9999999.0"})),
    ("boot.lockdown", FAIL, SPR.but({LOCKDOWN: "[none] integrity confidentiality"})),
    ("boot.lockdown", PASS, SPR.but({LOCKDOWN: "none integrity [confidentiality]"})),
    ("boot.lockdown", UNKNOWN, SPR.but({LOCKDOWN: "[none] [integrity]"})),
    ("boot.lockdown", FAIL, SPR.but(without=(LOCKDOWN,))),
    ("boot.lockdown", UNKNOWN, SPR.but(without=("/sys/kernel/security",))),
    ("platform.iommu", FAIL, SPR.but({"/sys/class/iommu": FOLDER}, without=("/sys/class/iommu",))),
    ("platform.iommu", FAIL, SPR.but({"/sys/kernel/iommu_groups": FOLDER}, without=("/sys/kernel/iommu_groups",))),
    ("platform.iommu", UNKNOWN, SPR.but(without=("/sys/kernel/iommu_groups",))),
    ("platform.kvm", FAIL, SPR.but({"/sys/module/kvm_pvm": FOLDER}, without=("/sys/module/kvm_intel",))),
    ("platform.kvm", FAIL, SPR.but(own(flags="tdx_host_platform"))),
    ("platform.kvm", FAIL, EPYC.but({"/sys/module/kvm_intel": FOLDER}, without=("/sys/module/kvm_amd",))),
    ("platform.kvm", FAIL, SPR.but({"/dev/null": ""}, without=("/dev/kvm",))),
    ("platform.kvm", FAIL, SPR.but({"/dev/kvm": FOLDER})),
    ("platform.kvm", FAIL, SPR.but({"/dev/kvm": Link("nowhere")})),
    ("platform.kvm", FAIL, SPR.but({"/dev/kvm": Link("/etc/sgx_default_qcnl.conf")})),
    ("platform.kvm", PASS, SPR.but({"/dev/kvm": Link("node"), "/dev/node": ""})),
    ("platform.kvm", UNKNOWN, SPR.but(without=("/sys/module",))),
    ("platform.microcode", FAIL, SPR.but({"/sys/devices/system/cpu/vulnerabilities/old_microcode": "Vulnerable"})),
    ("platform.microcode", UNKNOWN, SPR.but(without=("/sys/devices/system/cpu/vulnerabilities",))),
    ("platform.microcode", UNKNOWN, SPR.but(own(**{"0x2b000603": "0x0"}))),
    ("platform.bios", UNKNOWN, SPR.but({f"{SMBIOS}/bios_date": ""})),
    ("clock.source", FAIL, SPR.but({TSC: "kvm-clock"})),
    ("clock.source", UNKNOWN, SPR.but(without=(TSC,))),
    ("clock.service", FAIL, SPR.but(synchronised=False)),
    ("clock.service", UNKNOWN, SPR.but(synchronised=None)),
    ("capacity.memory", FAIL, SPR.but({"/proc/meminfo": "MemTotal: 4194304 kB\nMemAvailable: 2097151 kB"})),
    ("capacity.memory", UNKNOWN, SPR.but({"/proc/meminfo": "MemTotal: 1 kB\nMemAvailable: 4194304 kB"})),
    (
        "capacity.memory",
        UNKNOWN,
        SPR.but({"/proc/meminfo": f"MemTotal: {9 * 10**17} kB\nMemAvailable: {9 * 10**17} kB"}),
    ),
    ("capacity.memory", UNKNOWN, SPR.but({"/proc/meminfo": "MemTotal: -9 kB\nMemAvailable: -9 kB"})),
    ("capacity.cpus", FAIL, SPR.but({"/sys/devices/system/cpu/online": "0"})),
    ("capacity.cpus", PASS, SPR.but({"/sys/devices/system/cpu/online": "0,5-7"})),
    ("capacity.cpus", UNKNOWN, SPR.but({"/sys/devices/system/cpu/online": "3-1"})),
    ("capacity.cpus", UNKNOWN, SPR.but({"/sys/devices/system/cpu/online": "0-99999999"})),
    ("capacity.disk", FAIL, SPR.but(free=10 * GIB - 1)),
    ("capacity.disk", UNKNOWN, SPR.but(free=-1)),
    ("capacity.disk", UNKNOWN, SPR.but(free=1 << 70)),
    ("capacity.disk", UNKNOWN, SPR.but(free=None)),
    ("capacity.huge_pages", FAIL, SPR.but({"/sys/kernel/mm/transparent_hugepage/enabled": "always madvise [never]"})),
    ("capacity.huge_pages", UNKNOWN, SPR.but(without=("/sys/kernel/mm", "/proc/meminfo"))),
    ("capacity.huge_pages", PASS, SPR.but({"/proc/meminfo": "HugePages_Total: 64"}, without=("/sys/kernel/mm",))),
    ("tdx.cpu", FAIL, SPR.but(own("AuthenticAMD"))),
    ("tdx.cpu", FAIL, SPR.but(own(flags="vmx"))),
    ("tdx.cpu", UNKNOWN, SPR.but(without=(CPUINFO,))),
    ("tdx.kvm", FAIL, SPR.but({"/sys/module/kvm_intel/parameters/tdx": "N"})),
    ("tdx.kvm", FAIL, SPR.but(without=("/sys/module/kvm_intel/parameters/tdx",))),
    ("tdx.kvm", FAIL, SPR.but(without=("/sys/module/kvm_intel",))),
    ("tdx.kvm", UNKNOWN, SPR.but({"/sys/module/kvm_intel/parameters/tdx": "YES"})),
    ("tdx.sgx", FAIL, SPR.but({"/sys/module/kvm_intel/parameters/sgx": "0"})),
    ("tdx.module", UNKNOWN, SPR.but(without=("/sys/devices/faux",))),
    ("tdx.module", UNKNOWN, SPR.but({"/sys/devices/faux/tdx_host/version": "0.0.00"})),
    ("tdx.memory_encryption", FAIL, SPR.but(registers=registers(x982=0b01))),
    ("tdx.memory_encryption", UNKNOWN, SPR.but(registers={})),
    ("tdx.seam", FAIL, SPR.but(registers=registers(x1401=1 << 10))),
    ("tdx.keys", FAIL, SPR.but(registers=registers(x87=16 << 32 | 0xFFFF))),
    ("tdx.keys", PASS, SPR.but(registers=registers(x87=17 << 32))),
    ("tdx.keys", UNKNOWN, SPR.but(registers=registers(x87=(1 << 64) - 1))),
    ("tdx.mcheck", FAIL, SPR.but(registers=registers(xA0=0x80000003))),
    ("tdx.production", FAIL, SPR.but(registers=registers(xCE=1 << 27))),
    ("tdx.hibernation", FAIL, SPR.but({"/proc/cmdline": "quiet nohibernated"})),
    ("tdx.hibernation", FAIL, SPR.but({"/proc/cmdline": "ro -- nohibernate"})),
    ("tdx.hibernation", FAIL, SPR.but({"/proc/cmdline": 'ro dyndbg="file a nohibernate b" quiet'})),
    ("tdx.hibernation", PASS, SPR.but({"/proc/cmdline": 'dyndbg="file a -- b" nohibernate -- init=words'})),
    ("tdx.hibernation", PASS, SPR.but({"/proc/cmdline": "quiet", "/sys/power/disk": "[disabled]"})),
    ("tdx.hibernation", UNKNOWN, SPR.but(without=("/proc/cmdline", "/sys/power"))),
    ("tdx.quotes", FAIL, SPR.but(without=("/run/tdx-qgs",))),
    ("tdx.quotes", FAIL, SPR.but({"/run/tdx-qgs/qgs.socket": FOLDER})),
    ("tdx.quotes", FAIL, SPR.but({"/run/tdx-qgs/qgs.socket": Link("gone")})),
    ("tdx.quotes", PASS, SPR.but({"/proc/77/comm": "qgs"}, without=("/run/tdx-qgs",))),
    ("tdx.quotes", UNKNOWN, SPR.but(without=("/run/tdx-qgs", "/proc"))),
    ("tdx.collateral", FAIL, SPR.but({QCNL: '{"pccs_url": "http://pccs.example.org/"}'})),
    ("tdx.collateral", FAIL, SPR.but({QCNL: '// "pccs_url": "https://pccs.example.org/"'})),
    ("tdx.collateral", FAIL, SPR.but({QCNL: f'{{{HTTP}, /* "pccs_url": "https://pccs.example.org/" */ "a": 1}}'})),
    ("tdx.collateral", FAIL, SPR.but({QCNL: f'{{{HTTP}, // "pccs_url": "https://pccs.example.org/"\n"a": 1}}'})),
    ("tdx.collateral", FAIL, SPR.but({QCNL: f'{{"a": "\\"pccs_url\\": \\"https://x/\\"", {HTTP}}}'})),
    ("tdx.collateral", FAIL, SPR.but({QCNL: f"{{{HTTP}, {HTTPS}}}"})),
    ("tdx.collateral", FAIL, SPR.but({QCNL: f'{{{HTTPS}, "use_secure_cert": false}}'})),
    ("tdx.collateral", FAIL, SPR.but({QCNL: f'{{{HTTPS}, "use_secure_cert": "TRUE"}}'})),
    ("tdx.collateral", FAIL, SPR.but({QCNL: '{"b": {"pccs_url": "https://pccs.example.org/"}}'})),
    ("tdx.collateral", FAIL, SPR.but({QCNL: '["pccs_url"]'})),
    ("tdx.collateral", FAIL, SPR.but({QCNL: "[" * 100_000})),
    ("tdx.collateral", PASS, SPR.but({QCNL: f"{{/* a PCCS\nof ours */ {HTTPS} // https\n}}"})),
    ("tdx.collateral", FAIL, SPR.but({"/etc/hostname": "h"}, without=(QCNL,))),
    ("tdx.collateral", UNKNOWN, SPR.but({QCNL: b"\xff"})),
    ("tdx.capacity", FAIL, SPR.but({"/sys/fs/cgroup/misc.capacity": "sev 9"})),
    ("tdx.capacity", UNKNOWN, SPR.but({"/sys/fs/cgroup/misc.capacity": "tdx max"})),
    ("snp.cpu", FAIL, EPYC.but(own("AuthenticAMD", "svm sev", 25, 17))),
    ("snp.cpu", UNKNOWN, EPYC.but(own("AuthenticAMD", "svm sev_snp", 99, 1))),
    ("snp.cpu", FAIL, SPR),
    ("snp.kvm", FAIL, EPYC.but({"/sys/module/kvm_amd/parameters/sev_snp": "N"})),
    ("snp.kvm", FAIL, EPYC.but({"/sys/module/kvm_amd/parameters/sev": "N"})),
    ("snp.kvm", FAIL, EPYC.but(without=("/sys/module/kvm_amd/parameters/sev_snp",))),
    ("snp.kvm", FAIL, EPYC.but(without=("/sys/module/kvm_amd",))),
    ("snp.kvm", UNKNOWN, EPYC.but({"/sys/module/kvm_amd/parameters/sev_es": "?"})),
    ("snp.device", FAIL, EPYC.but(without=("/dev/sev",))),
    ("snp.device", FAIL, EPYC.but({"/dev/sev": FOLDER})),
    ("snp.device", FAIL, EPYC.but({"/dev/sev": Link("gone")})),
    ("snp.device", UNKNOWN, EPYC.but(without=("/dev",))),
    ("snp.firmware", FAIL, EPYC.but(snp=snp_status(minor=50))),
    ("snp.firmware", UNKNOWN, EPYC.but(snp=snp_status()[:-1])),
    ("snp.initialised", FAIL, EPYC.but(snp=snp_status(state=0))),
    ("snp.initialised", FAIL, EPYC.but(snp=snp_status(state=255))),
    ("snp.rmp", FAIL, EPYC.but(snp=snp_status(init=2))),
    ("snp.aliases", FAIL, EPYC.but(snp=snp_status(init=1))),
    ("snp.tcb", FAIL, EPYC.but(snp=snp_status(reported=1))),
    ("snp.tcb", UNKNOWN, EPYC.but(snp=snp_status(current=0))),
    ("snp.capacity", FAIL, EPYC.but({"/sys/fs/cgroup/misc.capacity": "sev 410\nsev_es 0"})),
    ("snp.capacity", UNKNOWN, EPYC.but(without=("/sys/fs/cgroup",))),
    ("gpu.device", FAIL, SPR),
    ("gpu.device", UNKNOWN, H100.but(hosts.gpu("0000:46:00.0", "1b80", "nvidia"))),
    ("gpu.device", UNKNOWN, H100.but({"/sys/devices/pci0000:00/0000:45:00.0/device": "2330"})),
    ("gpu.device", UNKNOWN, SPR.but(without=("/sys/bus",))),
    ("gpu.device", UNKNOWN, H100.but({"/sys/bus/pci/devices/0000:99:00.0": Link("nowhere")})),
    ("gpu.driver", PASS, H100.but(hosts.gpu("0000:45:00.0", "2330", "vfio-pci"))),
    ("gpu.driver", FAIL, H100.but(hosts.gpu("0000:46:00.0", "2330", "vfio-pci"))),
    ("gpu.driver", FAIL, H100.but(hosts.gpu("0000:45:00.0", "2330", "nouveau"))),
    (
        "gpu.driver",
        FAIL,
        H100.but({"/proc/driver/nvidia/version": "NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.65.06  Wed"}),
    ),
    (
        "gpu.driver",
        FAIL,
        H100.but(
            {"/proc/driver/nvidia/version": "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  535.1.2  x"}
        ),
    ),
    ("gpu.driver", FAIL, H100.but({DRIVER: open_module("550.54.14")})),
    ("gpu.driver", PASS, H100.but({DRIVER: open_module("550.54.15")})),
    ("gpu.driver", FAIL, H100.but({**hosts.gpu("0000:45:00.0", "2901", "nvidia"), DRIVER: open_module("550.54.15")})),
    ("gpu.driver", PASS, H100.but({**hosts.gpu("0000:45:00.0", "2901", "nvidia"), DRIVER: open_module("575.57.08")})),
    ("gpu.driver", FAIL, H100.but({**hosts.gpu("0000:46:00.0", "3182", "nvidia"), DRIVER: open_module("580.65.06")})),
    ("gpu.driver", UNKNOWN, H100.but({**hosts.gpu("0000:46:00.0", "1b80", "nvidia")})),
    ("gpu.driver", UNKNOWN, H100.but({DRIVER: open_module("580.65")})),
    ("gpu.driver", UNKNOWN, H100.but({"/proc/driver/nvidia/version": "NVRM version: newest"})),
    (
        "gpu.mode",
        FAIL,
        H100.but(gpu={"-f": "CC status: OFF", "-e": "CC Environment: UNAVAILABLE", "-d": "DevTools Mode: OFF"}),
    ),
    ("gpu.driver", PASS, H100.but({"/proc/driver/nvidia/version": H200_SAYS})),
    ("gpu.mode", FAIL, H100.but(gpu={**H100.answers.gpu, "-d": "DevTools Mode: ON"})),
    ("gpu.mode", FAIL, H100.but(gpu={**H100.answers.gpu, "-e": "CC Environment: SIMULATION"})),
    (
        "gpu.mode",
        UNKNOWN,
        H100.but(gpu={**H100.answers.gpu, "-f": "CC status: ON\nCC status: OFF".replace("CC", "cc")}),
    ),
    ("gpu.mode", UNKNOWN, H100.but(gpu={})),
    ("gpu.mode", UNKNOWN, H100.but(gpu={"-f": "CC status: ON", "-e": "CC Environment: PRODUCTION"})),
    ("worker.swap", FAIL, EPYC.but({"/proc/swaps": "Filename Type Size Used Priority\n/swap file 1 0 -2"})),
    ("worker.swap", UNKNOWN, EPYC.but({"/proc/swaps": "nothing"})),
    ("worker.swap", UNKNOWN, EPYC.but({"/proc/swaps": ""})),
    ("worker.cores", FAIL, EPYC.but({"/proc/sys/kernel/core_pattern": "|/usr/share/apport/apport %p"})),
    ("worker.cores", FAIL, EPYC.but({"/proc/sys/kernel/core_pattern": "@/run/systemd/coredump.socket"})),
    ("worker.cores", FAIL, EPYC.but({"/proc/sys/kernel/core_pattern": "@@/run/systemd/coredump.socket"})),
    ("worker.cores", PASS, EPYC.but({"/proc/sys/kernel/core_pattern": "|/bin/false"})),
    ("worker.landlock", FAIL, EPYC.but(landlock=5)),
    ("worker.landlock", FAIL, EPYC.but(landlock=0)),
    ("worker.landlock", PASS, EPYC.but(landlock=None)),
    ("worker.landlock", FAIL, EPYC.but({"/sys/kernel/security/lsm": "capability,yama"}, landlock=None)),
    ("worker.landlock", FAIL, EPYC.but({"/proc/sys/kernel/osrelease": "6.11.9"}, landlock=None)),
    ("worker.landlock", UNKNOWN, EPYC.but(without=("/sys/kernel/security",), landlock=None)),
    ("worker.seccomp", UNKNOWN, EPYC.but({"/proc/sys/kernel/seccomp/actions_avail": "allow"})),
    ("worker.seccomp", FAIL, EPYC.but(without=("/proc/sys/kernel/seccomp",))),
    ("worker.namespaces", FAIL, EPYC.but({"/proc/sys/user/max_user_namespaces": "0"})),
    ("worker.namespaces", FAIL, EPYC.but({"/proc/sys/kernel/unprivileged_userns_clone": "0"})),
    ("worker.namespaces", FAIL, EPYC.but({"/proc/sys/kernel/apparmor_restrict_unprivileged_userns": "1"})),
    ("worker.namespaces", PASS, EPYC.but({"/proc/sys/kernel/apparmor_restrict_unprivileged_userns": "0"})),
    ("worker.namespaces", UNKNOWN, EPYC.but({"/proc/sys/kernel/apparmor_restrict_unprivileged_userns": "2"})),
    ("worker.namespaces", FAIL, EPYC.but(without=("/proc/4321/ns/user",))),
    ("worker.namespaces", UNKNOWN, EPYC.but(without=("/proc/self",))),
    ("worker.entropy", FAIL, EPYC.but(own("AuthenticAMD", "svm", 25, 17, rdseed="rdsea"))),
]


@pytest.mark.parametrize(
    ("name", "wanted", "machine"), CASES, ids=[f"{name}-{status}-{n}" for n, (name, status, _) in enumerate(CASES)]
)
def test_a_check_is_judged_by_what_the_host_says(name, wanted, machine, tmp_path):
    (check,) = (check for check in CHECKS if check.id == f"host.{name}")
    finding = check.look(machine.written(tmp_path / "host"))
    assert finding.status is wanted, finding


def test_every_check_has_a_host_on_which_it_does_not_pass():
    assert {f"host.{name}" for name, wanted, _ in CASES if wanted is not PASS} == {check.id for check in CHECKS}


def test_a_host_cannot_write_on_the_terminal(tmp_path):
    ugly = "\x1b[2J\x07\u202eevil" + "x" * 500
    machine = SPR.but(
        {f"{SMBIOS}/bios_vendor": ugly, TSC: ugly, "/sys/devices/system/cpu/vulnerabilities/old_microcode": ugly}
    )
    report = examine(machine.but(own(ugly)).written(tmp_path / "host"), ("tdx",))
    for _, finding in report.findings:
        assert finding.detail.isprintable()
        assert len(finding.detail) < 200
