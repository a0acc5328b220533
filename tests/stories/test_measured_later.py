"""A worker that serves is told to go on with another model: measured first, asked for next, and only then opened.

Real parts: broker, evidence and policy, the worker's whole life, the gateway, the user's client. The engine is a double.
"""

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from world import IMAGE, EchoEngine, Served, World, world

from strongroom.appraisal.policies import sign_policy
from strongroom.crypto.signatures import generate_p256
from strongroom.errors import (
    AppraisalRefused,
    GrantInvalid,
    LeaseEnded,
    LogInvalid,
    MalformedRecord,
    ReceiptInvalid,
    ReleaseRefused,
    SignatureInvalid,
    StrongroomError,
    UsageError,
)
from strongroom.receipts.receipt import Issuer
from strongroom.records.evidence import Event
from strongroom.records.policy import Requirement
from strongroom.records.release import (
    PURPOSE_RELEASE,
    ExtensionRequest,
    KeyRequest,
    ReleaseAnswer,
    ReleaseRequest,
    Use,
    renewal_purpose,
)
from strongroom.records.worker import Statement
from strongroom.release.client import BrokerClient
from strongroom.services.gateway import front
from strongroom.worker.attester import Attester
from strongroom.worker.keys import WorkerKeys
from strongroom.worker.later import wrapped_key
from strongroom.worker.life import State
from strongroom.workloads.inference.models import Model
from strongroom.workloads.inference.workload import InferenceWorkload

WAIT = 20.0


@dataclass
class Scene:
    """A broker and two sealed models, of which a worker serves the first; `tag` is what its reference means now."""

    world: World
    first: str
    second: str
    tag: str = "model"
    engines: list[EchoEngine] = field(default_factory=list)
    kinds: list[type[EchoEngine]] = field(default_factory=list)

    def engine(self) -> EchoEngine:
        self.engines.append((self.kinds.pop() if self.kinds else EchoEngine)())
        return self.engines[-1]

    def admit(self, *artifacts: str) -> None:
        made = self.world
        made.policy = replace(made.policy, artifacts=Requirement(one_of=artifacts), version=made.policy.version + 1)
        made.admin.put_policy(sign_policy(made.policy, made.owner))

    @contextmanager
    def serving(self) -> Iterator[Served]:
        self.tag = "model"
        self.engines.clear()
        served = Served(self.world, EchoEngine(), {})
        workload = InferenceWorkload.of([Model({"name": "echo"}, self.engine)], front("127.0.0.1", 0, served._serves))
        served._options |= {"workload": workload, "again": lambda: [self.world.opener(self.tag)]}
        served.start()
        try:
            assert served.url, served.error
            yield served
        finally:
            served.stop()

    def look(self, served: Served, tag: str) -> None:
        self.tag = tag
        served.loop.call_soon_threadsafe(served.worker.look_again)

    def leaves(self) -> list[str]:
        from opened_leaves import opened_leaves

        return [leaf.event for leaf in self.world.broker.store.read(opened_leaves)]


issue = Issuer.issue


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    with world(tmp_path, lease_seconds=6) as made:
        yield Scene(made, made.artifact, made.seal("second", b"GGUF other-weights"))


def until(true) -> None:
    began = time.monotonic()
    while not true():
        assert time.monotonic() < began + WAIT, "it never happened"
        time.sleep(0.02)


def receipt(client):
    return json.loads(client.last_receipt.receipt.envelope.payload)


def test_another_model_takes_the_place_of_the_first_and_everybody_can_tell(scene):
    scene.admit(scene.first, scene.second)
    with scene.serving() as served:
        client = scene.world.client(served.url)
        client.ask("x")
        assert (receipt(client)["model"], receipt(client)["artifacts"]) == (scene.first, [scene.first])
        lease = client.verification.release.lease_id
        scene.look(served, "second")
        until(lambda: len(scene.engines) == 2 and scene.engines[0].killed)
        with pytest.raises(ReceiptInvalid, match="other artifacts"):
            client.ask("x")  # whoever verified before is told that something was opened since
        assert client.verification is None, "the next request begins with a fresh verification"
        verification = client.verify()
        assert verification.bundle.evidence.artifacts == (scene.first, scene.second)
        assert verification.bundle.evidence.statement.artifacts == (scene.first,)
        client.ask("x")
        assert (receipt(client)["model"], receipt(client)["artifacts"]) == (scene.second, [scene.first, scene.second])
        assert verification.release.lease_id == lease, "it is the same lease, which went on"
        scene.look(served, "model")  # back again: measured already, asked for anew
        until(lambda: len(scene.engines) == 3 and scene.engines[1].killed)
        client.ask("x")
        assert receipt(client)["model"] == scene.first
    assert served.error is None
    weights = (b"GGUF canary-weights", b"GGUF other-weights")
    assert [engine.loaded for engine in scene.engines] == [weights[0], weights[1], weights[0]]
    assert all(engine.killed for engine in scene.engines)
    assert scene.leaves().count("release") == 1


def test_one_of_two_names_for_the_same_model_goes_on_with_another(scene):
    scene.admit(scene.first, scene.second)
    served, tags = Served(scene.world, EchoEngine(), {}), ["model", "model"]
    models = [Model({"name": name}, scene.engine) for name in ("a", "b")]

    def inputs():
        return [scene.world.opener(tag) for tag in tags]

    workload = InferenceWorkload.of(models, front("127.0.0.1", 0, served._serves))
    served._options |= {"workload": workload, "inputs": inputs(), "again": inputs}
    served.start()
    try:
        assert served.url, served.error
        client = scene.world.client(served.url)
        client.ask("x", model="a")
        tags[0] = "second"
        served.loop.call_soon_threadsafe(served.worker.look_again)
        until(lambda: len(scene.engines) == 3 and any(engine.killed for engine in scene.engines))
        assert client.verify().bundle.evidence.artifacts == (scene.first, scene.first, scene.second)
        for name, model in (("a", scene.second), ("b", scene.first)):
            client.ask("x", model=name)
            assert receipt(client)["model"] == model
    finally:
        served.stop()
    assert served.error is None


def test_it_is_measured_before_its_key_is_asked_for(scene, monkeypatch):
    order, measure, renew = [], Attester.measure, type(scene.world.broker_client()).renew
    monkeypatch.setattr(Attester, "measure", lambda self, event: (order.append(event), measure(self, event))[1])
    monkeypatch.setattr(
        type(scene.world.broker_client()), "renew", lambda self, asked: (order.append(asked), renew(self, asked))[1]
    )
    scene.admit(scene.first, scene.second)
    with scene.serving() as served:
        scene.look(served, "second")
        until(lambda: len(scene.engines) == 2)
    assert order[0] == Event("artifact", scene.second)
    assert isinstance(order[1], ExtensionRequest)
    assert order[1].bundle.evidence.later == (order[0],)


def test_a_model_that_the_policy_does_not_admit_is_not_opened_and_the_worker_ends(scene):
    """What was measured cannot be taken back: nobody who admits the first alone renews a lease any more."""
    with scene.serving() as served:
        client = scene.world.client(served.url)
        client.ask("x")
        scene.look(served, "second")
        assert served.ended()
    assert isinstance(served.error, AppraisalRefused)
    assert served.error.failed == ("policy.artifacts",)
    assert served.states[-1] is State.WIPED
    assert len(scene.engines) == 1
    assert scene.engines[0].killed


def test_a_model_that_users_do_not_admit_is_seen_by_them(scene):
    scene.admit(scene.first, scene.second)
    with scene.serving() as served:
        mine = replace(scene.world.policy, artifacts=Requirement(one_of=(scene.first,)))
        client = scene.world.client(served.url, policy=mine)
        client.ask("x")
        scene.look(served, "second")
        until(lambda: len(scene.engines) == 2 and scene.engines[0].killed)
        with pytest.raises(AppraisalRefused) as refused:
            client.verify()
    assert refused.value.failed == ("policy.artifacts",)


def test_nothing_is_measured_of_what_is_no_artifact_of_the_owner(scene):
    """A store that lost it, one that holds somebody else's, and one whose key no broker has: the worker goes on as before."""
    said, own = [], scene.world.owner
    with scene.serving() as served:
        served.worker._report = lambda _, text: said.append(text)
        client = scene.world.client(served.url)
        scene.look(served, "nowhere")
        until(lambda: len(said) == 1)
        scene.world.owner = generate_p256()  # by whom it must be signed
        scene.look(served, "second")
        until(lambda: len(said) == 2)
        scene.world.owner = own
        scene.look(served, "model")
        until(lambda: len(said) == 3)
        client.ask("x")
        assert client.verify().bundle.evidence.later == ()
    assert served.error is None
    assert [text.partition(":")[0] for text in said[:3]] == ["not exchanged", "not exchanged", "nothing new to open"]


def extensions(monkeypatch, act) -> None:
    """An extension meets `act`; renewals go on as they were."""
    renew = BrokerClient.renew
    monkeypatch.setattr(
        BrokerClient,
        "renew",
        lambda self, asked: act(self, asked) if isinstance(asked, ExtensionRequest) else renew(self, asked),
    )


def nowhere(client, asked):
    """As a broker of the version before answers."""
    return client.post(f"/v1/leases/{asked.lease_id}/unheard-of", asked, ReleaseAnswer)


def fails(kind):
    def act(_client, _asked):
        raise kind("so it was")

    return act


@pytest.mark.parametrize(
    "act", [nowhere, fails(SignatureInvalid), fails(MalformedRecord)], ids=["no such path", "signature", "malformed"]
)
def test_an_extension_that_fails_leaves_the_worker_as_it_was(scene, monkeypatch, act):
    scene.admit(scene.first, scene.second)
    extensions(monkeypatch, act)
    said = []
    with scene.serving() as served:
        served.worker._report = lambda _, text: said.append(text)
        scene.look(served, "second")
        until(lambda: said)
        before = scene.leaves().count("renewal")
        until(lambda: scene.leaves().count("renewal") > before)
        client = scene.world.client(served.url)
        client.ask("x")
        assert receipt(client)["model"] == scene.first
    assert said[0].startswith("not exchanged")
    assert served.error is None


@pytest.mark.parametrize("kind", [LeaseEnded, LogInvalid, GrantInvalid])
def test_an_extension_that_shows_the_lease_or_the_broker_to_be_gone_ends_the_worker(scene, monkeypatch, kind):
    scene.admit(scene.first, scene.second)
    extensions(monkeypatch, fails(kind))
    with scene.serving() as served:
        scene.look(served, "second")
        assert served.ended()
    assert type(served.error) is kind
    assert served.states[-1] is State.WIPED


class Gated(EchoEngine):
    """An engine whose first answer waits for the test."""

    async def generate(self, operation, request):
        self.opened = self.opened if hasattr(self, "opened") else asyncio.Event()
        async with aclosing(super().generate(operation, request)) as chunks:
            async for chunk in chunks:
                await self.opened.wait()
                yield chunk


def test_what_is_asked_for_meanwhile_is_answered_by_the_model_that_it_began_with(scene, monkeypatch):
    scene.admit(scene.first, scene.second)
    scene.kinds = [Gated]
    issued, said = [], []
    monkeypatch.setattr(Issuer, "issue", lambda self, found: (issued.append(found), issue(self, found))[1])
    with scene.serving() as served:
        early, late = scene.world.client(served.url), scene.world.client(served.url)
        early.verify()

        def ask() -> None:
            try:
                early.ask("x")
            except StrongroomError as error:
                said.append(error)

        asking = threading.Thread(target=ask)
        asking.start()
        until(lambda: scene.engines[0].requests)
        scene.look(served, "second")
        until(lambda: len(scene.engines) == 2 and scene.engines[1].loaded)
        until(lambda: late.verify().bundle.evidence.artifacts == (scene.first, scene.second))
        until(lambda: late.ask("x") and receipt(late)["model"] == scene.second)
        assert not scene.engines[0].killed, "somebody still waits for it"
        served.loop.call_soon_threadsafe(scene.engines[0].opened.set)
        asking.join(WAIT)
        until(lambda: scene.engines[0].killed)
    assert [found.model for found in issued] == [scene.second, scene.first]
    assert [type(error) for error in said] == [ReceiptInvalid], "what was opened meanwhile, this user had not verified"
    assert served.error is None


@dataclass
class Image:
    """What another image might do with the same keys and chip: its evidence is genuine, its order is its own."""

    scene: Scene

    def __post_init__(self) -> None:
        made = self.scene.world
        self.place, self.keys = made.place(), WorkerKeys.generate(now=int(time.time()))
        self.client = made.broker_client()
        statement = Statement("inference", self.place.image, None, (self.scene.first,), made.configuration.digest)
        self.attester = Attester(
            self.place.device, self.place.collateral, kind="tdx", keyset=self.keys.keyset, statement=statement
        )
        challenge = self.client.challenge(PURPOSE_RELEASE)
        bundle = self.attester.prove(challenge.nonce, PURPOSE_RELEASE)
        asked = KeyRequest(self.scene.first, wrapped_key(made.opener()), Use.OPEN)
        self.lease = self.client.release(ReleaseRequest(challenge, bundle, (asked,))).lease_id

    def close(self) -> None:
        self.client.close()

    def ask(self, change=lambda bundle: bundle):
        """Ask for the second model's key with what the evidence says after `change`."""
        opener = self.scene.world.opener("second")
        challenge = self.client.challenge(renewal_purpose(self.lease))
        bundle = change(self.attester.prove(challenge.nonce, challenge.purpose))
        keys = (KeyRequest(opener.digest, wrapped_key(opener), Use.OPEN),)
        return self.client.renew(ExtensionRequest(challenge, bundle, self.lease, keys))


@pytest.fixture
def image(scene: Scene) -> Iterator[Image]:
    scene.admit(scene.first, scene.second)
    made = Image(scene)
    yield made
    made.close()


def events(change):
    return lambda bundle: replace(
        bundle, evidence=replace(bundle.evidence, events=tuple(change(list(bundle.evidence.events))))
    )


def test_an_image_that_opens_something_without_measuring_it_first_is_refused(scene, image):
    with pytest.raises(ReleaseRefused, match="names the artifact asked for"):
        image.ask()
    with pytest.raises(AppraisalRefused) as refused:  # it only says that it measured it
        image.ask(events(lambda found: [*found, Event("artifact", scene.second)]))
    assert "events.replay" in refused.value.failed
    image.attester.measure(Event("artifact", scene.second))
    assert len(image.ask().grants) == 1


def test_a_list_of_events_that_was_shortened_reordered_or_extended_is_refused(scene, image):
    third = scene.world.seal("third", b"GGUF third")
    scene.admit(scene.first, scene.second, third)
    for artifact in (scene.second, third):
        image.attester.measure(Event("artifact", artifact))
    for change in (
        lambda found: found[:-1],
        lambda found: [*found[:3], found[4], found[3]],
        lambda found: [found[1], found[0], *found[2:]],
        lambda found: [*found, Event("artifact", IMAGE)],
    ):
        with pytest.raises(AppraisalRefused) as refused:
            image.ask(events(change))
        assert "events.replay" in refused.value.failed
    with pytest.raises(ReleaseRefused, match="names the artifact asked for"):
        image.ask(events(lambda found: found[:3]))
    assert len(image.ask().grants) == 1


def test_a_kind_without_a_register_of_run_time_opens_nothing_later(scene, image):
    image.attester._register = None
    with pytest.raises(UsageError, match="no register"):
        image.attester.measure(Event("artifact", scene.second))
