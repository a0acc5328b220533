"""The collector against a chip's interface, and against interfaces that are absent, dead, shared or lying."""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from strongroom.errors import DeviceUnavailable, UsageError
from strongroom.records.evidence import Event
from strongroom.tee import configfs
from strongroom.tee.tdx import Collector, detect, parse_quote, replay
from strongroom_sim import Chip
from strongroom_sim.abi import Device

DATA = bytes(range(64))
ENTRY = Path("sys/kernel/config/tsm/report/strongroom")


@pytest.fixture
def root(place: Any, tmp_path: Path) -> Iterator[Path]:
    """A root directory with a live simulated TD."""
    stop = threading.Event()
    with Device(Chip(place.installation, mrtd=bytes(48)), tmp_path) as device:
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
    for name, content in {"provider": b"tdx_guest\n", "generation": b"7\n", "inblob": b"", "outblob": b""}.items():
        (entry / name).write_bytes(content)
    return tmp_path


def test_a_quote_is_over_our_data_and_verifies(place: Any, root: Path):
    quote = Collector(root).quote(DATA)
    genuine = place.judge(quote)
    assert genuine.tcb_status == "UpToDate"
    assert genuine.claims["report_data"] == DATA.hex()


def test_extensions_are_in_the_next_quote_in_their_order(root: Path):
    collector = Collector(root)
    events = [Event("workload", "a"), Event("artifact", "b"), Event("configuration", "c")]
    for event in events:
        collector.extend(3, event.measurement)
    assert parse_quote(collector.quote(DATA)).body.rtmr3 == replay(events)


def test_many_quotes_one_after_another_by_several_workers(root: Path):
    for number in range(20):
        data = bytes([number]) * 64
        assert parse_quote(Collector(root).quote(data)).body.reportdata == data


def test_without_a_device_there_is_an_error_and_no_fallback(tmp_path: Path):
    assert detect(tmp_path) is None
    for call in (lambda: Collector(tmp_path).quote(DATA), lambda: Collector(tmp_path).extend(3, bytes(48))):
        with pytest.raises(DeviceUnavailable):
            call()


def test_a_live_device_is_detected(root: Path):
    assert detect(root) == "tdx"


def test_a_dead_chip_is_an_error_at_once(place: Any, tmp_path: Path):
    Device(Chip(place.installation, mrtd=bytes(48)), tmp_path).close()
    with pytest.raises(DeviceUnavailable):
        Collector(tmp_path).quote(DATA)
    with pytest.raises(DeviceUnavailable):
        Collector(tmp_path).extend(3, bytes(48))


def test_a_chip_that_hangs_is_an_error_in_time(place: Any, tmp_path: Path):
    with Device(Chip(place.installation, mrtd=bytes(48)), tmp_path), pytest.raises(DeviceUnavailable, match="answer"):
        Collector(tmp_path, timeout=0.05).quote(DATA)


def test_an_empty_quote_is_an_error(regular: Path):
    with pytest.raises(DeviceUnavailable):
        Collector(regular).quote(DATA)


@pytest.mark.parametrize(
    ("name", "content"),
    [("provider", b"sev_guest\n"), ("provider", b""), ("generation", b"none\n"), ("generation", b"x" * 5000)],
)
def test_another_provider_or_an_unreadable_count_is_an_error(regular: Path, name: str, content: bytes):
    (regular / ENTRY / name).write_bytes(content)
    with pytest.raises(DeviceUnavailable):
        Collector(regular).quote(DATA)


def test_an_entry_that_somebody_else_uses_is_an_error(place: Any, regular: Path):
    """The count stands still here; one that jumps would look the same: not exactly one more."""
    (regular / ENTRY / "outblob").write_bytes(place.chip.quote(DATA))
    with pytest.raises(DeviceUnavailable, match="somebody else"):
        Collector(regular).quote(DATA)


@pytest.fixture
def counting(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel that counts one up at each look."""
    count = itertools.count(1)
    monkeypatch.setattr(configfs.ReportEntry, "_generation", lambda _: next(count))


@pytest.mark.usefixtures("counting")
@pytest.mark.parametrize("blob", [b"", b"not a quote", bytes(5006)])
def test_a_device_that_gives_no_quote_is_an_error(regular: Path, blob: bytes):
    (regular / ENTRY / "outblob").write_bytes(blob)
    with pytest.raises(DeviceUnavailable):
        Collector(regular).quote(DATA)


@pytest.mark.usefixtures("counting")
def test_a_quote_over_other_data_is_an_error(place: Any, regular: Path):
    (regular / ENTRY / "outblob").write_bytes(place.chip.quote(bytes(64)))
    with pytest.raises(DeviceUnavailable, match="other data"):
        Collector(regular).quote(DATA)


@pytest.mark.usefixtures("counting")
def test_another_guests_quote_is_thrown_away_and_ours_is_asked_for_again(
    place: Any, regular: Path, monkeypatch: pytest.MonkeyPatch
):
    """The device hands out a dead neighbour's quote first, as a pipe may."""
    quote, plain = place.chip.quote(DATA), configfs.read
    quotes = [place.chip.quote(bytes(64)), quote]
    monkeypatch.setattr(configfs, "read", lambda path, *w: quotes.pop(0) if path.name == "outblob" else plain(path, *w))
    assert Collector(regular).quote(DATA) == quote


@pytest.mark.usefixtures("counting")
def test_the_zeros_behind_a_devices_quote_are_not_part_of_it(place: Any, regular: Path):
    quote = place.chip.quote(DATA)
    (regular / ENTRY / "outblob").write_bytes(quote + bytes(70))
    assert Collector(regular).quote(DATA) == quote


def test_wrong_sizes_and_registers_are_usage_errors(root: Path):
    collector = Collector(root)
    for call in (
        lambda: collector.quote(bytes(63)),
        lambda: collector.extend(3, bytes(47)),
        lambda: collector.extend(0, bytes(48)),
        lambda: collector.extend(4, bytes(48)),
    ):
        with pytest.raises(UsageError):
            call()


class Slow(Chip):
    """A chip that takes long enough over its first quote for one guest to die and for another one to ask."""

    meanwhile: Any = None

    def quote(self, report_data: bytes) -> bytes:
        quote = super().quote(report_data)
        if self.meanwhile:
            self.meanwhile, call = None, self.meanwhile
            call()
        return quote


def test_a_guest_gets_its_own_quote_if_it_asks_while_the_chip_signs_for_a_dead_one(place: Any, tmp_path: Path):
    chip = Slow(place.installation, mrtd=bytes(48))
    with Device(chip, tmp_path) as device:
        entry = tmp_path / ENTRY
        dying = os.open(entry / "outblob", os.O_RDONLY | os.O_NONBLOCK)
        (entry / "inblob").write_bytes(bytes(64))
        readers: list[int] = []

        def meanwhile() -> None:
            os.close(dying)
            (entry / "inblob").write_bytes(DATA)
            readers.append(os.open(entry / "outblob", os.O_RDONLY | os.O_NONBLOCK))

        chip.meanwhile = meanwhile
        device.step()
        assert parse_quote(os.read(readers[0], 65536)).body.reportdata == DATA
        os.close(readers[0])


def test_a_guest_that_asked_and_died_does_not_disturb_the_next(root: Path):
    """What is left of it is a request whose quote nobody fetched."""
    for rubbish in (bytes(64), bytes(64) * 3, b"half a request"):
        descriptor = os.open(root / ENTRY / "inblob", os.O_WRONLY | os.O_NONBLOCK)
        os.write(descriptor, rubbish)
        os.close(descriptor)
        data = os.urandom(64)
        assert parse_quote(Collector(root).quote(data)).body.reportdata == data
