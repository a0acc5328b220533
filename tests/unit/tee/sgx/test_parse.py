"""SGX quotes as bytes: exact or unreadable."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dcap_qvl
import pytest
from dcap_world import DATA
from hypothesis import given, settings
from hypothesis import strategies as st

from strongroom.errors import MalformedEvidence, Unreadable
from strongroom.tee.sgx import parse_quote, trim

REAL = ("v3_00a067_config_and_swhardening.quote", "v3_00606a_DEBUG_occlum.quote")


def test_every_truncation_is_unreadable(place: Any):
    quote = place.quote
    for length in [*range(1100), *range(1100, len(quote), 13), len(quote) - 1]:
        with pytest.raises(Unreadable):
            parse_quote(quote[:length])


def test_trailing_bytes_are_unreadable(place: Any):
    for tail in (b"\0", b"x", bytes(70), place.quote):
        with pytest.raises(Unreadable):
            parse_quote(place.quote + tail)


@pytest.mark.parametrize(
    ("offset", "value"),
    [(0, 4), (0, 2), (2, 3), (4, 0x81), (432, 0xFF), (1012, 33), (1046, 4), (1046, 6), (1046, 7), (1048, 0)],
    ids=["TDX", "EPID", "P-384", "TEE", "size", "auth", "bare PCK", "wrapped", "manifest", "chain size"],
)
def test_what_is_not_understood_is_unreadable(place: Any, offset: int, value: int):
    quote = bytearray(place.quote)
    assert quote[offset] != value
    quote[offset] = value
    with pytest.raises(MalformedEvidence):
        parse_quote(bytes(quote))


def test_an_oversize_quote_is_refused_before_it_is_read():
    with pytest.raises(MalformedEvidence, match="limit"):
        parse_quote(bytes(20_000))


def named(kind: int, size: int, place: Any) -> bytes:
    """A quote that names its platform by certification data of this type and size."""
    quote = place.quote
    content = quote[436:1046] + kind.to_bytes(2, "little") + size.to_bytes(4, "little") + bytes(size)
    return quote[:432] + len(content).to_bytes(4, "little") + content


@pytest.mark.parametrize(("kind", "ppid"), [(1, 16), (2, 256), (3, 384)])
def test_a_platform_may_be_named_by_ppid_in_the_clear_or_encrypted(place: Any, kind: int, ppid: int):
    for size in (ppid + 18, ppid + 20):
        assert parse_quote(named(kind, size, place)).pck_chain == ""
    for size in (0, ppid, ppid + 17, ppid + 19, ppid + 21):
        with pytest.raises(MalformedEvidence):
            parse_quote(named(kind, size, place))


@pytest.mark.parametrize("content", [b"", b"\0", b"\xff\xfe"])
def test_a_chain_of_nothing_or_of_no_text_is_unreadable(place: Any, content: bytes):
    quote = named(5, len(content), place)
    with pytest.raises(MalformedEvidence):
        parse_quote(quote[: len(quote) - len(content)] + content)


def test_fields_are_those_that_another_parser_reads(vectors: Path, place: Any):
    for data in (*((vectors / name).read_bytes() for name in REAL), place.quote):
        ours, theirs = parse_quote(data), dcap_qvl.parse_quote(data)
        report = theirs.report
        assert (ours.header.version, ours.header.tee_type) == (theirs.header.version, theirs.header.tee_type)
        assert (ours.body.mrenclave, ours.body.mrsigner) == (bytes(report.mr_enclave), bytes(report.mr_signer))
        assert ours.body.attributes == bytes(report.attributes)
        assert ours.body.reportdata == bytes(report.report_data)


def test_trim_takes_zeros_only(place: Any):
    quote = place.quote
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
    quote = bytearray(place.enclave.quote(DATA))
    for _ in range(data.draw(st.integers(1, 4))):
        quote[data.draw(st.integers(0, len(quote) - 1))] = data.draw(st.integers(0, 255))
    try:
        parsed = parse_quote(bytes(quote))
    except Unreadable:
        return
    assert bytes(quote).startswith(parsed.signed)
