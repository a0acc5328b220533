"""A worker on a simulated chip, an owner and a broker, over real HTTP; then everybody who tries to get the key otherwise."""

import dataclasses
import threading
import time

import httpx2
import pytest

pytest.importorskip("strongroom_sim")

from strongroom.appraisal.policies import sign_policy, template
from strongroom.crypto.signatures import generate_ed25519, generate_p256, sign_envelope
from strongroom.errors import (
    AppraisalRefused,
    GrantInvalid,
    LeaseEnded,
    NonceReused,
    ReleaseRefused,
    SimulationNotAccepted,
    StoreUnavailable,
    StrongroomError,
)
from strongroom.receipts.chain import chain_head
from strongroom.records import codec
from strongroom.records.digest import digest_bytes
from strongroom.records.policy import Requirement
from strongroom.records.release import (
    PURPOSE_RELEASE,
    PURPOSE_SESSION,
    Edition,
    KeyRequest,
    ReleaseAnswer,
    ReleaseRequest,
    RenewalRequest,
    Use,
    renewal_purpose,
)
from strongroom.records.verdict import Level
from strongroom.records.worker import Configuration, Statement
from strongroom.release.client import BrokerClient
from strongroom.release.grants import PAYLOAD_TYPE as GRANT
from strongroom.release.grants import open_grant
from strongroom.release.opening import open_broker
from strongroom.services.broker import broker_app
from strongroom.services.server import BackgroundServer
from strongroom.tee.anchors import installation_anchor
from strongroom.worker.attester import Attester
from strongroom.worker.keys import WorkerKeys
from strongroom_sim import Chip, Installation, mrtd_for, reference_for

IMAGE, OTHER_IMAGE = digest_bytes(b"our image"), digest_bytes(b"another image")
MODEL, OTHER_MODEL = digest_bytes(b"our sealed model"), digest_bytes(b"another sealed model")
MODEL_ID = b"random-artifact-id"
DATA_KEY = bytes(range(1, 33))
LEASE_SECONDS = 120


class Clock:
    """The broker's clock, which a story can move."""

    def __init__(self):
        self.ahead = 0

    def __call__(self):
        return time.time() + self.ahead


class Place:
    """One simulated TD of an image, with the keys of the worker in it."""

    def __init__(self, story, *, image=IMAGE, artifacts=(MODEL,)):
        now = int(time.time())
        self.chip = Chip(story.installation, mrtd=mrtd_for(image))
        self.keys = WorkerKeys.generate(now=now)
        configuration = Configuration("inference", story.fingerprint, {}, None)
        statement = Statement("inference", image, None, artifacts, configuration.digest)
        self.attester = Attester(
            self.chip,
            lambda: story.installation.bundle(now),
            kind="tdx",
            keyset=self.keys.keyset,
            statement=statement,
        )

    def asks(self, story, *, challenge=None, bundle=None, artifact=MODEL):
        challenge = challenge or story.worker_side.challenge(PURPOSE_RELEASE)
        bundle = bundle or self.attester.prove(challenge.nonce, PURPOSE_RELEASE)
        return ReleaseRequest(challenge, bundle, (KeyRequest(artifact, story.wrapped, Use.OPEN),))

    def renews(self, story, lease_id):
        purpose = renewal_purpose(lease_id)
        challenge = story.worker_side.challenge(purpose)
        return RenewalRequest(challenge, self.attester.prove(challenge.nonce, purpose), lease_id)

    def opens(self, story, request, answer):
        return open_grant(
            answer.grants[0],
            broker=story.worker_side.identity,
            release_key=self.keys.release,
            evidence=request.bundle.evidence,
            artifact=MODEL,
            wrapped=story.wrapped,
            lease_id=answer.lease_id,
        )


class Story:
    """Who is there: an installation, an owner, a broker over HTTP, and one sealed model's wrapped key."""

    def __init__(self, directory):
        self.installation = Installation.create(directory / "installation", now=int(time.time()))
        self.anchors = [installation_anchor("tdx", self.installation.root_pem)]
        self.owner, self.clock, self.state = generate_p256(), Clock(), directory / "broker"
        self.broker = self.start()
        self.fingerprint = self.broker.identity.fingerprint
        self.server = BackgroundServer(broker_app(self.broker, clock=self.clock))

    def start(self):
        return open_broker(self.state, anchors=self.anchors, owners=[self.owner.public_key()], profile="development")

    def client(self, **members):
        return BrokerClient(self.server.url, fingerprint=self.fingerprint, clock=self.clock, **members)

    def begin(self):
        self.owner_side, self.worker_side = self.client(identity=self.owner), self.client()
        policy = template("models", references=[reference_for(IMAGE)], artifacts=[MODEL], simulated=True)
        self.policy = dataclasses.replace(
            policy, launch_spec=Requirement(any="none is launched here"), lease_seconds=LEASE_SECONDS
        )
        self.owner_side.put_policy(sign_policy(self.policy, self.owner))
        self.owner_side.create_key("model", "models")
        self.wrapped = self.owner_side.wrap("model", Edition.first(MODEL_ID), DATA_KEY)
        return self


@pytest.fixture
def story(tmp_path):
    made = Story(tmp_path)
    with made.server:
        yield made.begin()
        made.owner_side.close()
        made.worker_side.close()
    made.broker.close()


def test_a_proven_worker_gets_the_key_renews_and_is_stopped_by_its_owner(story):
    place = Place(story)
    request = place.asks(story)
    answer = story.worker_side.release(request)
    assert place.opens(story, request, answer) == DATA_KEY
    verdict = story.worker_side.verdict(answer.token)
    assert (verdict.level, verdict.policy) == (Level.SIMULATED, story.policy.digest)

    renewed = story.worker_side.renew(place.renews(story, answer.lease_id))
    (lease,) = story.owner_side.leases()
    assert lease.chain == chain_head(chain_head(None, answer.token), renewed.token)

    story.owner_side.revoke(answer.lease_id)
    with pytest.raises(LeaseEnded, match="revoked"):
        story.worker_side.renew(place.renews(story, answer.lease_id))


def test_other_code_is_refused_by_what_was_measured(story):
    with pytest.raises(AppraisalRefused) as refused:
        story.worker_side.release(Place(story, image=OTHER_IMAGE).asks(story))
    assert any(check.startswith("statement.image") for check in refused.value.failed)


def test_another_model_is_refused(story):
    place = Place(story, artifacts=(OTHER_MODEL,))
    with pytest.raises(AppraisalRefused) as refused:
        story.worker_side.release(place.asks(story, artifact=OTHER_MODEL))
    assert "policy.artifacts" in refused.value.failed
    with pytest.raises(ReleaseRefused, match="names the artifact asked for"):
        story.worker_side.release(place.asks(story, artifact=MODEL))


def test_replayed_evidence_is_refused(story):
    place = Place(story)
    first = place.asks(story)
    story.worker_side.release(first)
    with pytest.raises(AppraisalRefused) as refused:
        story.worker_side.release(place.asks(story, bundle=first.bundle))  # a new challenge, the old evidence
    assert "binding.nonce" in refused.value.failed
    session = place.attester.prove(first.challenge.nonce, PURPOSE_SESSION)
    with pytest.raises(AppraisalRefused) as refused:
        story.worker_side.release(place.asks(story, bundle=session))  # what the worker shows to any user
    assert "binding.purpose" in refused.value.failed


def test_a_keyset_put_into_somebody_elses_evidence_is_refused(story):
    place, thief = Place(story), Place(story)
    challenge = story.worker_side.challenge(PURPOSE_RELEASE)
    bundle = place.attester.prove(challenge.nonce, PURPOSE_RELEASE)
    stolen = dataclasses.replace(bundle, evidence=dataclasses.replace(bundle.evidence, keyset=thief.keys.keyset))
    with pytest.raises(AppraisalRefused) as refused:
        story.worker_side.release(place.asks(story, challenge=challenge, bundle=stolen))
    assert "binding.report_data" in refused.value.failed


def test_a_grant_is_of_no_use_to_another_worker(story):
    place, thief = Place(story), Place(story)
    request = place.asks(story)
    answer = story.worker_side.release(request)
    with pytest.raises(GrantInvalid):
        thief.opens(story, request, answer)


def test_a_grant_that_the_measured_broker_did_not_sign_is_refused_by_the_worker(story):
    place = Place(story)
    stranger = generate_ed25519()

    class Middle(httpx2.HTTPTransport):
        def handle_request(self, request):
            response = super().handle_request(request)
            response.read()
            if request.url.path != "/v1/releases":
                return response
            answer = codec.decode(ReleaseAnswer, response.content)
            forged = tuple(sign_envelope(GRANT, envelope.payload, stranger) for envelope in answer.grants)
            return httpx2.Response(200, content=codec.encode(dataclasses.replace(answer, grants=forged)))

    client = story.client(transport=Middle())
    with pytest.raises(GrantInvalid):
        client.release(place.asks(story))
    client.close()


def test_a_challenge_that_is_too_old_is_refused(story):
    request = Place(story).asks(story)
    story.clock.ahead = 121
    with pytest.raises(ReleaseRefused, match="expired"):
        story.worker_side.release(request)


def test_a_lease_that_ran_out_is_not_renewed(story):
    place = Place(story)
    answer = story.worker_side.release(place.asks(story))
    story.clock.ahead = LEASE_SECONDS + 1
    with pytest.raises(LeaseEnded, match="expired"):
        story.worker_side.renew(place.renews(story, answer.lease_id))


def test_the_same_request_again_gets_the_same_answer_and_a_changed_one_none(story):
    place = Place(story)
    request = place.asks(story)
    answer = story.worker_side.release(request)
    assert story.worker_side.release(request) == answer
    with pytest.raises(NonceReused):
        story.worker_side.release(dataclasses.replace(request, keys=request.keys * 2))
    assert len(story.owner_side.leases()) == 1


def test_two_workers_race_for_one_nonce_and_exactly_one_wins(story):
    places = [Place(story), Place(story)]
    challenge = story.worker_side.challenge(PURPOSE_RELEASE)
    requests = [place.asks(story, challenge=challenge) for place in places]
    together, outcomes = threading.Barrier(2), []

    def attempt(request):
        client = story.client()
        _ = client.identity
        together.wait()
        try:
            outcomes.append(client.release(request).lease_id)
        except StrongroomError as error:
            outcomes.append(error.code)
        client.close()

    threads = [threading.Thread(target=attempt, args=(request,)) for request in requests]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes.count(NonceReused.code) == 1
    assert [lease.id for lease in story.owner_side.leases()] == [o for o in outcomes if o != NonceReused.code]


def test_a_policy_that_wants_a_real_tee_refuses_a_simulated_one(story):
    strict = dataclasses.replace(story.policy, version=2, levels=(Level.CONFIDENTIAL,))
    story.owner_side.put_policy(sign_policy(strict, story.owner))
    with pytest.raises(AppraisalRefused) as refused:
        story.worker_side.release(Place(story).asks(story))
    assert "policy.level" in refused.value.failed


def test_a_new_policy_ends_a_worker_that_it_does_not_admit_at_its_next_renewal(story):
    place = Place(story)
    answer = story.worker_side.release(place.asks(story))
    newer = dataclasses.replace(story.policy, version=2, artifacts=Requirement(one_of=(OTHER_MODEL,)))
    story.owner_side.put_policy(sign_policy(newer, story.owner))
    with pytest.raises(AppraisalRefused) as refused:
        story.worker_side.renew(place.renews(story, answer.lease_id))
    assert "policy.artifacts" in refused.value.failed


def test_nothing_in_the_brokers_folder_but_its_keys_tells_the_data_key(story):
    place = Place(story)
    request = place.asks(story)
    answer = story.worker_side.release(request)
    assert place.opens(story, request, answer) == DATA_KEY
    for path in story.state.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert DATA_KEY not in content
            assert DATA_KEY.hex().encode() not in content


def test_a_second_broker_over_the_same_state_does_not_start(story):
    with pytest.raises(StoreUnavailable, match="another broker"):
        story.start()


def test_a_corrupt_database_is_one_clear_refusal_to_start(tmp_path):
    made = Story(tmp_path)
    made.broker.close()
    (made.state / "broker.db").write_bytes(b"\xff" * 8192)
    with pytest.raises(StoreUnavailable, match="corrupt") as refused:
        made.start()
    assert refused.value.remedy


def test_a_production_broker_has_nothing_to_do_with_a_simulator(tmp_path):
    made = Story(tmp_path)
    made.broker.close()
    with pytest.raises(SimulationNotAccepted):
        open_broker(made.state, anchors=made.anchors, owners=[made.owner.public_key()])
