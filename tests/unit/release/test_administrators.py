import dataclasses

import pytest

from strongroom.appraisal.policies import sign_policy
from strongroom.crypto.signatures import (
    fingerprint,
    generate_ed25519,
    generate_p256,
    generate_p384,
    public_to_der,
    sign_envelope,
)
from strongroom.errors import (
    MalformedRecord,
    NotAuthorised,
    SignatureInvalid,
    StoreUnavailable,
    StrongroomError,
    UsageError,
)
from strongroom.records import codec
from strongroom.records.digest import digest_bytes
from strongroom.records.envelope import Envelope
from strongroom.release import administrators as module
from strongroom.release.appointments import PAYLOAD_TYPE, appoint
from strongroom.release.broker import Broker
from strongroom.release.owners import sign_request
from strongroom.release.roles import EVERY, Appointment, Role, Verb
from strongroom.release.state import DATABASE
from strongroom.release.stores.administrators import StoredAdministrator
from strongroom.release.stores.sqlite import SqliteStore


class People:
    """A world's administrators, and keys for some more."""

    def __init__(self, world):
        self.world, self.owner = world, generate_p256()
        self.name = fingerprint(self.owner.public_key())

    @property
    def all(self):
        return self.world.broker.administrators

    def word(self, key=None, role=Role.OWNER, tenant="acme", *, broker=None, root=None):
        public = (key or self.owner).public_key()
        broker = broker or self.world.broker.identity.fingerprint
        return appoint(public, role, tenant, broker=broker, root=root or self.world.owner)

    def add(self, key=None, role=Role.OWNER, tenant="acme"):
        return self.all.add(self.word(key, role, tenant), who=self.world.who, now=self.world.now)

    def remove(self, name=None):
        return self.all.remove(name or self.name, who=self.world.who, now=self.world.now)

    def speaks(self, key=None, verb=Verb.KEYS_LIST):
        world = self.world
        request = {"method": "GET", "path": "/v1/keys", "body": b"", "now": world.now}
        token = sign_request(key or self.owner, broker=world.broker.identity.fingerprint, **request)
        return world.broker.authorise(token, verb, **request).administrator

    def names(self):
        return {one.fingerprint for one in self.all.all()}


@pytest.fixture
def people(world):
    return People(world)


def test_at_first_there_are_only_the_roots_that_were_named(world, people):
    (root,) = people.all.all()
    assert (root.fingerprint, root.role, root.tenant, root.added_by) == (world.who, Role.ROOT, EVERY, None)
    assert people.speaks(world.owner) == root
    with pytest.raises(NotAuthorised):
        people.speaks()


def test_who_is_appointed_speaks_until_they_are_removed(world, people):
    made = people.add()
    assert (made.role, made.tenant, made.added_by, made.added) == (Role.OWNER, "acme", world.who, world.now)
    assert people.speaks() == made
    assert people.remove() == made
    with pytest.raises(NotAuthorised):
        people.speaks()
    with pytest.raises(UsageError, match="no such"):
        people.remove()


def test_every_act_is_a_leaf(world, people):
    people.add()
    people.remove()
    assert [(leaf.event, leaf.subject, leaf.digests, leaf.detail) for leaf in world.leaves()] == [
        ("administrator", people.name, (people.name, world.who), "added role=owner tenant=acme"),
        ("administrator", people.name, (people.name, world.who), "removed role=owner tenant=acme"),
    ]


def test_administrators_are_there_after_a_new_start(world, people):
    people.add()
    second = generate_p256()
    people.add(second, Role.AUDITOR, EVERY)
    people.remove(fingerprint(second.public_key()))
    world.broker.close()
    world.open()
    assert people.names() == {world.who, people.name}
    assert people.speaks().tenant == "acme"


def test_a_key_has_one_role(world, people):
    people.add()
    size = world.log_size()
    for role, tenant in ((Role.OWNER, "acme"), (Role.AUDITOR, "other")):
        with pytest.raises(UsageError, match="already"):
            people.add(None, role, tenant)
    with pytest.raises(UsageError, match="already"):
        people.add(world.owner)
    with pytest.raises(UsageError, match="root"):
        people.remove(world.who)
    assert world.log_size() == size


def payload(people, **changes):
    word = codec.decode(Appointment, people.word().payload)
    return dataclasses.replace(word, **changes)


@pytest.mark.parametrize(
    "change",
    [
        {"broker": digest_bytes(b"another broker")},
        {"key": b""},
        {"key": b"x" * 91},
        {"key": public_to_der(generate_p384().public_key())},
        {"key": public_to_der(generate_ed25519().public_key())},
        {"role": Role.ROOT},
        {"tenant": ""},
        {"tenant": "Not a name"},
        {"tenant": "a/b"},
    ],
)
def test_a_root_cannot_say_what_has_no_meaning(world, people, change):
    word = sign_envelope(PAYLOAD_TYPE, codec.encode(payload(people, **change)), world.owner)
    with pytest.raises((SignatureInvalid, MalformedRecord, UsageError)):
        people.all.add(word, who=world.who, now=world.now)
    assert people.names() == {world.who}
    assert world.log_size() == 0


def test_only_a_roots_word_appoints(world, people):
    people.add()
    someone = generate_p256()
    for root in (people.owner, someone):
        with pytest.raises(SignatureInvalid):
            people.all.add(people.word(someone, root=root), who=world.who, now=world.now)
    policy = sign_policy(world.policy(), world.owner)
    with pytest.raises(SignatureInvalid):
        people.all.add(policy, who=world.who, now=world.now)


def test_an_appointment_is_of_a_key_on_p256(people):
    for key in (generate_p384(), generate_ed25519()):
        with pytest.raises(UsageError, match="P-256"):
            people.word(key)


def test_who_writes_the_database_appoints_nobody(world, people):
    someone = generate_p256()
    name = fingerprint(someone.public_key())
    forged = [
        people.word(someone, root=someone).to_bytes(),
        people.word(someone, broker=digest_bytes(b"another")).to_bytes(),
        b"",
        b"{}",
        b"\xff" * 100,
    ]
    for appointment in forged:
        row = StoredAdministrator(name, appointment, world.who, world.now)
        world.store.write(lambda transaction, row=row: transaction.put_administrator(row))
        world.broker.close()
        world.open()
        assert people.names() == {world.who}
    others = dataclasses.replace(row, appointment=people.word().to_bytes())  # a root's word, under another's name
    world.store.write(lambda transaction: transaction.put_administrator(others))
    world.broker.close()
    world.open()
    assert people.names() == {world.who}
    people.add(someone)  # and none of it stands in the way of who is appointed
    assert people.names() == {world.who, name}


def test_whoever_a_root_appointed_ends_with_that_root(world, people):
    people.add()
    second = generate_p256()
    world.broker.close()
    store = SqliteStore(world.directory / DATABASE)
    world.broker = Broker(store, world.keys, appraiser=world.appraiser, owner_keys=[second.public_key()])
    assert people.names() == {fingerprint(second.public_key())}


def policy_of(world, signer, policy_id, version=1):
    return sign_policy(world.policy(policy_id=policy_id, version=version), signer)


def put(world, envelope):
    return world.admin.put_policy(envelope, who=world.who, now=world.now)


def test_a_policy_counts_that_an_owner_of_its_tenant_signed(world, people):
    people.add()
    assert put(world, policy_of(world, people.owner, "acme/models")).id == "acme/models"
    assert put(world, policy_of(world, world.owner, "acme/data")).id == "acme/data"
    for policy_id in ("other/models", "models", "acme2/models"):
        with pytest.raises(SignatureInvalid) as refused:
            put(world, policy_of(world, people.owner, policy_id))
        assert refused.value.detail == "policy.signer"


@pytest.mark.parametrize("role", [Role.OPERATOR, Role.AUDITOR])
def test_a_policy_that_an_operator_or_an_auditor_signed_is_none(world, people, role):
    people.add(None, role)
    with pytest.raises(SignatureInvalid):
        put(world, policy_of(world, people.owner, "acme/models"))


def released(world, worker, policy_id="acme/models", key_id="acme/key"):
    world.admin.create_key(key_id, policy_id, who=world.who, now=world.now)
    wrapped = world.wrap(key_id=key_id)
    return wrapped, world.release(world.request(worker, wrapped))


def test_the_policies_of_a_removed_signer_release_no_more(world, people, worker, another_worker):
    people.add()
    put(world, policy_of(world, people.owner, "acme/models"))
    wrapped, answer = released(world, worker)
    people.remove()
    for ask in (
        lambda: world.release(world.request(another_worker, wrapped)),
        lambda: world.renew(worker, answer.lease_id),
    ):
        with pytest.raises(SignatureInvalid) as refused:
            ask()
        assert "higher version" in refused.value.remedy
    assert world.leaves()[-1].detail.startswith("code=signature.invalid")
    with pytest.raises(SignatureInvalid):  # the same version, signed by somebody else, is not in force either
        put(world, policy_of(world, world.owner, "acme/models"))
    put(world, policy_of(world, world.owner, "acme/models", version=2))
    assert world.release(world.request(another_worker, wrapped)).grants


def test_a_policy_that_two_signed_stands_while_one_of_them_is_there(world, people, worker, another_worker):
    people.add()
    second = generate_p256()
    people.add(second)
    envelopes = [policy_of(world, key, "acme/models") for key in (people.owner, second)]
    both = Envelope(envelopes[0].payload_type, envelopes[0].payload, envelopes[0].signatures + envelopes[1].signatures)
    put(world, both)
    wrapped, _ = released(world, worker)
    people.remove()
    assert world.release(world.request(another_worker, wrapped)).grants


def test_a_removal_while_evidence_is_judged_is_noticed(world, people, worker):
    people.add()
    put(world, policy_of(world, people.owner, "acme/models"))
    world.admin.create_key("acme/key", "acme/models", who=world.who, now=world.now)
    wrapped = world.wrap(key_id="acme/key")
    judge = world.broker._judge.release

    def slow(*asked, **members):
        found = judge(*asked, **members)
        people.remove()
        return found

    world.broker._judge.release = slow
    with pytest.raises(SignatureInvalid):
        world.release(world.request(worker, wrapped))
    assert world.admin.leases(now=world.now) == ()


def test_a_stored_policy_of_another_tenants_owner_releases_nothing(world, people, worker):
    """As after somebody wrote the database: what counts is who signed, at every release."""
    people.add(tenant="other")
    world.put_policy(policy_id="acme/models")
    wrapped, _ = released(world, worker)
    forged = policy_of(world, people.owner, "acme/models", version=2)
    stored = world.store.read(lambda reader: reader.policy("acme/models"))
    digest = world.policy(policy_id="acme/models", version=2).digest
    swapped = dataclasses.replace(stored, version=2, digest=digest, envelope=forged.to_bytes())
    world.store.write(lambda transaction: transaction.put_policy(swapped))
    with pytest.raises(SignatureInvalid):
        world.release(world.request(worker, wrapped))


def test_a_change_that_the_store_does_not_keep_is_none(world, people, monkeypatch):
    people.add()
    write = world.store.write

    def fail(work):
        def half(transaction):
            work(transaction)
            raise StoreUnavailable("the disk is full")

        return write(half)

    monkeypatch.setattr(world.store, "write", fail)
    someone = generate_p256()
    with pytest.raises(StoreUnavailable):
        people.add(someone)
    with pytest.raises(StoreUnavailable):
        people.remove()
    monkeypatch.setattr(world.store, "write", write)
    assert people.names() == {world.who, people.name}
    assert people.speaks().fingerprint == people.name


def test_there_are_only_so_many(people, monkeypatch):
    monkeypatch.setattr(module, "MAX_ADMINISTRATORS", 2)
    people.add()
    with pytest.raises(UsageError, match="at most 2"):
        people.add(generate_p256())


def test_a_token_is_used_up_even_where_the_role_refuses(world, people):
    people.add(None, Role.AUDITOR)
    request = {"method": "POST", "path": "/v1/keys", "body": b"", "now": world.now}
    token = sign_request(people.owner, broker=world.broker.identity.fingerprint, **request)
    with pytest.raises(StrongroomError) as refused:
        world.broker.authorise(token, Verb.KEYS_CREATE, **request)
    assert refused.value.code == "admin.not_permitted"
    with pytest.raises(NotAuthorised, match="used before"):
        world.broker.authorise(token, Verb.KEYS_CREATE, **request)
