"""The table of all that may be observed: metrics with their labels, lines of the log with their fields, attributes of spans.

Knows: names, kinds, units, and for each label and field the closed set or the form of its values. Does not know: who records, who
reads. Nothing here names a tenant, an address, a key or anything that a client wrote: what you would not hand to a stranger is not in
the table, and what is not in the table cannot be recorded.

Safety: padding and pacing hide lengths and times on the wire, so numbers are coarse. Token counts are rounded up for each request
(`grain`), durations to the edges of their buckets, and a stream has one entry for its gaps, not one for each token.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

Kind = Literal["counter", "gauge", "histogram"]

OTHER = "other"
"""The value for whatever is in none of the sets."""
TOKEN_GRAIN = 32
_WAITING = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
_GAPS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)

ENDPOINTS = (
    *("chat.completions", "completions", "embeddings", "responses", "responses.input_tokens", "messages"),
    *("messages.count_tokens", "tokenize", "models", "receipts", "health", "evidence", OTHER),
)
STATUSES = (
    *("200", "400", "401", "402", "403", "404", "405", "409", "413", "422", "429"),
    *("500", "501", "502", "503", "504", OTHER),
)
OUTCOMES = ("complete", "cut", "failed", "none")
STATES = ("started", "prepared", "proved", "opened", "ready", "draining", "wiped")

LABELS: Mapping[str, frozenset[str] | None] = {
    "endpoint": frozenset(ENDPOINTS),
    "status": frozenset(STATUSES),
    "outcome": frozenset(OUTCOMES),
    "model": None,
    "wire": frozenset(("v1", "v2", "ohttp", "clear")),
    "side": frozenset(("prompt", "completion")),
    "state": frozenset(STATES),
    "what": frozenset(("log", "metric", "span")),
}
"""Label -> its values. None: the names of models that the worker was started with, and `other`."""


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric. `edges` are a histogram's upper bounds; a value is rounded up to a multiple of `grain`."""

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()
    unit: str = ""
    edges: tuple[float, ...] = ()
    grain: int = 1


METRICS: Mapping[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric(
            "strongroom_requests_total",
            "counter",
            "Requests answered inside the seal, and how their answers ended; none: without a receipt",
            ("endpoint", "status", "outcome", "model"),
        ),
        Metric(
            "strongroom_answers_total", "counter", "Answers by the wire that carried the request", ("wire", "status")
        ),
        Metric(
            "strongroom_tokens_total",
            "counter",
            "Tokens, rounded up for each request",
            ("side", "model"),
            unit="tokens",
            grain=TOKEN_GRAIN,
        ),
        Metric(
            "strongroom_first_output_seconds",
            "histogram",
            "From a request to the first event of a streamed answer",
            ("endpoint",),
            unit="seconds",
            edges=_WAITING,
        ),
        Metric(
            "strongroom_output_gap_seconds",
            "histogram",
            "Mean time between the events of a stream, once for each stream",
            ("endpoint",),
            unit="seconds",
            edges=_GAPS,
        ),
        Metric(
            "strongroom_duration_seconds",
            "histogram",
            "From a request to the end of its answer",
            ("endpoint",),
            unit="seconds",
            edges=_WAITING,
        ),
        Metric("strongroom_in_flight", "gauge", "Requests to the model under way, waiting ones among them"),
        Metric("strongroom_slots", "gauge", "Requests that the engine answers side by side"),
        Metric("strongroom_state", "gauge", "1 for the state that the worker's life is in", ("state",)),
        Metric("strongroom_dropped_total", "counter", "Values that were not on the list, and went nowhere", ("what",)),
    )
}

SPAN_ATTRIBUTES: Mapping[str, str] = {
    "strongroom.endpoint": "label endpoint",
    "strongroom.outcome": "label outcome",
    "strongroom.model": "label model",
    "http.response.status_code": "label status",
    "strongroom.prompt_tokens": f"rounded up to a multiple of {TOKEN_GRAIN}",
    "strongroom.completion_tokens": f"rounded up to a multiple of {TOKEN_GRAIN}",
}
"""Attribute of a span -> what its value is. A span begins at a whole second and lasts to an edge of its bucket."""


def _form(pattern: str) -> Callable[[object], bool]:
    compiled = re.compile(pattern)
    return lambda value: isinstance(value, str) and compiled.fullmatch(value) is not None


def _whole(least: int, most: int) -> Callable[[object], bool]:
    return lambda value: type(value) is int and least <= value <= most


FIELDS: Mapping[str, tuple[Callable[[object], bool], str]] = {
    "code": (_form(r"[a-z][a-z_]{0,30}(\.[a-z][a-z_]{0,30})?"), "the code of an error of ours"),
    "kind": (_form(r"[A-Za-z_][A-Za-z0-9_]{0,60}"), "the type of an exception, never its text"),
    "status": (_whole(100, 599), "an HTTP status"),
    "wire": (_form("v1|v2|ohttp|clear"), "as the label of that name"),
    "count": (_whole(0, 1 << 53), "how many"),
}
"""Field of a line -> whether a value may stand in it, and what it is."""


@dataclass(frozen=True, slots=True)
class Event:
    """One kind of line: its level and its fields."""

    level: int
    fields: tuple[str, ...]
    meaning: str


EVENTS: Mapping[str, Event] = {
    "no": Event(logging.INFO, ("code", "status"), "a service refused a request"),
    "defect": Event(logging.ERROR, ("kind",), "a service failed, and answered 500"),
    "application-failed": Event(logging.ERROR, ("wire", "kind"), "what stands behind the sealed channel failed"),
    "export-failed": Event(logging.WARNING, ("kind", "count"), "a collector did not take this many spans"),
}
