"""How a log is laid out as static files (C2SP tlog-tiles), and the tree over its leaf hashes.

Knows: names and contents of hash tiles and entry bundles, and roots and proofs of every size that the log ever had.
Pure: it neither reads nor writes files. Does not know: who signs a root (`note`), or what an entry means.
A tree keeps the hash of every full subtree, 64 bytes for each leaf; appending costs one hash more on average, a root
some log2(size), a proof its square. One thread appends; others may read meanwhile, for a size is seen only when its
hashes are there.
Not covered: pruning, and trees larger than memory.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from strongroom.crypto.merkle import EMPTY_ROOT, HASH_BYTES, consistency_ranges, inclusion_ranges, node_hash
from strongroom.errors import LogInvalid, MalformedRecord, UsageError

TILE_WIDTH = 256
TILE_HEIGHT = 8
MAX_LEVEL = 63
MAX_ENTRY_BYTES = 2**16 - 1
MAX_BUNDLE_BYTES = TILE_WIDTH * (MAX_ENTRY_BYTES + 2)

_PATH = re.compile(
    r"tile/(?P<level>entries|0|[1-9][0-9]?)/(?P<index>(?:x[0-9]{3}/){0,6}[0-9]{3})(?:\.p/(?P<width>[1-9][0-9]{0,2}))?"
)


@dataclass(frozen=True, slots=True)
class Tile:
    """The address of a hash tile, or of an entry bundle where `level` is None; partial where `width` is below 256."""

    level: int | None
    index: int
    width: int = TILE_WIDTH

    def __post_init__(self) -> None:
        levels = self.level is None or 0 <= self.level <= MAX_LEVEL
        if not levels or self.index < 0 or not 1 <= self.width <= TILE_WIDTH:
            raise UsageError("there is no such tile")

    @property
    def path(self) -> str:
        """The name under which the tile is served, as `tile/0/x001/x234/067.p/8`."""
        level = "entries" if self.level is None else str(self.level)
        suffix = "" if self.width == TILE_WIDTH else f".p/{self.width}"
        return f"tile/{level}/{_index_path(self.index)}{suffix}"


def parse_path(path: str) -> Tile:
    """The tile that is served under `path`, only in the form that `Tile.path` gives. Raises `MalformedRecord`."""
    match = _PATH.fullmatch(path)
    if match is None:
        raise MalformedRecord("this is not the path of a tile")
    level = None if match["level"] == "entries" else int(match["level"])
    index = int(match["index"].replace("x", "").replace("/", ""))
    width = int(match["width"] or TILE_WIDTH)
    if (level or 0) > MAX_LEVEL or width > TILE_WIDTH:
        raise MalformedRecord("this is not the path of a tile")
    tile = Tile(level, index, width)
    if tile.path != path:
        raise MalformedRecord("this is not the path of a tile", detail="not canonical")
    return tile


def tiles_of(size: int) -> list[Tile]:
    """All hash tiles of a log of `size` entries, full ones first in each level, from level 0 upwards; no empty ones."""
    if size < 0:
        raise UsageError("a log has no negative size")
    tiles: list[Tile] = []
    level, hashes = 0, size
    while hashes:
        full, rest = divmod(hashes, TILE_WIDTH)
        tiles += [Tile(level, index) for index in range(full)]
        tiles += [Tile(level, full, rest)] if rest else []
        level, hashes = level + 1, full
    return tiles


def bundles_of(size: int) -> list[Tile]:
    """All entry bundles of a log of `size` entries."""
    return [Tile(None, tile.index, tile.width) for tile in tiles_of(size) if tile.level == 0]


def parse_hashes(data: bytes, tile: Tile) -> tuple[bytes, ...]:
    """The hashes in the contents of a hash tile. Raises `MalformedRecord`."""
    if len(data) != tile.width * HASH_BYTES:
        raise MalformedRecord(f"a tile of {tile.width} hashes does not have {len(data)} bytes")
    return tuple(data[start : start + HASH_BYTES] for start in range(0, len(data), HASH_BYTES))


def bundle(entries: Sequence[bytes]) -> bytes:
    """The contents of an entry bundle: 1 to 256 entries, each after its u16 length. Raises `UsageError`."""
    if not 1 <= len(entries) <= TILE_WIDTH:
        raise UsageError(f"a bundle has 1 to {TILE_WIDTH} entries")
    if any(len(entry) > MAX_ENTRY_BYTES for entry in entries):
        raise UsageError(f"an entry of a log has at most {MAX_ENTRY_BYTES} bytes")
    return b"".join(len(entry).to_bytes(2, "big") + entry for entry in entries)


def parse_bundle(data: bytes, tile: Tile) -> tuple[bytes, ...]:
    """The entries in the contents of an entry bundle, exactly `tile.width`. Raises `MalformedRecord`."""
    if len(data) > MAX_BUNDLE_BYTES:
        raise MalformedRecord("this bundle is larger than any bundle")
    entries: list[bytes] = []
    position = 0
    for _ in range(tile.width):
        start = position + 2
        end = start + int.from_bytes(data[position:start], "big")
        if end > len(data):
            raise MalformedRecord("this bundle ends inside an entry")
        entries.append(data[start:end])
        position = end
    if position != len(data):
        raise MalformedRecord("this bundle has more entries than its name says")
    return tuple(entries)


class Tree:
    """An append-only Merkle tree over leaf hashes (RFC 6962), which answers for its present and every earlier size."""

    def __init__(self, leaf_hashes: Iterable[bytes] = ()) -> None:
        self._levels: list[list[bytes]] = [[]]  # of height h: the roots of the full subtrees of 2^h leaves, in order
        self._size = 0
        for leaf in leaf_hashes:
            self.append(leaf)

    def __len__(self) -> int:
        return self._size

    def append(self, leaf_hash: bytes) -> int:
        """Add a leaf hash; the answer is its index. Raises `UsageError`."""
        if len(leaf_hash) != HASH_BYTES:
            raise UsageError(f"a leaf hash has {HASH_BYTES} bytes")
        height, count, found = 0, self._size + 1, leaf_hash
        self._levels[0].append(found)
        while count % 2 == 0:
            found = node_hash(self._levels[height][count - 2], found)
            height, count = height + 1, count // 2
            if height == len(self._levels):
                self._levels.append([])
            self._levels[height].append(found)
        self._size += 1
        return self._size - 1

    def root(self, size: int | None = None) -> bytes:
        """The root over the first `size` leaves, or over all. Raises `LogInvalid`."""
        return self._root_of(0, self._size_or_all(size))

    def inclusion_path(self, index: int, size: int | None = None) -> tuple[bytes, ...]:
        """The audit path of leaf `index` among the first `size`. Raises `LogInvalid`."""
        return tuple(self._root_of(start, end) for start, end in inclusion_ranges(index, self._size_or_all(size)))

    def consistency_path(self, old_size: int, size: int | None = None) -> tuple[bytes, ...]:
        """The proof that the first `size` leaves extend the first `old_size`. Raises `LogInvalid`."""
        return tuple(self._root_of(start, end) for start, end in consistency_ranges(old_size, self._size_or_all(size)))

    def tile(self, tile: Tile) -> bytes:
        """The contents of a hash tile. Raises `LogInvalid` where the log is not yet so large."""
        if tile.level is None:
            raise UsageError("a tree has no entries, only their hashes")
        height, start = tile.level * TILE_HEIGHT, tile.index * TILE_WIDTH
        if (start + tile.width) << height > self._size:
            raise LogInvalid(f"a log of {self._size} entries does not have this tile", detail=tile.path)
        return b"".join(self._levels[height][start : start + tile.width])

    def _size_or_all(self, size: int | None) -> int:
        if size is None:
            return self._size
        if not 0 <= size <= self._size:
            raise LogInvalid(f"a log of {self._size} entries has no state of {size}")
        return size

    def _root_of(self, start: int, end: int) -> bytes:
        """The root over leaves `start` to `end`; `start` is a multiple of a power of two not below their number."""
        parts: list[bytes] = []
        while start < end:
            height = (
                end - start
            ).bit_length() - 1  # the largest full subtree that fits, as RFC 6962 splits from the left
            parts.append(self._levels[height][start >> height])
            start += 1 << height
        found = parts.pop() if parts else EMPTY_ROOT
        while parts:
            found = node_hash(parts.pop(), found)
        return found


def _index_path(index: int) -> str:
    """Groups of three digits, all but the last with an `x` (tlog-tiles, section Merkle Tree)."""
    head, last = divmod(index, 1000)
    groups = [f"{last:03d}"]
    while head:
        head, group = divmod(head, 1000)
        groups.append(f"x{group:03d}")
    return "/".join(reversed(groups))
