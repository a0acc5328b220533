"""Proofs that an entry is logged, and that a log only grew."""

import dataclasses

import pytest

from strongroom.crypto.merkle import leaf_hash
from strongroom.crypto.signatures import generate_ed25519, raw_public
from strongroom.errors import LogInvalid, MalformedRecord
from strongroom.receipts.note import Checkpoint, sign_checkpoint
from strongroom.receipts.proof import verify_extension, verify_proof
from strongroom.receipts.tiles import Tree
from strongroom.records import codec
from strongroom.records.digest import digest_bytes
from strongroom.records.release import Leaf, LogProof

ORIGIN = "broker.example/log"
KEY = generate_ed25519()
PUBLIC = raw_public(KEY)


def leaf(number: int) -> Leaf:
    return Leaf("release", 1_800_000_000 + number, f"lease-{number}", (digest_bytes(b"evidence"),), "")


LEAVES = [codec.encode(leaf(number)) for number in range(11)]
TREE = Tree(leaf_hash(entry) for entry in LEAVES)


def state(size: int, tree: Tree = TREE, origin: str = ORIGIN) -> Checkpoint:
    return Checkpoint(origin, size, tree.root(size))


def proof(index: int, size: int = len(LEAVES)) -> LogProof:
    text = sign_checkpoint(state(size), ORIGIN, KEY)
    return LogProof(index, LEAVES[index], TREE.inclusion_path(index, size), text)


@pytest.mark.parametrize("index", range(11))
def test_every_entry_proves_itself(index: int):
    travelled = codec.decode(LogProof, codec.encode(proof(index)))
    assert verify_proof(travelled, origin=ORIGIN, log_key=PUBLIC) == leaf(index)


def test_the_only_entry_of_a_log_proves_itself():
    assert verify_proof(proof(0, 1), origin=ORIGIN, log_key=PUBLIC) == leaf(0)


@pytest.mark.parametrize(
    "change",
    [
        {"index": 4},
        {"index": -1},
        {"index": 11},
        {"leaf": LEAVES[4]},
        {"leaf": LEAVES[5] + b" "},
        {"path": ()},
        {"path": TREE.inclusion_path(5)[:-1]},
        {"path": (*TREE.inclusion_path(5), bytes(32))},
        {"path": (b"", *TREE.inclusion_path(5)[1:])},
        {"checkpoint": sign_checkpoint(state(10), ORIGIN, KEY)},
        {"checkpoint": sign_checkpoint(state(11), ORIGIN, generate_ed25519())},
        {"checkpoint": sign_checkpoint(state(11, origin="other.example"), "other.example", KEY)},
    ],
)
def test_a_proof_in_which_anything_was_changed_is_refused(change: dict[str, object]):
    changed = dataclasses.replace(proof(5), **change)
    with pytest.raises(LogInvalid):
        verify_proof(changed, origin=ORIGIN, log_key=PUBLIC)


def test_a_proof_from_another_log_is_refused():
    with pytest.raises(LogInvalid):
        verify_proof(proof(5), origin="other.example", log_key=PUBLIC)
    with pytest.raises(LogInvalid):
        verify_proof(proof(5), origin=ORIGIN, log_key=raw_public(generate_ed25519()))


@pytest.mark.parametrize("entry", [b"", b"{}", b"not a record", LEAVES[0] + b"x"])
def test_a_logged_entry_that_is_no_leaf_is_refused(entry: bytes):
    tree = Tree([leaf_hash(entry)])
    logged = LogProof(0, entry, (), sign_checkpoint(state(1, tree), ORIGIN, KEY))
    with pytest.raises(MalformedRecord):
        verify_proof(logged, origin=ORIGIN, log_key=PUBLIC)


def test_a_checkpoint_that_does_not_parse_is_refused():
    with pytest.raises(MalformedRecord):
        verify_proof(dataclasses.replace(proof(5), checkpoint="nothing"), origin=ORIGIN, log_key=PUBLIC)


@pytest.mark.parametrize("old", range(12))
def test_a_log_that_grew_extends_itself(old: int):
    verify_extension(state(old), state(11), TREE.consistency_path(old))


def test_a_forked_log_is_caught():
    forked = Tree([*(leaf_hash(entry) for entry in LEAVES[:4]), *(leaf_hash(b"other") for _ in range(7))])
    for path in (TREE.consistency_path(6), forked.consistency_path(6)):
        with pytest.raises(LogInvalid):
            verify_extension(state(6), state(11, forked), path)
    verify_extension(state(4), state(11, forked), forked.consistency_path(4))


def test_a_log_that_shrank_is_caught():
    with pytest.raises(LogInvalid):
        verify_extension(state(11), state(10), ())


def test_two_states_of_the_same_size_are_the_same_or_a_fork():
    verify_extension(state(7), state(7), ())
    with pytest.raises(LogInvalid):
        verify_extension(state(7), dataclasses.replace(state(7), root=bytes(32)), ())


def test_checkpoints_of_different_logs_are_not_compared():
    with pytest.raises(LogInvalid):
        verify_extension(state(6), state(11, origin="other.example"), TREE.consistency_path(6))
