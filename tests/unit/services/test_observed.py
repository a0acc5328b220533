"""What may be seen of a living worker, by whom, and that nothing secret is among it: the canary hunt."""

import base64
import json
import logging
import os
import tempfile
import time
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
import world as worlds
from google.protobuf import json_format
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from prometheus_client.parser import text_string_to_metric_families
from world import EchoEngine, World, world

from strongroom.channel.client import SealedTransport
from strongroom.channel.relayed import Relay, RelayedTransport
from strongroom.demo.canaries import Canary, hunt
from strongroom.errors import EngineUnavailable, StrongroomError, UsageError
from strongroom.observe.doubts import DOUBTS
from strongroom.observe.otlp import Exporter
from strongroom.services.observed import Observer, token_digest
from strongroom.services.server import BackgroundServer

TOKEN = b"0123456789abcdef0123456789abcdef"
BEARER = {"authorization": "Bearer " + TOKEN.decode()}
CHAT = "/v1/chat/completions"
ASK = {"messages": [{"role": "user", "content": "x"}]}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with world(tmp_path_factory.mktemp("world")) as found:
        yield found


@pytest.fixture
def observer() -> Observer:
    return Observer(model="echo", slots=1, token=token_digest(TOKEN), seconds=0)


@pytest.fixture
def served(made, observer):
    with made.serving(within=observer.inside, around=observer.outside) as found:
        assert found.error is None, found.error
        yield found


def numbers(url: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    page = httpx2.get(url + "/metrics", headers=BEARER)
    assert page.status_code == 200
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(page.text)
        for sample in family.samples
    }


def requests(found: dict[Any, float]) -> set[tuple[str, str, str]]:
    """Endpoint, status and outcome of what was counted."""
    labels = [dict(labels) for name, labels in found if name == "strongroom_requests_total"]
    return {(one["endpoint"], one["status"], one["outcome"]) for one in labels}


# --- who may see --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": "Bearer " + "x" * 32},
        {"authorization": TOKEN.decode()},
        {"authorization": "Basic " + TOKEN.decode()},
        {"authorization": str(token_digest(TOKEN))},
        [("authorization", "Bearer " + TOKEN.decode()), ("authorization", "Bearer x")],
    ],
)
def test_the_numbers_are_for_whoever_has_the_token(served, headers):
    answer = httpx2.get(served.url + "/metrics", headers=headers)
    assert (answer.status_code, answer.content) == (401, b"")


def test_the_page_is_got_and_nothing_else(served):
    assert httpx2.post(served.url + "/metrics", headers=BEARER).status_code == 405


def test_without_a_token_there_is_no_page(made):
    observer = Observer(model="echo", slots=1, seconds=0)
    with made.serving(within=observer.inside, around=observer.outside) as served:
        for headers in ({}, BEARER, {"authorization": "Bearer None"}):
            assert httpx2.get(served.url + "/metrics", headers=headers).status_code == 404


@pytest.mark.parametrize("token", [b"", b"short", b"x" * 31 + b"\n", "ä".encode() * 32])
def test_a_token_that_could_be_guessed_is_not_taken(token):
    with pytest.raises(UsageError):
        token_digest(token)


# --- what is seen --------------------------------------------------------------------------------------------------------


def test_answers_are_counted_timed_and_told_apart(made, served):
    client = made.client(served.url)
    assert client.ask("x")
    http = httpx2.Client(transport=client.transport(), base_url=served.url)
    assert http.post(CHAT, json=ASK).status_code == 200
    assert http.post(CHAT, content=b"nonsense").status_code == 400
    assert http.get("/v1/models").status_code == 200
    assert httpx2.get(served.url + "/nowhere/at/all").status_code == 404
    found = numbers(served.url)
    assert requests(found) >= {
        ("chat.completions", "200", "complete"),
        ("chat.completions", "400", "none"),
        ("models", "200", "none"),
        ("evidence", "200", "none"),
        ("other", "404", "none"),
    }
    assert found["strongroom_tokens_total", (("model", "echo"), ("side", "completion"))] == 64
    assert found["strongroom_first_output_seconds_count", (("endpoint", "chat.completions"),)] == 1
    assert found["strongroom_output_gap_seconds_count", (("endpoint", "chat.completions"),)] == 1
    assert found["strongroom_in_flight", ()] == 0
    assert found["strongroom_answers_total", (("status", "200"), ("wire", "v2"))] == 4
    assert found["strongroom_answers_total", (("status", "404"), ("wire", "clear"))] == 1


def test_an_answer_that_fails_and_one_that_is_cut_are_counted_as_such(made, served):
    served.engine.fail_after = 3
    with pytest.raises(EngineUnavailable):
        made.client(served.url).ask("x")
    served.engine.fail_after, served.engine.halt_after = None, 1
    client = made.client(served.url)
    http = httpx2.Client(transport=client.transport(), timeout=30)
    with http.stream("POST", served.url + CHAT, json={**ASK, "stream": True}) as answer:
        assert next(answer.iter_bytes())
    deadline = time.monotonic() + 20
    while ("chat.completions", "200", "cut") not in requests(numbers(served.url)):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert ("chat.completions", "200", "failed") in requests(numbers(served.url))


def test_version_1_and_a_relay_are_other_wires(made, served):
    client = made.client(served.url)
    keyset = client.verify().keyset
    first = SealedTransport(httpx2.HTTPTransport(), keyset.channel, on_exchange=lambda _: None)
    assert httpx2.Client(transport=first).post(served.url + CHAT, json=ASK).status_code == 200
    relayed = RelayedTransport(httpx2.HTTPTransport(), Relay(served.url, keyset.channel, lambda _: None))
    assert httpx2.Client(transport=relayed).post(served.url + CHAT, json=ASK).status_code == 200
    found = numbers(served.url)
    assert found["strongroom_answers_total", (("status", "200"), ("wire", "v1"))] == 1
    assert found["strongroom_answers_total", (("status", "200"), ("wire", "ohttp"))] == 1


def test_the_state_of_the_worker_is_one_of_its_states(observer):
    observer.state("ready")
    states = {
        dict(one.labels)["state"]: one.value
        for one in observer.registry.published()
        if one.metric.name == "strongroom_state"
    }
    assert {name for name, value in states.items() if value} == {"ready"}


# --- the hunt -------------------------------------------------------------------------------------------------------------


class Collector:
    """An OpenTelemetry collector that keeps all it is sent."""

    def __init__(self) -> None:
        self.bodies: list[tuple[str, bytes]] = []
        self.headers = b""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        self.bodies.append((scope["path"], body))
        self.headers += b"\n".join(name + b": " + value for name, value in scope["headers"])
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"{}"})


SECRETS = {
    place: f"canary-{place.replace(' ', '-')}-{base64.b32encode(os.urandom(10)).decode()}"
    for place in (
        "prompt",
        "system prompt",
        "tool arguments",
        "credential",
        "trace context",
        "model name",
        "path",
        "answer",
    )
}


def say_all(made: World, url: str) -> None:
    """Ask with a canary in everything that a client can fill in, over every wire, rightly and wrongly."""
    asked = {
        "model": SECRETS["model name"],
        "user": SECRETS["prompt"],
        "messages": [
            {"role": "system", "content": SECRETS["system prompt"]},
            {"role": "user", "content": SECRETS["prompt"]},
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [
                    {"id": "1", "type": "function", "function": {"name": "f", "arguments": SECRETS["tool arguments"]}}
                ],
            },
        ],
    }
    headers = {
        "authorization": f"Bearer {SECRETS['credential']}",
        "traceparent": "00-" + SECRETS["trace context"].encode().hex()[:32] + "-00f067aa0ba902b7-01",
        "tracestate": SECRETS["trace context"],
        "baggage": f"a={SECRETS['trace context']}",
    }
    client = made.client(url)
    keyset = client.verify().keyset
    transports: list[httpx2.BaseTransport] = [
        client.transport(),
        SealedTransport(httpx2.HTTPTransport(), keyset.channel, on_exchange=lambda _: None),
        RelayedTransport(httpx2.HTTPTransport(), Relay(url, keyset.channel, lambda _: None)),
    ]
    for transport in transports:
        http = httpx2.Client(transport=transport, timeout=30)
        for path in (CHAT, "/v1/completions", "/v1/messages", f"/v1/{SECRETS['path']}"):
            for body in (
                asked,
                {**asked, "stream": True},
                {**asked, SECRETS["prompt"]: 1},
                {"messages": SECRETS["prompt"]},
            ):
                try:
                    answer = http.post(url + path, json=body, headers=headers)
                    for name, value in answer.headers.items():
                        assert not any(secret in name + value for secret in SECRETS.values())
                except StrongroomError:
                    pass


def test_no_canary_is_seen_outside_the_worker(made, caplog, capfd, tmp_path, monkeypatch):
    monkeypatch.setattr(
        DOUBTS, "strict", False
    )  # as in production: what is not on the list is dropped, and must not be anywhere
    monkeypatch.setattr(worlds, "WORDS", ["The ", SECRETS["answer"], "."])
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    observer = Observer(model="echo", slots=2, token=token_digest(TOKEN), seconds=0)
    collector = Collector()
    engine = EchoEngine()
    with (
        caplog.at_level(logging.DEBUG),
        BackgroundServer(collector) as listening,
        made.serving(engine, within=observer.inside, around=observer.outside, slots=2) as served,
        Exporter(listening.url, observer.registry, observer.spans, token="collectors-own", seconds=0.2),
    ):
        say_all(made, served.url)
        engine.fail_after = 1
        say_all(made, served.url)
        page = httpx2.get(served.url + "/metrics", headers=BEARER).text
    ours = [record for record in caplog.records if record.threadName != "MainThread"]  # there the test plays the user
    logged = "\n".join(f"{record.name} {record.getMessage()} {record.exc_text}" for record in ours)
    assert "strongroom" in logged
    seen = tmp_path / "seen"
    seen.mkdir()
    out, err = capfd.readouterr()
    for name, text in {"log": logged, "page": page, "out": out, "err": err}.items():
        (seen / name).write_text(text)
    (seen / "collected").write_bytes(b"\n".join(body for _, body in collector.bodies))
    assert engine.requests
    assert any(SECRETS["prompt"] in json.dumps(request) for request in engine.requests)
    assert requests_on(page) > 20
    assert {path for path, _ in collector.bodies} == {"/v1/metrics", "/v1/traces"}
    canaries = [Canary(place, secret.encode()) for place, secret in SECRETS.items()]
    canaries += [Canary("weights", b"canary-weights"), Canary("token", TOKEN)]
    found, searched = hunt(canaries, [seen, temporary, made.folder / "broker", made.folder / "registry"])
    assert found == []
    assert searched > 10_000
    (seen / "control").write_text(json.dumps({place: secret + "\n" for place, secret in SECRETS.items()}))
    assert {one.canary for one in hunt(canaries, [seen])[0]} == SECRETS.keys()
    judge_exported(collector)


def requests_on(page: str) -> int:
    families = {one.name: one for one in text_string_to_metric_families(page)}
    return int(sum(sample.value for sample in families["strongroom_requests"].samples))


def judge_exported(collector: Collector) -> None:
    """OpenTelemetry's schema reads all of it, and no id is one that a client sent."""
    ids: set[str] = set()
    for path, body in collector.bodies:
        document = json.loads(body)
        if path == "/v1/metrics":
            json_format.ParseDict(document, ExportMetricsServiceRequest())
            continue
        json_format.ParseDict(document, ExportTraceServiceRequest())
        spans = document["resourceSpans"][0]["scopeSpans"][0]["spans"]
        ids |= {span["traceId"] for span in spans}
        assert all("parentSpanId" not in span and "links" not in span for span in spans)
    assert len(ids) > 10
    assert SECRETS["trace context"].encode().hex()[:32] not in ids
    assert b"Bearer collectors-own" in collector.headers


def test_a_collector_that_is_away_costs_nothing_but_its_spans(observer, caplog):
    observer.spans.add(
        labels=("messages", "200", "complete", "echo"), prompt_tokens=1, completion_tokens=1, began=1, seconds=1
    )
    exporter = Exporter("http://127.0.0.1:9", observer.registry, observer.spans)
    exporter.send()
    assert observer.spans.take() == []
    assert [record.getMessage() for record in caplog.records] == ["export-failed kind=ConnectError count=1"]
