"""The worker as an oblivious gateway, driven as a server drives it; and our client's end against it, over a wire to tamper with."""

import asyncio
import inspect
import json
import logging
from pathlib import Path
from typing import Any

import httpx
import httpx2
import pytest

from strongroom.channel import bhttp, ohttp, relayed, relayed_httpx
from strongroom.channel.ohttp_server import OhttpMiddleware
from strongroom.channel.relayed import Relay
from strongroom.channel.replay import UsedEncapsulations
from strongroom.channel.server import SEALED, SEALED_FIELDS
from strongroom.errors import (
    ChannelKeyMismatch,
    ChannelRefused,
    MalformedMessage,
    RequestReplayed,
    ServiceUnavailable,
    StreamTruncated,
)

CANARY = "canary-51be"
POST = [(b"content-type", ohttp.CHUNKED_REQUEST_TYPE.encode())]
WHOLE = [(b"content-type", ohttp.REQUEST_TYPE.encode())]
CHAT = "/v1/chat/completions"


@pytest.fixture
def make_gateway(make_worker: Any) -> Any:
    """A worker behind the middleware; `seen` keeps the inner scopes."""

    def make(**options: Any) -> Any:
        worker = make_worker()
        worker.seen = []
        inner = options.pop("inner", worker.app._app)

        async def noted(scope: Any, receive: Any, send: Any) -> None:
            worker.seen.append(scope)
            await inner(scope, receive, send)

        worker.app = OhttpMiddleware(worker.app, noted, worker.private, **options)
        return worker

    return make


@pytest.fixture
def gateway(make_gateway: Any) -> Any:
    return make_gateway()


def asked(path: str = CHAT, **body: Any) -> bytes:
    content = json.dumps({"prompt": CANARY, **body}).encode()
    fields = ((b"content-type", b"application/json"), (b"strongroom-credit", b"x"), (b"connection", b"close"))
    return bhttp.encode_request(bhttp.Request(b"POST", b"http", b"worker", path.encode(), fields, content), bucket=512)


def opened(sealer: ohttp.RequestSealer, answer: Any) -> tuple[int, dict[bytes, bytes], bytes]:
    """Status, fields and content of an answer in chunks."""
    assert (answer.status, answer.header("content-type")) == (200, ohttp.CHUNKED_RESPONSE_TYPE)
    opener, reader = sealer.opener(answer.body[: sealer.nonce_bytes]), bhttp.ResponseReader()
    content = reader.feed(opener.feed(answer.body[sealer.nonce_bytes :]) + opener.finish())
    reader.finish()
    return reader.status, dict(reader.fields), content


def refused(answer: Any, status: int, code: str, kind: str = "about:blank") -> None:
    assert (answer.status, answer.header("content-type")) == (status, "application/problem+json")
    problem = json.loads(answer.body)
    assert (problem["code"], problem["type"]) == (code, kind)
    assert CANARY.encode() not in answer.body


def test_the_key_configurations_are_served_at_the_standard_place(gateway):
    answer = gateway.ask("GET", ohttp.GATEWAY_PATH, [], b"")
    assert (answer.status, answer.header("content-type")) == (200, "application/ohttp-keys")
    assert ohttp.parse_key_list(answer.body)[0].public == gateway.public
    assert gateway.ask("PUT", ohttp.GATEWAY_PATH, [], b"").status == 405
    assert gateway.ask("GET", "/v1/models", [], b"").body == b'{"data":[]}'


def test_an_encapsulated_request_reaches_the_application_sealed_and_nothing_of_the_outer_one_does(gateway):
    sealer = ohttp.RequestSealer(gateway.public)
    outer = [*POST, (b"x-forwarded-for", b"192.0.2.7"), (b"cookie", b"me")]
    answer = gateway.ask("POST", ohttp.GATEWAY_PATH, outer, sealer.seal(asked("/v1/chat/completions?a=b%20c")))
    status, fields, content = opened(sealer, answer)
    assert (status, fields[b"content-type"], json.loads(content)["echo"]) == (200, b"application/json", CANARY)
    assert b"content-length" not in fields
    assert answer.header("incremental") == "?1"
    scope = gateway.seen[0]
    assert (scope["method"], scope["path"], scope["query_string"]) == ("POST", CHAT, b"a=b%20c")
    assert scope[SEALED] is scope[SEALED_FIELDS] is True
    assert scope["client"] is None
    assert scope["extensions"] == {}
    names = [name for name, _ in scope["headers"]]
    assert names == [b"host", b"content-type", b"strongroom-credit", b"content-length"]
    assert CANARY.encode() not in answer.body


def test_a_stream_is_sealed_piece_by_piece_and_a_whole_request_is_answered_whole(gateway):
    sealer = ohttp.RequestSealer(gateway.public)
    answer = gateway.ask("POST", ohttp.GATEWAY_PATH, POST, sealer.seal(asked(stream=True)))
    assert len(answer.pieces) == 4
    assert len({len(piece) for piece in answer.pieces[1:-1]}) == 1
    assert opened(sealer, answer)[2].startswith(b'data: {"token":"The"}')

    sealer = ohttp.RequestSealer(gateway.public, labels=ohttp.WHOLE)
    answer = gateway.ask("POST", ohttp.GATEWAY_PATH, WHOLE, sealer.seal(asked(stream=True)))
    assert (answer.header("content-type"), len(answer.pieces)) == (ohttp.RESPONSE_TYPE, 1)
    message = sealer.opener(answer.body[:32]).whole(answer.body[32:])
    reader = bhttp.ResponseReader()
    assert reader.feed(message).startswith(b'data: {"token":"The"}')
    reader.finish()


def test_a_replayed_request_is_answered_once_and_one_that_does_not_open_uses_nothing_up(make_gateway):
    used = UsedEncapsulations(capacity=2)
    gateway = make_gateway(used=used)
    sealed = ohttp.RequestSealer(gateway.public).seal(asked())
    refused(gateway.ask("POST", ohttp.GATEWAY_PATH, POST, sealed[:-1]), 400, "channel.malformed")
    assert len(used) == 0
    assert gateway.ask("POST", ohttp.GATEWAY_PATH, POST, sealed).status == 200
    refused(gateway.ask("POST", ohttp.GATEWAY_PATH, POST, sealed), 409, "channel.replayed")
    assert (
        gateway.ask("POST", ohttp.GATEWAY_PATH, POST, ohttp.RequestSealer(gateway.public).seal(asked())).status == 200
    )
    full = ohttp.RequestSealer(gateway.public).seal(asked())
    refused(gateway.ask("POST", ohttp.GATEWAY_PATH, POST, full), 503, "service.unavailable")
    assert len(gateway.seen) == 2


def test_what_is_malformed_outside_is_refused_in_the_clear_and_what_is_malformed_inside_sealed(make_gateway):
    gateway = make_gateway(max_body=4096)
    sealed = ohttp.RequestSealer(gateway.public).seal(asked())
    stranger = ohttp.RequestSealer(make_gateway().public).seal(asked())
    for body in (b"", sealed[:10], sealed[:39], sealed[:-1], sealed[:39] + b"\x00", sealed[:6] + b"\x09" + sealed[7:]):
        answer = gateway.ask("POST", ohttp.GATEWAY_PATH, POST, body)
        assert answer.status == 400, body
        assert json.loads(answer.body)["code"] in {"channel.malformed", "channel.key"}
    refused(gateway.ask("POST", ohttp.GATEWAY_PATH, POST, stranger), 400, "channel.key", ohttp.KEY_PROBLEM)
    refused(gateway.ask("POST", ohttp.GATEWAY_PATH, WHOLE, sealed), 400, "channel.key", ohttp.KEY_PROBLEM)
    refused(gateway.ask("POST", ohttp.GATEWAY_PATH, POST, bytes(4097)), 413, "channel.refused")
    refused(
        gateway.ask("POST", ohttp.GATEWAY_PATH, [(b"content-length", b"9999999"), *POST], b""), 413, "channel.refused"
    )
    refused(gateway.ask("POST", ohttp.GATEWAY_PATH, [], sealed), 415, "channel.malformed")
    for labels, headers in ((ohttp.CHUNKED, POST), (ohttp.WHOLE, WHOLE)):
        sealer = ohttp.RequestSealer(gateway.public, labels=labels)
        answer = gateway.ask("POST", ohttp.GATEWAY_PATH, headers, sealer.seal(b"\x07nonsense"))
        assert answer.status == 200
        if labels is ohttp.CHUNKED:
            assert opened(sealer, answer)[0] == 400
        else:
            assert sealer.opener(answer.body[:32]).whole(answer.body[32:]).startswith(b"\x01\x41\x90")
    assert gateway.seen == []


def test_an_application_that_fails_is_answered_sealed_or_broken_off_and_its_words_are_not_logged(gateway, caplog):
    with caplog.at_level(logging.DEBUG):
        sealer = ohttp.RequestSealer(gateway.public)
        answer = gateway.ask("POST", ohttp.GATEWAY_PATH, POST, sealer.seal(asked(fail="before")))
        assert opened(sealer, answer)[0] == 500
        sealer = ohttp.RequestSealer(gateway.public)
        answer = gateway.ask("POST", ohttp.GATEWAY_PATH, POST, sealer.seal(asked(stream=True, fail="midway")))
        assert not answer.complete
        with pytest.raises(StreamTruncated):
            opened(sealer, answer)
        sealer = ohttp.RequestSealer(gateway.public, labels=ohttp.WHOLE)
        answer = gateway.ask("POST", ohttp.GATEWAY_PATH, WHOLE, sealer.seal(asked(stream=True, fail="midway")))
        assert sealer.opener(answer.body[:32]).whole(answer.body[32:]).startswith(b"\x01\x41\xf4")
    assert CANARY not in caplog.text
    assert "RuntimeError" in caplog.text


# Our client against it


@pytest.fixture(params=["sync", "async", "sync httpx", "async httpx"])
def ask(request: Any, gateway: Any) -> Any:
    """Ask over the relayed transport of either kind, for either library: the response, read to its end."""
    kind, _, other = request.param.partition(" ")
    library, adapter = (httpx, relayed_httpx) if other else (httpx2, relayed)
    exchanges: list[Any] = []

    def asking(
        method: str, path: str, *, public: bytes = gateway.public, check: Any = exchanges.append, **options: Any
    ) -> Any:
        relay = Relay("http://relay.example/", public, check)
        if kind == "sync":
            transport = adapter.RelayedTransport(gateway.transport(library), relay)
            with library.Client(transport=transport) as http:
                return http.request(method, "https://worker.example:8443" + path, **options)

        async def run() -> Any:
            transport = adapter.AsyncRelayedTransport(gateway.async_transport(library), relay)
            async with library.AsyncClient(transport=transport) as http:
                return await http.request(method, "https://worker.example:8443" + path, **options)

        return asyncio.run(run())

    asking.exchanges = exchanges
    return asking


def test_a_client_asks_through_a_relay_and_only_what_the_worker_needs_goes_inside(gateway, ask):
    headers = {"authorization": "Bearer me", "cookie": "me", "x-device": "me", "strongroom-credit": "c"}
    answer = ask("POST", CHAT + "?x=1", json={"prompt": CANARY}, headers=headers)
    assert (answer.status_code, answer.json()["echo"]) == (200, CANARY)
    exchange = ask.exchanges[0]
    assert (exchange.method, exchange.path, exchange.status) == ("POST", CHAT, 200)
    inside = dict(gateway.seen[0]["headers"])
    assert inside[b"host"] == b"worker.example:8443"
    assert (inside[b"authorization"], inside[b"strongroom-credit"]) == (b"Bearer me", b"c")
    assert not {b"cookie", b"x-device", b"user-agent"} & set(inside)
    wire = gateway.on_the_wire[0]
    assert (wire.method, wire.path) == ("POST", ohttp.GATEWAY_PATH)
    assert CANARY.encode() not in wire.body
    outer = {name.lower(): value for name, value in wire.headers}
    assert outer[b"host"] == b"relay.example"
    assert not {b"authorization", b"cookie", b"user-agent", b"strongroom-credit"} & set(outer)


def test_the_adapter_for_httpx_is_the_same_code_under_another_name():
    ours, theirs = (Path(inspect.getfile(module)).read_text() for module in (relayed, relayed_httpx))
    start = "from __future__"
    assert theirs[theirs.index(start) :] == ours[ours.index(start) :].replace("httpx2", "httpx")


def test_streams_errors_and_requests_without_a_body_come_back_as_they_are(gateway, ask):
    streamed = ask("POST", CHAT, json={"stream": True})
    assert streamed.text.count("data: ") == 3
    assert streamed.headers["content-type"].startswith("text/event-stream")
    assert len(ask.exchanges) == 1
    assert ask("POST", CHAT, json={"status": 404}).status_code == 404
    assert ask("GET", "/v1/models").json() == {"data": []}
    assert len(ask.exchanges) == 1
    assert {len(request.body) % 512 for request in gateway.on_the_wire} == {len(gateway.on_the_wire[0].body) % 512}


def test_an_answer_cut_changed_or_without_its_receipt_never_ends_well(gateway, ask):
    def cut(answer: Any) -> None:
        answer.pieces.pop()

    def change(answer: Any) -> None:
        answer.pieces[1] = answer.pieces[1][:-1] + bytes([answer.pieces[1][-1] ^ 1])

    def swap(answer: Any) -> None:
        answer.pieces[1], answer.pieces[2] = answer.pieces[2], answer.pieces[1]

    def empty(answer: Any) -> None:
        answer.pieces.clear()

    for tamper, error in (
        (cut, StreamTruncated),
        (change, ChannelRefused),
        (swap, ChannelRefused),
        (empty, ChannelRefused),
    ):
        gateway.tamper = tamper
        with pytest.raises(error):
            ask("POST", CHAT, json={"stream": True})
    assert ask.exchanges == []

    def doubt(_: Any) -> None:
        raise ChannelRefused("the receipt does not hold")

    gateway.tamper = lambda _: None
    with pytest.raises(ChannelRefused, match="does not hold"):
        ask("POST", CHAT, json={}, check=doubt)


def test_what_a_relay_or_a_stranger_answers_is_never_taken_for_the_workers_word(gateway, ask):
    def answering(status: int, kind: str, body: bytes) -> None:
        def tamper(answer: Any) -> None:
            answer.status, answer.headers, answer.pieces = status, [(b"content-type", kind.encode())], [body]

        gateway.tamper = tamper

    answering(200, "application/json", b'{"echo":"lie"}')
    with pytest.raises(ChannelRefused):
        ask("POST", CHAT, json={})
    answering(200, ohttp.CHUNKED_RESPONSE_TYPE, bytes(100))
    with pytest.raises((ChannelRefused, MalformedMessage)):
        ask("POST", CHAT, json={})
    answering(503, "application/problem+json", b"{}")
    with pytest.raises(ServiceUnavailable):
        ask("POST", CHAT, json={})
    answering(418, "text/plain", b"[" * 100_000)
    with pytest.raises(ChannelRefused):
        ask("POST", CHAT, json={})


def test_a_stale_key_and_a_replay_have_their_own_errors(gateway, ask, make_gateway):
    with pytest.raises(ChannelKeyMismatch):
        ask("POST", CHAT, json={}, public=make_gateway().public)
    gateway.sent_twice = True
    with pytest.raises(RequestReplayed):
        ask("POST", CHAT, json={})
