"""Version 2 from end to end, through real HTTP clients (httpx2 and httpx, each sync and async), attacked on the wire."""

import asyncio
import dataclasses
import json
import logging
from collections.abc import Callable, Mapping
from typing import Any

import httpx
import httpx2
import pytest

from strongroom.channel import client, ehbp, exchange_v2, httpx_adapter, server_v2, v2
from strongroom.channel.exchange import Exchange
from strongroom.channel.replay import UsedEncapsulations
from strongroom.crypto.hpke import ReleaseKey
from strongroom.errors import (
    ChannelKeyMismatch,
    ChannelRefused,
    ChannelStripped,
    MalformedMessage,
    RequestReplayed,
    StreamTruncated,
    StrongroomError,
    WorkerBusy,
)
from strongroom.records.digest import digest_bytes
from strongroom.records.worker import Keyset

URL = "http://worker.test/v1/chat/completions"
ADAPTERS = {httpx2: client, httpx: httpx_adapter}
PRIVATE = ReleaseKey.generate()
KEYSET = digest_bytes(b"a keyset")


def listens(app: Any, seen: list[Any]) -> Any:
    """`app`, with the scopes that reach it kept, and a path whose answer has headers of its own."""

    async def application(scope: dict[str, Any], receive: Any, send: Any) -> None:
        seen.append(scope)
        if scope["path"] == "/teapot":
            headers = [(b"Content-Type", b"text/plain"), (b"X-Canary", b"canary"), (b"Connection", b"close")]
            await send({"type": "http.response.start", "status": 418, "headers": headers})
            await send({"type": "http.response.body", "body": b"canary", "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
            return
        await app(scope, receive, send)

    return application


@dataclasses.dataclass
class Place:
    """A worker of both versions, what its application saw, and a user of it."""

    worker: Any
    seen: list[Any]
    library: Any
    asynchronous: bool
    exchanges: list[Exchange] = dataclasses.field(default_factory=list)
    peer: v2.Peer | None = dataclasses.field(default_factory=lambda: v2.Peer(PRIVATE.public, KEYSET))
    pieces: list[bytes] = dataclasses.field(default_factory=list)

    def send(self, method: str, url: str, **options: Any) -> Any:
        return asyncio.run(self._async(method, url, options)) if self.asynchronous else self._sync(method, url, options)

    def _settings(self) -> dict[str, Any]:
        return {"on_exchange": self.exchanges.append, "clear_paths": {"/v1/models"}, "v2": self.peer}

    def _sync(self, method: str, url: str, options: Any) -> Any:
        inner = self.worker.transport(self.library)
        transport = ADAPTERS[self.library].SealedTransport(inner, self.worker.public, **self._settings())
        with self.library.Client(transport=transport) as http, http.stream(method, url, **options) as response:
            self.pieces = []
            for piece in response.iter_bytes():
                self.pieces.append(piece)
            return response

    async def _async(self, method: str, url: str, options: Any) -> Any:
        inner = self.worker.async_transport(self.library)
        transport: Any = ADAPTERS[self.library].AsyncSealedTransport(inner, self.worker.public, **self._settings())
        async with (
            self.library.AsyncClient(transport=transport) as http,
            http.stream(method, url, **options) as response,
        ):
            self.pieces = []
            async for piece in response.aiter_bytes():
                self.pieces.append(piece)
            return response

    def post(self, **body: Any) -> Any:
        return self.send("POST", URL, json={"prompt": "canary", **body})

    def refused(self, error: type[StrongroomError], **body: Any) -> StrongroomError:
        with pytest.raises(error) as caught:
            self.post(**body)
        assert type(caught.value) is error
        assert self.exchanges == []
        assert self.worker.closed >= 1
        return caught.value


WAYS = [(httpx2, False), (httpx2, True), (httpx, False), (httpx, True)]


@pytest.fixture(params=WAYS, ids=["httpx2", "httpx2-async", "httpx", "httpx-async"])
def place(request: pytest.FixtureRequest, make_worker: Any) -> Place:
    return made(make_worker, *request.param)


def made(make_worker: Any, library: Any = httpx2, asynchronous: bool = False, **options: Any) -> Place:  # noqa: FBT001, FBT002 (a way)
    seen: list[Any] = []
    sealed = server_v2.SealedMiddleware(listens(make_worker.chat, seen), PRIVATE, KEYSET, **options)
    return Place(make_worker(app=sealed), seen, library, asynchronous)


def test_an_answer_arrives_with_its_proof_and_the_wire_shows_one_path(place: Place):
    response = place.post()
    assert response.status_code == 200
    assert json.loads(b"".join(place.pieces))["echo"] == "canary"
    (seen,) = place.exchanges
    assert (seen.method, seen.path, seen.status, seen.content_type) == (
        "POST", "/v1/chat/completions", 200, "application/json",
    )  # fmt: skip
    assert seen.sealed_receipt == seen.response_sha256
    (sent,) = place.worker.on_the_wire
    assert (sent.method, sent.path) == ("POST", "/.well-known/strongroom/sealed")
    names = {name.lower() for name, _ in sent.headers}
    assert names == {
        b"host", b"connection", b"accept-encoding", b"content-type", b"content-length", b"strongroom-keyset",
    }  # fmt: skip


def test_method_path_query_and_credentials_go_inside_and_nowhere_else(place: Place):
    headers = {"Authorization": "Bearer canary", "X-Api-Key": "canary", "User-Agent": "canary", "Cookie": "canary"}
    response = place.send("DELETE", "http://worker.test/teapot?who=canary", headers=headers)
    assert (response.status_code, response.headers["x-canary"], b"".join(place.pieces)) == (418, "canary", b"canary")
    assert "connection" not in response.headers
    (sent,) = place.worker.on_the_wire
    assert b"canary" not in sent.body + b"".join(name + value for name, value in sent.headers)
    (scope,) = place.seen
    assert (scope["method"], scope["path"], scope["raw_path"], scope["query_string"]) == (
        "DELETE", "/teapot", b"/teapot", b"who=canary",
    )  # fmt: skip
    inside = dict(scope["headers"])
    assert inside[b"authorization"] == b"Bearer canary"
    assert inside[b"content-length"] == b"0"
    assert scope["strongroom.sealed"] is True
    assert scope["extensions"] == {}
    assert not {b"host", b"strongroom-keyset", b"connection"} & set(inside)


def test_a_request_without_a_body_is_sealed_and_its_answer_trusted(place: Place):
    response = place.send("GET", "http://worker.test/v1/models")
    assert b"".join(place.pieces) == b'{"data":[]}'
    assert "strongroom-untrusted" not in response.headers
    assert place.worker.on_the_wire[0].path == v2.PATH


def test_a_stream_arrives_piece_by_piece(place: Place):
    place.post(stream=True)
    assert len(place.pieces) == 3
    assert place.pieces[0].startswith(b'data: {"token":"The"}')
    assert place.pieces[2].startswith(b"data: [DONE]")
    assert len(place.exchanges) == 1


def test_an_error_of_the_application_is_sealed_with_its_status(place: Place):
    response = place.post(status=404)
    assert response.status_code == 404
    assert b"no such model" in b"".join(place.pieces)
    assert place.exchanges == []


@pytest.mark.parametrize("kept", range(5))
def test_a_stream_cut_at_any_frame_is_truncated_and_its_end_is_never_shown(place: Place, kept: int):
    def cut(answer: Any) -> None:
        assert len(answer.pieces) == 5
        del answer.pieces[kept:]

    place.worker.tamper = cut
    place.refused(StreamTruncated, stream=True)
    assert b"[DONE]" not in b"".join(place.pieces)


def test_an_answer_without_a_body_cut_before_its_end_is_truncated(place: Place):
    place.worker.tamper = lambda answer: answer.pieces.pop()
    with pytest.raises(StreamTruncated):
        place.send("GET", "http://worker.test/v1/models")


@pytest.mark.parametrize("index", range(5))
def test_a_flipped_bit_in_any_frame_is_refused(place: Place, index: int):
    def flip(answer: Any) -> None:
        piece = answer.pieces[index]
        answer.pieces[index] = piece[:-1] + bytes([piece[-1] ^ 1])

    place.worker.tamper = flip
    place.refused(ChannelRefused, stream=True)


def test_bytes_after_the_end_are_refused(place: Place):
    place.worker.tamper = lambda answer: answer.pieces.append(b"\0")
    place.refused(MalformedMessage, stream=True)


def test_an_answer_to_another_request_is_refused(place: Place):
    kept: list[Any] = []

    def swap(answer: Any) -> None:
        kept.append(list(answer.pieces))
        answer.pieces[:] = kept[0]

    place.worker.tamper = swap
    place.post()
    place.exchanges.clear()
    place.refused(ChannelRefused)


def test_another_worker_behind_the_address_means_verify_again(place: Place):
    place.peer = v2.Peer(ReleaseKey.generate().public, digest_bytes(b"another keyset"))
    assert "Verify the worker again" in place.refused(ChannelKeyMismatch).remedy


def test_a_request_sent_twice_is_refused_the_second_time(place: Place):
    place.worker.sent_twice = True
    place.refused(RequestReplayed)


FORGED: Mapping[str, tuple[int, str, bytes, type[StrongroomError]]] = {
    "not found": (404, "text/html", b"", ChannelStripped),
    "no such method": (405, "text/html", b"", ChannelStripped),
    "not implemented": (501, "text/html", b"", ChannelStripped),
    "in the clear": (200, "application/json", b'{"echo":"forged"}', ChannelRefused),
    "sealed, it says": (200, v2.MEDIA_TYPE, b"forged", StreamTruncated),
    "sealed, it says, at length": (200, v2.MEDIA_TYPE, bytes(1000), MalformedMessage),
    "elsewhere": (307, "text/plain", b"", ChannelRefused),
    "busy": (503, "text/html", b"", WorkerBusy),
    "replayed": (409, "application/problem+json", b'{"code":"channel.replayed"}', RequestReplayed),
}


@pytest.mark.parametrize("case", FORGED)
def test_what_somebody_on_the_way_answers_is_refused(place: Place, case: str):
    status, kind, body, error = FORGED[case]

    def forge(answer: Any) -> None:
        answer.status, answer.headers, answer.pieces = status, [(b"content-type", kind.encode())], [body]

    place.worker.tamper = forge
    place.refused(error)


def test_an_answer_in_version_1_is_a_stripped_one(place: Place):
    def downgrade(answer: Any) -> None:
        answer.headers = [(b"content-type", b"application/json"), (ehbp.NONCE_HEADER.encode(), b"00" * 32)]

    place.worker.tamper = downgrade
    error = place.refused(ChannelStripped)
    assert error.code == "channel.stripped"
    assert len(place.worker.on_the_wire) == 1


def test_without_a_peer_version_1_is_spoken(place: Place):
    place.peer = None
    place.post()
    assert place.worker.on_the_wire[0].path == "/v1/chat/completions"


def test_what_is_no_plain_http_is_not_sealed(place: Place):
    with pytest.raises(ChannelRefused):
        place.send("BREW", URL + "?" + "a" * 9000)
    assert place.worker.on_the_wire == []


def keyset(channels: tuple[str, ...]) -> Keyset:
    channel_v2 = PRIVATE.public if v2.VERSION in channels else None
    return Keyset(bytes(32), bytes(1216), bytes(32), None, channels, 1, channel_v2)


def test_the_version_is_chosen_by_the_verified_keyset():
    both = keyset((v2.VERSION, ehbp.VERSION))
    assert exchange_v2.peer_of(both) == v2.Peer(PRIVATE.public, both.digest)
    assert exchange_v2.peer_of(keyset((ehbp.VERSION, v2.VERSION))) is not None
    assert exchange_v2.peer_of(keyset((ehbp.VERSION,))) is None
    with pytest.raises(ChannelRefused):
        exchange_v2.peer_of(keyset(("strongroom/3",)))


@pytest.mark.parametrize("change", [{"channel_v2": None}, {"channels": ("ehbp/1",)}, {"channel_v2": bytes(32)}])
def test_a_keyset_cannot_list_a_version_without_its_key(change: dict[str, Any]):
    with pytest.raises(ValueError, match="key"):
        dataclasses.replace(keyset((v2.VERSION, ehbp.VERSION)), **change)


# The worker's end alone


def ask(place: Place, change: Callable[[dict[bytes, bytes]], None] | None = None, *, body: bytes | None = None) -> Any:
    sealer = v2.RequestSealer.to(v2.Peer(PRIVATE.public, KEYSET))
    content = sealer.seal(b'{"headers":[],"method":"GET","target":"/v1/models"}', b"") if body is None else body
    headers = {b"strongroom-keyset": KEYSET.encode()}
    if change is not None:
        change(headers)
    return place.worker.ask("POST", v2.PATH, list(headers.items()), content)


def test_refusals_of_form_and_cryptography_look_alike(make_worker: Any):
    place = made(make_worker)
    good = v2.RequestSealer.to(v2.Peer(PRIVATE.public, KEYSET)).seal(b'{"headers":[],"method":"GET","target":"/"}', b"")
    bad_head = v2.RequestSealer.to(v2.Peer(PRIVATE.public, KEYSET)).seal(b"{}", b"")
    bodies = [
        b"",
        good[:500],
        good[:-1],
        good + b"\0",
        bytes([good[0] ^ 1]) + good[1:],
        good[:-1] + bytes([good[-1] ^ 1]),
        bad_head,
    ]
    answers = [ask(place, body=body) for body in bodies]
    assert {(answer.status, answer.body) for answer in answers} == {(400, answers[0].body)}
    assert place.seen == []


def test_the_keyset_is_named_once_and_rightly(make_worker: Any):
    place = made(make_worker)
    assert ask(place, lambda headers: headers.clear()).status == 400
    assert ask(place, lambda headers: headers.update({b"Strongroom-Keyset": KEYSET.encode()})).status == 400
    wrong = ask(place, lambda headers: headers.update({b"strongroom-keyset": b"sha256:" + b"0" * 64}))
    assert wrong.status == 422
    assert json.loads(wrong.body)["type"] == ehbp.KEY_CONFIG_PROBLEM
    assert ask(place).status == 200


def test_only_posts_are_opened_and_only_there(make_worker: Any):
    place = made(make_worker)
    assert place.worker.ask("GET", v2.PATH, [(b"strongroom-keyset", KEYSET.encode())], b"").status == 400
    sealer = v2.RequestSealer.to(v2.Peer(PRIVATE.public, KEYSET))
    place.worker.ask("POST", "/elsewhere", [], sealer.seal(b"{}", b""))
    assert [scope["strongroom.sealed"] for scope in place.seen] == [False]


def test_what_came_sealed_by_version_1_is_not_opened_again(make_worker: Any):
    place = made(make_worker)
    inside = v2.RequestSealer.to(v2.Peer(PRIVATE.public, KEYSET)).seal(
        b'{"headers":[],"method":"GET","target":"/x"}', b""
    )
    outside = ehbp.RequestSealer(place.worker.public)
    headers = [
        (b"ehbp-encapsulated-key", outside.encapsulation.hex().encode()),
        (b"strongroom-keyset", KEYSET.encode()),
    ]
    place.worker.ask("POST", v2.PATH, headers, outside.seal(inside))
    assert [scope["path"] for scope in place.seen] == [v2.PATH]


def test_a_body_over_the_limit_is_refused_before_it_is_opened(make_worker: Any):
    place = made(make_worker, max_body=1000)
    assert ask(place).status == 413
    assert ask(place, lambda headers: headers.update({b"content-length": b"1001"}), body=b"").status == 413
    assert place.seen == []


def test_a_full_memory_of_requests_is_unavailable(make_worker: Any):
    place = made(make_worker, used=UsedEncapsulations(capacity=1))
    assert [ask(place).status, ask(place).status] == [200, 503]


def test_failures_of_the_application_say_nothing_of_it(place: Place, caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.DEBUG):
        response = place.post(fail="before")
    assert response.status_code == 500
    assert b"canary" not in b"".join(place.pieces)
    place.refused(StreamTruncated, fail="midway", stream=True)
    assert "canary" not in caplog.text


def test_padding_of_answers_is_to_the_workers_bucket(make_worker: Any):
    place = made(make_worker, bucket=4096)
    answer = ask(place)
    assert len(answer.pieces) == 2
    assert [(len(piece) - 23) % 4096 for piece in answer.pieces] == [32, 0]
