"""Launch specifications as files: TOML for people, and the images that they pin.

Knows: how a specification is written, and that a file counts only with the digest that is pinned. Does not know: what is in
the files (`measure`), or how a machine is started.
"""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from strongroom.errors import FileUnreadable, ImageChanged, MalformedRecord
from strongroom.launch.measure.bounds import MAX_IMAGE_BYTES
from strongroom.records import codec
from strongroom.records.digest import Digest
from strongroom.records.launch import LaunchSpec, PinnedFile

MAX_TOML = 64 * 1024
SEE = "See docs/reference/launch-spec.md."
OPTIONAL: Mapping[str, Mapping[str, Any]] = {
    "": {"firmware": None, "devices": [], "gpus": None, "workload": None},
    "machine": {"qemu": None, "snp_features": None},
    "boot": {"initrd": None, "command_line": None, "phases": []},
    "firmware": {"variables": None, "observed": {}},
    "workload": {"artifacts": [], "configuration": None},
}
"""Members that may be left out of each table, and what then counts. All others are required."""
DEVICE: Mapping[str, Any] = {"root_hash": None, "harmless": None}


def from_toml(text: str) -> LaunchSpec:
    """Parse a specification as people write it. Raises `MalformedRecord`, also for any member that is not known."""
    if len(text) > MAX_TOML:
        raise MalformedRecord(f"a launch specification of {len(text)} characters exceeds the limit of {MAX_TOML}")
    try:
        members = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise MalformedRecord(f"this launch specification is not TOML: {error}", remedy=SEE) from None
    document = {**OPTIONAL[""], **members}
    for name, defaults in OPTIONAL.items():
        if name and isinstance(document.get(name), dict):
            document[name] = {**defaults, **document[name]}
    if isinstance(document["devices"], list):
        document["devices"] = [{**DEVICE, **d} if isinstance(d, dict) else d for d in document["devices"]]
    try:
        spec = codec.from_json(LaunchSpec, {"type": LaunchSpec.TYPE, **document})
        codec.encode(spec)  # a specification that has no digest is none
    except MalformedRecord as error:
        raise MalformedRecord(error.message, detail=error.detail, remedy=SEE) from None
    return spec


def to_toml(spec: LaunchSpec) -> str:
    """A specification as people write it; `from_toml` reads it back to the same record."""
    value = codec.to_json(spec)
    lines = [f"{name} = {_toml(value[name])}" for name in ("name", "tee")]
    for table in ("machine", "boot", "firmware", "gpus", "workload"):
        if value[table] is not None:
            lines += ["", f"[{table}]", *_members(value[table])]
    for device in value["devices"]:
        lines += ["", "[[devices]]", *_members(device)]
    return "\n".join(lines) + "\n"


def _members(table: Mapping[str, Any]) -> list[str]:
    return [f"{name} = {_toml(member)}" for name, member in table.items() if member is not None]


def _toml(value: object) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name} = {_toml(member)}" for name, member in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_toml(member) for member in value) + "]"
    if isinstance(value, int):
        return str(value)
    escaped = str(value).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def place_of(file: PinnedFile, folder: Path) -> Path:
    """Where a pinned file lies: below the specification's folder, unless its path is absolute."""
    return folder / file.file


def read_images(spec: LaunchSpec, folder: Path) -> dict[Digest, bytes]:
    """The content of every pinned file, by its digest. Raises `FileUnreadable`, or `ImageChanged` if it is another one."""
    return {file.digest: read_pinned(file, folder) for file in spec.files}


def read_pinned(file: PinnedFile, folder: Path) -> bytes:
    """One file, if it is the one that is pinned. Raises `FileUnreadable` or `ImageChanged`."""
    path = place_of(file, folder)
    try:
        with path.open("rb") as opened:
            data = opened.read(MAX_IMAGE_BYTES + 1)
    except (OSError, ValueError) as error:
        raise FileUnreadable(f"{path}: {getattr(error, 'strerror', None) or 'no such name'}") from None
    if len(data) > MAX_IMAGE_BYTES:
        raise FileUnreadable(f"{path} is larger than {MAX_IMAGE_BYTES} bytes")
    found = f"sha256:{hashlib.sha256(data).hexdigest()}"
    if found != file.digest:
        raise ImageChanged(f"{path} is not the file that is pinned", detail=f"pinned {file.digest}, found {found}")
    return data
