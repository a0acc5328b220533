import asyncio
import gzip
import json
import time

import httpx2
import pytest
from world import WORDS

from strongroom.client.client import AsyncClient, Client
from strongroom.errors import (
    AppraisalRefused,
    FileUnreadable,
    LeaseEnded,
    MalformedMessage,
    ServiceUnavailable,
    SignatureInvalid,
    SimulationNotAccepted,
    UsageError,
)
from strongroom.records.digest import digest_bytes
from strongroom.records.policy import Requirement
from strongroom.records.verdict import Level

ANSWER = "".join(WORDS)


def test_a_user_verifies_then_asks_and_holds_a_receipt(made, served):
    client = made.client(served.url)
    assert client.verify().level is Level.SIMULATED
    assert client.ask("What is the capital of France?") == ANSWER
    receipt = json.loads(client.last_receipt.receipt.envelope.payload)
    assert receipt["outcome"] == "complete"
    assert receipt["usage"] == {"completion_tokens": 7, "prompt_tokens": 5}


def test_asking_verifies_first_by_itself(made, served):
    client = made.client(served.url)
    assert client.verification is None
    client.ask("x")
    assert client.verification is not None


def test_there_is_no_receipt_before_an_answer(made, served):
    with pytest.raises(UsageError):
        _ = made.client(served.url).last_receipt


def test_every_answer_has_a_receipt_of_its_own(made, served):
    client = made.client(served.url)
    for _ in range(3):
        client.ask("x")
    numbers = [json.loads(document.receipt.envelope.payload)["sequence"] for document in client.receipts]
    assert numbers == sorted(set(numbers))
    assert len(numbers) == 3


def test_the_openai_client_works_streaming_and_not(made, served):
    openai = made.client(served.url).openai()
    whole = openai.chat.completions.create(model="m", messages=[{"role": "user", "content": "x"}])
    assert whole.choices[0].message.content == ANSWER
    stream = openai.chat.completions.create(model="m", messages=[{"role": "user", "content": "x"}], stream=True)
    assert "".join(event.choices[0].delta.content or "" for event in stream if event.choices) == ANSWER
    assert [model.id for model in openai.models.list()] == ["echo"]


def test_the_asynchronous_client_does_the_same(made, served):
    async def talk() -> tuple[str, str]:
        client = AsyncClient(
            served.url,
            policy=made.policy,
            anchor=made.anchor_file,
            broker=made.broker.identity.fingerprint,
            accept_simulated=True,
        )
        openai = await client.openai()
        whole = await openai.chat.completions.create(model="m", messages=[{"role": "user", "content": "x"}])
        return await client.ask("x"), whole.choices[0].message.content

    assert asyncio.run(talk()) == (ANSWER, ANSWER)


def test_simulation_must_be_accepted_each_time(made, served):
    with pytest.raises(SimulationNotAccepted):
        made.client(served.url, accept_simulated=False).verify()


def test_without_the_installations_root_there_is_no_trust(made, served):
    with pytest.raises(AppraisalRefused):
        made.client(served.url, anchor=None).verify()


def test_another_broker_than_the_one_named_is_noticed(made, served):
    with pytest.raises(SignatureInvalid):
        made.client(served.url, broker=digest_bytes(b"other")).verify()


def test_a_policy_that_wants_something_else_refuses_and_nothing_is_asked(made, served):
    client = made.client(served.url, policy=made.make_policy(artifacts=Requirement(one_of=("sha256:" + "0" * 64,))))
    before = len(served.engine.requests)
    with pytest.raises(AppraisalRefused, match=r"policy\.artifacts"):
        client.ask("secret")
    assert len(served.engine.requests) == before


def test_a_worker_that_is_away_is_said_to_be_away(made):
    with pytest.raises(ServiceUnavailable):
        made.client("http://127.0.0.1:9").verify()


def test_a_server_that_gives_no_evidence_is_no_worker(made):
    transport = httpx2.MockTransport(lambda _: httpx2.Response(404))
    with pytest.raises(ServiceUnavailable):
        made.client("http://127.0.0.1:9", transport=transport).verify()


def test_a_client_needs_an_address_and_a_readable_policy(made, tmp_path):
    with pytest.raises(UsageError):
        made.client("example.org")
    with pytest.raises(FileUnreadable):
        Client("http://127.0.0.1:9", policy=tmp_path / "none.toml")


def test_a_lease_that_is_over_is_not_accepted_and_one_that_ends_is_verified_anew(made, served):
    with pytest.raises(LeaseEnded):
        made.client(served.url, clock=lambda: time.time() + 3600).verify()
    now = time.time()
    client = made.client(served.url, clock=lambda: now)
    first = client.verify()
    client.ask("x")
    assert client.verification is first
    client.verification = None
    client.verify()
    stale = client.verification
    client._clock = lambda: stale.ends
    assert client._current() is None


def test_a_long_lived_openai_client_relies_on_no_ended_lease(made, served):
    client = made.client(served.url)
    openai = client.openai()
    asked = client.verification
    client._clock = lambda: asked.ends
    with pytest.raises(LeaseEnded):
        openai.chat.completions.create(model="m", messages=[{"role": "user", "content": "x"}])


@pytest.mark.parametrize("broker", ["", "x", "sha256:00", "é"])
def test_a_brokers_fingerprint_that_is_none_is_refused_and_never_ignored(made, broker):
    with pytest.raises(UsageError):
        made.client("http://127.0.0.1:9", broker=broker)


@pytest.mark.parametrize("url", ["http://", "http://\x00", "ftp://example.org", "//example.org", ""])
def test_what_is_no_address_is_refused_at_once(made, url):
    with pytest.raises(UsageError):
        made.client(url)


@pytest.mark.parametrize("headers", [{}, {"content-encoding": "gzip"}])
def test_a_proof_without_end_is_not_taken_in(made, headers):
    bomb = gzip.compress(bytes(64 << 20)) if headers else bytes(5 << 20)
    transport = httpx2.MockTransport(lambda _: httpx2.Response(200, content=bomb, headers=headers))
    with pytest.raises(MalformedMessage):
        made.client("http://127.0.0.1:9", transport=transport).verify()


def test_a_policy_that_names_a_builder_is_met_by_what_the_builder_signed(made, served):
    from dataclasses import replace

    from strongroom.appraisal.signed import Known, open_references, sign_references
    from strongroom.crypto.signatures import fingerprint, generate_ed25519
    from strongroom.records.policy import Signer
    from strongroom.records.reference import ReferenceValues

    builder = generate_ed25519()
    signed = sign_references(ReferenceValues("builder", 1, made.policy.references, ()), builder)
    policy = replace(made.policy, references=(), builders=(Signer(fingerprint(builder.public_key()), 1),))
    known = Known(references=(open_references(signed, builder.public_key()),))
    assert made.client(served.url, policy=policy, known=known).verify().verdict.accepted
    with pytest.raises(AppraisalRefused, match=r"statement\.image"):
        made.client(served.url, policy=policy).verify()
