"""The lock of an image: every package and wheel by name, version and SHA-256, and nothing else goes in.

Knows: how it is made from a folder of files, written and read. Does not know: where files are fetched (`fetch`), or what is taken out of
them. Debian's mirrors drop versions when newer ones appear: a lock is made anew for each release, and its files are published with it.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from strongroom.errors import FileUnreadable, ImageChanged, ImageRefused, MalformedRecord
from strongroom.launch.image import recipe
from strongroom.launch.image.deb import Package, parse_deb
from strongroom.launch.image.wheels import Wheel, parse_wheel
from strongroom.records import codec
from strongroom.records.digest import Digest, digest_bytes

VERSION = 1
MAX_TOML, MAX_ITEMS, MAX_FILE = 1 << 18, 512, 1 << 28
_FILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+~%-]{0,254}")
_NAME = re.compile(r"[a-z0-9][a-z0-9+.-]{0,127}")
_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+~:!-]{0,127}")


def _require(condition: object, reason: str) -> None:
    if not condition:
        raise ValueError(reason)


@dataclass(frozen=True, slots=True)
class Item:
    """One package or wheel: what it calls itself, its file's name, and the SHA-256 of that file."""

    name: str
    version: str
    file: str
    digest: Digest

    def __post_init__(self) -> None:
        _require(_NAME.fullmatch(self.name) and _VERSION.fullmatch(self.version), "a name or version that is none")
        _require(_FILE.fullmatch(self.file), "a file that is not one name")


@dataclass(frozen=True, slots=True)
class Lock:
    """All that an image is made of, by name. Complete: it names just what the recipe wants."""

    version: int
    deb: tuple[Item, ...]
    wheel: tuple[Item, ...]

    def __post_init__(self) -> None:
        _require(self.version == VERSION, f"a lock of a version that is not {VERSION}")
        _require(len(self.deb) + len(self.wheel) <= MAX_ITEMS, "a lock of too many items")
        debs = ["kernel" if item.name.startswith(recipe.KERNEL) else item.name for item in self.deb]
        _exactly(debs, ("kernel", *recipe.DEBS), "package")
        _exactly([item.name for item in self.wheel], (recipe.OURS, *recipe.WHEELS), "wheel")


def _exactly(found: list[str], wanted: tuple[str, ...], what: str) -> None:
    doubled = {name for name in found if found.count(name) > 1}
    for names, says in (
        (set(wanted) - set(found), "missing"),
        (set(found) - set(wanted), "not wanted"),
        (doubled, "twice"),
    ):
        _require(not names, f"{what} {', '.join(sorted(names))}: {says}")


def make_lock(folder: Path) -> Lock:
    """The lock of the packages and wheels in `folder`. Raises `ImageRefused` unless they are just those of the recipe."""
    debs: list[Item] = []
    wheels: list[Item] = []
    for path in sorted(folder.glob("*")):
        if path.suffix not in {".deb", ".whl"}:
            continue
        data = _read(path)
        made: Package | Wheel = parse_deb(data) if path.suffix == ".deb" else parse_wheel(data)
        try:
            item = Item(made.name, made.version, path.name, digest_bytes(data))
        except ValueError as error:
            raise ImageRefused(f"{path.name}: {error}") from None
        (debs if path.suffix == ".deb" else wheels).append(item)
    try:
        return Lock(VERSION, _ordered(debs), _ordered(wheels))
    except ValueError as error:
        raise ImageRefused(
            f"{folder} holds other files than an image is made of: {error}",
            remedy="Fill an empty folder with `strongroom image fetch`.",
        ) from None


def _ordered(items: list[Item]) -> tuple[Item, ...]:
    return tuple(sorted(items, key=lambda item: item.name))


def to_toml(lock: Lock) -> str:
    """The lock as a file; `read_lock` reads it back."""
    lines = [f"version = {lock.version}"]
    for kind, items in (("deb", lock.deb), ("wheel", lock.wheel)):
        for item in items:
            lines += ["", f"[[{kind}]]"]
            lines += [f'{name} = "{value}"' for name, value in codec.to_json(item).items()]
    return "\n".join(lines) + "\n"


def read_lock(text: str) -> Lock:
    """Parse a lock. Raises `MalformedRecord`, also for one that does not name all that an image needs."""
    if len(text) > MAX_TOML:
        raise MalformedRecord(f"a lock of {len(text)} characters exceeds the limit of {MAX_TOML}")
    try:
        members: Mapping[str, object] = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise MalformedRecord(
            f"this lock is not TOML: {error}", remedy="Make it anew: `strongroom image lock`."
        ) from None
    return codec.from_json(Lock, members)


def origin(kind: Literal["deb", "wheel"], item: Item) -> str:
    """What an image calls the package that a file comes from."""
    return f"{kind}:{item.name}"


def read_item(item: Item, folder: Path) -> bytes:
    """A file of the lock. Raises `FileUnreadable`, or `ImageChanged` if it is not the one that is locked."""
    data = _read(folder / item.file)
    found = digest_bytes(data)
    if found != item.digest:
        raise ImageChanged(f"{item.file} is not the file that is locked", detail=f"locked {item.digest}, found {found}")
    return data


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE + 1)
    except OSError as error:
        raise FileUnreadable(f"{path}: {error.strerror}") from None
    if len(data) > MAX_FILE:
        raise FileUnreadable(f"{path} is larger than {MAX_FILE} bytes")
    return data
