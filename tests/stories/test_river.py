"""The main job as a story: the demo whole, then what it has no time to show. Real processes, the real model, a simulated TEE."""

from __future__ import annotations

import json
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import httpx2
import openai
import pytest

from strongroom.appraisal.policies import to_toml
from strongroom.client.client import Client
from strongroom.client.documents import check_document
from strongroom.crypto.signatures import private_from_pem
from strongroom.demo import processes
from strongroom.demo.model import find_model
from strongroom.demo.processes import Outcome
from strongroom.demo.stack import KEY_ID, MODEL_NAME, POLICY_ID, Stack, WorkerProcess, stack
from strongroom.errors import AppraisalRefused, SimulationNotAccepted, StrongroomError
from strongroom.receipts.note import open_checkpoint
from strongroom.receipts.tiles import bundles_of, parse_bundle
from strongroom.records import codec
from strongroom.records.digest import Digest
from strongroom.records.policy import Policy, Requirement
from strongroom.records.receipt import Receipt
from strongroom.records.release import Lease
from strongroom.release.client import BrokerClient

pytestmark = [pytest.mark.needs("model"), pytest.mark.timeout(300)]

LEASE_SECONDS = 8
QUESTION = "What is the capital of France?"

STEPS = 7
ATTACKS = {
    "sealed.broken", "appraisal.refused", "release.grant_invalid", "channel.replayed", "channel.truncated",
    "appraisal.simulated", "release.lease_ended",
}  # fmt: skip


def test_the_demo_tells_its_story_and_every_attack_on_it_is_refused():
    outcome = processes.run("demo")
    told = outcome.document
    assert outcome.code == 0, told
    assert len(told["steps"]) == STEPS
    assert all(step.keys() == {"name", "ok", "seconds"} and step["ok"] is True for step in told["steps"])
    assert all(
        attack.keys() == {"name", "refused", "code", "named"} and attack["refused"] is True
        for attack in told["attacks"]
    )
    assert {attack["code"] for attack in told["attacks"]} == ATTACKS
    assert len({attack["name"] for attack in told["attacks"]}) == len(told["attacks"]) >= 11
    assert told["canaries"]["planted"] >= 5
    assert told["canaries"]["found"] == 0
    assert told.keys() == {"steps", "answer", "attacks", "canaries"}


# --- a river of one's own -------------------------------------------------------------------------------------------


@dataclass
class River:
    """A running stack: broker, sealed model, policy in force. Each test starts the workers that it ends."""

    made: Stack
    policy: Policy

    def broker(self) -> BrokerClient:
        identity = private_from_pem(self.made.identity.read_bytes())
        return BrokerClient(self.made.broker.url, fingerprint=Digest(self.made.broker.fingerprint), identity=identity)

    def lease(self, worker: WorkerProcess) -> Lease:
        """The lease that a worker holds."""
        name = self.client(worker).verify().release.lease_id
        return next(lease for lease in self.broker().leases() if lease.id == name)

    def worker(self) -> WorkerProcess:
        return self.made.wait_ready(self.made.start_worker(MODEL_NAME, image=self.made.image))

    def client(self, worker: WorkerProcess, **changed: Any) -> Client:
        trust = {
            "policy": self.policy,
            "anchor": self.made.anchor,
            "broker": self.made.broker.fingerprint,
            "accept_simulated": True,
        }
        return Client(worker.url, **(trust | changed))

    def put(self, policy: Policy) -> Outcome:
        """Sign and publish a policy at the command line."""
        signed = self.made.owner / f"policy-{policy.version}-{time.monotonic_ns()}.json"
        toml = signed.with_suffix(".toml")
        toml.write_text(to_toml(policy))
        processes.must("policy", "sign", toml, "--identity", self.made.identity, "-o", signed)
        return processes.run("policy", "put", signed, *self.made.at_broker())


@pytest.fixture(scope="module")
def river(tmp_path_factory: pytest.TempPathFactory) -> Iterator[River]:
    model = find_model()
    assert model is not None
    with stack(tmp_path_factory.mktemp("river") / "machine") as made:
        made.make_installation()
        processes.must("keys", "new", made.identity)
        made.start_broker()
        folder = made.owner / "model"
        folder.mkdir()
        shutil.copyfile(model, folder / "model.gguf")
        processes.must("keys", "create", KEY_ID, "--policy-id", POLICY_ID, *made.at_broker())
        artifact = made.seal(folder, MODEL_NAME)
        policy = replace(made.policy(artifact, made.configuration(MODEL_NAME)), lease_seconds=LEASE_SECONDS)
        made.publish(policy)
        yield River(made, policy)


@pytest.fixture(scope="module")
def worker(river: River) -> Iterator[WorkerProcess]:
    """One worker for all tests that only talk to it; its lease is renewed all the while."""
    started = river.worker()
    yield started
    end(started)


def end(worker: WorkerProcess) -> None:
    worker.process.stop()
    worker.chip.stop()


def wait_for(what: Callable[[], Any], seconds: float = 40) -> Any:
    """What `what` gives as soon as it is true."""
    deadline = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.1)
    return found


def receipt_of(client: Client) -> Receipt:
    """The newest receipt, checked with all that it rests on."""
    return check_document(client.last_receipt, client.trust).receipt


def test_a_lease_is_renewed_by_fresh_evidence_and_the_receipts_chain_moves(river, worker):
    client = river.client(worker)
    client.ask(QUESTION, max_tokens=4)
    first, began = receipt_of(client), river.lease(worker)
    later = wait_for(lambda: (lease := river.lease(worker)).expires > began.expires + LEASE_SECONDS and lease)
    assert later.renewals >= began.renewals + 2
    again = river.client(worker)
    again.ask(QUESTION, max_tokens=4)
    second = receipt_of(again)
    assert second.lease_id == first.lease_id
    assert second.chain != first.chain
    assert (second.sequence, second.keyset) == (first.sequence + 1, first.keyset)


def test_receipts_are_logged_as_one_root_an_interval(river, worker):
    client = river.client(worker)
    client.ask(QUESTION, max_tokens=2)
    broker = river.broker()

    def logged() -> bool:
        with httpx2.Client(base_url=river.made.broker.url) as http:
            point = open_checkpoint(http.get("/checkpoint").text, broker.identity.log_origin, broker.identity.log)
            entries = [
                entry
                for tile in bundles_of(point.size)
                for entry in parse_bundle(http.get("/" + tile.path).content, tile)
            ]
        found = [json.loads(entry) for entry in entries]
        return any(e["event"] == "receipts" and e["subject"] == receipt_of(client).lease_id for e in found)

    wait_for(logged)


def test_the_openai_client_gets_a_whole_answer_too_with_its_receipt(river, worker):
    client = river.client(worker)
    completion = client.openai().chat.completions.create(
        model="anything", messages=[{"role": "user", "content": QUESTION}], temperature=0, max_tokens=24
    )
    assert "Paris" in completion.choices[0].message.content
    usage = receipt_of(client).usage
    assert usage == {
        "prompt_tokens": completion.usage.prompt_tokens,
        "completion_tokens": completion.usage.completion_tokens,
    }


def test_two_users_at_once_each_get_their_own_answer_and_their_own_receipt(river, worker):
    questions = {"What is the capital of France?": "Paris", "What is the capital of Italy?": "Rome"}

    def user(question: str) -> tuple[str, Receipt]:
        client = river.client(worker)
        return client.ask(question, max_tokens=24, temperature=0), receipt_of(client)

    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(user, questions))
    for (answer, _), wanted in zip(answers, questions.values(), strict=True):
        assert wanted in answer
    receipts = [receipt for _, receipt in answers]
    assert receipts[0].sequence != receipts[1].sequence
    assert receipts[0].request != receipts[1].request


def test_a_user_is_refused_whose_policy_wants_another_model_image_or_configuration(river, worker):
    other = "sha256:" + "7" * 64
    reference = replace(river.policy.references[0], image=Digest(other))
    wishes = {
        "artifacts": {"artifacts": Requirement(one_of=(other,))},
        "configuration": {"configuration": Requirement(one_of=(other,))},
        "image": {"references": (reference,)},
        "workload": {"workload": Requirement(one_of=("job",))},
    }
    for check, wish in wishes.items():
        with pytest.raises(AppraisalRefused) as refused:
            river.client(worker, policy=replace(river.policy, **wish)).ask(QUESTION)
        assert any(check in failed for failed in refused.value.failed), (check, refused.value.failed)


def test_a_user_is_refused_without_the_anchor_the_flag_or_the_right_broker(river, worker):
    with pytest.raises(AppraisalRefused):
        river.client(worker, anchor=None).verify()
    with pytest.raises(SimulationNotAccepted):
        river.client(worker, accept_simulated=False).verify()
    with pytest.raises(StrongroomError) as other:
        river.client(worker, broker="sha256:" + "7" * 64).verify()
    assert other.value.code == "signature.invalid"


def test_any_openai_client_talks_through_the_users_own_proxy(river, worker, tmp_path):
    river.made.worker = worker
    policy = tmp_path / "policy.toml"
    policy.write_text(to_toml(river.policy))
    sdk = openai.OpenAI(base_url=river.made.start_proxy(policy) + "/v1", api_key="none", max_retries=0)
    ask: dict[str, Any] = {
        "model": MODEL_NAME,
        "messages": [{"role": "user", "content": QUESTION}],
        "temperature": 0,
        "max_tokens": 24,
    }
    with sdk:
        assert [model.id for model in sdk.models.list().data] == [MODEL_NAME]
        assert "Paris" in sdk.chat.completions.create(**ask).choices[0].message.content
        stream = sdk.chat.completions.create(**ask, stream=True)
        assert "Paris" in "".join(event.choices[0].delta.content or "" for event in stream if event.choices)
        with pytest.raises(openai.BadRequestError):
            sdk.chat.completions.create(**{**ask, "messages": "no list"})


def test_a_receipt_saved_at_the_command_line_is_checked_offline(river, worker, tmp_path):
    policy, receipt = tmp_path / "policy.toml", tmp_path / "receipt.json"
    policy.write_text(to_toml(river.policy))
    broker = ["--broker-fingerprint", river.made.broker.fingerprint]
    trust = ["--policy", policy, "--anchor", river.made.anchor, *broker]
    said = processes.must("chat", worker.url, QUESTION, "--accept-simulated", "--receipt", receipt, *trust)
    assert "Paris" in said["answer"]
    assert processes.must("receipt", "verify", receipt, "--accept-simulated", *trust)["accepted"] is True
    assert processes.must("log", "verify", receipt, *broker)["leaf"]["event"] in {"release", "renewal"}
    refused = processes.run("receipt", "verify", receipt, *trust)
    assert (refused.code, refused.error) == (1, "appraisal.simulated")
    later = ["--accept-simulated", "--at", str(int(time.time()) + 10 * 365 * 86_400)]
    assert processes.run("receipt", "verify", receipt, *trust, *later).error == "appraisal.refused"


def test_a_stopped_worker_drains_wipes_and_ends_in_order(river):
    started = river.worker()
    started.process.process.send_signal(signal.SIGTERM)
    started.process.line(state="draining")
    started.process.line(state="wiped")
    assert started.process.outcome().code == 0
    with pytest.raises(StrongroomError):
        river.client(started).verify()
    end(started)


def test_an_older_policy_is_refused_and_a_newer_one_ends_the_worker_that_it_does_not_admit(river):
    started = river.worker()
    newer = replace(river.policy, version=river.policy.version + 1)
    assert river.put(newer).code == 0
    older = river.put(river.policy)
    assert (older.code, older.error) == (1, "release.refused")
    before = river.lease(started)
    renewed = wait_for(lambda: (lease := river.lease(started)).renewals > before.renewals and lease)
    assert renewed.id == before.id, "a policy that still admits the worker lets it go on"
    other = {**newer.references[0].registers, "mrtd": ("00" * 48,)}
    reference = replace(newer.references[0], registers=other)
    assert river.put(replace(newer, version=newer.version + 1, references=(reference,))).code == 0
    outcome = started.process.outcome()
    assert (outcome.code, outcome.error) == (1, "appraisal.refused")
    assert '"wiped"' in started.process.log.read_text()
    end(started)
    assert river.put(replace(newer, version=newer.version + 2)).code == 0
    river.policy = replace(newer, version=newer.version + 2)


def test_a_broker_that_is_away_longer_than_the_lease_ends_the_worker(river):
    """The last test: it takes the broker away."""
    started = river.worker()
    client = river.client(started)
    assert client.ask(QUESTION, max_tokens=4)
    kept = codec.encode(client.last_receipt)
    gone = time.monotonic()
    river.made.broker.process.process.kill()
    outcome = started.process.outcome()
    assert (outcome.code, outcome.error) == (1, "release.lease_ended")
    assert time.monotonic() - gone < LEASE_SECONDS + 20
    said = started.process.log.read_text()
    assert said.index('"draining"') < said.index('"wiped"')
    with pytest.raises(StrongroomError):
        client.ask(QUESTION)
    assert check_document(codec.decode(type(client.last_receipt), kept), client.trust), (
        "receipts outlive broker and worker"
    )
    end(started)
