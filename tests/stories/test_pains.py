"""Fifteen things that users of other confidential inference services suffered, lived through again here; each has a good end.

The threads in which they told it are known; a test is named after what they suffered. Workers are real but for chip and engine, gateway,
proxy and clients are what is shipped.
"""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import httpx2
import openai
import pytest
from click.testing import CliRunner
from middlebox import Hangup, Middlebox
from talking import TalkingEngine
from world import SETTINGS, WORDS, EchoEngine, Served, World, world

from strongroom.appraisal import appraise
from strongroom.appraisal.policies import to_toml
from strongroom.channel import ehbp
from strongroom.channel.v2 import PATH as SEALED_PATH
from strongroom.cli.receipt import receipt_command
from strongroom.client import client as clients
from strongroom.client.client import AsyncClient, Client
from strongroom.errors import (
    AppraisalRefused,
    ChannelKeyMismatch,
    EngineUnavailable,
    MalformedEvidence,
    ReceiptInvalid,
    ServiceUnavailable,
    StreamTruncated,
    StrongroomError,
)
from strongroom.receipts.receipt import ReceiptDocument, verify_document
from strongroom.records import codec
from strongroom.records.release import PURPOSE_SESSION
from strongroom.records.session import EVIDENCE_PATH, WorkerProof
from strongroom.services.proxy import Proxy
from strongroom.services.server import BackgroundServer
from strongroom.worker.keys import WorkerKeys
from strongroom.worker.workload import Session
from strongroom.workloads.inference import answers

TEXT = "".join(WORDS)
CHAT = "/v1/chat/completions"
SAY: list[Any] = [{"role": "user", "content": "canary-prompt"}]
ASK = {"messages": SAY}
DAY = 86_400


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with world(tmp_path_factory.mktemp("world")) as found:
        yield found


@pytest.fixture
def served(made: World) -> Iterator[Served]:
    with made.serving(TalkingEngine(), slots=4) as found:
        assert found.error is None, found.error
        yield found


def trust(made: World) -> dict[str, Any]:
    return {
        "policy": made.policy,
        "anchor": made.anchor_file,
        "broker": made.broker.identity.fingerprint,
        "accept_simulated": True,
    }


def proxied(made: World, url: str) -> BackgroundServer:
    return BackgroundServer(Proxy(AsyncClient(url, **trust(made))).app)


def port_of(url: str) -> int:
    return int(url.rpartition(":")[2])


def post(url: str, **more: Any) -> httpx2.Response:
    return httpx2.post(url + CHAT, json={**ASK, **more}, timeout=30)


# 1


def test_a_local_proxy_that_was_wedged_for_ever_once_tls_keys_rotated_serves_on(tmp_path):
    """A pin that no longer fits aborts before any byte, so that no answer's header could ever announce new keys."""
    with (
        world(tmp_path, settings={**SETTINGS, "tls": 1}) as made,
        made.serving() as first,
        proxied(made, first.url) as proxy,
    ):
        assert post(proxy.url).status_code == 200
        first.stop()
        for _ in range(2):
            with made.serving(port=port_of(first.url)) as rotated:
                assert [post(proxy.url).status_code for _ in range(2)] == [200, 200]
                assert len(rotated.engine.requests) == 2


# 2


def as_json(status: int, _: bytes) -> tuple[int, bytes, str] | None:
    return (status, b'{"error":{"message":"upstream error"}}', "application/json") if status == 422 else None


def as_bad_gateway(status: int, _: bytes) -> tuple[int, bytes, str] | None:
    return (502, b"<html>bad gateway</html>", "text/html") if status == 422 else None


@pytest.mark.parametrize(("rewrap", "lost"), [(as_json, 0), (as_bad_gateway, 1)])
def test_clients_with_stale_keys_that_failed_for_ever_behind_a_proxy_that_rewrapped_422_verify_again(
    made, rewrap, lost
):
    """Behind a status that says "refused" the request is sent once more; behind one that may mean "read", the next one is."""
    with made.serving() as first:
        port = port_of(first.url)
        with (
            BackgroundServer(Middlebox(first.url, rewrap).app) as between,
            proxied(made, between.url) as proxy,
        ):
            client = made.client(between.url)
            assert client.ask("before") == TEXT
            assert post(proxy.url).status_code == 200
            first.stop()
            with made.serving(port=port) as second:
                for _ in range(lost):
                    with pytest.raises(ServiceUnavailable):
                        client.ask("after")
                    assert post(proxy.url).status_code == 503
                assert client.ask("after") == TEXT
                assert post(proxy.url).status_code == 200
                assert len(second.engine.requests) == 2


# 3


def test_a_stream_that_was_cut_and_laundered_into_a_clean_end_is_an_error_in_the_stream(made, served):
    for frames in range(1, 9):  # the head, then the first words
        box = Middlebox(served.url, frames=frames)
        with BackgroundServer(box.app) as between, proxied(made, between.url) as proxy:
            client = made.client(between.url)
            with pytest.raises(StreamTruncated):
                client.ask("x")
            assert not client.receipts
            talk = openai.OpenAI(base_url=proxy.url + "/v1", api_key="none", max_retries=0)
            with pytest.raises(openai.APIError):  # in the protocol: no client takes it for an end
                list(talk.chat.completions.create(model="m", messages=SAY, stream=True))


def test_a_stream_that_stalls_has_a_pulse_so_that_nobody_on_the_way_gives_up(made, served, monkeypatch):
    monkeypatch.setitem(answers.stream.__kwdefaults__, "quiet", 0.02)
    served.engine.pause = 0.1
    with (
        proxied(made, served.url) as proxy,
        httpx2.stream("POST", proxy.url + CHAT, json={**ASK, "stream": True}, timeout=30) as answer,
    ):
        text = answer.read()
    assert text.index(b": ping") < text.index(WORDS[0].encode())
    assert text.count(b": ping") > len(WORDS)
    assert b"data: [DONE]" in text


# 4


def test_a_stream_that_breaks_after_200_ends_in_the_protocol_with_a_receipt_that_says_failed(made, served):
    served.engine.fail_after = 3
    client = made.client(served.url)
    with pytest.raises(EngineUnavailable):
        client.ask("x")
    assert verify_document(client.last_receipt).outcome == "failed"
    with proxied(made, served.url) as proxy:
        talk = openai.OpenAI(base_url=proxy.url + "/v1", api_key="none", max_retries=0)
        with pytest.raises(openai.APIError, match="the engine ended"):
            list(talk.chat.completions.create(model="m", messages=SAY, stream=True))


def test_who_leaves_early_does_not_lose_the_receipt_it_is_signed_and_logged_all_the_same(made, monkeypatch):
    signed: list[str] = []
    issue = Session.receipt

    def noted(self: Session, workload: str, **what: Any) -> Any:
        signed.append(what["outcome"])
        return issue(self, workload, **what)

    monkeypatch.setattr(Session, "receipt", noted)
    logged = made.broker.log.newest(made.broker.store)[1]
    with made.serving(TalkingEngine()) as served:
        served.engine.pause = 0.05
        for piece in made.client(served.url).stream("x"):
            assert piece == WORDS[0]
            break
        assert made.client(served.url).ask("y") == TEXT  # the one slot is free again
    assert signed == ["cut", "complete"]
    assert made.broker.log.newest(made.broker.store)[1] > logged + 1  # the release, and a root of both receipts


# 5


@pytest.mark.parametrize("way", ["named", "environment"])
def test_a_proxy_of_the_company_that_was_passed_by_is_honoured_for_evidence_and_answers(made, served, monkeypatch, way):
    asked: list[str] = []

    async def company(scope: Any, receive: Any, send: Any) -> None:
        """A forward proxy: asked for whole addresses."""
        asked.append(scope["path"])
        await Middlebox(served.url).app({**scope, "path": httpx2.URL(scope["path"]).path}, receive, send)

    with BackgroundServer(company) as proxy:
        transport = None
        if way == "named":
            transport = httpx2.HTTPTransport(proxy=proxy.url)
        else:
            monkeypatch.setenv("HTTP_PROXY", proxy.url)
            monkeypatch.setenv("NO_PROXY", "127.0.0.1")  # the middlebox goes straight to the worker
        client = Client("http://worker.invalid", transport=transport, **trust(made))
        assert client.ask("x") == TEXT
    assert asked == [f"http://worker.invalid{path}" for path in (EVIDENCE_PATH, SEALED_PATH)]


# 6


def test_what_was_sent_is_not_sent_again_and_what_was_not_is_sent_once(made, served):
    client = made.client(served.url)
    client.verify()
    with Hangup(("127.0.0.1", port_of(served.url))) as between:
        lost = made.client(between.url, transport=httpx2.HTTPTransport())
        lost.verification = client.verification
        with pytest.raises(ServiceUnavailable):
            lost.ask("x")
        assert (
            len(between.received) == 2
        )  # it may have been read, and was: only the same worker is asked again, and answers once
    assert len(served.engine.requests) == 1
    box = Middlebox(served.url)
    with BackgroundServer(refusing(box)) as stubborn:
        with pytest.raises(ChannelKeyMismatch):
            made.client(stubborn.url).ask("x")
        assert box.asked(SEALED_PATH) == box.asked(EVIDENCE_PATH) == 2  # once more, verified anew, and that was all
    assert len(served.engine.requests) == 1


def refusing(box: Middlebox) -> Any:
    """In front of a middlebox: evidence as it is, every sealed request as if the key did not fit."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http" or scope["path"] != SEALED_PATH:
            await box.app(scope, receive, send)
            return
        box.seen.append((scope["path"], b""))
        headers = [(b"content-type", ehbp.PROBLEM_MEDIA_TYPE.encode())]
        await send({"type": "http.response.start", "status": 422, "headers": headers})
        await send({"type": "http.response.body", "body": json.dumps({"type": ehbp.KEY_CONFIG_PROBLEM}).encode()})

    return app


# 7


def test_replicas_with_keys_of_their_own_behind_one_address_are_each_verified_not_refused(made):
    """One address, another replica for every connection: what a client without the fleet's front door meets."""
    with made.serving() as one, made.serving() as two:
        box = Middlebox(one.url)
        with BackgroundServer(box.app) as between, proxied(made, between.url) as proxy:
            client = made.client(between.url)
            for worker in (one, two, one):
                box.worker = worker.url
                before = len(worker.engine.requests)
                assert client.ask("x") == TEXT
                assert post(proxy.url).status_code == 200
                assert len(worker.engine.requests) == before + 2


# 8


def test_a_plain_post_that_would_have_skipped_the_proof_in_silence_is_refused_on_both_sides(made, served):
    answer = post(served.url)
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "channel.refused")
    assert "strongroom proxy" in answer.json()["error"]["message"]
    assert served.engine.requests == []
    seen: list[bytes] = []

    async def any_server(_scope: Any, receive: Any, send: Any) -> None:
        """Speaks OpenAI's API and proves nothing."""
        seen.append((await receive()).get("body", b""))
        body = json.dumps({"choices": [{"message": {"content": "trust me"}}]}).encode()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
        await send({"type": "http.response.body", "body": body})

    with BackgroundServer(any_server) as server, proxied(made, server.url) as proxy:
        with pytest.raises(StrongroomError):
            made.client(server.url).openai().chat.completions.create(model="m", messages=SAY)
        assert post(proxy.url).status_code >= 400
    assert seen
    assert not any(b"canary-prompt" in body for body in seen)


# 9


def test_a_framework_whose_client_uses_responses_finds_them_and_what_is_not_there_says_what_to_do(made, served):
    with proxied(made, served.url) as proxy:
        talk = openai.OpenAI(base_url=proxy.url + "/v1", api_key="none", max_retries=0)
        assert talk.responses.create(model="m", input="x").output_text == TEXT
        with talk.responses.stream(model="m", input="x") as stream:
            assert stream.get_final_response().output_text == TEXT
        with pytest.raises(openai.NotFoundError) as caught:
            talk.images.generate(model="m", prompt="x")
        assert "docs/reference/channel.md" in str(caught.value)


# 10


def test_a_device_that_was_said_to_be_ready_unseen_is_nothing_and_a_worker_that_failed_its_proof_never_serves(
    made, served
):
    found = made.client(served.url).verify()
    bundle = found.bundle
    assert not any(
        "nvidia" in check.id or "gpu" in check.id for check in found.verdict.checks
    )  # no word on what nobody saw
    with pytest.raises(MalformedEvidence, match="no verifier"):
        appraise(
            replace(bundle, evidence=replace(bundle.evidence, kind="nvidia")),
            policy=made.policy, anchors=made.anchors, nonce=bytes(32), purpose=PURPOSE_SESSION, now=int(time.time()),
        )  # fmt: skip
    unproven = Served(made, EchoEngine(), {"place": made.place(mrtd=bytes(48))})
    unproven.start()
    assert unproven.ended()
    assert isinstance(unproven.error, StrongroomError)
    assert (unproven.url, unproven.engine.loaded) == ("", b"")


# 11


def test_a_site_without_a_network_verifies_and_asks_while_every_vendor_is_unreachable(made, served, monkeypatch):
    reached: list[Any] = []
    connect = socket.socket.connect

    def only_loopback(self: socket.socket, address: Any) -> None:
        if address[0] not in ("127.0.0.1", "::1"):
            reached.append(address)
            raise OSError("unreachable")
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", only_loopback)
    client = made.client(served.url)
    assert client.ask("x") == TEXT  # what vendors signed comes with the evidence; URLs in evidence are never fetched
    assert verify_document(client.last_receipt).outcome == "complete"
    assert reached == []


# 12


def test_collateral_holds_for_as_long_as_its_vendor_says_and_a_service_that_hangs_is_given_up(
    made, served, monkeypatch
):
    client = made.client(served.url)
    client.verify()
    assert client.verification is not None
    bundle = client.verification.bundle
    nonce, signed = b"", int(time.time())

    def failed(days: int) -> set[str]:
        aged = replace(bundle, collateral=made.installation.bundle(signed - days * DAY))
        how: dict[str, Any] = {
            "policy": made.policy,
            "anchors": made.anchors,
            "nonce": nonce,
            "purpose": PURPOSE_SESSION,
        }
        found = appraise(aged, **how, now=signed)
        return {check.id for check in found.failed if "fresh" in check.id or "crl" in check.id}

    assert failed(8) == failed(29) == set()  # no age of our own beside the vendor's
    assert failed(31) >= {"tdx.tcb_info.fresh", "tdx.qe_identity.fresh"}  # each that ended says so by its name
    monkeypatch.setattr(clients, "_TIMEOUT", httpx2.Timeout(0.2))
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(ServiceUnavailable):
        made.client(f"http://127.0.0.1:{silent.getsockname()[1]}").verify()


# 13


def test_a_key_that_somebody_put_beside_a_genuine_quote_seals_nothing(made, served):
    own, names = WorkerKeys.generate(now=int(time.time())).keyset, list[str]()

    def substituted(_: int, body: bytes) -> tuple[int, bytes, str] | None:
        if b"strongroom/worker-proof" not in body:
            return None
        proof = codec.decode(WorkerProof, body)
        evidence = proof.bundle.evidence
        keyset = replace(evidence.keyset, **{name: getattr(own, name) for name in names})
        forged = replace(proof, bundle=replace(proof.bundle, evidence=replace(evidence, keyset=keyset)))
        return 200, codec.encode(forged), "application/json"

    for some in (
        ("channel",),
        ("channel_v2",),
        ("receipt",),
        ("release",),
        ("channel", "channel_v2", "release", "receipt"),
    ):
        names[:] = some
        box = Middlebox(served.url, substituted)
        with BackgroundServer(box.app) as between, proxied(made, between.url) as proxy:
            with pytest.raises(AppraisalRefused) as caught:
                made.client(between.url).ask("x")
            assert "binding.report_data" in caught.value.failed
            assert post(proxy.url).status_code == 502
            assert box.asked(SEALED_PATH) == 0
    assert served.engine.requests == []


# 14


def test_who_never_sees_raw_bytes_has_each_receipt_checked_kept_and_checkable_by_others(made, served, tmp_path):
    client = made.client(served.url)
    talk = client.openai()
    talk.chat.completions.create(model="m", messages=SAY)
    list(talk.chat.completions.create(model="m", messages=SAY, stream=True))
    talk.responses.create(model="m", input="x")
    assert [verify_document(document).outcome for document in client.receipts] == ["complete"] * 3
    saved, policy = tmp_path / "receipt.json", tmp_path / "policy.toml"
    policy.write_text(to_toml(made.policy))

    def check(document: ReceiptDocument) -> int:
        saved.write_bytes(codec.encode(document))
        words = ["verify", str(saved), "--policy", str(policy), "--anchor", str(made.anchor_file), "--accept-simulated"]
        told = CliRunner().invoke(receipt_command, [*words, "--broker-fingerprint", made.broker.identity.fingerprint])
        return 0 if told.exception is None else 1

    assert check(client.last_receipt) == 0
    other = replace(client.last_receipt, response_sha256=bytes(32))
    assert check(other) == 1
    with pytest.raises(ReceiptInvalid):
        verify_document(other)


# 15


def test_what_steers_the_cache_is_not_the_clients_to_say(made, served):
    steering = {"id_slot": 3, "slot_id": 3, "cache_prompt": True, "cache_salt": "somebody else's"}
    talk = made.client(served.url).openai()
    talk.chat.completions.create(model="m", messages=SAY, extra_body=steering)
    asked = served.engine.requests[-1]
    assert asked["messages"] == SAY
    assert asked.get("cache_salt") != steering["cache_salt"]
    assert not {"id_slot", "slot_id", "cache_prompt"} & asked.keys()
