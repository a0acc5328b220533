"""The user's end through real HTTP clients (httpx2 and httpx, each sync and async), with an attacker on the wire."""

import asyncio
import hashlib
import inspect
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import httpx2
import pytest

from strongroom.channel import client, ehbp, exchange, httpx_adapter
from strongroom.channel.exchange import Exchange
from strongroom.errors import (
    ChannelKeyMismatch,
    ChannelRefused,
    MalformedMessage,
    ReceiptInvalid,
    RequestReplayed,
    ServiceUnavailable,
    StreamTruncated,
    StrongroomError,
    WorkerBusy,
)

URL = "http://worker.test/v1/chat/completions"
ADAPTERS = {httpx2: client, httpx: httpx_adapter}


class User:
    """One way of being a client: `post` gives the status and the pieces that arrived before an error, if any."""

    def __init__(self, library: Any, *, asynchronous: bool) -> None:
        self.library: Any = library
        self.adapter: Any = ADAPTERS[library]
        self.asynchronous = asynchronous
        self.exchanges: list[Exchange] = []
        self.on_exchange: Callable[[Exchange], None] = self.exchanges.append
        self.pieces: list[bytes] = []

    def send(self, worker: Any, method: str, url: str, public: bytes | None = None, **options: Any) -> Any:
        key = public if public is not None else worker.public
        settings = {"on_exchange": self.on_exchange, "clear_paths": {"/v1/models"}}
        self.pieces.clear()
        if self.asynchronous:
            return asyncio.run(self._send_async(worker, key, settings, method, url, options))
        transport = self.adapter.SealedTransport(worker.transport(self.library), key, **settings)
        with self.library.Client(transport=transport) as http, http.stream(method, url, **options) as response:
            for piece in response.iter_bytes():
                self.pieces.append(piece)
            return response

    async def _send_async(self, worker: Any, key: bytes, settings: Any, method: str, url: str, options: Any) -> Any:
        transport = self.adapter.AsyncSealedTransport(worker.async_transport(self.library), key, **settings)
        async with (
            self.library.AsyncClient(transport=transport) as http,
            http.stream(method, url, **options) as response,
        ):
            async for piece in response.aiter_bytes():
                self.pieces.append(piece)
            return response

    def post(self, worker: Any, public: bytes | None = None, **body: Any) -> Any:
        return self.send(worker, "POST", URL, public, json={"prompt": "canary", **body})

    def refused(self, worker: Any, error: type[StrongroomError], **body: Any) -> StrongroomError:
        with pytest.raises(error) as caught:
            self.post(worker, **body)
        assert type(caught.value) is error
        assert self.exchanges == []
        assert worker.closed >= 1
        return caught.value


@pytest.fixture(
    params=[(httpx2, False), (httpx2, True), (httpx, False), (httpx, True)],
    ids=["httpx2", "httpx2-async", "httpx", "httpx-async"],
)
def user(request: pytest.FixtureRequest) -> User:
    library, asynchronous = request.param
    return User(library, asynchronous=asynchronous)


def forge(answer: Any, status: int, content_type: str, body: bytes) -> None:
    """An attacker's answer in place of the worker's."""
    answer.status, answer.headers, answer.pieces = status, [(b"content-type", content_type.encode())], [body]


def test_an_answer_arrives_with_its_proof(user: User, worker: Any):
    response = user.post(worker)
    assert response.status_code == 200
    body = b"".join(user.pieces)
    assert json.loads(body)["echo"] == "canary"
    (seen,) = user.exchanges
    assert (seen.method, seen.path, seen.status) == ("POST", "/v1/chat/completions", 200)
    assert seen.content_type == "application/json"
    assert seen.sealed_receipt == seen.response_sha256
    assert worker.closed == 1


def test_the_hash_of_the_request_is_that_of_what_the_worker_read(user: User, worker: Any):
    user.post(worker)
    (sent,) = worker.on_the_wire
    encapsulation = next(value for name, value in sent.headers if name == b"ehbp-encapsulated-key")
    plaintext = ehbp.RequestOpener.from_header(worker.private, encapsulation.decode()).open(sent.body)
    assert user.exchanges[0].request_sha256 == hashlib.sha256(plaintext).digest()
    assert len(plaintext) % 512 == 0
    assert json.loads(plaintext) == {"prompt": "canary"}


def test_a_stream_arrives_piece_by_piece_and_its_end_with_its_proof(user: User, worker: Any):
    user.post(worker, stream=True)
    assert len(user.pieces) == 3
    assert user.pieces[0].startswith(b'data: {"token":"The"}')
    assert user.pieces[2].startswith(b"data: [DONE]")
    (seen,) = user.exchanges
    assert seen.content_type == "text/event-stream"
    assert seen.sealed_receipt == seen.response_sha256


def test_nothing_secret_and_no_credential_is_on_the_wire(user: User, worker: Any):
    headers = {"Authorization": "Bearer canary", "Cookie": "canary", "X-Api-Key": "canary", "X-Custom": "canary"}
    user.send(worker, "POST", URL, json={"prompt": "canary"}, headers=headers)
    (sent,) = worker.on_the_wire
    assert b"canary" not in sent.body
    assert b"canary" not in b"".join(name + value for name, value in sent.headers)
    names = {name.lower() for name, _ in sent.headers}
    assert names <= {
        b"host", b"accept", b"accept-encoding", b"connection", b"content-type", b"user-agent",
        b"transfer-encoding", b"ehbp-encapsulated-key",
    }  # fmt: skip


def test_a_body_without_content_length_is_sealed_too(user: User, worker: Any):
    async def later() -> Any:
        yield b'{"prompt":'
        yield b'"canary"}'

    def now() -> Iterator[bytes]:
        yield b'{"prompt":'
        yield b'"canary"}'

    user.send(worker, "POST", URL, content=later() if user.asynchronous else now())
    assert b"canary" not in worker.on_the_wire[0].body
    assert len(user.exchanges) == 1


def test_a_request_that_lies_about_being_empty_is_sealed_all_the_same(user: User, worker: Any):
    user.send(worker, "POST", URL, content=b'{"prompt":"canary"}', headers={"content-length": "0"})
    assert b"canary" not in worker.on_the_wire[0].body


def test_requests_in_the_clear_go_only_where_allowed_and_come_back_marked(user: User, worker: Any):
    response = user.send(worker, "GET", "http://worker.test/v1/models", headers={"Authorization": "Bearer canary"})
    assert response.headers["strongroom-untrusted"] == "1"
    assert b"canary" not in b"".join(value for _, value in worker.on_the_wire[0].headers)
    for method, url in (("GET", URL), ("POST", "http://worker.test/v1/models"), ("DELETE", URL)):
        with pytest.raises(ChannelRefused):
            user.send(worker, method, url)
    assert len(worker.on_the_wire) == 1


@pytest.mark.parametrize("kept", range(4))
def test_a_stream_cut_at_any_frame_is_truncated_and_its_end_is_never_shown(user: User, worker: Any, kept: int):
    def cut(answer: Any) -> None:
        assert len(answer.pieces) == 4
        del answer.pieces[kept:]

    worker.tamper = cut
    user.refused(worker, StreamTruncated, stream=True)
    assert len(user.pieces) == min(kept, 2)
    assert b"[DONE]" not in b"".join(user.pieces)


def test_a_document_cut_at_its_frame_is_truncated(user: User, worker: Any):
    worker.tamper = lambda answer: answer.pieces.clear()
    user.refused(worker, StreamTruncated)


@pytest.mark.parametrize("stream", [True, False])
def test_an_answer_cut_inside_a_frame_is_truncated(user: User, worker: Any, stream: bool):  # noqa: FBT001 (a case)
    def cut(answer: Any) -> None:
        answer.pieces[-1] = answer.pieces[-1][:-1]

    worker.tamper = cut
    user.refused(worker, StreamTruncated, stream=stream)


@pytest.mark.parametrize("index", range(4))
def test_a_flipped_bit_in_any_frame_is_refused(user: User, worker: Any, index: int):
    def flip(answer: Any) -> None:
        piece = answer.pieces[index]
        answer.pieces[index] = piece[:-1] + bytes([piece[-1] ^ 1])

    worker.tamper = flip
    user.refused(worker, ChannelRefused, stream=True)
    assert len(user.pieces) == min(index, 2)


def test_frames_in_another_order_are_refused(user: User, worker: Any):
    worker.tamper = lambda answer: answer.pieces.reverse()
    user.refused(worker, ChannelRefused, stream=True)


def test_a_swapped_key_means_verify_again(user: User, worker: Any, make_worker: Any):
    error = user.refused(worker, ChannelKeyMismatch, public=make_worker().public)
    assert "Verify the worker again" in error.remedy


def test_a_request_sent_twice_is_refused_the_second_time(user: User, worker: Any):
    worker.sent_twice = True
    user.refused(worker, RequestReplayed)


def test_a_success_that_is_not_sealed_is_refused(user: User, worker: Any):
    worker.tamper = lambda answer: forge(answer, 200, "application/json", b'{"echo":"forged"}')
    user.refused(worker, ChannelRefused)
    assert user.pieces == []


def test_a_success_whose_type_cannot_prove_its_end_is_refused(user: User, worker: Any):
    def retype(answer: Any) -> None:
        answer.headers = [h for h in answer.headers if h[0] != b"content-type"] + [(b"content-type", b"text/plain")]

    worker.tamper = retype
    user.refused(worker, ChannelRefused)


def test_a_type_changed_on_the_way_makes_no_end(user: User, worker: Any):
    def retype(answer: Any) -> None:
        swap = [(b"content-type", b"application/json")]
        answer.headers = [h for h in answer.headers if h[0] != b"content-type"] + swap

    worker.tamper = retype
    user.refused(worker, StreamTruncated, stream=True)


@pytest.mark.parametrize("nonce", [b"", b"00", b"z" * 64, b"0" * 66])
def test_a_nonce_that_is_none_is_malformed(user: User, worker: Any, nonce: bytes):
    def change(answer: Any) -> None:
        answer.headers = [h for h in answer.headers if h[0] != b"ehbp-response-nonce"]
        answer.headers.append((b"ehbp-response-nonce", nonce))

    worker.tamper = change
    user.refused(worker, MalformedMessage)


def test_two_nonces_are_malformed(user: User, worker: Any):
    worker.tamper = lambda answer: answer.headers.append((b"ehbp-response-nonce", b"0" * 64))
    user.refused(worker, MalformedMessage)


@pytest.mark.parametrize(
    ("status", "content_type", "body", "error"),
    [
        (422, "application/problem+json", b'{"type":"urn:ietf:params:ehbp:error:key-config"}', ChannelKeyMismatch),
        (422, "application/problem+json; charset=utf-8", b'{"type":"something else"}', ChannelRefused),
        (422, "application/json", b'{"type":"urn:ietf:params:ehbp:error:key-config"}', ChannelRefused),
        (422, "application/problem+json", b"[" * 100_000, ChannelRefused),
        (400, "application/problem+json", b'["channel.replayed"]', ChannelRefused),
        (409, "application/problem+json", b'{"code":"channel.replayed"}', RequestReplayed),
        (307, "text/plain", b"", ChannelRefused),
        (401, "text/html", b"<canary>", ChannelRefused),
        (429, "text/html", b"", WorkerBusy),
        (502, "text/html", b"", ServiceUnavailable),
        (503, "text/html", b"", WorkerBusy),
        (504, "text/html", b"", ServiceUnavailable),
        (500, "text/html", b"", ChannelRefused),
    ],
)
def test_unsealed_refusals_become_errors_and_their_text_is_not_repeated(
    user: User, worker: Any, status: int, content_type: str, body: bytes, error: type[StrongroomError]
):
    worker.tamper = lambda answer: forge(answer, status, content_type, body)
    raised = user.refused(worker, error)
    assert "canary" not in str(raised.as_dict())


def test_only_the_beginning_of_an_unsealed_answer_is_read(user: User, worker: Any):
    def endless(answer: Any) -> None:
        forge(answer, 500, "text/plain", b"")
        answer.pieces = Endless()

    worker.tamper = endless
    user.refused(worker, ChannelRefused)


class Endless(list[bytes]):
    """Far more pieces than anybody should read."""

    def __iter__(self) -> Iterator[bytes]:
        for count in range(1000):
            assert count < 100, "read on and on"
            yield bytes(1024)


def test_a_sealed_error_of_the_worker_is_handed_on(user: User, worker: Any):
    assert user.post(worker, status=404).status_code == 404
    assert b"no such model" in b"".join(user.pieces)
    assert user.exchanges == []


def test_a_receipt_that_is_refused_ends_the_answer_before_its_end(user: User, worker: Any):
    def refuse(_: Exchange) -> None:
        raise ReceiptInvalid("forged")

    user.on_exchange = refuse
    user.refused(worker, ReceiptInvalid, stream=True)
    assert b"[DONE]" not in b"".join(user.pieces)


def test_compression_and_cookies_of_the_way_are_dropped(user: User, worker: Any):
    worker.tamper = lambda answer: answer.headers.extend([(b"content-encoding", b"gzip"), (b"set-cookie", b"a=b")])
    response = user.post(worker)
    assert "set-cookie" not in response.headers
    assert json.loads(b"".join(user.pieces))["echo"] == "canary"


def test_requests_without_measure_are_refused(user: User, worker: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(exchange, "MAX_REQUEST", 100)
    with pytest.raises(ChannelRefused):
        user.post(worker, padding="x" * 100)
    assert worker.on_the_wire == []


def test_a_channel_key_that_is_none_is_refused(user: User, worker: Any):
    with pytest.raises(MalformedMessage):
        user.post(worker, public=bytes(31))
    assert worker.on_the_wire == []


def test_closing_the_transport_closes_the_one_beneath():
    closed: list[str] = []

    def inner(library: ModuleType) -> Any:
        class Sync(library.BaseTransport):  # type: ignore[misc,name-defined]
            def close(self) -> None:
                closed.append(library.__name__)

        class Async(library.AsyncBaseTransport):  # type: ignore[misc,name-defined]
            async def aclose(self) -> None:
                closed.append(library.__name__)

        return Sync(), Async()

    for library, adapter in ADAPTERS.items():
        sync, asynchronous = inner(library)
        adapter.SealedTransport(sync, bytes(32), on_exchange=print).close()
        asyncio.run(adapter.AsyncSealedTransport(asynchronous, bytes(32), on_exchange=print).aclose())
    assert closed == ["httpx2", "httpx2", "httpx", "httpx"]


def test_the_adapter_for_httpx_is_the_same_code_under_another_name():
    ours, theirs = (Path(inspect.getfile(module)).read_text() for module in (client, httpx_adapter))
    start = "from __future__"
    assert theirs[theirs.index(start) :] == ours[ours.index(start) :].replace("httpx2", "httpx")
