"""Which TEE a machine has: what is there is found, what is not has no stand-in."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from strongroom.errors import DeviceUnavailable, UsageError
from strongroom.tee.snp import Collector as SnpCollector
from strongroom.tee.tdx import parse_quote
from strongroom.worker.devices import COLLECTORS, find_device
from strongroom_sim import Chip, Installation
from strongroom_sim.abi import Device


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    """A root directory with a live simulated TD."""
    stop = threading.Event()
    installation = Installation.create(tmp_path / "installation", now=1_790_000_000)
    with Device(Chip(installation, mrtd=bytes(48)), tmp_path / "td") as device:
        thread = threading.Thread(target=device.serve, args=(stop.is_set,))
        thread.start()
        yield tmp_path / "td"
        stop.set()
        thread.join()


def test_the_device_that_is_there_is_found_and_answers(root: Path):
    kind, device = find_device(root)
    assert kind == "tdx"
    assert parse_quote(device.quote(bytes(range(64)))).body.reportdata == bytes(range(64))
    assert device.log() == b""


def test_without_a_device_nothing_stands_in(tmp_path: Path):
    with pytest.raises(DeviceUnavailable, match="no TEE"):
        find_device(tmp_path)


@pytest.mark.parametrize("kind", COLLECTORS)
def test_a_kind_that_is_named_is_that_one_or_none(tmp_path: Path, kind: str):
    with pytest.raises(DeviceUnavailable, match=f"no {kind} device"):
        find_device(tmp_path, kind)


def test_another_kind_than_the_one_that_is_there_is_not_taken(root: Path):
    with pytest.raises(DeviceUnavailable):
        find_device(root, "snp")
    with pytest.raises(UsageError):
        find_device(root, "sgx")


def test_a_guest_device_counts_before_a_tpm(tmp_path: Path):
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev/tpmrm0").touch()
    (tmp_path / "dev/sev-guest").touch()
    kind, device = find_device(tmp_path)
    assert kind == "snp"
    assert isinstance(device, SnpCollector)


def test_what_has_no_register_refuses_to_extend_one(tmp_path: Path):
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev/sev-guest").touch()
    with pytest.raises(DeviceUnavailable):
        find_device(tmp_path)[1].extend(3, bytes(48))


def test_the_command_line_collects_in_the_vendors_form(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    import json
    import sys

    from strongroom.cli.main import run

    monkeypatch.chdir(tmp_path)
    words = ["evidence", "collect", "--nonce", "ab" * 64, "--tee-root", str(root), "-o", "quote.bin", "--json"]
    monkeypatch.setattr(sys, "argv", ["strongroom", *words])
    with pytest.raises(SystemExit) as ended:
        run()
    assert ended.value.code == 0
    assert json.loads(capsys.readouterr().out)["kind"] == "tdx"
    assert parse_quote((tmp_path / "quote.bin").read_bytes()).body.reportdata == bytes.fromhex("ab" * 64)
