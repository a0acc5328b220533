"""Spans: what one request was, coarsely; a few at a time, for whoever collects them.

Knows: the attributes of the table, and that no context of a client's goes into them: each trace is one span with random ids. Does not
know: formats (`otlp`). Spans beyond `MOST` are dropped and counted: an exporter that is slow must not cost memory.
"""

from __future__ import annotations

import math
import secrets
import threading
from collections.abc import Iterable
from dataclasses import dataclass

from strongroom.observe.doubts import DOUBTS, Doubts
from strongroom.observe.registry import coarse
from strongroom.observe.table import LABELS, METRICS, OTHER, TOKEN_GRAIN

MOST = 2048
_DURATION = METRICS["strongroom_duration_seconds"]


@dataclass(frozen=True, slots=True)
class Span:
    """One request. `began` is a whole second (Unix), `seconds` an edge of a bucket; tokens are rounded."""

    trace: str
    identity: str
    endpoint: str
    status: str
    outcome: str
    model: str
    prompt_tokens: int
    completion_tokens: int
    began: int
    seconds: float


class Spans:
    """Spans that nobody has taken yet. Threads may share it."""

    def __init__(self, *, models: Iterable[str] = (), doubts: Doubts = DOUBTS) -> None:
        self._models, self._doubts = frozenset(models) | {OTHER}, doubts
        self._lock, self._kept = threading.Lock(), list[Span]()

    def add(
        self,
        *,
        labels: tuple[str, str, str, str],
        prompt_tokens: int,
        completion_tokens: int,
        began: float,
        seconds: float,
    ) -> None:
        """One request: `labels` are endpoint, status, outcome and model, the rest as it was measured."""
        names = ("endpoint", "status", "outcome", "model")
        if not all(value in (LABELS[name] or self._models) for name, value in zip(names, labels, strict=True)):
            self._doubts.note("span", "an attribute of a span")
            return
        span = Span(
            secrets.token_hex(16),
            secrets.token_hex(8),
            *labels,
            _rounded(prompt_tokens),
            _rounded(completion_tokens),
            math.floor(began),
            coarse(_DURATION, seconds),
        )
        with self._lock:
            if len(self._kept) < MOST:
                self._kept.append(span)
                return
        self._doubts.note("span", "one more span")

    def take(self) -> list[Span]:
        """All that there are; they are forgotten here."""
        with self._lock:
            taken, self._kept = self._kept, []
        return taken


def _rounded(tokens: int) -> int:
    return math.ceil(tokens / TOKEN_GRAIN) * TOKEN_GRAIN
