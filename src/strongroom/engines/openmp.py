"""The GNU OpenMP runtime (libgomp.so.1) for machines that lack it, so that pip alone is enough.

llama.cpp's wheel needs the library and does not carry it; bare Debian does not have it. The wheel of `zfpy` (BSD-3-Clause) carries a copy
under a name of its own, and nothing else of that package is used. The machine's own library is always preferred.

Knows: where a copy may be, and how a child finds it (a folder for LD_LIBRARY_PATH). Does not know: engines.
"""

from __future__ import annotations

import ctypes
import importlib.metadata
import os
import tempfile
from pathlib import Path

LIBRARY = "libgomp.so.1"
CARRIER = "zfpy"


def folder_with_openmp() -> tempfile.TemporaryDirectory[str] | None:
    """A folder in which the loader finds the library, to be kept until the child has loaded it; None where there is no need.

    None also where there is no copy: the child then says what it misses.
    """
    if _machine_has_it():
        return None
    copy = _carried()
    if copy is None:
        return None
    folder = tempfile.TemporaryDirectory(prefix="strongroom-openmp-")
    (Path(folder.name) / LIBRARY).symlink_to(copy)
    return folder


def with_folder(environment: dict[str, str], folder: str | None) -> dict[str, str]:
    """`environment` in which the loader also looks into `folder`."""
    if folder is None:
        return environment
    known = environment.get("LD_LIBRARY_PATH")
    return {**environment, "LD_LIBRARY_PATH": os.pathsep.join([folder, *([known] if known else [])])}


def _machine_has_it() -> bool:
    try:
        ctypes.CDLL(LIBRARY)
    except OSError:
        return False
    return True


def _carried() -> Path | None:
    try:
        files = importlib.metadata.files(CARRIER) or []
    except importlib.metadata.PackageNotFoundError:
        return None
    found = (Path(str(file.locate())) for file in files if file.name.startswith("libgomp") and ".so" in file.name)
    return next((path for path in found if path.is_file()), None)
