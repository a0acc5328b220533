"""The door: who is let in, how much, and what goes on of a request; the file of tenants; tokens of others."""

import asyncio
import hmac
import itertools
import json
import time
import warnings
from pathlib import Path
from typing import Any

import pytest
from joserfc import jws, jwt
from joserfc.jwk import ECKey, OctKey, OKPKey, RSAKey

from strongroom.channel.credential import CACHE_FIELD, CACHE_MEMBER, MEMBER, PLACEHOLDER, key_digest, new_key
from strongroom.channel.server import SEALED, SEALED_FIELDS
from strongroom.crypto import jwks
from strongroom.engines.steering import MEMBER as STEERING
from strongroom.engines.steering import Steering
from strongroom.errors import (
    CredentialRefused,
    EngineUnavailable,
    FileUnreadable,
    MalformedRecord,
    QuotaExceeded,
    SignatureInvalid,
    TenantRefused,
    UsageError,
)
from strongroom.records.codec import b64encode
from strongroom.services.tenancy.caller import SCOPE, Caller, cache_salt, namespace_of
from strongroom.services.tenancy.file import Tenants, read_tenants
from strongroom.services.tenancy.identity import LEEWAY, Register
from strongroom.services.tenancy.layer import Door
from strongroom.services.tenancy.limits import Allowance, Meter

NOW = 1_800_000_000
CHAT, MESSAGES = "/v1/chat/completions", "/v1/messages"
ACME, ZETA = new_key(), new_key()
LOGIN, OTHER = ECKey.generate_key("P-256", {"kid": "one"}), ECKey.generate_key("P-256", {"kid": "one"})
URL = "https://login.example.org"
CLAIMS = {"iss": URL, "aud": "strongroom", "exp": NOW + 300, "org": "acme"}
ISSUER = f"""
[[issuer]]
name = "login"
url = "{URL}"
audience = "strongroom"
jwks = "login.json"
algorithms = ["ES256"]
"""


def tenant(name: str, *keys: str, members: str = "[]", **limits: object) -> str:
    told = {"requests_per_minute": '"unlimited"', "tokens_per_minute": '"unlimited"', "tokens_per_day": '"unlimited"',
            "concurrent": '"unlimited"'} | limits  # fmt: skip
    digests = json.dumps([key_digest(key) for key in keys])
    lines = [f'name = "{name}"', f"keys = {digests}", f"members = {members}"]
    return "\n".join(["[[tenant]]", *lines, *(f"{limit} = {value}" for limit, value in told.items()), ""])


ACMES = '[{ issuer = "login", claim = "org", value = "acme" }]'
FILE = "version = 1\n" + ISSUER + tenant("acme", ACME, members=ACMES) + tenant("zeta", ZETA, requests_per_minute=2)


def written(folder: Path, text: str = FILE, keys: object = None) -> Path:
    public = keys if keys is not None else {"keys": [LOGIN.as_dict(private=False)]}
    (folder / "login.json").write_text(json.dumps(public), encoding="utf-8")
    (folder / "tenants.toml").write_text(text, encoding="utf-8")
    return folder / "tenants.toml"


@pytest.fixture
def tenants(tmp_path: Path) -> Tenants:
    return read_tenants(written(tmp_path))


def token(key: Any = LOGIN, algorithm: str = "ES256", header: dict[str, Any] | None = None, **changed: Any) -> str:
    claims = {name: value for name, value in (CLAIMS | changed).items() if value is not None}
    return jwt.encode({"alg": algorithm, "kid": "one", **(header or {})}, claims, key, algorithms=[algorithm])


# The file


def test_the_file_is_read_and_its_digest_is_over_every_byte_and_every_key(tmp_path: Path):
    first = read_tenants(written(tmp_path))
    assert [tenant.name for tenant in first.tenants] == ["acme", "zeta"]
    assert first.tenants[1].requests_per_minute == 2
    assert first.tenants[0].requests_per_minute is None
    assert read_tenants(written(tmp_path)).digest == first.digest
    assert read_tenants(written(tmp_path, FILE + "\n")).digest != first.digest
    assert read_tenants(written(tmp_path, keys={"keys": [OTHER.as_dict(private=False)]})).digest != first.digest


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("version = 1", "version = 2"),
        ("version = 1", "version = true"),
        ("version = 1", "version = 1\nmore = 1"),
        ("version = 1\n", ""),
        ("requests_per_minute = 2", "requests_per_minute = 0"),
        ("requests_per_minute = 2", "requests_per_minute = true"),
        ("requests_per_minute = 2", 'requests_per_minute = "none"'),
        ("requests_per_minute = 2\n", ""),
        ('name = "zeta"', 'name = "acme"'),
        ('name = "zeta"', 'name = "Zeta"'),
        ('name = "zeta"', 'name = "zeta"\nadmin = true'),
        (str(key_digest(ZETA)), str(key_digest(ACME))),
        (str(key_digest(ZETA)), ZETA),
        (f'["{key_digest(ZETA)}"]', "[]"),
        (f'["{key_digest(ZETA)}"]', '"all"'),
        ('issuer = "login"', 'issuer = "another"'),
        ('"ES256"', '"none"'),
        ('"ES256"', '"HS256"'),
        ('["ES256"]', "[]"),
        ('"login.json"', '"missing.json"'),
        ('audience = "strongroom"', 'audience = ""'),
        (ISSUER, ISSUER + ISSUER),
    ],
    ids=map(str, itertools.count()),
)
def test_a_file_with_a_doubt_in_it_is_refused(tmp_path: Path, old: str, new: str):
    assert old in FILE
    with pytest.raises((UsageError, FileUnreadable)):
        read_tenants(written(tmp_path, FILE.replace(old, new)))


@pytest.mark.parametrize(
    "text", ["", "version = 1", "version = 1\ntenant = []", "[[", "version = 1\ntenant = 1", "\ud800"]
)
def test_what_is_no_file_of_tenants_is_refused(tmp_path: Path, text: str):
    path = written(tmp_path)
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(UsageError):
        read_tenants(path)


def test_no_error_of_the_file_repeats_a_key(tmp_path: Path):
    with pytest.raises(UsageError) as refusal:
        read_tenants(written(tmp_path, FILE.replace(str(key_digest(ZETA)), ZETA)))
    assert ZETA not in str(refusal.value.as_dict())


# Tokens


def public(key: Any, **more: str) -> dict[str, Any]:
    return dict(key.as_dict(private=False)) | more


@pytest.mark.parametrize(
    ("algorithm", "key"),
    [
        ("RS256", RSAKey.generate_key(2048)),
        ("ES256", ECKey.generate_key("P-256")),
        ("EdDSA", OKPKey.generate_key("Ed25519")),
    ],
    ids=["RS256", "ES256", "EdDSA"],
)
def test_each_algorithm_holds_under_its_own_key_and_under_no_other(algorithm: str, key: Any):
    keys = jwks.parse_set(json.dumps({"keys": [public(key)]}).encode())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # joserfc signs EdDSA by that name under protest
        unnamed = jwt.encode({"alg": algorithm}, CLAIMS, key, algorithms=[algorithm])
    assert jwks.verify(unnamed, keys, jwks.ALGORITHMS) == CLAIMS
    for wrong in (jwks.ALGORITHMS - {algorithm}, frozenset()):
        with pytest.raises(SignatureInvalid):
            jwks.verify(unnamed, keys, wrong)
    head, payload, signature = unnamed.split(".")
    changed = payload[:-2] + ("A" if payload[-2] != "A" else "B") + payload[-1]
    with pytest.raises((SignatureInvalid, MalformedRecord)):
        jwks.verify(f"{head}.{changed}.{signature}", keys, jwks.ALGORITHMS)


@pytest.mark.parametrize(
    "document",
    [{}, [], {"keys": []}, {"keys": [1]}, {"keys": {}}, {"keys": [LOGIN.as_dict(private=True)]},
     {"keys": [OctKey.generate_key(256).as_dict(private=True)]}, {"keys": [public(ECKey.generate_key("P-384"))]},
     {"keys": [public(LOGIN, use="enc")]}, {"keys": [public(LOGIN, alg="RS256")]}, {"keys": [public(LOGIN)] * 2},
     {"keys": [{"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"}]}],
    ids=map(str, itertools.count()),
)  # fmt: skip
def test_a_set_without_one_usable_public_key_is_refused(document: object):
    with pytest.raises(MalformedRecord):
        jwks.parse_set(json.dumps(document).encode())


def test_a_genuine_token_is_a_tenants_by_its_claim(tenants: Tenants):
    register = Register(tenants)
    assert register.identify(token(), NOW).name == "acme"
    assert register.identify(token(aud=["x", "strongroom"], org=["zeta-not", "acme"]), NOW).name == "acme"
    assert register.identify(ACME, NOW).name == "acme"
    with pytest.raises(TenantRefused):
        register.identify(token(org="nobody"), NOW)
    with pytest.raises(TenantRefused):
        register.identify(token(org=None), NOW)


@pytest.mark.parametrize(
    ("changed", "detail"),
    [
        ({"aud": "another"}, "aud"),
        ({"aud": None}, "aud"),
        ({"aud": ["another"]}, "aud"),
        ({"aud": {"strongroom": 1}}, "aud"),
        ({"exp": NOW - LEEWAY}, "exp"),
        ({"exp": None}, "exp"),
        ({"exp": str(NOW + 300)}, "exp"),
        ({"exp": True}, "exp"),
        ({"nbf": NOW + LEEWAY + 1}, "nbf"),
        ({"nbf": "soon"}, "nbf"),
    ],
    ids=str,
)
def test_a_token_for_elsewhere_or_another_time_is_refused(tenants: Tenants, changed: dict[str, Any], detail: str):
    claims = {name: value for name, value in (CLAIMS | changed).items() if value is not None}
    signed = _signed(claims, LOGIN)
    with pytest.raises(CredentialRefused) as refusal:
        Register(tenants).identify(signed, NOW)
    assert refusal.value.detail == detail
    assert signed not in str(refusal.value.as_dict())


def _signed(claims: dict[str, Any], key: Any) -> str:
    """Any claims, also those that a library would not sign."""
    return jws.serialize_compact({"alg": "ES256", "kid": "one"}, json.dumps(claims).encode(), key, ["ES256"])


NO_ALGORITHM, SHARED_SECRET = b'{"alg":"none"}', b'{"alg":"HS256","kid":"one"}'


def unsigned() -> str:
    return f"{b64encode(NO_ALGORITHM)}.{b64encode(json.dumps(CLAIMS).encode())}.{b64encode(b'x')}"


def confused() -> str:
    """Signed with the public key as if it were a shared secret."""
    signed = f"{b64encode(SHARED_SECRET)}.{b64encode(json.dumps(CLAIMS).encode())}"
    return f"{signed}.{b64encode(hmac.digest(LOGIN.as_pem(private=False), signed.encode(), 'sha256'))}"


@pytest.mark.parametrize(
    "wrong",
    [
        "",
        "no token",
        "a.b",
        "a.b.c",
        "...",
        "x" * 20_000,
        new_key(),
        ACME[:-1],
        ACME + "A",
        ACME.upper(),
        token(OTHER),
        token(iss="https://evil.example.org"),
        token(iss=None),
        "e30.e30.e30",
        token(header={"kid": "two"}),
        unsigned(),
        confused(),
        token()[:-4],
    ],
    ids=map(str, itertools.count()),
)
def test_whoever_is_nobody_is_refused(tenants: Tenants, wrong: str):
    with pytest.raises(CredentialRefused) as refusal:
        Register(tenants).identify(wrong, NOW)
    assert not wrong or wrong not in str(refusal.value.as_dict())


# Limits


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_an_allowance_is_used_up_and_fills_again():
    clock = Clock()
    allowance = Allowance(6, 60, clock)
    for _ in range(6):
        assert allowance.wait() == 0
        allowance.take(1)
    assert allowance.wait() == pytest.approx(10)
    clock.now += 10
    assert allowance.wait() == 0
    allowance.take(31)
    assert allowance.wait() == pytest.approx(310)
    clock.now += 1e9
    allowance.wait()
    assert [allowance.take(1) for _ in range(6)]
    assert allowance.wait() > 0, "it holds no more than its amount, however long it rested"
    assert Allowance(None, 60, clock).wait() == 0


def test_requests_at_once_and_tokens_are_counted(tmp_path: Path):
    text = "version = 1\n" + tenant("acme", ACME, concurrent=1, tokens_per_minute=100, tokens_per_day=1000)
    clock = Clock()
    meter = Meter(read_tenants(written(tmp_path, text)).tenants[0], clock)
    meter.enter()
    with pytest.raises(QuotaExceeded, match="under way"):
        meter.enter()
    meter.spend(150)
    meter.leave()
    with pytest.raises(QuotaExceeded) as refusal:
        meter.enter()
    assert refusal.value.seconds == 31
    clock.now += 31
    meter.enter()
    meter.spend(1000)
    meter.leave()
    clock.now += 3600
    with pytest.raises(QuotaExceeded) as refusal:
        meter.enter()
    assert refusal.value.seconds > 3600, "the day's allowance"


# The door


class App:
    """Remembers the scopes it was given; does with a caller what it is told."""

    def __init__(self) -> None:
        self.scopes: list[dict[str, Any]] = []
        self.bodies: list[bytes] = []
        self.error: Exception | None = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.scopes.append(scope)
        self.bodies.append((await receive())["body"])
        if self.error is not None:
            raise self.error
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"yes"})


def through(
    door: Door,
    *fields: tuple[str, str],
    body: object = None,
    path: str = CHAT,
    sealed: bool = True,
    inside: bool = True,
) -> tuple[int, dict[str, str], bytes]:
    """One request: `sealed`, and with its fields `inside` the seal or in the clear."""
    headers = [(name.encode(), value.encode()) for name, value in fields]
    scope = {"type": "http", "method": "POST", "path": path, "headers": headers, SEALED: sealed}
    if sealed and inside:
        scope[SEALED_FIELDS] = True
    sent: list[dict[str, Any]] = []
    content = json.dumps(body if body is not None else {"messages": []}).encode()

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": content, "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(door(scope, receive, send))
    told = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return sent[0]["status"], told, b"".join(message.get("body", b"") for message in sent[1:])


def bearer(key: str) -> tuple[str, str]:
    return "authorization", f"Bearer {key}"


@pytest.fixture
def door(tenants: Tenants) -> Door:
    return Door(App(), tenants, cache=True, adapters={"zeta": 0}, clock=Clock(), now=lambda: NOW, random=bytes)


def inner(door: Door) -> App:
    assert isinstance(door._app, App)
    return door._app


@pytest.mark.parametrize(
    "asked",
    [
        {"fields": [bearer(ACME)]},
        {"fields": [("authorization", f"bearer {ACME}")]},
        {"fields": [("x-api-key", ACME)]},
        {"fields": [("x-api-key", ACME), bearer(PLACEHOLDER)]},
        {"fields": [bearer(token())]},
        {"body": {MEMBER: ACME}},
        {"body": {MEMBER: ACME}, "inside": False},
        {"fields": [bearer(PLACEHOLDER)], "body": {MEMBER: ACME}, "inside": False},
    ],
    ids=["bearer", "lower case", "x-api-key", "both", "token", "member", "member in v1", "member and nobody's key"],
)
def test_a_tenant_is_let_in_and_nothing_of_the_credential_goes_on(door: Door, asked: dict[str, Any]):
    fields = asked.pop("fields", [])
    status, _, body = through(door, *fields, ("strongroom-credit", "kept"), **asked)
    assert (status, body) == (200, b"yes")
    (scope,) = inner(door).scopes
    assert scope[SCOPE].steering.adapter is None
    assert scope["headers"] == [(b"strongroom-credit", b"kept")]


@pytest.mark.parametrize(
    ("asked", "status"),
    [
        ({}, 401),
        ({"fields": [bearer(PLACEHOLDER)]}, 401),
        ({"fields": [bearer(new_key())]}, 401),
        ({"fields": [bearer(token(aud="another"))]}, 401),
        ({"fields": [bearer(token(org="nobody"))]}, 403),
        ({"fields": [bearer(ACME), ("x-api-key", ZETA)]}, 401),
        ({"fields": [bearer(ACME)], "body": {MEMBER: ZETA}}, 401),
        ({"body": {MEMBER: 5}}, 401),
        ({"body": [MEMBER, ACME]}, 401),
        ({"fields": [bearer(ACME)], "body": {CACHE_MEMBER: ""}}, 401),
        ({"fields": [bearer(ACME)], "sealed": False}, 401),
        ({"sealed": False}, 403),
        ({"fields": [bearer(ACME)], "path": "/v1/anything"}, 200),
        ({"path": "/v1/anything"}, 401),
        ({"path": "/v1/models-and-more"}, 401),
        ({"path": "/v1/models"}, 200),
        ({"path": "/v1/models/echo", "sealed": False}, 200),
        ({"path": "/healthz", "sealed": False}, 200),
    ],
    ids=map(str, itertools.count()),
)
@pytest.mark.parametrize("anthropic", [False, True])
def test_nobody_else_is_let_in(door: Door, asked: dict[str, Any], status: int, *, anthropic: bool):
    told = {"path": MESSAGES if anthropic else CHAT} | asked
    fields = told.pop("fields", [])
    found, headers, body = through(door, *fields, **told)
    assert found == status
    assert bool(inner(door).scopes) == (status == 200)
    if status != 200:
        error = json.loads(body)["error"]
        assert error["code"].startswith(("tenant.", "channel."))
        assert (json.loads(body).get("type") == "error") == (told["path"] == MESSAGES)
        assert ("www-authenticate" in headers) == (status == 401)
        assert not any(secret in body.decode() for secret in (ACME, ZETA))


@pytest.mark.parametrize("name", ["authorization", "x-api-key", CACHE_FIELD])
@pytest.mark.parametrize("path", [CHAT, "/v1/models", "/healthz"])
def test_a_credential_in_the_clear_is_refused_loudly_and_never_used(door: Door, name: str, path: str):
    for sealed in (True, False):
        status, _, body = through(door, (name, ACME), body={MEMBER: ACME}, path=path, sealed=sealed, inside=False)
        assert status == 401
        error = json.loads(body)["error"]
        assert error["code"] == "tenant.credential_exposed"
        assert "in the clear" in error["message"]
        assert "Withdraw" in error["message"]
    assert inner(door).scopes == []


def test_a_quota_ends_in_429_with_its_retry_after_and_comes_back(door: Door, tenants: Tenants):
    clock = Clock()
    door = Door(App(), tenants, clock=clock, now=lambda: NOW)
    assert [through(door, bearer(ZETA))[0] for _ in range(2)] == [200, 200]
    status, headers, body = through(door, bearer(ZETA))
    assert (status, headers["retry-after"]) == (429, "30")
    assert json.loads(body)["error"]["type"] == "rate_limit_error"
    assert json.loads(through(door, bearer(ZETA), path=MESSAGES)[2])["error"]["type"] == "rate_limit_error"
    assert through(door, bearer(ACME))[0] == 200, "another tenant's allowance is its own"
    clock.now += 30
    assert through(door, bearer(ZETA))[0] == 200


def test_a_request_that_breaks_does_not_stay_under_way(tmp_path: Path):
    text = "version = 1\n" + tenant("acme", ACME, concurrent=1)
    door = Door(App(), read_tenants(written(tmp_path, text)), now=lambda: NOW)
    inner(door).error = RuntimeError("broke")
    for _ in range(3):
        with pytest.raises(RuntimeError):
            through(door, bearer(ACME))
    inner(door).error = None
    assert through(door, bearer(ACME))[0] == 200


# Whose cache


def test_each_tenant_and_each_of_its_cache_secrets_has_a_cache_of_its_own(door: Door, tenants: Tenants):
    asks = [
        ([bearer(ACME)], None),
        ([("x-api-key", ACME)], None),
        ([bearer(token())], None),
        ([bearer(ZETA)], None),
        ([bearer(ACME), (CACHE_FIELD, "mine")], None),
        ([bearer(ACME)], {CACHE_MEMBER: "mine"}),
        ([bearer(ACME)], {CACHE_MEMBER: "yours"}),
    ]
    for fields, body in asks:
        assert through(door, *fields, body=body)[0] == 200
    callers = [scope[SCOPE] for scope in inner(door).scopes]
    salts = [caller.steering.cache_salt for caller in callers]
    assert len(set(salts[:3])) == 1
    assert len({salts[0], salts[3], salts[4], salts[6]}) == 4
    assert salts[4] == salts[5]
    assert [caller.steering.adapter for caller in callers] == [None, None, None, 0, None, None, None]
    assert [caller.namespace for caller in callers] == [namespace_of(salt) for salt in salts]
    other = Door(App(), tenants, cache=True, now=lambda: NOW)
    through(other, bearer(ACME))
    assert inner(other).scopes[0][SCOPE].steering.cache_salt not in salts, "another worker has another secret"


def test_without_a_cache_nobody_has_a_salt_nor_a_namespace(tenants: Tenants):
    door = Door(App(), tenants, adapters={"zeta": 0}, now=lambda: NOW)
    for fields, body in (([bearer(ACME), (CACHE_FIELD, "mine")], None), ([bearer(ZETA)], {CACHE_MEMBER: "mine"})):
        assert through(door, *fields, body=body)[0] == 200
    callers = [scope[SCOPE] for scope in inner(door).scopes]
    assert [caller.steering for caller in callers] == [Steering("", None), Steering("", 0)]
    assert [caller.namespace for caller in callers] == [None, None]


def test_names_and_secrets_cannot_be_shifted_into_each_other():
    assert cache_salt(b"k", "ab", "c") != cache_salt(b"k", "a", "bc")
    assert cache_salt(b"k", "a") != cache_salt(b"k", "a", "x")


# What is charged


def charged(
    chunks: list[bytes],
    request: dict[str, Any],
    *,
    leave: bool = False,
    error: Exception | None = None,
    operation: str = "completions",
) -> int:
    spent: list[int] = []
    seen: list[dict[str, Any]] = []

    async def generate(_operation: str, asked: Any) -> Any:
        seen.append(asked)
        for chunk in chunks:
            yield chunk
        if error is not None:
            raise error

    async def story() -> None:
        caller = Caller("acme", Steering("salt"), None, spent.append)
        answer = caller.through(generate, 512)(operation, request)
        try:
            async for _ in answer:
                if leave:
                    break
        except EngineUnavailable:
            pass
        await answer.aclose()

    asyncio.run(story())
    assert seen[0][STEERING] == {"cache_salt": "salt", "adapter": None}
    (tokens,) = spent
    return tokens


def test_an_answer_is_charged_once_by_what_the_engine_says_and_by_estimate_where_nobody_waited():
    usage = b'{"usage":{"prompt_tokens":5,"completion_tokens":7}}'
    assert charged([b"{}", b"{}", usage], {"stream": True}) == 12
    assert charged([], {}, error=EngineUnavailable("gone")) == 0
    assert charged([b"{}", b"{}"], {}, error=EngineUnavailable("gone")) == 2
    assert charged([b"{}", b"{}", usage], {"stream": True, "x": "y" * 400}, leave=True) > 100
    assert charged([usage], {"max_tokens": 50}, leave=True) == 12
    assert 50 < charged([b"{}"], {"max_tokens": 50}, leave=True) < 100
    assert 50 < charged([b"{}"], {"max_completion_tokens": 50}, leave=True) < 100
    assert 90 < charged([b"{}"], {"max_tokens": 50, "max_completion_tokens": 90}, leave=True) < 120
    for nothing in ({}, {"max_tokens": None}, {"max_tokens": -1}, {"max_completion_tokens": True}):
        assert charged([b"{}"], nothing, leave=True) >= 512, "all that the model can make"
    assert charged([b"{}"], {"input": "x"}, leave=True, operation="embeddings") < 100


def test_time_is_the_worlds_unless_a_test_says_otherwise(tenants: Tenants):
    live = Door(App(), tenants)
    assert through(live, bearer(token(exp=int(time.time()) + 60)))[0] == 200
    assert through(live, bearer(token(exp=int(time.time()) - 60)))[0] == 401
