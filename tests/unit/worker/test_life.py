import asyncio
import json
import threading
from dataclasses import replace

import httpx2
import pytest
from world import EchoEngine

from strongroom.appraisal.kinds import kind_of
from strongroom.appraisal.statement import replay
from strongroom.errors import (
    AppraisalRefused,
    DeviceUnavailable,
    EngineUnavailable,
    GrantInvalid,
    LeaseEnded,
    LogInvalid,
    MalformedArtifact,
    NonceReused,
    SealBroken,
    ServiceUnavailable,
    StrongroomError,
)
from strongroom.records.digest import digest_bytes
from strongroom.records.evidence import Event
from strongroom.records.revocation import About, Subject
from strongroom.records.worker import Configuration, Statement
from strongroom.release.client import BrokerClient
from strongroom.release.problem import to_problem
from strongroom.worker.attester import Attester
from strongroom.worker.keys import WorkerKeys
from strongroom.worker.later import wrapped_key
from strongroom.worker.life import State
from strongroom_sim import mrtd_for

WHOLE = [State.PREPARED, State.PROVED, State.OPENED, State.READY, State.DRAINING, State.WIPED]


def test_a_life_goes_through_its_states_in_order_and_ends_wiped(made):
    with made.serving() as served:
        assert served.url
    assert served.error is None
    assert served.states == WHOLE
    assert served.engine.killed
    assert served.engine.loaded == b"GGUF canary-weights"


def test_children_are_spawned_before_any_key_exists(made, monkeypatch):
    order = []
    real = WorkerKeys.generate
    monkeypatch.setattr(WorkerKeys, "generate", lambda **how: (order.append("keys"), real(**how))[1])
    engine = EchoEngine()
    monkeypatch.setattr(engine, "spawn", lambda: order.append("spawn"))
    with made.serving(engine):
        pass
    assert order == ["spawn", "keys"]


def test_a_lease_is_renewed_by_fresh_evidence_and_its_chain_grows(made):
    with made.serving() as served:
        client = made.client(served.url)
        client.ask("x")
        first = json.loads(client.last_receipt.receipt.envelope.payload)["chain"]
        leases = {lease.id: lease for lease in made.admin.leases()}
        lease = leases[client.verification.release.lease_id]
        while made_lease(made, lease.id).renewals < 2:
            client.ask("x")
        client.verify()
        client.ask("x")
        assert json.loads(client.last_receipt.receipt.envelope.payload)["chain"] != first
        assert client.verification.release.chain != first


def made_lease(made, lease_id):
    return next(lease for lease in made.admin.leases() if lease.id == lease_id)


def test_a_revoked_lease_ends_the_worker(made):
    with made.serving() as served:
        client = made.client(served.url)
        made.admin.revoke(client.verify().release.lease_id)
        assert served.ended()
    assert isinstance(served.error, LeaseEnded)
    assert served.states[-2:] == [State.DRAINING, State.WIPED]
    assert served.engine.killed


def test_a_worker_whose_broker_is_away_ends_with_its_lease_and_without_grace(made):
    away = False

    class Network(httpx2.HTTPTransport):
        def handle_request(self, request: httpx2.Request) -> httpx2.Response:
            if away:
                raise httpx2.ConnectError("away")
            return super().handle_request(request)

    with made.serving(broker=made.broker_client(transport=Network())) as served:
        away = True
        assert served.ended()
    assert isinstance(served.error, LeaseEnded)
    assert served.engine.killed


def test_a_request_that_never_ends_does_not_keep_a_revoked_worker_alive(made):
    engine = EchoEngine()
    with made.serving(engine) as served:
        client = made.client(served.url)
        lease_id = client.verify().release.lease_id
        engine.gate = asyncio.Event()  # nobody ever sets it

        def ask() -> None:
            with pytest.raises((StrongroomError, httpx2.HTTPError)):
                client.ask("x")

        asking = threading.Thread(target=ask, daemon=True)
        asking.start()
        made.admin.revoke(lease_id)
        assert served.ended()
        asking.join(30)
        assert not asking.is_alive()
    assert isinstance(served.error, LeaseEnded)
    assert engine.killed


def test_plaintext_is_wiped_before_the_last_receipts_are_logged(made):
    order = []
    engine = EchoEngine()
    engine.kill = lambda: order.append("wipe")
    broker = made.broker_client()
    post = broker.post_receipts
    broker.post_receipts = lambda *words: (order.append("receipts"), post(*words))[1]
    with made.serving(engine, broker=broker) as served:
        made.client(served.url).ask("x")
    assert order.index("wipe") < order.index("receipts")


def test_an_engine_that_ends_takes_the_worker_with_it(made):
    with made.serving() as served:
        served.loop.call_soon_threadsafe(served.engine.ended.set)
        assert served.ended()
    assert isinstance(served.error, EngineUnavailable)
    assert served.states[-1] is State.WIPED


def test_a_broker_that_is_away_from_the_start_means_no_keys_and_nothing_opened(made):
    broker = BrokerClient("http://127.0.0.1:9", fingerprint=made.broker.identity.fingerprint)
    place = made.place()
    with made.serving(broker=broker, place=place) as served:
        assert served.ended()
    assert isinstance(served.error, ServiceUnavailable)
    assert served.states == [State.PREPARED, State.WIPED]
    assert served.engine.loaded == b""
    with made.serving(place=place) as served:  # nothing was measured in vain, so it needs no other boot
        assert served.url


def test_a_worker_where_one_was_since_the_boot_is_told_to_boot_again(made):
    place = made.place()
    with made.serving(place=place) as served:
        assert served.url
    with made.serving(place=place) as served:
        assert served.ended()
    assert isinstance(served.error, AppraisalRefused)
    assert "events.replay" in served.error.failed
    assert "boot the TEE again" in served.error.shown()[0]


def test_other_code_gets_no_key(made):
    with made.serving(place=made.place(mrtd=mrtd_for(digest_bytes(b"other")))) as served:
        assert served.ended()
    assert isinstance(served.error, AppraisalRefused)
    assert "statement.image" in served.error.failed


def test_a_worker_configured_otherwise_gets_no_key(made):
    other = Configuration("inference", made.broker.identity.fingerprint, {"name": "other"}, None)
    with made.serving(configuration=other) as served:
        assert served.ended()
    assert isinstance(served.error, AppraisalRefused)
    assert served.error.failed == ("policy.configuration",)


def test_a_grant_that_too_few_of_the_configured_witnesses_signed_is_not_opened(made):
    from strongroom.receipts.cosignature import Quorum, Witness

    broker = made.broker_client(witnesses=Quorum(1, (Witness("w1.example", bytes(32)),)))
    with made.serving(broker=broker) as served:
        assert served.ended()
    assert isinstance(served.error, LogInvalid)
    assert served.error.detail == "log.witnesses"
    assert served.engine.loaded == b""


def test_a_grant_that_another_broker_signed_is_not_opened(made):
    from strongroom.crypto.signatures import generate_ed25519, sign_envelope
    from strongroom.records import codec
    from strongroom.records.release import ReleaseAnswer
    from strongroom.release.grants import PAYLOAD_TYPE

    stranger = generate_ed25519()

    class Forger(httpx2.HTTPTransport):
        def handle_request(self, request: httpx2.Request) -> httpx2.Response:
            response = super().handle_request(request)
            if request.url.path != "/v1/releases":
                return response
            answer = codec.decode(ReleaseAnswer, response.read())
            grants = tuple(sign_envelope(PAYLOAD_TYPE, grant.payload, stranger) for grant in answer.grants)
            return httpx2.Response(200, content=codec.encode(replace(answer, grants=grants)))

    with made.serving(broker=made.broker_client(transport=Forger())) as served:
        assert served.ended()
    assert isinstance(served.error, GrantInvalid)
    assert served.engine.loaded == b""


def test_a_changed_model_is_not_handed_to_the_engine(made):
    blobs = made.folder / "registry" / "blobs" / "sha256"
    layer = made.opener().manifest.layers[1]
    blob = blobs / layer.digest.removeprefix("sha256:")
    good = blob.read_bytes()
    blob.chmod(0o600)
    blob.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    try:
        with made.serving() as served:
            assert served.ended()
    finally:
        blob.write_bytes(good)
    assert isinstance(served.error, SealBroken)
    assert served.engine.loaded == b""


def test_an_artifact_sealed_to_recipients_only_has_no_key_at_a_broker(made):
    opener = made.opener()
    header = replace(opener.header, keys=replace_keys(opener.header.keys))

    class Other:
        pass

    other = Other()
    other.header = header
    with pytest.raises(MalformedArtifact):
        wrapped_key(other)


def replace_keys(keys):
    from strongroom.records.artifact import KeyWrap, RecipientKey

    return KeyWrap(None, (RecipientKey(digest_bytes(b"r"), b"", b""),)) if keys else keys


def test_worker_keys_do_not_show_themselves():
    keys = WorkerKeys.generate(now=0)
    assert repr(keys) == f"WorkerKeys({keys.keyset.digest})"


def test_a_lease_is_renewed_while_a_large_model_is_still_being_opened(made):
    class SlowEngine(EchoEngine):
        async def load(self, model, settings):
            known = {lease.id: lease.renewals for lease in await asyncio.to_thread(made.admin.leases)}
            while all(known.get(x.id) == x.renewals for x in await asyncio.to_thread(made.admin.leases)):
                pass
            return await super().load(model, settings)

    with made.serving(SlowEngine()) as served:
        assert served.url
        made.client(served.url).ask("x")
    assert served.error is None


class Losing(httpx2.HTTPTransport):
    """Delivers renewals, and loses the answers that `lost` says of each by its number."""

    def __init__(self, *lost: int, forgets: tuple[int, ...] = ()) -> None:
        super().__init__()
        self.lost, self.forgets, self.sent = lost, forgets, []

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        if not request.url.path.endswith("/renew"):
            return super().handle_request(request)
        self.sent.append(request.read())
        number = len(self.sent)
        if number in self.forgets:
            return httpx2.Response(403, content=to_problem(NonceReused("this challenge was answered before")))
        response = super().handle_request(request)
        response.read()
        if number in self.lost:
            raise httpx2.ReadError("the answer got lost")
        return response


def agreed(made, served, sent, count):
    """Whether, once `count` renewals were sent, broker and worker agree on as many as there were different ones."""
    client = made.client(served.url)
    lease_id = client.verify().release.lease_id
    for _ in range(10_000):
        lease, different = made_lease(made, lease_id), len(set(sent))
        if len(sent) >= count and (lease.renewals, lease.chain) == (different, client.verify().release.chain):
            return True
        if State.WIPED in served.states:
            return False
    return False


def test_a_renewal_whose_answer_got_lost_is_sent_again_byte_for_byte(made):
    network = Losing(1, 2)
    with made.serving(broker=made.broker_client(transport=network)) as served:
        assert agreed(made, served, network.sent, 4)
    assert network.sent[0] == network.sent[1] == network.sent[2] != network.sent[3]
    assert served.error is None


def test_a_worker_whose_answer_is_kept_no_more_goes_on_from_the_chain_in_the_log(made):
    network = Losing(1, forgets=(2,))
    with made.serving(broker=made.broker_client(transport=network)) as served:
        assert agreed(made, served, network.sent, 4)
    assert network.sent[0] == network.sent[1] != network.sent[2] != network.sent[3]
    assert served.error is None


def test_a_refusal_that_got_lost_ends_the_worker_when_it_comes(made):
    network = Losing(1)
    with made.serving(broker=made.broker_client(transport=network)) as served:
        made.admin.revoke(made.client(served.url).verify().release.lease_id)
        assert served.ended()
    assert isinstance(served.error, LeaseEnded)
    assert len(set(network.sent)) == 1
    assert served.states[-2:] == [State.DRAINING, State.WIPED]


def test_a_worker_whose_machine_is_revoked_drains_wipes_and_gets_nothing_more(made):
    machine = Subject(About.MACHINE, f"ppid:{made.installation.platform.ppid.hex()}")
    with made.serving() as served:
        made.client(served.url).ask("x")
        assert made.admin.revoke_subject(machine).leases
        assert served.ended()
    assert isinstance(served.error, LeaseEnded)
    assert served.states[-2:] == [State.DRAINING, State.WIPED]
    with made.serving() as served:
        assert served.ended()
    made.admin.lift(machine)
    assert served.error.detail == "revoked.machine"
    assert served.engine.loaded == b""


def test_a_broker_with_another_chain_than_the_worker_is_not_believed(made, monkeypatch):
    monkeypatch.setattr("strongroom.worker.life.chain_head", lambda _before, _token: digest_bytes(b"another chain"))
    with made.serving() as served:
        assert served.ended()
    assert isinstance(served.error, LogInvalid)
    assert served.engine.killed


class Failing:
    """A device whose register cannot be extended any more."""

    def __init__(self, device):
        self._device, self.fails = device, False

    def __getattr__(self, name):
        return getattr(self._device, name)

    def extend(self, register, measurement):
        if self.fails:
            raise DeviceUnavailable("the register cannot be extended")
        self._device.extend(register, measurement)


def test_what_could_not_be_measured_is_not_said_to_be_and_what_was_is_measured_once(made):
    place = made.place()
    device = Failing(place.device)
    keys = WorkerKeys.generate(now=1_800_000_000)
    statement = Statement("inference", place.image, None, (made.artifact,), made.configuration.digest)
    attester = Attester(device, place.collateral, kind="tdx", keyset=keys.keyset, statement=statement)
    event, other = (Event("artifact", digest_bytes(name)) for name in (b"second", b"third"))
    assert attester.measure(event) == attester.measure(event) == (made.artifact, event.value)
    device.fails = True
    with pytest.raises(DeviceUnavailable):
        attester.measure(other)
    evidence = attester.prove(bytes(32), "release").evidence
    assert evidence.later == (event,)
    assert replay(evidence.events) == kind_of("tdx").stated(evidence.quote)["rtmr3"]


def test_a_worker_whose_workload_cannot_exchange_says_so_and_goes_on(made):
    said = []
    with made.serving() as served:
        served.worker._report = lambda _, text: said.append(text)
        served.loop.call_soon_threadsafe(served.worker.look_again)
        made.client(served.url).ask("x")
        served.loop.call_soon_threadsafe(lambda: None)
    assert served.error is None
    assert any(text.startswith("not exchanged: this workload keeps") for text in said)
