"""A confidential VM of Google as one device: both of its parts are asked, and what they say holds together."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from strongroom.appraisal.kinds import KINDS
from strongroom.errors import DeviceUnavailable
from strongroom.records.evidence import Collateral
from strongroom.tee.anchors import installation_anchor
from strongroom.worker.devices import find_device
from strongroom_sim import Chip, Installation
from strongroom_sim.abi import Device
from strongroom_sim.google import CERTIFICATE, TEMPLATE, GoogleVm
from strongroom_sim.tpm import Tpm, TpmMaker
from strongroom_sim.tpm_wire import TpmDevice

NOW = 1_790_000_000
QUALIFYING = bytes(range(32))


@dataclass
class Machine:
    root: Path
    installation: Installation
    vm: GoogleVm

    @property
    def collateral(self) -> Collateral:
        return replace(self.installation.bundle(NOW), tpm=self.vm.collateral(NOW))


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    """A root directory with a live simulated TD and its vTPM."""
    stop = threading.Event()
    installation = Installation.ephemeral(NOW)
    tpm = Tpm(TpmMaker.generate(now=NOW), NOW)
    tpm.boot(b"image")
    vm, root = GoogleVm(tpm, NOW), tmp_path / "vm"
    with Device(Chip(installation, mrtd=bytes(48)), root) as hardware, TpmDevice(tpm, root) as vtpm:
        threads = [threading.Thread(target=served.serve, args=(stop.is_set,)) for served in (hardware, vtpm)]
        for thread in threads:
            thread.start()
        yield Machine(root, installation, vm)
        stop.set()
        for thread in threads:
            thread.join()


def test_both_are_asked_and_hold_together(machine: Machine):
    kind, device = find_device(machine.root, "gce-tdx")
    assert kind == "gce-tdx"
    anchors = [
        installation_anchor("tdx", machine.installation.root_pem),
        installation_anchor("tpm", machine.vm.tpm.maker.root_pem),
    ]
    genuine = KINDS[kind].judge(
        device.quote(QUALIFYING), device.log(), collateral=machine.collateral, anchors=anchors, now=NOW
    )
    assert genuine.holds
    assert genuine.claims["report_data"] == QUALIFYING.hex()


def test_events_go_into_the_hardwares_register(machine: Machine):
    _, device = find_device(machine.root, "gce-tdx")
    register = KINDS["gce-tdx"].runtime
    assert register is not None
    assert (register.claim, register.index) == ("rtmr3", 3)
    before = KINDS["gce-tdx"].stated(device.quote(QUALIFYING))
    device.extend(3, bytes(48))
    after = KINDS["gce-tdx"].stated(device.quote(QUALIFYING))
    assert before["rtmr3"] != after["rtmr3"]
    assert before["pcr15"] == after["pcr15"]


def test_it_must_be_named(machine: Machine):
    assert find_device(machine.root)[0] == "tdx"


def test_hardware_alone_or_another_is_not_it(machine: Machine, tmp_path: Path):
    with pytest.raises(DeviceUnavailable, match="no gce-snp"):
        find_device(machine.root, "gce-snp")
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev/sev-guest").touch()
    with pytest.raises(DeviceUnavailable, match="no gce-snp"):
        find_device(tmp_path, "gce-snp")


def test_a_vtpm_without_googles_key_is_an_error(machine: Machine):
    del machine.vm.tpm.nv[CERTIFICATE], machine.vm.tpm.nv[TEMPLATE]
    with pytest.raises(DeviceUnavailable, match="Google"):
        find_device(machine.root, "gce-tdx")[1].quote(QUALIFYING)
