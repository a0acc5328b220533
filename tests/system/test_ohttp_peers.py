"""Oblivious HTTP with a peer: the `tng` gateway of tng-sdk, as a client of our worker and as a server to our client.

tng seals draft-conformant chunked requests, but asks for keys in JSON and puts a header before each request. The small
adapter here speaks that dialect, in both directions; what is between it and our side is the draft's own bytes.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from strongroom.channel import completion, ohttp, padding
from strongroom.channel.ohttp_server import OhttpMiddleware
from strongroom.channel.relayed import Relay, RelayedTransport
from strongroom.channel.server import SEALED
from strongroom.services.server import BackgroundServer

TNG = Path(sys.executable).with_name("tng")
API = "x-tng-ohttp-api"
CHAT = "/v1/chat/completions"
WORDS = ["The", " capital", " of", " France"]

pytestmark = pytest.mark.skipif(not TNG.exists(), reason="missing program: tng (of the package tng-sdk)")


def application(seen: list[Any]) -> Starlette:
    """A small chat, streamed or not, whose receipts are the SHA-256 of what they cover."""

    async def chat(request: Request) -> Response:
        body = await request.body()
        seen.append((request.scope.get(SEALED), request.url.path, request.url.query, body))
        if json.loads(body).get("stream"):
            return StreamingResponse(events(), media_type="text/event-stream")
        answer = json.dumps({"echo": json.loads(body)["q"]}).encode()
        return Response(
            completion.append_to_json(answer, hashlib.sha256(answer).digest()), media_type="application/json"
        )

    async def events() -> AsyncIterator[bytes]:
        committed = hashlib.sha256()
        for event in [*(b'data: {"token":"%s"}\n\n' % word.encode() for word in WORDS), b"data: [DONE]\n\n"]:
            padded = padding.pad_event(event)
            committed.update(padded)
            yield padded
        yield padding.pad_event(completion.sse_trailer(committed.digest()))

    async def models(request: Request) -> Response:
        seen.append((request.scope.get(SEALED), request.url.path, request.url.query, b""))
        return JSONResponse({"data": []})

    return Starlette(routes=[Route(CHAT, chat, methods=["POST"]), Route("/v1/models", models)])


def from_tng(worker: str, cut: list[bool]) -> Starlette:
    """The dialect of tng before our worker: keys as JSON, a header before each request. `cut` breaks answers off."""

    async def one(request: Request) -> Response:
        body = await request.body()
        async with httpx2.AsyncClient(base_url=worker) as http:
            if request.headers[API] == "/tng/key-config":
                keys = (await http.get(ohttp.GATEWAY_PATH)).content
                config = {
                    "expire_timestamp": int(time.time()) + 300,
                    "encoded_key_config_list": base64.b64encode(keys).decode(),
                }
                return JSONResponse({"hpke_key_config": config, "attestation_info": None})
            header = 4 + int.from_bytes(body[:4])
            headers = {"content-type": request.headers["content-type"]}
            answer = await http.post(ohttp.GATEWAY_PATH, content=body[header:], headers=headers)
        content = answer.content[:-600] if cut else answer.content
        return Response(content, answer.status_code, media_type=answer.headers["content-type"])

    return Starlette(routes=[Route("/{path:path}", one, methods=["POST"])])


def to_tng(egress: str, public: bytes) -> Starlette:
    """The draft's bytes from our client, into tng's dialect: its protobuf {no_auth: {}, key_config_hint: {public_key}}."""
    hint = b"\x0a\x00\x1a\x22\x0a\x20" + public

    async def one(request: Request) -> Response:
        headers = {"content-type": request.headers["content-type"], API: "/tng/tunnel"}
        async with httpx2.AsyncClient() as http:
            answer = await http.post(
                egress, content=len(hint).to_bytes(4) + hint + await request.body(), headers=headers
            )
        return Response(answer.content, answer.status_code, media_type=answer.headers["content-type"])

    return Starlette(routes=[Route(ohttp.GATEWAY_PATH, one, methods=["POST"])])


class AbsoluteForm:
    """Here tng asks in absolute form (RFC 9112, section 3.2.2) where the inner request names scheme and authority."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope.get("path", "").startswith("http://"):
            scope["path"] = "/" + scope["path"].split("/", 3)[3]
        await self.app(scope, receive, send)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def tng(kind: str, port_in: int, port_out: int, log: Path) -> Iterator[None]:
    """A tng process that maps one port to another, without attestation."""
    mapping = {"in": {"host": "127.0.0.1", "port": port_in}, "out": {"host": "127.0.0.1", "port": port_out}}
    config = {kind: [{"mapping": mapping, "ohttp": {}, "no_ra": True}]}
    with log.open("wb") as output:
        process = subprocess.Popen(
            [TNG, "launch", "--config-content", json.dumps(config)], stdout=output, stderr=subprocess.STDOUT
        )
    try:
        for _ in range(300):
            assert process.poll() is None, log.read_text()[-2000:]
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port_in), 1):
                break
            time.sleep(0.1)
        else:
            pytest.fail(f"tng does not listen\n{log.read_text()[-2000:]}")
        yield
    finally:
        process.terminate()
        process.wait(30)


@pytest.fixture
def worker() -> Iterator[tuple[str, list[Any]]]:
    private, seen = X25519PrivateKey.generate(), list[Any]()
    app = application(seen)
    with BackgroundServer(OhttpMiddleware(app, app, private)) as server:  # type: ignore[arg-type]
        yield server.url, seen


@pytest.fixture
def ingress(worker: tuple[str, list[Any]], tmp_path: Path) -> Iterator[tuple[str, list[bool]]]:
    cut: list[bool] = []
    with BackgroundServer(from_tng(worker[0], cut)) as adapter:
        port = free_port()
        with tng("add_ingress", port, adapter.port, tmp_path / "tng.log"):
            yield f"http://127.0.0.1:{port}", cut


@pytest.mark.interop("chunked OHTTP", "tng-sdk", "strongroom")
def test_a_plain_client_behind_tng_asks_our_worker_and_gets_answers_and_streams(worker, ingress):
    _, seen = worker
    url, _ = ingress
    answer = httpx2.post(url + CHAT + "?a=b%20c", json={"q": "canary"})
    assert (answer.status_code, answer.json()["echo"]) == (200, "canary")
    long = "x" * 100_000
    assert httpx2.post(url + CHAT, json={"q": long}).json()["echo"] == long
    with httpx2.stream("POST", url + CHAT, json={"stream": True}) as streamed:
        assert streamed.headers["content-type"].startswith("text/event-stream")
        body = streamed.read()
    assert body.count(b'"token"') == len(WORDS)
    assert completion.split("text/event-stream", body)[1] is not None
    assert httpx2.get(url + "/v1/models").json() == {"data": []}
    assert httpx2.get(url + "/elsewhere").status_code == 404
    assert [(sealed, path) for sealed, path, _, _ in seen] == [(True, CHAT)] * 3 + [(True, "/v1/models")]
    assert seen[0][2] == "a=b%20c"


def test_tng_notices_that_our_answer_was_cut(ingress):
    """Within the answer: tng reads no further than the inner message's own end, so the last chunk alone it does not miss."""
    url, cut = ingress
    cut.append(True)
    with pytest.raises(httpx2.HTTPError):
        httpx2.post(url + CHAT, json={"stream": True})


@pytest.mark.interop("chunked OHTTP", "strongroom", "tng-sdk")
def test_our_client_asks_an_application_behind_tng(tmp_path):
    seen: list[Any] = []
    exchanges: list[Any] = []
    with BackgroundServer(AbsoluteForm(application(seen))) as plain:
        egress = free_port()
        with tng("add_egress", egress, plain.port, tmp_path / "tng.log"):
            asked, headers = {"attestation_request": None}, {API: "/tng/key-config"}
            config = httpx2.post(f"http://127.0.0.1:{egress}/", json=asked, headers=headers).json()["hpke_key_config"]
            (key, *_) = ohttp.parse_key_list(base64.b64decode(config["encoded_key_config_list"]))
            with BackgroundServer(to_tng(f"http://127.0.0.1:{egress}/", key.public)) as relay:
                way = Relay(relay.url, key.public, exchanges.append, key_id=key.key_id, aead=key.aeads[0])
                transport = RelayedTransport(httpx2.HTTPTransport(), way)
                with httpx2.Client(base_url=f"http://127.0.0.1:{plain.port}", transport=transport) as http:
                    assert http.post(CHAT, json={"q": "canary"}).json()["echo"] == "canary"
                    assert http.post(CHAT, json={"stream": True}).text.count('"token"') == len(WORDS)
                    assert http.get("/v1/models").json() == {"data": []}
    assert len(exchanges) == 2
    assert [path for _, path, _, _ in seen] == [CHAT, CHAT, "/v1/models"]
