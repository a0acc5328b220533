"""The numbers of one worker: recorded only as the table allows, published only on a grid of time.

Knows: counters, gauges, histograms, and the moment at which they are shown. Does not know: formats (`prometheus`, `otlp`), requests.

Safety: whoever reads the numbers as they are could read them before and after one request. So readers see them as they were at the last
tick of a clock that no reader moves: `seconds` apart, or always the newest with 0, which is for tests.
"""

from __future__ import annotations

import bisect
import math
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from strongroom.observe.doubts import DOUBTS, Doubts
from strongroom.observe.table import LABELS, METRICS, OTHER, Metric

SECONDS = 15.0


@dataclass(frozen=True, slots=True)
class Series:
    """One line of numbers: `value`, or for a histogram the sum; `buckets` counts by edge and beyond."""

    metric: Metric
    labels: tuple[tuple[str, str], ...]
    value: float
    buckets: tuple[int, ...] = ()


@dataclass(slots=True)
class _Cell:
    value: float = 0.0
    buckets: list[int] = field(default_factory=list)


class Registry:
    """All numbers of a worker. Threads may share it."""

    def __init__(
        self,
        *,
        models: Iterable[str] = (),
        seconds: float = SECONDS,
        clock: Callable[[], float] = time.monotonic,
        doubts: Doubts = DOUBTS,
    ) -> None:
        """`models` are the values of that label; `seconds` the time between the moments that are shown."""
        self.models = frozenset(models) | {OTHER}
        self._seconds, self._clock, self._doubts = seconds, clock, doubts
        self._lock = threading.Lock()
        self._cells: dict[tuple[str, tuple[str, ...]], _Cell] = {}
        self._published: tuple[Series, ...] = ()
        self._tick = clock() + seconds

    def count(self, name: str, amount: float = 1, **labels: str) -> None:
        """Add to a counter, or move a gauge by `amount`."""
        metric = self._known(name, ("counter", "gauge"), amount, labels)
        if metric is None or (metric.kind == "counter" and amount < 0):
            return
        with self._lock:
            self._cell(metric, labels).value += math.ceil(amount / metric.grain) * metric.grain

    def level(self, name: str, value: float, **labels: str) -> None:
        """Set a gauge."""
        metric = self._known(name, ("gauge",), value, labels)
        if metric is not None:
            with self._lock:
                self._cell(metric, labels).value = value

    def measure(self, name: str, value: float, **labels: str) -> None:
        """Enter a value into a histogram, rounded up to the edge of its bucket."""
        metric = self._known(name, ("histogram",), value, labels)
        if metric is None:
            return
        with self._lock:
            cell = self._cell(metric, labels)
            cell.buckets = cell.buckets or [0] * (len(metric.edges) + 1)
            cell.buckets[bisect.bisect_left(metric.edges, value)] += 1
            cell.value += coarse(metric, value)

    def published(self) -> tuple[Series, ...]:
        """The numbers as they were at the last tick, in the order of the table."""
        with self._lock:
            self._turn()
            return self._published

    def _known(self, name: str, kinds: tuple[str, ...], value: float, labels: dict[str, str]) -> Metric | None:
        metric = METRICS.get(name)
        good = (
            metric is not None
            and metric.kind in kinds
            and _finite(value)
            and labels.keys() == set(metric.labels)
            and all(text in (LABELS[label] or self.models) for label, text in labels.items())
        )
        if not good:
            self._doubts.note("metric", "a metric, or a label of one,")
            return None
        return metric

    def _cell(self, metric: Metric, labels: dict[str, str]) -> _Cell:
        self._turn()
        return self._cells.setdefault((metric.name, tuple(labels[name] for name in metric.labels)), _Cell())

    def _turn(self) -> None:
        """Before anything is changed or read after a tick: what there was at the tick is what is shown until the next."""
        now = self._clock()
        if now < self._tick:
            return
        if self._seconds:
            self._tick += (math.floor((now - self._tick) / self._seconds) + 1) * self._seconds
        self._published = (*self._frozen(), *self._dropped())

    def _frozen(self) -> list[Series]:
        order = list(METRICS)
        return [
            Series(
                METRICS[name],
                tuple(zip(METRICS[name].labels, labels, strict=True)),
                cell.value,
                tuple(cell.buckets),
            )
            for (name, labels), cell in sorted(self._cells.items(), key=lambda item: (order.index(item[0][0]), item[0]))
        ]

    def _dropped(self) -> list[Series]:
        metric = METRICS["strongroom_dropped_total"]
        return [Series(metric, (("what", what),), count) for what, count in self._doubts.counts().items()]


def _finite(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def coarse(metric: Metric, value: float) -> float:
    """`value` rounded up to an edge of a histogram; beyond the last, that."""
    return metric.edges[min(bisect.bisect_left(metric.edges, value), len(metric.edges) - 1)]
