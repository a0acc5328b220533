"""The SGX extension: read exactly, refused otherwise; and what real certificates say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dcap_qvl
import pytest
from cryptography import x509 as certificates
from hypothesis import given, settings
from hypothesis import strategies as st

from strongroom.crypto import x509
from strongroom.errors import MalformedEvidence
from strongroom.tee import sgx
from strongroom.tee.dcap.pck import SGX_EXTENSION, parse_extension
from strongroom.tee.tdx import parse_quote
from strongroom.tee.tdx.parse import trim


class Fake:
    """A certificate with nothing but an SGX extension."""

    def __init__(self, value: bytes | None) -> None:
        found = [] if value is None else [
            certificates.Extension(SGX_EXTENSION, critical=False, value=certificates.UnrecognizedExtension(SGX_EXTENSION, value))
        ]  # fmt: skip
        self.extensions = certificates.Extensions(found)


def read(value: bytes | None) -> Any:
    return parse_extension(Fake(value))  # type: ignore[arg-type]


@pytest.fixture(scope="session")
def good(place: Any) -> bytes:
    extension = place.installation.certificates["pck"].extensions.get_extension_for_oid(SGX_EXTENSION)
    return extension.value.value


def test_a_real_extension_reads_as_another_reader_does(vectors: Path):
    quote = parse_quote(trim((vectors / "tdx" / "v4_b0c06f_uptodate.quote").read_bytes()))
    ours = parse_extension(x509.load_chain(quote.pck_chain)[0])
    theirs = dcap_qvl.parse_pck_extension_from_pem(quote.pck_chain.encode())
    assert (ours.fmspc, ours.ppid) == (bytes(theirs.fmspc), bytes(theirs.ppid))
    assert ours.fmspc.hex() == "b0c06f000000"
    assert (ours.components, ours.pcesvn) == ((3, 3, 2, 2, 4, 1, 0, 5, *(0,) * 8), 11)
    assert ours.platform_instance_id == bytes.fromhex("07828474603e7019dc930775ffe8cdd2")
    assert ours.sgx_type == theirs.sgx_type
    flags = (ours.dynamic_platform, ours.cached_keys, ours.smt_enabled)
    assert flags == tuple(theirs.get_value(f"1.2.840.113741.1.13.1.7.{member}") == b"\xff" for member in (1, 2, 3))


def test_a_processor_cas_certificate_states_no_instance_and_no_configuration(vectors: Path):
    quote = sgx.parse_quote((vectors / "sgx" / "v3_00a067_config_and_swhardening.quote").read_bytes())
    found = parse_extension(x509.load_chain(quote.pck_chain)[0])
    assert found.platform_instance_id is None
    assert (found.dynamic_platform, found.cached_keys, found.smt_enabled) == (None, None, None)


@pytest.mark.parametrize("value", [b"\x01", b"\x80", b"", b"\xff\xff"])
def test_a_truth_value_that_is_neither_true_nor_false_is_refused(good: bytes, value: bytes):
    name = bytes.fromhex("060b2a864886f84d010d010703")  # SMT
    old = element(0x30, name + element(1, b"\x00"))
    assert good.endswith(old)
    with pytest.raises(MalformedEvidence):
        read(good[: -len(old)] + element(0x30, name + element(1, value)))


def test_what_the_simulator_writes_is_what_is_read(place: Any, good: bytes):
    found, platform = read(good), place.installation.platform
    assert (found.ppid, found.fmspc, found.components) == (platform.ppid, platform.fmspc, platform.components)


def test_a_certificate_without_the_extension_is_refused():
    with pytest.raises(MalformedEvidence, match="no SGX extension"):
        read(None)


def test_truncation_and_trailing_bytes_are_refused(good: bytes):
    for length in range(len(good)):
        with pytest.raises(MalformedEvidence):
            read(good[:length])
    with pytest.raises(MalformedEvidence):
        read(good + b"\0")


def element(tag: int, content: bytes) -> bytes:
    assert len(content) < 0x80
    return bytes([tag, len(content)]) + content


def test_a_member_twice_is_refused(good: bytes):
    ppid = good[4 : 4 + 32]
    assert ppid[:2] == b"\x30\x1e"
    body = ppid + good[4:]
    with pytest.raises(MalformedEvidence, match="twice"):
        read(b"\x30\x82" + len(body).to_bytes(2, "big") + body)


@pytest.mark.parametrize("number", [b"", b"\x00\x05", b"\xff", b"\x01\x00\x00", b"\x01\x00"])
def test_a_number_out_of_range_or_not_in_its_shortest_form_is_refused(good: bytes, number: bytes):
    name = bytes.fromhex("060b2a864886f84d010d010201")  # the first component
    start = good.index(b"\x30\x10" + name)
    pair = element(0x30, name + element(2, number))
    tcb_content = good[start : start + 0x153].replace(good[start : start + 18], pair, 1)
    tcb_name = bytes.fromhex("060a2a864886f84d010d0102")
    tcb = b"\x30\x82" + len(tcb_content).to_bytes(2, "big") + tcb_content
    member = b"\x30\x82" + (len(tcb_name) + len(tcb)).to_bytes(2, "big") + tcb_name + tcb
    body = good[4 : 4 + 32] + member + good[start + len(good[start : start + 0x153]) :]
    with pytest.raises(MalformedEvidence):
        read(b"\x30\x82" + len(body).to_bytes(2, "big") + body)


@settings(max_examples=50, deadline=None)
@given(position=st.integers(0, 2000), value=st.integers(0, 255))
def test_a_changed_byte_never_crashes_the_reader(good: bytes, position: int, value: int):
    changed = bytearray(good)
    changed[position % len(good)] = value
    try:
        found = read(bytes(changed))
    except MalformedEvidence:
        return
    assert len(found.components) == 16
