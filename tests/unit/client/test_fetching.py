"""Receipts fetched later: by who asked, also where the answer broke off, and by nobody else."""

import asyncio
import json
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import httpx2
import pytest
from world import EchoEngine, Served, World

from strongroom.channel.client import SealedTransport
from strongroom.channel.relayed import Relay, RelayedTransport
from strongroom.client.client import AsyncClient, Client
from strongroom.client.fetching import Asked, Fetched, check
from strongroom.errors import EngineUnavailable, ReceiptInvalid, ServiceUnavailable, StrongroomError
from strongroom.receipts.receipt import SealedReceipt
from strongroom.records import codec
from strongroom.records.fetched import RECEIPT_KEY_FIELD, RECEIPTS_PATH
from strongroom.services.shelf import Shelf

ASK = {"messages": [{"role": "user", "content": "x"}]}
CHAT = "/v1/chat/completions"


@pytest.fixture
def serving(made: World) -> Iterator[Served]:
    with made.serving(EchoEngine()) as found:
        assert found.error is None, found.error
        yield found


def fetched(client: Client, asked: Asked) -> Fetched:
    """The receipt, as soon as the worker has noticed that the answer was cut."""
    deadline = time.monotonic() + 20
    while True:
        try:
            return client.receipt_of(asked)
        except ServiceUnavailable:
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_the_receipt_of_a_stream_that_was_cut_is_fetched_by_who_asked(made, serving):
    serving.engine.halt_after = 2
    client = made.client(serving.url)
    http = httpx2.Client(transport=client.transport(), timeout=30)
    with http.stream("POST", serving.url + CHAT, json={**ASK, "stream": True}) as answer:
        assert next(answer.iter_bytes())
    assert not client.receipts
    found = fetched(client, client.asked[-1])
    assert found.receipt.outcome == "cut"
    with pytest.raises(ReceiptInvalid):
        check(replace(client.asked[-1], request_sha256=bytes(32)), 200, codec.encode(found.sealed))


def test_the_receipt_of_an_answer_that_failed_and_of_one_that_did_not(made, serving):
    client = made.client(serving.url)
    client.ask("x")
    assert client.receipt_of(client.asked[-1]).sealed == client.last_receipt.receipt
    serving.engine.fail_after = 2
    with pytest.raises(EngineUnavailable):
        client.ask("x")
    assert client.receipt_of(client.asked[-1]).receipt.outcome == "failed"
    assert len({asked.key for asked in client.asked}) == 2


def test_the_asynchronous_client_fetches_too(made, serving):
    async def fetch() -> str:
        client = AsyncClient(
            serving.url,
            policy=made.policy,
            anchor=made.anchor_file,
            broker=made.broker.identity.fingerprint,
            accept_simulated=True,
        )
        await client.ask("x")
        return (await client.receipt_of(client.asked[-1])).receipt.outcome

    assert asyncio.run(fetch()) == "complete"


def test_through_a_relay_as_well(made, serving):
    keyset = made.client(serving.url).verify().keyset
    transport = RelayedTransport(httpx2.HTTPTransport(), Relay(serving.url, keyset.channel, lambda _: None))
    http = httpx2.Client(transport=transport, base_url=serving.url, timeout=30)
    key = {RECEIPT_KEY_FIELD: "ab" * 32}
    assert http.post(CHAT, json=ASK, headers=key).status_code == 200
    assert codec.decode(SealedReceipt, http.get(RECEIPTS_PATH, headers=key).content)


def test_nobody_else_gets_it_and_all_noes_look_alike(made, serving):
    client = made.client(serving.url)
    client.ask("x")
    http = httpx2.Client(transport=client._sealed(client.verification), base_url=serving.url, timeout=30)
    keys: list[Any] = [
        {},
        {RECEIPT_KEY_FIELD: "0" * 64},
        {RECEIPT_KEY_FIELD: "x"},
        {RECEIPT_KEY_FIELD: client.asked[-1].key.upper()},
    ]
    keys.append([(RECEIPT_KEY_FIELD, client.asked[-1].key)] * 2)
    answers = [http.get(RECEIPTS_PATH, headers=key) for key in keys]
    assert {(one.status_code, one.content, one.headers["content-type"]) for one in answers} == {
        (404, answers[0].content, "application/json")
    }
    with pytest.raises(ServiceUnavailable):
        client.receipt_of(replace(client.asked[-1], key="1" * 64))


def test_in_the_clear_and_over_version_1_nothing_is_kept_or_given(made, serving):
    client = made.client(serving.url)
    client.ask("x")
    key = {RECEIPT_KEY_FIELD: client.asked[-1].key}
    assert httpx2.get(serving.url + RECEIPTS_PATH, headers=key).status_code == 403
    first = SealedTransport(httpx2.HTTPTransport(), client.verification.keyset.channel, on_exchange=lambda _: None)
    http = httpx2.Client(transport=first, base_url=serving.url)
    answer = http.post(RECEIPTS_PATH, json={}, headers=key)
    assert answer.status_code == 403


def test_a_body_that_is_no_receipt_is_none(made, serving):
    client = made.client(serving.url)
    client.ask("x")
    for body in (b"", b"{}", b"x" * 100):
        with pytest.raises(StrongroomError):
            check(client.asked[-1], 200, body)


# --- the shelf alone ------------------------------------------------------------------------------------------------------


class Wire:
    """Asks a shelf before an application that makes one receipt for each request."""

    def __init__(self, made: World, served: Served, **options: Any) -> None:
        self.now = 0.0
        client = made.client(served.url)
        client.ask("x")
        self.sealed = client.last_receipt.receipt
        self.shelf = Shelf(self.app, clock=lambda: self.now, **options)

    async def app(self, *_: Any) -> None:
        from strongroom.worker.workload import _WATCHERS

        for watcher in _WATCHERS.get():
            watcher(None, self.sealed)  # type: ignore[arg-type]

    def ask(self, key: str, path: str = CHAT) -> int:
        said: list[Any] = []

        async def send(message: Any) -> None:
            said.append(message)

        scope = {
            "type": "http",
            "method": "GET",
            "path": path,
            "headers": [(RECEIPT_KEY_FIELD.encode(), key.encode())],
            "strongroom.sealed_fields": True,
        }
        asyncio.run(self.shelf(scope, None, send))  # type: ignore[arg-type]
        return int(said[0]["status"]) if said else 0


def test_what_is_kept_is_bounded_in_number_and_time(made, served):
    wire = Wire(made, served, most=3, seconds=60)
    keys = [f"{number:064x}" for number in range(5)]
    for key in keys:
        wire.ask(key)
    assert [wire.ask(key, RECEIPTS_PATH) for key in keys] == [404, 404, 200, 200, 200]
    wire.now = 59.9
    assert wire.ask(keys[4], RECEIPTS_PATH) == 200
    wire.now = 60.0
    assert wire.ask(keys[4], RECEIPTS_PATH) == 404
    assert not wire.shelf._kept


def test_keys_are_not_kept(made, served):
    wire = Wire(made, served)
    wire.ask("ab" * 32)
    assert "ab" * 32 not in json.dumps([name.hex() for name in wire.shelf._kept])
    assert bytes.fromhex("ab" * 32) not in wire.shelf._kept
