"""One broker for two tenants: who may do what, who may not, and what ends when somebody leaves. Over real HTTP."""

import dataclasses
import time

import httpx2
import pytest

pytest.importorskip("strongroom_sim")

from opened_leaves import opened_leaves

from strongroom.appraisal.policies import sign_policy, template
from strongroom.audit.bundle import Scope, read, write
from strongroom.audit.gather import gather
from strongroom.audit.verify import AuditTrust, verify
from strongroom.crypto.signatures import fingerprint, generate_p256, private_to_pem
from strongroom.errors import LeaseEnded, NotAuthorised, NotPermitted, SignatureInvalid, UsageError
from strongroom.records import codec
from strongroom.records.digest import digest_bytes
from strongroom.records.policy import Requirement
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
from strongroom.release.owners import sign_request
from strongroom.release.roles import EVERY, Role
from strongroom.services.broker import broker_app
from strongroom.services.server import BackgroundServer
from strongroom.tee.anchors import installation_anchor
from strongroom.worker.attester import Attester
from strongroom.worker.keys import WorkerKeys
from strongroom_sim import Chip, Installation, mrtd_for, reference_for

IMAGE, MODEL = digest_bytes(b"our image"), digest_bytes(b"our sealed model")
OF = Edition.first(b"random-artifact-id")
PEOPLE = {
    "anna": (Role.OWNER, "acme"),
    "otto": (Role.OPERATOR, "acme"),
    "aude": (Role.AUDITOR, "acme"),
    "bela": (Role.OWNER, "beta"),
    "ines": (Role.AUDITOR, EVERY),
}


class Story:
    """A broker with one root, who appoints the people above; each has a client, and nobody has anybody's secret."""

    def __init__(self, directory):
        self.directory, self.now = directory, int(time.time())
        self.installation = Installation.create(directory / "installation", now=self.now)
        self.anchors = (installation_anchor("tdx", self.installation.root_pem),)
        self.keys = {name: generate_p256() for name in ("root", *PEOPLE)}
        self.broker = self.start("root")
        self.fingerprint = self.broker.identity.fingerprint

    def start(self, *roots):
        owners = [self.keys[root].public_key() for root in roots]
        return open_broker(self.directory / "broker", anchors=self.anchors, owners=owners, profile="development")

    def serve(self):
        self.server = BackgroundServer(broker_app(self.broker, clock=lambda: self.now))
        self.server.__enter__()
        self.clients = {name: self.client(identity=key) for name, key in self.keys.items()}
        self.worker_side = self.client()

    def stop(self):
        for client in (*self.clients.values(), self.worker_side):
            client.close()
        self.server.__exit__(None, None, None)
        self.broker.close()

    def client(self, **members):
        return BrokerClient(self.server.url, fingerprint=self.fingerprint, clock=lambda: self.now, **members)

    def __getitem__(self, name):
        return self.clients[name]

    def named(self, name):
        return fingerprint(self.keys[name].public_key())

    def appoint_all(self):
        for name, (role, tenant) in PEOPLE.items():
            self["root"].add_administrator(self.keys[name].public_key(), role, tenant)

    def policy(self, policy_id, *, version=1, signer):
        made = template(policy_id, references=[reference_for(IMAGE)], artifacts=[MODEL], simulated=True)
        policy = dataclasses.replace(
            made, version=version, launch_spec=Requirement(any="none is launched here"), lease_seconds=120
        )
        return sign_policy(policy, self.keys[signer])

    def furnish(self, owner, tenant):
        """A policy, a key under it, and a wrapped data key, all made by a tenant's owner."""
        self[owner].put_policy(self.policy(f"{tenant}/models", signer=owner))
        self[owner].create_key(f"{tenant}/key", f"{tenant}/models")
        return self[owner].wrap(f"{tenant}/key", OF, bytes(range(32)))

    def leaves(self):
        return self.broker.store.read(opened_leaves)


class Place:
    """One simulated TD with a worker's keys."""

    def __init__(self, story):
        self.story, self.keys = story, WorkerKeys.generate(now=story.now)
        configuration = Configuration("inference", story.fingerprint, {}, None)
        self.attester = Attester(
            Chip(story.installation, mrtd=mrtd_for(IMAGE)),
            lambda: story.installation.bundle(story.now),
            kind="tdx",
            keyset=self.keys.keyset,
            statement=Statement("inference", IMAGE, None, (MODEL,), configuration.digest),
        )

    def asks(self, wrapped):
        challenge = self.story.worker_side.challenge(PURPOSE_RELEASE)
        bundle = self.attester.prove(challenge.nonce, PURPOSE_RELEASE)
        return self.story.worker_side.release(
            ReleaseRequest(challenge, bundle, (KeyRequest(MODEL, wrapped, Use.OPEN),))
        )

    def renews(self, lease_id):
        challenge = self.story.worker_side.challenge(renewal_purpose(lease_id))
        bundle = self.attester.prove(challenge.nonce, challenge.purpose)
        return self.story.worker_side.renew(RenewalRequest(challenge, bundle, lease_id))


@pytest.fixture
def story(tmp_path):
    made = Story(tmp_path)
    made.serve()
    yield made
    made.stop()


@pytest.fixture
def peopled(story):
    story.appoint_all()
    return story


def test_no_administrator_is_there_by_default(story, tmp_path):
    """A broker without a root does not start; with one, there is that root and nobody else."""
    with pytest.raises(UsageError, match="without an owner"):
        open_broker(tmp_path / "another", anchors=story.anchors, owners=[], profile="development")
    assert [one.fingerprint for one in story["root"].administrators()] == [story.named("root")]
    for name in PEOPLE:
        with pytest.raises(NotAuthorised):
            story[name].keys()


def test_a_tenants_owner_rules_at_home_and_touches_nothing_of_anothers(peopled):
    acme, beta = peopled.furnish("anna", "acme"), peopled.furnish("bela", "beta")
    assert Place(peopled).asks(acme).grants
    assert Place(peopled).asks(beta).grants
    size = len(peopled.leaves())
    anna = peopled["anna"]
    for act in (
        lambda: anna.create_key("beta/mine", "beta/models"),
        lambda: anna.wrap("beta/key", OF, bytes(32)),
        lambda: anna.rewrap(beta),
        lambda: anna.rotate_key("beta/key"),
        lambda: anna.retire_key("beta/key"),
        lambda: anna.revoke_subject(Subject(About.KEY, "beta/key")),
        lambda: anna.revoke_subject(Subject(About.POLICY, "beta/models")),
        lambda: anna.revoke_subject(Subject(About.TENANT, "beta")),
        lambda: anna.put_policy(peopled.policy("beta/models", version=2, signer="anna")),
        lambda: anna.put_policy(peopled.policy("models", signer="anna")),
        lambda: anna.add_administrator(generate_p256().public_key(), Role.OWNER, "acme"),
    ):
        with pytest.raises(NotPermitted) as refused:
            act()
        assert refused.value.detail.startswith("owner ")
        assert refused.value.remedy
    assert len(peopled.leaves()) == size
    assert {key.key_id for key in anna.keys()} == {"acme/key"}  # noqa: SIM118 (not a dict)


def test_an_owner_of_one_tenant_signs_no_policy_of_another(peopled):
    """Not even where somebody who may bring it brings it."""
    peopled.furnish("bela", "beta")
    stolen = peopled.policy("beta/models", version=2, signer="anna")
    for bringer in ("bela", "root"):
        with pytest.raises(SignatureInvalid):
            peopled[bringer].put_policy(stolen)


def test_an_operator_revokes_but_makes_nothing(peopled):
    wrapped, place = peopled.furnish("anna", "acme"), Place(peopled)
    lease, otto = place.asks(wrapped).lease_id, peopled["otto"]
    for act in (
        lambda: otto.wrap("acme/key", OF, bytes(32)),
        lambda: otto.rewrap(wrapped),
        lambda: otto.create_key("acme/new", "acme/models"),
        lambda: otto.rotate_key("acme/key"),
        lambda: otto.put_policy(peopled.policy("acme/models", version=2, signer="otto")),
        lambda: list(otto.audit()),
    ):
        with pytest.raises(NotPermitted, match="operator"):
            act()
    assert [found.id for found in otto.leases()] == [lease]
    assert otto.revoke(lease)[0].state is LeaseState.REVOKED
    with pytest.raises(LeaseEnded):
        place.renews(lease)
    assert {key.state for key in otto.retire_key("acme/key")} == {"retired"}


def test_an_auditor_only_reads_and_checks_offline(peopled):
    wrapped = peopled.furnish("anna", "acme")
    peopled.furnish("bela", "beta")
    lease, aude = Place(peopled).asks(wrapped).lease_id, peopled["aude"]
    for act in (
        lambda: aude.revoke(lease),
        lambda: aude.retire_key("acme/key"),
        lambda: aude.wrap("acme/key", OF, bytes(32)),
        lambda: aude.put_policy(peopled.policy("acme/models", version=2, signer="aude")),
        lambda: aude.remove_administrator(peopled.named("anna")),
    ):
        with pytest.raises(NotPermitted, match="auditor"):
            act()
    scope = Scope(lease, None, 0, codec.MAX_INTEGER)
    bundle = gather(aude.audit(lease=lease), scope, identity=aude.identity_envelope, broker=peopled.fingerprint)
    trust = AuditTrust(
        broker=peopled.fingerprint,
        owners=(),
        tenants={"acme": (peopled.keys["anna"].public_key(),)},
        anchors=peopled.anchors,
        accept_simulated=True,
    )
    assert verify(read(write(bundle)), trust).accepted
    anothers = dataclasses.replace(trust, tenants={"beta": trust.tenants["acme"], "acme": ()})
    assert not verify(read(write(bundle)), anothers).accepted


def test_who_leaves_takes_requests_and_policies_along(peopled):
    wrapped, place = peopled.furnish("anna", "acme"), Place(peopled)
    lease = place.asks(wrapped).lease_id
    request = {"broker": peopled.fingerprint, "method": "GET", "path": "/v1/keys", "body": b"", "now": peopled.now}
    signed_before = sign_request(peopled.keys["anna"], **request)
    peopled["root"].remove_administrator(peopled.named("anna"))

    url = f"{peopled.server.url}/v1/keys"
    assert httpx2.get(url, headers={"authorization": f"Bearer {signed_before}"}).status_code == 401
    with pytest.raises(NotAuthorised):
        peopled["anna"].keys()
    with pytest.raises(SignatureInvalid, match="nobody who may put policies"):
        Place(peopled).asks(wrapped)
    with pytest.raises(SignatureInvalid):
        place.renews(lease)

    peopled["root"].put_policy(peopled.policy("acme/models", version=2, signer="root"))
    assert Place(peopled).asks(wrapped).grants
    assert place.renews(lease).lease_seconds == 120


def test_all_of_it_outlives_a_new_start_and_ends_with_its_root(peopled):
    wrapped = peopled.furnish("anna", "acme")
    peopled["root"].remove_administrator(peopled.named("otto"))
    peopled.stop()
    peopled.broker = peopled.start("root")
    peopled.serve()
    assert Place(peopled).asks(wrapped).grants
    assert peopled["aude"].keys()
    with pytest.raises(NotAuthorised):
        peopled["otto"].keys()

    peopled.stop()
    peopled.keys["new root"] = generate_p256()
    peopled.broker = peopled.start("new root")
    peopled.serve()
    assert [one.fingerprint for one in peopled["new root"].administrators()] == [peopled.named("new root")]
    with pytest.raises(SignatureInvalid):
        Place(peopled).asks(wrapped)


def test_every_act_of_everybody_is_a_leaf_with_who_it_was(peopled):
    wrapped = peopled.furnish("anna", "acme")
    lease = Place(peopled).asks(wrapped).lease_id
    peopled["otto"].revoke(lease)
    peopled["root"].remove_administrator(peopled.named("otto"))
    acts = [leaf for leaf in peopled.leaves() if leaf.event != "release"]
    root, anna, otto = (peopled.named(name) for name in ("root", "anna", "otto"))
    assert [(leaf.event, leaf.subject, leaf.detail) for leaf in acts[: len(PEOPLE)]] == [
        ("administrator", peopled.named(name), f"added role={role.value} tenant={tenant}")
        for name, (role, tenant) in PEOPLE.items()
    ]
    assert [(leaf.event, leaf.detail) for leaf in acts[len(PEOPLE) :]] == [
        ("policy", "version=1"),
        ("key", "created"),
        ("key", "wrapped"),
        ("revocation", "lease"),
        ("administrator", "removed role=operator tenant=acme"),
    ]
    who = [root] * len(PEOPLE) + [anna] * 3 + [otto, root]
    assert all(name in leaf.digests for name, leaf in zip(who, acts, strict=True))
    seen = [leaf for page in peopled["ines"].audit() for leaf in page.leaves]
    assert len(seen) == len(peopled.leaves())


def test_the_broker_holds_no_secret_of_anybodys(peopled):
    """What it has of its administrators is public: who takes its folder can speak for none of them."""
    peopled.furnish("anna", "acme")
    kept = b"".join(path.read_bytes() for path in (peopled.directory / "broker").rglob("*") if path.is_file())
    assert peopled.named("anna").encode() in kept
    for key in peopled.keys.values():
        number = key.private_numbers().private_value
        assert number.to_bytes(32) not in kept
        assert private_to_pem(key) not in kept
        assert codec.b64encode(number.to_bytes(32)).encode() not in kept
