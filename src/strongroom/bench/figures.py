"""Figures and how sure we are of them. Pure, but for the description of the machine.

Knows: medians, their intervals, goals. Does not know: what is measured. A figure whose interval holds its goal is `not resolved`, which
is never a pass: these are paired runs on machines that do other things as well.
"""

from __future__ import annotations

import os
import platform
import random
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

RESAMPLES = 4000
CONFIDENCE = 0.95

Goal = tuple[Literal[">=", "<="], float]


@dataclass(frozen=True, slots=True)
class Figure:
    """One median with its 95 % interval, against a goal."""

    id: str
    value: float
    unit: str
    baseline: str
    goal: Goal
    runs: int
    interval: tuple[float, float]

    @property
    def verdict(self) -> str:
        """`met`, `missed`, or `not resolved` where the interval does not say."""
        sign, wanted = self.goal
        low, high = self.interval if sign == ">=" else (-self.interval[1], -self.interval[0])
        limit = wanted if sign == ">=" else -wanted
        return "met" if low >= limit else "missed" if high < limit else "not resolved"

    def as_json(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "value": self.value,
            "unit": self.unit,
            "baseline": self.baseline,
            "goal": f"{self.goal[0]} {self.goal[1]:g}",
            "runs": self.runs,
            "interval": list(self.interval),
        }


def figure(identifier: str, samples: Sequence[float], *, unit: str, baseline: str, goal: Goal) -> Figure:
    """The median of `samples` with a bootstrap interval (percentile, seeded, so that the same samples give the same)."""
    chance = random.Random(0)  # noqa: S311 (statistics, not secrets)
    medians = sorted(statistics.median(chance.choices(samples, k=len(samples))) for _ in range(RESAMPLES))
    edge = int(RESAMPLES * (1 - CONFIDENCE) / 2)
    interval = (round(medians[edge], 4), round(medians[-edge - 1], 4))
    return Figure(identifier, round(statistics.median(samples), 4), unit, baseline, goal, len(samples), interval)


def machine() -> str:
    """The machine in words."""
    model = "unknown processor"
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    cores = len(os.sched_getaffinity(0))
    return f"{model}, {cores} cores, Linux {platform.release()}, CPython {platform.python_version()}"
