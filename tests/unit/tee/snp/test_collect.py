"""The collector against a kernel's interfaces, and against ones that are absent, dead, shared or lying; and the host's table."""

from __future__ import annotations

import ctypes
import os
import struct
import threading
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given, settings
from hypothesis import strategies as st

from strongroom.crypto import x509
from strongroom.errors import DeviceUnavailable, MalformedEvidence, UsageError
from strongroom.records.verdict import all_passed
from strongroom.tee.snp import Collector, detect
from strongroom.tee.snp.collect import SNP_GET_REPORT
from strongroom.tee.snp.table import ARK_ENTRY, ASK_ENTRY, VCEK_ENTRY, VLEK_ENTRY, parse_table

DATA = bytes(range(64))
ENTRY = Path("sys/kernel/config/tsm/report/strongroom")
GOOD_ENTRIES = (VCEK_ENTRY, ASK_ENTRY, ARK_ENTRY)


def table_of(*entries: tuple[str, bytes]) -> bytes:
    """A certificate table as a host lays it out."""
    offset = 24 * (len(entries) + 1)
    head, body = b"", b""
    for name, content in entries:
        head += uuid.UUID(name).bytes + struct.pack("<II", offset + len(body), len(content))
        body += content
    return head + bytes(24) + body


def certificates_of(place: Any) -> tuple[bytes, bytes, bytes]:
    """VCEK, ASK and ARK in DER."""
    above = [found.public_bytes(Encoding.DER) for found in x509.load_chain(place.collateral.chain)]
    return place.collateral.leaf, above[0], above[1]


@pytest.fixture
def host_table(place: Any) -> bytes:
    return table_of(*zip(GOOD_ENTRIES, certificates_of(place), strict=True))


class Kernel:
    """An entry of configfs-tsm made of pipes: 64 bytes in, a report and a table out; the generation counts."""

    def __init__(self, root: Path, report: Callable[[bytes], bytes], table: bytes, step: int = 1) -> None:
        self.entry = root / ENTRY
        self.entry.mkdir(parents=True)
        (self.entry / "provider").write_text("sev_guest\n")
        (self.entry / "generation").write_text("7\n")
        for pipe in ("inblob", "outblob"):
            os.mkfifo(self.entry / pipe)
        (self.entry / "auxblob").write_bytes(table)
        self.report, self.step, self.generation = report, step, 7
        self.inblob = os.open(self.entry / "inblob", os.O_RDWR)
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self) -> None:
        while len(asked := os.read(self.inblob, 64)) == 64:
            self.generation += self.step
            (self.entry / ".generation").write_text(f"{self.generation}\n")
            (self.entry / ".generation").replace(self.entry / "generation")
            with (self.entry / "outblob").open("wb") as outblob:
                outblob.write(self.report(asked))

    def close(self) -> None:
        os.write(self.inblob, b"end")


@pytest.fixture
def kernel(tmp_path: Path) -> Iterator[Callable[..., Collector]]:
    started: list[Kernel] = []

    def start(report: Callable[[bytes], bytes], table: bytes = b"", step: int = 1) -> Collector:
        started.append(Kernel(tmp_path, report, table, step))
        return Collector(tmp_path, timeout=5)

    yield start
    for each in started:
        each.close()


def test_a_report_is_over_our_data_and_verifies_with_the_hosts_certificates(place: Any, kernel: Any, host_table: bytes):
    found = kernel(place.chip.report, host_table).collect(DATA)
    assert found.collateral == replace(place.collateral, crl=b"")
    genuine = place.judge(found.report, replace(found.collateral, crl=place.collateral.crl))
    assert all_passed(genuine.checks)
    assert genuine.claims["report_data"] == DATA.hex()


def test_a_host_may_offer_nothing_or_too_little(place: Any, kernel: Any):
    assert kernel(place.chip.report).collect(DATA).collateral is None


def test_a_vlek_is_taken_for_a_report_that_it_signed(place: Any, kernel: Any):
    chip, collateral = place.make(vlek=True)
    above = [found.public_bytes(Encoding.DER) for found in x509.load_chain(collateral.chain)]
    table = table_of(
        (VCEK_ENTRY, place.collateral.leaf), (VLEK_ENTRY, collateral.leaf), (ASK_ENTRY, above[0]), (ARK_ENTRY, above[1])
    )
    assert kernel(chip.report, table).collect(DATA).collateral == replace(collateral, crl=b"")


def test_many_reports_one_after_another(place: Any, kernel: Any):
    collector = kernel(place.chip.report)
    for number in range(10):
        data = bytes([number]) * 64
        assert collector.quote(data)[0x50:0x90] == data


@pytest.mark.parametrize("report", [lambda _: b"", lambda _: bytes(1184), lambda data: data * 10])
def test_something_that_is_no_report_is_an_error(kernel: Any, report: Callable[[bytes], bytes]):
    with pytest.raises(DeviceUnavailable, match=r"no report|empty report"):
        kernel(report).quote(DATA)


def test_a_report_over_other_data_is_an_error(place: Any, kernel: Any):
    with pytest.raises(DeviceUnavailable, match="other data"):
        kernel(lambda _: place.chip.report(bytes(64))).quote(DATA)


def test_an_entry_that_somebody_else_uses_is_an_error(place: Any, kernel: Any):
    with pytest.raises(DeviceUnavailable, match="somebody else"):
        kernel(place.chip.report, step=2).quote(DATA)


def test_a_table_that_cannot_be_read_is_an_error(place: Any, kernel: Any):
    with pytest.raises(DeviceUnavailable, match="table"):
        kernel(place.chip.report, b"x" * 24).collect(DATA)


def test_an_entry_of_another_tee_or_without_a_count_is_an_error(tmp_path: Path):
    entry = tmp_path / ENTRY
    entry.mkdir(parents=True)
    for name, content in {"provider": b"tdx_guest\n", "generation": b"x\n", "inblob": b"", "outblob": b""}.items():
        (entry / name).write_bytes(content)
    with pytest.raises(DeviceUnavailable, match="not of sev_guest"):
        Collector(tmp_path).quote(DATA)
    (entry / "provider").write_bytes(b"sev_guest\n")
    with pytest.raises(DeviceUnavailable, match="generations"):
        Collector(tmp_path).quote(DATA)


def test_without_a_device_there_is_an_error_and_no_fallback(tmp_path: Path):
    assert detect(tmp_path) is None
    with pytest.raises(DeviceUnavailable):
        Collector(tmp_path).quote(DATA)


def test_a_dead_entry_is_an_error_and_the_device_does_not_stand_in(place: Any, tmp_path: Path):
    (tmp_path / ENTRY.parent).mkdir(parents=True)
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev/sev-guest").touch()
    with pytest.raises(DeviceUnavailable):
        Collector(tmp_path, ioctl=firmware(place.chip.report)).quote(DATA)


def firmware(report: Callable[[bytes], bytes], status: int = 0, size: int = 1184) -> Any:
    """SNP_GET_REPORT as the driver does it: reads and writes through the addresses in the request."""

    def ioctl(_: int, number: int, argument: bytearray) -> int:
        assert number == SNP_GET_REPORT
        version, request, response, _error = struct.unpack("<B7xQQQ", argument)
        assert version == 1
        asked = ctypes.string_at(request, 96)
        assert asked[64:] == bytes(32)
        answer = struct.pack("<II24x", status, size) + report(asked[:64])
        ctypes.memmove(response, answer, len(answer))
        return 0

    return ioctl


@pytest.fixture
def device(tmp_path: Path) -> Path:
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev/sev-guest").touch()
    return tmp_path


def test_the_older_interface_serves_where_configfs_is_absent(place: Any, device: Path):
    assert detect(device) == "snp"
    collector = Collector(device, ioctl=firmware(place.chip.report))
    assert all_passed(place.judge(collector.quote(DATA)).checks)
    assert collector.collect(DATA).collateral is None


@pytest.mark.parametrize(("status", "size"), [(0x16, 1184), (0, 0), (0, 1183), (0, 4000)])
def test_firmware_that_gives_no_report_is_an_error(place: Any, device: Path, status: int, size: int):
    with pytest.raises(DeviceUnavailable, match="firmware"):
        Collector(device, ioctl=firmware(place.chip.report, status, size)).quote(DATA)


def test_a_device_that_is_none_is_an_error(device: Path):
    with pytest.raises(DeviceUnavailable):
        Collector(device).quote(DATA)


@pytest.mark.parametrize("length", [0, 63, 65])
def test_report_data_of_another_size_is_the_callers_fault(tmp_path: Path, length: int):
    with pytest.raises(UsageError):
        Collector(tmp_path).quote(bytes(length))


def test_a_table_in_pem_is_read_as_well(place: Any, host_table: bytes):
    leaf, ask, ark = certificates_of(place)
    pem = x509.load_certificate(ark).public_bytes(Encoding.PEM)
    for text in (pem, pem.replace(b"\n", b"\r\n")):
        mixed = table_of((VCEK_ENTRY, leaf), (ASK_ENTRY, ask), (ARK_ENTRY, text))
        assert parse_table(mixed) == parse_table(host_table)


def test_a_table_may_be_empty_and_entries_of_others_are_skipped(place: Any, host_table: bytes):
    leaf, ask, ark = certificates_of(place)
    for empty in (b"", bytes(24), bytes(4096)):
        assert parse_table(empty).vcek is None
    other = (str(uuid.UUID(int=5)), b"something")
    assert parse_table(table_of((VCEK_ENTRY, leaf), other, (ASK_ENTRY, ask), (ARK_ENTRY, ark))) == parse_table(
        host_table
    )
    assert parse_table(table_of((VCEK_ENTRY, leaf))).collateral(vlek=False) is None
    assert parse_table(host_table).collateral(vlek=True) is None


def test_a_table_that_lies_about_itself_is_refused(place: Any, host_table: bytes):
    leaf, _, _ = certificates_of(place)
    outside = host_table[:16] + struct.pack("<II", 96, 1 << 20) + host_table[24:]
    inside = host_table[:16] + struct.pack("<II", 0, 96) + host_table[24:]
    wrapped = host_table[:16] + struct.pack("<II", 0xFFFF_FFFF, 0xFFFF_FFFF) + host_table[24:]
    twice = table_of((VCEK_ENTRY, leaf), (VCEK_ENTRY, leaf))
    endless = table_of((VCEK_ENTRY, leaf))[:24]
    torn = table_of((VCEK_ENTRY, leaf))[:30]
    bare = table_of((VCEK_ENTRY, b""))
    two = table_of((VCEK_ENTRY, place.collateral.chain.encode()))
    many = table_of(*[(str(uuid.UUID(int=number)), b"") for number in range(1, 40)])
    for table in (outside, inside, wrapped, twice, endless, torn, bare, two, many, bytes(70_000)):
        with pytest.raises(MalformedEvidence):
            parse_table(table)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_are_a_table_or_refused(data: bytes):
    try:
        parse_table(data)
    except MalformedEvidence:
        return
