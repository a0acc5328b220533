"""The first process of a worker's machine: it closes the machine, starts the worker, and switches off when that ends.

Knows: the order, and that any step that fails ends in power off before anything else starts. Does not know: how the kernel is
asked (`kernel`), what the worker does. It takes its orders from the measured image alone: the list of kernel modules and the
machine's configuration. The kernel's command line is the kernel's, and the host's disks are data.

What stands on the console is for anybody on the host to read: steps and errors of this process, and what the worker prints.
Not covered: a host that pauses the machine or never starts it; the clock, which is the host's.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence

from strongroom.engines.linux import MS_NODEV, MS_NOEXEC, MS_NOSUID
from strongroom.errors import MachineUnfit, StrongroomError
from strongroom.records.digest import is_digest
from strongroom.records.machine import PLACE, MachineConfiguration, Network, from_toml
from strongroom.worker import firewall
from strongroom.worker.kernel import MS_BIND, MS_NOSYMFOLLOW, MS_RDONLY, MS_REMOUNT, Kernel, Linux

MODULES = "/usr/lib/strongroom/modules"
"""The paths of the kernel modules to load, one a line, each after those that it needs."""
ROOT = "/run"
"""A folder of the image over which the root is put together, before anything else is mounted there."""
USER = 1000
LOCKDOWN = "confidentiality"
ENVIRONMENT: Mapping[str, str] = {"PATH": "/usr/bin", "LANG": "C.UTF-8", "HOME": "/tmp", "TMPDIR": "/tmp"}  # noqa: S108
PLAIN = MS_NOSUID | MS_NODEV | MS_NOEXEC
MOUNTS = (
    ("proc", "/proc", PLAIN, ""),
    ("sysfs", "/sys", PLAIN, ""),
    ("devtmpfs", "/dev", MS_NOSUID | MS_NOEXEC, "mode=755"),
    ("securityfs", "/sys/kernel/security", PLAIN, ""),
    ("tmpfs", "/run", PLAIN, "mode=755,size=16m"),
    ("tmpfs", "/tmp", PLAIN, "mode=1777,size=50%"),  # noqa: S108
)
SETTINGS = (
    ("kernel/panic_on_oops", "1"),
    ("kernel/panic", "-1"),
    ("kernel/sysrq", "0"),
    ("kernel/dmesg_restrict", "1"),
    ("kernel/kptr_restrict", "2"),
    ("kernel/kexec_load_disabled", "1"),
    ("kernel/unprivileged_bpf_disabled", "1"),
    ("fs/suid_dumpable", "0"),
    ("net/ipv4/ip_forward", "0"),
)
PER_INTERFACE = ("accept_redirects", "accept_source_route")
"""Switched off for `all`, for what comes later, and for the one interface: where nothing is forwarded, a redirect that either
`all` or the interface accepts is accepted (Linux, `Documentation/networking/ip-sysctl.rst`)."""
NO_MORE_MODULES = "kernel/modules_disabled"
PROVING = (
    "/dev/tpmrm0",
    "/sys/kernel/security/tpm0/binary_bios_measurements",
    "/dev/tdx_guest",
    "/dev/sev-guest",
    "/sys/kernel/config/tsm/report",
)
"""What a worker proves its place with: its group may use what of these is there.

The image's own kernel (Debian 6.1) and modules bring the TPM's alone. Of a newer kernel more is needed than these: modules, and for TDX
rights to extend its registers, and to make a folder below configfs for each report.
"""


def main() -> None:
    """The first process. It does not return: the machine is off then."""
    kernel = Linux()
    try:
        kernel.say(f"init: the worker ended with {start(kernel)}")
    except StrongroomError as error:
        kernel.say(f"init: {error.code}: {error.explain()}")
    except Exception as error:  # noqa: BLE001 (whatever it is, the machine goes off)
        kernel.say(f"init: {type(error).__name__}: nothing is started")
    finally:
        kernel.power_off()


def start(kernel: Kernel) -> int:
    """Close the machine, then run the worker to its end; its exit status. Raises `StrongroomError`, with nothing started."""
    with _step("the file systems"):
        mount_all(kernel)
    with _step("the configuration"):
        told = from_toml(kernel.read(f"/{PLACE}"))
    with _step("the kernel's modules"):
        load_modules(kernel)
    with _step("the kernel's settings"):
        settle(kernel, told.network)
    check(kernel)
    with _step("the firewall"):
        close(kernel, told.network)
    with _step("the disks"):
        mount_disks(kernel, told)
    with _step("the worker's own rights"):
        kernel.restrain()
        for path in filter(kernel.exists, PROVING):
            kernel.give(path, USER)
    command = command_of(kernel, told)
    kernel.say(f"init: starting {command[0]}")
    with _step("the worker"):
        return kernel.run(command, {**ENVIRONMENT, **told.environment}, USER)


@contextlib.contextmanager
def _step(what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise MachineUnfit(f"{what} failed: {error.strerror or error}", detail=what) from None


def mount_all(kernel: Kernel) -> None:
    """A root of its own that nobody can write to (an engine's confinement needs a root that can be left), and what belongs on it."""
    kernel.mount("/", ROOT, "", MS_BIND)
    kernel.mount("", ROOT, "", MS_BIND | MS_REMOUNT | MS_RDONLY | MS_NOSUID | MS_NODEV)
    kernel.enter(ROOT)
    for kind, target, flags, options in MOUNTS:
        kernel.mount(kind, target, kind, flags, options)


def load_modules(kernel: Kernel) -> None:
    """Load what the image lists, in its order, and then let the kernel load no more."""
    for path in kernel.read(MODULES).split():
        kernel.load_module(path)
    if kernel.exists("/sys/kernel/config"):
        kernel.mount("configfs", "/sys/kernel/config", "configfs", PLAIN)
    kernel.write(f"/proc/sys/{NO_MORE_MODULES}", "1")


def settle(kernel: Kernel, network: Network | None) -> None:
    """Set each setting, and read it back. The interface is not switched on yet."""
    interfaces = ("all", "default", *([network.interface] if network else []))
    settings = (*SETTINGS, *((f"net/ipv4/conf/{one}/{name}", "0") for one in interfaces for name in PER_INTERFACE))
    for name, value in settings:
        kernel.write(f"/proc/sys/{name}", value)
    for name, value in (*settings, (NO_MORE_MODULES, "1")):
        if kernel.read(f"/proc/sys/{name}").strip() != value:
            raise MachineUnfit(f"the kernel does not keep {name} at {value}", detail=name)


def check(kernel: Kernel) -> None:
    """What the kernel must already be: locked down, and without swap. Raises `MachineUnfit`."""
    with _step("the kernel's lockdown"):
        if f"[{LOCKDOWN}]" not in kernel.read("/sys/kernel/security/lockdown"):
            raise MachineUnfit(f"the kernel is not locked down to {LOCKDOWN}", detail="lockdown")
    with _step("swap"):
        if len(kernel.read("/proc/swaps").strip().splitlines()) != 1:
            raise MachineUnfit("this machine has swap", detail="swap")
    kernel.say(f"init: modules are closed, lockdown is {LOCKDOWN}, there is no swap")


def close(kernel: Kernel, network: Network | None) -> None:
    """The firewall first, and an interface only behind it. Raises `MachineUnfit` where it does not hold."""
    if not firewall.closed(kernel.filter(firewall.ruleset(network))):
        raise MachineUnfit("the firewall does not drop what it does not know", detail="firewall")
    kernel.interface("lo", "127.0.0.1/8", None)
    if network is not None:
        kernel.interface(network.interface, network.address, network.gateway)
    kernel.say(f"init: the firewall holds, {network.interface if network else 'no interface'} is up")


def mount_disks(kernel: Kernel, told: MachineConfiguration) -> None:
    """Every disk of the configuration, to be read and nothing else. All places come from the image.

    No link on a disk is followed: the host made it, and it could lead a path of the configuration to anything in the machine.
    """
    for disk in told.disks:
        options = "uid=0,gid=0,umask=022" if disk.filesystem == "vfat" else "noload"
        kernel.mount(disk.device, disk.place, disk.filesystem, PLAIN | MS_RDONLY | MS_NOSYMFOLLOW, options)
        kernel.say(f"init: {disk.device} is at {disk.place}")


def command_of(kernel: Kernel, told: MachineConfiguration) -> Sequence[str]:
    """The worker's command with the digests that the host tells. Raises `MachineUnfit` where it tells something else."""
    digests: dict[str, str] = {}
    for name, path in told.told.items():
        with _step(f"what the host tells of {name}"):
            text = kernel.read(path).strip()
        if not is_digest(text):
            raise MachineUnfit(f"what the host tells of {name} is no digest", detail=name)
        digests[name] = text
    words = list(told.command)
    for name, value in digests.items():
        words = [word.replace(f"{{{name}}}", value) for word in words]
    return words
