"""TCG2 logs as bytes: exact or unreadable."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strongroom.errors import MalformedEvidence
from strongroom.tee.eventlog import Log, Style, codes, parse_log, replay
from strongroom.tee.eventlog.tcg2 import MAX_EVENT_BYTES, MAX_EVENTS, MAX_LOG_BYTES, Event, SpecId
from strongroom_sim.eventlog import EventLog, serialise

TPM = EventLog().boot()
CCEL = EventLog(Style.CCEL, ("sha384",)).boot()
HEADER_BYTES = 32 + 28 + 4 + 1


def refused(data: bytes, style: Style = Style.TPM, match: str | None = None) -> None:
    with pytest.raises(MalformedEvidence, match=match):
        parse_log(data, style)


def changed(data: bytes, offset: int, value: bytes) -> bytes:
    assert data[offset : offset + len(value)] != value
    return data[:offset] + value + data[offset + len(value) :]


def starts(log: EventLog) -> set[int]:
    """The lengths at which a log may end: after its header and after each event."""
    whole = log.log
    return {
        len(serialise(Log(whole.style, whole.spec, whole.algorithms, whole.events[:n])))
        for n in range(len(whole.events))
    }


@pytest.mark.parametrize("log", [TPM, CCEL], ids=["tpm", "ccel"])
def test_a_log_cut_within_an_event_is_unreadable(log: EventLog):
    data, whole = log.serialised(), starts(log)
    for length in range(len(data)):
        if length not in whole:
            refused(data[:length], log.log.style)


def test_a_log_cut_between_events_is_another_log_and_no_longer_replays():
    data = TPM.serialised()
    for length in sorted(starts(TPM)):
        assert replay(parse_log(data[:length], Style.TPM), "sha256") != replay(TPM.log, "sha256")


def test_nothing_may_follow_the_log_of_a_tpm():
    for tail in (b"\0", b"\xff", bytes(64), b"\xff" * 64, b"x", bytes(16)):
        refused(TPM.serialised() + tail)


@pytest.mark.parametrize("fill", [b"\0", b"\xff"])
@pytest.mark.parametrize("length", [1, 3, 4, 15, 16, 17, 5000])
def test_an_area_may_be_filled_with_zeros_or_ones(fill: bytes, length: int):
    assert parse_log(CCEL.serialised() + fill * length, Style.CCEL) == CCEL.log


@pytest.mark.parametrize(
    "tail",
    [
        b"\xff" * 100 + b"\0",
        b"\xff" * 100 + b"\xfe",
        bytes(100) + b"\xff",
        bytes(100) + b"\1",
        b"\1" * 100,
        b"\xff" * 15 + b"\0" * 15,
        b"x",
    ],
)
def test_fill_is_of_one_byte_up_to_the_end(tail: bytes):
    refused(CCEL.serialised() + tail, Style.CCEL)


def test_an_event_behind_the_fill_is_not_passed_over():
    event = serialise(CCEL.log)[len(serialise(Log(Style.CCEL, CCEL.log.spec, ("sha384",), CCEL.log.events[:-1]))) :]
    assert parse_log(CCEL.serialised() + event, Style.CCEL) != CCEL.log
    for fill in (b"\xff", b"\0"):
        refused(CCEL.serialised() + fill * 200 + event + fill * 200, Style.CCEL)


def test_no_log_is_unreadable():
    refused(b"", match="no event log")
    refused(b"\xff" * 4096, Style.CCEL)
    refused(bytes(4096), Style.CCEL)


def test_an_oversize_log_is_refused_before_it_is_read():
    refused(bytes(MAX_LOG_BYTES + 1), match="limit")


def test_an_oversize_event_is_refused_before_it_is_read():
    data = EventLog().event(0, codes.POST_CODE, b"abcd").serialised()
    size = (MAX_EVENT_BYTES + 1).to_bytes(4, "little")
    refused(data[:-8] + size + bytes(MAX_EVENT_BYTES + 1), match="limit")


def test_a_log_of_too_many_events_is_refused():
    one = Event(0, 0, codes.POST_CODE, (("sha1", bytes(20)),), b"")
    log = Log(Style.TPM, SpecId(0, 0, b""), ("sha1",), (one,) * (MAX_EVENTS + 1))
    refused(serialise(log), match="more than")


@pytest.mark.parametrize(
    ("offset", "value"),
    [
        (0, b"\1"),
        (4, b"\4"),
        (8, b"\1"),
        (28, b"\x1e"),
        (32, b"Spec ID Event02\0"),
        (52, b"\1"),
        (53, b"\3"),
        (55, b"\1"),
        (56, b"\0\0"),
        (56, b"\x09\0"),
        (60, b"\x06\0"),
        (62, b"\x21\0"),
        (64, b"\1"),
    ],
    ids=[
        "register",
        "type",
        "digest",
        "size",
        "older form",
        "minor version",
        "major version",
        "32 bits",
        "no hash",
        "many hashes",
        "unknown hash",
        "digest size",
        "vendor info",
    ],
)
def test_a_header_that_is_not_understood_is_unreadable(offset: int, value: bytes):
    refused(changed(TPM.serialised(), offset, value))


def test_a_hash_announced_twice_is_unreadable():
    log = EventLog(Style.TPM, ("sha256", "sha384")).log
    data = serialise(log)
    assert parse_log(data, Style.TPM) == log
    refused(data[:64] + data[60:64] + data[68:])


@pytest.mark.parametrize(
    ("offset", "value"),
    [(0, b"\x18"), (8, b"\0"), (8, b"\2"), (12, b"\x0c"), (12, b"\4")],
    ids=["no such register", "no digest", "two digests", "unannounced hash", "other hash"],
)
def test_an_event_that_is_not_as_announced_is_unreadable(offset: int, value: bytes):
    refused(changed(TPM.serialised(), HEADER_BYTES + offset, value))


def test_the_digests_of_an_event_are_each_there_once():
    data = EventLog(Style.TPM, ("sha256", "sha3_256")).event(0, codes.POST_CODE, b"x").serialised()
    second = len(data) - 5 - 34
    assert data[second : second + 2] == b"\x27\0"
    refused(changed(data, second, b"\x0b\0"))


def test_mrtd_is_never_extended_by_an_event():
    event = Event(0, 0, codes.POST_CODE, (("sha384", bytes(48)),), b"")
    refused(serialise(Log(Style.CCEL, SpecId(0, 0, b""), ("sha384",), (event,))), Style.CCEL, "MRTD")


def test_a_cc_log_ends_at_rtmr3():
    event = Event(0, 5, codes.POST_CODE, (("sha384", bytes(48)),), b"")
    refused(serialise(Log(Style.CCEL, SpecId(0, 0, b""), ("sha384",), (event,))), Style.CCEL, "does not exist")


def test_an_event_that_is_never_extended_has_no_digest():
    event = Event(0, 0, codes.NO_ACTION, (("sha256", bytes(31) + b"\1"),), b"StartupLocality\0\0")
    refused(serialise(Log(Style.TPM, SpecId(0, 0, b""), ("sha256",), (event,))), match="EV_NO_ACTION")


names = st.lists(st.sampled_from(sorted(codes.DIGEST_BYTES)), min_size=1, max_size=8, unique=True)


@st.composite
def logs(draw: st.DrawFn) -> Log:
    style = draw(st.sampled_from(Style))
    algorithms = tuple(draw(names))
    first, last = (0, 23) if style is Style.TPM else (1, 4)
    types = st.sampled_from(sorted(codes.NAMES)) | st.integers(0x10, 0xFFFFFFFF)
    rows = draw(st.lists(st.tuples(st.integers(first, last), types, st.binary(max_size=40)), max_size=12))
    events = []
    for number, (index, kind, data) in enumerate(rows):
        digests = tuple(
            (name, bytes(size) if kind == codes.NO_ACTION else draw(st.binary(min_size=size, max_size=size)))
            for name, size in ((name, codes.DIGEST_BYTES[name]) for name in algorithms)
        )
        events.append(Event(number, index, kind, digests, data))
    spec = SpecId(draw(st.integers(0, 1)), draw(st.integers(0, 255)), draw(st.binary(max_size=20)))
    return Log(style, spec, algorithms, tuple(events))


@settings(max_examples=150, deadline=None)
@given(logs(), st.sampled_from([b"\0", b"\xff"]), st.integers(0, 300))
def test_a_log_survives_being_written_and_read_again(log: Log, fill: bytes, length: int):
    padding = fill * length if log.style is Style.CCEL else b""
    assert parse_log(serialise(log) + padding, log.style) == log


@settings(max_examples=100, deadline=None)
@given(logs())
def test_a_replay_is_the_fold_of_the_digests(log: Log):
    for bank in set(log.algorithms) - {"sm3_256"}:
        expected: dict[int, bytes] = {}
        for event in log.events:
            if event.type == codes.NO_ACTION:
                continue
            register = event.index if log.style is Style.TPM else event.index - 1
            ones = log.style is Style.TPM and 17 <= register <= 22
            start = (b"\xff" if ones else b"\0") * codes.DIGEST_BYTES[bank]
            digest = next(value for name, value in event.digests if name == bank)
            expected[register] = hashlib.new(bank, expected.get(register, start) + digest).digest()
        assert replay(log, bank) == expected


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300), st.sampled_from(Style))
def test_noise_is_unreadable_and_nothing_worse(data: bytes, style: Style):
    with pytest.raises(MalformedEvidence):
        parse_log(data, style)
