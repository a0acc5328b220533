"""The official clients and a real model: every form of the API, over the sealed channel and through the proxy; then bad input.

One worker in this process, its engine a confined child of it. What a form looks like in detail is for the unit tests.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import anthropic
import httpx2
import openai
import pytest
from world import Served, World, world

from strongroom.appraisal.policies import sign_policy
from strongroom.channel.client import SealedTransport
from strongroom.client.client import AsyncClient, Client
from strongroom.demo.model import find_model
from strongroom.engines.process import EngineProcess
from strongroom.receipts.receipt import verify_document
from strongroom.records.policy import Requirement
from strongroom.records.worker import Configuration
from strongroom.services.gateway import front
from strongroom.services.proxy import Proxy
from strongroom.services.server import BackgroundServer
from strongroom.workloads.inference.workload import InferenceWorkload

pytestmark = [pytest.mark.needs("model"), pytest.mark.timeout(300)]

SETTINGS: dict[str, str | int] = {
    "name": "smollm2", "context": 1024, "threads": 2, "slots": 2, "embeddings": 1, "pooling": "mean",
}  # fmt: skip
QUESTION = "What is the capital of France?"
SAY = [{"role": "user", "content": QUESTION}]
ANSWER = "The capital of France is Paris."
SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string", "maxLength": 16}},
    "required": ["city"],
    "additionalProperties": False,
}
GREEDY = {"model": "m", "temperature": 0}


@dataclass
class Service:
    """A world with a worker that serves the real model, and a user's proxy before it."""

    made: World
    served: Served
    proxy: str

    def trust(self) -> dict[str, Any]:
        return {
            "policy": self.made.policy,
            "anchor": self.made.anchor_file,
            "broker": self.made.broker.identity.fingerprint,
            "accept_simulated": True,
        }

    def client(self) -> Client:
        return Client(self.served.url, **self.trust())


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    model = find_model()
    assert model is not None
    with world(tmp_path_factory.mktemp("service")) as made:
        made.artifact = made.seal("real", model.read_bytes())
        made.configuration = Configuration("inference", made.broker.identity.fingerprint, SETTINGS, None)
        told = replace(made.make_policy(), version=2, configuration=Requirement(one_of=(made.configuration.digest,)))
        made.policy = told
        made.admin.put_policy(sign_policy(told, made.owner))
        served = Served(made, None, {"opener": made.opener("real"), "configuration": made.configuration})  # type: ignore[arg-type]
        served._options["workload"] = InferenceWorkload(
            EngineProcess(profile="development"), SETTINGS, front("127.0.0.1", 0, served._serves), slots=2
        )
        served.start()
        assert served.url, served.error
        found = Service(made, served, "")
        try:
            with BackgroundServer(Proxy(AsyncClient(served.url, **found.trust())).app) as proxy:
                found.proxy = proxy.url
                yield found
        finally:
            served.stop()


@pytest.fixture
def client(service) -> Client:
    return service.client()


@pytest.fixture(params=["sealed", "proxy"])
def talk(request, service) -> openai.OpenAI:
    if request.param == "sealed":
        return service.client().openai()
    return openai.OpenAI(base_url=service.proxy + "/v1", api_key="none", max_retries=0)


@pytest.fixture(params=["sealed", "proxy"])
def claude(request, service) -> anthropic.Anthropic:
    if request.param == "sealed":
        return service.client().anthropic()
    return anthropic.Anthropic(base_url=service.proxy, api_key="none", max_retries=0)


def test_responses(talk):
    whole = talk.responses.create(**GREEDY, input=QUESTION, max_output_tokens=20)
    assert whole.output_text == ANSWER
    assert whole.usage.output_tokens > 0
    with talk.responses.stream(**GREEDY, input=QUESTION, max_output_tokens=20) as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_response()
    assert final.output_text == whole.output_text
    assert final.usage == whole.usage
    assert kinds[0] == "response.created"
    assert kinds[-1] == "response.completed"
    cut = talk.responses.create(**GREEDY, input=QUESTION, max_output_tokens=2)
    assert cut.status == "incomplete"


def test_messages(claude):
    asked = {"model": "m", "max_tokens": 20, "messages": SAY, "extra_body": {"temperature": 0}}
    whole = claude.messages.create(**asked)
    assert whole.content[0].text == ANSWER
    assert whole.stop_reason == "end_turn"
    with claude.messages.stream(**asked) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    assert text == whole.content[0].text
    assert final.usage.output_tokens == whole.usage.output_tokens > 0
    assert final.usage.input_tokens == whole.usage.input_tokens
    assert claude.messages.count_tokens(model="m", messages=SAY).input_tokens == whole.usage.input_tokens


def test_tokens_are_counted_as_the_answers_usage_counts_them(talk):
    said = talk.chat.completions.create(model="m", messages=SAY, max_tokens=1)
    counted = talk.post("/tokenize", body={"model": "m", "messages": SAY}, cast_to=object)
    assert counted["count"] == said.usage.prompt_tokens
    assert (counted["max_model_len"], counted["tokens"]) == (SETTINGS["context"], None)
    counts = [
        talk.post("/tokenize", body={"model": "m", "prompt": text}, cast_to=object)["count"]
        for text in ("", "Hello", "Hello, wörld: 12345")
    ]
    assert counts == sorted(set(counts)), "more text has more tokens"
    assert counts[0] == 0


def test_answers_of_a_schema(talk, claude):
    text = {"format": {"type": "json_schema", "name": "place", "schema": SCHEMA}}
    response = talk.responses.create(**GREEDY, input=QUESTION, text=text, max_output_tokens=40)
    assert json.loads(response.output_text).keys() == {"city"}
    message = claude.messages.create(
        model="m", max_tokens=40, messages=SAY, output_config={"format": {"type": "json_schema", "schema": SCHEMA}}
    )
    assert json.loads(message.content[0].text).keys() == {"city"}


def test_tools_in_each_form(client):
    talk, claude = client.openai(), client.anthropic()
    tool = {"name": "weather", "description": "The weather in a city."}
    ask = "What is the weather in Paris?"
    chat = talk.chat.completions.create(
        **GREEDY,
        messages=[{"role": "user", "content": ask}],
        tools=[{"type": "function", "function": {**tool, "parameters": SCHEMA}}],
        tool_choice="required",
        max_tokens=60,
    )
    (call,) = chat.choices[0].message.tool_calls
    assert (call.function.name, json.loads(call.function.arguments).keys()) == ("weather", {"city"})
    with talk.responses.stream(
        **GREEDY,
        input=ask,
        tools=[{"type": "function", **tool, "parameters": SCHEMA, "strict": True}],
        tool_choice="required",
        max_output_tokens=60,
    ) as stream:
        (item,) = stream.until_done().get_final_response().output
    assert (item.type, item.name, json.loads(item.arguments).keys()) == ("function_call", "weather", {"city"})
    with claude.messages.stream(
        model="m",
        max_tokens=60,
        messages=[{"role": "user", "content": ask}],
        tools=[{**tool, "input_schema": SCHEMA}],
        tool_choice={"type": "tool", "name": "weather"},
    ) as stream:
        message = stream.get_final_message()
    assert message.stop_reason == "tool_use"
    (block,) = message.content
    assert (block.name, block.input.keys()) == ("weather", {"city"})
    assert [verify_document(document).outcome for document in client.receipts] == ["complete"] * 3


def test_embeddings_are_alike_for_what_is_alike(talk):
    texts = ["The cat sat on the mat.", "The cat sat on the mat!", "Interest rates rose by two percent."]
    answer = talk.embeddings.create(model="m", input=texts)
    first, second, other = (item.embedding for item in answer.data)
    assert answer.usage.prompt_tokens > 0
    assert len(first) == 576
    assert abs(dot(first, first) - 1) < 1e-3
    assert dot(first, second) > dot(first, other)


def dot(one: list[float], other: list[float]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True))


def test_models(talk, claude):
    assert [model.id for model in talk.models.list()] == ["smollm2"]
    assert claude.models.retrieve("smollm2").id == "smollm2"


TYPES: tuple[Any, ...] = (None, True, -1, 1.5, "x", [], [None], [[]], {}, {"type": "odd"}, "\ud800", 2**70)
MEMBERS = {
    "/v1/chat/completions": ({"messages": SAY, "max_tokens": 1}, ("messages", "tools", "tool_choice", "response_format", "stop")),
    "/v1/completions": ({"prompt": "x", "max_tokens": 1}, ("prompt", "stop", "logprobs", "stream_options")),
    "/v1/embeddings": ({"input": "x"}, ("input", "encoding_format")),
    "/v1/responses": ({"input": "x", "max_output_tokens": 1}, ("input", "tools", "tool_choice", "text", "instructions")),
    "/v1/messages": ({"messages": SAY, "max_tokens": 1}, ("messages", "system", "tools", "tool_choice", "stop_sequences")),
    "/v1/messages/count_tokens": ({"messages": SAY}, ("messages", "system", "tools")),
}  # fmt: skip


@pytest.mark.parametrize("path", MEMBERS)
def test_whatever_a_member_holds_the_answer_is_one_of_the_form_and_the_engine_lives(service, client, path):
    keyset = client.verify().keyset
    transport = SealedTransport(httpx2.HTTPTransport(), keyset.channel, on_exchange=lambda _: None)
    base, members = MEMBERS[path]
    refused = 0
    with httpx2.Client(transport=transport, base_url=service.served.url, timeout=60) as http:
        for member in members:
            for value in TYPES:
                answer = http.post(
                    path, content=json.dumps({**base, member: value}), headers={"content-type": "application/json"}
                )
                assert answer.status_code in {200, 400, 500, 503}, (member, value)
                told = answer.json()
                if answer.status_code != 200:
                    refused += 1
                    assert isinstance(told["error"]["message"], str)
                    assert ("type" in told) == path.startswith("/v1/messages")
    assert refused > 0
    assert client.ask(QUESTION, max_tokens=20, temperature=0) == ANSWER
