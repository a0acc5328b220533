"""What an OpenAI-compatible server may send, and what becomes of it."""

import asyncio
import json
from contextlib import asynccontextmanager

import pytest

from strongroom.engines.port import RequestRejected
from strongroom.engines.steering import Steering
from strongroom.engines.upstream import MAX_ANSWER, Events, UnsafeUpstream
from strongroom.errors import ConfinementUnavailable, EngineUnavailable, UsageError

CHAT = {"messages": [{"role": "user", "content": "x"}]}


@asynccontextmanager
async def upstream(answer: bytes, tmp_path, asked: list[bytes] | None = None, **options):
    """A server on a socket of its own that says `answer` to whatever comes, and hangs up."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        body = await reader.readexactly(length)
        if asked is not None:
            asked.append(head.split(b"\r\n")[0] + b"\n" + body)
        writer.write(answer)
        await writer.drain()
        writer.close()

    path = str(tmp_path / "s.sock")
    server = await asyncio.start_unix_server(serve, path)
    async with server:
        yield UnsafeUpstream(f"unix:{path}", name="m", **options)


def http(body: bytes, status: str = "200 OK", *, whole: bool = True) -> bytes:
    length = b"content-length: %d\r\n" % len(body) if whole else b""
    return b"HTTP/1.1 " + status.encode() + b"\r\n" + length + b"\r\n" + body


def collect(answer: bytes, tmp_path, request=None, operation="chat.completions", asked=None, **options):
    async def story():
        async with upstream(answer, tmp_path, asked, **options) as engine:
            return [text async for text in engine.generate(operation, CHAT if request is None else request)]

    return asyncio.run(story())


def test_a_whole_answer_and_a_streamed_one(tmp_path):
    assert collect(http(b'{"a": 1}'), tmp_path) == [b'{"a": 1}']
    events = b': hi\n\ndata: {"a": 1}\r\n\r\ndata:{"b":\ndata: 2}\n\ndata: [DONE]\n\n'
    assert collect(http(events, whole=False), tmp_path, {**CHAT, "stream": True}) == [b'{"a": 1}', b'{"b":\n2}']


@pytest.mark.parametrize(
    "answer",
    [
        b"", b"nonsense\r\n\r\n", b"HTTP/1.1 200 OK\r\ncontent-length: 50\r\n\r\n{}", http(b"[1]"), http(b"{"), http(b"\xff"),
        http(b"{}", "500 Oops"), http(b"{}", "401 Who"), http(b"{}", "302 There"), http(b'{"error": {"message": "x"}}'),
        http(b"x" * 70_000, "400 No"),
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\n{}",
        b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 10_000,
    ],
    ids=range(13),
)  # fmt: skip
def test_what_is_no_answer_is_unavailable(answer, tmp_path):
    with pytest.raises(EngineUnavailable):
        collect(answer, tmp_path)


@pytest.mark.parametrize(
    "events",
    [
        b"", b'data: {"a": 1}\n\n', b"data: [DONE]\n", b'data: [DONE]\n\ndata: {"a": 1}\n\n', b"data: x\n\ndata: [DONE]\n\n",
        b'data: {"error": {"message": "x", "code": 500}}\n\ndata: [DONE]\n\n',
    ],
    ids=range(6),
)  # fmt: skip
def test_a_stream_without_its_proper_end_is_unavailable(events, tmp_path):
    with pytest.raises(EngineUnavailable):
        collect(http(events, whole=False), tmp_path, {**CHAT, "stream": True})


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        ("400 Bad", b'{"error": {"message": "too long", "type": "x", "code": 400}}', "too long"),
        ("422 Odd", b'{"message": "vllm of old", "object": "error"}', "vllm of old"),
        ("429 Many", b"not json", "rejected"),
        ("404 None", b'{"error": "a text"}', "rejected"),
    ],
)
def test_the_servers_no_to_a_request_keeps_its_words_and_its_status(status, body, words, tmp_path):
    with pytest.raises(RequestRejected) as rejection:
        collect(http(body, status), tmp_path)
    assert rejection.value.status == int(status[:3])
    assert words in json.loads(rejection.value.reply)["error"]["message"]


def test_an_error_on_the_way_that_is_the_requests_fault_is_told(tmp_path):
    events = b'data: {"error": {"message": "no", "code": 400}}\n\n'
    with pytest.raises(RequestRejected):
        collect(http(events, whole=False), tmp_path, {**CHAT, "stream": True})


def test_only_listed_members_pass_and_the_name_is_the_servers(tmp_path):
    asked: list[bytes] = []
    collect(http(b"{}"), tmp_path, {**CHAT, "user": "u", "model": "gpt", "seed": 1}, asked=asked)
    line, body = asked[0].split(b"\n", 1)
    assert line == b"POST /v1/chat/completions HTTP/1.1"
    assert json.loads(body) == {**CHAT, "seed": 1, "model": "m"}
    for member in ("id_slot", "kv_transfer_params", "lora", "top_k", "x" * 500):
        with pytest.raises(RequestRejected) as rejection:
            collect(http(b"{}"), tmp_path, {**CHAT, member: 1})
        assert len(rejection.value.reply) < 300
    for operation in ("slots", "/v1/x"):
        with pytest.raises(RequestRejected):
            collect(http(b"{}"), tmp_path, operation=operation)
    with pytest.raises(RequestRejected):
        collect(http(b"{}"), tmp_path, {**CHAT, "seed": float("nan")})


def test_vllm_says_which_tokens_a_text_has_and_of_another_server_its_usage_says_how_many(tmp_path):
    asked: list[bytes] = []
    said = {"count": 2, "max_model_len": 256, "tokens": [7, 9]}
    answer = http(json.dumps({**said, "token_strs": None}).encode())
    (told,) = collect(answer, tmp_path, {"prompt": "x"}, "tokenize", asked=asked, kind="vllm")
    assert json.loads(told) == {**said, "usage": {"prompt_tokens": 2}}

    usage = {"prompt_tokens": 5, "completion_tokens": 1}
    answer = http(json.dumps({"choices": [], "usage": usage}).encode())
    for request in ({"prompt": "x"}, CHAT):
        (told,) = collect(answer, tmp_path, request, "tokenize", asked=asked)
        assert json.loads(told) == {"count": 5, "max_model_len": None, "tokens": None, "usage": usage}
    assert [body.split(b" ")[1] for body in asked] == [b"/tokenize", b"/v1/completions", b"/v1/chat/completions"]
    assert json.loads(asked[0].split(b"\n", 1)[1]) == {"prompt": "x", "model": "m"}
    assert json.loads(asked[2].split(b"\n", 1)[1]) == {**CHAT, "max_tokens": 1, "model": "m"}

    for body in (b"{}", b'{"usage": {}}', b'{"usage": {"prompt_tokens": "5"}}', b"[]", b""):
        with pytest.raises(EngineUnavailable):
            collect(http(body), tmp_path, {"prompt": "x"}, "tokenize")
    for kind in ("openai", "vllm"):
        with pytest.raises(RequestRejected):
            collect(http(b"{}", "400 No"), tmp_path, {"prompt": "x"}, "tokenize", kind=kind)
        with pytest.raises(RequestRejected):
            collect(answer, tmp_path, {"prompt": "x", "return_token_strs": True}, "tokenize", kind=kind)


def test_vllm_gets_a_salt_always_and_no_other_server_gets_one(tmp_path):
    asked: list[bytes] = []
    for _ in range(2):
        collect(http(b"{}"), tmp_path, asked=asked, kind="vllm")
    collect(http(b"{}"), tmp_path, {**CHAT, "cache_salt": "of the tenant"}, asked=asked, kind="vllm")
    collect(http(b"{}"), tmp_path, {**CHAT, "cache_salt": "of the tenant"}, asked=asked)
    collect(http(b"{}"), tmp_path, {"input": "x"}, "embeddings", asked=asked, kind="vllm")
    first, second, third, fourth, fifth = (json.loads(body.split(b"\n", 1)[1]).get("cache_salt") for body in asked)
    assert first
    assert second
    assert first != second
    assert (third, fourth, fifth) == ("of the tenant", None, None)


def test_the_workers_salt_is_vllms_and_a_fresh_one_stands_where_it_says_none(tmp_path):
    asked: list[bytes] = []
    for steered in (Steering("of the tenant"), Steering("of the tenant"), Steering(), Steering()):
        collect(http(b"{}"), tmp_path, steered.put_into(CHAT), asked=asked, kind="vllm")
    salts = [json.loads(body.split(b"\n", 1)[1])["cache_salt"] for body in asked]
    assert salts[:2] == ["of the tenant"] * 2
    assert len(set(salts)) == 3
    assert all(salts)


@pytest.mark.parametrize(
    ("kind", "steered"),
    [
        ("openai", Steering("of the tenant")),
        ("openai", Steering("", 0)),
        ("vllm", Steering("", 0)),
        ("vllm", Steering("of the tenant", 1)),
    ],
    ids=["salt", "adapter", "adapter in vllm", "both in vllm"],
)
@pytest.mark.parametrize("operation", ["chat.completions", "tokenize"])
def test_what_a_server_cannot_follow_of_what_the_worker_says_is_refused(tmp_path, kind, steered, operation):
    asked: list[bytes] = []
    with pytest.raises(RequestRejected) as rejection:
        collect(http(b"{}"), tmp_path, steered.put_into(CHAT), operation, asked=asked, kind=kind)
    assert (rejection.value.status, rejection.value.kind) == (500, "server_error")
    assert asked == []


def test_an_adapter_is_chosen_by_name(tmp_path):
    asked: list[bytes] = []
    for name in ("style", "other"):
        collect(http(b"{}"), tmp_path, {**CHAT, "model": name}, asked=asked, adapters=["style"])
    assert [json.loads(body.split(b"\n", 1)[1])["model"] for body in asked] == ["style", "m"]


def test_events_are_bounded():
    events = Events()
    with pytest.raises(EngineUnavailable):
        _ = [list(events.feed(b"x" * 1_000_000)) for _ in range(MAX_ANSWER // 1_000_000 + 2)]


def test_a_server_that_nobody_measured_is_for_development_alone(tmp_path):
    async def story() -> None:
        async with upstream(http(b'{"data": []}'), tmp_path) as engine:
            engine.spawn()
            confinement = await engine.load(-1, {})
            with pytest.raises(ConfinementUnavailable):
                confinement.require()
            engine.kill()
            await engine.wait()
        with pytest.raises(EngineUnavailable):
            await engine.load(-1, {})

    asyncio.run(story())
    for address in ("nowhere", "host:port", ":80", ""):
        with pytest.raises(UsageError):
            UnsafeUpstream(address, name="m")
