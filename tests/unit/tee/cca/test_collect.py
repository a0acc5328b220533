"""The collector against a realm's interface, and against interfaces that are absent, dead, shared or lying."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from strongroom.errors import DeviceUnavailable, UsageError
from strongroom.records.verdict import all_passed
from strongroom.tee import configfs
from strongroom.tee.cca import Collector, detect
from strongroom_sim.abi import Device

DATA = bytes(range(64))
ENTRY = Path("sys/kernel/config/tsm/report/strongroom")


@pytest.fixture
def root(place: Any, tmp_path: Path) -> Iterator[Path]:
    """A root directory with a live simulated realm."""
    stop = threading.Event()
    with Device(place.realm, tmp_path) as device:
        (tmp_path / ENTRY / "provider").write_text("arm_cca_guest\n")
        (tmp_path / "sys/module/arm_cca_guest").mkdir(parents=True)
        thread = threading.Thread(target=device.serve, args=(stop.is_set,))
        thread.start()
        yield tmp_path
        stop.set()
        thread.join()


@pytest.fixture
def regular(tmp_path: Path) -> Path:
    """An entry of plain files, as a kernel's look to whoever only reads: nothing happens behind them."""
    entry = tmp_path / ENTRY
    entry.mkdir(parents=True)
    for name, content in {"provider": b"arm_cca_guest\n", "generation": b"7\n", "inblob": b"", "outblob": b""}.items():
        (entry / name).write_bytes(content)
    return tmp_path


def test_a_token_is_over_our_challenge_and_verifies(place: Any, root: Path):
    assert detect(root) == "cca"
    genuine = place.judge(Collector(root).quote(DATA))
    assert all_passed(genuine.checks)
    assert genuine.claims["report_data"] == DATA.hex()


def test_many_tokens_one_after_another(place: Any, root: Path):
    for number in range(5):
        data = bytes([number]) * 64
        assert place.judge(Collector(root).quote(data)).claims["report_data"] == data.hex()


def test_without_a_device_there_is_an_error_and_no_fallback(tmp_path: Path):
    assert detect(tmp_path) is None
    with pytest.raises(DeviceUnavailable):
        Collector(tmp_path).quote(DATA)


def test_the_interface_of_another_tee_is_none_of_a_realm(regular: Path):
    assert detect(regular) is None
    (regular / ENTRY / "provider").write_bytes(b"tdx_guest\n")
    with pytest.raises(DeviceUnavailable, match="arm_cca_guest"):
        Collector(regular).quote(DATA)


def test_a_device_that_hangs_is_an_error_in_time(place: Any, tmp_path: Path):
    with Device(place.realm, tmp_path):
        (tmp_path / ENTRY / "provider").write_text("arm_cca_guest\n")
        with pytest.raises(DeviceUnavailable, match="answer"):
            Collector(tmp_path, timeout=0.05).quote(DATA)


def test_an_unreadable_count_is_an_error(regular: Path):
    for count in (b"none\n", b"x" * 5000):
        (regular / ENTRY / "generation").write_bytes(count)
        with pytest.raises(DeviceUnavailable):
            Collector(regular).quote(DATA)


def test_an_entry_that_somebody_else_uses_is_an_error(place: Any, regular: Path):
    (regular / ENTRY / "outblob").write_bytes(place.realm.quote(DATA))
    with pytest.raises(DeviceUnavailable, match="somebody else"):
        Collector(regular).quote(DATA)


@pytest.fixture
def counting(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel that counts one up at each look."""
    count = itertools.count(1)
    monkeypatch.setattr(configfs.ReportEntry, "_generation", lambda _: next(count))


@pytest.mark.parametrize("blob", [b"", b"not a token", bytes(5000), bytes(40_000)])
@pytest.mark.usefixtures("counting")
def test_a_device_that_gives_no_token_is_an_error(regular: Path, blob: bytes):
    (regular / ENTRY / "outblob").write_bytes(blob)
    with pytest.raises(DeviceUnavailable):
        Collector(regular).quote(DATA)


@pytest.mark.usefixtures("counting")
def test_a_token_over_other_data_is_an_error(place: Any, regular: Path):
    (regular / ENTRY / "outblob").write_bytes(place.realm.quote(bytes(64)))
    with pytest.raises(DeviceUnavailable, match="other data"):
        Collector(regular).quote(DATA)
    (regular / ENTRY / "outblob").write_bytes(place.realm.quote(DATA))
    assert Collector(regular).quote(DATA)


@pytest.mark.parametrize("size", [0, 32, 63, 65])
def test_a_challenge_of_another_size_is_a_usage_error(root: Path, size: int):
    """Linux pads a short one with zeros; ours is never short."""
    with pytest.raises(UsageError):
        Collector(root).quote(bytes(size))
