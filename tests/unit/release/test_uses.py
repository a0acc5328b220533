import dataclasses

import pytest

from strongroom.errors import AppraisalRefused, ReleaseRefused, StoreUnavailable, UsageError
from strongroom.receipts.proof import verify_proof
from strongroom.records.digest import digest_bytes
from strongroom.release import uses


def limited(world, times):
    """A policy, a key that may be released `times`, and a wrapped data key."""
    world.put_policy()
    world.admin.create_key("model", "policy", who=world.who, now=world.now, max_uses=times)
    return world.wrap()


def refusal(world, request):
    with pytest.raises(ReleaseRefused) as refused:
        world.release(request)
    return refused.value.detail


def used(world):
    """How often each version of each key was released, as its owner sees it."""
    keys = world.admin.keys()
    return [(key.key_id, key.used) for key in keys]


def detail(world, answer):
    identity = world.broker.identity
    return verify_proof(answer.proof, origin=identity.log_origin, log_key=identity.log).detail


def test_a_key_is_released_as_often_as_its_owner_said(world, worker, another_worker):
    wrapped = limited(world, 2)
    assert detail(world, world.release(world.request(worker, wrapped))).endswith(" uses=1/2")
    assert detail(world, world.release(world.request(another_worker, wrapped))).endswith(" uses=2/2")
    request = world.request(worker, wrapped)
    assert refusal(world, request) == "key.uses"
    assert refusal(world, request) == "key.uses"
    assert world.leaves()[-1].detail == "code=release.refused unlogged=0 checks=key.uses"
    assert used(world) == [("model", 2)]


def test_the_limit_is_written_down(world):
    limited(world, 3)
    assert [leaf.detail for leaf in world.leaves() if leaf.event == "key"] == ["created uses=3", "wrapped"]


def test_retries_and_renewals_are_not_counted(world, worker):
    wrapped = limited(world, 1)
    request = world.request(worker, wrapped)
    answer = world.release(request)
    assert world.release(request) == answer
    renewed = world.renew(worker, answer.lease_id)
    assert "uses" not in detail(world, renewed)
    assert used(world) == [("model", 1)]


def test_a_refusal_is_not_counted(world, worker):
    wrapped = limited(world, 1)
    world.appraiser.admits = False
    with pytest.raises(AppraisalRefused):
        world.release(world.request(worker, wrapped))
    assert used(world) == [("model", 0)]


def test_a_new_version_has_no_uses_of_its_own(world, worker):
    wrapped = limited(world, 1)
    world.admin.rotate_key("model", who=world.who, now=world.now)
    world.release(world.request(worker, world.admin.rewrap(wrapped, who=world.who, now=world.now)))
    assert refusal(world, world.request(worker, wrapped)) == "key.uses"
    assert used(world) == [("model", 1), ("model", 1)]


def test_a_key_asked_for_twice_is_counted_twice_or_not_at_all(world, worker):
    wrapped = limited(world, 3)
    world.admin.create_key("free", "policy", who=world.who, now=world.now)

    def request():
        made = world.request(worker, wrapped)
        free = dataclasses.replace(made.keys[0], wrapped=world.wrap(key_id="free"))
        return dataclasses.replace(made, keys=(*made.keys, free, *made.keys))

    answer = world.release(request())
    assert len(answer.grants) == 3
    assert detail(world, answer).endswith(" uses=2/3,-")
    assert refusal(world, request()) == "key.uses"
    assert used(world) == [("free", None), ("model", 2)]


def test_uses_survive_a_restart(world, worker):
    wrapped = limited(world, 1)
    world.release(world.request(worker, wrapped))
    world.broker.close()
    world.open()
    assert refusal(world, world.request(worker, wrapped)) == "key.uses"


@pytest.mark.parametrize("times", [0, -1])
def test_a_limit_below_one_is_refused(world, times):
    with pytest.raises(UsageError):
        world.admin.create_key("model", "policy", who=world.who, now=world.now, max_uses=times)
    assert world.admin.keys() == ()


def test_a_count_that_changes_under_the_transaction_ends_it(world):
    limited(world, 1)

    class Changed:
        def key_uses(self, key_id):
            return world.store.read(lambda reader: reader.key_uses(key_id))

        def key_released_in(self, _key_id, _boot):
            return None

        def use_key(self, _key_id, _times):
            return False

    with pytest.raises(StoreUnavailable):
        uses.count(Changed(), ["model"], boot=digest_bytes(b"boot"))


def per_boot(world, **members):
    """A key that is released once per boot, and a wrapped data key."""
    world.put_policy()
    world.admin.create_key("model", "policy", who=world.who, now=world.now, per_boot=True, **members)
    return world.wrap()


def test_a_key_per_boot_is_released_once_to_each_keyset(world, worker, another_worker):
    wrapped = per_boot(world)
    request = world.request(worker, wrapped)
    answer = world.release(request)
    assert world.release(request) == answer
    assert refusal(world, world.request(worker, wrapped)) == "key.boot"
    assert detail(world, world.release(world.request(another_worker, wrapped))).endswith(" uses=b")
    world.renew(worker, answer.lease_id)
    assert [leaf.detail for leaf in world.leaves() if leaf.event == "key"] == ["created per-boot", "wrapped"]
    (key,) = world.admin.keys()
    assert key.per_boot


def test_a_tpm_that_was_not_reset_is_the_same_boot_whatever_the_keyset(world, worker, another_worker):
    wrapped = per_boot(world)
    world.appraiser.claims = {"ak_name": "000b" + "11" * 32, "reset_count": 7}
    world.release(world.request(worker, wrapped))
    assert refusal(world, world.request(another_worker, wrapped)) == "key.boot"
    world.appraiser.claims = {"ak_name": "000b" + "22" * 32, "reset_count": 7}
    world.release(world.request(another_worker, wrapped))
    world.appraiser.claims = {"ak_name": "000b" + "11" * 32, "reset_count": 8}
    world.release(world.request(worker, wrapped))
    assert refusal(world, world.request(worker, wrapped)) == "key.boot"


def test_a_key_per_boot_with_a_limit_keeps_both(world, worker, another_worker):
    wrapped = per_boot(world, max_uses=1)
    assert detail(world, world.release(world.request(worker, wrapped))).endswith(" uses=1/1b")
    assert refusal(world, world.request(worker, wrapped)) == "key.boot"
    assert refusal(world, world.request(another_worker, wrapped)) == "key.uses"
    assert used(world) == [("model", 1)]


def test_a_key_per_boot_is_not_granted_twice_in_one_answer(world, worker):
    made = world.request(worker, per_boot(world))
    assert refusal(world, dataclasses.replace(made, keys=(*made.keys, *made.keys))) == "key.boot"
    world.broker.close()
    world.open()
    world.release(world.request(worker, made.keys[0].wrapped))


def test_a_boot_that_is_written_under_the_transaction_ends_it():
    class Changed:
        def key_uses(self, _key_id):
            return None

        def key_released_in(self, _key_id, _boot):
            return False

        def use_key_in(self, _key_id, _boot):
            return False

    with pytest.raises(StoreUnavailable):
        uses.count(Changed(), ["model"], boot=digest_bytes(b"boot"))
