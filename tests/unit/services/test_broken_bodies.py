"""Every path of the broker against bodies, paths and headers that are broken: one problem with a code, nothing written."""

import json

import pytest
from starlette.testclient import TestClient

from strongroom.records import codec
from strongroom.release import wire
from strongroom.release.owners import sign_request
from strongroom.services.broker import broker_app
from strongroom.services.owned import OwnedRoute

DEEP = b"[" * 20_000 + b"]" * 20_000
BODIES = {
    "nothing": b"",
    "a nul": b"\0",
    "null": b"null",
    "a list": b"[]",
    "a text": b'"text"',
    "a number": b"7",
    "an empty object": b"{}",
    "half an object": b'{"type":"strong',
    "an object and more": b"{}{}",
    "NaN": b'{"type":NaN}',
    "infinity": b'{"limit":-Infinity}',
    "a fraction": b'{"limit":1.5}',
    "a number without end": b'{"limit":' + b"9" * 5_000 + b"}",
    "an exponent": b'{"limit":1e9}',
    "a member twice": b'{"type":"a","type":"a"}',
    "a member twice inside": b'{"of":{"a":1,"\\u0061":2}}',
    "half a surrogate pair": b'{"purpose":"\\ud800"}',
    "half a surrogate pair as a name": b'{"\\udfff":1}',
    "bytes that are not UTF-8": b'{"purpose":"\xff"}',
    "an encoded surrogate": b'{"purpose":"\xed\xa0\x80"}',
    "UTF-16": '{"purpose":"release"}'.encode("utf-16"),
    "a byte order mark": b"\xef\xbb\xbf{}",
    "deep lists": DEEP,
    "deep lists in an object": b'{"keys":' + DEEP + b"}",
    "deep objects": b'{"a":' * 5_000 + b"1" + b"}" * 5_000,
    "another type": b'{"type":"strongroom/policy/v1"}',
    "another version": b'{"purpose":"release","type":"strongroom/challenge-request/v2"}',
    "a signed nothing": b'{"payload":"","payloadType":"","signatures":[]}',
    "a signature of another type": b'{"payload":7,"payloadType":[],"signatures":{}}',
    "an envelope around rubbish": b'{"payload":"e30=","payloadType":"x","signatures":[{"sig":"AAAA"}]}',
}
NAMES = ["model", "..", "%00", "%ff", "%F0%9F%94%91", "a%2Fb", "x" * 2_000, "%0d%0aa: b", "'; drop table keys; --", " "]


@pytest.fixture
def app(world):
    return broker_app(world.broker, clock=lambda: world.now)


@pytest.fixture
def web(app):
    with TestClient(app, raise_server_exceptions=True) as client:
        yield client


def posts(app):
    return sorted({path_of(route) for route in app.routes if "POST" in (route.methods or ())})


def path_of(route):
    return route.path.replace("{id:path}", "{id}")


def token(world, method, path, body):
    fingerprint = world.broker.identity.fingerprint
    return sign_request(world.owner, broker=fingerprint, method=method, path=path, body=body, now=world.now)


def ask(world, web, method, path, body=b"", *, signed=True):
    """The status and the problem; signed by the owner, so that owners' paths get as far as the body."""
    headers = {"authorization": f"Bearer {token(world, method, path, body)}"} if signed else {}
    answer = web.request(method, path, content=body, headers=headers)
    if answer.status_code >= 400:
        assert answer.headers["content-type"] == "application/problem+json"
        problem = json.loads(answer.content)
        assert problem["code"]
        assert problem["remedy"]
        return answer.status_code, problem
    return answer.status_code, {}


BODYLESS = {f"/v1/keys/{{id}}/{verb}" for verb in ("rotate", "retire", "destroy")} | {"/v1/leases/{id}/revoke"}
"""What the path says is all; their bodies are signed, and not read."""


@pytest.mark.parametrize("kind", BODIES)
def test_a_broken_body_is_400_at_every_path(world, app, web, kind):
    paths = posts(app)
    assert {"/v1/releases", "/v1/keys", "/v1/cells/{id}/spend", "/v1/audit"} <= set(paths)
    for path in paths:
        if path not in BODYLESS:
            status, problem = ask(world, web, "POST", path.replace("{id}", "model"), BODIES[kind])
            unsigned = kind == "an envelope around rubbish" and status == 403  # it is one, and nobody signed it
            wanted = "signature.invalid" if unsigned else "record.malformed"
            assert (status, problem["code"]) == (403 if unsigned else 400, wanted), path
    assert world.log_size() == 0


def test_a_body_beyond_the_limit_is_413_at_every_path(world, app, web):
    for path in posts(app):
        body = b" " * ((wire.MAX_EXPLAIN_BYTES if path == wire.EXPLAIN_PATH else 1024 * 1024) + 1)
        status, problem = ask(world, web, "POST", path.replace("{id}", "model"), body, signed=False)
        assert (status, problem["code"]) == (413, "record.malformed"), path
    assert world.log_size() == 0


@pytest.mark.parametrize("name", NAMES)
def test_an_odd_name_in_a_path_is_refused_in_order(world, app, web, name):
    for route in app.routes:
        if "{id}" not in path_of(route):
            continue
        for method in sorted(route.methods - {"HEAD"}):
            status, _ = ask(world, web, method, path_of(route).replace("{id}", name), b"{}")
            assert status < 500, (method, route.path, status)
    assert world.log_size() == 0


@pytest.mark.parametrize(
    "header",
    [b"", b"Bearer", b"Bearer ", b"Bearer \xff\xfe", b"bearer a.b.c", b"Basic YTpi", b"Bearer " + b"." * 9_000],
)
def test_an_odd_authorisation_is_401(world, app, web, header):
    for route in app.routes:
        for method in sorted((getattr(route, "methods", None) or set()) - {"HEAD"}):
            path = path_of(route).replace("{id}", "model")
            status = web.request(method, path, headers={"authorization": header}).status_code
            assert (status == 401) is isinstance(route, OwnedRoute), (method, path, status)
    assert world.log_size() == 0


def test_a_member_of_any_other_type_is_malformed(world, web, worker):
    """A good request with one value, at any depth, exchanged for one of another type."""
    good = json.loads(codec.encode(world.request(worker, world.prepared())))
    size, tried = world.log_size(), 0
    for where, value in walk(good):
        for other in (None, True, 7, "text", [], {}, [[]], {"type": None}):
            if type(other) is type(value) or (other is None and "launch_spec" in where) or "tls" in where:
                continue
            body = json.dumps(changed(good, where, other)).encode()
            status, problem = ask(world, web, "POST", "/v1/releases", body, signed=False)
            assert status in {400, 403}, (where, other, status, problem)
            tried += 1
    assert tried > 200
    assert world.log_size() == size


def walk(value, where=()):
    if where:
        yield where, value
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in items:
        yield from walk(child, (*where, key))


def changed(value, where, other):
    if not where:
        return other
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[where[0]] = changed(value[where[0]], where[1:], other)
    return copy
