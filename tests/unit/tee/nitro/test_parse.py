"""Nitro documents as bytes: exactly AWS's fields, or unreadable."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strongroom.crypto import cbor, cose
from strongroom.errors import MalformedEvidence
from strongroom.tee.nitro import parse_document, unwrap
from strongroom.tee.nitro.parse import MAX_DOCUMENT_BYTES

NOW = 1_790_000_000
MISSING = object()
VECTORS = ("prod_2025-12-25.nsm.bin", "DEBUG_2025-12-25.scale.bin", "prod_2022-10-13_pcr8_nonce.cose")


def message(payload: Any, *, unprotected: Any = None) -> bytes:
    """A document around any payload; its signature is nobody's, and a parser does not look."""
    data = payload if isinstance(payload, bytes) else cbor.encode(payload)
    return cbor.encode([cbor.encode({1: -35}), unprotected or {}, data, bytes(96)])


@pytest.fixture(scope="module")
def good(place: Any) -> dict[str, Any]:
    return place.enclave.payload(user_data=bytes(64), nonce=bytes(32), public_key=b"key", now=NOW)


def test_a_document_is_read_field_by_field(good: dict[str, Any]):
    document = parse_document(message(good))
    assert document.module_id == good["module_id"]
    assert document.timestamp == good["timestamp"]
    assert dict(document.pcrs) == good["pcrs"]
    assert [document.certificate, *document.cabundle] == [good["certificate"], *good["cabundle"]]
    assert (document.user_data, document.nonce, document.public_key) == (bytes(64), bytes(32), b"key")


def test_optional_fields_may_be_null_or_absent(good: dict[str, Any]):
    for name in ("user_data", "nonce", "public_key"):
        null = {**good, name: None}
        absent = {field: value for field, value in good.items() if field != name}
        assert getattr(parse_document(message(null)), name) is getattr(parse_document(message(absent)), name) is None
    assert parse_document(message({**good, "user_data": b""})).user_data == b""


WRONG: dict[str, tuple[str, Any]] = {
    "no module": ("module_id", MISSING),
    "an empty module": ("module_id", ""),
    "a module of bytes": ("module_id", b"i-0"),
    "a null module": ("module_id", None),
    "no digest": ("digest", MISSING),
    "another digest": ("digest", "SHA256"),
    "no timestamp": ("timestamp", MISSING),
    "timestamp zero": ("timestamp", 0),
    "a timestamp before 1970": ("timestamp", -1),
    "a timestamp that is true": ("timestamp", True),
    "a timestamp that no clock shows": ("timestamp", 1 << 60),
    "no registers": ("pcrs", MISSING),
    "an empty map of registers": ("pcrs", {}),
    "register 32": ("pcrs", {32: bytes(48)}),
    "register -1": ("pcrs", {-1: bytes(48)}),
    "a register by name": ("pcrs", {"0": bytes(48)}),
    "a register of 47 bytes": ("pcrs", {0: bytes(47)}),
    "an empty register": ("pcrs", {0: b""}),
    "a register of text": ("pcrs", {0: "0" * 48}),
    "registers as an array": ("pcrs", [bytes(48)]),
    "no certificate": ("certificate", MISSING),
    "an empty certificate": ("certificate", b""),
    "a certificate of 1025 bytes": ("certificate", bytes(1025)),
    "no bundle": ("cabundle", MISSING),
    "an empty bundle": ("cabundle", []),
    "a bundle of nine": ("cabundle", [b"x"] * 9),
    "an empty certificate in the bundle": ("cabundle", [b""]),
    "a long certificate in the bundle": ("cabundle", [bytes(1025)]),
    "a bundle of text": ("cabundle", ["x"]),
    "an empty public key": ("public_key", b""),
    "a public key of 1025 bytes": ("public_key", bytes(1025)),
    "user data of 513 bytes": ("user_data", bytes(513)),
    "user data as text": ("user_data", "x"),
    "a nonce of 513 bytes": ("nonce", bytes(513)),
    "a field that AWS does not list": ("extra", 0),
    "registers of a NitroTPM": ("nitrotpm_pcrs", {0: bytes(48)}),
    "a field with a number for a name": (0, 0),  # type: ignore[dict-item]
}


@pytest.mark.parametrize(("name", "value"), WRONG.values(), ids=WRONG.keys())
def test_a_field_outside_its_rule_is_unreadable(good: dict[str, Any], name: str, value: Any):
    changed = {field: old for field, old in good.items() if field != name}
    if value is not MISSING:
        changed[name] = value
    with pytest.raises(MalformedEvidence):
        parse_document(message(changed))


def test_sizes_at_their_limits_are_read(good: dict[str, Any]):
    full = {"public_key": bytes(1024), "user_data": bytes(512), "nonce": bytes(512), "cabundle": [bytes(1024)] * 8}
    registers = {index: bytes(64) for index in range(32)}
    assert len(parse_document(message({**good, **full, "pcrs": registers})).pcrs) == 32


def test_payload_and_message_are_bounded(good: dict[str, Any]):
    with pytest.raises(MalformedEvidence, match="limit"):
        parse_document(message({**good, "filler": bytes(16 * 1024)}))
    with pytest.raises(MalformedEvidence, match="limit"):
        parse_document(bytes(MAX_DOCUMENT_BYTES + 1))
    with pytest.raises(MalformedEvidence, match="empty"):
        parse_document(message(b""))


def test_what_nobody_signed_is_not_carried_along(good: dict[str, Any]):
    with pytest.raises(MalformedEvidence, match="unprotected"):
        parse_document(message(good, unprotected={1: -35}))


def test_the_tag_of_cose_may_be_there(good: dict[str, Any]):
    bare = message(good)
    assert parse_document(b"\xd2" + bare) == parse_document(bare)
    with pytest.raises(MalformedEvidence):
        parse_document(b"\xd8\x62" + bare)


def test_every_truncation_and_every_trailing_byte_is_unreadable(good: dict[str, Any]):
    data = message(good)
    for length in [*range(200), *range(200, len(data), 17), len(data) - 1]:
        with pytest.raises(MalformedEvidence):
            parse_document(data[:length])
    for tail in (b"\0", b"\xf6", data):
        with pytest.raises(MalformedEvidence):
            parse_document(data + tail)


def test_a_register_twice_is_unreadable(good: dict[str, Any]):
    """Two parsers would see two documents."""
    twice = cbor.encode({"0": 0}).replace(
        b"\xa1\x610\x00", b"\xa2\x00\x58\x30" + bytes(48) + b"\x00\x58\x30" + b"\x01" * 48
    )
    data = cbor.encode({**good, "pcrs": {"0": 0}}).replace(b"\xa1\x610\x00", twice)
    with pytest.raises(MalformedEvidence, match="twice"):
        parse_document(message(data))


@pytest.mark.parametrize("name", VECTORS)
def test_real_documents_come_out_of_their_wrappers(vectors: Path, name: str):
    document = unwrap((vectors / name).read_bytes())
    assert document is not None
    assert parse_document(document).module_id.startswith("i-0")
    assert unwrap(document) == document
    assert cose.parse(document).payload == parse_document(document).message.payload


def test_the_answer_of_the_security_module_is_unwrapped(place: Any):
    document = place.enclave.quote(bytes(64), now=NOW)
    assert unwrap(cbor.encode({"Attestation": {"document": document}})) == document
    for answer in (
        {"Attestation": {"document": document, "more": 1}},
        {"Attestation": {}},
        {"Attestation": document},
        {"Attestation": {"document": b""}},
    ):
        with pytest.raises(MalformedEvidence):
            unwrap(cbor.encode(answer))


@pytest.mark.parametrize("name", VECTORS[:2])
def test_a_changed_wrapper_is_unreadable(vectors: Path, name: str):
    data = (vectors / name).read_bytes()
    for wrong in (
        data[:-1],
        data + b"\0",
        data[:3],
        data[:2],
        data[:2] + b"\x03" + data[3:],
        data[:2] + b"\x02" + data[3:],
    ):
        with pytest.raises(MalformedEvidence):
            unwrap(wrong)
    long_form = data[:2] + (int.from_bytes(data[2:4], "little") - 1 + 2 & 0xFFFF_FFFF).to_bytes(4, "little") + data[4:]
    with pytest.raises(MalformedEvidence, match="shortest"):
        unwrap(long_form)


def test_events_in_a_wrapper_are_passed_over(vectors: Path):
    data = (vectors / VECTORS[0]).read_bytes()
    events = b"\x08" + b"\x0cabc" + b"\x08xy" + b"\x00" + b"\x00"
    assert unwrap(data[:-151] + events + data[-150:]) == unwrap(data)
    with pytest.raises(MalformedEvidence, match="events"):
        unwrap(data[:-151] + b"\x05\x01" + data[-150:])


@pytest.mark.parametrize("data", [b"", b"\x84", b"{}", bytes(64), b"\xa1\x61a\x00", b"\x00\x03" + bytes(40_000)])
def test_what_is_neither_bare_nor_wrapped_is_no_document(data: bytes):
    assert unwrap(data) is None


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=400), st.sampled_from([b"", b"\x84\x44\xa1\x01", b"\x00\x02", b"\xa1\x6bAttestation"]))
def test_any_bytes_are_unreadable(data: bytes, start: bytes):
    with pytest.raises(MalformedEvidence):
        parse_document(start + data)
    try:
        found = unwrap(start + data)
    except MalformedEvidence:
        return
    assert found is None or found in start + data
