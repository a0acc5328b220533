"""The description of the broker's HTTP API is of what it does; schemathesis asks everything that it allows, and what it forbids."""

import pytest
import schemathesis
import schemathesis.specs.openapi.schemas  # what it would import later, while other threads run
from hypothesis import HealthCheck, assume, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import CHECKS
from schemathesis.core.parameters import ParameterLocation

from strongroom.release.owners import sign_request
from strongroom.services.broker import broker_app
from strongroom.services.openapi import OPERATIONS, description

EXAMPLES = 15
WANTED = [
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
]


def signing(world, app):
    """The application, behind an owner who signs whatever is sent; bad requests so come as far as their parsers."""

    async def owner(scope, receive, send):
        if scope["type"] != "http":
            await app(scope, receive, send)
            return
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        path = scope.get("raw_path", b"").decode("ascii", "replace") or scope["path"]
        token = sign_request(
            world.owner,
            broker=world.broker.identity.fingerprint,
            method=scope["method"],
            path=path,
            body=body,
            now=world.now,
        )
        headers = [pair for pair in scope["headers"] if pair[0] != b"authorization"]
        sent = iter([{"type": "http.request", "body": body, "more_body": False}])

        async def again():
            return next(sent, {"type": "http.disconnect"})

        await app({**scope, "headers": [*headers, (b"authorization", f"Bearer {token}".encode())]}, again, send)

    return owner


@pytest.fixture
def app(world):
    return broker_app(world.broker, clock=lambda: world.now)


def test_every_route_is_described_and_nothing_else(app):
    routes = {
        (method, route.path.replace("{path:path}", "{path}").replace("{id:path}", "{id}"))
        for route in app.routes
        for method in (route.methods or ())
        if method != "HEAD"
    }
    assert {(operation.method, operation.path) for operation in OPERATIONS} == routes, "say it in services/openapi.py"
    assert len(OPERATIONS) == len(routes)


def every(operations):
    return pytest.mark.parametrize("operation", operations, ids=[f"{each.method} {each.path}" for each in operations])


@pytest.fixture
def ask(world, app, worker):
    """Ask what schemathesis makes of an operation, of a broker that has a key, a policy and a lease; the statuses."""
    world.release(world.request(worker, world.prepared()))
    found = schemathesis.openapi.from_dict(description())
    found.validate()
    found.app = signing(world, app)

    def asked(operation, mode, *more):
        checks, statuses = CHECKS.get_by_names([*WANTED, *more]), []

        @settings(max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=list(HealthCheck))
        @given(case=found[operation.path][operation.method].as_strategy(generation_mode=mode))
        def run(case):
            if mode is GenerationMode.NEGATIVE:  # a header that is wrong is put right again by `signing`
                assume(case.meta.components[ParameterLocation.BODY].mode is mode)
            response = case.call()
            case.validate_response(response, checks=checks)
            statuses.append(response.status_code)

        run()
        return statuses

    return asked


@every(OPERATIONS)
def test_whatever_is_asked_the_answer_is_one_that_is_described(ask, operation):
    assert max(ask(operation, GenerationMode.POSITIVE)) < 500


@every([each for each in OPERATIONS if each.takes is not None])
def test_a_body_that_is_not_as_described_is_refused(world, ask, operation):
    size = world.log_size()
    statuses = ask(operation, GenerationMode.NEGATIVE, "negative_data_rejection")
    assert 400 <= min(statuses) <= max(statuses) < 500
    assert world.log_size() == size
