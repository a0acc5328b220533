"""What policies demand of witnesses, and whether this broker can give it (release protocol, witnesses).

Knows: the quorum in a policy, and which policies an answer rests on. Does not know: rounds and signatures (`witnesses`), or how a
policy is signed (`decisions` judges that before anything is decided). An answer that was kept is held to the same policies as on the
day it was decided: they are named in its leaf, or in its grant.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from strongroom.errors import ReleaseRefused, StoreUnavailable
from strongroom.receipts.cosignature import Quorum, Witness
from strongroom.records import codec
from strongroom.records.cell import CellAnswer
from strongroom.records.destruction import DestructionDocument
from strongroom.records.digest import Digest
from strongroom.records.enrolment import Enrolled
from strongroom.records.envelope import Envelope
from strongroom.records.policy import Policy
from strongroom.records.release import Grant, ReleaseAnswer
from strongroom.release.leaves import CHAIN
from strongroom.release.stores.port import Store, StoredPolicy
from strongroom.release.witnesses import Witnesses

MAX_REMEMBERED = 1024


def quorum_of(policy: Policy) -> Quorum | None:
    """Whose signatures `policy` demands, None where it admits any. Raises `MalformedRecord` or `UsageError` for keys that are none."""
    if policy.witnesses.keys.any is not None:
        return None
    return Quorum(policy.witnesses.least, tuple(Witness.parse(key) for key in policy.witnesses.keys.one_of))


@dataclass(frozen=True, slots=True)
class _Known:
    """What one policy demands; None is an answer, too."""

    quorum: Quorum | None


class Demands:
    """The demands of the policies in `store`. May be shared by threads; `witnesses` are None until there are some."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._known: dict[Digest, _Known] = {}
        self.witnesses: Witnesses | None = None

    def check(self, policies: Sequence[StoredPolicy]) -> None:
        """Return if what is decided under `policies` could be answered.

        Raises `ReleaseRefused` as `check_possible` does, and `WitnessesUnavailable` where it cannot now.
        """
        quorums = self.check_possible(policies)
        if quorums and self.witnesses is not None:
            self.witnesses.check_ready(quorums)

    def check_possible(self, policies: Sequence[StoredPolicy]) -> list[Quorum]:
        """What `policies` demand, if this broker's witnesses can be so many of these. Raises `ReleaseRefused`."""
        quorums = [quorum for policy in policies if (quorum := self._quorum(policy.digest, policy)) is not None]
        if quorums and (self.witnesses is None or not all(map(self.witnesses.can_meet, quorums))):
            raise ReleaseRefused(
                "the policy demands signatures of witnesses that do not watch this broker's log",
                detail="policy.witnesses",
                remedy="Start the broker with these witnesses (--witness), or put a policy that names the broker's.",
            )
        return quorums

    def check_ready(self) -> None:
        """Return if the broker's own witnesses, if it has some, can sign. Raises `WitnessesUnavailable`."""
        if self.witnesses is not None:
            self.witnesses.check_ready()

    def of(self, answer: ReleaseAnswer | CellAnswer | DestructionDocument | Enrolled) -> list[Quorum]:
        """Who must have signed the log before `answer` leaves, beside what the broker demands of itself."""
        quorums = [self._quorum(digest) for digest in dict.fromkeys(_policies(answer))]
        return [quorum for quorum in quorums if quorum is not None]

    def _quorum(self, digest: Digest, stored: StoredPolicy | None = None) -> Quorum | None:
        known = self._known.get(digest)
        if known is not None:
            return known.quorum
        if stored is None:
            found = self._store.read(lambda reader: reader.policies_of([digest]))
            if not found:
                raise StoreUnavailable("a policy that a decision rests on is no longer in the broker's database")
            stored = found[0]
        policy = codec.decode(Policy, Envelope.from_bytes(stored.envelope).payload)
        if policy.digest != digest:
            raise ReleaseRefused("a stored policy is not the one that its owner signed", detail="policy.stored")
        if len(self._known) >= MAX_REMEMBERED:
            self._known = {}
        made = self._known[digest] = _Known(quorum_of(policy))
        return made.quorum


def _policies(answer: ReleaseAnswer | CellAnswer | DestructionDocument | Enrolled) -> Sequence[Digest]:
    if isinstance(answer, DestructionDocument | Enrolled):
        return []
    if isinstance(answer, CellAnswer):
        return [codec.decode(Grant, answer.grant.payload).context.policy] if answer.grant is not None else []
    digests: list[Digest] = codec.parse_json(answer.proof.leaf)[
        "digests"
    ]  # of our own leaf: nothing in it is to be judged
    return digests[CHAIN + 1 : len(digests) - len(answer.grants)]
