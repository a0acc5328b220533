"""What must hold of a broker's database at any moment: its log verifies, and its tables say what the log says, whole."""

from collections import Counter
from dataclasses import dataclass, field

from strongroom.crypto import merkle
from strongroom.receipts.hidden import reveal
from strongroom.receipts.note import open_checkpoint
from strongroom.receipts.proof import verify_extension, verify_proof
from strongroom.receipts.tiles import Tree
from strongroom.records import codec
from strongroom.records.cell import CellKind
from strongroom.records.release import Leaf, LeaseState
from strongroom.release import leaves

DECISIONS = frozenset({leaves.RELEASE, leaves.RENEWAL})


@dataclass
class Looked:
    """What was seen of one broker's log, from look to look; it only grows."""

    identity: object
    entries: list = field(default_factory=list)
    leaves: list = field(default_factory=list)
    tree: Tree = field(default_factory=Tree)
    used: dict = field(default_factory=dict)

    def look(self, store):
        """Everything, in one state of `store`."""
        store.read(self._look)

    def holds(self, proof):
        """A proof that a client got is of this log, and this log extends the checkpoint that the client saw."""
        known = self.identity
        leaf = verify_proof(proof, origin=known.log_origin, log_key=known.log)
        assert proof.index < len(self.entries), "an acknowledged leaf is gone"
        assert self.entries[proof.index] == proof.leaf
        self.extends(open_checkpoint(proof.checkpoint, known.log_origin, known.log))
        return leaf

    def extends(self, checkpoint):
        """The log goes on from a checkpoint that somebody saw."""
        verify_extension(checkpoint, self.newest, self.tree.consistency_path(checkpoint.size))

    def _look(self, reader):
        size = reader.log_size()
        entries = list(reader.log_leaves(0, size))
        assert len(entries) == size
        assert entries[: len(self.entries)] == self.entries, "the log changed what it said before"
        for index, entry in enumerate(entries[len(self.entries) :], start=len(self.entries)):
            self.tree.append(merkle.leaf_hash(entry))
            leaf, closed = reveal(codec.decode(Leaf, entry), reader.openings(index))
            assert closed == 0, "what opens a leaf was not written with it"
            self.leaves.append(leaf)
        self.entries = entries
        if size == 0:
            assert reader.log_checkpoint() is None
            return
        self.newest = open_checkpoint(reader.log_checkpoint(), self.identity.log_origin, self.identity.log)
        assert (self.newest.size, self.newest.root) == (size, self.tree.root())
        self._leases(reader)
        self._owned(reader)
        self._cells(reader)

    def _leases(self, reader):
        """Leases and the log's decisions are one to one, and what was kept of a decision is there."""
        found = {stored.lease.id: stored.lease for stored in reader.leases()}
        begun = Counter(leaf.subject for leaf in self.leaves if leaf.event == leaves.RELEASE)
        renewed = Counter(leaf.subject for leaf in self.leaves if leaf.event == leaves.RENEWAL)
        ended = [leaf.subject for leaf in self.leaves if leaf.event == leaves.REVOCATION]
        revoked = {subject for subject in ended if ":" not in subject}  # else it is a standing one, of what it names
        assert set(begun.values()) <= {1}
        assert set(found) == set(begun)
        assert {lease.id: lease.renewals for lease in found.values() if lease.renewals} == dict(renewed)
        assert {lease.id for lease in found.values() if lease.state is LeaseState.REVOKED} == revoked
        kept = [reader.decision(at) is not None for at, leaf in enumerate(self.leaves) if leaf.event in DECISIONS]
        assert all(kept)

    def _owned(self, reader):
        """Keys and policies have their leaves, and no limited key was used more often than it may be."""
        keys = Counter(key.id for key in reader.keys())  # noqa: SIM118 (not a dict)
        made = Counter(
            leaf.subject
            for leaf in self.leaves
            if leaf.event == leaves.KEY and leaf.detail.split(" ")[0] in {"created", "rotated"}
        )
        assert keys == made
        versions = {}
        for leaf in self.leaves:
            if leaf.event == leaves.POLICY:
                version = int(leaf.detail.removeprefix("version="))
                assert version > versions.get(leaf.subject, 0), "a policy went back"
                versions[leaf.subject] = version
        assert {policy.id: policy.version for policy in reader.policies()} == versions
        for key in keys:
            uses = reader.key_uses(key)
            if uses is not None:
                assert self.used.get(key, 0) <= uses.used <= uses.limit
                self.used[key] = uses.used

    def _cells(self, reader):
        """Each cell stands where the log's changes left it; counters only grew, and budgets only fell."""
        changes = {cell.id: [] for cell in reader.cells()}
        for leaf in self.leaves:
            if leaf.event == leaves.CELL and "value=" in leaf.detail:
                changes[leaf.subject].append(int(leaf.detail.partition("value=")[2].split(" ")[0]))
        for cell in reader.cells():
            values = [cell.limit or 0, *changes[cell.id]]
            assert values == sorted(values, reverse=cell.kind is CellKind.BUDGET)
            assert len(set(values)) == len(values)
            assert (cell.value, cell.changes) == (values[-1], len(values) - 1)
