"""The mutation campaign: changed evidence of every kind, of which none may be accepted that differs in something checked.

    campaign(forges(Hardware.make(now))["tdx"], 1000, seed=1).findings

Knows: what must come of a mutant, whoever made it: our own two errors and no other; or a refusal that claims nothing forged;
or a verdict that claims what the changed content says, so that a policy which pins it refuses; or one of the freedoms that
`mutants.explained` lists. Inputs beyond their size limit are refused by that limit. Half of the mutants are aware: somebody
who knows the structure changed one field and signed it anew with the fake chip's keys. Does not know: kinds (`mutants`).
Not covered: two changes at once that cancel each other out; timing.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from strongroom.errors import MalformedEvidence, MalformedRecord
from strongroom.tee.anchors import TrustAnchor
from strongroom.tee.genuine import Genuine
from strongroom_sim.conformance import Sample
from strongroom_sim.mutants.blind import beyond_limit, change_blindly
from strongroom_sim.mutants.explained import explain
from strongroom_sim.mutants.mutant import Forge, Mutant, said

MAX_FINDINGS = 50
"""How many are kept in full; all are counted."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A mutant that was judged wrongly: where it was changed, what is wrong, and all that is needed to judge it again."""

    kind: str
    seed: int
    number: int
    aware: bool
    where: str
    wrong: str
    sample: Sample
    anchors: tuple[TrustAnchor, ...]


@dataclass(slots=True)
class Tally:
    """What came of the mutants of one kind."""

    mutations: int = 0
    aware: int = 0
    by_parser: int = 0
    by_verifier: int = 0
    other_claims: int = 0
    too_long: int = 0
    explained: Counter[str] = field(default_factory=Counter)
    places: Counter[str] = field(default_factory=Counter)
    count: int = 0
    findings: list[Finding] = field(default_factory=list)
    seconds: float = 0.0

    def add(self, other: Tally) -> None:
        """Take over another tally of the same kind."""
        for name in ("mutations", "aware", "by_parser", "by_verifier", "other_claims", "too_long", "count", "seconds"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.explained += other.explained
        self.places += other.places
        self.findings = [*self.findings, *other.findings][:MAX_FINDINGS]


def campaign(forge: Forge, mutations: int, *, seed: int, deadline: Callable[[], bool] = lambda: False) -> Tally:
    """Judge so many mutants of one kind, the same ones for the same seed and hardware; fewer once `deadline` says so."""
    chance, tally = random.Random(f"{forge.kind} {seed}"), Tally()  # noqa: S311 (repeatable, not secret)
    started = time.perf_counter()
    for number in range(mutations):
        if deadline():
            break
        aware = bool(number % 2)
        mutant = forge.aware(chance) if aware else change_blindly(chance, chance.choice(forge.bases))
        if mutant.sample == mutant.base.sample:
            continue
        tally.mutations += 1
        tally.aware += aware
        wrong = judge(mutant, tally)
        if wrong:
            tally.count += 1
            if len(tally.findings) < MAX_FINDINGS:
                anchors = tuple(mutant.base.anchors)
                found = Finding(forge.kind, seed, number, aware, mutant.where, wrong, mutant.sample, anchors)
                tally.findings.append(found)
    tally.seconds = time.perf_counter() - started
    return tally


def judge(mutant: Mutant, tally: Tally) -> str:
    """What is wrong with the verdict on `mutant`, in words; empty if nothing is. Counts the outcome in `tally`."""
    beyond = beyond_limit(mutant.base.kind.name, mutant.sample)
    tally.too_long += bool(beyond)
    try:
        genuine = mutant.base.judge(mutant.sample)
    except (MalformedEvidence, MalformedRecord) as error:
        tally.by_parser += 1
        return f"too long, and refused for something else: {error.message}" if beyond not in error.message else ""
    except Exception as error:  # noqa: BLE001 (what must not escape is the finding)
        return f"raises {type(error).__name__}: {str(error)[:200]}"
    if beyond and not any(beyond in check.detail for check in genuine.checks):
        return "too long, and not refused for that"
    if not genuine.holds:
        tally.by_verifier += 1
        return _forged(mutant, genuine)
    return _accepted(mutant, genuine, tally)


def _forged(mutant: Mutant, genuine: Genuine) -> str:
    """Whether a refusal of what nobody signed claims something that the good sample does not say."""
    if mutant.aware:
        return ""
    known = mutant.base.genuine.claims
    forged = [name for name, value in genuine.claims.items() if known.get(name) != value]
    return f"refused, and claims {', '.join(forged)} that nobody signed" if forged else ""


def _accepted(mutant: Mutant, genuine: Genuine, tally: Tally) -> str:
    good, found, change = said(mutant.base.genuine), said(genuine), mutant.change
    if genuine.root_class is not mutant.base.genuine.root_class:
        return f"accepted under a root of class {genuine.root_class}"
    if found == good:
        explanation = explain(mutant)
        if not explanation or (mutant.aware and change.says is None):
            return "accepted, and claims the same"
        tally.explained[explanation] += 1
        return ""
    if change.says is None:
        return f"accepted, and claims another {_differences(good, found)}"
    wrong = _untrue(mutant, genuine, found)
    if not wrong:
        tally.other_claims += 1
        tally.places[change.where] += 1
    return wrong


def _untrue(mutant: Mutant, genuine: Genuine, found: Mapping[str, object]) -> str:
    """Whether other claims are not what the changed content says: by whoever changed it, and by the quote itself."""
    change = mutant.change
    expected = {
        name: value for name, value in {**said(mutant.base.genuine), **(change.says or {})}.items() if value is not None
    }
    wrong = {name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name)} - change.loose
    if wrong:
        return f"accepted, and claims what the content does not say: {', '.join(sorted(wrong))}"
    stated = mutant.base.kind.stated(mutant.sample.quote)
    told = genuine.claims.keys() - (change.says or {}).keys()  # what the change says was compared just above
    lies = [name for name, value in stated.items() if name in told and genuine.claims[name] != value]
    return f"accepted, and claims something else than the quote states: {', '.join(lies)}" if lies else ""


def _differences(one: Mapping[str, object], other: Mapping[str, object]) -> str:
    return ", ".join(sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name)))
