from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx2
import openai
import pytest
from world import WORDS, Served, World, world

from strongroom.client.client import AsyncClient
from strongroom.errors import StreamTruncated, UsageError
from strongroom.receipts.receipt import verify_document
from strongroom.records.digest import digest_bytes
from strongroom.services.proxy import MAX_REQUEST, Proxy, require_loopback
from strongroom.services.server import BackgroundServer


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with world(tmp_path_factory.mktemp("world")) as found:
        yield found


@pytest.fixture(scope="module")
def served(made: World) -> Iterator[Served]:
    with made.serving() as found:
        yield found


def proxied(made, url, receipts=None, **changed) -> BackgroundServer:
    trust = {
        "policy": made.policy,
        "anchor": made.anchor_file,
        "broker": made.broker.identity.fingerprint,
        "accept_simulated": True,
    }
    client = AsyncClient(url, **(trust | changed), on_receipt=(receipts if receipts is not None else []).append)
    return BackgroundServer(Proxy(client).app)


def test_what_the_users_client_says_goes_inside_the_seal_and_nowhere_else(made, served):
    sent: list[httpx2.Request] = []

    class Wire(httpx2.AsyncHTTPTransport):
        async def handle_async_request(self, request):
            sent.append(request)
            return await super().handle_async_request(request)

    with proxied(made, served.url, transport=Wire()) as proxy:
        client = openai.OpenAI(base_url=proxy.url + "/v1", api_key="canary", max_retries=0)
        client.chat.completions.create(model="x", messages=[{"role": "user", "content": "hello"}])
        client.models.list()
    paths = [request.url.path for request in sent]
    assert paths == ["/.well-known/strongroom/evidence", *["/.well-known/strongroom/sealed"] * 2]
    assert not any(b"canary" in name + value for request in sent for name, value in request.headers.raw)


def test_any_openai_client_talks_to_a_verified_worker_and_leaves_receipts(made, served):
    receipts = []
    with proxied(made, served.url, receipts) as server:
        client = openai.OpenAI(base_url=server.url + "/v1", api_key="none")
        whole = client.chat.completions.create(model="m", messages=[{"role": "user", "content": "x"}])
        assert whole.choices[0].message.content == "".join(WORDS)
        stream = client.chat.completions.create(model="m", messages=[{"role": "user", "content": "x"}], stream=True)
        assert "".join(e.choices[0].delta.content or "" for e in stream if e.choices) == "".join(WORDS)
        assert [model.id for model in client.models.list()] == ["echo"]
    assert len(receipts) == 2
    for document in receipts:
        assert verify_document(document).outcome == "complete"


def test_answers_at_the_same_time_leave_each_its_own_receipt(made, served):
    receipts = []
    with proxied(made, served.url, receipts) as server, ThreadPoolExecutor(8) as pool:
        asked = [{"model": "m", "messages": [{"role": "user", "content": f"question {n}"}]} for n in range(16)]
        url = server.url + "/v1/chat/completions"
        for answer in pool.map(lambda body: httpx2.post(url, json=body, timeout=30), asked):
            assert answer.status_code == 200
    assert len({document.request_sha256 for document in receipts}) == len(receipts) == 16


def test_a_worker_that_does_not_prove_itself_gets_no_request(made, served):
    before = len(served.engine.requests)
    with proxied(made, served.url, broker=digest_bytes(b"other")) as server:
        answer = httpx2.post(server.url + "/v1/chat/completions", json={"messages": []}, timeout=30)
    assert answer.status_code == 502
    assert answer.json()["error"]["code"] == "signature.invalid"
    assert len(served.engine.requests) == before


def test_a_worker_that_is_away_is_an_honest_503(made):
    with proxied(made, "http://127.0.0.1:9") as server:
        answer = httpx2.post(server.url + "/v1/chat/completions", json={"messages": []}, timeout=30)
    assert answer.status_code == 503


def test_a_worker_with_new_keys_is_verified_again_and_the_request_sent_once_more(made):
    with made.serving() as first, proxied(made, first.url) as server:
        post = {"messages": [{"role": "user", "content": "x"}]}
        assert httpx2.post(server.url + "/v1/chat/completions", json=post, timeout=30).status_code == 200
        port = int(first.url.rsplit(":", 1)[1])
        first.stop()
        with made.serving(port=port) as second:
            assert second.url == first.url
            assert httpx2.post(server.url + "/v1/chat/completions", json=post, timeout=30).status_code == 200
            assert len(second.engine.requests) == 1


def test_a_request_that_is_too_long_for_it_is_a_413_and_says_what_to_do(made, served):
    with proxied(made, served.url) as proxy:
        answer = httpx2.post(proxy.url + "/v1/chat/completions", content=b"x" * (MAX_REQUEST + 1))
    assert answer.status_code == 413
    assert "Send less at once." in answer.json()["error"]["message"]


def test_the_proxy_listens_on_loopback_only():
    assert require_loopback("127.0.0.1") == "127.0.0.1"
    for host in ("0.0.0.0", "192.0.2.1", "example.org"):  # noqa: S104 (what must be refused)
        with pytest.raises(UsageError):
            require_loopback(host)


class Worker(httpx2.AsyncBaseTransport):
    """A verified worker's end of the channel, and what it says."""

    url = "http://worker"

    def __init__(self, status, headers, *pieces):
        self.said = status, headers, pieces

    def resending(self):
        return self

    async def handle_async_request(self, request):  # noqa: ARG002 (httpx2's signature)
        status, headers, pieces = self.said
        return httpx2.Response(status, headers=headers, stream=Said(pieces))


class Said(httpx2.AsyncByteStream):
    """Pieces of an answer; an exception among them is raised."""

    def __init__(self, pieces):
        self.pieces = pieces

    async def __aiter__(self):
        for piece in self.pieces:
            if isinstance(piece, Exception):
                raise piece
            yield piece


def take(answer, said):
    """Add to `said` what comes, piece by piece."""
    for piece in answer.iter_raw():
        said.append(piece)


@pytest.mark.parametrize("status", [429, 503])
def test_when_to_come_back_is_passed_on(status):
    worker = Worker(status, {"content-type": "application/json", "retry-after": "7", "x-other": "1"}, b"{}")
    with BackgroundServer(Proxy(worker).app) as server:
        answer = httpx2.post(server.url + "/v1/chat/completions", json={})
    assert (answer.status_code, answer.headers["retry-after"]) == (status, "7")
    assert "x-other" not in answer.headers


def test_an_answer_without_it_gets_none():
    with BackgroundServer(Proxy(Worker(200, {"content-type": "application/json"}, b"{}")).app) as server:
        assert "retry-after" not in httpx2.post(server.url + "/v1/chat/completions", json={}).headers


@pytest.mark.parametrize(
    "broken", [StreamTruncated("cut"), httpx2.ReadError("gone")], ids=["without its proof", "the network"]
)
@pytest.mark.parametrize("media_type", ["text/event-stream", "application/json"])
def test_what_breaks_off_is_told_breaks_off_and_is_no_defect(broken, media_type, caplog):
    worker = Worker(200, {"content-type": media_type}, b"data: 1\n\n", broken)
    said: list[bytes] = []
    with (
        BackgroundServer(Proxy(worker).app) as server,
        httpx2.stream("POST", server.url + "/v1/chat/completions", json={}) as answer,
        pytest.raises(httpx2.RemoteProtocolError),  # no clean end
    ):
        take(answer, said)
    assert b"".join(said).startswith(b"data: 1\n\n")
    assert (b'"error"' in b"".join(said)) == (media_type == "text/event-stream")
    assert "defect" not in caplog.text
