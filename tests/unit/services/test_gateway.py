import json
import threading
from collections.abc import Iterator

import httpx2
import pytest
from world import WORDS, EchoEngine, World, world

from strongroom.channel.client import SealedTransport
from strongroom.channel.pacing import Pacing
from strongroom.engines.steering import Steering
from strongroom.errors import EngineUnavailable, ReceiptInvalid
from strongroom.records import codec
from strongroom.records.session import EVIDENCE_PATH, EvidenceRequest
from strongroom.services import gateway
from strongroom.services.gateway import Bucket
from strongroom.services.tenancy.caller import SCOPE as CALLER
from strongroom.services.tenancy.caller import Caller
from strongroom.worker.workload import Session

CHAT = {"messages": [{"role": "user", "content": "x"}]}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with world(tmp_path_factory.mktemp("world")) as found:
        yield found


@pytest.fixture
def engine() -> EchoEngine:
    return EchoEngine()


@pytest.fixture
def served(made, engine):
    with made.serving(engine) as found:
        assert found.error is None, found.error
        yield found


def sealed(made, served, exchanges=None) -> httpx2.Client:
    keyset = made.client(served.url).verify().keyset
    keep = (exchanges if exchanges is not None else []).append
    transport = SealedTransport(httpx2.HTTPTransport(), keyset.channel, on_exchange=keep)
    return httpx2.Client(transport=transport, base_url=served.url, timeout=30)


def test_content_is_taken_only_sealed(served):
    answer = httpx2.post(served.url + "/v1/chat/completions", json=CHAT)
    assert answer.status_code == 403
    assert answer.json()["error"]["code"] == "channel.refused"
    assert served.engine.requests == []


def test_what_needs_no_seal_is_there_in_the_clear(served):
    assert httpx2.get(served.url + "/healthz").json() == {"state": "ready", "under_way": 0, "waiting": 0, "slots": 1}
    assert httpx2.get(served.url + "/v1/models").json()["data"][0]["id"] == "echo"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"nonsense",
        codec.encode({"type": "strongroom/evidence-request/v2", "nonce": bytes(32)}),
    ],
)
def test_an_evidence_request_of_another_shape_is_refused(served, body):
    answer = httpx2.post(served.url + EVIDENCE_PATH, content=body)
    assert answer.status_code == 400
    assert "error" in answer.json()


def test_an_oversize_evidence_request_is_refused_unread(served):
    assert httpx2.post(served.url + EVIDENCE_PATH, content=b"x" * 5000).status_code == 413


def test_a_nonce_of_another_length_is_refused(served):
    answer = httpx2.post(served.url + EVIDENCE_PATH, content=codec.encode(EvidenceRequest(b"short")))
    assert answer.status_code == 400


def test_a_paced_stream_says_the_same_in_fewer_messages(made):
    def pieces(pacing: Pacing) -> list[bytes]:
        with made.serving(pacing=pacing) as paced:
            client = made.client(paced.url)
            http = httpx2.Client(transport=client.transport())
            with http.stream("POST", paced.url + "/v1/chat/completions", json={**CHAT, "stream": True}) as answer:
                found = list(answer.iter_bytes())
            assert client.last_receipt.receipt
            assert len(b"".join(found)) % pacing.bucket == 0
            return found

    at_once, joined = pieces(Pacing(512)), pieces(Pacing(1024, flush_ms=200))
    words = [
        [json.loads(line[6:]) for line in b"".join(found).split(b"\n") if line.startswith(b"data: {")]
        for found in (at_once, joined)
    ]
    assert words[0] == words[1]
    assert b"".join(joined).count(b"\n:") < b"".join(at_once).count(b"\n:")


def test_every_event_of_a_stream_has_the_same_length(made, served):
    lengths = set()
    with sealed(made, served).stream("POST", "/v1/chat/completions", json={**CHAT, "stream": True}) as answer:
        text = answer.read()
    for event in text.split(b"\n\n")[:-2]:
        lengths.add((len(event) + 2) % 256)
    assert lengths == {0}
    assert len(text) % 256 == 0


def test_a_request_that_is_not_json_is_an_honest_400(made, served):
    for body in (b"nonsense", b"[]", b'"x"'):
        answer = sealed(made, served).post("/v1/chat/completions", content=body)
        assert answer.status_code == 400
        assert "error" in answer.json()


def test_a_clients_wish_about_the_engines_own_slots_is_dropped(made, served):
    sealed(made, served).post("/v1/chat/completions", json={**CHAT, "id_slot": 3, "cache_prompt": True, "model": "m"})
    assert not {"id_slot", "cache_prompt", "model"} & served.engine.requests[-1].keys()


def test_an_engine_that_fails_at_once_is_an_honest_status_without_a_receipt(made, served):
    served.engine.fail_after = 0
    exchanges = []
    answer = sealed(made, served, exchanges).post("/v1/chat/completions", json={**CHAT, "stream": True})
    assert answer.status_code == 503
    assert answer.json()["error"]["code"] == "engine.unavailable"
    assert exchanges == []


def test_an_engine_that_fails_on_the_way_ends_in_the_protocol_with_a_receipt_that_says_so(made, served):
    served.engine.fail_after = 3
    client = made.client(served.url)
    with pytest.raises(EngineUnavailable):
        client.ask("x")
    exchanges = []
    with sealed(made, served, exchanges).stream(
        "POST", "/v1/chat/completions", json={**CHAT, "stream": True}
    ) as answer:
        text = answer.read()
    assert b"[DONE]" not in text
    assert b'"code":"engine.unavailable"' in text
    receipt = json.loads(payload(exchanges[0]))
    assert receipt["outcome"] == "failed"


def payload(exchange) -> bytes:
    from strongroom.receipts.receipt import SealedReceipt

    return codec.decode(SealedReceipt, exchange.sealed_receipt).envelope.payload


def test_two_users_at_once_are_answered_one_after_the_other(made, served):
    answers: list[str] = []
    threads = [threading.Thread(target=lambda: answers.append(made.client(served.url).ask("x"))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert answers == ["".join(WORDS)] * 4


def test_a_full_queue_is_an_honest_503(made):
    with made.serving(EchoEngine(), queue=0) as served:
        served.worker._workload.models[0].line._running = 1  # the one slot is taken
        answer = sealed(made, served).post("/v1/chat/completions", json=CHAT)
    assert answer.status_code == 503


def test_a_receipt_speaks_of_this_answer_alone(made, served):
    client = made.client(served.url)
    client.ask("x")
    document = client.last_receipt
    from dataclasses import replace

    from strongroom.receipts.receipt import verify_document

    verify_document(document)
    with pytest.raises(ReceiptInvalid):
        verify_document(replace(document, response_sha256=bytes(32)))


def test_a_bucket_gives_no_more_than_its_rate():
    now = 0.0
    bucket = Bucket(3, lambda: now)
    assert [bucket.take() for _ in range(4)] == [True, True, True, False]
    now = 1 / 3
    assert bucket.take()
    assert not bucket.take()


def test_however_many_ask_for_evidence_a_renewal_waits_behind_few(served):
    held, entered = threading.Event(), threading.Semaphore(0)
    device = served.worker._place.device
    quote, at_once = device.quote, []

    def slow(report_data: bytes) -> bytes:
        at_once.append(report_data)
        entered.release()
        held.wait(30)
        return quote(report_data)

    statuses: list[int] = []

    def stranger() -> None:
        body = codec.encode(EvidenceRequest(bytes(32)))
        statuses.append(httpx2.post(served.url + EVIDENCE_PATH, content=body, timeout=60).status_code)

    device.quote = slow
    threads = [threading.Thread(target=stranger) for _ in range(gateway.MAX_PROVING + 6)]
    for thread in threads:
        thread.start()
    try:
        assert entered.acquire(timeout=30)
        assert httpx2.get(served.url + "/healthz").status_code == 200
        assert len(at_once) <= gateway.MAX_PROVING
    finally:
        held.set()
        for thread in threads:
            thread.join(60)
        device.quote = quote
    assert statuses == [200] * len(threads)


class Flood(EchoEngine):
    """Says more than any buffer on the way holds, for as long as somebody listens."""

    closed: threading.Event

    async def generate(self, operation, request):  # noqa: ARG002  # the port
        self.closed = threading.Event()
        try:
            while True:
                yield json.dumps({"choices": [{"index": 0, "delta": {"content": "word " * 2000}}]}).encode()
        finally:
            self.closed.set()


def test_a_reader_that_takes_nothing_is_cut_and_its_engine_is_free_again(made, monkeypatch):
    engine, outcomes, issued = Flood(), [], threading.Event()
    sign = Session.receipt

    def noted(session, workload, **told):
        outcomes.append(told["outcome"])
        issued.set()
        return sign(session, workload, **told)

    monkeypatch.setattr(Session, "receipt", noted)
    with made.serving(engine, front={"patience": 0.2}) as served:
        with sealed(made, served).stream("POST", "/v1/chat/completions", json={**CHAT, "stream": True}) as answer:
            assert answer.status_code == 200
            assert engine.closed.wait(30), "the engine still talks to somebody who does not listen"
            assert issued.wait(30)
            line = served.worker._workload.models[0].line
            assert (line.running, line.waiting) == (0, 0)
        assert outcomes == ["cut"]


def test_two_models_answer_under_their_names_and_the_receipt_says_which(tmp_path):
    with world(tmp_path) as made:
        second = made.seal("second", b"GGUF another")
        with made.serving_models({"one": "model", "two": "second"}) as (served, engines):
            client = made.client(served.url)
            http = httpx2.Client(transport=client.transport(), timeout=30)
            listed = httpx2.get(served.url + "/v1/models").json()
            assert [model["id"] for model in listed["data"]] == ["one", "two"]
            assert httpx2.get(served.url + "/v1/models/two").status_code == 200
            assert httpx2.get(served.url + "/v1/models/echo").status_code == 404
            for name, artifact, number in (("one", made.artifact, 0), ("two", second, 1)):
                before = len(engines[number].requests)
                answer = http.post(served.url + "/v1/chat/completions", json={**CHAT, "model": name})
                assert answer.status_code == 200
                receipt = json.loads(client.last_receipt.receipt.envelope.payload)
                assert receipt["model"] == artifact
                assert receipt["artifacts"] == [made.artifact, second]
                assert len(engines[number].requests) == before + 1
            for path, body in (
                ("/v1/chat/completions", CHAT),
                ("/v1/chat/completions", {**CHAT, "model": "three"}),
                ("/v1/messages", {**CHAT, "model": "three", "max_tokens": 3, "stream": True}),
                ("/v1/responses", {"model": ["one"], "input": "x"}),
            ):
                keyset = client.verification.keyset
                plain = httpx2.Client(
                    transport=SealedTransport(httpx2.HTTPTransport(), keyset.channel, on_exchange=print)
                )
                answer = plain.post(served.url + path, json=body)
                assert answer.status_code == 404
                error = answer.json()["error"]
                assert error["type"] == "not_found_error"
                assert error["code"] == "inference.no_such_model"
                assert (answer.json().get("type") == "error") == path.startswith("/v1/messages")


def test_a_full_queue_and_a_client_with_its_share_are_told_when_to_come_back(made):
    with made.serving(EchoEngine(), queue=0) as served:
        served.worker._workload.models[0].line._running = 1  # the one slot is taken
        answer = sealed(made, served).post("/v1/messages", json={**CHAT, "max_tokens": 1})
        assert answer.status_code == 503
        assert int(answer.headers["retry-after"]) >= 1
        assert answer.json()["error"]["type"] == "overloaded_error"
    engine = EchoEngine()

    def named(app):
        async def within(scope, receive, send):
            await app({**scope, CALLER: Caller("greedy", Steering(), None, lambda _: None)}, receive, send)

        return within

    with made.serving(engine, queue=1, within=named) as served:
        line = served.worker._workload.models[0].line
        line._held["greedy"] = 1
        answer = sealed(made, served).post("/v1/chat/completions", json=CHAT)
        assert answer.status_code == 429
        assert int(answer.headers["retry-after"]) >= 1
        assert answer.json()["error"]["type"] == "rate_limit_error"
        line._held.clear()
        assert sealed(made, served).post("/v1/chat/completions", json=CHAT).status_code == 200
