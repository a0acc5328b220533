"""What of a host a launch needs: a GPU for a guest is held by vfio-pci, and says its mode to nobody on the host."""

from dataclasses import replace

import hosts
import pytest
from hosts import FOLDER, H100, SAPPHIRE_RAPIDS
from launching import SNP, TDX, TDX_GPU, TPM, place_for

from strongroom.errors import HostNotReady
from strongroom.launch.life.preflight import needed, preflight, require_ready

HELD = H100.but(
    {**hosts.gpu("0000:41:00.0", "2330", "vfio-pci"), **hosts.gpu("0000:45:00.0", "2330", "nvidia")}, gpu={}
)
"""One GPU for guests, whose mode nobody can ask, beside one that the host uses itself."""


def look(machine, tmp_path, **changed):
    found = preflight(TDX_GPU, replace(place_for(TDX_GPU), **changed), machine.written(tmp_path / "host"))
    require_ready(found)
    return {check.id: finding.detail for check, finding in found}


@pytest.mark.parametrize("address", ["0000:41:00.0", "41:00.0"])
def test_a_gpu_that_is_held_for_guests_can_be_given_to_one(tmp_path, address):
    found = look(HELD, tmp_path, gpus=(address,))
    assert found["host.gpu.driver"] == "vfio-pci: held for guests"
    assert {"host.gpu.device", "host.platform.iommu", "host.tdx.cpu"} <= found.keys()
    assert "host.gpu.mode" not in found, "the GPU's own evidence says it"


@pytest.mark.parametrize(
    ("machine", "gpus", "failed"),
    [
        (HELD, ("0000:45:00.0",), "host.gpu.driver"),
        (HELD, ("0000:42:00.0",), "host.gpu.driver"),
        (HELD, (), "host.gpu.driver"),
        (HELD.but(hosts.gpu("0000:46:00.0", "1b80", "vfio-pci")), ("0000:41:00.0",), "host.gpu.device"),
        (SAPPHIRE_RAPIDS, ("0000:41:00.0",), "host.gpu.device, host.gpu.driver"),
        (
            HELD.but({"/sys/class/iommu": FOLDER}, without=("/sys/class/iommu",)),
            ("0000:41:00.0",),
            "host.platform.iommu",
        ),
    ],
    ids=["the host's own", "another address", "none", "an unknown model", "no GPU", "no IOMMU"],
)
def test_a_gpu_that_cannot_be_given_is_named(tmp_path, machine, gpus, failed):
    with pytest.raises(HostNotReady) as raised:
        look(machine, tmp_path, gpus=gpus)
    assert raised.value.detail == failed


def test_no_gpu_is_asked_for_where_none_is_wanted():
    for spec in (TPM, TDX, SNP):
        assert not any(check.area == "gpu" for check in needed(spec, place_for(spec)))
