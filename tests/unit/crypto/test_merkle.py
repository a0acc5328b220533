"""Merkle trees. Peers: pymerkle for roots and both kinds of proofs, sigstore for verifying inclusion."""

import base64
import hashlib
from collections.abc import Iterator, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pymerkle import InmemoryTree, MerkleProof
from sigstore._internal.merkle import verify_merkle_inclusion

from strongroom.crypto import merkle
from strongroom.errors import LogInvalid

SIZES = [*range(1, 20), 31, 32, 33, 63, 64, 65, 100, 127, 128, 129]
ENTRIES = [f"entry {number}".encode() for number in range(max(SIZES))]
LEAVES = [merkle.leaf_hash(entry) for entry in ENTRIES]


@pytest.fixture(scope="module")
def peer():
    tree = InmemoryTree("sha256")
    tree.append_entries(ENTRIES)
    return tree


def peer_path(proof: MerkleProof, without: Sequence[bytes] = ()) -> list[bytes]:
    return [bytes.fromhex(value) for value in proof.serialize()["path"] if bytes.fromhex(value) not in without]


def test_the_empty_tree_has_the_root_of_rfc_6962():
    assert merkle.root([]) == hashlib.sha256(b"").digest() == merkle.EMPTY_ROOT


def test_leaves_and_nodes_are_hashed_as_rfc_6962_says():
    one, two = merkle.leaf_hash(b"one"), merkle.leaf_hash(b"two")
    assert one == hashlib.sha256(b"\x00one").digest()
    assert merkle.root([one]) == one
    assert merkle.root([one, two]) == hashlib.sha256(b"\x01" + one + two).digest()


def test_three_leaves_put_the_lone_one_to_the_right():
    a, b, c = LEAVES[:3]
    assert merkle.root([a, b, c]) == merkle.node_hash(merkle.node_hash(a, b), c)
    assert merkle.inclusion_path([a, b, c], 0) == [b, c]
    assert merkle.inclusion_path([a, b, c], 2) == [merkle.node_hash(a, b)]


@pytest.mark.parametrize("size", SIZES)
def test_roots_are_those_of_pymerkle(peer: InmemoryTree, size: int):
    assert merkle.root(LEAVES[:size]) == peer.get_root(size)


@pytest.mark.parametrize("size", SIZES)
def test_inclusion_paths_are_those_of_pymerkle(peer: InmemoryTree, size: int):
    for index in {0, size // 3, size // 2, size - 1}:
        expected = set(peer_path(peer.prove_inclusion(index + 1, size), without=(LEAVES[index],)))
        path = merkle.inclusion_path(LEAVES[:size], index)
        assert set(path) == expected
        assert len(path) == len(expected)


@pytest.mark.parametrize("size", SIZES)
def test_sigstore_accepts_our_inclusion_paths(size: int):
    for index in {0, size // 3, size // 2, size - 1}:
        verify_merkle_inclusion(PeerEntry(ENTRIES[index], index, size))


class PeerEntry:
    """As much of a Rekor entry as the peer's verifier looks at."""

    def __init__(self, body: bytes, index: int, size: int) -> None:
        self._inner = self
        self.inclusion_proof = self
        self.canonicalized_body = body
        self.log_index, self.tree_size = index, size
        self.hashes = merkle.inclusion_path(LEAVES[:size], index)
        self.root_hash = merkle.root(LEAVES[:size])


@pytest.mark.parametrize("size", SIZES)
def test_every_inclusion_path_verifies(size: int):
    root = merkle.root(LEAVES[:size])
    for index in range(size):
        merkle.verify_inclusion(LEAVES[index], index, size, merkle.inclusion_path(LEAVES[:size], index), root)


@pytest.mark.parametrize("size", SIZES)
def test_every_consistency_path_verifies(size: int):
    root = merkle.root(LEAVES[:size])
    for old in range(size + 1):
        path = merkle.consistency_path(LEAVES[:size], old)
        merkle.verify_consistency(old, merkle.root(LEAVES[:old]), size, root, path)


@pytest.mark.parametrize(("old", "new"), [(1, 2), (3, 7), (6, 7), (5, 8), (32, 33), (63, 100)])
def test_consistency_paths_are_part_of_those_of_pymerkle(peer: InmemoryTree, old: int, new: int):
    """Its proofs hold more than RFC 6962 sends; after an old size that is a power of two their shape is another one."""
    ours = merkle.consistency_path(LEAVES[:new], old)
    assert set(ours) <= set(peer_path(peer.prove_consistency(old, new)))


@pytest.mark.parametrize("size", SIZES)
def test_paths_are_those_that_rfc_6962_defines_recursively(size: int):
    for old in range(1, size + 1):
        assert merkle.consistency_path(LEAVES[:size], old) == subproof(old, LEAVES[:size], whole=True)


def subproof(old: int, leaves: list[bytes], *, whole: bool) -> list[bytes]:
    """SUBPROOF(m, D[n], b) of section 2.1.2."""
    if old == len(leaves):
        return [] if whole else [merkle.root(leaves)]
    k = 1
    while 2 * k < len(leaves):
        k *= 2
    if old <= k:
        return [*subproof(old, leaves[:k], whole=whole), merkle.root(leaves[k:])]
    return [*subproof(old - k, leaves[k:], whole=False), merkle.root(leaves[:k])]


def test_the_consistency_proofs_of_rfc_6962_section_2_1_3():
    """The example's seven leaves: PROOF(3, 7) = [c, d, g, l], PROOF(4, 7) = [l], PROOF(6, 7) = [i, j, k]."""
    leaves = LEAVES[:7]
    a, b, c, d, e, f, j = leaves
    g, h, i = merkle.node_hash(a, b), merkle.node_hash(c, d), merkle.node_hash(e, f)
    k, l_ = merkle.node_hash(g, h), merkle.node_hash(i, j)
    assert merkle.consistency_path(leaves, 3) == [c, d, g, l_]
    assert merkle.consistency_path(leaves, 4) == [l_]
    assert merkle.consistency_path(leaves, 6) == [i, j, k]
    assert merkle.inclusion_path(leaves, 0) == [b, h, l_]
    assert merkle.inclusion_path(leaves, 6) == [i, k]


cases = st.integers(1, 100).flatmap(lambda size: st.tuples(st.just(size), st.integers(0, size - 1)))


@given(case=cases, other=st.integers(0, 120), other_size=st.integers(0, 120))
@settings(max_examples=50, deadline=None)
def test_a_path_proves_one_index_in_one_size_only(case: tuple[int, int], other: int, other_size: int):
    size, index = case
    root, path = merkle.root(LEAVES[:size]), merkle.inclusion_path(LEAVES[:size], index)
    if other != index:
        with pytest.raises(LogInvalid):
            merkle.verify_inclusion(LEAVES[index], other, size, path, root)
    if other_size <= index:
        with pytest.raises(LogInvalid):
            merkle.verify_inclusion(LEAVES[index], index, other_size, path, root)


@given(case=cases, data=st.data())
@settings(max_examples=50, deadline=None)
def test_a_changed_inclusion_proof_is_refused(case: tuple[int, int], data: st.DataObject):
    size, index = case
    root, path = merkle.root(LEAVES[:size]), merkle.inclusion_path(LEAVES[:size], index)
    for wrong in changes(path, data):
        with pytest.raises(LogInvalid):
            merkle.verify_inclusion(LEAVES[index], index, size, wrong, root)
    with pytest.raises(LogInvalid):
        merkle.verify_inclusion(merkle.leaf_hash(b"other"), index, size, path, root)
    with pytest.raises(LogInvalid):
        merkle.verify_inclusion(LEAVES[index], index, size, path, merkle.leaf_hash(b"other"))


@given(new=st.integers(2, 100), data=st.data())
@settings(max_examples=50, deadline=None)
def test_a_changed_consistency_proof_is_refused(new: int, data: st.DataObject):
    old = data.draw(st.integers(1, new - 1))
    roots = merkle.root(LEAVES[:old]), merkle.root(LEAVES[:new])
    path = merkle.consistency_path(LEAVES[:new], old)
    for wrong in changes(path, data):
        with pytest.raises(LogInvalid):
            merkle.verify_consistency(old, roots[0], new, roots[1], wrong)
    for left, right in ((merkle.leaf_hash(b"x"), roots[1]), (roots[0], merkle.leaf_hash(b"x")), roots[::-1]):
        with pytest.raises(LogInvalid):
            merkle.verify_consistency(old, left, new, right, path)


def changes(path: list[bytes], data: st.DataObject) -> Iterator[list[bytes]]:
    """The path, cut, lengthened, and with one bit flipped."""
    yield [*path, merkle.leaf_hash(b"extra")]
    if path:
        position = data.draw(st.integers(0, len(path) - 1))
        yield path[:position] + path[position + 1 :]
        flipped = bytearray(path[position])
        flipped[data.draw(st.integers(0, 31))] ^= 1
        yield [*path[:position], bytes(flipped), *path[position + 1 :]]


def test_a_log_that_was_rewritten_does_not_extend_itself():
    forked = [*LEAVES[:10], merkle.leaf_hash(b"another history"), *LEAVES[11:20]]
    path = merkle.consistency_path(forked, 15)
    with pytest.raises(LogInvalid):
        merkle.verify_consistency(15, merkle.root(LEAVES[:15]), 20, merkle.root(forked), path)


def test_a_log_that_shrank_is_refused():
    with pytest.raises(LogInvalid):
        merkle.verify_consistency(8, merkle.root(LEAVES[:8]), 7, merkle.root(LEAVES[:7]), [])


def test_equal_sizes_need_equal_roots_and_no_path():
    root = merkle.root(LEAVES[:5])
    merkle.verify_consistency(5, root, 5, root, [])
    for old_root, path in ((merkle.leaf_hash(b"x"), []), (root, [root])):
        with pytest.raises(LogInvalid):
            merkle.verify_consistency(5, old_root, 5, root, path)


def test_everything_extends_the_empty_log_and_only_that():
    root = merkle.root(LEAVES[:5])
    merkle.verify_consistency(0, merkle.EMPTY_ROOT, 5, root, [])
    merkle.verify_consistency(0, merkle.EMPTY_ROOT, 0, merkle.EMPTY_ROOT, [])
    for old_root, new, new_root, path in (
        (root, 5, root, []),
        (merkle.EMPTY_ROOT, 5, root, [root]),
        (root, 0, root, []),
        (merkle.EMPTY_ROOT, 0, root, []),
    ):
        with pytest.raises(LogInvalid):
            merkle.verify_consistency(0, old_root, new, new_root, path)


@pytest.mark.parametrize("length", [0, 31, 33])
def test_hashes_of_another_length_are_refused(length: int):
    root, path = merkle.root(LEAVES[:4]), merkle.inclusion_path(LEAVES[:4], 1)
    wrong = bytes(length)
    for leaf, used, top in ((wrong, path, root), (LEAVES[1], [wrong, path[1]], root), (LEAVES[1], path, wrong)):
        with pytest.raises(LogInvalid):
            merkle.verify_inclusion(leaf, 1, 4, used, top)
    with pytest.raises(LogInvalid):
        merkle.verify_consistency(2, wrong, 4, root, merkle.consistency_path(LEAVES[:4], 2))


@pytest.mark.parametrize(("index", "size"), [(-1, 4), (4, 4), (0, 0), (5, 4), (0, -1)])
def test_an_entry_that_the_log_lacks_has_no_path(index: int, size: int):
    with pytest.raises(LogInvalid):
        merkle.inclusion_ranges(index, size)
    with pytest.raises(LogInvalid):
        merkle.verify_inclusion(LEAVES[0], index, size, [], LEAVES[0])


@pytest.mark.parametrize(("old", "new"), [(-1, 4), (5, 4)])
def test_a_state_that_never_was_has_no_path(old: int, new: int):
    with pytest.raises(LogInvalid):
        merkle.consistency_ranges(old, new)


def test_a_path_of_another_length_is_refused_even_where_the_hashes_meet():
    """An inner node given as the leaf makes a shorter path meet the root; a root above the real one, a longer path."""
    inner, right = merkle.node_hash(LEAVES[0], LEAVES[1]), merkle.node_hash(LEAVES[2], LEAVES[3])
    root = merkle.node_hash(inner, right)
    with pytest.raises(LogInvalid):
        merkle.verify_inclusion(inner, 0, 4, [right], root)
    above = merkle.node_hash(LEAVES[9], root)
    with pytest.raises(LogInvalid):
        merkle.verify_inclusion(LEAVES[0], 0, 4, [*merkle.inclusion_path(LEAVES[:4], 0), LEAVES[9]], above)


def test_a_consistency_path_of_another_length_is_refused_even_where_the_hashes_meet():
    """Two roots that each lie one level below, or one above, what their sizes say."""
    with pytest.raises(LogInvalid):
        merkle.verify_consistency(1, LEAVES[0], 4, merkle.root(LEAVES[:2]), [LEAVES[1]])
    extra = LEAVES[9]
    old, new = (merkle.node_hash(extra, merkle.root(LEAVES[:size])) for size in (3, 4))
    with pytest.raises(LogInvalid):
        merkle.verify_consistency(3, old, 4, new, [*merkle.consistency_path(LEAVES[:4], 3), extra])


def test_a_node_does_not_pass_for_a_leaf():
    inner = merkle.node_hash(LEAVES[0], LEAVES[1])
    root = merkle.root(LEAVES[:4])
    with pytest.raises(LogInvalid):
        merkle.verify_inclusion(
            merkle.leaf_hash(LEAVES[0] + LEAVES[1]), 0, 2, [merkle.node_hash(LEAVES[2], LEAVES[3])], root
        )
    assert merkle.node_hash(inner, merkle.node_hash(LEAVES[2], LEAVES[3])) == root


def test_a_root_published_elsewhere_is_ours():
    """The root over the single byte-string `0x00` as Certificate Transparency's own tests list it, in base64."""
    expected = "lqKW0iTyhcZ77pPDD4owkVfw2qNdxbh+QQt4YwoJz8c="
    assert base64.b64encode(merkle.leaf_hash(b"\x00")).decode() == expected
