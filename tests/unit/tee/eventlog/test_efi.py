"""The structures of UEFI within events."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strongroom.errors import MalformedEvidence
from strongroom.tee.eventlog.efi import (
    EFI_GLOBAL,
    Variable,
    image_path,
    narrow_text,
    parse_database,
    parse_variable,
    serialise_variable,
    wide_text,
)
from strongroom_sim.eventlog import signature_list

WHOLE = serialise_variable(Variable(EFI_GLOBAL, "PK", b"value"))
TEXT = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), max_size=40)


@given(TEXT, st.binary(max_size=60))
def test_a_variable_survives_being_written_and_read_again(name: str, value: bytes):
    variable = Variable(EFI_GLOBAL, name, value)
    assert parse_variable(serialise_variable(variable)) == variable


def test_a_variable_that_is_cut_or_followed_is_unreadable():
    for length in range(len(WHOLE)):
        with pytest.raises(MalformedEvidence):
            parse_variable(WHOLE[:length], exact=False)
    with pytest.raises(MalformedEvidence, match="follow"):
        parse_variable(WHOLE + b"x")
    assert parse_variable(WHOLE + b"x", exact=False).value == b"value"


@pytest.mark.parametrize(
    "data",
    [
        WHOLE[:16] + (1 << 40).to_bytes(8, "little") + WHOLE[24:],
        WHOLE[:24] + (1 << 63).to_bytes(8, "little") + WHOLE[32:],
        WHOLE[:32] + b"\0\xd8" + WHOLE[34:],
        WHOLE[:32] + b"\0\0" + WHOLE[34:],
    ],
    ids=["long name", "long value", "no text", "NUL in the name"],
)
def test_a_variable_that_is_malformed_is_unreadable(data: bytes):
    with pytest.raises(MalformedEvidence):
        parse_variable(data)


def test_a_database_gives_certificates_by_their_fingerprint_and_hashes_as_they_are():
    hashes = bytes.fromhex("2616c4c14c509240aca941f936934328")
    entries = bytes(16) + b"\1" * 32 + bytes(16) + b"\2" * 32
    listed = hashes + (28 + 96).to_bytes(4, "little") + bytes(4) + (48).to_bytes(4, "little") + entries
    found = parse_database(signature_list(b"certificate") + listed)
    assert [(entry.kind, entry.value) for entry in found] == [
        ("x509", hashlib.sha256(b"certificate").hexdigest()),
        ("sha256", "01" * 32),
        ("sha256", "02" * 32),
    ]
    assert parse_database(b"") == ()


def test_a_database_that_does_not_add_up_is_unreadable():
    good = signature_list(b"certificate")
    for length in range(1, len(good)):
        with pytest.raises(MalformedEvidence):
            parse_database(good[:length])
    for offset, value in ((16, b"\1"), (16, b"\x1c"), (20, b"\1"), (24, b"\0"), (24, b"\x10"), (24, b"\x12")):
        with pytest.raises(MalformedEvidence):
            parse_database(good[:offset] + value + good[offset + 1 :])


def test_text_is_printable_and_ends_with_one_nul():
    assert wide_text("ro ü\0".encode("utf-16-le")) == "ro ü"
    assert narrow_text("ro ü\0".encode()) == "ro ü"
    for data in (
        b"",
        b"\0\0",
        "a\0\0".encode("utf-16-le"),
        "a".encode("utf-16-le"),
        b"\0\xd8\0\0",
        "\x07\0".encode("utf-16-le"),
    ):
        assert wide_text(data) is None
    for data in (b"", b"\0", b"a\0\0", b"\xff", b"\x07", "a\0".encode("utf-16-le")):
        assert narrow_text(data) is None


@given(st.binary(max_size=80))
def test_what_is_text_in_one_width_is_none_in_the_other(data: bytes):
    assert wide_text(data) is None or narrow_text(data) is None


def test_the_file_of_an_image_is_read_from_its_device_path():
    name = "\\EFI\\BOOT\\BOOTX64.EFI\0".encode("utf-16-le")
    node = b"\4\4" + (4 + len(name)).to_bytes(2, "little") + name
    path = bytes(32) + b"\2\1\x0c\0" + bytes(8) + node + b"\x7f\xff\4\0"
    assert image_path(path) == "\\EFI\\BOOT\\BOOTX64.EFI"
    for broken in (b"", bytes(40), path[:34], bytes(32) + b"\4\4\0\0" + name):
        assert image_path(broken) == ""
