"""libvirt's driver where libvirt's Python API is not whole: said before anything is defined."""

import sys
from dataclasses import replace
from types import ModuleType

import pytest
from launching import TPM, place_for

from strongroom.errors import HypervisorUnavailable
from strongroom.launch.life.drivers import driver
from strongroom.launch.life.staging import staged_place


@pytest.mark.parametrize("missing", ["libvirt", "libvirt_qemu"])
def test_a_python_api_that_is_not_whole_is_said_with_its_package(monkeypatch, missing):
    for name in ("libvirt", "libvirt_qemu"):
        monkeypatch.setitem(sys.modules, name, None if name == missing else ModuleType(name))
    with pytest.raises(HypervisorUnavailable, match="Python API") as raised:
        driver("libvirt").find(TPM, place_for(TPM))
    assert "python3-libvirt" in raised.value.remedy


def test_a_disk_that_leads_to_itself_is_no_error_of_pythons(tmp_path):
    loop = tmp_path / "loop.img"
    loop.symlink_to(loop)
    staged = staged_place(TPM, replace(place_for(TPM), state=tmp_path / "state", disks=(loop,)))
    assert staged.disks == (tmp_path / "state" / "disk-0.img",)
