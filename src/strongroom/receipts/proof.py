"""Proofs about a log: that it holds an entry, and that it only ever grew.

Knows: how a proof, a checkpoint and an entry belong together (RFC 6962, C2SP tlog-checkpoint). Does not know: whether
a log is the right one; its origin and key are arguments, and come from a pinned identity. What an entry means is
judged above.
A log that shows different people different states is caught where they name witnesses (`cosignature`), or compare
checkpoints.
"""

from __future__ import annotations

from collections.abc import Sequence

from strongroom.crypto import merkle
from strongroom.errors import LogInvalid
from strongroom.receipts.cosignature import Quorum
from strongroom.receipts.note import Checkpoint, open_checkpoint
from strongroom.records import codec
from strongroom.records.release import Leaf, LogProof


def verify_proof(proof: LogProof, *, origin: str, log_key: bytes, witnesses: Quorum | None = None) -> Leaf:
    """The entry that `proof` shows to be in the log `origin`, whose Ed25519 key is `log_key` (32 bytes).

    Where `witnesses` are named, enough of them must have signed the checkpoint. Raises `LogInvalid` where the proof does
    not hold, `MalformedRecord` where checkpoint or entry do not parse.
    """
    checkpoint = open_checkpoint(proof.checkpoint, origin, log_key)
    if witnesses is not None:
        witnesses.check(proof.checkpoint)
    merkle.verify_inclusion(
        merkle.leaf_hash(proof.leaf), proof.index, checkpoint.size, proof.path, root=checkpoint.root
    )
    return codec.decode(Leaf, proof.leaf)


def verify_extension(old: Checkpoint, new: Checkpoint, path: Sequence[bytes]) -> None:
    """Return if `new` holds all that `old` held, in its place, by the consistency proof `path`. Raises `LogInvalid`."""
    if old.origin != new.origin:
        raise LogInvalid("these checkpoints are of different logs")
    merkle.verify_consistency(old.size, old.root, new.size, new.root, path)
