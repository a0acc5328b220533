"""What of a host must pass before a machine of one kind is started on it.

Knows: which of doctor's checks a launch needs. Does not know: how they are made (`launch.doctor`). A host speaks for itself here: a
launch that goes on proves nothing by it, and one that stops saves an honest operator's time. Not covered: the mode of a GPU that a
guest is given, which its holder (vfio-pci) cannot tell: the GPU's own evidence says it, to whoever verifies.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

from strongroom.errors import HostNotReady
from strongroom.launch.doctor import CHECKS, Check, Finding, Host, Status
from strongroom.launch.doctor.gpu import held
from strongroom.launch.place import Place, full_address
from strongroom.records.launch import LaunchSpec

ALWAYS = frozenset({"host.capacity.memory"})
KVM = "host.platform.kvm"
GPU_DRIVER = "host.gpu.driver"
GPUS = frozenset({"host.platform.iommu", "host.gpu.device", GPU_DRIVER})
CONFIDENTIAL = frozenset({"tdx", "snp"})


def needed(spec: LaunchSpec, place: Place) -> tuple[Check, ...]:
    """The checks that this launch needs on this host."""
    purposes = {spec.tee} & CONFIDENTIAL
    names = ALWAYS | ({KVM} if place.accelerator == "kvm" else frozenset()) | (GPUS if spec.gpus else frozenset())
    found = (check for check in CHECKS if check.id in names or check.purposes & purposes)
    return tuple(_of_guests(check, place) if check.id == GPU_DRIVER else check for check in found)


def _of_guests(check: Check, place: Place) -> Check:
    """A host may also use a GPU itself, with NVIDIA's driver; one that a guest is given must be held for it."""
    return replace(check, look=lambda host: held(host, tuple(map(full_address, place.gpus))))


def preflight(spec: LaunchSpec, place: Place, host: Host) -> tuple[tuple[Check, Finding], ...]:
    """Make the checks that this launch needs."""
    return tuple((check, check.look(host)) for check in needed(spec, place))


def document(found: tuple[tuple[Check, Finding], ...]) -> list[Mapping[str, Any]]:
    """The findings as evidence keeps them."""
    return [
        {"id": check.id, "status": finding.status.value, "detail": finding.detail, "remedy": finding.remedy}
        for check, finding in found
    ]


def require_ready(found: tuple[tuple[Check, Finding], ...]) -> None:
    """Whether every check passed: unknown is no pass. Raises `HostNotReady`."""
    bad = [(check, finding) for check, finding in found if finding.status is not Status.PASS]
    if bad:
        said = "; ".join(f"{check.id} {finding.status}: {finding.detail}" for check, finding in bad)
        remedy = bad[0][1].remedy or HostNotReady.default_remedy
        raise HostNotReady(
            f"this host is not ready: {said}", remedy=remedy, detail=", ".join(check.id for check, _ in bad)
        )


def accelerator(host: Host) -> Literal["kvm", "tcg"]:
    """`kvm` where the CPU's own KVM is there, by its module and not by a node; else `tcg`."""
    (check,) = (check for check in CHECKS if check.id == KVM)
    return "kvm" if check.look(host).status is Status.PASS else "tcg"
