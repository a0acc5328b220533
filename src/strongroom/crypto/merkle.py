"""Merkle trees and their proofs (RFC 6962 section 2.1, verification by RFC 9162 sections 2.1.3.2 and 2.1.4.2), SHA-256.

Knows: hashes of leaves and nodes, and which ranges of leaves a proof is made of. Does not know: where leaves are kept
(`receipts.tiles`) or who signs a root (`receipts.note`).
Safety: leaves and nodes are hashed under different prefixes, so that no node passes for a leaf. Sizes are those of a
signed checkpoint; a proof longer or shorter than its sizes demand is refused. Not covered: sparse trees, other hashes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from strongroom.errors import LogInvalid

HASH_BYTES = 32
EMPTY_ROOT = hashlib.sha256(b"").digest()

Range = tuple[int, int]
"""Leaves `start` up to, not including, `end`; what stands for them is the root of the tree over just these leaves."""


def leaf_hash(data: bytes) -> bytes:
    """The hash of one entry: SHA-256(0x00 || data)."""
    return hashlib.sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """The hash of two subtrees: SHA-256(0x01 || left || right)."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def root(leaf_hashes: Sequence[bytes]) -> bytes:
    """The root over leaf hashes in order; that of no leaves is SHA-256 of nothing."""
    if not leaf_hashes:
        return EMPTY_ROOT
    level = list(leaf_hashes)
    while len(level) > 1:  # pairing upwards, an odd last one rising as it is, gives the tree of RFC 6962
        paired = [node_hash(level[i], level[i + 1]) for i in range(0, len(level) - 1, 2)]
        level = paired + level[len(paired) * 2 :]
    return level[0]


def inclusion_ranges(index: int, size: int) -> list[Range]:
    """The ranges whose roots are the audit path of leaf `index` among `size`, from the leaf up. Raises `LogInvalid`."""
    if not 0 <= index < size:
        raise LogInvalid(f"a log of {size} entries has no entry {index}")
    ranges: list[Range] = []
    start, end = 0, size
    while end - start > 1:
        middle = start + split(end - start)
        if index < middle:
            ranges.append((middle, end))
            end = middle
        else:
            ranges.append((start, middle))
            start = middle
    return ranges[::-1]


def consistency_ranges(old: int, new: int) -> list[Range]:
    """The ranges whose roots prove that a tree of `new` entries extends its first `old` ones. Raises `LogInvalid`."""
    if not 0 <= old <= new:
        raise LogInvalid(f"a log of {new} entries never had {old}")
    if old in {0, new}:
        return []
    ranges: list[Range] = []
    start, end = 0, new
    while old != end:
        middle = start + split(end - start)
        if old <= middle:
            ranges.append((middle, end))
            end = middle
        else:
            ranges.append((start, middle))
            start = middle
    if start > 0:  # where the old tree is itself a subtree of the new one, its root is known and not sent
        ranges.append((start, end))
    return ranges[::-1]


def inclusion_path(leaf_hashes: Sequence[bytes], index: int) -> list[bytes]:
    """The audit path of leaf `index` (RFC 6962 section 2.1.1). Raises `LogInvalid`."""
    return [root(leaf_hashes[start:end]) for start, end in inclusion_ranges(index, len(leaf_hashes))]


def consistency_path(leaf_hashes: Sequence[bytes], old_size: int) -> list[bytes]:
    """The proof that these leaves extend their first `old_size` (RFC 6962 section 2.1.2). Raises `LogInvalid`."""
    return [root(leaf_hashes[start:end]) for start, end in consistency_ranges(old_size, len(leaf_hashes))]


def verify_inclusion(leaf: bytes, index: int, size: int, path: Sequence[bytes], root: bytes) -> None:
    """Return if the entry with hash `leaf` is number `index` under `root` of `size` entries. Raises `LogInvalid`."""
    if not 0 <= index < size:
        raise LogInvalid(f"a log of {size} entries has no entry {index}")
    _check_hashes(leaf, root, *path)
    position, last, found = index, size - 1, leaf
    for sibling in path:
        if last == 0:
            raise LogInvalid("this inclusion proof is too long")
        if position & 1 or position == last:
            found = node_hash(sibling, found)
            while not position & 1 and position:
                position, last = position >> 1, last >> 1
        else:
            found = node_hash(found, sibling)
        position, last = position >> 1, last >> 1
    if last != 0 or found != root:
        raise LogInvalid("this entry is not in the log under this root")


def verify_consistency(old_size: int, old_root: bytes, new_size: int, new_root: bytes, path: Sequence[bytes]) -> None:
    """Return if the log under `new_root` only added to what it was under `old_root`. Raises `LogInvalid`."""
    if not 0 <= old_size <= new_size:
        raise LogInvalid(f"the log shrank from {old_size} entries to {new_size}")
    _check_hashes(old_root, new_root, *path)
    if old_size in {0, new_size}:
        expected = EMPTY_ROOT if old_size == 0 else new_root
        if path or old_root != expected or (new_size == 0 and new_root != EMPTY_ROOT):
            raise LogInvalid("these two states of the log do not belong together")
        return
    position, last = old_size - 1, new_size - 1
    while position & 1:
        position, last = position >> 1, last >> 1
    rest = iter(path)
    old = new = old_root if position == 0 else next(rest, b"")  # an old tree of 2^n entries is the proof's first node
    for sibling in rest:
        if last == 0:
            raise LogInvalid("this consistency proof is too long")
        if position & 1 or position == last:
            old, new = node_hash(sibling, old), node_hash(sibling, new)
            while not position & 1 and position:
                position, last = position >> 1, last >> 1
        else:
            new = node_hash(new, sibling)
        position, last = position >> 1, last >> 1
    if last != 0 or old != old_root or new != new_root:
        raise LogInvalid("the log does not extend what it was before")


def split(size: int) -> int:
    """The largest power of two below `size`, which is at least 2: where a tree divides."""
    return 1 << (size - 1).bit_length() - 1


def _check_hashes(*hashes: bytes) -> None:
    if any(len(value) != HASH_BYTES for value in hashes):
        raise LogInvalid(f"a hash in this proof does not have {HASH_BYTES} bytes")
