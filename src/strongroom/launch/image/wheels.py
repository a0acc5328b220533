"""Wheels, read as files for an image: everything in one is named in its RECORD with its digest, and nothing lies outside.

Knows: the binary distribution format (packaging.python.org, "Binary distribution format"): names, `RECORD`, `.data` folders.
Does not know: how Python finds packages, which are wanted (`recipe`). Not covered: entry points (the image has one command), signed
wheels.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import re
import stat
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from strongroom.errors import MalformedImage
from strongroom.launch.image.tree import Entry, clean

MAX_WHEEL, MAX_UNPACKED, MAX_MEMBERS = 1 << 28, 1 << 30, 20_000
UNHASHED = ("RECORD", "RECORD.jws", "RECORD.p7s")
FITS = re.compile(r"(?:py3|py2\.py3|cp3\d+)(?:\.\w+)*-(?:none|abi3|cp3\d+)(?:\.\w+)*-(?:any|manylinux\w*x86_64[\w.]*)")
PACKINGS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
"""What wheels are packed with; of the others one takes as much memory as its header says."""
_NO_ARCHIVE = (
    zipfile.BadZipFile, zlib.error, ValueError, EOFError, OSError, OverflowError, NotImplementedError, RuntimeError,
)  # fmt: skip
REMEDY = "Download the wheel again with `pip download --require-hashes`."


def _bad(reason: str) -> MalformedImage:
    return MalformedImage(reason, remedy=REMEDY)


@dataclass(frozen=True, slots=True)
class Wheel:
    """A wheel: what it calls itself, and its files by the path below Python's folder of packages."""

    name: str
    version: str
    files: dict[str, bytes]

    def entries(self, below: str, origin: str) -> Iterator[tuple[str, Entry]]:
        return ((f"{below}/{path}", Entry("file", origin, data)) for path, data in self.files.items())


def parse_wheel(data: bytes) -> Wheel:
    """Read a wheel and hold every file against its RECORD. Raises `MalformedImage`."""
    content = _members(data)
    folders = {path.split("/")[0] for path in content if path.split("/")[0].endswith(".dist-info")}
    if len(folders) != 1:
        raise _bad("a wheel has one folder of metadata")
    (info,) = folders
    for name in ("METADATA", "WHEEL", "RECORD"):
        if f"{info}/{name}" not in content:
            raise _bad(f"a wheel without {name}")
    _check_record(content, info)
    fields = _fields(content[f"{info}/METADATA"])
    if not fields.get("Name") or not fields.get("Version"):
        raise _bad("a wheel without a name or version")
    tags = [
        line[5:].strip()
        for line in content[f"{info}/WHEEL"].decode("utf-8", "replace").splitlines()
        if line[:5] == "Tag: "
    ]
    if not any(FITS.fullmatch(tag) for tag in tags):
        raise _bad(f"the wheel of {fields['Name'][:64]} is for another machine")
    name = re.sub(r"[-_.]+", "-", fields["Name"]).lower()
    return Wheel(name, fields["Version"], _placed(content))


def _members(data: bytes) -> dict[str, bytes]:
    if len(data) > MAX_WHEEL:
        raise _bad("a wheel that is too large")
    content: dict[str, bytes] = {}
    total = 0
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            listed = archive.infolist()
            if len(listed) > MAX_MEMBERS:
                raise _bad(f"a wheel of more than {MAX_MEMBERS} files")
            for member in listed:
                kind = stat.S_IFMT(member.external_attr >> 16)
                if kind not in {0, stat.S_IFREG, stat.S_IFDIR}:
                    raise _bad(f"a wheel with a link in it: {member.filename[:80]!r}")
                if member.compress_type not in PACKINGS:
                    raise _bad(f"{member.filename[:80]!r} is packed as no wheel is")
                if member.is_dir():
                    continue
                if clean(member.filename) != member.filename and f"usr/{member.filename}" != clean(member.filename):
                    raise _bad(f"a path that is written oddly: {member.filename[:80]!r}")
                if member.filename in content:
                    raise _bad(f"{member.filename[:80]!r} is in the wheel twice")
                with archive.open(member) as file:
                    content[member.filename] = file.read(MAX_UNPACKED - total + 1)
                total += len(content[member.filename])
                if total > MAX_UNPACKED:
                    raise _bad(f"a wheel that unpacks to more than {MAX_UNPACKED} bytes")
    except _NO_ARCHIVE:
        raise _bad("this is not a wheel: its archive does not read") from None
    return content


def _check_record(content: dict[str, bytes], info: str) -> None:
    try:
        rows = list(csv.reader(io.StringIO(content[f"{info}/RECORD"].decode("utf-8")), strict=True))
    except (UnicodeDecodeError, csv.Error):
        raise _bad("the RECORD of this wheel does not read") from None
    recorded = {row[0]: row[1] for row in rows if len(row) == 3}  # noqa: PLR2004  # path, digest, size
    if len(recorded) != len(rows):
        raise _bad("the RECORD of this wheel has a path twice, or a line that is none")
    exempt = {f"{info}/{name}" for name in UNHASHED}
    if set(recorded) - exempt != set(content) - exempt:
        raise _bad("the RECORD of this wheel names other files than are in it")
    for path, data in content.items():
        if path in exempt:
            continue
        digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode("ascii")
        if recorded[path] != f"sha256={digest}":
            raise _bad(f"{path[:80]!r} is not the file that the wheel records")


def _fields(metadata: bytes) -> dict[str, str]:
    fields: dict[str, str] = {}
    for line in metadata.decode("utf-8", "replace").splitlines():
        name, colon, value = line.partition(": ")
        if not colon:
            break
        fields.setdefault(name, value.strip())
    return fields


def _placed(content: dict[str, bytes]) -> dict[str, bytes]:
    """Files by where they are installed; scripts, headers and data of a wheel are left out."""
    placed: dict[str, bytes] = {}
    for path, data in content.items():
        first, _, rest = path.partition("/")
        if first.endswith(".data"):
            kind, _, inner = rest.partition("/")
            if kind not in {"purelib", "platlib"}:
                continue
            path = inner  # noqa: PLW2901
        if path in placed:
            raise _bad(f"{path[:80]!r} is installed twice")
        placed[path] = data
    return placed
