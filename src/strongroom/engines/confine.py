"""A process locks itself in: afterwards it computes, talks over the descriptors it was given, and can do nothing else.

Knows: which measures there are, their order, and what came of each. Does not know: what the process is for; an engine and a
user's own script are confined by the same call.
Not covered: time and power side channels; a fault in the kernel; the descriptors that the process was given. Memory of a process
that was killed is freed, not overwritten, unless the kernel runs with `init_on_free=1`.
"""

from __future__ import annotations

import contextlib
import os
import resource
import secrets
import select
import shutil
import signal
import socket
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, NoReturn

from strongroom.engines import landlock, linux, namespaces, seccomp
from strongroom.engines.measures import ACHIEVED, Attempts, Measures

DEVICES = ("/dev/null", "/dev/zero", "/dev/random", "/dev/urandom")
"""What programs expect to be there, and all that a server has of /dev beside a /dev/shm of its own, unless more is given."""


@dataclass(frozen=True, slots=True)
class Confinement(Measures):
    """What came of each measure: `yes`, or the reason why not."""

    SUBJECT: ClassVar[str] = "confined process"
    NAMES: ClassVar[tuple[str, ...]] = (
        "account",  # not root
        "user-namespace",
        *namespaces.NAMESPACES,
        "own-root",  # a read-only root without the machine's files
        "own-tmp",  # in memory, bounded; nothing in it can be executed, unless a server was allowed to compile
        "own-proc",  # no other process is visible
        "landlock",
        "seccomp",
        "no-new-privileges",
        "no-capabilities",
        "no-core-dump",
        "not-dumpable",
        "dies-with-worker",
        "descriptors",
        "swap-off",
    )


@dataclass(frozen=True, slots=True)
class ServerConfinement(Measures):
    """The same for a server that starts processes of its own, talks to them and is talked to (`server_child`)."""

    SUBJECT: ClassVar[str] = "engine's server"
    NAMES: ClassVar[tuple[str, ...]] = (
        *(name for name in Confinement.NAMES if name not in {"landlock", "seccomp", "not-dumpable"}),
        "loopback",  # its own; nothing else is on it
    )


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a process keeps.

    `control` is its socket to the worker: when that hangs up, the process dies. `descriptors` stay open besides; `readable` are
    absolute paths of files and folders; `scratch_bytes` bounds its /tmp, `open_files` its descriptors. `listener` lets it
    listen on AF_UNIX sockets until `seccomp.refuse_sockets` is called. With `server` it may execute what is readable and use the
    loopback of its own network namespace, has a /dev/shm as large as its /tmp, and is under neither seccomp nor Landlock; `devices`
    are nodes that it has besides, and with `compiles` it may execute what it wrote to its /tmp.
    """

    control: int
    descriptors: tuple[int, ...] = ()
    readable: tuple[str, ...] = ()
    scratch_bytes: int = 16 * 1024 * 1024
    open_files: int = 256
    listener: bool = False
    server: bool = False
    devices: tuple[str, ...] = ()
    compiles: bool = False


@dataclass(frozen=True, slots=True)
class Confined:
    """`scratch` is the folder for the process's own use. Without `own-tmp` it may hold nothing but an engine's listener."""

    report: Measures
    scratch: str


def confine(bounds: Bounds) -> Confined:
    """Lock this process in, for good. Call it with one thread, after all imports that `bounds.readable` would not allow.

    The caller goes on in a forked child, so that it can be the first of its own process namespace; the process that called
    waits for it and does nothing else. No measure that fails raises: the report says so, and the worker decides.
    """
    attempts = Attempts()
    fallback = f"/tmp/strongroom-{secrets.token_hex(8)}"  # noqa: S108  # made with mode 700, only where there is no own /tmp
    attempts.attempt("descriptors", partial(_close_others, bounds))
    attempts.attempt("swap-off", _check_swap)
    attempts.attempt("no-core-dump", partial(_limit, bounds.open_files))
    attempts.attempt("no-new-privileges", partial(linux.prctl, linux.PR_SET_NO_NEW_PRIVS, 1))
    attempts.attempt("account", partial(namespaces.become_nobody, bounds.readable))
    attempts.attempt("user-namespace", namespaces.own_user_namespace)
    for name, flag in namespaces.NAMESPACES.items():
        attempts.attempt(name, partial(linux.unshare, flag))
    attempts.attempt("not-dumpable", partial(linux.prctl, linux.PR_SET_DUMPABLE, int(bounds.server)))

    signal.signal(
        signal.SIGTERM, signal.SIG_IGN
    )  # from here on, the end is a hang-up, after which the supervisor tidies up
    child = os.fork()
    if child:
        _supervise(child, bounds.control, fallback)
    attempts.attempt("dies-with-worker", partial(linux.prctl, linux.PR_SET_PDEATHSIG, signal.SIGKILL))
    _change_root(attempts, bounds)
    if bounds.server:
        attempts.attempt("loopback", partial(_loopback, attempts))
    attempts.attempt("no-capabilities", linux.drop_capabilities)
    scratch, rights = _scratch(attempts, fallback)
    if bounds.server:
        return Confined(ServerConfinement(attempts.outcomes), scratch)
    read = [(path, landlock.READ) for path in (*bounds.readable, "/proc")]
    attempts.attempt("landlock", partial(landlock.restrict, [*read, (scratch, rights)]))
    attempts.attempt("seccomp", partial(seccomp.confine_calls, listener=bounds.listener))
    return Confined(Confinement(attempts.outcomes), scratch)


def python_paths() -> tuple[str, ...]:
    """What a Python process must be able to read in order to go on importing: its own folders and the C libraries."""
    wanted: Sequence[str] = (*sys.path, f"{sys.base_prefix}/lib", "/lib", "/lib64", "/usr/lib", "/usr/lib64")
    return tuple(dict.fromkeys(path for path in wanted if os.path.isabs(path) and os.path.exists(path)))  # noqa: PTH110, PTH117


def _close_others(bounds: Bounds) -> None:
    kept = sorted({0, 1, 2, bounds.control, *bounds.descriptors})
    limit = os.sysconf("SC_OPEN_MAX")
    for low, high in zip(kept, [*kept[1:], max(limit, kept[-1] + 1)], strict=True):
        os.closerange(low + 1, high)


def _check_swap() -> None:
    if linux.swap_in_use():
        raise OSError("this machine has swap; secrets may be written to disk")


def _limit(open_files: int) -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (open_files, open_files))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _loopback(attempts: Attempts) -> None:
    if attempts.outcomes["network-namespace"] != ACHIEVED:
        raise OSError("needs a network namespace")
    linux.loopback_up()


def _change_root(attempts: Attempts, bounds: Bounds) -> None:
    """Only in namespaces of its own: anywhere else a mount or a host name would be the machine's."""
    if attempts.outcomes["uts-namespace"] == ACHIEVED:
        with contextlib.suppress(OSError):
            socket.sethostname("confined")
    if attempts.outcomes["mount-namespace"] != ACHIEVED:
        attempts.fail("needs a mount namespace", "own-root", "own-tmp", "own-proc")
        return
    unhidden: OSError | None = None
    with attempts.of("own-root", "own-tmp", "own-proc"):
        processes = attempts.outcomes["process-namespace"] == ACHIEVED
        unhidden = namespaces.own_root(
            bounds.readable,
            bounds.scratch_bytes,
            processes=processes,
            devices=(*DEVICES, *bounds.devices) if bounds.server else (),
            compiles=bounds.compiles,
            names_threads=bool(bounds.devices),
        )
    if unhidden is not None:
        attempts.fail(unhidden.strerror or str(unhidden), "own-proc")


def _scratch(attempts: Attempts, fallback: str) -> tuple[str, int]:
    if attempts.outcomes["own-tmp"] == ACHIEVED:
        return namespaces.SCRATCH, landlock.WRITE
    os.mkdir(fallback, 0o700)  # noqa: PTH102
    return fallback, landlock.SOCKETS_ONLY


def _supervise(child: int, control: int, fallback: str) -> NoReturn:
    """Wait until the child ends or the worker hangs up; end both. This process holds no secret: it was forked too early."""
    with contextlib.suppress(OSError):
        linux.drop_capabilities()
    events = select.poll()
    ended = os.pidfd_open(child)
    events.register(ended, select.POLLIN)
    events.register(control, 0)  # hang-ups are told without being asked for
    events.poll()
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    shutil.rmtree(fallback, ignore_errors=True)
    os._exit(0)
