"""The files of an image, fetched through the ordinary clients: apt for Debian packages, pip for wheels.

Knows: how each is asked for the fixed list of the recipe, and for nothing else. apt checks Debian's signatures, pip the digests of the
requirements. Does not know: what becomes of the files (`lock`). Our own wheel is the builder's to bring (`make wheel`).
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from strongroom.errors import ServiceUnavailable, UsageError
from strongroom.launch.image import recipe

PATIENCE = 1800.0
PLATFORMS = ("manylinux_2_34_x86_64", "manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")
_REQUIREMENT = re.compile(r"([A-Za-z0-9._-]+)==")
_KERNEL = re.compile(rf"^\s*Depends: ({recipe.KERNEL}[a-z0-9.+-]+)$", re.MULTILINE)


def fetch(folder: Path, requirements: str) -> None:
    """Fill an empty `folder`. Raises `UsageError` where it is not empty, `ServiceUnavailable` where something is not to be had."""
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise UsageError(
            f"{folder} is not empty", remedy="Fetch into a new folder; what was fetched is then locked as it is."
        )
    said = _run(("apt-cache", "depends", "--important", recipe.KERNEL_META), folder)
    kernel = _KERNEL.search(said)
    if kernel is None:
        raise ServiceUnavailable(
            f"apt knows no {recipe.KERNEL_META}", remedy="Run `apt-get update` on a Debian machine."
        )
    _run(("apt-get", "download", "-qq", kernel[1], *recipe.DEBS), folder)
    wanted = folder / "requirements.txt"
    wanted.write_text(only(requirements, recipe.WHEELS), encoding="utf-8")
    platforms = [word for name in PLATFORMS for word in ("--platform", name)]
    asked = (
        "--no-deps",
        "--only-binary=:all:",
        "--require-hashes",
        "--implementation",
        "cp",
        "--python-version",
        "3.11",
    )
    try:
        _run((*_pip(), "download", "-q", *asked, *platforms, "-r", "requirements.txt"), folder)
    finally:
        wanted.unlink()


def only(requirements: str, names: Sequence[str]) -> str:
    """Of a file of pinned requirements the blocks of these names, with their digests. Raises `UsageError` if one is missing."""
    kept: list[str] = []
    found: set[str] = set()
    keeping = False
    for line in requirements.splitlines(keepends=True):
        if (match := _REQUIREMENT.match(line)) is not None:
            name = re.sub(r"[-_.]+", "-", match[1]).lower()
            keeping = name in names
            found |= {name} if keeping else set()
        if keeping and not line.lstrip().startswith("#"):
            kept.append(line)
    missing = set(names) - found
    if missing:
        raise UsageError(
            f"these requirements do not pin {', '.join(sorted(missing))}", remedy="Give requirements/demo.txt."
        )
    return "".join(kept)


def _pip() -> Sequence[str]:
    """Pip as a program of its own, or else as a part of this Python; an environment need not hold it."""
    found = shutil.which("pip3") or shutil.which("pip")
    return (found,) if found else (sys.executable, "-m", "pip")


def _run(command: Sequence[str], folder: Path) -> str:
    try:
        ran = subprocess.run(command, cwd=folder, capture_output=True, check=False, timeout=PATIENCE, text=True)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ServiceUnavailable(
            f"{command[0]} does not run: {error}", remedy="Fetch on a Debian machine with apt and pip."
        ) from None
    if ran.returncode:
        raise ServiceUnavailable(
            f"{command[0]} could not fetch everything: {ran.stderr.strip()[-300:]}",
            remedy="Check the mirror, then fetch anew.",
        )
    return ran.stdout
