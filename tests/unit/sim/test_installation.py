"""An installation: complete or absent, private where it must be, and never beside a real TEE."""

from __future__ import annotations

from pathlib import Path

import pytest

from strongroom.appraisal.statement import launch_register
from strongroom.errors import DeviceUnavailable, FileUnreadable, Refused, UsageError
from strongroom.records.digest import digest_bytes
from strongroom_sim import Chip, Installation, mrconfigid_for, mrtd_for, reference_for
from strongroom_sim.abi import Device
from strongroom_sim.guard import refuse_beside_real_tee

NOW = 1_790_000_000


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Installation:
    return Installation.create(tmp_path_factory.mktemp("sim") / "installation", now=NOW)


def test_keys_are_readable_by_their_owner_only(installation: Installation):
    keys = list((installation.directory / "keys").iterdir())
    assert len(keys) == 4
    assert {key.stat().st_mode & 0o777 for key in keys} == {0o600}
    assert installation.directory.stat().st_mode & 0o077 == 0


def test_loading_gives_what_was_created(installation: Installation):
    again = Installation.load(installation.directory)
    assert again.root_pem == installation.root_pem == (installation.directory / "root.pem").read_bytes()
    assert again.platform == installation.platform


def test_no_key_shows_in_a_representation(installation: Installation):
    assert repr(installation) == f"Installation({installation.directory})"


def test_two_installations_share_nothing(installation: Installation, tmp_path: Path):
    other = Installation.create(tmp_path / "other", now=NOW)
    assert other.root_pem != installation.root_pem
    assert other.platform.ppid != installation.platform.ppid


def test_a_directory_in_use_is_refused_and_left_alone(tmp_path: Path):
    (tmp_path / "mine").write_text("mine")
    with pytest.raises(UsageError):
        Installation.create(tmp_path, now=NOW)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_a_creation_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def fail(*_: object) -> None:
        raise OSError

    monkeypatch.setattr(Installation, "renew", fail)
    with pytest.raises(OSError):  # noqa: PT011 (it has no text)
        Installation.create(tmp_path / "new", now=NOW)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("broken", ["platform.json", "root.pem", "keys/pck.pem"])
def test_a_broken_installation_is_unreadable(tmp_path: Path, broken: str):
    directory = Installation.create(tmp_path / "place", now=NOW).directory
    (directory / broken).write_bytes(b"rubbish")
    with pytest.raises(FileUnreadable):
        Installation.load(directory)
    (directory / broken).unlink()
    with pytest.raises(FileUnreadable):
        Installation.load(directory)


@pytest.mark.parametrize("device", ["dev/tdx_guest", "dev/sev-guest", "sys/kernel/config/tsm/report"])
def test_simulation_is_refused_beside_a_real_tee(tmp_path: Path, device: str):
    refuse_beside_real_tee(tmp_path)
    (tmp_path / device).mkdir(parents=True)
    with pytest.raises(Refused, match="real"):
        refuse_beside_real_tee(tmp_path)


def test_the_appraisal_expects_what_the_simulator_measures():
    for specification in (None, digest_bytes(b"specification")):
        assert launch_register(specification) == mrconfigid_for(specification).hex()
    image = digest_bytes(b"image")
    assert reference_for(image).registers["mrtd"] == (mrtd_for(image).hex(),)


def test_a_root_directory_holds_one_device(installation: Installation, tmp_path: Path):
    chip = Chip(installation, mrtd=bytes(48))
    with Device(chip, tmp_path), pytest.raises(DeviceUnavailable):
        Device(chip, tmp_path)


def test_registers_of_the_wrong_size_are_refused(installation: Installation):
    with pytest.raises(UsageError):
        Chip(installation, mrtd=bytes(47))
    chip = Chip(installation, mrtd=bytes(48))
    for call in (lambda: chip.extend(4, bytes(48)), lambda: chip.extend(3, bytes(47)), lambda: chip.quote(bytes(63))):
        with pytest.raises(UsageError):
            call()
    assert chip.rtmrs == (bytes(48),) * 4
