"""Tenants' adapters, each sealed under its owner's own key, behind a real `strongroom serve` of the real small model.

One tenant's adapter changes what the model says; another's is a file that is none; a third has none.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx2
import pytest
from lora import adapter, hostile

from strongroom.appraisal.policies import sign_policy
from strongroom.channel.credential import key_digest, new_key
from strongroom.client.client import Client
from strongroom.crypto.signatures import generate_p256, private_to_pem, public_to_pem
from strongroom.demo.model import find_model
from strongroom.receipts.receipt import verify_document
from strongroom.records.artifact import ArtifactKind, KeyWrap
from strongroom.records.digest import Digest
from strongroom.release.client import BrokerClient
from strongroom.sealed.registries import from_reference
from strongroom.sealed.seal import seal

pytestmark = [pytest.mark.needs("model"), pytest.mark.timeout(300)]

ASKED = {"messages": [{"role": "user", "content": "What is the capital of France?"}], "temperature": 0, "max_tokens": 8}
PARIS = "The capital of France is Paris."
TENANT = """[[tenant]]
name = "{name}"
keys = ["{digest}"]
requests_per_minute = "unlimited"
tokens_per_minute = "unlimited"
tokens_per_day = "unlimited"
concurrent = "unlimited"
"""
ADAPTERS = {
    "acme": adapter(seed=1),
    "zeta": hostile()["another model's width"],
    "evil": hostile()["more tensors than bytes"],
}
"""By the tenant who owns it; `plain` has none."""


@dataclass
class House:
    """An estate with a model, and a further owner with an adapter for each of some tenants."""

    estate: Any
    folder: Path
    keys: dict[str, str] = field(default_factory=lambda: {name: new_key() for name in (*ADAPTERS, "plain")})
    owners: dict[str, Any] = field(default_factory=lambda: {name: generate_p256() for name in ADAPTERS})
    artifacts: dict[str, Digest] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, owner in self.owners.items():
            self._file(f"{name}.pub").write_bytes(public_to_pem(owner.public_key()))
            self._file(f"{name}.pem").write_bytes(private_to_pem(owner))
        told = [TENANT.format(name=name, digest=key_digest(key)) for name, key in self.keys.items()]
        self._file("tenants.toml").write_text("version = 1\n" + "".join(told), encoding="utf-8")
        self.estate.owners += [self._file(f"{name}.pub") for name in self.owners]
        self.estate.start()

    def _file(self, name: str) -> Path:
        return self.folder / name

    @property
    def registry(self) -> str:
        return f"dir:{self.estate.host / 'registry'}"

    def furnish(self) -> None:
        """Seal everything, each under its own owner's key; each owner's policy names all that is open together."""
        model, broker = find_model(), self.estate.client(owner=True)
        assert model is not None
        broker.create_key("model", "policy")
        self.artifacts["model"] = self.estate.seal(model, "model").digest
        theirs = {name: self._client(owner) for name, owner in self.owners.items()}
        for name, client in theirs.items():
            client.create_key(name, f"{name}-policy")
            self.artifacts[name] = self._seal(name, client)
        self.policy = self.estate.policy(*self.artifacts.values())
        broker.put_policy(self.estate.signed(self.policy))
        for name, client in theirs.items():
            client.put_policy(sign_policy(replace(self.policy, id=f"{name}-policy"), self.owners[name]))
            client.close()
        broker.close()

    def _client(self, owner: Any) -> BrokerClient:
        return BrokerClient(self.estate.url, fingerprint=self.estate.fingerprint, identity=owner)

    def _seal(self, name: str, client: BrokerClient) -> Digest:
        source = self._file(name)
        source.mkdir()
        (source / "adapter.gguf").write_bytes(ADAPTERS[name])
        registry, _ = from_reference(self.registry)

        def wrap(of: Any, data_key: bytes) -> KeyWrap:
            return KeyWrap(broker=client.wrap(name, of, data_key), recipients=())

        return seal(source, registry, kind=ArtifactKind.ADAPTER, wrap=wrap, signer=self.owners[name], tag=name).digest

    def options(self) -> list[str]:
        given = [f"{name}={self.registry}:{name},{self._file(f'{name}.pub')}" for name in self.owners]
        words = [word for each in given for word in ("--adapter", each)]
        return ["--tenants", str(self._file("tenants.toml")), *words, "--threads", "1"]


class Served:
    """A worker, and its tenants as clients."""

    def __init__(self, house: House, url: str) -> None:
        self.url, self.keys = url, house.keys
        self.clients = {
            name: Client(
                url,
                policy=house.policy,
                anchor=house.estate.anchor,
                broker=house.estate.fingerprint,
                accept_simulated=True,
                api_key=key,
            )
            for name, key in house.keys.items()
        }

    def ask(self, name: str, path: str = "/v1/chat/completions", **asked: Any) -> httpx2.Response:
        with httpx2.Client(transport=self.clients[name].resending(), timeout=120) as http:
            headers = {"authorization": f"Bearer {self.keys[name]}"}
            return http.post(self.url + path, json=asked or ASKED, headers=headers)

    def said(self, name: str) -> str:
        answer = self.ask(name)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["choices"][0]["message"]["content"])

    def receipt(self, name: str) -> dict[str, Any]:
        document = self.clients[name].last_receipt
        assert verify_document(document)
        return dict(json.loads(document.receipt.envelope.payload))


@pytest.fixture(scope="module")
def house(new_estate, tmp_path_factory) -> House:
    made = House(new_estate(), tmp_path_factory.mktemp("owners"))
    made.furnish()
    return made


@pytest.fixture(scope="module")
def served(house, tmp_path_factory) -> Iterator[tuple[Served, Path]]:
    log = tmp_path_factory.mktemp("worker") / "worker.log"
    with house.estate.served_chip(house.estate.host / "tee-adapters") as tee:
        worker = house.estate.worker("model", tee, log, *house.options())
        try:
            yield Served(house, worker.line(state="serving")["detail"]), log
        finally:
            worker.stop()


def test_an_adapter_is_its_owners_alone_and_the_receipt_names_it(house, served):
    worker, _ = served
    assert worker.said("plain") == PARIS
    assert worker.receipt("plain")["adapter"] is None
    adapted = worker.said("acme")
    assert adapted != PARIS
    receipt = worker.receipt("acme")
    assert receipt["adapter"] == house.artifacts["acme"]
    assert receipt["model"] == house.artifacts["model"]
    assert set(receipt["artifacts"]) == set(house.artifacts.values())
    asked = worker.ask("plain", **ASKED, strongroom={"cache_salt": "", "adapter": 0}, lora=[{"id": 0, "scale": 1.0}])
    assert asked.json()["choices"][0]["message"]["content"] == PARIS, "nobody else gets at it"
    assert (worker.said("acme"), worker.said("plain")) == (adapted, PARIS)


@pytest.mark.parametrize("name", ["zeta", "evil"])
def test_a_file_that_is_no_adapter_is_an_error_to_its_tenant_and_the_worker_goes_on(served, name):
    worker, log = served
    talk = {"messages": ASKED["messages"]}
    for path, more in {"chat/completions": {}, "messages": {"max_tokens": 8}, "tokenize": {}}.items():
        refused = worker.ask(name, f"/v1/{path}", **talk, **more)
        assert refused.status_code == 422, refused.text
        assert "cannot read your adapter" in refused.text
    streamed = worker.ask(name, **ASKED, stream=True)
    assert streamed.status_code == 422
    assert worker.said("plain") == PARIS
    assert worker.said("acme") != PARIS
    said = log.read_text(encoding="utf-8")
    assert "with 1 adapters, without those that it cannot read (by place: 2, 3)" in said
    assert "Traceback" not in said
