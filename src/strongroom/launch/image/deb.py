"""Debian's binary packages, read without dpkg and without writing a file.

Knows: the archive of deb(5) (ar(5) with `debian-binary`, `control.tar` and `data.tar`), its control fields, tar members.
Does not know: what is wanted of it (`recipe`); scripts of a package are never run. Not covered: zstd, which Debian does not
use; packages of other architectures.
"""

from __future__ import annotations

import io
import lzma
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from strongroom.errors import MalformedImage
from strongroom.launch.image.tree import Entry

MAGIC = b"!<arch>\n"
HEADER, END = 60, b"`\n"
MAX_DEB, MAX_DATA, MAX_CONTROL = 1 << 28, 1 << 30, 1 << 22
TAR_END = 1024
"""Two blocks of zeros end a tar archive (POSIX, pax, "ustar Interchange Format"); more of them may follow."""
ARCHITECTURES = ("amd64", "all")
REMEDY = "Fetch the package again from your mirror; apt checks what Debian signed."


def _bad(reason: str) -> MalformedImage:
    return MalformedImage(reason, remedy=REMEDY)


@dataclass(frozen=True, slots=True)
class Package:
    """A package: what it calls itself, and its files as they are unpacked."""

    name: str
    version: str
    data: bytes

    def entries(self, origin: str) -> Iterator[tuple[str, Entry]]:
        """Its files, links and folders. Raises `MalformedImage`, also for devices and links out of it."""
        return _tar(self.data, origin)


def parse_deb(data: bytes) -> Package:
    """Read a package. Raises `MalformedImage`."""
    members = ar_members(data)
    names = list(members)
    if names[:1] != ["debian-binary"] or members["debian-binary"] != b"2.0\n":
        raise _bad("this is not a Debian package")
    control, content = ([name for name in names if name.startswith(f"{kind}.tar")] for kind in ("control", "data"))
    if len(control) != 1 or len(content) != 1:
        raise _bad("a Debian package without one control and one data archive")
    fields = _control(_unpacked(control[0], members[control[0]], MAX_CONTROL))
    if fields.get("Architecture") not in ARCHITECTURES:
        raise _bad(f"a package for another architecture: {fields.get('Architecture', 'none')[:32]!r}")
    if not fields.get("Package") or not fields.get("Version"):
        raise _bad("a Debian package without a name or version")
    return Package(fields["Package"], fields["Version"], _unpacked(content[0], members[content[0]], MAX_DATA))


def ar_members(data: bytes) -> dict[str, bytes]:
    """The members of an ar archive, by name. Raises `MalformedImage`."""
    if len(data) > MAX_DEB or data[: len(MAGIC)] != MAGIC:
        raise _bad("this is not an archive of ar, or too large")
    members: dict[str, bytes] = {}
    at = len(MAGIC)
    while at < len(data):
        header = data[at : at + HEADER]
        digits = header[48:58].rstrip(b" ")
        if len(header) < HEADER or header[58:] != END or not (digits.isdigit() and digits.isascii()):
            raise _bad("a member of this archive has no header")
        name, size = header[:16].rstrip(b" ").rstrip(b"/").decode("ascii", "replace"), int(digits)
        at += HEADER
        if name in members or size > len(data) - at:
            raise _bad(f"the member {name!r} is there twice, or longer than its archive")
        members[name] = data[at : at + size]
        at += size + size % 2
    return members


def _unpacked(name: str, data: bytes, limit: int) -> bytes:
    suffix = name.partition(".tar")[2]
    try:
        if suffix == ".xz":
            unpacker = lzma.LZMADecompressor(memlimit=1 << 28)
            made = unpacker.decompress(data, limit + 1)
            ended, rest = unpacker.eof, unpacker.unused_data
        elif suffix == ".gz":
            inflater = zlib.decompressobj(wbits=31)
            made = inflater.decompress(data, limit + 1)
            ended, rest = inflater.eof, inflater.unused_data
        elif not suffix:
            made, ended, rest = data, True, b""
        else:
            raise _bad(f"a package compressed as {suffix[:8]!r} is not read here")
    except (lzma.LZMAError, zlib.error):
        raise _bad(f"{name} does not unpack") from None
    if len(made) > limit:
        raise _bad(f"{name} unpacks to more than {limit} bytes")
    if not ended or rest:
        raise _bad(f"{name} is cut, or something follows it")
    return made


def _control(archive: bytes) -> dict[str, str]:
    texts = [entry.data for path, entry in _tar(archive, "control") if path == "control" and entry.kind == "file"]
    if len(texts) != 1:
        raise _bad("a Debian package without its control file")
    fields: dict[str, str] = {}
    for line in texts[0].decode("utf-8", "replace").splitlines():
        name, colon, value = line.partition(":")
        if colon and not line.startswith((" ", "\t")):
            if name in fields:
                raise _bad(f"the control field {name[:32]!r} is there twice")
            fields[name] = value.strip()
    return fields


def _tar(archive: bytes, origin: str) -> Iterator[tuple[str, Entry]]:
    """Members of a tar archive, to its very end; a hard link is a copy of the file that came before it."""
    earlier: dict[str, bytes] = {}
    total = 0
    try:
        with tarfile.open(fileobj=io.BytesIO(archive), mode="r:", encoding="utf-8", errors="strict") as members:
            for member in members:
                total += member.size
                if member.issparse() or member.size < 0 or total > len(archive):
                    raise _bad(f"{member.name[:80]!r} has holes, or claims more than the archive holds")
                path = member.name.removeprefix("./").rstrip("/")
                if path in {"", "."}:
                    continue
                if member.isdir():
                    yield path, Entry("folder", origin)
                elif member.issym():
                    yield path, Entry("link", origin, member.linkname.encode("utf-8", "replace"))
                elif member.isreg():
                    opened = members.extractfile(member)
                    earlier[path] = opened.read() if opened is not None else b""
                    if len(earlier[path]) != member.size:
                        raise _bad(f"{path[:80]!r} is cut")
                    yield path, Entry("file", origin, earlier[path], bool(member.mode & 0o100))
                elif member.islnk() and (target := member.linkname.removeprefix("./")) in earlier:
                    yield path, Entry("file", origin, earlier[target], bool(member.mode & 0o100))
                else:
                    raise _bad(f"{path[:80]!r} is a device, or a link to nothing")
            rest = archive[members.offset :]
    except (tarfile.TarError, ValueError, EOFError, OverflowError, OSError, IndexError, RecursionError):
        raise _bad(f"an archive of {origin[:64]} is no tar archive") from None
    # The library takes any header that does not read for the end; so the end is looked at here.
    if len(rest) < TAR_END or rest.count(0) != len(rest):
        raise _bad(f"an archive of {origin[:64]} is damaged, cut, or something follows it")
