"""What files do not say: registers of the CPU, the answer of AMD's firmware, the kernel's own word, NVIDIA's tool.

Knows: the calls. Does not know: what an answer means. A question that cannot be asked here is answered with None.
Sources: Linux `Documentation/arch/x86/msr.rst`; `include/uapi/linux/psp-sev.h` (SNP_PLATFORM_STATUS, read-only);
`man 2 adjtimex`; `nvidia-smi conf-compute --help`.
Not covered: registers that differ from CPU to CPU: the first one speaks for all.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import stat
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from strongroom.engines import landlock

_MSR_MAJOR = 202
_SEV_NUMBER = "/sys/class/misc/sev/dev"  # of the running kernel: "10:124", and another at the next start
_SEV_ISSUE_CMD = 0xC010_5300  # _IOWR('S', 0, struct sev_issue_cmd), which is packed: u32 command, u64 data, u32 error
_SNP_PLATFORM_STATUS = 9
SNP_STATUS_BYTES = 32
_TIMEX_BYTES = 208  # struct timex of 64-bit Linux; all zero asks for nothing to be changed
_TIME_ERROR = 5
_NVIDIA_SMI = ("/usr/bin/nvidia-smi", "/usr/local/nvidia/bin/nvidia-smi")
_PATIENCE = 20.0
_LONGEST_ANSWER = 4096

Resolve = Callable[[str], Path | None]


class Probe(Protocol):
    """What is asked of a machine beyond its files. Every answer may be None: not to be had here."""

    def register(self, number: int) -> int | None:
        """A model-specific register of the first CPU, 64 bits."""

    def snp_status(self) -> bytes | None:
        """AMD's SNP_PLATFORM_STATUS: 32 bytes."""

    def landlock_abi(self) -> int | None:
        """The version of Landlock that the running kernel speaks, 0 where it has none."""

    def clock_is_synchronised(self) -> bool | None:
        """Whether the running kernel's clock is steered by a time service."""

    def free_bytes(self) -> int | None:
        """Free bytes where machines' overlays go: the file system of /var/lib, as an ordinary account may use it."""

    def gpu_says(self, option: str) -> str | None:
        """What `nvidia-smi conf-compute OPTION` prints."""


class SilentProbe:
    """Answers nothing; for a copy of a machine's files."""

    def register(self, number: int) -> int | None:  # noqa: ARG002  # the port's signature
        return None

    def snp_status(self) -> bytes | None:
        return None

    def landlock_abi(self) -> int | None:
        return None

    def clock_is_synchronised(self) -> bool | None:
        return None

    def free_bytes(self) -> int | None:
        return None

    def gpu_says(self, option: str) -> str | None:  # noqa: ARG002  # the port's signature
        return None


class LinuxProbe:
    """Asks the machine below `root`. What only the running kernel can say is asked only where `root` is `/`."""

    def __init__(self, root: Path, resolve: Resolve) -> None:
        self._resolve = resolve
        self._own = root == Path("/")

    def register(self, number: int) -> int | None:
        descriptor = self._open(
            "/dev/cpu/0/msr", lambda found: _is_device(found) and os.major(found.st_rdev) == _MSR_MAJOR, files=True
        )
        if descriptor is None:
            return None
        try:
            data = os.pread(descriptor, 8, number)
        except OSError:
            return None
        finally:
            os.close(descriptor)
        return int.from_bytes(data, "little") if len(data) == 8 else None  # noqa: PLR2004  # a register's bytes

    def snp_status(self) -> bytes | None:
        try:
            number = Path(_SEV_NUMBER).read_text("ascii").strip()
        except (OSError, ValueError):
            return None
        descriptor = self._open("/dev/sev", lambda found: _is_device(found) and _number(found) == number)
        if descriptor is None:
            return None
        status = ctypes.create_string_buffer(SNP_STATUS_BYTES)
        command = bytearray(struct.pack("<IQI", _SNP_PLATFORM_STATUS, ctypes.addressof(status), 0))
        try:
            fcntl.ioctl(descriptor, _SEV_ISSUE_CMD, command)
        except OSError:
            return None
        finally:
            os.close(descriptor)
        error = struct.unpack_from("<I", command, 12)[0]
        return None if error else status.raw

    def landlock_abi(self) -> int | None:
        if not self._own:
            return None
        try:
            return landlock.abi()
        except OSError:
            return 0

    def clock_is_synchronised(self) -> bool | None:
        if not self._own or ctypes.sizeof(ctypes.c_void_p) != 8:  # noqa: PLR2004  # the struct's size is that of 64 bits
            return None
        state = ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.create_string_buffer(_TIMEX_BYTES))
        return None if state < 0 else state != _TIME_ERROR

    def free_bytes(self) -> int | None:
        place = self._resolve("/var/lib") or self._resolve("/")
        try:
            found = os.statvfs(place) if place is not None else None
        except OSError:
            return None
        return None if found is None else found.f_bavail * found.f_frsize

    def gpu_says(self, option: str) -> str | None:
        tool = next((path for path in _NVIDIA_SMI if self._own and os.access(path, os.X_OK)), None)
        if tool is None:
            return None
        try:
            done = subprocess.run(
                [tool, "conf-compute", option],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=_PATIENCE,
                check=False,
                env={"PATH": "/usr/bin:/bin", "LC_ALL": "C"},
            )
        except (OSError, subprocess.SubprocessError):
            return None
        if done.returncode != 0 or len(done.stdout) > _LONGEST_ANSWER:
            return None
        return done.stdout.decode("utf-8", errors="replace").strip()

    def _open(self, path: str, wanted: Callable[[os.stat_result], bool], *, files: bool = False) -> int | None:
        """A device that is `wanted`, opened for reading without waiting, or None; also a file, where `files`.

        No other device is opened: that alone does things to some (a watchdog, say).
        """
        place = self._resolve(path)
        if place is None:
            return None
        try:
            found = place.lstat()
            if not wanted(found) and not (files and stat.S_ISREG(found.st_mode)):
                return None
            return os.open(place, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NOCTTY)
        except (OSError, ValueError):
            return None


def _is_device(found: os.stat_result) -> bool:
    return stat.S_ISCHR(found.st_mode)


def _number(found: os.stat_result) -> str:
    return f"{os.major(found.st_rdev)}:{os.minor(found.st_rdev)}"
