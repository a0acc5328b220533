"""Processes that outlive their launcher, told apart from those that later have the same number.

Knows: /proc (proc(5)) and process file descriptors (pidfd_open(2)). Does not know: what a process is for. A process is signalled
only through a descriptor that was opened before it was looked at, so that a number which was given away in between is never hit.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
from pathlib import Path

from strongroom.errors import HypervisorUnavailable
from strongroom.records.launched import ProcessId

PROC = Path("/proc")
BOOT = PROC / "sys/kernel/random/boot_id"
STATE_FIELD, START_FIELD = 0, 19
"""Of the fields behind the name in /proc/PID/stat: the third and the twenty-second of all."""
MOST_WORDS = 1 << 20
START_SECONDS = 60.0


def identify(pid: int) -> ProcessId | None:
    """The process that has this number now; None where there is none, or it has ended and waits for its parent."""
    try:
        fields = (PROC / str(pid) / "stat").read_text("ascii", "replace").rpartition(")")[2].split()
        if fields[STATE_FIELD] in {"Z", "X"}:
            return None
        return ProcessId(pid, int(fields[START_FIELD]), BOOT.read_text("ascii").strip())
    except (OSError, ValueError, IndexError):
        return None


def alive(process: ProcessId) -> bool:
    """Whether it is still this process that has the number."""
    return identify(process.pid) == process


def with_word(program: str, word: str) -> tuple[ProcessId, ...]:
    """Processes of `program` with `word` among their arguments that run as this account; a stranger may call itself anything."""
    found = []
    for folder in PROC.iterdir():
        if not folder.name.isdecimal():
            continue
        try:
            with (folder / "cmdline").open("rb") as file:
                words = file.read(MOST_WORDS).split(b"\0")
        except OSError:
            continue
        if words[0].rpartition(b"/")[2] == program.encode() and os.fsencode(word) in words[1:] and _ours(folder):
            process = identify(int(folder.name))
            found += [process] if process is not None else []
    return tuple(found)


def _ours(folder: Path) -> bool:
    """By its effective user; the folder's own owner is root for a process that may not be dumped (proc(5))."""
    try:
        lines = (folder / "status").read_bytes().splitlines()
    except OSError:
        return False
    return any(line.split()[2] == str(os.geteuid()).encode() for line in lines if line.startswith(b"Uid:"))


def run(words: list[str]) -> str:
    """Run a program that goes to the background, or ends. Raises `HypervisorUnavailable` with the last line that it printed."""
    try:
        ran = subprocess.run(
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
            timeout=START_SECONDS,
            cwd="/",
            start_new_session=True,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise HypervisorUnavailable(f"{words[0]} does not start: {type(error).__name__}") from None
    said = ran.stdout.decode("utf-8", "replace").strip()
    if ran.returncode != 0:
        last = said.splitlines()[-1] if said else f"ended with {ran.returncode}"
        raise HypervisorUnavailable(
            f"{words[0]}: {last[:300]}", remedy="Look at the specification's devices and at this host."
        )
    return said


def end(process: ProcessId, *, seconds: float, first: int = signal.SIGTERM) -> bool:
    """Signal it, wait, and kill it where it stays; whether it has ended, by this or before. A killed process may yet stay in the kernel.

    Raises `HypervisorUnavailable` where we may not.
    """
    descriptor = _opened(process)
    if descriptor is None:
        return True
    try:
        if not alive(process):
            return True
        for number in (first, signal.SIGKILL):
            _signal(descriptor, number)
            if _ended(descriptor, seconds):
                return True
        return False
    finally:
        os.close(descriptor)


def _signal(descriptor: int, number: int) -> None:
    try:
        signal.pidfd_send_signal(descriptor, number)
    except ProcessLookupError:
        pass  # it has ended
    except PermissionError:
        raise HypervisorUnavailable("the machine runs as another account, which may not be ended from here") from None


def wait(process: ProcessId, seconds: float) -> bool:
    """Whether it ends within so many seconds."""
    descriptor = _opened(process)
    if descriptor is None:
        return True
    try:
        return not alive(process) or _ended(descriptor, seconds)
    finally:
        os.close(descriptor)


def _opened(process: ProcessId) -> int | None:
    """A descriptor of what has its number now; None where nothing has. Raises `HypervisorUnavailable` where nobody can say."""
    try:
        return os.pidfd_open(process.pid)
    except ProcessLookupError:
        return None
    except OSError as error:
        raise HypervisorUnavailable(f"process {process.pid} cannot be looked at: {error.strerror}") from None


def _ended(descriptor: int, seconds: float) -> bool:
    return bool(select.select([descriptor], [], [], seconds)[0])
