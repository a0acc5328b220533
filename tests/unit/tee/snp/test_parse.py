"""Reports as bytes: exact or unreadable."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strongroom.errors import MalformedEvidence, Unreadable
from strongroom.tee.snp import parse_report
from strongroom.tee.snp.parse import REPORT_BYTES, Version

DATA = bytes(range(64))


def test_every_other_length_is_unreadable(place: Any):
    report = place.chip.report(DATA)
    assert len(report) == REPORT_BYTES
    for length in range(0, REPORT_BYTES, 7):
        with pytest.raises(MalformedEvidence):
            parse_report(report[:length])
    for tail in (b"\0", bytes(16), report):
        with pytest.raises(MalformedEvidence):
            parse_report(report + tail)


@pytest.mark.parametrize("version", [0, 1, 4, 6, 0x0200_0000])
def test_an_unknown_version_is_unreadable(place: Any, version: int):
    report = place.chip.report(DATA)
    with pytest.raises(MalformedEvidence, match="version"):
        parse_report(version.to_bytes(4, "little") + report[4:])


@pytest.mark.parametrize("offset", [0x2A0 + 48, 0x2A0 + 71, 0x2A0 + 72 + 48, 0x2A0 + 143, 0x2A0 + 144, 1183])
def test_padding_that_nobody_signs_must_be_zero(place: Any, offset: int):
    report = bytearray(place.chip.report(DATA))
    assert report[offset] == 0
    report[offset] = 1
    with pytest.raises(MalformedEvidence, match="padded"):
        parse_report(bytes(report))


def test_fields_stand_where_amd_puts_them(vectors: Path):
    report = parse_report((vectors / "v5_turin.report.bin").read_bytes())
    data = (vectors / "v5_turin.report.bin").read_bytes()
    assert (report.version, report.guest_svn, report.policy, report.vmpl) == (5, 2, 0x3001F, 0)
    assert (report.cpuid, report.platform_info, report.signing_key) == ((0x1A, 2, 1), 0x65, 0)
    assert report.report_data == data[0x50:0x90]
    assert report.measurement == data[0x90:0xC0]
    assert report.host_data == data[0xC0:0xE0]
    assert report.id_key_digest == data[0xE0:0x110]
    assert report.author_key_digest == data[0x110:0x140]
    assert (report.report_id, report.report_id_ma) == (data[0x140:0x160], data[0x160:0x180])
    assert report.reported_tcb == data[0x180:0x188]
    assert report.chip_id == data[0x1A0:0x1E0]
    assert (report.committed_tcb, report.launch_tcb) == (data[0x1E0:0x1E8], data[0x1F0:0x1F8])
    assert (report.current_version, report.committed_version) == (Version(1, 55, 65), Version(1, 55, 65))
    assert (report.launch_mitigations, report.current_mitigations) == (0x3F, 0x3F)
    assert (report.signed, report.reserved) == (data[:0x2A0], bytes(len(report.reserved)))
    assert report.r == int.from_bytes(data[0x2A0:0x2D0], "little")


def test_older_versions_have_neither_cpuid_nor_mitigations(place: Any):
    old, newer = (parse_report(place.make(version=version)[0].report(DATA)) for version in (2, 3))
    assert (old.cpuid, old.launch_mitigations, old.current_mitigations) == (None, None, None)
    assert newer.cpuid is not None
    assert newer.current_mitigations is None
    assert len(old.reserved) == 4 + 21 + 1 + 1 + 152 + 3 + 16


def test_versions_are_ordered_by_all_their_numbers():
    assert str(Version(1, 55, 22)) == "1.55.22"
    assert Version(1, 55, 22).reaches((1, 55, 22))
    assert Version(2, 0, 0).reaches((1, 55, 22))
    assert not Version(1, 54, 99).reaches((1, 55, 22))
    assert not Version(1, 55, 21).reaches((1, 55, 22))


@settings(max_examples=100, deadline=None)
@given(st.one_of(st.binary(max_size=64), st.binary(min_size=REPORT_BYTES, max_size=REPORT_BYTES)))
def test_any_bytes_parse_or_are_unreadable(data: bytes):
    try:
        parsed = parse_report(data)
    except Unreadable:
        return
    assert data.startswith(parsed.signed)
