"""What registers must hold after a log."""

from __future__ import annotations

import hashlib

import pytest

from strongroom.errors import MalformedEvidence
from strongroom.tee.eventlog import Style, codes, interpret, judge, register_name, replay
from strongroom_sim.eventlog import EventLog


def extended(start: bytes, *preimages: bytes) -> bytes:
    for preimage in preimages:
        start = hashlib.sha256(start + hashlib.sha256(preimage).digest()).digest()
    return start


def test_an_event_extends_its_register_and_no_other():
    log = EventLog().event(4, codes.ACTION, b"a").event(5, codes.ACTION, b"b").event(4, codes.ACTION, b"c").log
    assert replay(log, "sha256") == {4: extended(bytes(32), b"a", b"c"), 5: extended(bytes(32), b"b")}


def test_an_rtmr_is_one_less_than_the_index_in_a_cc_log():
    log = EventLog(Style.CCEL, ("sha256",)).event(7, codes.ACTION, b"a").event(8, codes.ACTION, b"b").log
    assert [event.index for event in log.events] == [1, 3]
    assert replay(log, "sha256") == {0: extended(bytes(32), b"a"), 2: extended(bytes(32), b"b")}
    assert [register_name(Style.CCEL, register) for register in (-1, 0, 2)] == ["mrtd", "rtmr0", "rtmr2"]
    assert register_name(Style.TPM, 7) == "pcr7"


@pytest.mark.parametrize("locality", [3, 4])
def test_the_startup_locality_is_where_pcr_0_begins(locality: int):
    log = EventLog().startup_locality(locality).event(0, codes.ACTION, b"a").event(1, codes.ACTION, b"a").log
    assert replay(log, "sha256") == {
        0: extended(bytes(31) + bytes([locality]), b"a"),
        1: extended(bytes(32), b"a"),
    }


def test_locality_0_changes_nothing():
    plain, said = EventLog().event(0, codes.ACTION, b"a"), EventLog().startup_locality(0).event(0, codes.ACTION, b"a")
    assert replay(plain.log, "sha256") == replay(said.log, "sha256")


def test_reference_manifests_may_come_before_the_startup_locality():
    log = EventLog().no_action(b"SP800-155 Event3" + bytes(20)).startup_locality(3).event(0, codes.ACTION, b"a").log
    assert replay(log, "sha256") == {0: extended(bytes(31) + b"\3", b"a")}


@pytest.mark.parametrize(
    "log",
    [
        EventLog().startup_locality(3).startup_locality(3),
        EventLog().event(0, codes.ACTION, b"a").startup_locality(3),
        EventLog().startup_locality(1),
        EventLog().no_action(b"StartupLocality\0"),
        EventLog().no_action(b"StartupLocality\0\3\3"),
        EventLog(Style.CCEL).startup_locality(3),
    ],
    ids=["twice", "too late", "no such locality", "short", "long", "not of a TPM"],
)
def test_a_startup_locality_that_cannot_be_is_refused(log: EventLog):
    with pytest.raises(MalformedEvidence, match="startup locality"):
        replay(log.log, "sha256")


def test_the_startup_locality_may_follow_events_of_other_registers():
    log = EventLog().event(7, codes.ACTION, b"a").startup_locality(3).event(0, codes.ACTION, b"a").log
    assert replay(log, "sha256")[0] == extended(bytes(31) + b"\3", b"a")


def test_registers_of_a_dynamic_launch_begin_with_ones():
    log = EventLog().event(17, codes.ACTION, b"a").event(23, codes.ACTION, b"a").log
    assert replay(log, "sha256") == {17: extended(b"\xff" * 32, b"a"), 23: extended(bytes(32), b"a")}


def test_a_bank_that_the_log_lacks_is_refused():
    with pytest.raises(MalformedEvidence, match="no sha384 digests, only sha256"):
        replay(EventLog().boot().log, "sha384")


def test_each_bank_replays_by_its_own_digests():
    both = EventLog(Style.TPM, ("sha1", "sha256", "sha384")).boot().log
    for bank in ("sha256", "sha384"):
        assert replay(both, bank) == replay(EventLog(Style.TPM, (bank,)).boot().log, bank)


def test_a_hash_that_cannot_be_computed_is_an_error_of_ours(monkeypatch: pytest.MonkeyPatch):
    def unknown(name: str, data: bytes) -> None:
        raise ValueError(name + str(len(data)))

    log = EventLog().boot().log
    monkeypatch.setattr(hashlib, "new", unknown)
    for use in (replay, judge, interpret):
        with pytest.raises(MalformedEvidence, match="cannot be computed here"):
            use(log, "sha256")
