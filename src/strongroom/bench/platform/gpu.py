"""PCIe: copies between the host's memory and a GPU's, and how long the shortest of them takes.

Knows: torch's copies on the first CUDA device. In confidential mode the driver stages each in a buffer that both sides can read, and
encrypts it there. Does not know: GPUs of others than NVIDIA. Not covered: GPU to GPU.
"""

from __future__ import annotations

import time
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from strongroom.bench.platform.probe import MIB, Found, Missing, Probe, Sizes

NAMES = "pcie.to_device, pcie.to_host, pcie.launch"


def torch_with_gpu() -> Any | None:
    """torch, if it is installed and has a CUDA device; else None."""
    torch = import_module("torch") if find_spec("torch") is not None else None
    return torch if torch is not None and torch.cuda.is_available() else None


def probes(sizes: Sizes) -> Found:
    """The figures, or `Missing`: no GPU."""
    torch = torch_with_gpu()
    if torch is None:
        return [Missing(NAMES, "no GPU that torch can use")]
    size = sizes.gpu_mib * MIB
    host = torch.randint(0, 256, (size,), dtype=torch.uint8).pin_memory()
    device = torch.empty(size, dtype=torch.uint8, device="cuda")
    one = torch.zeros(1, device="cuda")
    return [
        Probe("pcie.to_device", "GB/s", "more", "copies from the host's pinned memory to the GPU's",
              lambda: copy_once(torch, host, device)),
        Probe("pcie.to_host", "GB/s", "more", "copies from the GPU's memory to the host's pinned one",
              lambda: copy_once(torch, device, host)),
        Probe("pcie.launch", "µs", "less", "the shortest work there is: start a kernel on one number, and read the number back",
              lambda: launch_once(one, sizes.gpu_copies)),
    ]  # fmt: skip


def copy_once(torch: Any, source: Any, target: Any) -> float:
    """Gigabytes in a second."""
    torch.cuda.synchronize()
    began = time.perf_counter()
    target.copy_(source, non_blocking=True)
    torch.cuda.synchronize()
    return float(source.numel() / (time.perf_counter() - began) / 1e9)


def launch_once(one: Any, times: int) -> float:
    """Microseconds for one."""
    began = time.perf_counter()
    for _ in range(times):
        one.add_(1).item()
    return (time.perf_counter() - began) / times * 1e6
