"""Quotes as bytes: exact or unreadable."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dcap_qvl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strongroom.errors import MalformedEvidence, Unreadable
from strongroom.tee.tdx import parse_quote
from strongroom.tee.tdx.parse import trim

DATA = bytes(range(64))
QUOTE_4, QUOTE_5 = "v4_b0c06f_uptodate.quote", "v5_90c06f_servicetd_outofdate.quote"


def test_every_truncation_is_unreadable(place: Any):
    quote = place.chip.quote(DATA)
    for length in [*range(700), *range(700, len(quote), 13), len(quote) - 1]:
        with pytest.raises(Unreadable):
            parse_quote(quote[:length])


def test_trailing_bytes_are_unreadable(place: Any):
    quote = place.chip.quote(DATA)
    for tail in (b"\0", b"x", bytes(70), quote):
        with pytest.raises(Unreadable):
            parse_quote(quote + tail)


@pytest.mark.parametrize(
    ("offset", "value"),
    [(0, 3), (0, 6), (2, 3), (4, 0), (632, 0xFF), (764, 5), (1252, 4)],
    ids=["SGX version", "unknown version", "other key", "SGX", "signature size", "bare chain", "encrypted PPID"],
)
def test_what_is_not_understood_is_unreadable(place: Any, offset: int, value: int):
    quote = bytearray(place.chip.quote(DATA))
    assert quote[offset] != value
    quote[offset] = value
    with pytest.raises(MalformedEvidence):
        parse_quote(bytes(quote))


def test_a_version_5_body_of_unknown_type_or_size_is_unreadable(vectors: Path):
    quote = (vectors / QUOTE_5).read_bytes()
    assert quote[48:54] == b"\x03\x00\x88\x02\x00\x00"
    for body in (b"\x01\x00\x88\x02", b"\x04\x00\x88\x02", b"\x02\x00\x88\x02", b"\x03\x00\x48\x02"):
        with pytest.raises(MalformedEvidence):
            parse_quote(quote[:48] + body + quote[52:])


def test_an_oversize_quote_is_refused_before_it_is_read():
    with pytest.raises(MalformedEvidence, match="limit"):
        parse_quote(bytes(20_000))


def test_fields_are_those_that_another_parser_reads(vectors: Path, place: Any):
    for data in (trim((vectors / QUOTE_4).read_bytes()), (vectors / QUOTE_5).read_bytes(), place.chip.quote(DATA)):
        ours, theirs = parse_quote(data), dcap_qvl.parse_quote(data)
        report = theirs.report
        body = ours.body
        assert ours.header.version == theirs.header.version
        assert (body.mrtd, body.mrseam, body.mrconfigid) == (
            bytes(report.mr_td), bytes(report.mr_seam), bytes(report.mr_config_id),
        )  # fmt: skip
        assert (body.rtmr0, body.rtmr3) == (bytes(report.rt_mr0), bytes(report.rt_mr3))
        assert body.reportdata == bytes(report.report_data)
        assert body.tdattributes == bytes(report.td_attributes)
        if body.mrservicetd is not None:
            assert body.mrservicetd == bytes(report.mr_service_td)


def test_trim_takes_zeros_only(place: Any):
    quote = place.chip.quote(DATA)
    assert trim(quote) == trim(quote + bytes(70)) == quote
    for tail in (b"x", bytes(69) + b"x"):
        with pytest.raises(MalformedEvidence):
            trim(quote + tail)


@settings(max_examples=50, deadline=None)
@given(st.binary(max_size=2000))
def test_any_bytes_end_in_unreadable(data: bytes):
    for read in (parse_quote, trim):
        with pytest.raises(Unreadable):
            read(data)


@settings(max_examples=50, deadline=None)
@given(data=st.data())
def test_a_changed_quote_parses_or_is_unreadable(place: Any, data: st.DataObject):
    quote = bytearray(place.chip.quote(DATA))
    for _ in range(data.draw(st.integers(1, 4))):
        quote[data.draw(st.integers(0, len(quote) - 1))] = data.draw(st.integers(0, 255))
    try:
        parsed = parse_quote(bytes(quote))
    except Unreadable:
        return
    assert bytes(quote).startswith(parsed.signed)
