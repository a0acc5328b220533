"""The sealed channel over real sockets: independent clients against our server, a real SDK through our client, attacks.

Peers: `tinfoil-ehbp` from PyPI, `ehbp` from npm, the `openai` SDK. The server is uvicorn, the application a small
fake chat.
"""

import asyncio
import hashlib
import json
import shutil
import socket
import subprocess
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ehbp as tinfoil
import httpx
import httpx2
import openai
import pytest
import uvicorn
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from strongroom.channel import client, completion, ehbp, httpx_adapter, padding
from strongroom.channel.exchange import Exchange
from strongroom.channel.server import SEALED, EhbpMiddleware
from strongroom.crypto.hpke import generate_x25519
from strongroom.errors import (
    ChannelKeyMismatch,
    ChannelRefused,
    MalformedMessage,
    RequestReplayed,
    StreamTruncated,
)

PEER = Path(__file__).parent / "ehbp_peer"
TOKENS = ["The", " capital", " of", " France"]
CHAT = "/v1/chat/completions"
MESSAGES: Any = [{"role": "user", "content": "canary"}]


@dataclass
class Worker:
    """A running server. Streams stop after their first token while `gate` is not set (a test may clear it)."""

    url: str
    public: bytes
    gate: threading.Event = field(default_factory=threading.Event)
    seen: list[bytes] = field(default_factory=list)


def chunk(text: str) -> bytes:
    delta = {"index": 0, "delta": {"role": "assistant", "content": text}, "finish_reason": None}
    body = {"id": "c", "object": "chat.completion.chunk", "created": 0, "model": "fake", "choices": [delta]}
    return b"data: " + json.dumps(body).encode() + b"\n\n"


def answer() -> bytes:
    message = {"role": "assistant", "content": "".join(TOKENS)}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    body = {"id": "c", "object": "chat.completion", "created": 0, "model": "fake", "choices": [choice]}
    return json.dumps(body).encode()


def application(worker: Worker) -> Starlette:
    """A chat whose receipts are the SHA-256 of what they cover."""

    async def chat(request: Request) -> Response:
        if not request.scope[SEALED]:
            return JSONResponse({"error": {"message": "only sealed"}}, 403)
        body = await request.body()
        worker.seen.append(body)
        if json.loads(body).get("stream"):
            return StreamingResponse(events(), media_type="text/event-stream")
        finished = completion.append_to_json(answer(), hashlib.sha256(answer()).digest())
        return Response(padding.pad_json(finished), media_type="application/json")

    async def events() -> AsyncIterator[bytes]:
        committed = hashlib.sha256()
        for index, event in enumerate([*map(chunk, TOKENS), b"data: [DONE]\n\n"]):
            if index == 1:
                assert await asyncio.to_thread(worker.gate.wait, 60)
            padded = padding.pad_event(event)
            committed.update(padded)
            yield padded
        yield padding.pad_event(completion.sse_trailer(committed.digest()))

    async def models(_: Request) -> Response:
        return JSONResponse(
            {"object": "list", "data": [{"id": "fake", "object": "model", "created": 0, "owned_by": "x"}]}
        )

    return Starlette(routes=[Route(CHAT, chat, methods=["POST"]), Route("/v1/models", models)])


class Server(uvicorn.Server):
    """Says when it listens."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = threading.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listening.set()


@pytest.fixture
def worker() -> Iterator[Worker]:
    private = X25519PrivateKey.generate()
    listener = socket.create_server(("127.0.0.1", 0))
    worker = Worker(f"http://127.0.0.1:{listener.getsockname()[1]}", private.public_key().public_bytes_raw())
    worker.gate.set()
    app = EhbpMiddleware(application(worker), private, max_body=1 << 20)  # type: ignore[arg-type]
    server = Server(uvicorn.Config(app, log_level="warning", ws="none", lifespan="off"))  # type: ignore[arg-type]
    thread = threading.Thread(target=server.run, args=([listener],))
    thread.start()
    assert server.listening.wait(30)
    try:
        yield worker
    finally:
        worker.gate.set()
        server.should_exit = True
        thread.join()
        listener.close()


# Independent clients against our server


def test_the_python_peer_discovers_asks_and_streams(worker: Worker):
    with tinfoil.Client.discover(worker.url) as peer:
        assert peer.server_identity.public_key_bytes() == worker.public
        reply = peer.post(CHAT, json_body={"messages": MESSAGES})
        assert reply.status_code == 200
        assert reply.json()["choices"][0]["message"]["content"] == "".join(TOKENS)
        with peer.stream("POST", CHAT, body=b'{"stream":true}') as streamed:
            pieces = list(streamed)
    assert len(pieces) == len(TOKENS) + 2
    assert {len(piece) for piece in pieces} == {padding.BUCKET}
    assert completion.split("text/event-stream", b"".join(pieces))[1] is not None
    assert json.loads(worker.seen[0]) == {"messages": MESSAGES}


def test_the_python_peer_is_told_that_its_key_is_stale(worker: Worker):
    stale = X25519PrivateKey.generate().public_key().public_bytes_raw()
    with (
        tinfoil.Client.with_public_key_hex(worker.url, stale.hex()) as peer,
        pytest.raises(tinfoil.KeyConfigMismatchError),
    ):
        peer.post(CHAT, body=b"{}")
    assert worker.seen == []


def test_the_openai_sdk_works_through_the_python_peer(worker: Worker):
    transport = tinfoil.EHBPTransport.from_public_key_hex(worker.public.hex())
    with httpx.Client(transport=transport) as http:
        sdk = openai.OpenAI(base_url=worker.url + "/v1", api_key="dummy", http_client=http)  # type: ignore[arg-type]
        stream = sdk.chat.completions.create(model="fake", messages=MESSAGES, stream=True)
        assert [event.choices[0].delta.content for event in stream] == TOKENS


@pytest.fixture(scope="session")
def npm_peer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The npm package, installed into a directory of its own."""
    place = tmp_path_factory.mktemp("npm") / "peer"
    shutil.copytree(PEER, place, ignore=shutil.ignore_patterns("node_modules"))
    command = ["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts"]
    installed = subprocess.run(command, cwd=place, capture_output=True, text=True, check=False)
    if installed.returncode != 0:
        pytest.skip(f"missing npm package: ehbp (npm ci failed)\n{installed.stderr[-2000:]}")
    return place


@pytest.mark.needs("node", "npm")
def test_the_npm_peer_discovers_asks_streams_and_notices_a_stale_key(worker: Worker, npm_peer: Path):
    command = ["node", "client.mjs", worker.url]
    ran = subprocess.run(command, cwd=npm_peer, capture_output=True, text=True, check=False, timeout=120)
    assert ran.returncode == 0, ran.stderr
    said = json.loads(ran.stdout)
    assert said["key"] == worker.public.hex()
    assert said["answer"]["choices"][0]["message"]["content"] == "".join(TOKENS)
    assert len(said["pieces"]) == len(TOKENS) + 2
    assert completion.split("text/event-stream", "".join(said["pieces"]).encode())[1] is not None
    assert said["mismatch"] is True
    assert len(worker.seen) == 2


# Our client under a real SDK


@pytest.fixture
def exchanges() -> list[Exchange]:
    return []


@pytest.fixture
def sdk(worker: Worker, exchanges: list[Exchange]) -> Iterator[openai.OpenAI]:
    transport = client.SealedTransport(
        httpx2.HTTPTransport(), worker.public, on_exchange=exchanges.append, clear_paths=["/v1/models"]
    )
    with httpx2.Client(transport=transport) as http:
        yield openai.OpenAI(base_url=worker.url + "/v1", api_key="dummy", http_client=http)


def test_the_sdk_gets_an_answer_with_its_receipt(sdk: openai.OpenAI, exchanges: list[Exchange], worker: Worker):
    reply = sdk.chat.completions.create(model="fake", messages=MESSAGES)
    assert reply.choices[0].message.content == "".join(TOKENS)
    assert exchanges[0].response_sha256 == exchanges[0].sealed_receipt == hashlib.sha256(answer()).digest()
    assert exchanges[0].request_sha256 == hashlib.sha256(worker.seen[0]).digest()
    assert [model.id for model in sdk.models.list()] == ["fake"]


def test_the_sdk_sees_tokens_before_the_answer_is_complete(
    sdk: openai.OpenAI, exchanges: list[Exchange], worker: Worker
):
    worker.gate.clear()
    stream = sdk.chat.completions.create(model="fake", messages=MESSAGES, stream=True)
    first = next(stream).choices[0].delta.content  # the server sends no more until this has arrived
    assert (first, exchanges) == (TOKENS[0], [])
    worker.gate.set()
    assert [event.choices[0].delta.content for event in stream] == TOKENS[1:]
    assert exchanges[0].response_sha256 == exchanges[0].sealed_receipt


def test_the_asynchronous_sdk_streams_too(worker: Worker, exchanges: list[Exchange]):
    async def ask() -> list[str | None]:
        transport = client.AsyncSealedTransport(
            httpx2.AsyncHTTPTransport(), worker.public, on_exchange=exchanges.append
        )
        async with httpx2.AsyncClient(transport=transport) as http:
            sdk = openai.AsyncOpenAI(base_url=worker.url + "/v1", api_key="dummy", http_client=http)
            stream = await sdk.chat.completions.create(model="fake", messages=MESSAGES, stream=True)
            return [event.choices[0].delta.content async for event in stream]

    assert asyncio.run(ask()) == TOKENS
    assert exchanges[0].response_sha256 == exchanges[0].sealed_receipt


def test_the_sdk_works_over_the_other_http_library(worker: Worker, exchanges: list[Exchange]):
    transport = httpx_adapter.SealedTransport(httpx.HTTPTransport(), worker.public, on_exchange=exchanges.append)
    with httpx.Client(transport=transport) as http:
        sdk = openai.OpenAI(base_url=worker.url + "/v1", api_key="dummy", http_client=http)  # type: ignore[arg-type]
        stream = sdk.chat.completions.create(model="fake", messages=MESSAGES, stream=True)
        assert [event.choices[0].delta.content for event in stream] == TOKENS
    assert exchanges[0].response_sha256 == exchanges[0].sealed_receipt


# A proxy that is not honest


class Proxy(httpx2.BaseTransport):
    """Between our client and the server: keeps requests, changes the frames of answers."""

    def __init__(self, change: Callable[[list[bytes]], list[bytes]] = list) -> None:
        self.network = httpx2.HTTPTransport()
        self.change = change
        self.requests: list[tuple[httpx2.Headers, bytes]] = []

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        self.requests.append((request.headers, request.read()))
        response = self.network.handle_request(request)
        if ehbp.NONCE_HEADER not in response.headers:
            return response
        frames = [ehbp.frame(ciphertext) for ciphertext in ehbp.FrameReader().feed(response.read())]
        return httpx2.Response(response.status_code, headers=response.headers, content=iter(self.change(frames)))

    def close(self) -> None:
        self.network.close()


def through(proxy: Proxy, worker: Worker, *, public: bytes | None = None, stream: bool = True) -> list[str | None]:
    """What the SDK's user sees of one streamed answer."""
    transport = client.SealedTransport(proxy, public or worker.public, on_exchange=lambda _: None)
    with httpx2.Client(transport=transport) as http:
        sdk = openai.OpenAI(base_url=worker.url + "/v1", api_key="dummy", http_client=http)
        if not stream:
            return [sdk.chat.completions.create(model="fake", messages=MESSAGES).choices[0].message.content]
        events = sdk.chat.completions.create(model="fake", messages=MESSAGES, stream=True)
        return [event.choices[0].delta.content for event in events]


def flipped(frame: bytes) -> bytes:
    return frame[:-1] + bytes([frame[-1] ^ 1])


def test_an_honest_proxy_changes_nothing_and_reads_nothing(worker: Worker):
    proxy = Proxy()
    assert through(proxy, worker) == TOKENS
    headers, body = proxy.requests[0]
    assert b"canary" not in body
    assert "authorization" not in headers
    assert not any(name.startswith("x-stainless") for name in headers)


@pytest.mark.parametrize("kept", range(len(TOKENS) + 2))
def test_an_answer_cut_at_any_frame_is_truncated(worker: Worker, kept: int):
    with pytest.raises(StreamTruncated):
        through(Proxy(lambda frames: frames[:kept]), worker)


def test_the_python_peer_does_not_notice_the_cut_which_is_why_receipts_end_answers(worker: Worker):
    token = tinfoil.ServerIdentity(worker.public).encrypt_request_body(b'{"stream":true}')
    headers = {"Ehbp-Encapsulated-Key": token.encapsulated_key.hex()}
    reply = httpx2.post(worker.url + CHAT, content=token.body, headers=headers)
    frames = [ehbp.frame(ciphertext) for ciphertext in ehbp.FrameReader().feed(reply.content)]
    cut = b"".join(frames[: len(TOKENS)])
    opened = token.token.decrypt_response_body(bytes.fromhex(reply.headers["ehbp-response-nonce"]), cut)
    assert completion.split("text/event-stream", opened) == (opened, None)


@pytest.mark.parametrize("index", range(len(TOKENS) + 2))
def test_a_flipped_bit_in_any_frame_is_refused(worker: Worker, index: int):
    def change(frames: list[bytes]) -> list[bytes]:
        return [flipped(frame) if i == index else frame for i, frame in enumerate(frames)]

    with pytest.raises(ChannelRefused):
        through(Proxy(change), worker)


def test_a_document_that_is_cut_or_changed_is_refused(worker: Worker):
    with pytest.raises(StreamTruncated):
        through(Proxy(lambda _: []), worker, stream=False)
    with pytest.raises(ChannelRefused):
        through(Proxy(lambda frames: [flipped(frames[0])]), worker, stream=False)


def test_a_replayed_request_is_refused(worker: Worker):
    proxy = Proxy()
    through(proxy, worker, stream=False)
    headers, body = proxy.requests[0]
    again = httpx2.post(worker.url + CHAT, content=body, headers={k: headers[k] for k in ("ehbp-encapsulated-key",)})
    assert (again.status_code, again.json()["code"]) == (409, RequestReplayed.code)
    assert "ehbp-response-nonce" not in again.headers
    assert len(worker.seen) == 1


def test_a_swapped_key_is_noticed(worker: Worker):
    other = X25519PrivateKey.generate().public_key().public_bytes_raw()
    with pytest.raises(ChannelKeyMismatch):
        through(Proxy(), worker, public=other)
    assert worker.seen == []


def test_an_oversize_request_is_refused_unread(worker: Worker):
    headers = {"ehbp-encapsulated-key": generate_x25519().public_key().public_bytes_raw().hex()}
    reply = httpx2.post(worker.url + CHAT, content=bytes(1 << 21), headers=headers)
    assert reply.status_code == 413


def test_an_unknown_suite_is_refused_at_both_ends(worker: Worker):
    config = bytearray(httpx2.get(worker.url + ehbp.KEYS_PATH).content)
    config[-1] = 3  # ChaCha20-Poly1305
    with pytest.raises(MalformedMessage):
        ehbp.parse_key_config(bytes(config))
    p256 = {"ehbp-encapsulated-key": "04" + "11" * 64}
    assert httpx2.post(worker.url + CHAT, content=b"x", headers=p256).status_code == 400


def test_an_answer_from_somebody_else_is_refused(worker: Worker):
    class Forger(Proxy):
        def handle_request(self, request: httpx2.Request) -> httpx2.Response:
            return httpx2.Response(200, json=json.loads(answer()), request=request)

    with pytest.raises(ChannelRefused):
        through(Forger(), worker, stream=False)
