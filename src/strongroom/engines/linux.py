"""The few system calls that confinement needs and Python does not offer, by ctypes on the C library.

Knows: how to call them and how a failure reads. Does not know: what is achieved with them, or in which order.
Numbers are those of Linux's `asm/unistd.h` for x86_64 and aarch64 and of `linux/{mount,sched,prctl,capability}.h`.
Not covered: 32-bit and other architectures; there `machine()` is None and what needs a number says so.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import platform
import socket
import struct

CLONE_NEWNS = 0x0002_0000
CLONE_NEWUTS = 0x0400_0000
CLONE_NEWIPC = 0x0800_0000
CLONE_NEWUSER = 0x1000_0000
CLONE_NEWPID = 0x2000_0000
CLONE_NEWNET = 0x4000_0000

MS_NOSUID, MS_NODEV, MS_NOEXEC = 2, 4, 8
MS_REC, MS_PRIVATE = 0x4000, 1 << 18
MNT_DETACH = 2
MOUNT_ATTR_RDONLY, MOUNT_ATTR_NOSUID, MOUNT_ATTR_NODEV = 1, 2, 4

PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS, PR_CAP_AMBIENT = 1, 4, 24, 38, 47
_PR_CAP_AMBIENT_CLEAR_ALL = 4
_CAP_VERSION_3 = 0x2008_0522
_LAST_CAPABILITY = 63

_AT_FDCWD, _AT_EMPTY_PATH, _AT_RECURSIVE = -100, 0x1000, 0x8000
_OPEN_TREE_CLONE, _OPEN_TREE_CLOEXEC = 1, os.O_CLOEXEC
_MOVE_MOUNT_F_EMPTY_PATH = 4

_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
_OPEN_TREE, _MOVE_MOUNT, _MOUNT_SETATTR = 428, 429, 442  # one number on every architecture

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


def machine() -> str | None:
    """`x86_64` or `aarch64`, or None where the numbers of system calls are not known here."""
    name = platform.machine()
    return name if name in _PIVOT_ROOT and ctypes.sizeof(ctypes.c_void_p) == 8 else None  # noqa: PLR2004  # 64 bits


def _done(result: int) -> int:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return int(result)


def syscall(number: int, *arguments: int | bytes | ctypes.Array[ctypes.c_char] | None) -> int:
    """A system call by its number. Raises `OSError`."""
    converted = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
    return _done(_libc.syscall(ctypes.c_long(number), *converted))


def prctl(option: int, argument: int = 0, third: int = 0) -> int:
    """`prctl(2)`. Raises `OSError`."""
    return _done(
        _libc.prctl(
            ctypes.c_int(option), ctypes.c_ulong(argument), ctypes.c_ulong(third), ctypes.c_ulong(), ctypes.c_ulong()
        )
    )


def unshare(flags: int) -> None:
    """Leave the namespaces named by `flags` (CLONE_NEW*) for new ones. Raises `OSError`."""
    _done(_libc.unshare(ctypes.c_int(flags)))


def mount(kind: str, target: str, flags: int, options: str = "") -> None:
    """Mount a file system without a source (`tmpfs`, `proc`), or with an empty `kind` change how mounts propagate."""
    source = kind.encode() or None
    _done(_libc.mount(source, target.encode(), source, ctypes.c_ulong(flags), options.encode()))


def set_mount_attributes(target: str, attributes: int) -> None:
    """Set MOUNT_ATTR_* on the one mount at `target`. Raises `OSError`."""
    syscall(_MOUNT_SETATTR, _AT_FDCWD, target.encode(), 0, *_mount_attributes(attributes))


def clone_tree(path: str, *, devices: bool = False) -> int:
    """A read-only copy of the mounts below `path`, without set-user-id, as a descriptor; `devices` work if asked. Raises `OSError`."""
    tree = syscall(_OPEN_TREE, _AT_FDCWD, path.encode(), _OPEN_TREE_CLONE | _OPEN_TREE_CLOEXEC | _AT_RECURSIVE)
    attributes = _mount_attributes(MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | (0 if devices else MOUNT_ATTR_NODEV))
    try:
        syscall(_MOUNT_SETATTR, tree, b"", _AT_EMPTY_PATH | _AT_RECURSIVE, *attributes)
    except OSError:
        os.close(tree)
        raise
    return tree


def _mount_attributes(attributes: int) -> tuple[ctypes.Array[ctypes.c_char], int]:
    """`struct mount_attr` {set, clear, propagation, userns} and its size, the last two arguments of `mount_setattr`."""
    raw = b"".join(value.to_bytes(8, "little") for value in (attributes, 0, 0, 0))
    return ctypes.create_string_buffer(raw, len(raw)), len(raw)


def attach_tree(tree: int, target: str) -> None:
    """Mount what `clone_tree` copied at `target` and close the descriptor. Raises `OSError`."""
    try:
        syscall(_MOVE_MOUNT, tree, b"", _AT_FDCWD, target.encode(), _MOVE_MOUNT_F_EMPTY_PATH)
    finally:
        os.close(tree)


def pivot_into(root: str) -> None:
    """Make the mount at `root` the root of everything, and let go of the old one. Raises `OSError`."""
    name = machine()
    if name is None:
        raise OSError(f"the number of pivot_root on {platform.machine()} is not known here")
    os.chdir(root)
    syscall(_PIVOT_ROOT[name], b".", b".")
    _done(_libc.umount2(b".", ctypes.c_int(MNT_DETACH)))
    os.chdir("/")


def drop_capabilities() -> None:
    """Empty all five sets, the bounding set too, so that nothing can bring a capability back. Raises `OSError`."""
    prctl(PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL)
    for capability in range(_LAST_CAPABILITY + 1):
        try:
            prctl(PR_CAPBSET_DROP, capability)
        except PermissionError:
            break  # without CAP_SETPCAP there is nothing to drop from, and no_new_privs makes the bounding set moot
        except OSError:
            break  # EINVAL: one past the last capability that this kernel knows
    header = ctypes.create_string_buffer(_CAP_VERSION_3.to_bytes(4, "little") + bytes(4), 8)
    _done(_libc.capset(header, ctypes.create_string_buffer(24)))


def loopback_up() -> None:
    """Switch on the loopback of this network namespace. Raises `OSError`."""
    flags_of, set_flags, up = 0x8913, 0x8914, 1
    request = bytearray(struct.pack("16sH22x", b"lo", 0))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, flags_of, request)
        (flags,) = struct.unpack_from("H", request, 16)
        fcntl.ioctl(any_socket, set_flags, struct.pack("16sH22x", b"lo", flags | up))


def has_capability(capability: int) -> bool:
    """Whether this process has a capability in effect; where that cannot be read, it has not."""
    try:
        with open("/proc/self/status", encoding="utf-8") as lines:  # noqa: PTH123  # a table of the kernel, not a path of ours
            fields = dict(line.split(":", 1) for line in lines if ":" in line)
        return bool(int(fields["CapEff"], 16) >> capability & 1)
    except (OSError, KeyError, ValueError):
        return False


def lock_memory(address: int, length: int) -> None:
    """Keep these bytes of memory out of swap. Raises `OSError`."""
    _done(_libc.mlock(ctypes.c_void_p(address), ctypes.c_size_t(length)))


def lock_all_memory() -> None:
    """Keep every page of this process that is in use out of swap, now and later. Raises `OSError`."""
    current, future, on_fault = 1, 2, 4
    _done(_libc.mlockall(ctypes.c_int(current | future | on_fault)))


def swap_in_use(table: str = "/proc/swaps") -> bool:
    """Whether this machine has swap; where that cannot be read, it has. `table` lists one device a line below a heading."""
    try:
        with open(table, encoding="utf-8") as lines:  # noqa: PTH123  # a table of the kernel, not a path of ours
            return len(lines.read().strip().splitlines()) != 1
    except OSError:
        return True
