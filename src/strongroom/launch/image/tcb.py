"""The trusted computing base of an image as a number: Python lines, native bytes, kernel bytes, files; and where each comes from.

Knows: what is counted as what. Does not know: whether it should be there (`recipe`). Everything is counted in the image itself, not in
what went into it. A Python line is one that is neither empty nor only a comment.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from strongroom.errors import MalformedImage
from strongroom.launch.image import cpio, recipe
from strongroom.launch.image.tree import Entry
from strongroom.launch.measure.uki import parse_uki
from strongroom.records import codec
from strongroom.records.digest import Digest, digest_bytes

MAX_INITRD, MAX_MANIFEST = 1 << 31, 1 << 24
KERNEL_PREFIX = "usr/lib/modules/"


@dataclass(slots=True)
class Share:
    """What one package brings."""

    files: int = 0
    python_lines: int = 0
    native_bytes: int = 0
    kernel_bytes: int = 0
    other_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Contents:
    """An image as it is: its digest and size, its packages, what each brings, and every file with its digest."""

    image: Digest
    size: int
    command_line: str
    packages: tuple[Mapping[str, str], ...]
    shares: Mapping[str, Share] = field(default_factory=dict)
    files: Mapping[str, Digest] = field(default_factory=dict)

    @property
    def total(self) -> Share:
        made = Share()
        for share in self.shares.values():
            for name in Share.__slots__:
                setattr(made, name, getattr(made, name) + getattr(share, name))
        return made

    def as_json(self) -> dict[str, Any]:
        """For programs: a bill of materials, and the numbers."""
        return {
            "image": self.image,
            "bytes": self.size,
            "command_line": self.command_line,
            "total": _numbers(self.total),
            "packages": [{**row, **_numbers(self.shares.get(row["origin"], Share()))} for row in self.packages],
            "files": dict(self.files),
        }


def _numbers(share: Share) -> dict[str, int]:
    return {name: getattr(share, name) for name in Share.__slots__}


def contents(data: bytes) -> Contents:
    """Look into an image. Raises `MalformedImage` where it is none of ours, or not what its own list says."""
    uki = parse_uki(data)
    entries = _entries(bytes(uki.initrd))
    listed = _manifest(entries, recipe.MANIFEST)
    listed["files"] |= _manifest(entries, recipe.CONFIGURED)["files"]
    shares: dict[str, Share] = {}
    files: dict[str, Digest] = {}
    for path, entry in entries.items():
        if entry.kind == "folder":
            continue
        source = listed["files"].get(path)
        if source is None and path not in {recipe.MANIFEST, recipe.CONFIGURED}:
            raise MalformedImage(f"{path[:80]!r} is in this image, and not in its list")
        count(shares.setdefault(source or "image", Share()), path, entry)
        files[path] = digest_bytes(entry.data)
    missing = set(listed["files"]) - set(files)
    if missing:
        raise MalformedImage(f"{min(missing)[:80]!r} is in the image's list, and not in it")
    kernel = next((row["origin"] for row in listed["packages"] if row["name"].startswith(recipe.KERNEL)), "image")
    shares.setdefault(kernel, Share()).kernel_bytes += len(uki.kernel)
    shares[kernel].files += 1
    return Contents(digest_bytes(data), len(data), uki.command_line, tuple(listed["packages"]), shares, files)


def count(share: Share, path: str, entry: Entry) -> None:
    """Add one file or link to what its package brings."""
    share.files += 1
    if path.startswith(KERNEL_PREFIX):
        share.kernel_bytes += len(entry.data)
    elif entry.data[:4] == b"\x7fELF":
        share.native_bytes += len(entry.data)
    else:
        share.other_bytes += len(entry.data)
    if path.endswith(".py") or path in {recipe.INIT, recipe.COMMAND}:
        share.python_lines += sum(line.strip()[:1] not in {b"", b"#"} for line in entry.data.split(b"\n"))


def _entries(initrd: bytes) -> dict[str, Entry]:
    """What both archives hold: the configuration's, and the packed root behind it. Nothing is in both but folders."""
    found: dict[str, Entry] = {}
    members = cpio.read_members(initrd)
    while True:
        try:
            path, entry = next(members)
        except StopIteration as ended:
            end = ended.value
            break
        found[path] = entry
    for path, entry in cpio.read_cpio(_plain(initrd[end:])):
        if path in found and not found[path].kind == entry.kind == "folder":
            raise MalformedImage(f"{path[:80]!r} is in this image twice")
        found[path] = entry
    return found


def _plain(packed: bytes) -> bytes:
    try:
        inflater = zlib.decompressobj(wbits=31)
        made = inflater.decompress(packed, MAX_INITRD)
    except zlib.error:
        raise MalformedImage("the initrd of this image is not one of ours") from None
    if not inflater.eof or inflater.unused_data.strip(b"\0"):
        raise MalformedImage("the initrd of this image is too large, cut, or something follows it")
    return made


def _manifest(entries: Mapping[str, Entry], path: str) -> dict[str, Any]:
    found = entries.get(path)
    listed: Any = codec.parse_json(found.data, limit=MAX_MANIFEST) if found is not None else None
    if not isinstance(listed, dict) or set(listed) != {"files", "packages"}:
        raise MalformedImage("this image does not list what is in it: it is no worker image")
    if not isinstance(listed["files"], dict) or not isinstance(listed["packages"], list):
        raise MalformedImage("the list in this image does not read")
    wanted = {"digest", "name", "origin", "version"}
    for row in listed["packages"]:
        if not isinstance(row, dict) or set(row) != wanted or not all(isinstance(value, str) for value in row.values()):
            raise MalformedImage("the list of packages in this image does not read")
    if not all(isinstance(value, str) for value in listed["files"].values()):
        raise MalformedImage("the list of files in this image does not read")
    return listed


def manifest(packages: list[Mapping[str, str]], files: Mapping[str, str]) -> bytes:
    """The list that an image carries of itself: its packages, and from which of them each file comes."""
    return json.dumps({"files": files, "packages": packages}, sort_keys=True, separators=(",", ":")).encode()
