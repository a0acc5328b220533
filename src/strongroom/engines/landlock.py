"""Landlock: this process may touch only these files, whatever the file system says. A second lock behind the namespaces.

Knows: the three calls and the rights of ABI 1 to 6. Does not know: why a path is allowed.
What is not listed cannot be read, written, made, removed or executed; TCP can be neither bound nor connected; signals and abstract sockets
end at the border. Each call of `restrict` can only take away. Descriptors that are open already stay usable.
Not covered: kernels without Landlock (before 5.13, or where it is switched off), which raise `OSError`.
"""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Iterable

from strongroom.engines import linux

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_VERSION_FLAG, _PATH_BENEATH = 1, 1

_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIRECTORY = 1, 2, 4, 8
_MAKE_SOCKET, _TRUNCATE = 1 << 9, 1 << 14
_ALL_BY_ABI = ((1 << 13) - 1, (1 << 14) - 1, (1 << 15) - 1, (1 << 15) - 1, (1 << 16) - 1)
"""Every right on files that ABI 1, 2, 3, 4, 5 and later know."""
_DEVICE_CONTROL_ABI, _NETWORK_ABI, _SCOPE_ABI = 5, 4, 6
_BIND_AND_CONNECT = 3
_SCOPES = 3
_FILE_RIGHTS = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE

READ = _READ_FILE | _READ_DIRECTORY
WRITE = _ALL_BY_ABI[2] & ~_EXECUTE
SOCKETS_ONLY = _MAKE_SOCKET
"""The right to put a listener of AF_UNIX into a folder, and nothing else."""


def abi() -> int:
    """The version that this kernel speaks. Raises `OSError` where it has none."""
    return linux.syscall(_CREATE_RULESET, None, 0, _VERSION_FLAG)


def restrict(rights: Iterable[tuple[str, int]]) -> None:
    """Allow only `rights`: pairs of a path and `READ`, `WRITE` or `SOCKETS_ONLY` beneath it. Raises `OSError`.

    `no_new_privs` must be set. Paths must exist.
    """
    version = abi()
    handled = _ALL_BY_ABI[min(version, len(_ALL_BY_ABI)) - 1]
    ruleset = _ruleset(version, handled)
    try:
        for path, allowed in rights:
            _allow(ruleset, path, allowed & handled)
        linux.syscall(_RESTRICT_SELF, ruleset, 0)
    finally:
        os.close(ruleset)
    require_whole(version)


def require_whole(version: int) -> None:
    """Raises `OSError` where this kernel's Landlock covers less than the module's head says; what it has is in force all the same."""
    if version < _SCOPE_ABI:
        raise OSError(f"this kernel's Landlock (ABI {version}) covers only a part; ABI {_SCOPE_ABI} covers all of it")


def _ruleset(version: int, handled: int) -> int:
    fields = [handled]
    if version >= _NETWORK_ABI:
        fields.append(_BIND_AND_CONNECT)
    if version >= _SCOPE_ABI:
        fields.append(_SCOPES)
    raw = struct.pack(f"{len(fields)}Q", *fields)
    return linux.syscall(_CREATE_RULESET, ctypes.create_string_buffer(raw, len(raw)), len(raw), 0)


def _allow(ruleset: int, path: str, allowed: int) -> None:
    place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        if not os.path.isdir(path):  # noqa: PTH112  # nothing but a text path is at hand
            allowed &= _FILE_RIGHTS
        rule = struct.pack("=Qi", allowed, place)
        linux.syscall(_ADD_RULE, ruleset, _PATH_BENEATH, ctypes.create_string_buffer(rule, len(rule)), 0)
    finally:
        os.close(place)
