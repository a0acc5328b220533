"""The description of a gateway's API is of what it does; schemathesis asks everything that it allows, and what it forbids, sealed."""

import asyncio
import time

import httpx2
import jsonschema
import pytest
import schemathesis
import schemathesis.specs.openapi.schemas  # what it would import later, while other threads run
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import CHECKS
from starlette.routing import Route
from talking import TalkingEngine

from strongroom.bench.gateway import _session
from strongroom.channel import exchange_v2, v2
from strongroom.records.fetched import RECEIPT_KEY_FIELD, RECEIPTS_PATH
from strongroom.services.gateway import Gateway
from strongroom.services.gateway_openapi import OPERATIONS, description
from strongroom.worker.keys import WorkerKeys
from strongroom.workloads.inference.workload import InferenceWorkload

EXAMPLES = 25
WANTED = [
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
]


class Worker:
    """A gateway without a TEE, whose engine is a double, behind a user who seals whatever is sent."""

    def __init__(self) -> None:
        self.engine, keys = TalkingEngine(), WorkerKeys.generate(now=int(time.time()))
        workload = InferenceWorkload(self.engine, {"name": "echo"}, None, slots=4)  # type: ignore[arg-type]
        self._model = workload.models[0]
        self.gateway = Gateway(workload, _session(keys))
        peer = exchange_v2.peer_of(keys.keyset)
        assert peer is not None
        self.exchanges: list[object] = []
        self._channel = exchange_v2.ChannelV2(peer, self.exchanges.append)

    async def app(self, scope, receive, send):
        if not self._model.up:
            self._model.attach(self.engine)
        if scope["type"] != "http":
            await self.gateway.app(scope, receive, send)
            return
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        target = scope["raw_path"].decode("ascii") + (
            "?" + scope["query_string"].decode() if scope["query_string"] else ""
        )
        sealed = self._channel.seal(scope["method"], (scope["path"], target), scope["headers"], body)
        outer = {
            **scope, "method": sealed.method, "path": v2.PATH, "raw_path": v2.PATH.encode(), "query_string": b"",
            "headers": sealed.headers,
        }  # fmt: skip
        sent, told = iter([{"type": "http.request", "body": sealed.content, "more_body": False}]), []

        async def again():
            found = next(sent, None)
            return found or await asyncio.Future()  # nobody hangs up

        async def keep(message):
            told.append(message)

        await self.gateway.app(outer, again, keep)
        answer = sealed.answer(told[0]["status"], told[0]["headers"])
        assert answer is not None, told
        plaintext = answer.feed(b"".join(message.get("body", b"") for message in told[1:])) + answer.finish()
        await send({"type": "http.response.start", "status": answer.status, "headers": answer.headers})
        await send({"type": "http.response.body", "body": plaintext})


def test_every_route_is_described_and_nothing_else():
    shelf = {("GET", RECEIPTS_PATH)}  # a layer before the routes; below it is asked like them
    routes = shelf | {
        (method, route.path.replace("{name:path}", "{name}"))
        for route in Worker().gateway.routes
        if isinstance(route, Route)
        for method in (route.methods or ())
        if method != "HEAD"
    }
    assert {(operation.method, operation.path) for operation in OPERATIONS} == routes, (
        "say it in services/gateway_openapi.py"
    )
    assert len(OPERATIONS) == len(routes)


def test_a_receipt_is_described_as_it_is_given(worker):
    key = {RECEIPT_KEY_FIELD: "ab" * 32}
    transport = httpx2.ASGITransport(app=worker.app)

    async def story() -> list[httpx2.Response]:
        async with httpx2.AsyncClient(transport=transport, base_url="http://worker") as http:
            before = await http.get(RECEIPTS_PATH, headers=key)
            await http.post("/v1/completions", json={"prompt": "x"}, headers=key)
            return [before, await http.get(RECEIPTS_PATH, headers=key)]

    answers = asyncio.run(story())
    described = description()
    schemas = described["components"]["schemas"]
    responses = described["paths"][RECEIPTS_PATH]["get"]["responses"]
    assert [answer.status_code for answer in answers] == [404, 200]
    for answer in answers:
        content = responses[str(answer.status_code)]["content"][answer.headers["content-type"]]
        _, _, name = content["schema"]["$ref"].rpartition("/")
        jsonschema.validate(answer.json(), schemas[name])


def every(operations):
    return pytest.mark.parametrize("operation", operations, ids=[f"{each.method} {each.path}" for each in operations])


@pytest.fixture(scope="module")
def worker():
    return Worker()


@pytest.fixture
def ask(worker):
    """Ask what schemathesis makes of an operation; the statuses."""
    found = schemathesis.openapi.from_dict(description())
    found.validate()
    found.app = worker.app

    def asked(operation, mode, *more):
        checks, statuses = CHECKS.get_by_names([*more]), []

        @settings(
            max_examples=EXAMPLES,
            deadline=None,
            database=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        )
        @given(case=found[operation.path][operation.method].as_strategy(generation_mode=mode))
        def run(case):
            response = case.call()
            case.validate_response(response, checks=checks)
            statuses.append(response.status_code)

        run()
        return statuses

    return asked


CONTENT = [each for each in OPERATIONS if each.sealed]


@every([each for each in OPERATIONS if each.path.startswith(("/v1/", "/healthz"))])
def test_whatever_is_asked_the_answer_is_one_that_is_described(ask, operation):
    assert max(ask(operation, GenerationMode.POSITIVE, *WANTED)) < 500


@every(CONTENT)
def test_a_body_that_is_not_as_described_is_no_reason_to_fail(ask, operation):
    more = ["negative_data_rejection"] if operation.strict else []
    statuses = ask(operation, GenerationMode.NEGATIVE, *WANTED, *more)
    assert max(statuses) < 500


@every([each for each in OPERATIONS if "evidence" in each.path])
def test_evidence_is_refused_to_whoever_asks_in_another_form_and_a_worker_without_a_device_says_so(ask, operation):
    described = [name for name in WANTED if name != "not_a_server_error"]
    assert set(ask(operation, GenerationMode.POSITIVE, *described)) <= {400, 503}
    assert set(ask(operation, GenerationMode.NEGATIVE, *described, "negative_data_rejection")) <= {400, 413}
