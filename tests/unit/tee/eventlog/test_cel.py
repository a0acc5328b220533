"""Canonical event logs of Container-Optimized OS."""

from __future__ import annotations

import dataclasses
import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strongroom.errors import MalformedEvidence
from strongroom.tee.eventlog import Cel, Style, interpret_cel, parse_cel, replay_cel
from strongroom.tee.eventlog.cel import Record, check_digests
from strongroom_sim.eventlog import cos_cel, serialise_cel

CONTENTS = [
    (0, b"registry.example/job:1"),
    (1, b"sha256:00"),
    (2, b"Never"),
    (3, b"sha256:11"),
    (4, b"run"),
    (4, b"--fast"),
    (5, b"A=B"),
    (6, b"--slow"),
    (7, b"C=D"),
    (9, b"\1"),
    (10, b"ON"),
    (11, b"evidence"),
    (8, b""),
]
GOOD = cos_cel(CONTENTS)
DATA = serialise_cel(GOOD)


def refused(data: bytes) -> None:
    with pytest.raises(MalformedEvidence):
        parse_cel(data)


def test_what_was_launched_is_read():
    found = interpret_cel(parse_cel(DATA), "sha384")
    assert (found.register, found.launched) == ("rtmr3", True)
    assert (found.image_reference, found.image_digest, found.image_id) == (
        "registry.example/job:1",
        "sha256:00",
        "sha256:11",
    )
    assert (found.restart_policy, found.gpu_cc_mode) == ("Never", "ON")
    assert (found.arguments, found.environment) == (("run", "--fast"), ("A=B",))
    assert (found.override_arguments, found.override_environment) == (("--slow",), ("C=D",))
    assert found.memory_monitor is True
    assert found.gpu_attestation == hashlib.sha256(b"evidence").hexdigest()


def test_a_tpm_holds_the_same_in_pcr_13():
    cel = parse_cel(serialise_cel(cos_cel(CONTENTS, Style.TPM, "sha256")))
    assert interpret_cel(cel, "sha256").register == "pcr13"
    assert set(replay_cel(cel, "sha256")) == {13}


def test_a_replay_is_the_fold_of_the_digests():
    register = bytes(48)
    for record in GOOD.records:
        register = hashlib.sha384(register + record.digests[0][1]).digest()
    assert replay_cel(GOOD, "sha384") == {3: register}


def test_every_cut_within_a_record_is_unreadable():
    whole = {len(serialise_cel(Cel(GOOD.style, GOOD.records[:n]))) for n in range(1, len(GOOD.records))}
    for length in range(len(DATA)):
        if length not in whole:
            refused(DATA[:length])


def test_trailing_bytes_are_unreadable():
    for tail in (b"\0", b"\xff" * 16, b"x"):
        refused(DATA + tail)


def test_a_record_that_was_dropped_repeated_or_moved_is_unreadable():
    parts = [serialise_cel(Cel(GOOD.style, GOOD.records[:n])) for n in range(len(GOOD.records) + 1)]
    records = [parts[n + 1][len(parts[n]) :] for n in range(len(GOOD.records))]
    assert b"".join(records) == DATA
    refused(b"".join(records[1:]))
    refused(b"".join(records[:3] + records[4:]))
    refused(b"".join([records[0], *records]))
    refused(b"".join([records[0], records[2], records[1], *records[3:]]))


@pytest.mark.parametrize(
    ("offset", "value"),
    [(0, b"\1"), (4, b"\7"), (13, b"\2"), (18, b"\0"), (18, b"\5"), (19, b"\2"), (24, b"\x4c"), (28, b"\x2f")],
    ids=["type", "size", "NV index", "MRTD", "no such register", "no digests", "unknown hash", "digest size"],
)
def test_a_record_that_is_not_understood_is_unreadable(offset: int, value: bytes):
    assert DATA[offset : offset + 1] != value
    refused(DATA[:offset] + value + DATA[offset + 1 :])


def test_registers_of_two_kinds_in_one_log_are_unreadable():
    other = serialise_cel(cos_cel(CONTENTS[:2], Style.TPM, "sha384"))
    first = serialise_cel(Cel(GOOD.style, GOOD.records[:1]))
    second = other[len(serialise_cel(cos_cel(CONTENTS[:1], Style.TPM, "sha384"))) :]
    refused(first + second)


def test_no_log_and_an_oversize_one_are_unreadable():
    refused(b"")
    refused(bytes((1 << 20) + 1))


def test_no_flipped_bit_is_accepted():
    expected = replay_cel(GOOD, "sha384")
    for position in range(len(DATA)):
        data = bytearray(DATA)
        data[position] ^= 1 << (position % 8)
        try:
            cel = parse_cel(bytes(data))
            same = replay_cel(cel, "sha384") == expected
            interpret_cel(cel, "sha384")
        except MalformedEvidence:
            continue
        assert not same, position


@pytest.mark.parametrize(
    "contents",
    [
        [*CONTENTS, (4, b"late")],
        [(0, b"a"), (0, b"b")],
        [(12, b"unknown")],
        [(9, b"\2")],
        [(8, b"failed")],
        [(4, b"\xff")],
        [(0, b"\xff")],
    ],
    ids=["after the separator", "twice", "unknown", "monitor", "separator of an error", "no text", "no reference"],
)
def test_records_that_are_not_the_launchers_are_refused(contents: list[tuple[int, bytes]]):
    with pytest.raises(MalformedEvidence):
        interpret_cel(cos_cel(contents), "sha384")


def test_a_record_in_another_register_is_refused():
    stray = dataclasses.replace(GOOD.records[0], index=3)
    with pytest.raises(MalformedEvidence, match="launcher"):
        interpret_cel(dataclasses.replace(GOOD, records=(stray, *GOOD.records[1:])), "sha384")


def test_content_of_another_writer_is_not_ignored():
    content = b"\x07" + (1).to_bytes(4, "big") + b"x"
    record = Record(4, (("sha384", hashlib.sha384(content).digest()),), content)
    with pytest.raises(MalformedEvidence, match="type 7"):
        check_digests(Cel(Style.CCEL, (record,)), "sha384")


def test_content_with_something_behind_it_is_refused():
    content = b"\x50" + (7).to_bytes(4, "big") + b"\x04\0\0\0\1" + b"xy"
    record = Record(4, (("sha384", hashlib.sha384(content).digest()),), content)
    with pytest.raises(MalformedEvidence, match="launcher"):
        interpret_cel(Cel(Style.CCEL, (record,)), "sha384")


def test_a_bank_without_digests_is_refused():
    with pytest.raises(MalformedEvidence, match="no sha256"):
        replay_cel(GOOD, "sha256")


def test_a_log_without_its_separator_says_that_the_launch_is_not_over():
    assert not interpret_cel(cos_cel(CONTENTS[:-1]), "sha384").launched


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 255), st.binary(max_size=40)), min_size=1, max_size=8), st.sampled_from(Style))
def test_a_log_survives_being_written_and_read_again(contents: list[tuple[int, bytes]], style: Style):
    cel = cos_cel(contents, style)
    assert parse_cel(serialise_cel(cel)) == cel


@given(st.binary(max_size=200))
def test_noise_is_unreadable_and_nothing_worse(data: bytes):
    try:
        parse_cel(data)
    except MalformedEvidence:
        return
    raise AssertionError
