"""Collateral for evidence: from the cache while it holds, else from whoever has it, and judged before anyone sees it.

Knows: which of the two to ask, and when to ask again. Does not know: vendors (`fetchers`), what makes a part hold
(`checks`). Time is an argument.

What is kept is served until `max_age` after it came; then it is asked for again. Where that fails, for whatever reason,
what is kept is served as long as it holds (never past the vendor's next update), `report` is told, and for `RETRY_AFTER`
nobody is asked; where nothing is kept, the failure is the caller's. An answer that is refused never takes the place of
what is kept. However many ask for one item at once, it is fetched once, also across processes that share the cache's
directory. With `offline`, or without a fetcher that serves an item, nothing is asked for.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, fields, replace
from typing import Protocol

from strongroom.collateral.cache import Cache, Kept
from strongroom.collateral.checks import EvaluationNumber, evaluation_numbers
from strongroom.collateral.items import EvaluationNumbers, IntelKind, Item, Part
from strongroom.collateral.needs import Needs
from strongroom.errors import ServiceUnavailable, StrongroomError, Unavailable, UsageError
from strongroom.records.evidence import Collateral

MAX_AGE = 86_400
RETRY_AFTER = 300


class Fetcher(Protocol):
    """One vendor's service."""

    def serves(self, item: Item) -> bool:
        """Whether this item is to be had here."""
        ...

    def fetch(self, item: Item) -> Part:
        """What the service answers, in form but not yet judged. Raises `ServiceUnavailable` or `MalformedEvidence`."""
        ...


@dataclass(frozen=True, slots=True)
class Gathered:
    """Collateral, and the parts it was made of."""

    collateral: Collateral
    parts: tuple[Kept, ...]

    @property
    def until(self) -> int:
        """When the first of the parts ends (Unix seconds)."""
        return min(kept.facts.ends for kept in self.parts)


def _say_nothing(_: Item, __: StrongroomError) -> None:
    """The report of who wants none."""


class CollateralSource:
    """Where verifiers and workers get collateral. May be shared by threads.

    `max_age` in seconds. `report` is told of each item that could not be renewed while what is kept still held.
    """

    def __init__(
        self,
        cache: Cache,
        fetchers: Sequence[Fetcher],
        *,
        offline: bool = False,
        max_age: int = MAX_AGE,
        report: Callable[[Item, StrongroomError], None] = _say_nothing,
    ) -> None:
        self._cache, self._fetchers = cache, () if offline else tuple(fetchers)
        self._max_age, self._report = max_age, report
        self._failed: dict[str, int] = {}
        self._flights: dict[str, Future[Kept]] = {}
        self._lock = threading.Lock()

    def collateral(self, *needs: Needs, now: int, renew: bool = False) -> Collateral:
        """All that `needs` ask for, in one record. Raises as `gather` does."""
        return self.gather(*needs, now=now, renew=renew).collateral

    def gather(self, *needs: Needs, now: int, renew: bool = False) -> Gathered:
        """The record that `needs` ask for, and its parts. With `renew` all are asked for anew, and no failure is hidden.

        Raises `ServiceUnavailable`, `Unavailable` for what is not kept and may not be asked for, `MalformedEvidence`,
        `SignatureInvalid`, `CollateralStale`, `StoreUnavailable`, or `UsageError` for two needs of one vendor.
        """
        if not needs:
            raise UsageError("nothing says which collateral is needed")
        kept = {item.name: self.part(item, now=now, renew=renew) for wanted in needs for item in wanted.items}
        found: dict[str, object] = {}
        for wanted in needs:
            assembled = wanted.assemble(lambda item: kept[item.name].part)
            members = {field.name: getattr(assembled, field.name) for field in fields(assembled)}
            given = {name: member for name, member in members.items() if member is not None}
            if given.keys() & found.keys():
                raise UsageError("two pieces of evidence need collateral of one vendor", remedy="Ask for each alone.")
            found |= given
        return Gathered(Collateral(**found), tuple(kept.values()))  # type: ignore[arg-type]

    def supplier(self, *needs: Needs, clock: Callable[[], float]) -> Callable[[], Collateral]:
        """For who takes a function without arguments, as a worker does: collateral as of `clock` at each call."""
        return lambda: self.collateral(*needs, now=int(clock()))

    def evaluation_numbers(self, kind: IntelKind, *, now: int) -> tuple[EvaluationNumber, ...]:
        """Intel's supported TCB evaluation numbers, the newest first. Raises as `collateral` does."""
        return evaluation_numbers(self.part(EvaluationNumbers(kind), now=now).part)

    def part(self, item: Item, *, now: int, renew: bool = False) -> Kept:
        """One part that holds at `now`. Raises as `collateral` does."""
        kept = self._cache.get(item, now)
        if kept is not None and not renew and not self._is_due(item, kept, now):
            return kept
        try:
            found = self._fetch_once(item, now, renew=renew)
        except StrongroomError as error:
            if kept is None or renew:
                raise
            self._failed[item.name] = now
            self._report(item, error)
            return kept
        self._failed.pop(item.name, None)
        return found

    def _is_due(self, item: Item, kept: Kept, now: int) -> bool:
        """Whether to ask for `item` though it is kept: there is somebody to ask, it is not fresh, and no failure is."""
        failed = 0 <= now - self._failed.get(item.name, -RETRY_AFTER) < RETRY_AFTER
        return not self._is_fresh(item, kept, now) and not failed and self._fetcher(item) is not None

    def _fetcher(self, item: Item) -> Fetcher | None:
        return next((found for found in self._fetchers if found.serves(item)), None)

    def _is_fresh(self, item: Item, kept: Kept, now: int) -> bool:
        return item.lasting or 0 <= now - kept.fetched < self._max_age

    def _fetch_once(self, item: Item, now: int, *, renew: bool) -> Kept:
        """Fetch, or wait for who is fetching the same already."""
        with self._lock:
            flight = self._flights.get(item.name)
            mine = flight is None
            flight = self._flights.setdefault(item.name, Future())
        if not mine:
            return flight.result()
        try:
            kept = self._fetch(item, now, renew=renew)
        except BaseException as error:
            whole = isinstance(error, StrongroomError)
            flight.set_exception(error if whole else ServiceUnavailable(f"fetching {item.name} was given up"))
            raise
        else:
            flight.set_result(kept)
            return kept
        finally:
            with self._lock:
                del self._flights[item.name]

    def _fetch(self, item: Item, now: int, *, renew: bool) -> Kept:
        fetcher = self._fetcher(item)
        if fetcher is None:
            raise Unavailable(
                f"{item.name} is not in the cache, and nobody is asked for it",
                remedy="Fetch it where there is a network: strongroom collateral fetch.",
            )
        chain = self.part(item.issuer, now=now).part.chain if item.issuer is not None else None
        with self._cache.fetching(item):
            kept = self._cache.get(item, now, anew=True)  # another process may have fetched it meanwhile
            if kept is not None and not renew and self._is_fresh(item, kept, now):
                return kept
            part = fetcher.fetch(item)
            return self._cache.put(item, part if chain is None else replace(part, chain=chain), now)
