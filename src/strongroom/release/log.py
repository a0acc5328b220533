"""The broker's log: every decision is a leaf, written in the transaction of the decision itself.

Knows: how a leaf becomes a proof. Does not know: what a leaf says (`leaves`), or how tiles are served (`services.log`).
The tree over the leaves is held in memory and built again from the store whenever the two differ, as after a
transaction that failed; what is shown to others never goes beyond the checkpoint that is durable. A leaf's time is never
below that of the leaf before it: one that comes late is written down at the later time. Not covered: who
witnesses it (`witnesses`), and more leaves than memory holds (64 bytes and some for each).
"""

from __future__ import annotations

import dataclasses
import secrets
from collections.abc import Sequence

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from strongroom.crypto import merkle
from strongroom.crypto.signatures import raw_public
from strongroom.errors import LogInvalid, StoreUnavailable, Unreadable, UsageError
from strongroom.receipts.hidden import SALT_BYTES, hide
from strongroom.receipts.note import Checkpoint, open_checkpoint, sign_checkpoint
from strongroom.receipts.tiles import MAX_ENTRY_BYTES, TILE_WIDTH, Tile, Tree, bundle
from strongroom.records import codec
from strongroom.records.audit import Cosigned
from strongroom.records.release import Leaf, LogProof, Opening
from strongroom.release.stores.port import Reader, Store, Transaction


class Log:
    """The log named `origin`, signed with `key`. One transaction at a time appends; any number of threads read."""

    def __init__(self, origin: str, key: Ed25519PrivateKey) -> None:
        self._origin, self._key, self._public = origin, key, raw_public(key)
        self._tree = Tree()
        self._time = 0

    def open(self, store: Store) -> None:
        """Build the tree and check it against the newest checkpoint. Raises `StoreUnavailable` where they differ."""
        store.read(self._follow)

    def append(self, transaction: Transaction, leaf: Leaf) -> LogProof:
        """Add `leaf`; the proof holds once `transaction` is durable."""
        tree = self._follow(transaction)
        data, openings = self._entry(leaf)
        index = tree.append(merkle.leaf_hash(data))
        checkpoint = self._sign(index + 1, tree.root())
        transaction.log_extend([data], checkpoint)
        transaction.keep_openings([(index, opening) for opening in openings])
        return LogProof(index, data, tree.inclusion_path(index), checkpoint)

    def append_all(self, transaction: Transaction, group: Sequence[Leaf]) -> None:
        """Add all of `group`, in order, under one checkpoint; for leaves whose proofs nobody waits for."""
        if not group:
            return
        tree = self._follow(transaction)
        entries = [self._entry(leaf) for leaf in group]
        kept: list[tuple[int, Opening]] = []
        for data, openings in entries:
            index = tree.append(merkle.leaf_hash(data))
            kept += [(index, opening) for opening in openings]
        transaction.log_extend([data for data, _ in entries], self._sign(len(tree), tree.root()))
        transaction.keep_openings(kept)

    @property
    def time(self) -> int:
        """The time of the newest leaf (Unix seconds), 0 of an empty log; it may be of a leaf that is not durable yet."""
        return self._time

    def time_in(self, reader: Reader) -> int:
        """The same, of the newest leaf that `reader` sees."""
        self._follow(reader)
        return self._time

    def checkpoint(self, store: Store) -> str:
        """The newest durable checkpoint, with the cosignatures that are kept for it; of an empty log, one that says so."""
        text, kept = store.read(lambda reader: (reader.log_checkpoint(), reader.log_cosigned()))
        text = text or self._sign(0, merkle.EMPTY_ROOT)
        return kept if kept is not None and kept.startswith(text) else text

    def newest(self, store: Store) -> tuple[str, int]:
        """The newest durable checkpoint as the log alone signed it, and its size."""
        text, size = store.read(lambda reader: (reader.log_checkpoint(), reader.log_size()))
        return text or self._sign(0, merkle.EMPTY_ROOT), size

    def cosigned(self, text: str | None, size: int) -> Cosigned | None:
        """The cosigned checkpoint `text`, with the proof that it leads to the state of `size` leaves; None where it does not."""
        try:
            state = open_checkpoint(text or "", self._origin, self._public)
        except (LogInvalid, Unreadable):
            return None
        if text is None or not 0 < state.size <= size:
            return None
        return Cosigned(text, self._tree.consistency_path(state.size, size))

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
            entries = reader.log_leaves(0, size)
            tree = Tree(merkle.leaf_hash(leaf) for leaf in entries)
            self._check(tree, reader.log_checkpoint())
            self._tree = tree
            self._time = codec.decode(Leaf, entries[-1]).time if entries else 0
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

    def _entry(self, leaf: Leaf) -> tuple[bytes, tuple[Opening, ...]]:
        """The bytes of the next leaf, at no time before the last one's, and what opens it."""
        later = leaf if leaf.time >= self._time else dataclasses.replace(leaf, time=self._time)
        hidden, openings = hide(later, lambda: secrets.token_bytes(SALT_BYTES))
        data = codec.encode(hidden)
        if len(data) > MAX_ENTRY_BYTES:
            raise UsageError(f"a leaf of {len(data)} bytes exceeds the limit of {MAX_ENTRY_BYTES}")
        self._time = later.time
        return data, openings
