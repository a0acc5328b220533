"""A seccomp filter: only listed system calls, some of them only with listed arguments.

Knows: how a list becomes a BPF program and how the kernel takes it. Does not know: which calls a child needs (`syscalls`), nor
anything about files, which the namespaces and Landlock guard.
Not covered: calls are judged by numbers and integer arguments; what a pointer leads to cannot be judged here.
"""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import struct
from collections.abc import Iterable

from strongroom.engines import linux, syscalls

_SECCOMP = {"x86_64": 317, "aarch64": 277}
_AUDIT_ARCH = {"x86_64": 0xC000_003E, "aarch64": 0xC000_00B7}
_SET_MODE_FILTER, _FLAG_TSYNC = 1, 1

_LOAD, _JUMP_EQUAL, _JUMP_GREATER, _AND, _RETURN = 0x20, 0x15, 0x25, 0x54, 0x06
_KILL, _ERRNO, _ALLOW = 0x8000_0000, 0x0005_0000, 0x7FFF_0000
_REFUSE = _ERRNO | errno.EPERM
_UNKNOWN = _ERRNO | errno.ENOSYS
_NUMBER_OFFSET, _ARCH_OFFSET, _ARGUMENTS_OFFSET = 0, 4, 16

_CLONE_THREAD = 0x0001_0000
_HARMLESS_PRCTL = (3, 15, 16, 0x5356_4D41)  # get dumpable, set and get a thread's name, name a mapping
_BY_ARGUMENT = ("clone", "clone3", "prctl", "prlimit64", "tgkill", "socket", "socketpair", "bind", "listen")

Instruction = tuple[int, int, int, int]


def program(machine: str, *, process: int, listener: bool) -> bytes:
    """The BPF program for a child whose process number, as it sees itself, is `process`.

    `listener` lets it make, bind and listen on AF_UNIX sockets: an engine's own server insists on a listener, which the child
    puts into its own /tmp; `without_sockets` takes that away once the engine has started. `connect` is never allowed.
    """
    table = syscalls.numbers(machine)
    code = _prologue(machine)
    for name, number in table.items():
        if name not in _BY_ARGUMENT:
            code += _on(number, [(_RETURN, 0, 0, _ALLOW)])
    code += _on(table["clone"], [*_if_flag(0, _CLONE_THREAD), (_RETURN, 0, 0, _REFUSE)])
    code += _on(
        table["clone3"], [(_RETURN, 0, 0, _UNKNOWN)]
    )  # its flags are behind a pointer; libraries go on with clone
    code += _on(table["prctl"], _one_of(0, _HARMLESS_PRCTL))
    code += _on(table["prlimit64"], _one_of(0, (0, process)))
    code += _on(table["tgkill"], _one_of(0, (process,)))
    code += _on(table["socketpair"], _one_of(0, (socket.AF_UNIX,)))
    if listener:
        code += _on(table["socket"], _one_of(0, (socket.AF_UNIX,)))
        code += _on(table["bind"], [(_RETURN, 0, 0, _ALLOW)]) + _on(table["listen"], [(_RETURN, 0, 0, _ALLOW)])
    code += [(_JUMP_GREATER, 0, 1, syscalls.NEWEST), (_RETURN, 0, 0, _UNKNOWN), (_RETURN, 0, 0, _REFUSE)]
    return _assemble(code)


def without_sockets(machine: str) -> bytes:
    """The BPF program that refuses new sockets and listeners and leaves the rest to the filters before it."""
    table = syscalls.numbers(machine)
    code = _prologue(machine)
    for name in ("socket", "bind", "listen"):
        code += _on(table[name], [(_RETURN, 0, 0, _REFUSE)])
    return _assemble([*code, (_RETURN, 0, 0, _ALLOW)])


def install(build: bytes) -> None:
    """Put every thread of this process under a program. It cannot be taken off again. Raises `OSError`."""
    instructions = ctypes.create_string_buffer(build, len(build))
    header = struct.pack("HxxxxxxQ", len(build) // 8, ctypes.addressof(instructions))
    stray = linux.syscall(
        _SECCOMP[_machine()], _SET_MODE_FILTER, _FLAG_TSYNC, ctypes.create_string_buffer(header, len(header))
    )
    if stray:
        raise OSError(f"thread {stray} could not be put under the filter")


def confine_calls(*, listener: bool) -> None:
    """Install `program` for this process. Raises `OSError`."""
    install(program(_machine(), process=os.getpid(), listener=listener))


def refuse_sockets() -> None:
    """Install `without_sockets`. Raises `OSError`."""
    install(without_sockets(_machine()))


def _machine() -> str:
    machine = linux.machine()
    if machine is None:
        raise OSError("system calls of this architecture are not known here")
    return machine


def _prologue(machine: str) -> list[Instruction]:
    """Another architecture's calls have other numbers: kill. The x32 calls lie far above `NEWEST` and are refused."""
    return [
        (_LOAD, 0, 0, _ARCH_OFFSET),
        (_JUMP_EQUAL, 1, 0, _AUDIT_ARCH[machine]),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, _NUMBER_OFFSET),
    ]


def _on(number: int, body: list[Instruction]) -> list[Instruction]:
    """For one call, `body`, which must end in a return since it may have overwritten the register."""
    return [(_JUMP_EQUAL, 0, len(body), number), *body]


def _one_of(argument: int, values: Iterable[int]) -> list[Instruction]:
    """Allow if the 64-bit argument equals one of `values` (below 2^32), else refuse."""
    low = _ARGUMENTS_OFFSET + 8 * argument
    code: list[Instruction] = [
        (_LOAD, 0, 0, low + 4),
        (_JUMP_EQUAL, 1, 0, 0),
        (_RETURN, 0, 0, _REFUSE),
        (_LOAD, 0, 0, low),
    ]
    for value in values:
        code += [(_JUMP_EQUAL, 0, 1, value), (_RETURN, 0, 0, _ALLOW)]
    return [*code, (_RETURN, 0, 0, _REFUSE)]


def _if_flag(argument: int, flag: int) -> list[Instruction]:
    """Allow if `flag` is set in the argument's lower half; else go on."""
    return [
        (_LOAD, 0, 0, _ARGUMENTS_OFFSET + 8 * argument),
        (_AND, 0, 0, flag),
        (_JUMP_EQUAL, 0, 1, flag),
        (_RETURN, 0, 0, _ALLOW),
    ]


def _assemble(code: list[Instruction]) -> bytes:
    return b"".join(struct.pack("HBBI", *instruction) for instruction in code)
