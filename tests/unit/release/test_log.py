import sqlite3
from contextlib import closing

import pytest

from strongroom.errors import LogInvalid, StoreUnavailable, UsageError
from strongroom.receipts.note import open_checkpoint
from strongroom.receipts.proof import verify_proof
from strongroom.receipts.tiles import Tile
from strongroom.records.release import Leaf
from strongroom.release.log import Log


def leaf(number=0, detail=""):
    return Leaf("receipts", number, "lease", (), detail)


@pytest.fixture
def log(world):
    return world.broker.log


def append(world, *leaves):
    return [world.store.write(lambda t, entry=entry: world.broker.log.append(t, entry)) for entry in leaves]


def test_every_proof_holds_under_its_own_checkpoint(world):
    identity = world.broker.identity
    for number, proof in enumerate(append(world, *(leaf(n) for n in range(9)))):
        assert proof.index == number
        assert verify_proof(proof, origin=identity.log_origin, log_key=identity.log) == leaf(number)


def test_a_group_of_leaves_stands_in_order_under_one_checkpoint(world, log):
    before = world.log_size()
    world.store.write(lambda t: (log.append_all(t, [leaf(n) for n in range(5)]), log.append_all(t, [])))
    (proof,) = append(world, leaf(5))
    identity = world.broker.identity
    assert world.leaves()[before:] == [leaf(n) for n in range(6)]
    assert verify_proof(proof, origin=identity.log_origin, log_key=identity.log) == leaf(5)


def test_a_leaf_of_a_transaction_that_failed_is_forgotten(world, log):
    append(world, leaf(1))

    def half(transaction):
        log.append(transaction, leaf(2))
        log.append(transaction, leaf(3))
        raise KeyError

    with pytest.raises(KeyError):
        world.store.write(half)
    before = log.checkpoint(world.store)
    with pytest.raises(LogInvalid):
        log.tile(world.store, Tile(0, 0, 2))
    (proof,) = append(world, leaf(4))
    identity = world.broker.identity
    assert verify_proof(proof, origin=identity.log_origin, log_key=identity.log) == leaf(4)
    assert (open_checkpoint(before, identity.log_origin, identity.log).size, proof.index) == (1, 1)


def test_a_new_start_goes_on_with_the_same_tree(world):
    append(world, leaf(1), leaf(2), leaf(3))
    before = world.broker.log.checkpoint(world.store)
    world.broker.close()
    world.open()
    assert world.broker.log.checkpoint(world.store) == before
    assert append(world, leaf(4))[0].index == 3


@pytest.mark.parametrize(
    "change",
    [
        "update leaves set leaf = x'00' where position = 1",
        "delete from leaves where position = 2",
        "update meta set value = 'no checkpoint' where name = 'checkpoint'",
        "delete from meta where name = 'checkpoint'",
        "insert into leaves values (3, x'00')",
    ],
)
def test_a_log_that_was_changed_in_the_database_is_noticed_at_the_start(world, change):
    append(world, leaf(1), leaf(2), leaf(3))
    with closing(sqlite3.connect(world.store._path)) as connection, connection:
        connection.execute(change)
    fresh = Log(world.broker.identity.log_origin, world.keys.log)
    with pytest.raises(StoreUnavailable, match="does not match"):
        fresh.open(world.store)


def test_a_leaf_that_no_bundle_holds_is_refused(world):
    with pytest.raises(UsageError):
        append(world, leaf(detail="x" * 70_000))
