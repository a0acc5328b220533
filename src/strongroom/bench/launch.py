"""`bench launch`: what a launch costs, stage by stage, beside a bare boot of the same machine on this host.

A bare boot is the driver's own start of the same arguments from files that already lie there: no preflight, no copies, no journal. Both
go as far as asked: to BOOTED, or to READY where somebody is given who asks the machine. Bare boots and launches take turns.

    registers   computing every register from the files in memory
    wipe        destroying all that a launch leaves, from the guest's end to the signed receipt
    preflight … ready   each stage by itself; reported, not judged
    added       all stages together beside a bare boot, less one; judged (0.3) for READY under the CPU's own KVM

Knows: how to measure. Does not know: what is good (the goals say it). A bare boot that has to be READY ends where the machine answers at
its service address; what a firmware does in between is the same for both.
"""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from strongroom.bench.figures import Figure, Goal, figure
from strongroom.crypto.signatures import generate_p256
from strongroom.errors import ServiceUnavailable
from strongroom.launch.life import Launcher, staging
from strongroom.launch.life.attest import Attest
from strongroom.launch.life.drivers import Driver
from strongroom.launch.life.files import destroy
from strongroom.launch.life.states import CLIMB
from strongroom.launch.measure import measure
from strongroom.launch.place import Place
from strongroom.launch.spec import read_images
from strongroom.records.launch import LaunchSpec
from strongroom.records.launched import Entry, State

Progress = Callable[[int, int], None]
REPORTED: Goal = ("<=", math.inf)
REGISTERS_GOAL: Goal = ("<=", 0.5)
WIPE_GOAL: Goal = ("<=", 2.0)
ADDED_GOAL: Goal = ("<=", 0.3)
READY_SECONDS, PAUSE_SECONDS = 600.0, 0.05


@dataclass
class Stages:
    """Seconds by state, as a launcher reports them."""

    seconds: dict[State, list[float]] = field(default_factory=dict)

    def begin(self, state: State) -> None:
        """See `Report`."""

    def done(self, entry: Entry, seconds: float) -> None:
        """See `Report`."""
        self.seconds.setdefault(entry.state, []).append(seconds)


def launching(
    spec: LaunchSpec, place: Place, driver: Driver, *, runs: int, progress: Progress, attest: Attest | None = None
) -> list[Figure]:
    """All figures of one specification; `place.state` is replaced by folders of this benchmark. Raises what a launch raises."""
    images, until = read_images(spec, place.images), State.BOOTED if attest is None else State.READY
    stages, bare, whole, registers = Stages(), list[float](), list[float](), list[float]()
    with tempfile.TemporaryDirectory(prefix="sr-bench-") as folder:
        Path(folder).chmod(0o711)
        for number in range(runs):
            registers.append(_timed(lambda: measure(spec, images)))
            here = replace(place, state=Path(folder) / f"{number}")
            launcher = Launcher(
                spec,
                here,
                driver,
                generate_p256(),
                attest=attest,
                report=stages,
                drain_seconds=0.0,
                prove_seconds=READY_SECONDS,
            )
            for ours in (True, False) if number % 2 else (False, True):
                if ours:
                    whole.append(_whole(launcher, until))
                else:
                    bare.append(_bare(launcher, attest))
            progress(number + 1, runs)
    name = f"{place.accelerator}, {driver.name}, {spec.machine.memory} MiB"
    boot = f"a bare boot: {sorted(bare)[len(bare) // 2]:.2f} s; {name}"
    judged = until is State.READY and place.accelerator == "kvm"
    added = [ours / theirs - 1 for ours, theirs in zip(whole, bare, strict=True)]
    return [
        figure("registers", registers, unit="s", baseline="the files in memory", goal=REGISTERS_GOAL),
        figure("wipe", stages.seconds[State.WIPED], unit="s", baseline=name, goal=WIPE_GOAL),
        *(
            figure(state.value, stages.seconds[state], unit="s", baseline=boot, goal=REPORTED)
            for state in CLIMB
            if state in stages.seconds
        ),
        figure(f"added.{until}", added, unit="ratio", baseline=boot, goal=ADDED_GOAL if judged else REPORTED),
    ]


def _whole(launcher: Launcher, until: State) -> float:
    try:
        return _timed(lambda: launcher.up(until))
    finally:
        launcher.down()


def _bare(launcher: Launcher, attest: Attest | None) -> float:
    """The same machine, started by its driver alone, in a folder of its own."""
    spec, driver = launcher.spec, launcher.driver
    given = replace(launcher.place, state=launcher.place.state.with_name(f"{launcher.place.state.name}-bare"))
    given.state.mkdir(mode=0o711)
    staged, images = staging.staged_place(spec, given), read_images(spec, given.images)
    staging.stage(spec, images, given, staged)
    staging.write_variables(spec, staged)
    try:
        began = time.perf_counter()
        driver.start(spec, staged)
        deadline = time.monotonic() + READY_SECONDS
        while attest is not None and not _answers(attest):
            if time.monotonic() > deadline:
                raise ServiceUnavailable("the machine does not answer")
            time.sleep(PAUSE_SECONDS)
        return time.perf_counter() - began
    finally:
        driver.drain(spec, staged, 0)
        for path in driver.remains(spec, staged):
            destroy(Path(path), overwrite=False)
        driver.forget(spec, staged)


def _answers(attest: Attest) -> bool:
    try:
        attest.knock()
    except ServiceUnavailable:
        return False
    return True


def _timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
