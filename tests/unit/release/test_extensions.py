"""A lease comes to further keys: of what its worker measured since, and of nothing else."""

import dataclasses

import pytest

from strongroom.errors import AppraisalRefused, LeaseEnded, LogInvalid, MalformedRecord, NonceReused, ReleaseRefused
from strongroom.receipts.chain import chain_head
from strongroom.records import codec
from strongroom.records.artifact import Digest
from strongroom.records.digest import digest_bytes
from strongroom.records.evidence import Event, events_of
from strongroom.records.release import (
    PURPOSE_RELEASE,
    Edition,
    ExtensionRequest,
    KeyRequest,
    Use,
    renewal_purpose,
)
from strongroom.records.revocation import About, Subject
from strongroom.release import leaves
from strongroom.release.grants import open_grant

LATER = digest_bytes(b"an artifact of later")
LATER_OF = Edition.first(b"another-id-16-by")
LATER_KEY = bytes(range(32, 64))


@pytest.fixture
def held(world, worker):
    """A lease that the worker has, for the first artifact."""
    return world.release(world.request(worker, world.prepared())).lease_id


@pytest.fixture
def wrapped(world):
    """The data key of the later artifact, under a key of its own; to be made after `held`."""

    def make(**limits):
        world.admin.create_key("later", "policy", who=world.who, now=world.now, **limits)
        return world.wrap(key_id="later", of=LATER_OF, data_key=LATER_KEY)

    return make


def measured(bundle, *digests):
    """The same evidence after `digests` were measured; the appraiser of these tests looks at no register."""
    evidence = bundle.evidence
    events = (*events_of(evidence.statement), *(Event("artifact", digest) for digest in digests))
    return dataclasses.replace(bundle, evidence=dataclasses.replace(evidence, events=events))


def request(world, worker, lease_id, wrapped, *, after=(LATER,), artifact=LATER, purpose=None):
    challenge = world.challenge(purpose or renewal_purpose(lease_id))
    bundle = measured(worker.prove(challenge.nonce, challenge.purpose), *after)
    return ExtensionRequest(challenge, bundle, lease_id, (KeyRequest(artifact, wrapped, Use.OPEN),))


def extend(world, asked, lease_id=None):
    return world.broker.extend(lease_id or asked.lease_id, codec.encode(asked), now=world.now)


def lease_of(world, lease_id):
    return next(lease for lease in world.admin.leases(now=world.now) if lease.id == lease_id)


def test_a_lease_comes_to_a_key_of_what_was_measured_since(world, worker, held, wrapped):
    before, wanted = lease_of(world, held), wrapped()
    asked = request(world, worker, held, wanted)
    answer = extend(world, asked)
    opened = open_grant(
        answer.grants[0],
        broker=world.broker.identity,
        release_key=worker.release,
        evidence=asked.bundle.evidence,
        artifact=LATER,
        wrapped=wanted,
        lease_id=held,
    )
    assert opened == LATER_KEY
    after = lease_of(world, held)
    assert after.key_ids == ("model", "later")
    assert (after.renewals, after.chain) == (before.renewals + 1, chain_head(before.chain, answer.token))
    leaf = world.leaves()[-1]
    assert (leaf.event, leaf.subject) == (leaves.RENEWAL, held)
    assert leaf.digests[2] == asked.bundle.evidence.digest


def test_renewals_hold_the_further_key_from_then_on(world, worker, held, wrapped):
    extend(world, request(world, worker, held, wrapped()))
    world.renew(worker, held)
    world.admin.retire_key("later", who=world.who, now=world.now)
    with pytest.raises(ReleaseRefused) as refused:
        world.renew(worker, held)
    assert refused.value.detail == "key.unknown"


@pytest.mark.parametrize(
    "subject", [Subject(About.ARTIFACT, LATER), Subject(About.KEY, "later")], ids=["artifact", "key"]
)
def test_revoking_what_was_opened_later_ends_the_lease(world, worker, held, wrapped, subject):
    asked = request(world, worker, held, wrapped())
    extend(world, asked)
    revoked = world.admin.revocations.revoke(subject, who=world.who, now=world.now)
    assert [lease.id for lease in revoked.leases] == [held]


def test_what_was_not_measured_gets_no_key(world, worker, held, wrapped):
    """An image that asks first and measures afterwards, or measures something else, or only says so."""
    wanted, size = wrapped(), len(world.leaves())
    for after in ((), (digest_bytes(b"something else"),)):
        with pytest.raises(ReleaseRefused) as refused:
            extend(world, request(world, worker, held, wanted, after=after))
        assert refused.value.detail == "statement.artifacts"
    told = request(world, worker, held, wanted)
    evidence = dataclasses.replace(
        told.bundle.evidence, events=(*events_of(told.bundle.evidence.statement), Event("said", LATER))
    )
    with pytest.raises(ReleaseRefused):
        extend(world, dataclasses.replace(told, bundle=dataclasses.replace(told.bundle, evidence=evidence)))
    assert lease_of(world, held).key_ids == ("model",)
    assert [leaf.event for leaf in world.leaves()[size:]] == [leaves.REFUSAL] * 3


def test_evidence_that_is_refused_gets_no_key_and_takes_none_away(world, worker, held, wrapped):
    wanted = wrapped()
    world.appraiser.admits = False
    with pytest.raises(AppraisalRefused):
        extend(world, request(world, worker, held, wanted))
    world.appraiser.admits = True
    assert lease_of(world, held).key_ids == ("model",)
    world.renew(worker, held)


def test_only_the_worker_that_has_the_lease_extends_it(world, another_worker, held, wrapped):
    with pytest.raises(ReleaseRefused) as refused:
        extend(world, request(world, another_worker, held, wrapped()))
    assert refused.value.detail == "lease.keyset"


def test_a_lease_that_ended_is_not_extended(world, worker, held, wrapped):
    wanted = wrapped()
    world.admin.revoke_lease(held, who=world.who, now=world.now)
    with pytest.raises(LeaseEnded):
        extend(world, request(world, worker, held, wanted))
    with pytest.raises(LeaseEnded):
        extend(world, request(world, worker, "0" * 32, wanted))


def test_the_path_and_the_purpose_must_be_of_this_lease(world, worker, held, wrapped):
    wanted = wrapped()
    with pytest.raises(ReleaseRefused) as refused:
        extend(world, request(world, worker, held, wanted), "0" * 32)
    assert refused.value.detail == "lease.id"
    with pytest.raises(ReleaseRefused) as refused:
        extend(world, request(world, worker, held, wanted, purpose=PURPOSE_RELEASE))
    assert refused.value.detail == "challenge.purpose"


def test_the_same_bytes_get_the_same_answer_and_the_nonce_is_used_up(world, worker, held, wrapped):
    asked = request(world, worker, held, wrapped(max_uses=1))
    answer = extend(world, asked)
    assert extend(world, asked) == answer
    assert lease_of(world, held).renewals == 1
    world.now += 61
    with pytest.raises(NonceReused):
        extend(world, asked)


def test_further_keys_are_counted_and_those_that_are_held_are_not(world, worker, held, wrapped):
    wanted = wrapped(max_uses=1)
    extend(world, request(world, worker, held, wanted))
    assert "uses=1/1" in world.leaves()[-1].detail
    with pytest.raises(ReleaseRefused) as refused:
        extend(world, request(world, worker, held, wanted))
    assert refused.value.detail == "key.uses"
    assert lease_of(world, held).renewals == 1, "a refusal renews nothing"
    world.renew(worker, held)


def test_a_key_once_per_boot_is_given_once(world, worker, held, wrapped):
    wanted = wrapped(per_boot=True)
    extend(world, request(world, worker, held, wanted))
    with pytest.raises(ReleaseRefused) as refused:
        extend(world, request(world, worker, held, wanted))
    assert refused.value.detail == "key.boot"


def test_the_policy_of_the_further_key_must_admit_the_worker_too(world, worker, held):
    world.put_policy(policy_id="other")
    world.admin.create_key("later", "other", who=world.who, now=world.now)
    wanted = world.wrap(key_id="later", of=LATER_OF, data_key=LATER_KEY)
    count = world.appraiser.count
    answer = extend(world, request(world, worker, held, wanted))
    assert world.appraiser.count == count + 2
    assert len(world.leaves()[-1].digests) == 5 + 2 + 1
    assert answer.grants


def test_old_editions_and_keys_of_other_brokers_are_refused(world, worker, held, wrapped):
    wanted = wrapped()
    foreign = dataclasses.replace(wanted, broker=Digest(digest_bytes(b"another broker")))
    with pytest.raises(ReleaseRefused) as refused:
        extend(world, request(world, worker, held, foreign))
    assert refused.value.detail == "key.broker"
    world.put_policy(version=2, editions={LATER_OF.line.hex(): 2})
    with pytest.raises(ReleaseRefused) as refused:
        extend(world, request(world, worker, held, wanted))
    assert refused.value.detail == "key.edition"


def test_a_lease_holds_so_many_keys_and_no_more(world, worker, held):
    made = []
    for number in range(16):
        world.admin.create_key(f"later-{number}", "policy", who=world.who, now=world.now)
        of = Edition.first(bytes([number]) * 16)
        made.append(KeyRequest(LATER, world.wrap(key_id=f"later-{number}", of=of, data_key=LATER_KEY), Use.OPEN))
    for keys, passes in ((made, False), ([], False), (made[:15], True)):
        asked = dataclasses.replace(request(world, worker, held, made[0].wrapped), keys=tuple(keys))
        if passes:
            assert len(extend(world, asked).grants) == 15
            continue
        with pytest.raises(ReleaseRefused) as refused:
            extend(world, asked)
        assert refused.value.detail == "keys.count"


def test_of_two_at_once_the_later_one_is_refused(world, worker, held, wrapped, monkeypatch):
    """Both were judged by the lease as it was; only one of them can be its next link."""
    kind = type(world.appraiser)
    asked, real = request(world, worker, held, wrapped()), kind.__call__

    def overtaken(self, bundle, **how):
        if bundle == asked.bundle:
            world.renew(worker, held)
        return real(self, bundle, **how)

    monkeypatch.setattr(kind, "__call__", overtaken)
    with pytest.raises(ReleaseRefused) as refused:
        extend(world, asked)
    assert refused.value.detail == "lease.renewals"
    assert lease_of(world, held).key_ids == ("model",)


def test_bytes_that_are_no_request_are_malformed(world, held):
    with pytest.raises(MalformedRecord):
        world.broker.extend(held, b"{}", now=world.now)


def test_a_client_takes_as_many_keys_as_it_asked_for(world, worker, held, wrapped):
    from strongroom.release.client import BrokerClient
    from strongroom.services.broker import broker_app
    from strongroom.services.server import BackgroundServer

    with BackgroundServer(broker_app(world.broker, clock=lambda: world.now)) as server:
        client = BrokerClient(server.url, fingerprint=world.broker.identity.fingerprint, clock=lambda: world.now)
        asked = request(world, worker, held, wrapped())
        answer = client.renew(asked)
        assert len(answer.grants) == 1
        client.post = lambda *_: dataclasses.replace(answer, grants=())
        with pytest.raises(LogInvalid):
            client.renew(asked)
        client.close()
