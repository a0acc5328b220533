"""The broker's log: every decision is a leaf, written in the transaction of the decision itself.

Knows: how a leaf becomes a proof. Does not know: what a leaf says (`leaves`), or how tiles are served (`services.log`).
The tree over the leaves is held in memory and built again from the store whenever the two differ, as after a
transaction that failed; what is shown to others never goes beyond the checkpoint that is durable. Not covered: who
witnesses it (`witnesses`), and more leaves than memory holds (64 bytes and some for each).
"""

from __future__ import annotations

from collections.abc import Sequence

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from strongroom.crypto import merkle
from strongroom.crypto.signatures import raw_public
from strongroom.errors import LogInvalid, StoreUnavailable, Unreadable, UsageError
from strongroom.receipts.note import Checkpoint, open_checkpoint, sign_checkpoint
from strongroom.receipts.tiles import MAX_ENTRY_BYTES, TILE_WIDTH, Tile, Tree, bundle
from strongroom.records import codec
from strongroom.records.release import Leaf, LogProof
from strongroom.release.stores.port import Reader, Store, Transaction


class Log:
    """The log named `origin`, signed with `key`. One transaction at a time appends; any number of threads read."""

    def __init__(self, origin: str, key: Ed25519PrivateKey) -> None:
        self._origin, self._key, self._public = origin, key, raw_public(key)
        self._tree = Tree()

    def open(self, store: Store) -> None:
        """Build the tree and check it against the newest checkpoint. Raises `StoreUnavailable` where they differ."""
        store.read(self._follow)

    def append(self, transaction: Transaction, leaf: Leaf) -> LogProof:
        """Add `leaf`; the proof holds once `transaction` is durable."""
        tree = self._follow(transaction)
        data = _entry(leaf)
        index = tree.append(merkle.leaf_hash(data))
        checkpoint = self._sign(index + 1, tree.root())
        transaction.log_extend([data], checkpoint)
        return LogProof(index, data, tree.inclusion_path(index), checkpoint)

    def append_all(self, transaction: Transaction, group: Sequence[Leaf]) -> None:
        """Add all of `group`, in order, under one checkpoint; for leaves whose proofs nobody waits for."""
        if not group:
            return
        tree = self._follow(transaction)
        entries = [_entry(leaf) for leaf in group]
        for data in entries:
            tree.append(merkle.leaf_hash(data))
        transaction.log_extend(entries, self._sign(len(tree), tree.root()))

    def checkpoint(self, store: Store) -> str:
        """The newest durable checkpoint, with the cosignatures that are kept for it; of an empty log, one that says so."""
        text, kept = store.read(lambda reader: (reader.log_checkpoint(), reader.log_cosigned()))
        text = text or self._sign(0, merkle.EMPTY_ROOT)
        return kept if kept is not None and kept.startswith(text) else text

    def newest(self, store: Store) -> tuple[str, int]:
        """The newest durable checkpoint as the log alone signed it, and its size."""
        text, size = store.read(lambda reader: (reader.log_checkpoint(), reader.log_size()))
        return text or self._sign(0, merkle.EMPTY_ROOT), size

    def inclusion_path(self, index: int, size: int) -> tuple[bytes, ...]:
        """The audit path of a leaf under the durable state of `size` leaves. Raises `LogInvalid`."""
        return self._tree.inclusion_path(index, size)

    def consistency_path(self, old: int, size: int) -> tuple[bytes, ...]:
        """The proof that the durable state of `size` leaves extends its first `old`. Raises `LogInvalid`."""
        return self._tree.consistency_path(old, size)

    def tile(self, store: Store, tile: Tile) -> bytes:
        """The contents of a hash tile or an entry bundle. Raises `LogInvalid` beyond the newest durable checkpoint."""
        size = store.read(lambda reader: reader.log_size())
        start = tile.index * TILE_WIDTH
        if (start + tile.width) << (8 * (tile.level or 0)) > size:
            raise LogInvalid(f"a log of {size} entries does not have this tile", detail=tile.path)
        if tile.level is None:
            return bundle(store.read(lambda reader: reader.log_leaves(start, start + tile.width)))
        return self._tree.tile(tile)

    def _follow(self, reader: Reader) -> Tree:
        """The tree over exactly the leaves that `reader` sees."""
        size = reader.log_size()
        if len(self._tree) != size:
            tree = Tree(merkle.leaf_hash(leaf) for leaf in reader.log_leaves(0, size))
            self._check(tree, reader.log_checkpoint())
            self._tree = tree
        return self._tree

    def _check(self, tree: Tree, text: str | None) -> None:
        if text is None and len(tree) == 0:
            return
        try:
            found = open_checkpoint(text or "", self._origin, self._public)
        except (LogInvalid, Unreadable):
            found = None
        if found != Checkpoint(self._origin, len(tree), tree.root()):
            raise StoreUnavailable("the log in the broker's database does not match its own checkpoint")

    def _sign(self, size: int, root: bytes) -> str:
        return sign_checkpoint(Checkpoint(self._origin, size, root), self._origin, self._key)


def _entry(leaf: Leaf) -> bytes:
    data = codec.encode(leaf)
    if len(data) > MAX_ENTRY_BYTES:
        raise UsageError(f"a leaf of {len(data)} bytes exceeds the limit of {MAX_ENTRY_BYTES}")
    return data
