"""Numbers and spans in OpenTelemetry's protocol (OTLP 1.x, JSON over HTTP), and the thread that sends them.

Knows: the protocol, one collector. Does not know: requests. Written here instead of taken from a package, since a package puts more
into what it sends than it is given: the process's arguments, host names, contexts that clients sent along.

Safety: a collector that is away or slow costs its spans, never an answer: one thread, one try each `seconds`, bounded spans. What
the collector answers is not read. Not covered: gRPC, protobuf, logs, retries.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Self

import httpx2

from strongroom.observe.log import log
from strongroom.observe.registry import SECONDS, Registry, Series
from strongroom.observe.spans import Span, Spans
from strongroom.observe.table import SPAN_ATTRIBUTES

METRICS_PATH, TRACES_PATH = "/v1/metrics", "/v1/traces"
_CUMULATIVE = 2
_SERVER = 2
_OK, _ERROR = 1, 2
_FAILED = 500
_NANO = 1_000_000_000


def metrics(series: Iterable[Series], *, began: int, now: int) -> dict[str, Any]:
    """An ExportMetricsServiceRequest; `began` and `now` in Unix seconds."""
    found: dict[str, dict[str, Any]] = {}
    for one in series:
        head = {"name": one.metric.name, "description": one.metric.help, "unit": _unit(one.metric.unit)}
        made = found.setdefault(one.metric.name, head | _shape(one.metric.kind))
        point: dict[str, Any] = {
            "attributes": [_attribute(name, value) for name, value in one.labels],
            "startTimeUnixNano": str(began * _NANO),
            "timeUnixNano": str(now * _NANO),
        }
        if one.metric.kind == "histogram":
            point |= {
                "count": str(sum(one.buckets)),
                "sum": one.value,
                "bucketCounts": [str(count) for count in one.buckets],
                "explicitBounds": list(one.metric.edges),
            }
        else:
            point["asDouble"] = one.value
        made[_SHAPES[one.metric.kind]]["dataPoints"].append(point)
    scope = {"scope": {"name": "strongroom"}, "metrics": list(found.values())}
    return {"resourceMetrics": [{"resource": _RESOURCE, "scopeMetrics": [scope]}]}


def traces(spans: Sequence[Span]) -> dict[str, Any]:
    """An ExportTraceServiceRequest."""
    scope = {"scope": {"name": "strongroom"}, "spans": [_span(span) for span in spans]}
    return {"resourceSpans": [{"resource": _RESOURCE, "scopeSpans": [scope]}]}


class Exporter:
    """Sends to the collector at `url` each `seconds`, within `with`; once more at the end."""

    def __init__(
        self,
        url: str,
        registry: Registry,
        spans: Spans,
        *,
        token: str = "",
        seconds: float = SECONDS,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`token` is a bearer token for the collector, if it wants one."""
        self._url, self._registry, self._spans, self._seconds, self._clock = url, registry, spans, seconds, clock
        headers = {"content-type": "application/json"} | ({"authorization": f"Bearer {token}"} if token else {})
        self._http = httpx2.Client(headers=headers, timeout=5.0, follow_redirects=False)
        self._began = int(clock())
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="strongroom-otlp", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(2 * self._seconds)

    def send(self) -> None:
        """One try. What the collector does not take is gone."""
        spans = self._spans.take()
        try:
            self._post(METRICS_PATH, metrics(self._registry.published(), began=self._began, now=int(self._clock())))
            if spans:
                self._post(TRACES_PATH, traces(spans))
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            log("export-failed", kind=type(error).__name__, count=len(spans))

    def _post(self, path: str, document: dict[str, Any]) -> None:
        with self._http.stream("POST", self._url + path, content=json.dumps(document)) as answer:
            answer.raise_for_status()

    def _run(self) -> None:
        while not self._stop.wait(self._seconds):
            self.send()
        self.send()
        self._http.close()


_RESOURCE = {"attributes": [{"key": "service.name", "value": {"stringValue": "strongroom"}}]}
_SHAPES = {"counter": "sum", "gauge": "gauge", "histogram": "histogram"}


def _shape(kind: str) -> dict[str, Any]:
    if kind == "counter":
        return {"sum": {"dataPoints": [], "aggregationTemporality": _CUMULATIVE, "isMonotonic": True}}
    if kind == "histogram":
        return {"histogram": {"dataPoints": [], "aggregationTemporality": _CUMULATIVE}}
    return {"gauge": {"dataPoints": []}}


def _unit(unit: str) -> str:
    return {"seconds": "s", "tokens": "{token}"}.get(unit, "1")


def _attribute(name: str, value: str | int) -> dict[str, Any]:
    return {"key": name, "value": {"intValue": str(value)} if isinstance(value, int) else {"stringValue": value}}


def _span(span: Span) -> dict[str, Any]:
    status = int(span.status) if span.status.isdecimal() else 0
    told: tuple[str | int, ...] = (
        span.endpoint,
        span.outcome,
        span.model,
        status,
        span.prompt_tokens,
        span.completion_tokens,
    )
    attributes: dict[str, str | int] = dict(zip(SPAN_ATTRIBUTES, told, strict=True))
    failed = span.outcome in {"cut", "failed"} or status >= _FAILED
    return {
        "traceId": span.trace,
        "spanId": span.identity,
        "name": span.endpoint,
        "kind": _SERVER,
        "startTimeUnixNano": str(span.began * _NANO),
        "endTimeUnixNano": str(span.began * _NANO + int(span.seconds * _NANO)),
        "attributes": [_attribute(name, value) for name, value in attributes.items()],
        "status": {"code": _ERROR if failed else _OK},
    }
