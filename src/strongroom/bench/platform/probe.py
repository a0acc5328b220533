"""What is measured, in which sizes, and what cannot be measured here.

Knows: the shape of a probe. Does not know: any of them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

MIB = 1 << 20

Better = Literal["more", "less"]


@dataclass(frozen=True, slots=True)
class Probe:
    """One figure: `run` gives one sample in `unit`; `better` says which way is good; `what` says what is measured, honestly."""

    id: str
    unit: str
    better: Better
    what: str
    run: Callable[[], float]


@dataclass(frozen=True, slots=True)
class Missing:
    """A figure, or several, that this machine does not give, and why."""

    id: str
    why: str

    def __str__(self) -> str:
        return f"{self.id}: not measured: {self.why}"


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much each sample is made of. Two runs are held against each other only if all of these are equal."""

    copy_mib: int = 512
    fault_mib: int = 128
    calls: int = 20_000
    exits: int = 2_000
    timers: int = 100
    wakeups: int = 500
    disk_mib: int = 256
    random_reads: int = 256
    commits: int = 16
    round_trips: int = 500
    stream_mib: int = 128
    gpu_mib: int = 256
    gpu_copies: int = 200
    tokens: int = 64
    training_steps: int = 4


Found = list[Probe | Missing]


@contextmanager
def on_core(core: int) -> Iterator[None]:
    """What is started inside begins its life on this core."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
