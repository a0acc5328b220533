"""Two tenants and one worker: each with its own key, quota, cache and adapter, and neither with anything of the other's."""

import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import anthropic
import httpx2
import openai
import pytest
from joserfc import jwt
from joserfc.jwk import ECKey
from world import SETTINGS, WORDS, EchoEngine, World, world

from strongroom.appraisal.policies import sign_policy
from strongroom.channel import ehbp
from strongroom.channel.credential import MEMBER, key_digest, new_key
from strongroom.engines.steering import MEMBER as STEERING
from strongroom.errors import ReceiptInvalid, ServiceUnavailable
from strongroom.receipts.receipt import verify_document
from strongroom.records.artifact import ArtifactKind
from strongroom.records.policy import Requirement
from strongroom.services.tenancy.file import read_tenants
from strongroom.services.tenancy.layer import Door

ACME, ZETA = new_key(), new_key()
LOGIN = ECKey.generate_key("P-256", {"kid": "one"})
URL, NOW = "https://login.example.org", 1_800_000_000
FILE = f"""version = 1
[[issuer]]
name = "login"
url = "{URL}"
audience = "strongroom"
jwks = "login.json"
algorithms = ["ES256"]
[[tenant]]
name = "acme"
keys = ["{key_digest(ACME)}"]
members = [{{ issuer = "login", claim = "org", value = "acme" }}]
requests_per_minute = "unlimited"
tokens_per_minute = "unlimited"
tokens_per_day = "unlimited"
concurrent = 4
[[tenant]]
name = "zeta"
keys = ["{key_digest(ZETA)}"]
requests_per_minute = "unlimited"
tokens_per_minute = 20
tokens_per_day = "unlimited"
concurrent = "unlimited"
"""


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class House:
    """One worker with two adapters, each sealed under its owner's own key and policy, and a door before it."""

    def __init__(self, place: World, folder: Path) -> None:
        (folder / "login.json").write_text(json.dumps({"keys": [LOGIN.as_dict(private=False)]}), encoding="utf-8")
        (folder / "tenants.toml").write_text(FILE, encoding="utf-8")
        self.tenants, self.clock = read_tenants(folder / "tenants.toml"), Clock()
        self.place, self.engine = place, EchoEngine()
        owners = ("acme", "zeta")
        for owner in owners:
            place.admin.create_key(owner, f"{owner}-policy")
        adapters = [
            place.seal(owner, f"GGUF adapter of {owner}".encode(), key=owner, kind=ArtifactKind.ADAPTER)
            for owner in owners
        ]
        measured = {"tenants": self.tenants.digest, "adapter.acme": 1, "adapter.zeta": 2}
        self.configuration = replace(place.configuration, settings={**SETTINGS, **measured})
        self.policy = place.make_policy(
            artifacts=Requirement(one_of=(place.artifact, *adapters)),
            configuration=Requirement(one_of=(self.configuration.digest,)),
            version=2,
        )
        for name in ("policy", *(f"{owner}-policy" for owner in owners)):
            place.admin.put_policy(sign_policy(replace(self.policy, id=name), place.owner))
        self.adapters = adapters
        self.inputs = [place.opener(tag) for tag in ("model", *owners)]

    def within(self, app: Any) -> Door:
        return Door(app, self.tenants, cache=True, adapters={"acme": 0, "zeta": 1}, clock=self.clock, now=lambda: NOW)

    def client(self, url: str, key: str | None, **changed: Any) -> Any:
        return self.place.client(url, policy=self.policy, api_key=key, **changed)


@pytest.fixture
def house(tmp_path):
    with world(tmp_path / "world") as place:
        yield House(place, tmp_path)


@pytest.fixture
def served(house):
    with house.place.serving(
        house.engine, inputs=house.inputs, configuration=house.configuration, within=house.within
    ) as worker:
        assert worker.error is None
        yield worker


def steered(house: House) -> dict[str, Any]:
    return dict(house.engine.requests[-1][STEERING])


def test_each_tenant_gets_its_own_adapter_and_cache_and_the_receipt_says_whose(house, served):
    assert house.engine.adapters == [b"GGUF adapter of acme", b"GGUF adapter of zeta"]
    acme, zeta = house.client(served.url, ACME), house.client(served.url, ZETA)
    assert acme.ask("q", id_slot=1, cache_salt="zeta's", strongroom={"adapter": 1}) == "".join(WORDS)
    first = steered(house)
    assert first["adapter"] == 0
    assert not {"id_slot", "cache_salt"} & set(house.engine.requests[-1])
    assert zeta.ask("q") == "".join(WORDS)
    second = steered(house)
    assert second["adapter"] == 1
    assert first["cache_salt"] != second["cache_salt"]
    assert acme.openai().chat.completions.create(
        model="echo", messages=[{"role": "user", "content": "q"}], extra_body={"cache_salt": second["cache_salt"]}
    )
    assert steered(house) == first

    named = {client.last_receipt.receipt.namespace for client in (acme, zeta)}
    assert len(named) == 2
    assert None not in named
    applied = [verify_document(client.last_receipt).adapter for client in (acme, zeta)]
    assert applied == house.adapters
    receipt = verify_document(acme.last_receipt)
    assert receipt.cache is not None
    lied = replace(
        acme.last_receipt, receipt=replace(acme.last_receipt.receipt, namespace=zeta.last_receipt.receipt.namespace)
    )
    with pytest.raises(ReceiptInvalid):
        verify_document(lied)


def test_a_token_of_the_right_issuer_for_here_counts_and_one_for_elsewhere_does_not(house, served):
    def token(**changed: object) -> str:
        claims = {"iss": URL, "aud": "strongroom", "exp": NOW + 60, "org": "acme"} | changed
        return str(jwt.encode({"alg": "ES256", "kid": "one"}, claims, LOGIN))

    assert house.client(served.url, token()).ask("q") == "".join(WORDS)
    assert steered(house)["adapter"] == 0
    for wrong, status in (({"aud": "another"}, "401"), ({"exp": NOW - 60}, "401"), ({"org": "zeta"}, "403")):
        with pytest.raises(ServiceUnavailable, match=status):
            house.client(served.url, token(**wrong)).ask("q")
    assert len(house.engine.requests) == 1


def test_a_quota_ends_in_429_in_each_apis_own_form_and_comes_back(house, served):
    client = house.client(served.url, ZETA)
    for _ in range(2):  # twelve tokens each, of twenty a minute
        assert client.ask("q") == "".join(WORDS)
    with pytest.raises(openai.RateLimitError) as limited:
        client.openai().chat.completions.create(model="echo", messages=[{"role": "user", "content": "q"}])
    assert limited.value.response.headers["retry-after"] == "15"
    with pytest.raises(anthropic.RateLimitError):
        client.anthropic().messages.create(model="echo", max_tokens=9, messages=[{"role": "user", "content": "q"}])
    assert house.client(served.url, ACME).ask("q") == "".join(WORDS), "the other tenant's allowance is its own"
    house.clock.now += 15
    assert client.ask("q") == "".join(WORDS)


def test_nobody_is_served_without_a_key_and_the_official_clients_say_so(house, served):
    client = house.client(served.url, None)
    with pytest.raises(ServiceUnavailable, match="401"):
        client.ask("q")
    with pytest.raises(openai.AuthenticationError):
        client.openai().embeddings.create(model="echo", input="q")
    with pytest.raises(anthropic.AuthenticationError):
        client.anthropic().messages.create(model="echo", max_tokens=9, messages=[{"role": "user", "content": "q"}])
    assert [model.id for model in client.openai().models.list().data] == ["echo"]
    assert client.openai(api_key=ACME).chat.completions.create(
        model="echo", messages=[{"role": "user", "content": "q"}]
    )
    assert house.engine.requests[0]["messages"]
    assert len(house.engine.requests) == 1


def test_a_credential_in_the_clear_is_refused_and_logged_nowhere(house, served, caplog, capfd):
    caplog.set_level(logging.DEBUG)
    body = {"messages": [{"role": "user", "content": "q"}]}
    public = house.client(served.url, None).verify().keyset.channel

    def version_1(body: dict[str, Any], **headers: str) -> tuple[int, bytes]:
        """A stock client of EHBP, which can seal its body and no header."""
        sealer = ehbp.RequestSealer(public)
        answer = httpx2.post(
            served.url + "/v1/chat/completions",
            content=sealer.seal(json.dumps(body).encode()),
            headers={ehbp.ENCAPSULATION_HEADER: sealer.encapsulation.hex(), **headers},
        )
        opener = sealer.opener(bytes.fromhex(answer.headers[ehbp.NONCE_HEADER]))
        return answer.status_code, opener.feed(answer.content)

    for headers in ({"authorization": f"Bearer {ACME}"}, {"x-api-key": ACME}):
        plain = httpx2.post(served.url + "/v1/chat/completions", json=body, headers=headers)
        assert (plain.status_code, plain.json()["error"]["code"]) == (401, "tenant.credential_exposed")
        status, said = version_1(body, **headers)
        assert (status, json.loads(said)["error"]["code"]) == (401, "tenant.credential_exposed")
        status, said = version_1({**body, MEMBER: ACME}, **headers)
        assert status == 401
        assert ACME not in plain.text + said.decode()
    assert house.engine.requests == []

    status, _ = version_1({**body, MEMBER: ACME})
    assert status == 200
    assert MEMBER not in house.engine.requests[0]
    written = capfd.readouterr()
    assert ACME not in caplog.text + written.out + written.err
