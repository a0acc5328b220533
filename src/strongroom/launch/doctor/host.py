"""Reading a machine's files below a root that may be a fixture, a copy, or hostile.

Knows: how to read totally: at most so many bytes, only regular files, links followed inside the root alone and not for ever, no
waiting on FIFOs and devices. Does not know: what any file means.
Not covered: a file system that itself never answers (a dead network mount); a tree that somebody changes while it is read.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from strongroom.launch.doctor.probe import LinuxProbe, Probe, SilentProbe

MOST_BYTES = 256 * 1024
"""Of one file. The longest that is read is /proc/cpuinfo: about 2 KB a CPU, of which the head is enough (`head`)."""
MOST_NAMES = 8192
"""Of one folder."""
MOST_LINKS = 40
"""Links on the way to one file, as Linux itself counts."""
LONGEST_NAME = 4096


def kind_of(place: Path) -> int:
    """What is at `place` itself, no link followed: a file type of `stat` (S_IFMT). Raises `OSError`."""
    return stat.S_IFMT(place.lstat().st_mode)


@dataclass(frozen=True, slots=True)
class Host:
    """A machine: the files below `root`, and a `probe` for what files do not say.

    `kind` says what is at a place: it is given, because only root can make a device where there is none.
    """

    root: Path = Path("/")
    probe: Probe = field(default_factory=SilentProbe)
    kind: Callable[[Path], int] = kind_of

    def data(self, path: str, *, head: bool = False) -> bytes | None:
        """The bytes of a regular file; None where it is missing, unreadable or no file.

        One of more than `MOST_BYTES` is None too, or with `head` cut there.
        """
        place = self.resolve(path)
        try:
            if place is None or not stat.S_ISREG(place.lstat().st_mode):
                return None
            flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NOCTTY
            with os.fdopen(os.open(place, flags), "rb", buffering=0) as file:
                if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                    return None
                read = _read(file.fileno(), MOST_BYTES + 1)
        except (OSError, ValueError):
            return None
        if len(read) > MOST_BYTES:
            return read[:MOST_BYTES] if head else None
        return read

    def text(self, path: str, *, head: bool = False) -> str | None:
        """A text file without the white space around it; None as in `data`, and where it is not UTF-8 or holds NUL bytes."""
        data = self.data(path, head=head)
        if data is None or b"\0" in data:
            return None
        try:
            return data.decode("utf-8", errors="ignore" if head else "strict").strip()
        except UnicodeDecodeError:
            return None

    def names(self, path: str) -> tuple[str, ...] | None:
        """The names in a folder, sorted; None where there is no such folder, or one with more than `MOST_NAMES`."""
        place = self.resolve(path)
        if place is None:
            return None
        found: list[str] = []
        try:
            with os.scandir(place) as entries:
                for entry in entries:
                    found.append(entry.name)
                    if len(found) > MOST_NAMES:
                        return None
        except (OSError, ValueError):
            return None
        return tuple(sorted(found))

    def there(self, path: str) -> bool | None:
        """Whether something is at `path`, of whatever kind; None where the folder that would hold it cannot be read."""
        folder, _, name = path.rstrip("/").rpartition("/")
        names = self.names(folder or "/")
        return None if names is None else name in names

    def node(self, path: str, kind: int) -> bool | None:
        """Whether `path` leads to a node of this kind (`stat.S_IFCHR`, `stat.S_IFSOCK`); None as in `there`."""
        if not self.there(path):
            return self.there(path)
        place = self.resolve(path)
        try:
            return place is not None and self.kind(place) == kind
        except (OSError, ValueError):
            return False

    def resolve(self, path: str) -> Path | None:
        """Where `path` leads below the root, all links followed inside it; None for a loop or a missing folder on the way."""
        todo = [part for part in path.split("/") if part not in {"", "."}][::-1]
        place, links = self.root, 0
        while todo:
            part = todo.pop()
            if part == "..":
                place = place.parent if place != self.root else self.root
                continue
            step = place / part
            try:
                is_link = stat.S_ISLNK(step.lstat().st_mode)
                target = str(step.readlink()) if is_link else ""
            except (OSError, ValueError):
                return None
            if not is_link:
                place = step
                continue
            links += 1
            if links > MOST_LINKS or len(target) > LONGEST_NAME:
                return None
            if target.startswith("/"):
                place = self.root
            todo += [part for part in target.split("/") if part not in {"", "."}][::-1]
        return place


def machine(root: Path) -> Host:
    """The machine below `root`: `/`, or where another one's files are mounted, with its devices where there are any."""
    whole = Path(os.path.realpath(root))
    return Host(whole, LinuxProbe(whole, Host(whole).resolve))


def _read(descriptor: int, most: int) -> bytes:
    """At most so many bytes; a file that says it has none, as those of the kernel do, is read all the same."""
    pieces: list[bytes] = []
    while most > 0 and (piece := os.read(descriptor, min(most, 65536))):
        pieces.append(piece)
        most -= len(piece)
    return b"".join(pieces)
