import dataclasses

import pytest

from strongroom.appraisal.policies import sign_policy
from strongroom.crypto.signatures import generate_p256
from strongroom.errors import LeaseEnded, ReleaseRefused, SignatureInvalid, UsageError
from strongroom.records.digest import digest_bytes
from strongroom.records.release import Edition
from strongroom.records.revocation import About, Subject
from strongroom.release import leaves


def test_every_act_of_an_owner_is_a_leaf(world, worker):
    wrapped = world.prepared()
    lease_id = world.release(world.request(worker, wrapped)).lease_id
    world.admin.revoke_lease(lease_id, who=world.who, now=world.now)
    world.admin.retire_key("model", who=world.who, now=world.now)
    written = [(leaf.event, leaf.subject, leaf.detail) for leaf in world.leaves() if leaf.event != leaves.RELEASE]
    assert written == [
        ("policy", "policy", "version=1"),
        ("key", "model", "created"),
        ("key", "model", "wrapped"),
        ("revocation", lease_id, "lease"),
        ("key", "model", "retired"),
    ]
    assert all(world.who in leaf.digests for leaf in world.leaves() if leaf.event != leaves.RELEASE)
    assert digest_bytes(wrapped.artifact_id) in world.leaves()[2].digests


def test_a_policy_never_goes_back(world):
    world.put_policy(version=5)
    for version in (4, 1):
        with pytest.raises(ReleaseRefused, match="never goes back") as refused:
            world.put_policy(version=version)
        assert "above 5" in refused.value.remedy
    with pytest.raises(ReleaseRefused):
        world.put_policy(version=5, lease_seconds=60)  # another policy under the same number
    world.put_policy(version=6)
    assert [(policy.id, policy.version) for policy in world.admin.policies()] == [("policy", 6)]


def test_the_same_policy_once_more_changes_nothing(world):
    world.put_policy()
    size = world.log_size()
    world.put_policy()
    assert world.log_size() == size


def test_a_policy_that_no_owner_signed_is_refused(world):
    with pytest.raises(SignatureInvalid):
        world.admin.put_policy(sign_policy(world.policy(), generate_p256()), who=world.who, now=world.now)
    assert world.admin.policies() == ()


@pytest.mark.parametrize(
    "name", ["", "A", "-a", "/", "a/", "/a", "a/b/c", "a/-b", "a b", "x" * 65, "x/" + "x" * 65, "ä", "a\n"]
)
def test_names_are_plain(world, name):
    with pytest.raises(UsageError):
        world.admin.create_key(name, "policy", who=world.who, now=world.now)
    with pytest.raises(UsageError):
        world.admin.create_key("key", name, who=world.who, now=world.now)
    with pytest.raises(UsageError):
        world.put_policy(policy_id=name)


@pytest.mark.parametrize(("key_id", "policy_id"), [("a/key", "policy"), ("key", "a/policy"), ("a/key", "b/policy")])
def test_a_key_stands_under_a_policy_of_its_own_tenant(world, key_id, policy_id):
    with pytest.raises(UsageError, match="one tenant"):
        world.admin.create_key(key_id, policy_id, who=world.who, now=world.now)
    assert world.admin.keys() == ()
    assert world.log_size() == 0


def test_a_tenant_has_several_policies_and_keys_under_each(world, worker):
    for policy_id in ("acme/models", "acme/data"):
        world.put_policy(policy_id=policy_id)
        world.admin.create_key(f"{policy_id}-key", policy_id, who=world.who, now=world.now)
    wrapped = world.wrap(key_id="acme/data-key")
    assert world.release(world.request(worker, wrapped)).grants
    assert [lease.policy_id for lease in world.admin.leases(now=world.now)] == ["acme/data"]


def test_a_key_is_created_once(world):
    world.admin.create_key("key", "policy", who=world.who, now=world.now)
    size = world.log_size()
    with pytest.raises(UsageError, match="already"):
        world.admin.create_key("key", "other", who=world.who, now=world.now)
    assert world.log_size() == size


def test_nothing_is_wrapped_under_a_key_that_is_missing_or_retired(world):
    with pytest.raises(UsageError, match="no such key"):
        world.wrap()
    world.prepared()
    world.admin.retire_key("model", who=world.who, now=world.now)
    with pytest.raises(UsageError, match="retired"):
        world.wrap()
    with pytest.raises(UsageError, match="no such key"):
        world.admin.retire_key("other", who=world.who, now=world.now)


def test_a_lease_is_revoked_once_and_only_while_it_is_active(world, worker, another_worker):
    wrapped = world.prepared()
    first, second = (world.release(world.request(each, wrapped)).lease_id for each in (worker, another_worker))
    world.admin.revoke_lease(first, who=world.who, now=world.now)
    for lease_id in (first, "unknown"):
        with pytest.raises(LeaseEnded):
            world.admin.revoke_lease(lease_id, who=world.who, now=world.now)
    world.now += 300
    with pytest.raises(LeaseEnded):
        world.admin.revoke_lease(second, who=world.who, now=world.now)


def test_revoking_a_key_leaves_leases_of_other_keys_alone(world, worker):
    wrapped = world.prepared()
    world.release(world.request(worker, wrapped))
    world.admin.create_key("other", "policy", who=world.who, now=world.now)
    ended = [
        world.admin.revocations.revoke(subject, who=world.who, now=world.now).leases
        for subject in (Subject(About.KEY, "other"), Subject(About.POLICY, "policy"))
    ]
    assert [len(leases) for leases in ended] == [0, 1]


def test_the_database_never_holds_a_key_in_clear(world, worker):
    world.release(world.request(worker, world.prepared()))
    key = world.store.read(lambda reader: reader.key("model"))
    kek = world.broker.administration._ring._kek(key)
    stored = b"".join(path.read_bytes() for path in world.directory.glob("broker.db*"))
    for secret in (
        kek,
        bytes(range(32)),
        world.keys.root.key,
        world.keys.challenge,
        world.keys.wrapping.to_bytes()[:32],
    ):
        assert secret not in stored


def test_a_rotated_key_wraps_under_its_newest_version_and_opens_under_all(world, worker, another_worker):
    old = world.prepared()
    assert world.admin.rotate_key("model", who=world.who, now=world.now).version == 2
    new = world.wrap()
    assert (old.key_version, new.key_version) == (1, 2)
    for proved, wrapped in ((worker, old), (another_worker, new)):
        assert world.release(world.request(proved, wrapped)).grants
    assert [(leaf.subject, leaf.detail) for leaf in world.leaves() if leaf.event == "key"] == [
        ("model", "created"),
        ("model", "wrapped"),
        ("model", "rotated"),
        ("model", "wrapped"),
    ]


def test_a_wrapped_key_is_brought_under_the_newest_version_inside_the_broker(world):
    old = world.prepared()
    world.admin.rotate_key("model", who=world.who, now=world.now)
    new = world.admin.rewrap(old, who=world.who, now=world.now)
    assert (new.key_version, new.of) == (2, old.of)
    assert new.ciphertext != old.ciphertext
    assert world.leaves()[-1].detail == "rewrapped"
    size = world.log_size()
    for change in (
        {"ciphertext": b"c" * 60},
        {"of": Edition(b"other", b"other", 1)},
        {"broker": digest_bytes(b"other")},
    ):
        with pytest.raises(ReleaseRefused):
            world.admin.rewrap(dataclasses.replace(old, **change), who=world.who, now=world.now)
    assert world.log_size() == size


def test_a_key_is_wrapped_before_the_transaction_and_rotated_by_one_of_two(world, monkeypatch):
    """The root may be a slow device, and whoever writes meanwhile does not wait for it."""
    world.prepared()
    ring, create = world.admin._ring, world.admin._ring.create

    def slow(*arguments, **members):
        monkeypatch.setattr(ring, "create", create)
        world.admin.rotate_key("model", who=world.who, now=world.now)
        return create(*arguments, **members)

    monkeypatch.setattr(ring, "create", slow)
    with pytest.raises(UsageError, match="somebody else"):
        world.admin.rotate_key("model", who=world.who, now=world.now)
    known = world.admin.keys()
    assert [key.version for key in known] == [1, 2]
    assert [leaf.detail for leaf in world.leaves()].count("rotated") == 1


def test_a_retired_key_is_neither_rotated_nor_rewrapped(world):
    old = world.prepared()
    world.admin.rotate_key("model", who=world.who, now=world.now)
    world.admin.retire_key("model", who=world.who, now=world.now)
    with pytest.raises(UsageError):
        world.admin.rotate_key("model", who=world.who, now=world.now)
    with pytest.raises(UsageError):
        world.admin.rewrap(old, who=world.who, now=world.now)
    with pytest.raises(UsageError):
        world.admin.rotate_key("absent", who=world.who, now=world.now)
