"""A firmware's register is seen once, and nothing of it stays; the machine is a double that writes on its console."""

from dataclasses import replace

import packages
import pytest
from hosts import MICRO_VM
from launching import LINUX, TDX, TPM, write_files
from lifecycles import Double

from strongroom.errors import ImageChanged, LaunchFailed, Unavailable, UsageError
from strongroom.launch import observe as observing
from strongroom.launch.life import launcher
from strongroom.launch.measure.uki import parse_uki
from strongroom.launch.observe import observe
from strongroom.records.launch import LaunchSpec

SHOWN = b"EFI stub: loading\r\npcr0=" + b"AB" * 32 + b"\r\n"


class Printing(Double):
    """A machine that says something on its console, and ends."""

    def __init__(self, says: bytes) -> None:
        super().__init__(stops_by_itself=True)
        self.says = says
        self.seen: list[tuple[LaunchSpec, bytes]] = []

    def start(self, spec, place):
        place.console.write_bytes(self.says)
        self.seen.append((spec, place.copies[spec.boot.image.digest].read_bytes()))
        return super().start(spec, place)


@pytest.fixture
def ask(tmp_path, monkeypatch):
    write_files(tmp_path)
    host = MICRO_VM.written(tmp_path / "host")
    (tmp_path / "busybox").write_bytes(b"busybox")
    (tmp_path / "var").mkdir()
    monkeypatch.setattr(launcher, "machine", lambda _root: host)
    monkeypatch.setattr(observing, "FOLDERS", tmp_path / "var")
    monkeypatch.setattr(observing.shutil, "which", lambda _name: str(tmp_path / "busybox"))
    return lambda driver, spec=TPM: observe(spec, tmp_path, driver, stub=packages.stub(), accelerator="tcg", seconds=3)


@pytest.mark.parametrize("spec", [TPM, LINUX], ids=["uki", "linux"])
def test_the_firmwares_register_is_seen_in_a_machine_that_has_nothing_of_the_images(ask, tmp_path, spec):
    driver = Printing(SHOWN)
    spec = TPM if spec is TPM else replace(TPM, boot=LINUX)
    assert ask(driver, spec) == {"pcr0": "ab" * 32}
    ((seen, image),) = driver.seen
    assert (seen.firmware.code, seen.machine) == (spec.firmware.code, spec.machine)
    assert [device.kind for device in seen.devices] == ["console"]
    assert seen.workload is None
    small = parse_uki(image)
    assert b"busybox" in bytes(small.initrd)
    assert small.command_line == observing.LINE.decode()
    assert not list((tmp_path / "var").iterdir()), "something of it was left"


def test_a_machine_that_shows_nothing_is_no_observation_and_leaves_nothing(ask, tmp_path):
    for says in (b"Kernel panic", b"pcr0=", b"pcr0=" + b"a" * 63 + b"\n"):
        with pytest.raises(LaunchFailed, match="showed no register"):
            ask(Printing(says))
    assert not list((tmp_path / "var").iterdir())


def test_only_a_tpms_register_is_observed_of_the_files_that_are_pinned(ask, tmp_path, monkeypatch):
    with pytest.raises(UsageError, match="TPM"):
        ask(Printing(SHOWN), TDX)
    monkeypatch.setattr(observing.shutil, "which", lambda _name: None)
    with pytest.raises(Unavailable, match="busybox"):
        ask(Printing(SHOWN))
    (tmp_path / "worker.efi").write_bytes(b"another")
    with pytest.raises(ImageChanged):
        ask(Printing(SHOWN))
