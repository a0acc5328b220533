"""What every kind of evidence must do, for whoever writes a further one: rules that run on its samples.

A subject is one kind with a good sample, and for each of its checks a broken one. `findings` lists what does not hold;
nothing to say means that the kind conforms.

Knows: the rules. Does not know: any kind. Not covered: whether the checks are the right ones; that is what the vendor's
specification says, and what people read.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from strongroom.appraisal.kinds import Kind
from strongroom.errors import MalformedEvidence, MalformedRecord
from strongroom.records.evidence import Collateral
from strongroom.records.verdict import RootClass, Status
from strongroom.tee.anchors import TrustAnchor
from strongroom.tee.genuine import Genuine

YEARS = 200 * 366 * 86_400
MUTATIONS = 300


@dataclass(frozen=True, slots=True)
class Sample:
    """One piece of evidence with what it is judged by."""

    quote: bytes
    collateral: Collateral
    now: int
    log: bytes = b""


@dataclass(frozen=True, slots=True)
class Subject:
    """A kind, the anchors of its simulated hardware, a sample that is good, and one that fails for each check.

    `optional` are checks that have their broken evidence elsewhere, because another kind makes them. `timeless` evidence
    says nothing of time; and some kinds need no collateral.
    """

    kind: Kind
    anchors: Sequence[TrustAnchor]
    good: Sample
    broken: Mapping[str, Sample]
    optional: frozenset[str] = frozenset()
    timeless: bool = False
    needs_collateral: bool = True

    def judge(self, sample: Sample, *, anchors: Sequence[TrustAnchor] | None = None, now: int | None = None) -> Genuine:
        """The verification of a sample."""
        return self.kind.judge(
            sample.quote,
            sample.log,
            collateral=sample.collateral,
            anchors=self.anchors if anchors is None else anchors,
            now=sample.now if now is None else now,
        )


def findings(subject: Subject, *, mutations: int = MUTATIONS, seed: int = 0) -> list[str]:
    """What does not hold, in words; empty for a kind that conforms. `mutations` of the good sample are tried."""
    return [
        f"{rule.__name__}: {finding}"
        for rule in RULES
        for finding in (rule(subject) if rule is not mutations_are_refused else rule(subject, mutations, seed))
    ]


def good_evidence_passes(subject: Subject) -> Iterator[str]:
    """The good sample holds, has the class of its anchor, names what it binds and what reference values pin."""
    genuine = subject.judge(subject.good)
    yield from (
        f"{check.id} is {check.status}: {check.detail}" for check in genuine.checks if check.status is not Status.PASS
    )
    if genuine.root_class is not RootClass.INSTALLATION:
        yield f"the root class is {genuine.root_class}"
    missing = {"report_data", *subject.kind.registers} - genuine.claims.keys()
    if missing:
        yield f"there is no claim {', '.join(sorted(missing))}"
    if len({check.id for check in genuine.checks}) != len(genuine.checks):
        yield "an id is used twice"


def each_check_can_fail_alone(subject: Subject) -> Iterator[str]:
    """For each check there is evidence that fails it; all other checks pass, or were not run because they need it."""
    expected = {check.id for check in subject.judge(subject.good).checks}
    uncovered = (expected ^ subject.broken.keys()) - subject.optional
    if uncovered:
        yield f"checks without broken evidence, or the other way round: {sorted(uncovered)}"
    for identifier, sample in subject.broken.items():
        genuine = subject.judge(sample)
        failed = {check.id for check in genuine.checks if check.status is Status.FAIL}
        if failed != {identifier}:
            yield f"evidence for {identifier} fails {sorted(failed)}"
        if {check.id for check in genuine.checks} != expected:
            yield f"evidence for {identifier} changes which checks there are"
        yield from (
            f"{check.id} was not run, and no reason is given"
            for check in genuine.checks
            if check.status is Status.NOT_RUN and not check.detail
        )


def nothing_is_claimed_without_a_root(subject: Subject) -> Iterator[str]:
    """No anchors, or those of other kinds, never mean success."""
    foreign = [TrustAnchor("another kind", a.fingerprint, RootClass.SILICON, a.name) for a in subject.anchors]
    for anchors in ([], foreign):
        genuine = subject.judge(subject.good, anchors=anchors)
        if genuine.holds or genuine.root_class is not None:
            yield f"accepted with {len(anchors)} anchors that are not for it"
        if any(name in genuine.claims for name in ("report_data", *subject.kind.registers)):
            yield "measurements are claimed without a root"


def time_matters(subject: Subject) -> Iterator[str]:
    """Evidence does not hold for ever, nor did it always."""
    for now in () if subject.timeless else (subject.good.now + YEARS, subject.good.now - YEARS):
        if subject.judge(subject.good, now=now).holds:
            yield f"accepted at {now}"


def missing_collateral_never_passes(subject: Subject) -> Iterator[str]:
    """Without the vendor's word there is no verdict."""
    sample = Sample(subject.good.quote, Collateral(), subject.good.now, subject.good.log)
    if subject.needs_collateral and subject.judge(sample).holds:
        yield "accepted without collateral"


def mutations_are_refused(subject: Subject, mutations: int = MUTATIONS, seed: int = 0) -> Iterator[str]:
    """A changed byte, a cut, an addition: refused by parser or verifier, and by nothing but our own errors."""
    chance = random.Random(seed)  # noqa: S311 (repeatable, not secret)
    for number in range(mutations):
        changed = mutate(subject.good.quote, chance)
        if changed == subject.good.quote:
            continue
        sample = Sample(changed, subject.good.collateral, subject.good.now, subject.good.log)
        try:
            if subject.judge(sample).holds:
                yield f"mutation {number} (seed {seed}) is accepted"
        except (MalformedEvidence, MalformedRecord):
            continue
        except Exception as error:  # noqa: BLE001 (what must not escape is the finding)
            yield f"mutation {number} (seed {seed}) raises {type(error).__name__}"


def mutate(data: bytes, chance: random.Random) -> bytes:
    """One change: a bit, a byte, a cut, an addition, a part moved or repeated."""
    at, length = chance.randrange(len(data)), chance.randrange(1, 9)
    match chance.randrange(6):
        case 0:
            return data[:at] + bytes([data[at] ^ 1 << chance.randrange(8)]) + data[at + 1 :]
        case 1:
            return data[:at] + chance.randbytes(length) + data[at + length :]
        case 2:
            return data[:at]
        case 3:
            return data + chance.randbytes(length)
        case 4:
            return data[:at] + data[at + length :]
        case _:
            other = chance.randrange(len(data))
            return data[:at] + data[other : other + length] + data[at:]


RULES: tuple[Callable[..., Iterator[str]], ...] = (
    good_evidence_passes,
    each_check_can_fail_alone,
    nothing_is_claimed_without_a_root,
    time_matters,
    missing_collateral_never_passes,
    mutations_are_refused,
)
