"""The worker's end, driven as a server drives it: what is answered, what is refused, what is never said."""

import json
import logging
from typing import Any

import pytest

from strongroom.channel import ehbp
from strongroom.channel.replay import UsedEncapsulations
from strongroom.channel.server import SEALED

CHAT = "/v1/chat/completions"
CANARY = "canary-7f3a"


class Sealed:
    """A request sealed by hand, so that each part of it can be wrong."""

    def __init__(self, public: bytes, **body: Any) -> None:
        self.sealer = ehbp.RequestSealer(public)
        self.body = self.sealer.seal(json.dumps({"prompt": CANARY, **body}).encode())
        self.headers = [
            (b"Content-Type", b"application/json"),
            (b"transfer-encoding", b"chunked"),
            (ehbp.ENCAPSULATION_HEADER.encode(), self.sealer.encapsulation.hex().encode()),
        ]

    def opened(self, answer: Any) -> list[bytes]:
        opener = self.sealer.opener(bytes.fromhex(answer.header(ehbp.NONCE_HEADER)))
        plaintexts = [opener.feed(piece) for piece in answer.pieces]
        opener.finish()
        return plaintexts


def refused(answer: Any, status: int, code: str) -> None:
    """An unsealed problem, which says nothing of the request."""
    assert answer.status == status
    assert answer.header(ehbp.NONCE_HEADER) is None
    assert answer.header("content-type") == "application/problem+json"
    assert json.loads(answer.body)["code"] == code
    assert answer.complete


def test_the_key_configuration_is_served(worker: Any):
    answer = worker.ask("GET", ehbp.KEYS_PATH, [], b"")
    assert (answer.status, answer.header("content-type")) == (200, "application/ohttp-keys")
    assert ehbp.parse_key_config(answer.body) == worker.public


def test_a_sealed_request_is_opened_and_its_answer_sealed(worker: Any):
    request = Sealed(worker.public)
    answer = worker.ask("POST", CHAT, request.headers, request.body)
    assert answer.status == 200
    assert answer.complete
    assert answer.header("content-length") is None
    opened = json.loads(b"".join(request.opened(answer)))
    assert opened["echo"] == CANARY
    assert opened["content_length"] == str(len(json.dumps({"prompt": CANARY})))
    assert CANARY.encode() not in answer.body + request.body


def test_a_stream_is_sealed_piece_by_piece_and_all_pieces_look_alike(worker: Any):
    request = Sealed(worker.public, stream=True)
    answer = worker.ask("POST", CHAT, request.headers, request.body)
    assert len(answer.pieces) == 4
    assert {len(piece) for piece in answer.pieces} == {512 + 4 + 16}
    assert b"".join(request.opened(answer)).startswith(b'data: {"token":"The"}')


def test_requests_in_the_clear_are_answered_in_the_clear_and_marked(worker: Any):
    answer = worker.ask("GET", "/v1/models", [], b"")
    assert (answer.status, answer.body, answer.header(ehbp.NONCE_HEADER)) == (200, b'{"data":[]}', None)
    assert worker.ask("POST", CHAT, [(b"content-type", b"application/json")], b'{"prompt":"x"}').status == 403


def test_a_replayed_request_is_answered_once(worker: Any):
    request = Sealed(worker.public)
    assert worker.ask("POST", CHAT, request.headers, request.body).status == 200
    refused(worker.ask("POST", CHAT, request.headers, request.body), 409, "channel.replayed")
    refused(worker.ask("POST", "/elsewhere", request.headers, request.body), 409, "channel.replayed")


def test_a_request_that_does_not_open_uses_nothing_up(make_worker: Any):
    used = UsedEncapsulations()
    worker = make_worker(used=used)
    request = Sealed(worker.public)
    refused(worker.ask("POST", CHAT, request.headers, request.body[:-1]), 400, "channel.malformed")
    assert len(used) == 0
    assert worker.ask("POST", CHAT, request.headers, request.body).status == 200
    assert len(used) == 1


def test_a_worker_whose_memory_is_full_refuses(make_worker: Any):
    worker = make_worker(used=UsedEncapsulations(capacity=1))
    first, second = Sealed(worker.public), Sealed(worker.public)
    assert worker.ask("POST", CHAT, first.headers, first.body).status == 200
    refused(worker.ask("POST", CHAT, second.headers, second.body), 503, "service.unavailable")


def test_a_request_for_another_key_is_a_key_configuration_problem(worker: Any, make_worker: Any):
    request = Sealed(make_worker().public)
    answer = worker.ask("POST", CHAT, request.headers, request.body)
    refused(answer, 422, "channel.key")
    assert json.loads(answer.body)["type"] == "urn:ietf:params:ehbp:error:key-config"


def test_malformed_requests_all_look_alike(worker: Any):
    request = Sealed(worker.public)
    name = ehbp.ENCAPSULATION_HEADER.encode()
    second = request.sealer.seal(b"more")
    cases = [
        (request.headers, b""),
        (request.headers, bytes(4)),
        (request.headers, request.body[:3]),
        (request.headers, request.body[:-1]),
        (request.headers, b"\xff\xff\xff\xff"),
        (request.headers, (5).to_bytes(4) + b"short"),
        (request.headers, request.body + second[:-1] + bytes([second[-1] ^ 1])),
        ([(name, b"00")], request.body),
        ([(name, b"")], request.body),
        ([(name, bytes(64))], request.body),
        ([(name, b"0" * 64)], request.body),
        ([(name, request.sealer.encapsulation.hex().upper().encode())], request.body),
        ([*request.headers, request.headers[-1]], request.body),
    ]
    answers = [worker.ask("POST", CHAT, headers, body) for headers, body in cases]
    for answer in answers:
        refused(answer, 400, "channel.malformed")
    assert len({answer.body for answer in answers}) == 1


def test_bodies_are_bounded_before_anything_is_opened(make_worker: Any, monkeypatch: pytest.MonkeyPatch):
    worker = make_worker(max_body=1000)
    request = Sealed(worker.public, padding="x" * 1000)
    monkeypatch.delattr(ehbp.RequestOpener, "open")  # any use of it would fail
    refused(worker.ask("POST", CHAT, request.headers, request.body), 413, "channel.refused")
    declared = [*request.headers, (b"content-length", b"1001")]
    refused(worker.ask("POST", CHAT, declared, b""), 413, "channel.refused")


def test_errors_of_the_application_are_sealed_too(worker: Any):
    request = Sealed(worker.public, status=404)
    answer = worker.ask("POST", CHAT, request.headers, request.body)
    assert answer.status == 404
    assert b"no such model" in b"".join(request.opened(answer))


def test_an_exception_becomes_a_sealed_error_and_says_nothing(worker: Any, caplog: pytest.LogCaptureFixture):
    request = Sealed(worker.public, fail="before")
    with caplog.at_level(logging.DEBUG):
        answer = worker.ask("POST", CHAT, request.headers, request.body)
    assert answer.status == 500
    opened = b"".join(request.opened(answer))
    assert json.loads(opened)["status"] == 500
    assert CANARY.encode() not in opened
    assert "RuntimeError" in caplog.text
    assert CANARY not in caplog.text


def test_an_exception_midway_leaves_the_answer_without_an_end(worker: Any, caplog: pytest.LogCaptureFixture):
    request = Sealed(worker.public, stream=True, fail="midway")
    answer = worker.ask("POST", CHAT, request.headers, request.body)
    assert len(answer.pieces) == 1
    assert not answer.complete
    assert CANARY not in caplog.text


def test_the_application_sees_an_ordinary_request_and_no_way_past_the_seal(make_worker: Any):
    seen: dict[str, Any] = {}

    async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
        seen.update(scope, messages=[await receive(), await receive()])
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.zerocopysend", "file": 0})
        await send({"type": "http.response.body"})

    worker = make_worker(app=app)
    request = Sealed(worker.public)
    answer = worker.ask("POST", CHAT, request.headers, request.body)
    plaintext = json.dumps({"prompt": CANARY}).encode()
    assert seen["headers"] == [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(plaintext)).encode()),
    ]
    assert seen["messages"][0] == {"type": "http.request", "body": plaintext, "more_body": False}
    assert seen["messages"][1] == {"type": "http.disconnect"}
    assert seen[SEALED] is True
    assert seen["extensions"] == {}
    assert (answer.status, answer.pieces) == (204, [b""])


def test_two_answers_never_share_a_nonce(worker: Any):
    nonces = set()
    for _ in range(3):
        request = Sealed(worker.public)
        nonces.add(worker.ask("POST", CHAT, request.headers, request.body).header(ehbp.NONCE_HEADER))
    assert len(nonces) == 3
