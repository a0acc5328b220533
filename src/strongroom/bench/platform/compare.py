"""A plain and a protected run side by side: for each figure the time that the same work takes, protected over plain.

Knows: what may be compared at all; the interval of a ratio of medians of two independent sets of samples (bootstrap, percentile, seeded).
Does not know: the machines. An interval says how steady two runs were, and nothing of other days or other machines.
"""

from __future__ import annotations

import random
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from strongroom.bench.figures import CONFIDENCE
from strongroom.bench.platform.environment import NO_TEE
from strongroom.bench.platform.saved import Measured, Saved
from strongroom.errors import UsageError

RESAMPLES = 2000
Verdict = Literal["slower", "faster", "no difference seen"]


@dataclass(frozen=True, slots=True)
class Cost:
    """One figure of both runs. `factor` 1.25: the same work takes a quarter longer, protected."""

    id: str
    unit: str
    plain: float
    protected: float
    factor: float
    interval: tuple[float, float]

    @property
    def verdict(self) -> Verdict:
        """A difference counts only where the interval leaves 1 out."""
        low, high = self.interval
        return "slower" if low > 1 else "faster" if high < 1 else "no difference seen"


@dataclass(frozen=True, slots=True)
class Comparison:
    """All costs; `differences` make it doubtful, `remarks` are for whoever reads it, `alone` was measured in one run only."""

    plain: str
    protected: str
    costs: tuple[Cost, ...]
    differences: tuple[str, ...]
    remarks: tuple[str, ...]
    alone: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """The form for programs."""
        return {
            "name": "platform-comparison",
            "plain": self.plain,
            "protected": self.protected,
            "differences": list(self.differences),
            "remarks": list(self.remarks),
            "alone": list(self.alone),
            "figures": [
                {
                    "id": cost.id,
                    "unit": cost.unit,
                    "plain": cost.plain,
                    "protected": cost.protected,
                    "factor": cost.factor,
                    "interval": list(cost.interval),
                    "verdict": cost.verdict,
                }
                for cost in self.costs
            ],
        }


def compare(plain: Saved, protected: Saved, *, anyway: bool = False) -> Comparison:
    """Both runs side by side. Raises `UsageError` where code or settings differ, unless `anyway`; then they are named."""
    found = (*_differing(plain.code, protected.code), *_differing(plain.settings, protected.settings))
    ours, theirs = ({each.figure.id: each for each in run.measured} for run in (plain, protected))
    both = [name for name in ours if name in theirs]
    if any(_kind(ours[name]) != _kind(theirs[name]) for name in both):
        raise UsageError("the two runs mean different things by the same names", remedy="Run both with one version.")
    if found and not anyway:
        raise UsageError(
            f"the two runs are not of the same code and settings: {'; '.join(found)}",
            remedy="Run both alike; or compare them all the same with --anyway, which says so.",
        )
    return Comparison(
        plain=f"{plain.machine}, {plain.date}",
        protected=f"{protected.machine}, {protected.date}",
        costs=tuple(cost(ours[name], theirs[name]) for name in both),
        differences=found,
        remarks=tuple(_remarks(plain.environment, protected.environment)),
        alone=tuple(sorted(ours.keys() ^ theirs.keys())),
    )


def cost(plain: Measured, protected: Measured) -> Cost:
    """The factor of one figure, whichever way is good."""
    swap = plain.better == "more"
    above, below = (plain, protected) if swap else (protected, plain)
    chance = random.Random(0)  # noqa: S311 (statistics, not secrets)

    def median(samples: tuple[float, ...]) -> float:
        return statistics.median(chance.choices(samples, k=len(samples)))

    ratios = sorted(median(above.samples) / median(below.samples) for _ in range(RESAMPLES))
    edge = int(RESAMPLES * (1 - CONFIDENCE) / 2)
    return Cost(
        id=plain.figure.id,
        unit=plain.figure.unit,
        plain=plain.figure.value,
        protected=protected.figure.value,
        factor=_rounded(statistics.median(above.samples) / statistics.median(below.samples)),
        interval=(_rounded(ratios[edge]), _rounded(ratios[-edge - 1])),
    )


def _rounded(ratio: float) -> float:
    return float(f"{ratio:.4g}")


def _kind(measured: Measured) -> tuple[str, str, str]:
    return measured.figure.unit, measured.better, measured.figure.baseline


def _differing(one: Mapping[str, object], other: Mapping[str, object]) -> tuple[str, ...]:
    names = sorted(one.keys() | other.keys())
    return tuple(
        f"{name}: {one.get(name, 'not said')} and {other.get(name, 'not said')}"
        for name in names
        if one.get(name) != other.get(name)
    )


def _remarks(plain: Mapping[str, str], protected: Mapping[str, str]) -> list[str]:
    """What a reader should know of both machines, who speak for themselves."""
    quiet = [{name: said for name, said in run.items() if name not in {"tee", "load"}} for run in (plain, protected)]
    found = [f"the machines differ in {text}" for text in _differing(*quiet)]
    for name, run in (("plain", plain), ("protected", protected)):
        if _busy(run):
            found.append(
                f"the machine of the {name} run was busy before it began: a load of {run['load']} on {run['cpus']} CPUs"
            )
    if plain.get("tee", NO_TEE) != NO_TEE:
        found.append(f"the run that is called plain says that it was in a TEE ({plain['tee']})")
    if protected.get("tee", NO_TEE) == NO_TEE:
        found.append("the run that is called protected saw no TEE where it was")
    return found


def _busy(said: Mapping[str, str]) -> bool:
    """Whether others kept half of the machine's CPUs at work. What does not say so in numbers is not called busy."""
    try:
        return float(said["load"]) > float(said["cpus"]) / 2
    except (KeyError, ValueError):
        return False
