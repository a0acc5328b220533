import errno
import re
import struct
from collections.abc import Mapping
from pathlib import Path

import pytest

from strongroom.engines import seccomp, syscalls

ALLOW, KILL = 0x7FFF_0000, 0x8000_0000
REFUSE, UNKNOWN = 0x0005_0000 | errno.EPERM, 0x0005_0000 | errno.ENOSYS
ARCHITECTURES = {"x86_64": 0xC000_003E, "aarch64": 0xC000_00B7}
# Of Linux's asm/unistd.h: calls that no confined child may make.
FORBIDDEN = {
    "x86_64": {
        "connect": 42, "fork": 57, "vfork": 58, "execve": 59, "kill": 62, "ptrace": 101, "pivot_root": 155, "mount": 165,
        "init_module": 175, "kexec_load": 246, "keyctl": 250, "unshare": 272, "perf_event_open": 298, "setns": 308,
        "process_vm_readv": 310, "process_vm_writev": 311, "bpf": 321, "execveat": 322, "userfaultfd": 323,
        "io_uring_setup": 425, "open_tree": 428, "pidfd_getfd": 438, "mount_setattr": 442, "memfd_create": 319,
    },
    "aarch64": {
        "connect": 203, "execve": 221, "kill": 129, "ptrace": 117, "pivot_root": 41, "mount": 40, "init_module": 105,
        "kexec_load": 104, "keyctl": 219, "unshare": 97, "perf_event_open": 241, "setns": 268, "process_vm_readv": 270,
        "process_vm_writev": 271, "bpf": 280, "execveat": 281, "userfaultfd": 282, "io_uring_setup": 425, "open_tree": 428,
        "pidfd_getfd": 438, "mount_setattr": 442, "memfd_create": 279,
    },
}  # fmt: skip
BOTH = pytest.mark.parametrize("machine", ARCHITECTURES)


def run(build: bytes, number: int, arguments: Mapping[int, int] | None = None, *, arch: int) -> int:
    """An interpreter of classic BPF: the verdict word of a program on one call."""
    words = {0: number, 4: arch}
    for index, value in (arguments or {}).items():
        words[16 + 8 * index], words[20 + 8 * index] = value & 0xFFFF_FFFF, value >> 32
    code = [struct.unpack_from("HBBI", build, at) for at in range(0, len(build), 8)]
    register = at = 0
    while True:
        operation, yes, no, constant = code[at]
        at += 1
        match operation:
            case 0x20:
                register = words.get(constant, 0)
            case 0x54:
                register &= constant
            case 0x06:
                return constant
            case 0x15:
                at += yes if register == constant else no
            case 0x25:
                at += yes if register > constant else no
            case _:
                raise AssertionError(f"unknown instruction {operation:#x}")


def verdict(machine: str, name: str, arguments: Mapping[int, int] | None = None, *, listener: bool = False) -> int:
    build = seccomp.program(machine, process=1, listener=listener)
    return run(build, syscalls.numbers(machine)[name], arguments, arch=ARCHITECTURES[machine])


@BOTH
def test_dangerous_calls_are_refused(machine: str):
    build = seccomp.program(machine, process=1, listener=True)
    verdicts = {name: run(build, number, arch=ARCHITECTURES[machine]) for name, number in FORBIDDEN[machine].items()}
    assert set(verdicts.values()) == {REFUSE}, verdicts


@BOTH
def test_calls_that_the_kernel_will_learn_are_not_implemented(machine: str):
    build = seccomp.program(machine, process=1, listener=True)
    assert run(build, syscalls.NEWEST + 1, arch=ARCHITECTURES[machine]) == UNKNOWN


def test_calls_of_the_x32_kind_are_not_implemented():
    build = seccomp.program("x86_64", process=1, listener=True)
    assert run(build, 0x4000_0000, arch=ARCHITECTURES["x86_64"]) == UNKNOWN


@BOTH
def test_a_call_of_another_architecture_kills(machine: str):
    assert run(seccomp.program(machine, process=1, listener=True), 0, arch=0x4000_0003) == KILL
    assert run(seccomp.without_sockets(machine), 0, arch=0x4000_0003) == KILL


@BOTH
def test_computing_is_allowed(machine: str):
    for name in ("read", "write", "mmap", "futex", "openat", "sendmsg", "recvmsg", "exit_group"):
        assert verdict(machine, name) == ALLOW


@BOTH
def test_clone_makes_threads_and_no_processes(machine: str):
    threads, process = {0: 0x003D_0F00}, {0: 0x0120_0011}
    assert verdict(machine, "clone", threads) == ALLOW
    assert verdict(machine, "clone", process) == REFUSE
    assert verdict(machine, "clone3") == UNKNOWN


@BOTH
def test_a_thread_signal_goes_to_the_process_itself_only(machine: str):
    assert verdict(machine, "tgkill", {0: 1}) == ALLOW
    assert verdict(machine, "tgkill", {0: 2}) == REFUSE
    assert verdict(machine, "tgkill", {0: 1 << 32 | 1}) == REFUSE


@BOTH
def test_limits_are_those_of_the_process_itself(machine: str):
    assert [verdict(machine, "prlimit64", {0: process}) for process in (0, 1, 2)] == [ALLOW, ALLOW, REFUSE]


@BOTH
def test_prctl_names_threads_and_undoes_nothing(machine: str):
    assert verdict(machine, "prctl", {0: 15}) == ALLOW
    assert verdict(machine, "prctl", {0: 4}) == REFUSE


@BOTH
def test_sockets_are_local_and_only_for_an_engine_that_needs_a_listener(machine: str):
    unix, inet, netlink = {0: 1}, {0: 2}, {0: 16}
    for family in (unix, inet, netlink):
        assert verdict(machine, "socket", family) == REFUSE
    assert verdict(machine, "bind") == REFUSE
    assert verdict(machine, "socket", unix, listener=True) == ALLOW
    assert verdict(machine, "socket", inet, listener=True) == REFUSE
    assert verdict(machine, "socket", netlink, listener=True) == REFUSE


@BOTH
def test_the_second_filter_takes_sockets_away_and_nothing_else(machine: str):
    table, build = syscalls.numbers(machine), seccomp.without_sockets(machine)
    refused = {
        name for name, number in table.items() if run(build, number, {0: 1}, arch=ARCHITECTURES[machine]) != ALLOW
    }
    assert refused == {"socket", "bind", "listen"}


@pytest.mark.parametrize(
    ("machine", "header"),
    [("x86_64", "/usr/include/x86_64-linux-gnu/asm/unistd_64.h"), ("aarch64", "/usr/include/asm-generic/unistd.h")],
)
def test_the_numbers_are_those_of_the_kernels_own_header(machine: str, header: str):
    if not Path(header).exists():
        pytest.skip(f"missing kernel header: {header}")
    text = Path(header).read_text(encoding="utf-8")
    official = {name: int(number) for name, number in re.findall(r"#define __NR(?:3264)?_(\w+)\s+(\d+)\b", text)}
    if machine == "aarch64":
        official["newfstatat"] = official["fstatat"]
    table = syscalls.numbers(machine)
    assert {name: official[name] for name in table} == table
