"""What was granted is taken back: by an owner's word, a custodian's list, a vendor's news, a new policy; over real HTTP."""

import dataclasses
import json
import secrets
import threading
import time

import pytest

pytest.importorskip("strongroom_sim")

from opened_leaves import opened_leaves

from strongroom.appraisal.pile import Pile
from strongroom.appraisal.policies import sign_policy, template
from strongroom.appraisal.signed import Known
from strongroom.crypto.signatures import fingerprint, generate_p256
from strongroom.errors import AppraisalRefused, LeaseEnded, MalformedRecord, ReleaseRefused
from strongroom.records import codec
from strongroom.records.digest import digest_bytes
from strongroom.records.evidence import Collateral
from strongroom.records.policy import CustodyPolicy, Requirement
from strongroom.records.reference import CustodyList, Machine
from strongroom.records.release import (
    PURPOSE_RELEASE,
    Edition,
    KeyRequest,
    LeaseState,
    ReleaseRequest,
    RenewalRequest,
    Use,
    renewal_purpose,
)
from strongroom.records.revocation import About, Subject
from strongroom.records.worker import Configuration, Statement
from strongroom.release.client import BrokerClient
from strongroom.release.opening import open_broker
from strongroom.release.present import Given
from strongroom.services.broker import broker_app
from strongroom.services.server import BackgroundServer
from strongroom.tee.anchors import installation_anchor
from strongroom.worker.attester import Attester
from strongroom.worker.keys import WorkerKeys
from strongroom_sim import Chip, Installation, mrtd_for, reference_for

IMAGE, MODEL = digest_bytes(b"our image"), digest_bytes(b"our sealed model")
LEASE_SECONDS = 600
LONG = 7200


class Clock:
    """The broker's clock, which a story can move."""

    def __init__(self):
        self.ahead = 0

    def __call__(self):
        return time.time() + self.ahead


class Place:
    """One simulated TD on one machine, with the keys of the worker in it; it brings the collateral that it is given."""

    def __init__(self, story, installation):
        self.story, self.installation = story, installation
        self.chip = Chip(installation, mrtd=mrtd_for(IMAGE))
        self.keys = WorkerKeys.generate(now=int(time.time()))
        configuration = Configuration("inference", story.fingerprint, {}, None)
        self.collateral = installation.bundle(int(time.time()))
        self.attester = Attester(
            self.chip,
            lambda: self.collateral,
            kind="tdx",
            keyset=self.keys.keyset,
            statement=Statement("inference", IMAGE, None, (MODEL,), configuration.digest),
        )

    @property
    def machine(self):
        return f"ppid:{self.installation.platform.ppid.hex()}"

    def release(self):
        challenge = self.story.worker_side.challenge(PURPOSE_RELEASE)
        bundle = self.attester.prove(challenge.nonce, PURPOSE_RELEASE)
        asked = (KeyRequest(MODEL, self.story.wrapped, Use.OPEN),)
        return self.story.worker_side.release(ReleaseRequest(challenge, bundle, asked)).lease_id

    def renew(self, lease_id):
        purpose = renewal_purpose(lease_id)
        challenge = self.story.worker_side.challenge(purpose)
        bundle = self.attester.prove(challenge.nonce, purpose)
        return self.story.worker_side.renew(RenewalRequest(challenge, bundle, lease_id))


class Story:
    """An owner, a custodian, a broker that reads `given` anew, and two machines of one installation."""

    def __init__(self, directory):
        now = int(time.time())
        self.installation = Installation.create(directory / "installation", now=now)
        other = dataclasses.replace(self.installation.platform, ppid=secrets.token_bytes(16))
        self.another = self.installation.reissued("pck", now, platform=other)
        self.owner, self.custodian, self.clock = generate_p256(), generate_p256(), Clock()
        self.given, self.lists = Given(), 0
        self.state = directory / "broker"
        self.broker = self.start()
        self.fingerprint = self.broker.identity.fingerprint
        self.server = BackgroundServer(broker_app(self.broker, clock=self.clock))

    def start(self, **members):
        anchors = [installation_anchor("tdx", self.installation.root_pem)]
        return open_broker(
            self.state,
            anchors=anchors,
            owners=[self.owner.public_key()],
            profile="development",
            source=lambda: self.given,
            **members,
        )

    def begin(self):
        members = {"fingerprint": self.fingerprint, "clock": self.clock}
        self.worker_side = BrokerClient(self.server.url, **members)
        self.owner_side = BrokerClient(self.server.url, identity=self.owner, **members)
        self.put_policy(1)
        self.owner_side.create_key("model", "models")
        self.wrapped = self.owner_side.wrap("model", Edition.first(b"random-artifact-id"), bytes(range(32)))
        return self

    def put_policy(self, version, **members):
        policy = template("models", references=[reference_for(IMAGE)], artifacts=[MODEL], simulated=True)
        launch = Requirement(any="none is launched here")
        members = {"launch_spec": launch, "lease_seconds": LEASE_SECONDS, "version": version, **members}
        self.owner_side.put_policy(sign_policy(dataclasses.replace(policy, **members), self.owner))

    def listed(self, *machines, until=LONG):
        """The custodian's next list, with a verdict on each machine."""
        self.lists += 1
        now = int(self.clock()) - 1
        found = tuple(Machine("ppid", x.machine.split(":")[1], verdict, "here", "EU") for x, verdict in machines)
        made = CustodyList("custodian", self.lists, now, now + until, found)
        signed = (fingerprint(self.custodian.public_key()), made)
        self.given = dataclasses.replace(self.given, known=Known(custody=(signed,)))

    def learns(self, collateral):
        """The broker gets collateral of its own."""
        pile = Pile()
        pile.add(codec.encode(collateral))
        self.given = dataclasses.replace(self.given, collateral=pile)

    def sweep(self, **members):
        (page,) = self.owner_side.sweep(**members)
        return page

    def leaves(self):
        return self.broker.store.read(opened_leaves)

    def states(self):
        return {lease.id: lease.state for lease in self.owner_side.leases()}


@pytest.fixture
def story(tmp_path):
    made = Story(tmp_path)
    with made.server:
        yield made.begin()
        made.owner_side.close()
        made.worker_side.close()
    made.broker.close()


@pytest.fixture
def place(story):
    return Place(story, story.installation)


@pytest.fixture
def another(story):
    return Place(story, story.another)


def refused(act, *words):
    with pytest.raises((AppraisalRefused, ReleaseRefused)) as error:
        act(*words)
    return error.value.failed if isinstance(error.value, AppraisalRefused) else (error.value.detail,)


def custody(story, **members):
    wanted = {"custodians": (fingerprint(story.custodian.public_key()),)} | members
    anywhere = Requirement(any="anywhere")
    return CustodyPolicy(Requirement(one_of=wanted["custodians"]), 1, anywhere, anywhere)


def test_a_machine_that_its_owner_revokes_holds_nothing_and_gets_nothing(story, place, another):
    lease, elsewhere = place.release(), another.release()
    ended = story.owner_side.revoke_subject(Subject(About.MACHINE, place.machine)).leases
    assert [each.id for each in ended] == [lease]
    with pytest.raises(LeaseEnded):
        place.renew(lease)
    assert refused(place.release) == ("revoked.machine",)
    another.renew(elsewhere)
    assert place.machine.split(":")[1] not in json.dumps([leaf.subject for leaf in story.leaves()])
    story.owner_side.lift(Subject(About.MACHINE, place.machine))
    place.release()


def test_a_machine_that_a_custodian_denies_loses_its_lease_at_the_next_sweep(story, place, another):
    lease, elsewhere = place.release(), another.release()
    assert (story.sweep().judged, story.sweep().ended) == (2, ())
    story.listed((place, "deny"), (another, "allow"))
    found = story.sweep(dry_run=True)
    assert [(each.lease_id, each.what, each.failed) for each in found.ended] == [
        (lease, "custody", ("policy.custody.denied",))
    ]
    assert story.states()[lease] is LeaseState.ACTIVE
    assert story.sweep().ended == found.ended
    assert story.states() == {lease: LeaseState.REVOKED, elsewhere: LeaseState.ACTIVE}
    last = story.leaves()[-1]
    assert (last.event, last.subject, last.detail) == ("revocation", lease, "custody checks=policy.custody.denied")
    assert refused(place.release) == ("policy.custody.denied",)
    another.renew(elsewhere)


def test_a_machine_that_no_list_allows_any_more_loses_its_lease(story, place):
    story.listed((place, "allow"))
    story.broker.present.refresh()
    story.put_policy(2, custody=custody(story))
    lease = place.release()
    assert story.sweep().ended == ()
    story.listed()
    (ended,) = story.sweep().ended
    assert (ended.lease_id, ended.what) == (lease, "custody")
    assert "policy.custody.allowed" in ended.failed


def test_a_list_that_ends_allows_nobody_any_more(story, place):
    story.listed((place, "allow"), until=60)
    story.broker.present.refresh()
    story.put_policy(2, custody=custody(story))
    place.release()
    story.clock.ahead = 40
    assert story.sweep().ended == ()
    story.clock.ahead = 120
    (ended,) = story.sweep().ended
    assert ended.what == "custody"


def test_news_from_the_vendor_ends_leases_that_older_collateral_would_admit(story, place):
    lease = place.release()
    now = int(time.time())
    newer = story.installation.collateral(now)
    levels = json.loads(newer.tcb_info)["tcbLevels"]
    worse = [level | {"tcbStatus": "Revoked"} for level in levels]
    story.learns(
        Collateral(intel=story.installation.resigned(newer, "tcb_info", tcbLevels=worse, tcbEvaluationDataNumber=99))
    )
    (ended,) = story.sweep().ended
    assert (ended.lease_id, ended.what) == (lease, "tcb")
    assert "policy.tdx.tcb_status" in ended.failed
    assert "policy.tdx.tcb_status" in refused(place.release)
    assert place.collateral != story.given.collateral.bundles[0]


def test_a_certificate_that_the_vendor_revokes_ends_its_leases(story, place):
    lease = place.release()
    story.clock.ahead = 4000  # the list is an hour old when it comes, and no older than the lease
    story.put_policy(2, lease_seconds=LONG)
    assert refused(place.renew, lease) == ("lease.expired",)
    lease = place.release()
    story.learns(Collateral(intel=story.installation.collateral(int(time.time()) + 8000, revoked=("pck",))))
    assert story.sweep().ended == ()  # a list of the future says nothing yet
    story.clock.ahead = 6000
    (ended,) = story.sweep().ended
    assert (ended.lease_id, ended.what) == (lease, "tcb")
    assert "tdx.pck.crl" in ended.failed
    assert "tdx.pck.crl" in refused(place.release)


def test_collateral_that_only_ran_out_is_no_event(story, place):
    place.collateral = Collateral(intel=story.installation.collateral(int(time.time()), life=100))
    lease = place.release()
    story.clock.ahead = 200
    assert (story.sweep().judged, story.sweep().ended) == (1, ())
    assert any("fresh" in check for check in refused(place.renew, lease))


def test_what_was_kept_is_what_was_judged(story, place):
    """A broker that judges by newer collateral keeps that, so that an auditor finds the same verdict."""
    newer = story.installation.collateral(int(time.time()))
    story.learns(Collateral(intel=story.installation.resigned(newer, "tcb_info", tcbEvaluationDataNumber=99)))
    story.broker.present.refresh()
    lease = place.release()
    (page,) = story.owner_side.audit(lease=lease)
    assert [json.loads(found.intel.tcb_info)["tcbEvaluationDataNumber"] for found in page.collateral] == [99]


def test_a_newer_policy_ends_what_it_does_not_admit(story, place):
    lease = place.release()
    story.put_policy(2, artifacts=Requirement(one_of=(digest_bytes(b"another model"),)))
    (ended,) = story.sweep().ended
    assert (ended.lease_id, ended.what, ended.failed) == (lease, "policy", ("policy.artifacts",))
    assert story.states() == {lease: LeaseState.REVOKED}


def test_a_lease_of_a_retired_key_is_ended_too(story, place):
    place.release()
    story.owner_side.retire_key("model")
    (ended,) = story.sweep().ended
    assert (ended.what, ended.failed) == ("policy", ("key.unknown",))


def test_a_renewed_lease_is_judged_by_its_newest_evidence(story, place):
    lease = place.release()
    place.renew(lease)
    assert story.sweep().judged == 1
    story.listed((place, "deny"))
    assert [ended.lease_id for ended in story.sweep().ended] == [lease]


def test_a_sweep_that_cannot_read_what_is_given_ends_nothing_and_says_so(story, place):
    place.release()
    story.listed((place, "deny"))

    def unreadable():
        raise MalformedRecord("this is no custody list")

    story.broker.present._source = unreadable
    with pytest.raises(MalformedRecord):
        story.sweep()
    assert set(story.states().values()) == {LeaseState.ACTIVE}


def test_a_broker_sweeps_by_itself(story, place):
    lease = place.release()
    story.listed((place, "deny"))
    swept = threading.Event()
    judge = story.broker.sweep.page

    def page(*words, **members):
        found = judge(*words, **members)
        swept.set()
        return found

    story.broker.sweep.page = page
    story.broker.sweep_every(0.01)
    assert swept.wait(60)
    assert story.states() == {lease: LeaseState.REVOKED}
    assert story.leaves()[-1].digests[1] == story.fingerprint
