"""What a worker's own machine must give it: so that secrets stay in memory, and engines stay in their confinement.

Knows: what `strongroom.engines.confine` and `strongroom.worker.hardening` need of a kernel. Does not know: what they achieve with it: a
worker reports that itself, and `production` insists.
Sources: `man 5 core` (a pipe or a socket is handed cores whatever the limit), `man 7 user_namespaces`, Linux `userspace-api/landlock.rst`
(ABI 6 since 6.12), `userspace-api/seccomp_filter.rst`, `admin-guide/sysctl/user.rst`; Debian's `kernel.unprivileged_userns_clone`,
Ubuntu's `kernel.apparmor_restrict_unprivileged_userns`.
"""

from __future__ import annotations

from strongroom.launch.doctor import facts
from strongroom.launch.doctor.finding import Finding, failed, passed, shown, unknown
from strongroom.launch.doctor.host import Host

LEAST_LANDLOCK = 6
LANDLOCK_KERNEL = (6, 12)
NAMESPACES = ("ipc", "mnt", "net", "pid", "user", "uts")
ACTIONS = ("allow", "errno", "kill_process")
INSTRUCTIONS = ("rdrand", "rdseed")
_USERNS = {
    "/proc/sys/kernel/unprivileged_userns_clone": "0",
    "/proc/sys/kernel/apparmor_restrict_unprivileged_userns": "1",
}
"""Switches of distributions, and the value that forbids; most kernels have neither."""


def swap(host: Host) -> Finding:
    """There is no swap: what is in memory stays there."""
    count = facts.swap_devices(host)
    if count is None:
        return unknown("/proc/swaps cannot be read", "Mount proc.")
    return passed("none") if count == 0 else failed(f"{count} in use", "swapoff -a, and take swap out of /etc/fstab.")


def cores(host: Host) -> Finding:
    """A process that crashes is handed to no other: core_pattern is no pipe, and no socket (`@`, since Linux 6.16)."""
    pattern = host.text("/proc/sys/kernel/core_pattern")
    if pattern is None:
        return unknown("/proc/sys/kernel/core_pattern cannot be read", "Mount proc.")
    if pattern in {"|/bin/false", "|/usr/bin/false"}:
        return passed("cores are thrown away")
    if pattern.startswith(("|", "@")):
        return failed(
            f"cores go to {shown(pattern.lstrip('|@'))}", "sysctl kernel.core_pattern=core (a worker's own limit is 0)."
        )
    return passed("files, which a worker's limit of 0 forbids")


def landlock(host: Host) -> Finding:
    """The kernel has Landlock, whole: ABI 6 or newer, in force."""
    remedy = "Use Linux 6.12 or newer with landlock in its list of security modules (lsm=)."
    abi = host.probe.landlock_abi()
    if abi is not None:
        return passed(f"ABI {abi}") if abi >= LEAST_LANDLOCK else failed(f"ABI {abi}" if abi else "none", remedy)
    modules, kernel = host.text("/sys/kernel/security/lsm"), facts.version(host.text("/proc/sys/kernel/osrelease"))
    if modules is not None and "landlock" not in modules.split(","):
        return failed("not among the kernel's security modules", remedy)
    if modules is None or kernel is None:
        return unknown("the running kernel was not asked, and its files do not say it", remedy)
    said = f"Linux {kernel[0]}.{kernel[1]} with landlock"
    return passed(said) if kernel >= LANDLOCK_KERNEL else failed(said, remedy)


def seccomp(host: Host) -> Finding:
    """The kernel filters system calls."""
    text = host.text("/proc/sys/kernel/seccomp/actions_avail")
    remedy = "Use a kernel with CONFIG_SECCOMP_FILTER."
    if text is not None and set(ACTIONS) <= set(text.split()):
        return passed("filters")
    there = host.there("/proc/sys/kernel/seccomp")
    return failed("no filters", remedy) if there is False else unknown("the kernel does not say it", remedy)


def namespaces(host: Host) -> Finding:
    """An ordinary account may make namespaces of its own."""
    kinds = host.names("/proc/self/ns")
    if kinds is None:
        return unknown("/proc/self/ns cannot be read", "Mount proc.")
    lacking = [name for name in NAMESPACES if name not in kinds]
    if lacking:
        return failed(
            f"this kernel has no namespace {lacking[0]}", "Use a kernel with CONFIG_NAMESPACES and CONFIG_USER_NS."
        )
    for path, forbids in _USERNS.items():
        value = host.text(path)
        name = "kernel." + path.rpartition("/")[2]
        if value == forbids:
            return failed(f"{name} is {value}", f"sysctl {name}={1 - int(forbids)}")
        if host.there(path) and value not in {"0", "1"}:
            return unknown(f"{name} cannot be read", f"sysctl {name}={1 - int(forbids)}")
    most = facts.number(host.text("/proc/sys/user/max_user_namespaces"))
    remedy = "sysctl user.max_user_namespaces=4096"
    if most is None:
        return unknown("user.max_user_namespaces cannot be read", remedy)
    return (
        passed("user, mount, network, process, ipc, uts") if most else failed("user.max_user_namespaces is 0", remedy)
    )


def entropy(host: Host) -> Finding:
    """The CPU has random numbers of its own: a machine that has just begun has no other that its host cannot know."""
    cpu = facts.cpu(host)
    if cpu is None:
        return unknown("/proc/cpuinfo cannot be read", "Mount proc.")
    lacking = [name for name in INSTRUCTIONS if name not in cpu.flags]
    return (
        failed(f"no {lacking[0]}", "Give the machine a CPU model that has it (QEMU: -cpu host or max).")
        if lacking
        else passed("rdrand, rdseed")
    )
