"""What may be recorded, how coarsely, and when it is seen."""

import logging
from collections.abc import Callable

import pytest
from google.protobuf import json_format
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from prometheus_client.parser import text_string_to_metric_families

from strongroom.errors import UsageError
from strongroom.observe import otlp, prometheus
from strongroom.observe.doubts import DOUBTS, Doubts
from strongroom.observe.log import log
from strongroom.observe.registry import Registry
from strongroom.observe.spans import MOST, Spans
from strongroom.observe.table import EVENTS, FIELDS, LABELS, METRICS, OTHER, TOKEN_GRAIN

CANARY = "canary-4711"
REQUEST = {"endpoint": "messages", "status": "200", "outcome": "complete", "model": "m"}


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def registry(**options) -> Registry:
    return Registry(**({"models": ["m"], "seconds": 0, "doubts": Doubts(strict=True)} | options))


WRONG: list[Callable[[Registry], None]] = [
    lambda made: made.count(CANARY),
    lambda made: made.count("strongroom_requests_total", **(REQUEST | {"endpoint": CANARY})),
    lambda made: made.count("strongroom_requests_total", **(REQUEST | {"model": CANARY})),
    lambda made: made.count("strongroom_requests_total", **(REQUEST | {"tenant": CANARY})),
    lambda made: made.count("strongroom_requests_total"),
    lambda made: made.level("strongroom_slots", float("nan")),
    lambda made: made.level("strongroom_slots", CANARY),  # type: ignore[arg-type]
    lambda made: made.level("strongroom_requests_total", 1, **REQUEST),
    lambda made: made.measure("strongroom_duration_seconds", float("inf"), endpoint="messages"),
    lambda made: made.measure("strongroom_in_flight", 1),
]


@pytest.mark.parametrize("wrong", WRONG)
def test_what_is_not_in_the_table_is_an_error_in_tests_and_dropped_and_counted_elsewhere(wrong):
    with pytest.raises(UsageError) as refused:
        wrong(registry())
    assert CANARY not in str(refused.value)
    doubts = Doubts()
    made = registry(doubts=doubts)
    wrong(made)
    assert doubts.counts()["metric"] == 1
    page = prometheus.text(made.published())
    assert 'strongroom_dropped_total{what="metric"} 1\n' in page
    assert CANARY not in page


def test_every_label_of_every_metric_has_a_closed_set():
    for metric in METRICS.values():
        for label in metric.labels:
            assert LABELS[label] is None or OTHER in LABELS[label] or len(LABELS[label]) < 20
        assert (metric.kind == "histogram") == bool(metric.edges)
    assert not {"tenant", "user", "address", "key"} & LABELS.keys()


def filled() -> Registry:
    made = registry(models=['a "quoted"\\name\n'])
    made.count("strongroom_requests_total", **(REQUEST | {"model": 'a "quoted"\\name\n'}))
    made.count("strongroom_tokens_total", 33, side="prompt", model=OTHER)
    made.level("strongroom_slots", 4)
    for value in (0.05, 0.1, 7.0, 1e6):
        made.measure("strongroom_duration_seconds", value, endpoint="messages")
    return made


def test_prometheus_own_parser_reads_the_page():
    families = {one.name: one for one in text_string_to_metric_families(prometheus.text(filled().published()))}
    [request] = families["strongroom_requests"].samples
    assert request.value == 1
    assert request.labels["model"] == 'a "quoted"\\name\n'
    assert families["strongroom_tokens"].samples[0].value == 2 * TOKEN_GRAIN
    assert families["strongroom_slots"].type == "gauge"
    found = families["strongroom_duration_seconds"]
    assert found.type == "histogram"
    buckets = {s.labels["le"]: s.value for s in found.samples if s.name.endswith("_bucket")}
    assert (buckets["0.1"], buckets["5"], buckets["10"], buckets["+Inf"]) == (2, 2, 3, 4)
    assert next(s.value for s in found.samples if s.name.endswith("_count")) == 4


def test_a_sum_tells_no_more_than_the_buckets():
    made = registry()
    made.measure("strongroom_first_output_seconds", 0.1234567, endpoint="messages")
    [found] = [one for one in made.published() if one.buckets]
    assert found.value == 0.25


@given(st.integers(0, 100_000), st.integers(0, 100_000))
def test_counts_of_tokens_are_rounded_for_each_request(first, second):
    made = registry()
    for tokens in (first, second):
        made.count("strongroom_tokens_total", tokens, side="completion", model="m")
    [found] = [one.value for one in made.published() if one.metric.unit == "tokens"]
    assert found % TOKEN_GRAIN == 0
    assert 0 <= found - first - second < 2 * TOKEN_GRAIN


def test_numbers_are_seen_as_they_were_at_a_tick_that_no_reader_moves():
    clock = Clock()
    made = registry(seconds=15.0, clock=clock)

    def seen() -> float:
        return sum(one.value for one in made.published() if one.metric.name == "strongroom_in_flight")

    made.count("strongroom_in_flight")
    clock.now += 14.9
    assert seen() == 0
    made.count("strongroom_in_flight")
    clock.now += 0.2
    made.count("strongroom_in_flight")  # after the tick
    assert seen() == 2
    clock.now += 14.5
    assert seen() == 2
    clock.now += 100
    assert seen() == 3


def add(spans: Spans, **changed) -> None:
    spans.add(
        **(
            {
                "labels": ("messages", "200", "complete", "m"),
                "prompt_tokens": 5,
                "completion_tokens": 70,
                "began": 1_800_000_000.987,
                "seconds": 0.3,
            }
            | changed
        )
    )


def test_a_span_is_coarse_and_closed():
    spans = Spans(models=["m"], doubts=Doubts(strict=True))
    add(spans)
    with pytest.raises(UsageError):
        add(spans, labels=("messages", "200", "complete", CANARY))
    [span] = spans.take()
    assert (span.prompt_tokens, span.completion_tokens, span.began, span.seconds) == (32, 96, 1_800_000_000, 0.5)
    assert spans.take() == []


def test_spans_that_nobody_takes_are_bounded():
    doubts = Doubts()
    spans = Spans(models=["m"], doubts=doubts)
    for _ in range(MOST + 3):
        add(spans)
    assert len(spans.take()) == MOST
    assert doubts.counts()["span"] == 3


def test_opentelemetrys_own_schema_reads_what_is_exported():
    spans = Spans(models=["m"])
    add(spans)
    sent = json_format.ParseDict(otlp.metrics(filled().published(), began=1, now=2), ExportMetricsServiceRequest())
    by_name = {one.name: one for one in sent.resource_metrics[0].scope_metrics[0].metrics}
    assert by_name["strongroom_requests_total"].sum.is_monotonic
    assert by_name["strongroom_slots"].gauge.data_points[0].as_double == 4
    point = by_name["strongroom_duration_seconds"].histogram.data_points[0]
    assert point.count == sum(point.bucket_counts) == 4
    assert len(point.bucket_counts) == len(point.explicit_bounds) + 1
    traces = json_format.ParseDict(otlp.traces(spans.take()), ExportTraceServiceRequest())
    [span] = traces.resource_spans[0].scope_spans[0].spans
    assert span.name == "messages"
    assert span.end_time_unix_nano - span.start_time_unix_nano == 500_000_000
    assert {one.key for one in span.attributes} == set(otlp.SPAN_ATTRIBUTES)


# --- the log ---------------------------------------------------------------------------------------------------------

LINES = [
    ("defect", {"kind": f"{CANARY} "}),
    ("defect", {"text": CANARY}),
    (CANARY, {}),
    ("no", {"code": CANARY, "status": 200}),
    ("no", {"code": "usage", "status": 4711}),
    ("no", {"code": "usage", "status": True}),
]


@pytest.mark.parametrize(("event", "fields"), LINES)
def test_a_field_that_is_not_on_the_list_cannot_be_logged(event, fields, caplog, monkeypatch):
    with caplog.at_level(logging.DEBUG):
        with pytest.raises(UsageError) as refused:
            log(event, **fields)
        monkeypatch.setattr(DOUBTS, "strict", False)
        before = DOUBTS.counts()["log"]
        log(event, **fields)
    assert DOUBTS.counts()["log"] == before + 1
    assert caplog.text == ""
    assert CANARY not in str(refused.value)


def test_what_is_on_the_list_is_one_line(caplog):
    with caplog.at_level(logging.INFO):
        log("no", code="release.nonce_reused", status=403)
    assert [record.getMessage() for record in caplog.records] == ["no code=release.nonce_reused status=403"]


def test_every_field_of_every_event_is_described():
    for event in EVENTS.values():
        assert set(event.fields) <= FIELDS.keys()
        assert event.meaning
