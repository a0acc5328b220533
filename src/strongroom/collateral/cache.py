"""Collateral that held when it came, kept until it ends; and floors below which nothing is taken any more.

    DIR/entries/<SHA-256 of the item's name>.json    one part, when it came, its floor
    DIR/floors.json                                  the floors; they outlive every entry
    DIR/lock, DIR/fetch-<n>                          one writer at a time; one fetch of an item at a time

Knows: files, memory, floors, time as an argument. Does not know: how a part is judged (`check`, given by the caller), or
how one is fetched (`source`). Only what `check` accepts is written, and what is read from disk is judged anew before it
is believed; in memory it then stays believed until it ends. A file that does not parse, or no longer holds, is no entry.
Floors that do not parse are an error, because to forget them silently would let them go back.

Order of a write: entry, then floors. A crash between leaves a new entry above its floor; so each entry carries its
floor, and a cache takes those of all entries before it first believes or writes anything. Without a directory all of
this is in memory only.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, TypeAlias

from strongroom.collateral import files
from strongroom.collateral.checks import Facts, Floor
from strongroom.collateral.items import Item, Part
from strongroom.errors import CollateralStale, MalformedRecord, Refused, StoreUnavailable, Unreadable
from strongroom.records import codec
from strongroom.records.digest import Digest, digest_record

Check: TypeAlias = Callable[[Item, Part, int], Facts]
"""Judges a part at a time; raises a `Refused` or `Unreadable` error unless it holds."""

ENTRIES, FLOORS = "entries", "floors.json"
MAX_IN_MEMORY = 1024
FETCH_LOCKS = 256
_FLOORS_REMEDY = "Restore floors.json. To begin anew, remove the directory; older collateral may then be taken again."


@dataclass(frozen=True, slots=True)
class Entry:
    """A part as it lies in the cache: which item it answers, when it came, until when it holds, and its floor."""

    TYPE: ClassVar[str] = "strongroom/collateral-entry/v1"
    item: str
    fetched: int
    ends: int
    floor: Floor | None
    part: Part

    @property
    def digest(self) -> Digest:
        return digest_record(self.part)


@dataclass(frozen=True, slots=True)
class Floors:
    """All floors of a cache."""

    TYPE: ClassVar[str] = "strongroom/collateral-floors/v1"
    floors: tuple[Floor, ...]


@dataclass(frozen=True, slots=True)
class Kept:
    """A part that holds, with what is known of it. `fetched` is when it came (Unix seconds)."""

    item: str
    part: Part
    facts: Facts
    fetched: int

    @property
    def digest(self) -> Digest:
        return digest_record(self.part)


class Cache:
    """May be shared by threads; a directory may be shared by processes. Methods raise `StoreUnavailable`.

    All that is kept was judged by `check`, so one cache is for one set of trust anchors; others may use its directory.
    """

    def __init__(self, directory: Path | None, check: Check) -> None:
        self._directory, self._check = directory, check
        self._memory: OrderedDict[str, Kept] = OrderedDict()
        self._floors: dict[str, Floor] = {}
        self._repaired = False
        self._lock = threading.RLock()

    def get(self, item: Item, now: int, *, anew: bool = False) -> Kept | None:
        """The part for `item` if one is kept that holds at `now`; never one past its end, or below a floor known here.

        With `anew` the disk is asked before the memory: another process may have renewed the part.
        """
        with self._lock:
            known = self._memory.get(item.name)
            if known is not None and (not _holds(known, now) or _is_below(known.facts.floor, self._floors)):
                known = None
            kept = self._load(item, now) or known if anew or known is None else known
            if kept is not None:
                self._remember(kept)
            return kept

    def put(self, item: Item, part: Part, now: int) -> Kept:
        """Keep `part`, once it holds at `now`; durable when this returns.

        Raises what the check raises, and `CollateralStale` for one that is older than what was seen before.
        """
        facts = self._check(item, part, now)
        kept = Kept(item.name, part, facts, now)
        with self._lock, self._writing():
            known = self._known_floors(item)
            if facts.floor is not None and _is_below(facts.floor, known):
                seen = known[facts.floor.series]
                raise CollateralStale(
                    f"{item.name}: number {facts.floor.number}, issued {facts.floor.issued}, is older than number "
                    f"{seen.number}, issued {seen.issued}, which was seen before",
                    detail=facts.floor.series,
                )
            if self._directory is not None:
                entry = Entry(item.name, now, facts.ends, facts.floor, part)
                files.replace(self._path(item.name), codec.encode(entry))
            if facts.floor is not None and known.get(facts.floor.series) != facts.floor:
                known[facts.floor.series] = facts.floor
                self._save_floors(known)
            self._remember(kept)
        return kept

    def entries(self) -> tuple[Entry, ...]:
        """What lies on disk, by name; judged by nobody."""
        found = (self._decode(files.read(path)) for path in self._entry_paths())
        return tuple(sorted((entry for entry in found if entry is not None), key=lambda entry: entry.item))

    def floors(self) -> tuple[Floor, ...]:
        """All floors, by series."""
        with self._lock:
            known = self._known_floors()
            return tuple(known[series] for series in sorted(known))

    def prune(self, now: int, *, everything: bool = False) -> int:
        """Remove entries that ended before `now` or do not parse, or `everything`; how many. Floors stay."""
        if self._directory is not None and not self._directory.exists():
            return 0
        with self._lock, self._writing():
            known = self._known_floors()
            found = self._raise_by_entries(known)
            self._save_floors(known)
            ended = {path for path, entry in found.items() if everything or entry is None or entry.ends < now}
            for path in (*ended, *self._partials()):
                path.unlink(missing_ok=True)
            kept = self._memory.items()
            self._memory = OrderedDict((n, k) for n, k in kept if not everything and now <= k.facts.ends)
            return len(ended)

    @contextmanager
    def fetching(self, item: Item) -> Iterator[None]:
        """Within this, no other process that shares the directory is within it for the same item."""
        with ExitStack() as stack:
            if self._directory is not None:
                number = hashlib.sha256(item.name.encode()).digest()[0] % FETCH_LOCKS
                with files.store_errors("the collateral cache cannot be locked"):
                    self._make(self._directory)
                    stack.enter_context(files.locked(self._directory / f"fetch-{number}"))
            yield

    def _load(self, item: Item, now: int) -> Kept | None:
        """The entry on disk, judged anew."""
        if self._directory is None:
            return None
        entry = self._decode(files.read(self._path(item.name)))
        if entry is None or entry.item != item.name:
            return None
        known = self._known_floors()
        try:
            facts = self._check(item, entry.part, now)
        except (Refused, Unreadable):
            return None
        if _is_below(facts.floor, known):
            return None
        _raise_floor(known, facts.floor)
        self._floors = known
        return Kept(item.name, entry.part, facts, entry.fetched)

    def _remember(self, kept: Kept) -> None:
        self._memory[kept.item] = kept
        self._memory.move_to_end(kept.item)
        while len(self._memory) > MAX_IN_MEMORY:
            self._memory.popitem(last=False)

    def _known_floors(self, item: Item | None = None) -> dict[str, Floor]:
        """The floors in memory, those on disk, and that of the entry of `item` on disk, each the highest."""
        known = dict(self._floors)
        if self._directory is None:
            return known
        data = files.read(self._directory / FLOORS)
        try:
            stored = codec.decode(Floors, data).floors if data is not None else ()
        except MalformedRecord:
            raise StoreUnavailable("the floors of the collateral cache do not parse", remedy=_FLOORS_REMEDY) from None
        for floor in stored:
            _raise_floor(known, floor)
        if not self._repaired:
            self._raise_by_entries(known)
            self._repaired = True
        entry = self._decode(files.read(self._path(item.name))) if item is not None else None
        _raise_floor(known, entry.floor if entry is not None else None)
        self._floors = dict(known)
        return known

    def _raise_by_entries(self, known: dict[str, Floor]) -> dict[Path, Entry | None]:
        """All entries on disk, once `known` is at least at the floor of each."""
        found = {path: self._decode(files.read(path)) for path in self._entry_paths()}
        for entry in found.values():
            _raise_floor(known, entry.floor if entry is not None else None)
        return found

    def _save_floors(self, known: Mapping[str, Floor]) -> None:
        self._floors = dict(known)
        if self._directory is not None:
            floors = Floors(tuple(known[series] for series in sorted(known)))
            files.replace(self._directory / FLOORS, codec.encode(floors))

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """The lock of the directory, which is made if need be."""
        if self._directory is None:
            yield
            return
        with files.store_errors("the collateral cache cannot be written"):
            self._make(self._directory)
            with files.locked(self._directory / "lock"):
                yield

    @staticmethod
    def _make(directory: Path) -> None:
        (directory / ENTRIES).mkdir(mode=0o700, parents=True, exist_ok=True)

    def _path(self, name: str) -> Path:
        directory = self._directory or Path()
        return directory / ENTRIES / f"{hashlib.sha256(name.encode()).hexdigest()}.json"

    def _entry_paths(self) -> tuple[Path, ...]:
        return tuple((self._directory / ENTRIES).glob("*.json")) if self._directory is not None else ()

    def _partials(self) -> tuple[Path, ...]:
        return tuple(self._directory.rglob(f"{files.PARTIAL}*")) if self._directory is not None else ()

    @staticmethod
    def _decode(data: bytes | None) -> Entry | None:
        try:
            return codec.decode(Entry, data) if data is not None else None
        except MalformedRecord:
            return None


def _holds(kept: Kept, now: int) -> bool:
    return kept.facts.starts <= now <= kept.facts.ends


def _is_below(floor: Floor | None, known: Mapping[str, Floor]) -> bool:
    seen = known.get(floor.series) if floor is not None else None
    return floor is not None and seen is not None and floor.position < seen.position


def _raise_floor(known: dict[str, Floor], floor: Floor | None) -> None:
    if floor is not None and not _is_below(floor, known):
        known[floor.series] = floor
