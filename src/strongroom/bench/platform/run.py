"""All probes of a machine, in turns, and what came of it.

Method: one sample of each figure in every round, so that what drifts, drifts for all; the first round is not counted. We are on one
core, the other side of what takes two on another. Knows: the order. Does not know: what is good.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from strongroom.bench import figures
from strongroom.bench.platform import disk, environment, gpu, kernel, memory, model, network, training
from strongroom.bench.platform.probe import Found, Missing, Probe, Sizes
from strongroom.bench.platform.saved import LEAST_SAMPLES, MOST_SAMPLES, Measured, Saved, measured
from strongroom.errors import Unavailable, UsageError
from strongroom.launch.doctor import machine

Progress = Callable[[int, int], None]


def run(*, runs: int, sizes: Sizes, folder: Path, weights: Path | None, date: str, progress: Progress) -> Saved:
    """Measure. `folder` is on the disk that is measured, `weights` a GGUF file.

    Raises `UsageError` for too many or too few runs, `Unavailable` where a probe breaks.
    """
    if not LEAST_SAMPLES <= runs <= MOST_SAMPLES:
        raise UsageError(f"from {LEAST_SAMPLES} to {MOST_SAMPLES} runs are kept", remedy="Give another number of runs.")
    host = machine(Path("/"))
    torch = gpu.torch_with_gpu()
    name = "none that torch can use" if torch is None else torch.cuda.get_device_name(0)
    said = environment.environment(host, folder=folder, gpu=name)
    before = os.sched_getaffinity(0)
    ours, *others = sorted(before)
    with ExitStack() as stack:
        stack.callback(os.sched_setaffinity, 0, before)
        os.sched_setaffinity(0, {ours})
        other = others[-1] if others else None
        found: Found = [
            *memory.probes(sizes, environment.cache_kib(host), environment.free_mib(host), stack),
            *kernel.probes(sizes, (ours, other), stack),
            *disk.probes(sizes, folder, environment.file_system(host, folder), stack),
            *network.probes(sizes, other, stack),
            *gpu.probes(sizes),
            *model.probes(sizes, weights, ours if other is None else other, stack),
            *training.probes(sizes),
        ]
        kept = sample([each for each in found if isinstance(each, Probe)], runs, progress)
    return Saved(
        machine=figures.machine(),
        date=date,
        measured=kept,
        skipped=tuple(str(each) for each in found if isinstance(each, Missing)),
        code=environment.code(weights),
        settings=environment.settings(sizes),
        environment=said,
    )


def sample(probes: list[Probe], runs: int, progress: Progress) -> tuple[Measured, ...]:
    """So many samples of each, in turns, after one that does not count. Raises `Unavailable`, naming the figure that broke."""
    samples: dict[str, list[float]] = {probe.id: [] for probe in probes}
    for turn in range(runs + 1):
        for probe in probes:
            try:
                value = probe.run()
            except OSError as error:
                raise Unavailable(f"{probe.id} broke: {error.strerror or error}") from None
            if not 0 < value < math.inf:
                raise Unavailable(f"{probe.id} broke: {value:g} {probe.unit} is no measurement")
            if turn:
                samples[probe.id].append(value)
        progress(turn, runs)
    return tuple(measured(each.id, each.unit, each.better, each.what, samples[each.id]) for each in probes)
