"""The files of an image while it is put together: one root, in memory, in which nothing climbs and nothing is overwritten.

Knows: paths below a root, the merged `/usr` of Debian, links that stay inside. Does not know: where files come from (`deb`,
`wheels`), which are wanted (`recipe`), or how they are written (`cpio`). Owners, times and odd modes do not exist here.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from strongroom.errors import MalformedImage

MERGED = ("bin", "sbin", "lib", "lib64")
"""Folders of old that are links into `/usr` (Debian policy 10.1, "merged /usr")."""
MAX_PATH, MAX_FILES = 1024, 100_000


@dataclass(frozen=True, slots=True)
class Entry:
    """A file, a link or a folder. `origin` is the package that it comes from; `data` a file's bytes or a link's target."""

    kind: Literal["file", "link", "folder"]
    origin: str
    data: bytes = b""
    executable: bool = False


def clean(path: str) -> str:
    """A path below the root as it is kept here. Raises `MalformedImage` for one that climbs, is empty or is odd."""
    parts = [part for part in path.removeprefix("./").split("/") if part not in {"", "."}]
    odd = any(ord(letter) < 0x20 or ord(letter) == 0x7F for letter in path)  # noqa: PLR2004  # control characters
    if path.startswith("/") or not parts or ".." in parts or odd or len(path) > MAX_PATH:
        raise MalformedImage(f"a path that leaves its package: {path[:80]!r}")
    if parts[0] in MERGED and len(parts) > 1:
        parts.insert(0, "usr")
    return "/".join(parts)


class Tree:
    """Entries by path, without the leading slash."""

    def __init__(self) -> None:
        self.entries: dict[str, Entry] = {}

    def __iter__(self) -> Iterator[tuple[str, Entry]]:
        """In the order of their paths, folders before what is in them."""
        return iter(sorted(self.entries.items(), key=lambda item: item[0].split("/")))

    def add(self, path: str, entry: Entry) -> None:
        """Raises `MalformedImage` where the path is another's, or lies below something that is no folder."""
        path = clean(path)
        there = self.entries.get(path)
        if there is not None and (there.kind, there.data) != (entry.kind, entry.data):
            raise MalformedImage(f"{path} is in {there.origin} and in {entry.origin}, and not the same")
        if len(self.entries) >= MAX_FILES:
            raise MalformedImage(f"an image of more than {MAX_FILES} files")
        for folder in _parents(path):
            above = self.entries.setdefault(folder, Entry("folder", entry.origin))
            if above.kind != "folder":
                raise MalformedImage(f"{path} of {entry.origin} lies below {folder}, which is no folder")
        if there is None:
            self.entries[path] = entry

    def file(self, path: str, data: bytes, origin: str, *, executable: bool = False) -> None:
        self.add(path, Entry("file", origin, data, executable))

    def link(self, path: str, target: str, origin: str) -> None:
        self.add(path, Entry("link", origin, target.encode()))

    def folder(self, path: str, origin: str) -> None:
        self.add(path, Entry("folder", origin))

    def files(self) -> Iterator[tuple[str, Entry]]:
        return ((path, entry) for path, entry in self if entry.kind == "file")

    def resolve(self, path: str) -> str | None:
        """Where a link leads within the tree, in one step; None if there is nothing. Raises `MalformedImage` if it leads out."""
        target = self.entries[path].data.decode("utf-8", "replace")
        joined = target if target.startswith("/") else posixpath.join("/", posixpath.dirname(path), target)
        depth = 0 if target.startswith("/") else path.count("/")
        for part in target.split("/"):
            depth += {"..": -1, "": 0, ".": 0}.get(part, 1)
            if depth < 0:
                raise MalformedImage(f"{path} is a link that leads out of the image: {target[:80]!r}")
        found = posixpath.normpath(joined).lstrip("/")
        kept = clean(found) if found else ""
        return kept if kept in self.entries else None

    def drop_dangling(self) -> None:
        """Take out links to what was left out, and folders with nothing in them but those that are wanted empty."""
        while lost := [path for path, entry in self if entry.kind == "link" and self.resolve(path) is None]:
            for path in lost:
                del self.entries[path]


def _parents(path: str) -> Iterator[str]:
    parts = path.split("/")
    return ("/".join(parts[:count]) for count in range(1, len(parts)))
