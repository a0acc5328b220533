"""Which CPUs, GPUs, drivers, CUDA toolkits and kernels are supported together, and who says so.

Knows: `matrix.toml`, each of whose rows names its source. Does not know: this machine.
Not covered: combinations that nobody published; they may work, and are not listed. CPU and kernel come from one source, driver and
CUDA from another: the driver runs in the guest, and the sources name no pair across.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from importlib import resources
from typing import Any


@dataclass(frozen=True, slots=True)
class HostRow:
    """CPUs, and the GPUs that may stand beside them. `kernel` is the host's, the least one, or says that the source does not."""

    tee: str
    cpus: str
    gpus: str
    kernel: str
    system: str
    source: str


@dataclass(frozen=True, slots=True)
class GpuRow:
    """A GPU in one mode, with the driver (in the guest) and the CUDA toolkit that were released for it together."""

    gpu: str
    mode: str
    driver: str
    cuda: str
    source: str


@dataclass(frozen=True, slots=True)
class Matrix:
    """All rows. `read` is the day on which the sources were read, `models` are names by PCI device number, `families` their first words."""

    read: str
    sources: Mapping[str, str]
    models: Mapping[str, str]
    families: Mapping[str, tuple[str, ...]]
    hosts: tuple[HostRow, ...]
    gpus: tuple[GpuRow, ...]

    def least_driver(self, device: str) -> str | None:
        """The oldest driver of the rows of this model, by its PCI device number; None where there is none."""
        name = self.models.get(device, "")
        drivers = (row.driver for row in self.gpus if name.startswith(self.families.get(row.gpu, (row.gpu,))))
        return min(drivers, key=lambda text: tuple(map(int, text.split("."))), default=None)

    def as_dict(self) -> dict[str, Any]:
        """The form for programs."""
        return {
            "read": self.read,
            "hosts": [asdict(row) for row in self.hosts],
            "gpus": [asdict(row) for row in self.gpus],
            "models": dict(self.models),
            "sources": dict(self.sources),
        }


@cache
def matrix() -> Matrix:
    """The file's content."""
    document = tomllib.loads(resources.files("strongroom.launch").joinpath("matrix.toml").read_text("utf-8"))
    return Matrix(
        read=document["read"].isoformat(),
        sources=document["sources"],
        models=document["models"],
        families={family: tuple(names) for family, names in document["families"].items()},
        hosts=tuple(HostRow(**row) for row in document["host"]),
        gpus=tuple(GpuRow(**row) for row in document["gpu"]),
    )
