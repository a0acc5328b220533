"""A training step: forwards, backwards and the update of a network with one hidden layer, each batch from the host's memory.

Knows: the step in torch (on its first CUDA device, if there is one) and in numpy. Does not know: how to train well.
Not covered: several devices, mixed precision, reading data from a disk.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from strongroom.bench.platform.gpu import torch_with_gpu
from strongroom.bench.platform.probe import Found, Missing, Probe, Sizes

BATCH, WIDTH, HIDDEN = 256, 512, 1024
RATE = 1e-3


def probes(sizes: Sizes) -> Found:
    """`training.step` in torch, else in numpy, else `Missing`."""
    made = library()
    if made is None:
        return [Missing("training.step", "neither torch nor numpy is installed")]
    name, step = made
    return [
        Probe("training.step", "ms", "less", f"one step of a network of {WIDTH}, {HIDDEN}, {WIDTH} with {BATCH} examples, in {name}",
              lambda: step_once(step, sizes.training_steps)),
    ]  # fmt: skip


def library() -> tuple[str, Callable[[], float]] | None:
    """With what and on what, and a step that gives its loss."""
    if (torch := torch_with_gpu()) is not None:
        return "torch on the GPU", in_torch(torch, "cuda")
    if find_spec("torch") is not None:
        torch = import_module("torch")
        torch.set_num_threads(1)
        return "torch on one core", in_torch(torch, "cpu")
    return ("numpy on one core", in_numpy()) if find_spec("numpy") is not None else None


def step_once(step: Callable[[], float], times: int) -> float:
    """Milliseconds for one."""
    began = time.perf_counter()
    for _ in range(times):
        step()
    return (time.perf_counter() - began) / times * 1e3


def in_torch(torch: Any, device: str) -> Callable[[], float]:
    """A step; the loss comes back to the host each time, so that the step has ended."""
    torch.manual_seed(0)
    linear = torch.nn.Linear
    net = torch.nn.Sequential(linear(WIDTH, HIDDEN), torch.nn.ReLU(), linear(HIDDEN, WIDTH)).to(device)
    optimiser = torch.optim.SGD(net.parameters(), lr=RATE)
    batch, wanted = torch.randn(BATCH, WIDTH), torch.randn(BATCH, WIDTH)

    def step() -> float:
        optimiser.zero_grad()
        loss = torch.nn.functional.mse_loss(net(batch.to(device)), wanted.to(device))
        loss.backward()
        optimiser.step()
        return float(loss.item())

    return step


def in_numpy() -> Callable[[], float]:
    """The same step by hand."""
    numpy = import_module("numpy")
    chance = numpy.random.default_rng(0)

    def normal(*shape: int) -> Any:
        return chance.standard_normal(shape, dtype=numpy.float32)

    batch, wanted = normal(BATCH, WIDTH), normal(BATCH, WIDTH)
    first, second = normal(WIDTH, HIDDEN) / WIDTH**0.5, normal(HIDDEN, WIDTH) / HIDDEN**0.5

    def step() -> float:
        hidden = numpy.maximum(batch @ first, 0)
        wrong = hidden @ second - wanted
        slope = 2 / wrong.size * wrong
        back = (slope @ second.T) * (hidden > 0)
        numpy.subtract(second, RATE * (hidden.T @ slope), out=second)
        numpy.subtract(first, RATE * (batch.T @ back), out=first)
        return float(numpy.square(wrong).mean())

    return step
