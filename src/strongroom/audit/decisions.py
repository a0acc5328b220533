"""The broker's leaves as an auditor reads them, by the table in `docs/reference/release.md`, and what belongs to each.

Knows: which digests a leaf holds in which order, and where they must recur in what was kept. Does not know: whether a
leaf is in the log, or a token signed (`verify`). This is a second reading, apart from the broker's own, on purpose.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from strongroom.errors import MalformedRecord
from strongroom.receipts.chain import token_digest
from strongroom.records.audit import KeptDecision
from strongroom.records.digest import Digest, digest_record
from strongroom.records.release import PURPOSE_RELEASE, GrantSummary, Leaf, renewal_purpose

RELEASE, RENEWAL, REVOCATION, POLICY, KEY, RECEIPTS = "release", "renewal", "revocation", "policy", "key", "receipts"
DECIDED = frozenset({RELEASE, RENEWAL})
KEYSET, STATEMENT, EVIDENCE, TOKEN, CHAIN, POLICIES = range(6)
"""Where each digest stands in the leaf of a decision; policies and then grants follow."""

_DETAIL = re.compile(r"level=([a-z]+) lease_seconds=([1-9][0-9]{0,9})(?: uses=[0-9/,b-]{1,1024})?")


@dataclass(frozen=True, slots=True)
class Decision:
    """A release or a renewal: the leaf number `index` of the log, and what was kept of it."""

    index: int
    leaf: Leaf
    kept: KeptDecision

    @property
    def policies(self) -> tuple[Digest, ...]:
        """The policies that admitted it; the first is the token's."""
        return self.leaf.digests[POLICIES : len(self.leaf.digests) - len(self.kept.grants)]

    @property
    def purpose(self) -> str:
        """What the evidence had to be made for."""
        return PURPOSE_RELEASE if self.leaf.event == RELEASE else renewal_purpose(self.leaf.subject)

    @property
    def level(self) -> str:
        return granted(self.leaf)[0]

    @property
    def expires(self) -> int:
        """When the lease ends, by this decision (Unix seconds)."""
        return self.leaf.time + granted(self.leaf)[1]

    def differing(self) -> list[str]:
        """Which members of what was kept are not those that the leaf names; none, if it is the decision of this leaf.

        Raises `MalformedRecord` for a leaf that is not one of a decision.
        """
        granted(self.leaf)
        evidence, digests = self.kept.evidence, self.leaf.digests
        if len(digests) < POLICIES:
            return ["digests"]
        pairs = {
            "keyset": (digests[KEYSET], evidence.keyset.digest),
            "statement": (digests[STATEMENT], evidence.statement.digest),
            "evidence": (digests[EVIDENCE], evidence.digest),
            "token": (digests[TOKEN], token_digest(self.kept.token) if self.kept.token.isascii() else ""),
            "grants": (self._tail(), tuple(digest_record(grant) for grant in self.kept.grants)),
            "policies": (bool(self.policies), True),
            "keys": (bool(self.kept.grants) or self.leaf.event == RENEWAL, True),  # a lease may come to further keys
        }
        found = [name for name, (one, other) in pairs.items() if one != other]
        return found + [f"grant of {grant.context.key_id}" for grant in self.kept.grants if not self._is_ours(grant)]

    def _tail(self) -> tuple[Digest, ...]:
        return self.leaf.digests[len(self.leaf.digests) - len(self.kept.grants) :]

    def _is_ours(self, grant: GrantSummary) -> bool:
        """Whether the key was bound to this worker, this decision and this lease, for an artifact that was measured."""
        context, digests = grant.context, self.leaf.digests
        bound = (context.keyset, context.statement, context.evidence) == digests[:TOKEN]
        times = (context.lease_seconds, context.expires) == (self.expires - self.leaf.time, self.expires)
        named = context.lease_id == self.leaf.subject and context.nonce == self.kept.evidence.nonce
        named = named and context.artifact in self.kept.evidence.artifacts
        return bound and times and named and context.policy in self.policies


def granted(leaf: Leaf) -> tuple[str, int]:
    """Level and seconds of the lease of a release or a renewal; users read it here too. Raises `MalformedRecord`."""
    found = _DETAIL.fullmatch(leaf.detail)
    if found is None:
        raise MalformedRecord("the leaf of a decision does not say for how long")
    return found[1], int(found[2])
