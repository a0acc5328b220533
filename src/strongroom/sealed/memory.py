"""Memory as a file: plaintext that has a descriptor but no name and no disk (memfd_create, Linux).

When filled it is sealed by the kernel: nobody who is given the descriptor can write, grow or shrink it, nor lift the
seals.

Knows: memfd. Does not know: what is in it. Not covered: swap; a host where it is on says so elsewhere.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable

from strongroom.sealed.files import file_errors

SEALS = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL


def filled_memfd(size: int, fill: Callable[[int], None]) -> int:
    """A sealed memfd of `size` bytes, written by `fill`, which may write beyond; closed if that fails.

    Writes at a place are faster here than a mapping: pages arrive with their content instead of zeros, and none must be
    unmapped before the seals hold.
    """
    with file_errors("no memory to open a file into"):
        fd = os.memfd_create("strongroom", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            fill(fd)
            os.ftruncate(fd, size)
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, SEALS)
        except BaseException:
            os.close(fd)
            raise
    return fd
