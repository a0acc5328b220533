"""Tiles and the tree over them. Peers: pymerkle for roots; `crypto.merkle`, itself checked against peers, for paths."""

import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pymerkle import InmemoryTree

from strongroom.crypto import merkle
from strongroom.errors import LogInvalid, MalformedRecord, UsageError
from strongroom.receipts import tiles
from strongroom.receipts.tiles import Tile, Tree

ENTRIES = [number.to_bytes(4, "big") for number in range(70_000)]
LEAVES = [merkle.leaf_hash(entry) for entry in ENTRIES]


@pytest.fixture(scope="module")
def tree() -> Tree:
    return Tree(LEAVES)


@pytest.mark.parametrize(
    ("tile", "path"),
    [
        (Tile(0, 0), "tile/0/000"),
        (Tile(0, 0, 1), "tile/0/000.p/1"),
        (Tile(63, 999, 255), "tile/63/999.p/255"),
        (Tile(1, 1000), "tile/1/x001/000"),
        (Tile(0, 1234067), "tile/0/x001/x234/067"),
        (Tile(None, 1234067, 8), "tile/entries/x001/x234/067.p/8"),
    ],
)
def test_paths_are_those_of_the_specification(tile: Tile, path: str):
    assert tile.path == path
    assert tiles.parse_path(path) == tile


@given(level=st.none() | st.integers(0, 63), index=st.integers(0, 10**18), width=st.integers(1, 256))
@settings(max_examples=50, deadline=None)
def test_a_path_names_one_tile(level: int | None, index: int, width: int):
    tile = Tile(level, index, width)
    assert tiles.parse_path(tile.path) == tile


@pytest.mark.parametrize(
    "path",
    [
        "",
        "tile/0",
        "tile/0/0",
        "tile/0/0000",
        "tile/0/-01",
        "tile/00/000",
        "tile/64/000",
        "tile/-1/000",
        "tile/x/000",
        "tile/0/x000/001",
        "tile/0/001/000",
        "tile/0/x001",
        "tile/0/000.p/0",
        "tile/0/000.p/256",
        "tile/0/000.p/999",
        "tile/0/000.p/01",
        "tile/0/000.p/",
        "tile/0/000/",
        "/tile/0/000",
        "tile/0/000\n",
        "tile/0/٠٠٠",
        "tile/0/../000",
        "tile/data/000",
        "tile/entries/x1/000",
    ],
)
def test_every_other_path_is_refused(path: str):
    with pytest.raises(MalformedRecord):
        tiles.parse_path(path)


@pytest.mark.parametrize(("level", "index", "width"), [(-1, 0, 1), (64, 0, 1), (0, -1, 1), (0, 0, 0), (0, 0, 257)])
def test_there_are_no_other_tiles(level: int, index: int, width: int):
    with pytest.raises(UsageError):
        Tile(level, index, width)


def test_a_log_of_70000_has_the_tiles_of_the_specification():
    """tlog-tiles, section Partial Tiles: 273 full and one of 112, one full and one of 17, one of 1."""
    found = tiles.tiles_of(70_000)
    assert [tile for tile in found if tile.level == 0] == [*(Tile(0, n) for n in range(273)), Tile(0, 273, 112)]
    assert [tile for tile in found if tile.level != 0] == [Tile(1, 0), Tile(1, 1, 17), Tile(2, 0, 1)]
    assert len(tiles.bundles_of(70_000)) == 274
    assert tiles.bundles_of(70_000)[-1] == Tile(None, 273, 112)


def test_a_log_of_256_has_a_tile_above():
    assert tiles.tiles_of(256) == [Tile(0, 0), Tile(1, 0, 1)]
    assert tiles.tiles_of(0) == tiles.bundles_of(0) == []
    with pytest.raises(UsageError):
        tiles.tiles_of(-1)


def test_tiles_hold_the_roots_of_what_is_below(tree: Tree):
    assert tree.tile(Tile(0, 3)) == b"".join(LEAVES[768:1024])
    assert tree.tile(Tile(0, 273, 112)) == b"".join(LEAVES[-112:])
    level1 = tiles.parse_hashes(tree.tile(Tile(1, 1, 17)), Tile(1, 1, 17))
    assert level1[5] == merkle.root(LEAVES[(256 + 5) * 256 : (256 + 6) * 256])
    assert tree.tile(Tile(2, 0, 1)) == merkle.root(LEAVES[: 256 * 256])


def test_the_tiles_of_a_log_give_its_root(tree: Tree):
    """As a monitor does: only published tiles, hashed from the top one down the right edge."""
    size = 70_000
    published = {tile: tiles.parse_hashes(tree.tile(tile), tile) for tile in tiles.tiles_of(size)}
    edge = [published[Tile(2, 0, 1)], published[Tile(1, 1, 17)], published[Tile(0, 273, 112)]]
    level1 = merkle.root(edge[2])
    for part in (edge[1][16:], edge[1][:16], edge[0]):
        level1 = merkle.node_hash(merkle.root(part), level1)
    assert level1 == tree.root()


@pytest.mark.parametrize("tile", [Tile(0, 273, 113), Tile(0, 274, 1), Tile(1, 1, 18), Tile(2, 0, 2), Tile(63, 0, 1)])
def test_a_tile_that_the_log_does_not_have_yet_is_refused(tree: Tree, tile: Tile):
    with pytest.raises(LogInvalid):
        tree.tile(tile)


def test_a_tree_does_not_know_entries(tree: Tree):
    with pytest.raises(UsageError):
        tree.tile(Tile(None, 0))


@pytest.mark.parametrize("length", [0, 31, 64, 8192])
def test_a_tile_of_another_length_is_refused(length: int):
    with pytest.raises(MalformedRecord):
        tiles.parse_hashes(bytes(length), Tile(0, 0, 1))


@given(entries=st.lists(st.binary(max_size=40), min_size=1, max_size=256))
@settings(max_examples=30, deadline=None)
def test_a_bundle_travels(entries: list[bytes]):
    data = tiles.bundle(entries)
    assert tiles.parse_bundle(data, Tile(None, 0, len(entries))) == tuple(entries)
    assert data.startswith(len(entries[0]).to_bytes(2, "big") + entries[0])


@given(entries=st.lists(st.binary(max_size=5), min_size=1, max_size=5), data=st.data())
@settings(max_examples=30, deadline=None)
def test_a_bundle_that_is_cut_or_too_long_is_refused(entries: list[bytes], data: st.DataObject):
    good, tile = tiles.bundle(entries), Tile(None, 0, len(entries))
    for bad in (good[: data.draw(st.integers(0, len(good) - 1))], good + b"\0", good + b"\0\0"):
        with pytest.raises(MalformedRecord):
            tiles.parse_bundle(bad, tile)


def test_the_largest_bundle_is_read_and_nothing_larger():
    data = tiles.bundle([bytes(65_535)] * 256)
    assert len(tiles.parse_bundle(data, Tile(None, 0))) == 256
    with pytest.raises(MalformedRecord):
        tiles.parse_bundle(data + b"\0", Tile(None, 0))


@pytest.mark.parametrize("entries", [[], [b""] * 257, [bytes(65_536)]])
def test_a_bundle_that_cannot_be_is_not_made(entries: list[bytes]):
    with pytest.raises(UsageError):
        tiles.bundle(entries)


def test_entries_and_hash_tiles_belong_together(tree: Tree):
    for tile in (Tile(None, 5), Tile(None, 273, 112)):
        start = tile.index * 256
        found = tiles.parse_bundle(tiles.bundle(ENTRIES[start : start + tile.width]), tile)
        hashes = tiles.parse_hashes(tree.tile(Tile(0, tile.index, tile.width)), tile)
        assert tuple(merkle.leaf_hash(entry) for entry in found) == hashes


def test_an_empty_tree_has_the_empty_root():
    empty = Tree()
    assert len(empty) == 0
    assert empty.root() == hashlib.sha256().digest()
    assert empty.consistency_path(0) == ()
    with pytest.raises(LogInvalid):
        empty.inclusion_path(0)


@given(size=st.integers(1, 600), data=st.data())
@settings(max_examples=50, deadline=None)
def test_a_tree_answers_for_each_of_its_sizes_as_a_tree_of_that_size(size: int, data: st.DataObject):
    grown = Tree(LEAVES[:600])
    index, old = data.draw(st.integers(0, size - 1)), data.draw(st.integers(0, size))
    assert grown.root(size) == merkle.root(LEAVES[:size])
    assert grown.inclusion_path(index, size) == tuple(merkle.inclusion_path(LEAVES[:size], index))
    assert grown.consistency_path(old, size) == tuple(merkle.consistency_path(LEAVES[:size], old))


def test_roots_are_those_of_pymerkle():
    peer, ours = InmemoryTree("sha256"), Tree()
    for number, entry in enumerate(ENTRIES[:300]):
        peer.append_entry(entry)
        assert ours.append(merkle.leaf_hash(entry)) == number
        assert ours.root() == peer.get_root()


def test_proofs_of_a_large_tree_verify(tree: Tree):
    root = tree.root()
    for index in (0, 1, 255, 256, 65_535, 65_536, 69_999):
        merkle.verify_inclusion(LEAVES[index], index, 70_000, tree.inclusion_path(index), root)
    for old in (1, 256, 257, 65_536, 69_999, 70_000):
        merkle.verify_consistency(old, tree.root(old), 70_000, root, tree.consistency_path(old))


def test_a_proof_costs_few_hashes_and_not_the_whole_tree(tree: Tree, monkeypatch: pytest.MonkeyPatch):
    made = []
    monkeypatch.setattr(tiles, "node_hash", lambda left, right: made.append(1) or merkle.node_hash(left, right))
    tree.root(69_999)
    tree.inclusion_path(12_345, 69_999)
    tree.consistency_path(54_321, 69_999)
    assert 0 < len(made) < 17 * 17


@pytest.mark.parametrize("size", [-1, 70_001])
def test_a_size_that_never_was_is_refused(tree: Tree, size: int):
    for ask in (tree.root, lambda size: tree.inclusion_path(0, size), lambda size: tree.consistency_path(0, size)):
        with pytest.raises(LogInvalid):
            ask(size)


@pytest.mark.parametrize("length", [0, 31, 33])
def test_only_hashes_are_appended(length: int):
    tree = Tree(LEAVES[:3])
    with pytest.raises(UsageError):
        tree.append(bytes(length))
    assert len(tree) == 3
    assert tree.root() == merkle.root(LEAVES[:3])
