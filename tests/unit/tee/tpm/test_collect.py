"""The collector against a simulated TPM's device, and against devices that are absent, silent or talk nonsense."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from strongroom.errors import DeviceUnavailable, UsageError
from strongroom.tee.tpm import Collector, detect, parse_quote, verify
from strongroom.tee.tpm.collect import EVENT_LOG, REGISTERS
from strongroom.tee.tpm.device import DEVICE, Channel, open_device
from strongroom_sim.tpm import Tpm
from strongroom_sim.tpm_wire import TpmDevice, Wire

from .conftest import NOW, QUALIFYING


@pytest.fixture
def root(place: Any, tmp_path: Path) -> Iterator[Path]:
    """A root directory with a live simulated TPM."""
    stop = threading.Event()
    with TpmDevice(place.tpm, tmp_path) as device:
        thread = threading.Thread(target=device.serve, args=(stop.is_set,))
        thread.start()
        yield tmp_path
        stop.set()
        thread.join()


def test_a_quote_is_over_our_data_and_verifies(place: Any, root: Path):
    quote = parse_quote(Collector(root).quote(QUALIFYING))
    genuine = verify(quote, place.collateral, place.anchors, NOW)
    assert genuine.holds
    assert genuine.claims["report_data"] == QUALIFYING.hex()
    assert {f"pcr{index}" for index in REGISTERS} <= genuine.claims.keys()
    assert not {"pcr16", "pcr23"} & genuine.claims.keys()


def test_an_extension_is_in_the_next_quote(root: Path):
    before = parse_quote(Collector(root).quote(QUALIFYING)).pcrs["sha256"][15]
    Collector(root).extend(15, b"\1" * 32)
    import hashlib

    after = parse_quote(Collector(root).quote(QUALIFYING)).pcrs["sha256"][15]
    assert after == hashlib.sha256(before + b"\1" * 32).digest()


def test_the_keys_of_an_enrolment_come_with_the_endorsement_certificate(place: Any, root: Path):
    certificate, _, ak = Collector(root).keys()
    assert certificate == place.tpm.nv[0x01C00002]
    assert ak == place.tpm.ak_public
    assert Collector(root).keys("ecc")[0] == place.tpm.nv[0x01C0000A]


def test_googles_key_is_used_only_where_it_is(place: Any, root: Path):
    assert Collector(root).ak_certificate() == b""
    assert Collector(root, ak="google-rsa").ak_certificate() == b""
    with pytest.raises(DeviceUnavailable, match="Google"):
        Collector(root, ak="google-ecc").quote(QUALIFYING)
    from strongroom.tee.tpm.commands import AK_ECC

    machine = Tpm(place.maker, NOW)
    machine.nv |= {0x01C10002: b"certificate", 0x01C10003: AK_ECC}
    google = Collector(ak="google-ecc", connect=lambda: Wire(machine))
    assert google.ak_certificate() == b"certificate"
    assert parse_quote(google.quote(QUALIFYING)).ak.raw == machine.ak_public


def test_without_a_device_there_is_an_error_and_no_fallback(tmp_path: Path):
    assert detect(tmp_path) is None
    collector = Collector(tmp_path)
    for call in (
        lambda: collector.quote(QUALIFYING),
        lambda: collector.extend(15, bytes(32)),
        collector.keys,
    ):
        with pytest.raises(DeviceUnavailable):
            call()


def test_a_live_device_is_detected(root: Path):
    assert detect(root) == "tpm"


def test_wrong_sizes_registers_and_keys_are_usage_errors(root: Path):
    collector = Collector(root)
    for call in (
        lambda: collector.quote(b""),
        lambda: collector.quote(bytes(65)),
        lambda: collector.quote(QUALIFYING, ()),
        lambda: collector.quote(QUALIFYING, (24,)),
        lambda: collector.extend(15, bytes(31)),
        lambda: collector.extend(16, bytes(32)),
        lambda: collector.extend(0, bytes(32)),
        lambda: collector.keys("dsa"),
        lambda: Collector(root, ak="whatever"),
    ):
        with pytest.raises(UsageError):
            call()


def test_the_event_log_is_read_where_there_is_one(tmp_path: Path):
    collector = Collector(tmp_path)
    assert collector.log() == b""
    path = tmp_path / EVENT_LOG
    path.parent.mkdir(parents=True)
    path.write_bytes(b"events")
    assert collector.log() == b"events"
    path.write_bytes(bytes(1024 * 1024 + 1))
    with pytest.raises(DeviceUnavailable):
        collector.log()
    path.unlink()
    path.mkdir()
    with pytest.raises(DeviceUnavailable):
        collector.log()


class Saying:
    """A transport that answers what it is told to, whatever the command."""

    def __init__(self, answer: bytes) -> None:
        self.answer = answer

    def exchange(self, _: bytes) -> bytes:
        return self.answer

    def close(self) -> None:
        pass


@pytest.mark.parametrize(
    "answer",
    [
        bytes.fromhex("80010000000a00000101"),
        bytes.fromhex("80020000000a00000000"),
        bytes.fromhex("80010000000a00000000"),
        bytes.fromhex("80020000001480000000ffffffffffff00000000")[:6] + bytes(14),
        bytes.fromhex("80010000000a00000922"),
    ],
)
def test_a_tpm_that_refuses_or_talks_nonsense_is_an_error(answer: bytes):
    collector = Collector(connect=lambda: Saying(answer))
    for call in (lambda: collector.quote(QUALIFYING), collector.keys):
        with pytest.raises(DeviceUnavailable):
            call()
    if len(answer) == 10:
        with pytest.raises(DeviceUnavailable):
            collector.extend(15, bytes(32))


class Restless(Wire):
    """A TPM whose registers change between being read and being quoted."""

    def __init__(self, tpm: Tpm, times: int) -> None:
        super().__init__(tpm)
        self.tpm, self.times = tpm, times

    def exchange(self, command: bytes) -> bytes:
        if command[6:10] == bytes.fromhex("00000158") and self.times:
            self.times -= 1
            self.tpm.extend(8, "sha256", bytes(32))
        return super().exchange(command)


def test_registers_that_change_while_they_are_quoted_are_asked_for_again(place: Any):
    tpm = Tpm(place.maker, NOW)
    quote = Collector(connect=lambda: Restless(tpm, 2)).quote(QUALIFYING)
    assert verify(parse_quote(quote), tpm.ak_collateral(NOW), place.anchors, NOW).holds
    with pytest.raises(DeviceUnavailable, match="keep changing"):
        Collector(connect=lambda: Restless(tpm, 100)).quote(QUALIFYING)


class Alike(Wire):
    """A TPM whose registers change while they are read, eight at a time."""

    reads = 0

    def exchange(self, command: bytes) -> bytes:
        if command[6:10] == bytes.fromhex("0000017e"):
            self.reads += 1
            if self.reads == 2:
                self._tpm.extend(0, "sha256", bytes(32))
        return super().exchange(command)


def test_registers_that_change_while_they_are_read_are_read_again(place: Any):
    tpm = Tpm(place.maker, NOW)
    quote = parse_quote(Collector(connect=lambda: Alike(tpm)).quote(QUALIFYING))
    assert quote.pcrs["sha256"][0] == tpm.pcrs["sha256"][0]


def test_a_dead_or_silent_device_is_an_error_in_time(tmp_path: Path):
    (tmp_path / "dev").mkdir()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server:
        server.bind(str(tmp_path / DEVICE))
        with pytest.raises(DeviceUnavailable):
            open_device(tmp_path)
        server.listen()
        with pytest.raises(DeviceUnavailable, match="did not answer"):
            Collector(tmp_path, timeout=0.05).quote(QUALIFYING)


@pytest.mark.parametrize(
    "answer",
    [b"", b"\x80\x01\0\0\0\x0a", bytes.fromhex("80010000000a00000000") * 2, b"\x80\x01\0\xff\xff\xff" + bytes(9000)],
)
def test_a_channel_takes_one_whole_response(answer: bytes):
    ours, theirs = socket.socketpair()
    channel = Channel(ours.detach(), timeout=1)
    theirs.sendall(answer)
    theirs.shutdown(socket.SHUT_WR)
    with pytest.raises(DeviceUnavailable):
        channel.exchange(b"command")
    channel.close()
    theirs.close()
