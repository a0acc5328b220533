"""The kernel and what is below it: calls, the clock, exits to the hypervisor, timers, and one core waking another.

Knows: what exits. `cpuid` always does in a virtual machine (Intel SDM volume 3, 26.1.2; KVM intercepts it on AMD); programs in Python
cannot say it, but Linux' module `cpuid` says it for whoever reads `/dev/cpu/N/cpuid`. The leaf is the hypervisor's own first one,
which a TD or an SNP guest must ask its host for as well. Does not know: how many exits a real load makes.
Not covered: exits for devices; how long a host takes to schedule a core.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

from strongroom.bench.platform.probe import Found, Missing, Probe, Sizes, on_core
from strongroom.errors import Unavailable

HYPERVISOR_LEAF = 0x4000_0000
CPUID_BYTES = 16
SLEEP = 100e-6
SLACK = Path("/proc/self/timerslack_ns")
PEER = "strongroom.bench.platform.peer"


def probes(sizes: Sizes, cores: tuple[int, int | None], stack: ExitStack, *, devices: Path = Path("/dev/cpu")) -> Found:
    """`kernel.call`, `kernel.clock`, `exit.cpuid`, `timer.late`, `wakeup.round_trip`; `cores` are ours and another's."""
    zero = os.open("/dev/zero", os.O_RDONLY | os.O_CLOEXEC)
    stack.callback(os.close, zero)
    return [
        Probe("kernel.call", "µs", "less", "a read of 16 bytes from /dev/zero: a system call that leaves nothing else to do",
              lambda: read_once(zero, 0, sizes.calls)),
        Probe("kernel.clock", "ns", "less", "one reading of the monotonic clock; no exit where the clock is the CPU's own",
              lambda: clock_once(sizes.calls)),
        _cpuid(sizes, devices / str(cores[0]) / "cpuid", stack),
        _timer(sizes),
        _wakeup(sizes, cores[1], stack),
    ]  # fmt: skip


def read_once(descriptor: int, offset: int, times: int) -> float:
    """Microseconds for one read of 16 bytes."""
    began = time.perf_counter()
    for _ in range(times):
        os.pread(descriptor, CPUID_BYTES, offset)
    return (time.perf_counter() - began) / times * 1e6


def clock_once(times: int) -> float:
    """Nanoseconds for one reading."""
    read, began = time.monotonic_ns, time.perf_counter()
    for _ in range(times):
        read()
    return (time.perf_counter() - began) / times * 1e9


def late_once(times: int) -> float:
    """Microseconds by which a sleep of 100 µs ends late, on average, with the least slack that Linux gives."""
    before = SLACK.read_text("ascii")
    SLACK.write_text("1")
    try:
        began = time.perf_counter()
        for _ in range(times):
            time.sleep(SLEEP)
        return ((time.perf_counter() - began) / times - SLEEP) * 1e6
    finally:
        SLACK.write_text(before)


def wake_once(peer: subprocess.Popen[bytes], times: int) -> float:
    """Microseconds for a byte to the other core and back. Raises `Unavailable` if the other side has ended."""
    if peer.stdin is None or peer.stdout is None:
        raise Unavailable("the benchmark's other side has no pipes")
    there, back = peer.stdin.fileno(), peer.stdout.fileno()
    began = time.perf_counter()
    for _ in range(times):
        os.write(there, b".")
        if not os.read(back, 1):
            raise Unavailable("the benchmark's other side has ended")
    return (time.perf_counter() - began) / times * 1e6


def start_peer(mode: str, core: int, stack: ExitStack) -> subprocess.Popen[bytes]:
    """The other side, on a core of its own, until the stack unwinds."""
    with on_core(core):
        command = [sys.executable, "-m", PEER, mode]
        peer = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, bufsize=0
        )
    stack.callback(_end, peer)
    return peer


def _end(peer: subprocess.Popen[bytes]) -> None:
    with peer:  # closes the pipes, and waits
        peer.kill()


def _cpuid(sizes: Sizes, device: Path, stack: ExitStack) -> Probe | Missing:
    try:
        descriptor = os.open(device, os.O_RDONLY | os.O_CLOEXEC)
        stack.callback(os.close, descriptor)
        os.pread(descriptor, CPUID_BYTES, HYPERVISOR_LEAF)
    except OSError as error:
        return Missing("exit.cpuid", f"{device}: {error.strerror}: it takes root, and Linux' module cpuid")
    return Probe(
        "exit.cpuid",
        "µs",
        "less",
        "CPUID of leaf 0x40000000 by /dev/cpu: one exit to the hypervisor, if there is one, and a system call",
        lambda: read_once(descriptor, HYPERVISOR_LEAF, sizes.exits),
    )


def _timer(sizes: Sizes) -> Probe | Missing:
    try:
        SLACK.write_text(SLACK.read_text("ascii"))
    except OSError as error:
        return Missing("timer.late", f"{SLACK}: {error.strerror}")
    return Probe(
        "timer.late",
        "µs",
        "less",
        "how late a sleep of 100 µs ends: arming a timer, an idle core, an interrupt; each may exit",
        lambda: late_once(sizes.timers),
    )


def _wakeup(sizes: Sizes, core: int | None, stack: ExitStack) -> Probe | Missing:
    if core is None:
        return Missing("wakeup.round_trip", "it takes two cores")
    peer = start_peer("pipe", core, stack)
    try:
        wake_once(peer, 1)
    except (OSError, Unavailable):
        return Missing("wakeup.round_trip", "the other side does not start")
    return Probe(
        "wakeup.round_trip",
        "µs",
        "less",
        "a byte by pipe to a process on another core and back: two wake-ups of an idle core, which may exit",
        lambda: wake_once(peer, sizes.wakeups),
    )
