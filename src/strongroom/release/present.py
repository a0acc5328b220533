"""What a broker judges by at present: its anchors, what others signed for it, and collateral of its own.

Knows: how these are swapped while it serves, and how they judge evidence, new and kept. Does not know: files (`source` reads
them), leases, or what follows from a verdict (`decisions`, `sweep`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from strongroom.appraisal.appraise import appraise
from strongroom.appraisal.newest import newest
from strongroom.appraisal.pile import Pile
from strongroom.appraisal.signed import NOTHING, Known
from strongroom.records.digest import Digest
from strongroom.records.evidence import Collateral, EvidenceBundle
from strongroom.records.policy import Policy
from strongroom.records.reference import CustodyList
from strongroom.records.verdict import Check, Verdict
from strongroom.tee.anchors import TrustAnchor

CUSTODY, COLLATERAL, POLICY = "custody", "tcb", "policy"
CUSTODY_CHECKS = "policy.custody."


@dataclass(frozen=True, slots=True)
class Given:
    """What is given to a broker besides anchors: signed by others (`known`), and collateral of its own."""

    known: Known = NOTHING
    collateral: Pile = field(default_factory=Pile)


@dataclass(frozen=True, slots=True)
class Failure:
    """Why kept evidence is accepted no more: what changed (`custody`, `tcb`, `policy`), and the checks that failed."""

    what: str
    failed: tuple[str, ...]


class Again(Protocol):
    """Judges kept evidence anew; None where it still is accepted. Raises `MalformedEvidence`."""

    def __call__(
        self, bundle: EvidenceBundle, policy: Policy, *, purpose: str, decided: int, now: int
    ) -> Failure | None: ...


class Present:
    """An appraiser whose lists and collateral may be read anew. May be shared by threads: each verdict is of one state."""

    def __init__(self, anchors: Sequence[TrustAnchor], given: Given, source: Callable[[], Given] | None = None) -> None:
        self._anchors, self._given, self._source = tuple(anchors), given, source

    def refresh(self) -> None:
        """Read all that is given anew. Raises what `source` raises, and then everything stays as it was."""
        if self._source is not None:
            self._given = self._source()

    def newest(self, bundle: EvidenceBundle, *, now: int) -> EvidenceBundle:
        """The same evidence, with collateral that is no older than the broker's own."""
        return _newest(bundle, self._given, now)

    def newest_of(self, collateral: Collateral, *, now: int) -> Collateral:
        """`collateral` with every document replaced that the broker has a newer one of."""
        return newest(collateral, self._given.collateral, now=now)

    def __call__(self, bundle: EvidenceBundle, *, policy: Policy, nonce: bytes, purpose: str, now: int) -> Verdict:
        """A verdict on new evidence, as it came."""
        known = self._given.known
        return appraise(
            bundle, policy=policy, anchors=self._anchors, nonce=nonce, purpose=purpose, now=now, known=known
        )

    def again(self, bundle: EvidenceBundle, policy: Policy, *, purpose: str, decided: int, now: int) -> Failure | None:
        """Whether evidence that was accepted at `decided` would be now, but for its nonce, which was fresh then.

        Collateral that merely ran out since is no event: the next renewal has to bring newer. So evidence stays accepted
        that all present lists and documents admit, be it as of now or as of the decision.
        """
        given = self._given
        up_to_date = _newest(bundle, given, now)

        def judged(found: EvidenceBundle, at: int) -> Verdict:
            known = dataclasses.replace(given.known, custody=_as_of(given.known, now, at))
            return appraise(
                found,
                policy=policy,
                anchors=self._anchors,
                nonce=found.evidence.nonce,
                purpose=purpose,
                now=at,
                known=known,
            )

        verdict = judged(up_to_date, now)
        if verdict.accepted or judged(up_to_date, decided).accepted:
            return None
        failed = tuple(check.id for check in verdict.failed)
        if any(_of_custody(check) for check in verdict.failed):
            return Failure(CUSTODY, failed)
        cause = COLLATERAL if up_to_date != bundle and judged(bundle, decided).accepted else POLICY
        return Failure(cause, failed)


def _newest(bundle: EvidenceBundle, given: Given, now: int) -> EvidenceBundle:
    if given.collateral == Pile(now=given.collateral.now):
        return bundle
    return dataclasses.replace(bundle, collateral=newest(bundle.collateral, given.collateral, now=now))


def _of_custody(check: Check) -> bool:
    return check.id.startswith(CUSTODY_CHECKS)


def _as_of(known: Known, now: int, at: int) -> tuple[tuple[Digest, CustodyList], ...]:
    """The custody lists as they speak at `now`, for a judgement that is made as of `at`."""
    return tuple((signer, _moved(found, now, at)) for signer, found in known.custody)


def _moved(found: CustodyList, now: int, at: int) -> CustodyList:
    if found.issued <= now < found.not_after:
        return dataclasses.replace(found, issued=min(found.issued, at), not_after=max(found.not_after, at + 1))
    return dataclasses.replace(found, issued=at - 2, not_after=at - 1)  # it still denies, and allows nothing
