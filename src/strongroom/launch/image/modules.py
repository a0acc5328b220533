"""Kernel modules: which a machine needs, and in which order they are loaded.

Knows: what a module says of itself in its `.modinfo` (Linux, `include/linux/moduleinfo.h`: `name=value`, NUL between). Does not
know: which are wanted (`recipe`), or how one is loaded (`worker.init`). Not covered: modules that a kernel holds compressed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from strongroom.errors import MalformedImage

_DEPENDS = re.compile(rb"(?<=\0)depends=([a-z0-9_,-]*)\0", re.IGNORECASE)
MAX_DEPTH = 32


def modules_of(paths: Iterable[str]) -> dict[str, str]:
    """Paths of modules by the name that others depend on, where `-` and `_` are one."""
    return {name_of(path): path for path in paths if path.endswith(".ko")}


def name_of(path: str) -> str:
    """What others call the module in this file."""
    return path.rpartition("/")[2].removesuffix(".ko").replace("-", "_")


def in_order(wanted: Iterable[str], files: Mapping[str, bytes], built_in: str) -> list[str]:
    """Paths of `wanted` and all that they need, each after what it needs; `built_in` lists what the kernel has already.

    Raises `MalformedImage` for a module that is nowhere, or that says nothing of its needs.
    """
    known = modules_of(files)
    inside = {name_of(line) for line in built_in.split()}
    order: list[str] = []

    def visit(name: str, depth: int) -> None:
        name = name.replace("-", "_")
        if name in inside or known.get(name) in order:
            return
        if name not in known or depth > MAX_DEPTH:
            raise MalformedImage(f"the kernel has no module {name[:64]!r}", remedy="Take a kernel that has it.")
        found = _DEPENDS.search(b"\0" + files[known[name]])
        if found is None:
            raise MalformedImage(f"the module {name[:64]!r} does not say what it needs")
        for needed in filter(None, found[1].decode("ascii").split(",")):
            visit(needed, depth + 1)
        order.append(known[name])

    for name in wanted:
        visit(name, 0)
    return order
