"""The archive that a kernel unpacks as its first root: cpio, "new ASCII" format (Linux, "initramfs buffer format").

Knows: how a tree is written so that the same tree gives the same bytes (sorted, numbered, no times, all root's), and how
such an archive is read: only one that the kernel cannot read in another way. The kernel cuts names at a NUL, follows links in them, takes
the last of two members of a name, and gives the members of a hard link each other's bytes (Linux, `init/initramfs.c`); all that is refused.
Does not know: compression, or what the files are. Not covered: devices, hard links, other formats of cpio.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Iterator

from strongroom.errors import MalformedImage
from strongroom.launch.image.tree import MAX_FILES, MAX_PATH, Entry, Tree, clean

MAGIC = b"070701"
HEADER, FIELDS = 110, 13
TRAILER = "TRAILER!!!"
_HEADER = re.compile(rb"070701[0-9a-fA-F]{104}")
FILE, PROGRAM, FOLDER, LINK = 0o100644, 0o100755, 0o040755, 0o120777
KINDS = {FILE: "file", PROGRAM: "file", FOLDER: "folder", LINK: "link"}
MAX_ARCHIVE = (1 << 32) - 1


def write_cpio(tree: Tree) -> bytes:
    """The archive of a tree. Raises `MalformedImage` if it is larger than the format can say."""
    made = bytearray()
    for number, (path, entry) in enumerate(tree, start=1):
        mode = {"folder": FOLDER, "link": LINK, "file": PROGRAM if entry.executable else FILE}[entry.kind]
        _member(made, number, path, mode, entry.data)
    _member(made, 0, TRAILER, 0, b"")
    if len(made) > MAX_ARCHIVE:
        raise MalformedImage("an image of more than four gigabytes")
    return bytes(made)


def _member(made: bytearray, number: int, path: str, mode: int, data: bytes) -> None:
    name = path.encode()
    links = 2 if mode == FOLDER else 1
    fields = (number, mode, 0, 0, links, 0, len(data), 0, 0, 0, 0, len(name) + 1, 0)
    made += MAGIC + b"".join(b"%08x" % field for field in fields) + name + b"\0"
    made += bytes(-len(made) % 4) + data
    made += bytes(-len(made) % 4)


def read_cpio(data: bytes) -> Iterator[tuple[str, Entry]]:
    """Members of an archive, with no origin. Raises `MalformedImage`, also where something follows it."""
    end = yield from read_members(data)
    if any(data[end:]):
        raise MalformedImage("something follows the end of this cpio archive")


def read_members(data: bytes) -> Generator[tuple[str, Entry], None, int]:
    """Members of the archive that `data` begins with; returns where it ends. Raises `MalformedImage`."""
    at = 0
    kinds: dict[str, str] = {}
    for _ in range(MAX_FILES + 2):
        header = data[at : at + HEADER]
        if _HEADER.fullmatch(header) is None:
            raise MalformedImage("a member of this cpio archive has no header")
        fields = [int(header[6 + 8 * n : 14 + 8 * n], 16) for n in range(FIELDS)]
        mode, links, size, length = fields[1], fields[4], fields[6], fields[11]
        end = at + HEADER + length
        start = end + -end % 4
        if not 2 <= length <= MAX_PATH + 1 or start + size > len(data) or data[end - 1 : end] != b"\0":  # noqa: PLR2004
            raise MalformedImage("a member of this cpio archive is cut")
        name = data[at + HEADER : end - 1].decode("utf-8", "replace")
        if name == TRAILER:
            return start + size + -(start + size) % 4
        kind = KINDS.get(mode)
        if kind is None or (kind != "folder" and links != 1):
            raise MalformedImage(f"{name[:80]!r} is neither file, link nor folder, or has odd rights or several names")
        _place(kinds, name, kind)
        yield name, Entry(kind, "", data[start : start + size], mode == PROGRAM)  # type: ignore[arg-type]
        at = start + size + -(start + size) % 4
    raise MalformedImage(f"a cpio archive of more than {MAX_FILES} members")


def _place(kinds: dict[str, str], name: str, kind: str) -> None:
    """Take note of a member, which lies where its name says and nowhere else. Raises `MalformedImage`."""
    above = name.rpartition("/")[0]
    if "\ufffd" in name or clean(name) != name or name in kinds or (above and kinds.get(above) != "folder"):
        raise MalformedImage(f"{name[:80]!r} is written oddly, there twice, or below what is no folder")
    kinds[name] = kind
