"""The journal: durable before anything else, whole or refused, and what a power cut leaves of its last line."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strongroom.errors import FileUnreadable, LaunchBusy, MalformedJournal, UsageError
from strongroom.launch.life.journal import EVIDENCE, NAME, Journal, locked, read_entries
from strongroom.records.digest import digest_bytes
from strongroom.records.launched import State

SPEC, OTHER = digest_bytes(b"spec"), digest_bytes(b"other")
PATH = (State.PREFLIGHT, State.PLANNED, State.BOOTED, State.ATTESTED, State.READY, State.DRAINING, State.WIPED)


def written(folder, states=PATH, spec=SPEC):
    journal = Journal(folder, spec)
    for number, state in enumerate(states):
        journal.enter(state, f"evidence {number}".encode(), time=1000 + number)
    return journal


def test_what_was_entered_is_read_again_with_its_evidence(tmp_path):
    written(tmp_path)
    journal = Journal(tmp_path, SPEC)
    assert [entry.state for entry in journal.entries] == list(PATH)
    assert [journal.evidence(entry) for entry in journal.entries] == [
        f"evidence {n}".encode() for n in range(len(PATH))
    ]
    assert [entry.previous for entry in journal.entries] == [None, *(entry.digest for entry in journal.entries[:-1])]


def test_nothing_is_entered_out_of_order(tmp_path):
    journal = written(tmp_path, PATH[:2])
    with pytest.raises(UsageError):
        journal.enter(State.READY, b"", time=0)
    assert Journal(tmp_path, SPEC).state is State.PLANNED


def test_only_this_life_counts(tmp_path):
    journal = written(tmp_path)
    assert journal.last(State.READY).number == 4
    journal.enter(State.PREFLIGHT, b"again", time=2000)
    assert journal.last(State.READY) is None
    assert journal.last(State.PREFLIGHT).number == len(PATH)


@pytest.mark.parametrize("entries", range(1, len(PATH) + 1))
def test_a_last_line_that_a_power_cut_tore_never_was(tmp_path, entries):
    written(tmp_path, PATH[:entries])
    whole = (tmp_path / NAME).read_bytes()
    start = whole.rfind(b"\n", 0, -1) + 1
    for cut in (start, start + 1, (start + len(whole)) // 2, len(whole) - 1):
        (tmp_path / NAME).write_bytes(whole[:cut])
        journal = Journal(tmp_path, SPEC)
        assert [entry.state for entry in journal.entries] == list(PATH[: entries - 1])
        journal.enter(PATH[entries - 1], b"once more", time=5000)
        assert Journal(tmp_path, SPEC).state is PATH[entries - 1]
        assert Journal(tmp_path, SPEC).evidence(journal.head) == b"once more"


@pytest.mark.parametrize(
    "tail", [bytes(512), b'{"evi' + bytes(100), b'{"evi' + bytes(100) + b"\n"], ids=["zeros", "part", "line"]
)
def test_blocks_that_were_never_written_are_no_entry(tmp_path, tail):
    written(tmp_path, PATH[:3])
    with (tmp_path / NAME).open("ab") as file:
        file.write(tail)
    assert Journal(tmp_path, SPEC).state is State.BOOTED
    written_after = Journal(tmp_path, SPEC)
    written_after.enter(State.ATTESTED, b"x", time=1)
    assert [entry.state for entry in read_entries(tmp_path)[0]] == list(PATH[:4])


@settings(max_examples=60)
@given(st.data())
def test_no_changed_byte_of_a_whole_line_is_believed(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("journal")
    written(folder, PATH[:4])
    whole = bytearray((folder / NAME).read_bytes())
    last = whole.rfind(b"\n", 0, -1)
    at = data.draw(st.integers(0, last - 1))
    whole[at] ^= data.draw(st.integers(1, 255))
    (folder / NAME).write_bytes(whole)
    with pytest.raises((MalformedJournal, UsageError)):
        Journal(folder, SPEC)


def test_lines_that_are_left_out_swapped_or_said_twice_are_seen(tmp_path):
    written(tmp_path, PATH[:4])
    lines = (tmp_path / NAME).read_bytes().splitlines(keepends=True)
    for wrong in (lines[1:], [lines[0], *lines[2:]], [lines[0], *lines], [lines[1], lines[0], *lines[2:]]):
        (tmp_path / NAME).write_bytes(b"".join(wrong))
        with pytest.raises(MalformedJournal):
            Journal(tmp_path, SPEC)


def test_a_line_in_another_spelling_is_refused(tmp_path):
    written(tmp_path, PATH[:1])
    document = json.loads((tmp_path / NAME).read_bytes())
    (tmp_path / NAME).write_text(json.dumps(document, indent=None) + "\n")
    with pytest.raises(MalformedJournal, match="nobody wrote"):
        Journal(tmp_path, SPEC)


def test_evidence_that_is_gone_or_changed_is_refused(tmp_path):
    journal = written(tmp_path, PATH[:2])
    path = tmp_path / EVIDENCE / "000001-planned.json"
    path.write_bytes(b"another")
    with pytest.raises(MalformedJournal, match="not the evidence"):
        journal.evidence(journal.head)
    path.unlink()
    with pytest.raises(MalformedJournal):
        journal.evidence(journal.head)


def test_a_folder_of_another_launch_is_refused(tmp_path):
    written(tmp_path, PATH[:1])
    with pytest.raises(UsageError, match="another launch specification"):
        Journal(tmp_path, OTHER)


def test_a_journal_that_is_too_large_or_a_folder_is_refused(tmp_path, monkeypatch):
    written(tmp_path, PATH[:1])
    monkeypatch.setattr("strongroom.launch.life.journal.MOST_BYTES", 10)
    with pytest.raises(MalformedJournal, match="larger"):
        Journal(tmp_path, SPEC)
    (tmp_path / NAME).unlink()
    (tmp_path / NAME).mkdir()
    with pytest.raises(FileUnreadable):
        Journal(tmp_path, SPEC)


def test_nothing_was_launched_in_an_empty_folder(tmp_path):
    with pytest.raises(UsageError, match="nothing was launched"):
        _ = Journal(tmp_path, SPEC).head


def test_a_second_launcher_is_refused_until_the_first_is_done(tmp_path):
    with locked(tmp_path / "state"), pytest.raises(LaunchBusy), locked(tmp_path / "state"):
        raise AssertionError
    with locked(tmp_path / "state"):
        pass
    (tmp_path / "file").write_text("")
    with pytest.raises(FileUnreadable), locked(tmp_path / "file"):
        raise AssertionError
