"""Every form of the API, asked by the official clients over the sealed channel; the engine is a double."""

import asyncio
import json
from collections.abc import Iterator

import anthropic
import httpx
import httpx2
import openai
import pytest
from talking import CALLS, TOKENS, VECTOR, TalkingEngine
from world import WORDS, World, world

from strongroom.channel import relayed_httpx
from strongroom.channel.client import SealedTransport
from strongroom.channel.httpx_adapter import SealedTransport as HttpxTransport
from strongroom.client.client import AsyncClient
from strongroom.errors import ReceiptInvalid, StreamTruncated
from strongroom.receipts.receipt import SealedReceipt, verify_document
from strongroom.records import codec
from strongroom.services.proxy import Proxy
from strongroom.services.relay import Relay
from strongroom.services.server import BackgroundServer
from strongroom.workloads.inference import answers
from strongroom.workloads.inference.forms import FORMS

TEXT = "".join(WORDS)
SAY = [{"role": "user", "content": "x"}]
CHAT_TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
TOOL = {"type": "function", "name": "weather", "parameters": {"type": "object"}, "strict": False}
CLAUDE_TOOL = {"name": "weather", "input_schema": {"type": "object"}}
MODEL = {"model": "m"}
LIMITED = {"model": "m", "max_tokens": 9}
ASKED = {
    "/v1/chat/completions": {"messages": SAY},
    "/v1/completions": {"prompt": "x"},
    "/v1/embeddings": {"input": "x"},
    "/v1/responses": {"input": "x"},
    "/v1/responses/input_tokens": {"input": "x"},
    "/v1/tokenize": {"prompt": "x"},
    "/v1/messages": {"messages": SAY, "max_tokens": 9},
    "/v1/messages/count_tokens": {"messages": SAY},
}
"""The shortest request of each path."""
STREAMED = sorted(path for path, form in FORMS.items() if form.events is not None)
ENDS = {
    "/v1/chat/completions": b"data: [DONE]",
    "/v1/completions": b"data: [DONE]",
    "/v1/responses": b"event: response.completed",
    "/v1/messages": b"event: message_stop",
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with world(tmp_path_factory.mktemp("world")) as found:
        yield found


@pytest.fixture(scope="module")
def running(made):
    with made.serving(TalkingEngine(), slots=4) as found:
        assert found.error is None, found.error
        yield found


@pytest.fixture
def served(running):
    """The one worker, its engine as new."""
    running.engine.__init__()
    running.engine.ended = asyncio.Event()
    return running


@pytest.fixture
def client(made, served):
    return made.client(served.url)


def sealed(made, served, exchanges=None) -> httpx2.Client:
    keyset = made.client(served.url).verify().keyset
    keep = (exchanges if exchanges is not None else []).append
    transport = SealedTransport(httpx2.HTTPTransport(), keyset.channel, on_exchange=keep)
    return httpx2.Client(transport=transport, base_url=served.url, timeout=30)


def outcome(exchange) -> str:
    return json.loads(codec.decode(SealedReceipt, exchange.sealed_receipt).envelope.payload)["outcome"]


def asking(served) -> dict:
    return served.engine.requests[-1]


# --- what OpenAI's client sees --------------------------------------------------------------------------------------


def test_chat_with_tools(client, served):
    talk = client.openai().chat.completions
    whole = talk.create(**MODEL, messages=SAY, tools=[CHAT_TOOL], response_format={"type": "json_object"})
    assert [call.function.name for call in whole.choices[0].message.tool_calls] == ["weather", "clock"]
    assert whole.usage.total_tokens == 12
    assert asking(served)["response_format"] == {"type": "json_object"}
    assert client.last_receipt is not None


def test_the_usage_of_a_streamed_chat_is_told_to_whoever_asked_and_always_in_the_receipt(client):
    talk = client.openai().chat.completions
    silent = list(talk.create(**MODEL, messages=SAY, stream=True))
    assert all(event.choices for event in silent)
    asked = list(talk.create(**MODEL, messages=SAY, stream=True, stream_options={"include_usage": True}))
    assert asked[-1].usage.prompt_tokens == 5
    for document in client.receipts:
        assert verify_document(document).usage == {"prompt_tokens": 5, "completion_tokens": 7}


def test_a_response(client, served):
    response = client.openai().responses.create(
        **MODEL,
        input=[
            {"role": "developer", "content": "d"},
            {"role": "user", "content": [{"type": "input_text", "text": "x"}]},
        ],
        instructions="i",
        max_output_tokens=9,
        text={"format": {"type": "json_schema", "name": "n", "schema": {"type": "object"}}},
    )
    assert response.output_text == TEXT
    assert (response.status, response.model, response.store) == ("completed", "echo", False)
    assert (response.usage.input_tokens, response.usage.output_tokens, response.usage.total_tokens) == (5, 7, 12)
    assert response.usage.input_tokens_details.cached_tokens == 2
    asked = asking(served)
    assert [message["content"] for message in asked["messages"]] == ["i", "d", "x"]
    assert asked["max_tokens"] == 9
    assert asked["response_format"]["json_schema"]["schema"] == {"type": "object"}


def test_a_response_that_ran_out_of_tokens_is_incomplete(client, served):
    served.engine.finish = "length"
    response = client.openai().responses.create(**MODEL, input="x")
    assert (response.status, response.incomplete_details.reason) == ("incomplete", "max_output_tokens")
    events = list(client.openai().responses.create(**MODEL, input="x", stream=True))
    assert events[-1].type == "response.incomplete"


def test_a_streamed_response_with_tools_adds_up_to_the_whole_one(client):
    responses = client.openai().responses
    with responses.stream(**MODEL, input="x", tools=[TOOL]) as stream:
        events = list(stream)
        final = stream.get_final_response()
    assert [event.sequence_number for event in events if hasattr(event, "sequence_number")] == sorted(
        event.sequence_number for event in events if hasattr(event, "sequence_number")
    )
    assert events[-1].type == "response.completed"
    whole = responses.create(**MODEL, input="x", tools=[TOOL])
    assert final.output_text == whole.output_text == TEXT
    assert final.usage == whole.usage
    for response in (final, whole):
        calls = [item for item in response.output if item.type == "function_call"]
        assert [(c.call_id, c.name, c.arguments) for c in calls] == [(i, n, "".join(p)) for i, n, p in CALLS]
    assert [item.id for item in final.output] == [item.id for item in whole.output]


def test_what_a_response_was_can_be_said_again_in_the_next_request(client, served):
    responses = client.openai().responses
    first = responses.create(**MODEL, input="x", tools=[TOOL])
    answered = [{"type": "function_call_output", "call_id": c[0], "output": "sunny"} for c in CALLS]
    again = [item.model_dump(exclude_none=True) for item in first.output]
    responses.create(**MODEL, input=[{"role": "user", "content": "x"}, *again, *answered])
    talk = asking(served)["messages"]
    assert [message["role"] for message in talk] == ["user", "assistant", "tool", "tool"]
    assert [call["id"] for call in talk[1]["tool_calls"]] == [c[0] for c in CALLS]


def test_embeddings(client, served):
    answer = client.openai().embeddings.create(**MODEL, input=["x"], encoding_format="float")
    assert answer.data[0].embedding == VECTOR
    assert answer.usage.prompt_tokens == 2
    assert asking(served) == {"operation": "embeddings", "input": ["x"], "encoding_format": "float"}
    assert verify_document(client.last_receipt).usage == {"prompt_tokens": 2}


def test_models_are_listed_in_both_forms_and_one_by_one(client):
    talk, claude = client.openai(), client.anthropic()
    assert [model.id for model in talk.models.list()] == ["echo"]
    assert talk.models.retrieve("echo").owned_by == "strongroom"
    assert [model.display_name for model in claude.models.list()] == ["echo"]
    assert claude.models.retrieve("echo").id == "echo"
    with pytest.raises(openai.NotFoundError):
        talk.models.retrieve("other")


# --- what Anthropic's client sees -----------------------------------------------------------------------------------


def test_a_message(client, served):
    message = client.anthropic().messages.create(
        **LIMITED,
        system=[{"type": "text", "text": "s"}],
        messages=SAY,
        stop_sequences=["end"],
        output_config={"format": {"type": "json_schema", "schema": {"type": "object"}}},
    )
    assert message.content[0].text == TEXT
    assert (message.stop_reason, message.model, message.role) == ("end_turn", "echo", "assistant")
    assert (message.usage.input_tokens, message.usage.cache_read_input_tokens, message.usage.output_tokens) == (3, 2, 7)
    asked = asking(served)
    assert asked["messages"] == [{"role": "system", "content": "s"}, *SAY]
    assert asked["stop"] == ["end"]
    assert asked["response_format"]["json_schema"]["schema"] == {"type": "object"}
    assert verify_document(client.last_receipt).outcome == "complete"


def test_a_streamed_message_with_tools_adds_up_to_the_whole_one(client):
    messages = client.anthropic().messages
    asked = {**LIMITED, "messages": SAY, "tools": [CLAUDE_TOOL], "tool_choice": {"type": "any"}}
    with messages.stream(**asked) as stream:
        assert "".join(stream.text_stream) == TEXT
        final = stream.get_final_message()
    whole = messages.create(**asked)
    for message in (final, whole):
        assert message.stop_reason == "tool_use"
        assert [(block.id, block.name, block.input) for block in message.content if block.type == "tool_use"] == [
            (identity, name, json.loads("".join(pieces))) for identity, name, pieces in CALLS
        ]
    assert (final.usage.input_tokens, final.usage.output_tokens) == (
        whole.usage.input_tokens,
        whole.usage.output_tokens,
    )


def test_what_a_message_was_can_be_said_again_in_the_next_request(client, served):
    messages = client.anthropic().messages
    first = messages.create(**LIMITED, messages=SAY, tools=[CLAUDE_TOOL])
    results = [{"type": "tool_result", "tool_use_id": CALLS[0][0], "content": "sunny"}]
    results.append({"type": "tool_result", "tool_use_id": CALLS[1][0], "content": "late", "is_error": True})
    talk = [*SAY, {"role": "assistant", "content": first.content}, {"role": "user", "content": results}]
    messages.create(**LIMITED, messages=talk)
    said = asking(served)["messages"]
    assert [message["role"] for message in said] == ["user", "assistant", "tool", "tool"]
    assert said[1]["tool_calls"][0]["function"] == {"name": "weather", "arguments": '{"city": "Paris"}'}
    assert [message["content"] for message in said[2:]] == ["sunny", "Error: late"]


def test_tokens_are_counted(client, served):
    assert client.anthropic().messages.count_tokens(**MODEL, messages=SAY).input_tokens == 5
    assert asking(served)["max_tokens"] == 1
    assert client.openai().responses.input_tokens.count(**MODEL, input="x").input_tokens == 5


def test_a_text_or_a_talk_is_counted_as_vllm_is_asked_for_it(client, served):
    for asked in ({"prompt": "x"}, {"messages": SAY}):
        answer = client.openai().post("/tokenize", body={**MODEL, **asked}, cast_to=object)
        assert {name: answer[name] for name in TOKENS} == TOKENS
        assert asking(served) == {"operation": "tokenize", **asked}
        assert verify_document(client.last_receipt).usage == {"prompt_tokens": 3}


# --- the same through others' transports and the proxy --------------------------------------------------------------


def test_the_asynchronous_clients(made, served):
    trust = {"policy": made.policy, "anchor": made.anchor_file, "broker": made.broker.identity.fingerprint}

    async def story() -> None:
        client = AsyncClient(served.url, **trust, accept_simulated=True)
        claude, talk = await client.anthropic(), await client.openai()
        async with claude.messages.stream(**LIMITED, messages=SAY) as stream:
            assert (await stream.get_final_message()).content[0].text == TEXT
        async with talk.responses.stream(**MODEL, input="x") as response:
            assert (await response.get_final_response()).output_text == TEXT
        assert len(client.receipts) == 2

    asyncio.run(story())


def test_an_openai_client_over_httpx(client, served):
    exchanges: list[object] = []
    transport = HttpxTransport(
        httpx.HTTPTransport(), client.verify().keyset.channel, on_exchange=exchanges.append, clear_paths={"/v1/models"}
    )
    with httpx.Client(transport=transport) as http:
        talk = openai.OpenAI(base_url=served.url + "/v1", api_key="none", http_client=http)
        assert talk.responses.create(**MODEL, input="x").output_text == TEXT
        events = list(talk.responses.create(**MODEL, input="x", stream=True))
    assert events[-1].type == "response.completed"
    assert [outcome(exchange) for exchange in exchanges] == ["complete"] * 2


def test_an_openai_client_over_httpx_and_a_relay(client, served):
    exchanges: list[object] = []
    keyset = client.verify().keyset
    with BackgroundServer(Relay(served.url).app) as relay:
        way = relayed_httpx.Relay(relay.url, keyset.channel, exchanges.append)
        with httpx.Client(transport=relayed_httpx.RelayedTransport(httpx.HTTPTransport(), way)) as http:
            talk = openai.OpenAI(base_url="http://worker.invalid/v1", api_key="none", http_client=http)
            assert talk.responses.create(**MODEL, input="x").output_text == TEXT
            events = list(talk.responses.create(**MODEL, input="x", stream=True))
            assert [model.id for model in talk.models.list()] == ["echo"]
    assert events[-1].type == "response.completed"
    assert [outcome(exchange) for exchange in exchanges] == ["complete"] * 2


@pytest.fixture
def proxied(made, served):
    trust = {"policy": made.policy, "anchor": made.anchor_file, "broker": made.broker.identity.fingerprint}
    with BackgroundServer(Proxy(AsyncClient(served.url, **trust, accept_simulated=True)).app) as server:
        yield server.url


def test_stock_clients_through_the_proxy(proxied, served):
    talk = openai.OpenAI(base_url=proxied + "/v1", api_key="none", max_retries=0)
    claude = anthropic.Anthropic(base_url=proxied, api_key="none", max_retries=0)
    with talk.responses.stream(**MODEL, input="x") as response:
        assert response.get_final_response().output_text == TEXT
    with claude.messages.stream(**LIMITED, messages=SAY) as stream:
        assert stream.get_final_message().content[0].text == TEXT
    assert talk.models.retrieve("echo").id == "echo"
    with pytest.raises(openai.NotFoundError):
        talk.models.retrieve("other")
    with pytest.raises(anthropic.BadRequestError):
        claude.messages.create(model="m", max_tokens=0, messages=SAY)
    served.engine.fail_after = 3
    with pytest.raises(openai.APIError, match="the engine ended"):
        list(talk.responses.create(**MODEL, input="x", stream=True))
    with pytest.raises(anthropic.APIStatusError, match="the engine ended"):
        list(claude.messages.create(**LIMITED, messages=SAY, stream=True))


@pytest.mark.usefixtures("served")
@pytest.mark.parametrize("path", STREAMED)
def test_a_stream_that_is_cut_behind_the_proxy_ends_in_the_form_of_its_api(proxied, path, monkeypatch):
    monkeypatch.setattr(answers.completion, "sse_trailer", lambda _: b": nothing\n\n")
    text = bytearray()

    def read() -> None:
        with httpx2.stream("POST", proxied + path, json={**ASKED[path], "stream": True}, timeout=30) as answer:
            for data in answer.iter_raw():
                text.extend(data)

    with pytest.raises(httpx2.RemoteProtocolError):
        read()
    assert ENDS[path] not in text
    assert StreamTruncated.code.encode() in text.rsplit(b"data: ", 1)[1]


# --- what holds for each form ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", FORMS)
def test_content_is_taken_only_sealed(served, path):
    answer = httpx2.post(served.url + path, json=ASKED[path])
    assert answer.status_code == 403
    assert answer.json()["error"]["code"] == "channel.refused"
    assert served.engine.requests == []


@pytest.mark.parametrize("path", STREAMED)
def test_a_stream_is_padded_ends_in_its_own_way_and_then_proves_it(made, served, path):
    exchanges = []
    with sealed(made, served, exchanges).stream("POST", path, json={**ASKED[path], "stream": True}) as answer:
        lengths = [len(piece) for piece in answer.iter_raw()]
        assert answer.headers["content-type"].startswith("text/event-stream")
    told, held = lengths[:-2], lengths[-2:]  # what is held back begins within a message of the worker's
    assert {length % 256 for length in told} == {0}
    assert sum(held) % 256 == 0
    assert outcome(exchanges[0]) == "complete"


@pytest.mark.parametrize("path", STREAMED)
def test_the_last_event_is_held_back_until_the_receipt_was_checked(made, served, path):
    seen = bytearray()

    def judge(_: object) -> None:
        assert ENDS[path] not in seen
        raise ReceiptInvalid("not this one")

    transport = SealedTransport(
        httpx2.HTTPTransport(), made.client(served.url).verify().keyset.channel, on_exchange=judge
    )

    def read() -> None:
        with (
            httpx2.Client(transport=transport, base_url=served.url) as http,
            http.stream("POST", path, json={**ASKED[path], "stream": True}) as answer,
        ):
            for piece in answer.iter_raw():
                seen.extend(piece)

    with pytest.raises(ReceiptInvalid):
        read()
    assert WORDS[0].encode() in seen
    assert ENDS[path] not in seen


@pytest.mark.parametrize("path", STREAMED)
def test_an_engine_that_breaks_ends_in_an_error_and_a_receipt_that_says_failed(made, served, path):
    served.engine.fail_after = 3
    exchanges = []
    with sealed(made, served, exchanges).stream("POST", path, json={**ASKED[path], "stream": True}) as answer:
        text = answer.read()
    assert ENDS[path] not in text
    assert b'"code":"engine.unavailable"' in text
    assert outcome(exchanges[0]) == "failed"


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/responses"])
def test_an_engine_that_ends_without_a_reason_has_not_ended(made, served, path):
    served.engine.finish = "odd"
    exchanges = []
    with sealed(made, served, exchanges).stream("POST", path, json={**ASKED[path], "stream": True}) as answer:
        text = answer.read()
    assert ENDS[path] not in text
    assert outcome(exchanges[0]) == "failed"
    assert sealed(made, served).post(path, json=ASKED[path]).status_code == 503


@pytest.mark.parametrize("path", STREAMED)
def test_a_slow_engine_is_a_stream_with_a_pulse(made, served, path, monkeypatch):
    monkeypatch.setitem(answers.stream.__kwdefaults__, "quiet", 0.02)
    served.engine.pause = 0.05
    ping = FORMS[path].ping.rstrip(b"\n")
    exchanges = []
    with sealed(made, served, exchanges).stream("POST", path, json={**ASKED[path], "stream": True}) as answer:
        pieces = answer.read().split(b"\n\n")
    assert pieces[0].startswith(ping)
    assert all(len(piece + b"\n\n") % 256 == 0 for piece in pieces if piece.startswith(ping))
    assert outcome(exchanges[0]) == "complete"


def test_a_stream_that_waits_for_its_turn_has_a_pulse(made, monkeypatch):
    monkeypatch.setitem(answers.stream.__kwdefaults__, "quiet", 0.02)
    with made.serving(TalkingEngine(), slots=1) as served:
        served.engine.pause = 0.1
        http, asked = sealed(made, served), {**ASKED["/v1/messages"], "stream": True}
        with http.stream("POST", "/v1/messages", json=asked) as first:
            pieces = first.iter_raw()
            next(pieces)
            with sealed(made, served).stream("POST", "/v1/messages", json=asked) as second:
                assert next(second.iter_raw()).startswith(b"event: ping")
                assert len(served.engine.requests) == 1
            assert b"message_stop" in b"".join(pieces)


@pytest.mark.parametrize("path", STREAMED)
def test_whoever_leaves_a_stream_makes_room_for_the_next(made, path):
    with made.serving(TalkingEngine(), slots=1) as served:
        served.engine.pause = 0.05
        with sealed(made, served).stream("POST", path, json={**ASKED[path], "stream": True}) as left:
            next(left.iter_raw())
        assert sealed(made, served).post(path, json=ASKED[path]).status_code == 200


@pytest.mark.parametrize("path", FORMS)
def test_what_the_engine_says_of_a_request_reaches_whoever_asked(made, served, path):
    served.engine.reject = True
    for more in ({}, {"stream": True}) if path in STREAMED else ({},):
        answer = sealed(made, served).post(path, json={**ASKED[path], **more})
        assert answer.status_code == 422
        assert answer.json()["error"]["message"] == "the engine's words"
        assert ("type" in answer.json()) == path.startswith("/v1/messages")


@pytest.mark.parametrize("path", ["/v1/nothing", "/v1/messages/nothing", "/"])
def test_where_there_is_nothing_the_error_has_a_form(made, served, path):
    answer = sealed(made, served).post(path, json={})
    assert answer.status_code == 404
    assert answer.json()["error"]["type"] == "not_found_error"


@pytest.mark.parametrize("path", sorted(set(FORMS) - set(STREAMED)))
def test_what_is_not_streamed_says_so(made, served, path):
    answer = sealed(made, served).post(path, json={**ASKED[path], "stream": True})
    assert answer.status_code == 400
    assert served.engine.requests == []


DEEP = b'{"messages":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
HOPELESS = {
    "not JSON": b"nonsense",
    "no object": b"[]",
    "invalid UTF-8": b'{"input":"\xff"}',
    "UTF-16": '{"input":"x"}'.encode("utf-16"),
    "half an object": b'{"input":"x"',
    "no number": b'{"temperature":NaN}',
    "infinite": b'{"temperature":1e999}',
    "too many digits": b'{"temperature":' + b"9" * 5000 + b"}",
    "deep": DEEP,
    "deep enough to be parsed": b'{"tools":' + b"[" * 80 + b"]" * 80 + b"}",
    "oversize": b'{"input":"' + b"x" * (8 << 20) + b'"}',
}


@pytest.mark.parametrize("path", FORMS)
def test_what_is_no_request_of_any_form_never_reaches_the_engine(made, served, path):
    http = sealed(made, served)
    for kind, body in HOPELESS.items():
        answer = http.post(path, content=body)
        assert (kind, answer.status_code) == (kind, 400)
        assert (kind, answer.json()["error"]["code"]) == (kind, "channel.malformed")
        assert ("type" in answer.json()) == path.startswith("/v1/messages")
    assert served.engine.requests == []
