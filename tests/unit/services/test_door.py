"""A front door before real workers of the tests: whom it admits, what it carries and to whom, what it leaves out."""

import asyncio
import json
from contextlib import ExitStack
from functools import partial

import ehbp as tinfoil
import httpx
import httpx2
import pytest
from fleets import Wire, opened, wait_for
from world import SETTINGS, WORDS, world

from strongroom.channel import ehbp, v2
from strongroom.channel.once import REQUEST_HEADER
from strongroom.client.client import AsyncClient
from strongroom.errors import ServiceUnavailable, WorkerBusy
from strongroom.records import codec
from strongroom.records.fleet import FLEET_PATH, JOIN_PATH, FleetRecord, JoinRequest
from strongroom.records.policy import Requirement
from strongroom.records.session import EVIDENCE_PATH
from strongroom.services.proxy import Proxy
from strongroom.services.relay import Relay
from strongroom.services.server import BackgroundServer

CHAT = {"messages": [{"role": "user", "content": "canary-prompt"}]}
PATH = "/v1/chat/completions"
ANSWER = "".join(WORDS)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    with world(tmp_path_factory.mktemp("world")) as made:
        yield made


@pytest.fixture(scope="module")
def workers(place):
    with ExitStack() as stack:
        yield [stack.enter_context(place.serving()) for _ in range(3)]


@pytest.fixture(scope="module")
def door(place, workers):
    with opened(place, *(worker.url for worker in workers)) as found:
        yield found


def asked(workers) -> list[int]:
    return [len(worker.engine.requests) for worker in workers]


def test_the_record_names_each_worker_once_with_keys_of_its_own(place, workers, door):
    record = codec.decode(FleetRecord, httpx2.get(door.url + FLEET_PATH).content)
    own = {place.client(worker.url).verify().keyset.digest for worker in workers}
    assert {entry.keyset for entry in record.entries} == own
    assert len(own) == 3
    assert {entry.models for entry in record.entries} == {("echo",)}
    assert all(entry.added <= record.time < entry.not_after for entry in record.entries)


def test_a_client_verifies_the_worker_that_answers_it_and_stays_with_it(place, workers, door):
    client = place.client(door.url)
    before = asked(workers)
    assert [client.ask("hello") for _ in range(4)] == [ANSWER] * 4
    assert sorted(new - old for new, old in zip(asked(workers), before, strict=True)) == [0, 0, 4]
    assert client.last_receipt.receipt is not None


def test_clients_spread_over_all_workers(place, workers, door):
    before = asked(workers)
    for _ in range(24):
        place.client(door.url).ask("hello")
    assert all(new > old for new, old in zip(asked(workers), before, strict=True))


def test_equal_affinities_meet_one_worker(place, door):
    first = place.client(door.url)
    keyset = first.verify().keyset.digest
    for _ in range(5):
        other = place.client(door.url)
        other.replicas.affinity = first.replicas.affinity
        assert other.verify().keyset.digest == keyset


def test_each_worker_can_be_asked_for_evidence_by_its_keyset(place, door):
    client = place.client(door.url)
    client.verify()
    entries = client.fleet().entries
    assert len(entries) == 3
    for entry in entries:
        assert client.verify(entry.keyset).keyset.digest == entry.keyset


def test_a_busy_worker_sends_its_client_to_another(place, workers, door):
    client = place.client(door.url)
    first = client.verify().keyset.digest
    busy = next(worker for worker in workers if place.client(worker.url).verify().keyset.digest == first)
    before, line = len(busy.engine.requests), busy.worker._workload.models[0].line
    line.room, kept = -line.slots, line.room
    try:
        assert client.ask("hello") == ANSWER
    finally:
        line.room = kept
    assert len(busy.engine.requests) == before
    assert client.verification is not None
    assert client.verification.keyset.digest != first


def test_stock_clients_keep_one_worker_from_key_to_request(workers, door):
    before = asked(workers)
    with httpx.Client() as plain:
        config = plain.get(door.url + ehbp.KEYS_PATH).content
    identity = tinfoil.ServerIdentity.from_public_key_hex(config[3:35].hex())
    with httpx.Client(transport=tinfoil.EHBPTransport(identity, inner=httpx.HTTPTransport())) as client:
        for _ in range(3):
            answer = client.post(door.url + PATH, json=CHAT)
            assert answer.json()["choices"][0]["message"]["content"] == ANSWER
        with client.stream("POST", door.url + PATH, json={**CHAT, "stream": True}) as stream:
            assert "data: [DONE]" in stream.read().decode()
    assert sorted(new - old for new, old in zip(asked(workers), before, strict=True)) == [0, 0, 4]


def test_a_stock_client_without_a_key_of_ours_is_told_to_fetch_one(door, workers):
    before = asked(workers)
    sealed = {ehbp.ENCAPSULATION_HEADER: "00" * 32}
    door.door._sticky._known.clear()
    answer = httpx2.post(door.url + PATH, content=b"x", headers=sealed)
    assert (answer.status_code, answer.headers["content-type"]) == (422, ehbp.PROBLEM_MEDIA_TYPE)
    assert answer.json()["type"] == ehbp.KEY_CONFIG_PROBLEM
    assert asked(workers) == before


def test_an_unknown_keyset_is_refused_as_unread(door):
    headers = {v2.KEYSET_HEADER: "sha256:" + "0" * 64, "content-type": v2.MEDIA_TYPE}
    answer = httpx2.post(door.url + v2.PATH, content=b"x", headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (422, "channel.key")
    assert httpx2.post(door.url + v2.PATH, content=b"x").status_code == 422


@pytest.mark.parametrize("path", [PATH, "/v1/messages", "/v1/receipts/x"])
def test_content_in_the_clear_goes_no_further(door, path):
    answer = httpx2.post(door.url + path, json=CHAT, headers={"authorization": "Bearer canary"})
    assert (answer.status_code, answer.json()["code"]) == (403, "channel.refused")


@pytest.mark.parametrize("path", ["/fleet", JOIN_PATH, "/metrics", "/v2/x", "/"])
def test_what_is_for_operators_and_what_is_unknown_is_not_there_for_callers(door, path):
    assert httpx2.get(door.url + path).status_code == 404
    assert httpx2.post(door.url + path, json={}).status_code in {404, 405}


def test_credentials_and_addresses_stay_at_the_door(place, workers):
    headers = dict.fromkeys(
        ("authorization", "cookie", "x-api-key", "x-forwarded-for", "forwarded", "via", "user-agent"), "canary"
    )
    headers[REQUEST_HEADER] = "canary"
    with Wire(workers[0].url) as wire, opened(place, wire.url) as door:
        httpx2.get(door.url + ehbp.KEYS_PATH + "?canary", headers=headers)
        httpx2.get(door.url + "/v1/models?canary", headers=headers)
        httpx2.post(door.url + PATH, content=b"x", headers={**headers, ehbp.ENCAPSULATION_HEADER: "00" * 32})
        assert b"GET /.well-known/hpke-keys HTTP/1.1" in wire.seen
        assert b"POST /v1/chat/completions HTTP/1.1" in wire.seen
        assert b"canary" not in wire.seen


def test_questions_and_requests_are_bounded(door):
    long = {v2.KEYSET_HEADER: codec.decode(FleetRecord, httpx2.get(door.url + FLEET_PATH).content).entries[0].keyset}
    assert httpx2.post(door.url + EVIDENCE_PATH, content=bytes(5000)).status_code == 413
    pieces = (bytes(1 << 20) for _ in range(21))
    assert httpx2.post(door.url + v2.PATH, content=pieces, headers=long).status_code == 413


def test_a_worker_whose_evidence_does_not_pass_is_shown_with_the_reason_and_given_nothing(place, workers):
    stranger = place.make_policy(configuration=Requirement(one_of=("sha256:" + "0" * 64,)))
    with ExitStack() as stack:
        door = stack.enter_context(opened(place, policy=stranger))
        door.loop.call_soon_threadsafe(lambda: door.fleet.add(workers[0].url, configured=True))
        told = door.await_standing(workers[0].url, "refused")
        assert told["reason"].startswith("appraisal.refused")
        assert codec.decode(FleetRecord, httpx2.get(door.url + FLEET_PATH).content).entries == ()
        assert httpx2.get(door.url + "/healthz").status_code == 503
        answer = httpx2.post(door.url + EVIDENCE_PATH, json={})
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")


def test_a_worker_joins_by_its_address_and_its_evidence(place, workers):
    with opened(place) as door:
        joined = httpx2.post(door.operators + JOIN_PATH, content=codec.encode(JoinRequest(workers[0].url)))
        assert joined.status_code == 202
        door.await_standing(workers[0].url, "ready")
        assert place.client(door.url).ask("hello") == ANSWER
        nonsense = codec.encode(JoinRequest("file:///etc/passwd"))
        assert httpx2.post(door.operators + JOIN_PATH, content=nonsense).status_code == 400
        assert len(door.report()) == 1


def test_a_worker_that_drains_gets_nothing_new_and_one_that_ended_is_away(place):
    with place.serving(linger=3.0) as worker, opened(place, worker.url) as door:
        client = place.client(door.url)
        assert client.ask("hello") == ANSWER
        worker.loop.call_soon_threadsafe(worker.worker.stop)
        door.await_standing(worker.url, "draining")
        assert httpx2.get(door.url + EVIDENCE_PATH).status_code == 405
        with pytest.raises(WorkerBusy):
            client.ask("hello")
        with pytest.raises(ServiceUnavailable):
            place.client(door.url).ask("hello")
        assert len(worker.engine.requests) == 1
        assert worker.ended()
        door.await_standing(worker.url, "away")


def test_a_worker_started_anew_at_the_same_address_is_verified_anew(place):
    with ExitStack() as first:
        worker = first.enter_context(place.serving())
        port = httpx2.URL(worker.url).port
        with opened(place, worker.url) as door:
            client = place.client(door.url)
            client.ask("hello")
            before = door.report()[worker.url]["keyset"]
            first.close()
            with place.serving(port=port):
                wait_for(lambda: door.report()[worker.url]["keyset"] != before)
                door.await_standing(worker.url, "ready")
                assert client.ask("hello") == ANSWER


def test_the_report_says_no_more_than_operators_need(door):
    told = next(iter(door.report().values()))
    assert told.keys() == {"url", "standing", "reason", "keyset", "models", "not_after", "in_flight", "load"}
    assert "canary" not in json.dumps(door.report())


def test_a_relay_before_the_door_leads_to_one_worker(place, workers, door):
    before = asked(workers)
    with BackgroundServer(Relay(door.url).app) as relay:
        client = place.client("http://fleet.invalid", relay=relay.url)
        assert [client.ask("hello") for _ in range(3)] == [ANSWER] * 3
        assert not client.replicas.many
    assert sorted(new - old for new, old in zip(asked(workers), before, strict=True)) == [0, 0, 3]


def test_the_users_proxy_goes_to_another_worker_when_its_own_is_gone(place, door):
    with ExitStack() as stack:
        alone = stack.enter_context(place.serving())
        door.loop.call_soon_threadsafe(lambda: door.fleet.add(alone.url))
        door.await_standing(alone.url, "ready")
        keyset = door.report()[alone.url]["keyset"]
        client = AsyncClient(door.url, policy=place.policy, anchor=place.anchor_file, accept_simulated=True)

        async def turned() -> None:
            await client.verify(keyset)

        asyncio.run(turned())
        with BackgroundServer(Proxy(client).app) as proxy:
            ask = partial(httpx2.post, proxy.url + PATH, json=CHAT, timeout=30)
            assert ask().json()["choices"][0]["message"]["content"] == ANSWER
            assert len(alone.engine.requests) == 1
            alone.stop()
            assert ask().json()["choices"][0]["message"]["content"] == ANSWER


def test_a_worker_with_tls_of_its_own_is_spoken_to_by_the_key_that_its_evidence_names(tmp_path):
    with (
        world(tmp_path / "world", settings={**SETTINGS, "tls": 1}) as place,
        place.serving() as worker,
        opened(place, worker.url) as door,
    ):
        assert worker.url.startswith("https://")
        assert place.client(door.url).ask("hello") == ANSWER
