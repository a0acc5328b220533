"""What the first process of a worker's machine asks of its kernel: a port, and Linux behind it.

Knows: the calls and their numbers (`asm/unistd.h`, `linux/{sockios,route,reboot}.h`). Does not know: what they are for or
in which order (`init`). Everything raises `OSError`; nothing here decides.
"""

from __future__ import annotations

import ctypes
import fcntl
import ipaddress
import os
import resource
import signal
import socket
import struct
import subprocess
import types
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from strongroom.engines import linux

_FINIT_MODULE = {"x86_64": 313, "aarch64": 273}
_SET_ADDRESS, _SET_MASK, _GET_FLAGS, _SET_FLAGS, _ADD_ROUTE = 0x8916, 0x891C, 0x8913, 0x8914, 0x890B
_UP, _ROUTE_BY_GATEWAY = 1, 3
_POWER_OFF = 0x4321FEDC
_NFT = "/usr/sbin/nft"
_PATIENCE = 60.0
MAX_TEXT = 1 << 20
MS_RDONLY, MS_REMOUNT, MS_BIND, MS_MOVE = 1, 32, 4096, 8192
MS_NOSYMFOLLOW = 256
"""Since Linux 5.10; an older kernel would take no notice. The image's is newer."""


class Kernel(Protocol):
    """All that the first process needs."""

    def mount(self, source: str, target: str, kind: str, flags: int, options: str = "") -> None: ...

    def enter(self, root: str) -> None:
        """Move the mount at `root` over everything, and make it the root."""
        ...

    def read(self, path: str) -> str: ...

    def write(self, path: str, text: str) -> None: ...

    def exists(self, path: str) -> bool: ...

    def load_module(self, path: str) -> None: ...

    def filter(self, rules: str) -> str:
        """Load `rules` into the packet filter; what it then lists."""
        ...

    def interface(self, name: str, address: str, gateway: str | None) -> None:
        """Bring an interface up under `address` (with its prefix); `lo` has its own."""
        ...

    def give(self, path: str, group: int) -> None:
        """Let a group read and write what root can."""
        ...

    def restrain(self) -> None:
        """No core dumps, and no more rights by any program, for this process and all below it."""
        ...

    def run(self, command: Sequence[str], environment: Mapping[str, str], user: int) -> int:
        """Run to its end as `user`, pass on signals, reap what is orphaned; the exit status, negative for a signal."""
        ...

    def say(self, text: str) -> None: ...

    def power_off(self) -> None: ...


class Linux:
    """The kernel that runs this process, which is its first."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)

    def _done(self, result: int) -> None:
        if result < 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code))

    def mount(self, source: str, target: str, kind: str, flags: int, options: str = "") -> None:
        words = (source.encode(), target.encode(), kind.encode() or None)
        self._done(self._libc.mount(*words, ctypes.c_ulong(flags), options.encode() or None))

    def enter(self, root: str) -> None:
        os.chdir(root)
        self.mount(".", "/", "", MS_MOVE)
        os.chroot(".")
        os.chdir("/")

    def read(self, path: str) -> str:
        with Path(path).open("rb") as file:
            return file.read(MAX_TEXT).decode("utf-8", "replace")

    def write(self, path: str, text: str) -> None:
        Path(path).write_text(text, encoding="utf-8")

    def exists(self, path: str) -> bool:
        return Path(path).exists()

    def load_module(self, path: str) -> None:
        number = _FINIT_MODULE.get(linux.machine() or "")
        if number is None:
            raise OSError("modules cannot be loaded on this architecture")
        with Path(path).open("rb") as file:
            linux.syscall(number, file.fileno(), b"", 0)

    def filter(self, rules: str) -> str:
        loaded = _NFT, "-f", "-"
        for command, given in ((loaded, rules), ((_NFT, "list", "ruleset"), "")):
            ran = subprocess.run(
                command, input=given.encode(), capture_output=True, check=False, timeout=_PATIENCE, env={}
            )
            if ran.returncode:
                raise OSError(f"nft: {ran.stderr.decode('utf-8', 'replace')[:400]}")
        return ran.stdout.decode("utf-8", "replace")

    def interface(self, name: str, address: str, gateway: str | None) -> None:
        asked = ipaddress.IPv4Interface(address)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
            for request, value in ((_SET_ADDRESS, asked.ip), (_SET_MASK, asked.network.netmask)):
                fcntl.ioctl(any_socket, request, struct.pack("16s16s8x", name.encode(), _address(value)))
            flags = bytearray(struct.pack("16sH22x", name.encode(), 0))
            fcntl.ioctl(any_socket, _GET_FLAGS, flags)
            (before,) = struct.unpack_from("H", flags, 16)
            fcntl.ioctl(any_socket, _SET_FLAGS, struct.pack("16sH22x", name.encode(), before | _UP))
            if gateway is not None:
                anywhere = _address(ipaddress.IPv4Address(0))
                route = (0, anywhere, _address(ipaddress.IPv4Address(gateway)), anywhere, _ROUTE_BY_GATEWAY)
                fcntl.ioctl(any_socket, _ADD_ROUTE, struct.pack("@L16s16s16sHhLPhPLLH", *route, 0, 0, 0, 0, 0, 0, 0, 0))

    def give(self, path: str, group: int) -> None:
        given = Path(path)
        mode = given.stat().st_mode & 0o700
        os.chown(path, 0, group)
        given.chmod(mode | mode >> 3)

    def restrain(self) -> None:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        linux.prctl(linux.PR_SET_NO_NEW_PRIVS, 1)

    def run(self, command: Sequence[str], environment: Mapping[str, str], user: int) -> int:
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            env=dict(environment),
            cwd="/",
            user=user,
            group=user,
            extra_groups=[],
            start_new_session=True,
            umask=0o077,
        )

        def forward(number: int, _frame: types.FrameType | None) -> None:
            os.kill(child.pid, number)

        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, forward)
        while True:  # as long as there is a child: the worker itself is one until it is reaped here
            ended, status = os.wait()
            if ended == child.pid:
                child.returncode = os.waitstatus_to_exitcode(status)
                return child.returncode

    def say(self, text: str) -> None:
        os.write(1, f"{text}\n".encode())

    def power_off(self) -> None:
        os.sync()
        self._done(self._libc.reboot(ctypes.c_uint(_POWER_OFF)))


def _address(value: ipaddress.IPv4Address) -> bytes:
    """`struct sockaddr_in`."""
    return struct.pack("=H2x4s8x", socket.AF_INET, value.packed)
