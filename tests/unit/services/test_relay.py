"""A relay between a user and a real worker of the tests: what it hides, what it carries, what it refuses."""

import asyncio
import json
from typing import Any

import httpx2
import pytest
from world import WORDS, world

from strongroom.channel import ohttp
from strongroom.client.client import AsyncClient
from strongroom.errors import ChannelRefused, ServiceUnavailable, UsageError
from strongroom.records.session import EVIDENCE_PATH
from strongroom.services import relay as relays
from strongroom.services.relay import Relay
from strongroom.services.server import BackgroundServer


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    with world(tmp_path_factory.mktemp("world")) as made:
        yield made


@pytest.fixture(scope="module")
def served(place):
    with place.serving() as worker:
        yield worker


class Wire(httpx2.AsyncHTTPTransport):
    """The network of a relay, which keeps what went over it."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, str, dict[str, str], bytes]] = []

    async def handle_async_request(self, request: Any) -> Any:
        body = await request.aread()
        self.seen.append((request.method, request.url.path, dict(request.headers), body))
        outgoing = httpx2.Request(request.method, request.url, headers=request.headers, content=body)
        return await super().handle_async_request(outgoing)


@pytest.fixture
def wire():
    return Wire()


@pytest.fixture
def relay(served, wire):
    with BackgroundServer(Relay(served.url, transport=wire).app) as server:
        yield server.url


def test_a_user_verifies_asks_and_streams_through_the_relay_and_the_worker_learns_no_more_than_it_must(
    place, served, relay, wire
):
    client = place.client("http://worker.invalid", relay=relay)
    assert client.ask("canary-relay") == "".join(WORDS)
    assert list(client.stream("canary-relay", temperature=0)) == WORDS
    assert client.last_receipt.response_sha256
    assert client.verification.keyset.channels[-1] == ohttp.VERSION
    paths = [(method, path) for method, path, _, _ in wire.seen]
    assert paths == [("POST", EVIDENCE_PATH), *[("POST", ohttp.GATEWAY_PATH)] * 2]
    for _, path, headers, body in wire.seen:
        known = {"host", "accept-encoding", "content-type", "content-length", "transfer-encoding", "incremental"}
        assert set(headers) <= known
        assert headers["host"] == served.url.removeprefix("http://")
        assert b"canary" not in body
        if path == EVIDENCE_PATH:
            assert set(json.loads(body)) == {"type", "nonce"}
    assert len({len(body) for _, path, _, body in wire.seen if path == ohttp.GATEWAY_PATH}) == 1


def test_the_asynchronous_client_and_any_openai_client_go_the_same_way(place, relay):
    trust = {"policy": place.policy, "anchor": place.anchor_file, "accept_simulated": True}

    async def ask() -> str:
        client = AsyncClient("http://worker.invalid", relay=relay, **trust)
        sdk = await client.openai()
        async with sdk:
            models = [model.id async for model in sdk.models.list()]
            answer = await sdk.chat.completions.create(
                model="x", messages=[{"role": "user", "content": "q"}], stream=True
            )
            said = [event.choices[0].delta.content async for event in answer if event.choices]
        assert models == ["echo"]
        return "".join(said) + await client.ask("q")

    assert asyncio.run(ask()) == "".join(WORDS) * 2


def test_a_relay_that_cuts_an_answer_is_noticed_and_one_that_replays_gains_nothing(place, served, wire):
    class Cutting(Wire):
        async def handle_async_request(self, request: Any) -> Any:
            answer = await super().handle_async_request(request)
            if request.url.path != ohttp.GATEWAY_PATH:
                return answer
            body = (await answer.aread())[:-30]
            headers = {"content-type": answer.headers["content-type"]}
            return httpx2.Response(answer.status_code, headers=headers, stream=httpx2.ByteStream(body))

    with BackgroundServer(Relay(served.url, transport=Cutting()).app) as server, pytest.raises(ChannelRefused):
        place.client("http://worker.invalid", relay=server.url).ask("q")
    with BackgroundServer(Relay(served.url, transport=wire).app) as server:
        assert place.client("http://worker.invalid", relay=server.url).ask("q")
        _, path, headers, body = wire.seen[-1]
        again = httpx2.post(server.url + path, headers={"content-type": headers["content-type"]}, content=body)
    assert (again.status_code, again.json()["code"]) == (409, "channel.replayed")


def test_it_carries_three_things_and_nothing_else(relay, wire):
    with httpx2.Client(base_url=relay) as http:
        keys = http.get(ohttp.GATEWAY_PATH, headers={"cookie": "me", "user-agent": "me"})
        assert keys.status_code == 200
        assert ohttp.parse_key_list(keys.content)
        assert not {"cookie", "user-agent", "accept"} & set(wire.seen[-1][2])
        assert http.get("/healthz").json() == {"state": "ready"}
        before = len(wire.seen)
        for path in ("/v1/models", "/v1/chat/completions", "/", ohttp.GATEWAY_PATH + "/x"):
            assert http.post(path, json={}).status_code in {404, 405}
        assert http.post(ohttp.GATEWAY_PATH, json={}).status_code == 415
        assert http.post(EVIDENCE_PATH, content=b"x", headers={"content-type": "text/plain"}).status_code == 415
        long = {"content-type": "application/json"}
        assert http.post(EVIDENCE_PATH, content=bytes(relays.MAX_QUESTION + 1), headers=long).status_code == 413
        pieces = iter([bytes(relays.MAX_QUESTION), b"x"])
        assert http.post(EVIDENCE_PATH, content=pieces, headers=long).status_code == 413
        assert len(wire.seen) == before


def test_a_worker_that_is_away_or_answers_otherwise_is_a_plain_refusal(place):
    answers = [
        httpx2.Response(200, headers={"content-type": "text/html", "set-cookie": "you"}, content=b"<html>"),
        httpx2.Response(302, headers={"location": "http://127.0.0.1:1/"}, content=b""),
    ]

    class Other(httpx2.AsyncBaseTransport):
        async def handle_async_request(self, request: Any) -> Any:
            await request.aread()
            if not answers:
                raise httpx2.ConnectError("no")
            return answers.pop(0)

    kind = {"content-type": ohttp.CHUNKED_REQUEST_TYPE}
    with BackgroundServer(Relay("http://127.0.0.1:1", transport=Other()).app) as server:
        found = [httpx2.post(server.url + ohttp.GATEWAY_PATH, content=b"x", headers=kind) for _ in range(3)]
        assert [answer.status_code for answer in found] == [502, 502, 503]
        assert all("set-cookie" not in answer.headers and b"html" not in answer.content for answer in found)
        with pytest.raises(ServiceUnavailable):
            place.client("http://worker.invalid", relay=server.url).verify()


def test_more_than_its_rate_is_told_to_come_back(served):
    now = 0.0
    with BackgroundServer(Relay(served.url, rate=2, clock=lambda: now).app) as server:
        statuses = [httpx2.get(server.url + ohttp.GATEWAY_PATH).status_code for _ in range(3)]
        assert statuses == [200, 200, 503]
        now = 1.0
        assert httpx2.get(server.url + ohttp.GATEWAY_PATH).status_code == 200


def test_an_answer_that_nobody_takes_leaves_no_place_taken(served):
    carrying = Relay(served.url)
    kind = {"content-type": ohttp.CHUNKED_REQUEST_TYPE}
    with BackgroundServer(carrying.app) as server:
        for _ in range(3):
            with httpx2.stream("POST", server.url + ohttp.GATEWAY_PATH, content=b"x", headers=kind) as answer:
                assert answer.status_code == 400
        assert httpx2.get(server.url + "/healthz").status_code == 200
    assert carrying._under_way == 0


@pytest.mark.parametrize(
    "target", ["", "worker", "ftp://w", "http://", "http://u:p@w", "http://w/path", "http://w?x=1"]
)
def test_a_relay_is_before_one_worker_by_its_plain_address(target):
    with pytest.raises(UsageError):
        Relay(target)


def test_a_keyset_without_this_channel_is_not_asked_through_a_relay(place, relay):
    client = place.client("http://worker.invalid", relay=relay)
    found = client.verify()
    object.__setattr__(found.keyset, "channels", ("ehbp/1",))
    with pytest.raises(ChannelRefused):
        client.ask("q")
    with pytest.raises(UsageError):
        place.client("http://worker.invalid", relay="nowhere")
