"""A plain folder, or one file, as model signatures see it: which files count, and whether they are what was signed.

Specification: how model-signing 1.1 walks a folder. Links are refused unless the caller says that links to files count as
the files; a link to a folder is refused even then, because the stock signer passes over what is behind it in silence.
What the caller leaves out of account is not looked at; when a folder is compared, what its signature says was left out
is not looked at either.

Knows: files and their digests. Does not know: signatures (`bundle`). Not covered: signing by shards; owners, modes and
times of files, and empty folders, of which no model signature says anything.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from blake3 import blake3

from strongroom.errors import FileUnreadable, SignatureInvalid, UsageError
from strongroom.records.artifact import is_plain_path
from strongroom.sealed.files import file_errors
from strongroom.sealed.signing.statement import ITSELF, SignedFiles

CHUNK_BYTES = 1 << 20
MAX_FILES = 1 << 17
MAX_SHARDS = 1 << 17
MAX_NAMED = 5

Progress: TypeAlias = Callable[[int, int], None]
"""Told how many bytes of how many are done."""

_HASHES: dict[str, Callable[[], Any]] = {"sha256": hashlib.sha256, "blake2b": hashlib.blake2b, "blake3": blake3}


@dataclass(frozen=True, slots=True)
class Part:
    """A file, or the bytes `start` to `end` of it, under the name by which a statement calls it."""

    name: str
    place: Path
    start: int
    end: int


def describe(
    place: Path, *, ignored: Collection[str] = (), links: bool = False, progress: Progress | None = None
) -> SignedFiles:
    """What is to be signed of a folder or a file: the SHA-256 of each file that is not at or below a path of `ignored`.

    Raises `FileUnreadable`; `UsageError` for links, and for names that a statement cannot hold.
    """
    found = _find(place, frozenset(ignored), links=links)
    strange = sorted(path for path in found if path != ITSELF and not is_plain_path(path))
    if strange:
        raise UsageError(f"a statement cannot hold a file of the name {strange[0][:256]!r}", remedy="Rename it.")
    if not found:
        raise UsageError(f"{place} holds no file to sign")
    parts = [Part(path, file, 0, size) for path, (file, size) in found.items()]
    digests = _hashed(parts, "sha256", progress)
    return SignedFiles(place.resolve().name, "sha256", digests, ignored=tuple(sorted(ignored)), links=links)


def compare(
    place: Path,
    signed: SignedFiles,
    *,
    ignored: Collection[str] = (),
    links: bool = False,
    only_signed: bool = False,
    progress: Progress | None = None,
) -> None:
    """Return if a folder or a file is what was signed: the same files, with the same content, and none beside them.

    `only_signed` lets other files stand beside. Raises `SignatureInvalid`, `FileUnreadable`; `UsageError` for links.
    """
    found = _find(place, frozenset((*ignored, *signed.ignored)), links=links)
    if only_signed:
        stated = signed.digests if signed.shard_bytes is None else {name.rsplit(":", 2)[0] for name in signed.digests}
        found = {path: about for path, about in found.items() if path in stated}
    parts = _parts(found, signed.shard_bytes)
    names = {part.name for part in parts}
    _refuse("files that were not signed, or are longer", names - signed.digests.keys())
    _refuse("files that were signed and are missing, or shorter", signed.digests.keys() - names)
    digests = _hashed(parts, signed.algorithm, progress)
    _refuse("files that were changed", {name for name, digest in digests.items() if digest != signed.digests[name]})


def path_inside(place: Path, file: Path) -> str | None:
    """The path of `file` below the folder `place`, or None where it lies elsewhere."""
    folder, target = place.resolve(), file.resolve()
    return target.relative_to(folder).as_posix() if target != folder and target.is_relative_to(folder) else None


def _refuse(what: str, names: Collection[str]) -> None:
    if names:
        shown = ", ".join(repr(name[:128]) for name in sorted(names)[:MAX_NAMED])
        more = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
        raise SignatureInvalid(f"the signature holds, but there are {what}", detail=shown + more)


def _find(place: Path, ignored: frozenset[str], *, links: bool) -> dict[str, tuple[Path, int]]:
    """Each file below `place` by its path there, where it lies and its size in bytes, sorted by path."""
    with file_errors(f"{place} cannot be read"):
        if stat.S_ISREG(place.stat().st_mode):
            return {ITSELF: (place, place.stat().st_size)}
        found = {}
        for path, file in _walk(place, "", ignored):
            found[path] = (file, _size(file, links=links))
            if len(found) > MAX_FILES:
                raise UsageError(f"{place} holds more than {MAX_FILES} files", remedy="Pack them.")
    return dict(sorted(found.items()))


def _walk(folder: Path, above: str, ignored: frozenset[str]) -> Iterator[tuple[str, Path]]:
    for entry in os.scandir(folder):
        path = above + entry.name
        if path in ignored:
            continue
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(folder / entry.name, path + "/", ignored)
        else:
            yield path, folder / entry.name


def _size(file: Path, *, links: bool) -> int:
    about = file.lstat()
    if stat.S_ISLNK(about.st_mode):
        if not links:
            raise UsageError(
                f"{file} is a link", remedy="Say that links to files count (--allow-symlinks), or leave it out."
            )
        about = file.stat()
    if not stat.S_ISREG(about.st_mode):
        raise UsageError(f"{file} is not a plain file, nor a link to one", remedy="Remove it, or leave it out.")
    return about.st_size


def _parts(found: Mapping[str, tuple[Path, int]], shard_bytes: int | None) -> list[Part]:
    if shard_bytes is None:
        return [Part(path, file, 0, size) for path, (file, size) in found.items()]
    empty = {path for path, (_, size) in found.items() if not size}
    _refuse("empty files, of which a signature by shards says nothing", empty)
    if sum(-(-size // shard_bytes) for _, size in found.values()) > MAX_SHARDS:
        raise SignatureInvalid(f"the signature holds, but there are more than {MAX_SHARDS} shards of its size here")
    parts = []
    for path, (file, size) in found.items():
        for start in range(0, size, shard_bytes):
            end = min(start + shard_bytes, size)
            parts.append(Part(f"{path}:{start}:{end}", file, start, end))
    return parts


def _hashed(parts: list[Part], algorithm: str, progress: Progress | None) -> dict[str, str]:
    """The digest of each part, read in parallel; the count told to `progress` may be late, never too high."""
    total, done = sum(part.end - part.start for part in parts), 0

    def read(part: Part) -> str:
        nonlocal done
        hashing, left = _HASHES[algorithm](), part.end - part.start
        with file_errors(f"{part.place} cannot be read"), part.place.open("rb") as file:
            file.seek(part.start)
            while left:
                data = file.read(min(CHUNK_BYTES, left))
                if not data:
                    raise FileUnreadable(f"{part.place} became shorter while it was read")
                hashing.update(data)
                left -= len(data)
                done += len(data)
                if progress is not None:
                    progress(min(done, total), total)
        return str(hashing.hexdigest())

    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        digests = dict(zip((part.name for part in parts), pool.map(read, parts), strict=True))
    if progress is not None:
        progress(total, total)
    return digests
