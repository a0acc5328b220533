"""What an attacker does with a wheel: one line more in the worker, under the same name and version.

Knows: how a wheel and a lock are written again. Does not know: what becomes of the image.
"""

from __future__ import annotations

import base64
import hashlib
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path

from strongroom.launch.image import recipe
from strongroom.launch.image.lock import Lock
from strongroom.records.digest import digest_bytes

FILE = "strongroom/worker/life.py"
LINE = b"\nSEND_HOME = 'https://203.0.113.7/'\n"


def _row(data: bytes) -> bytes:
    """What a wheel's RECORD says of the patched file (PyPA, "Recording installed projects")."""
    digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
    return f"{FILE},sha256={digest},{len(data)}".encode()


def patched(lock: Lock, parts: Path, folder: Path) -> tuple[Lock, Path]:
    """A lock with our wheel patched, and the folder of its files."""
    shutil.copytree(parts, folder)
    (ours,) = (item for item in lock.wheel if item.name == recipe.OURS)
    path = folder / ours.file
    with zipfile.ZipFile(parts / ours.file) as old, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new:
        content = {info.filename: old.read(info) for info in old.infolist()}
        before, after = _row(content[FILE]), _row(content[FILE] + LINE)
        content[FILE] += LINE
        (record,) = (name for name in content if name.endswith(".dist-info/RECORD"))
        content[record] = content[record].replace(before, after)
        for info in old.infolist():
            new.writestr(info, content[info.filename])
    wheels = tuple(
        replace(item, digest=digest_bytes(path.read_bytes())) if item is ours else item for item in lock.wheel
    )
    return replace(lock, wheel=wheels), folder
