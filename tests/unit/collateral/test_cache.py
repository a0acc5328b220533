import json
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from dataclasses import replace

import pytest
from vendors import renumbered

from strongroom.collateral import files
from strongroom.collateral.cache import MAX_IN_MEMORY, Cache, Entry
from strongroom.collateral.checks import Checks, Facts, Floor
from strongroom.collateral.items import Part, PlacedCrl, RootCrl, TcbInfo
from strongroom.errors import CollateralStale, SignatureInvalid, StoreUnavailable
from strongroom.records import codec
from strongroom.tee.anchors import installation_anchor

NOW = 1_790_000_000
DAY = 86_400
ITEM = TcbInfo("tdx", b"sim\0\0\0", "standard")


@pytest.fixture
def numbered(installation):
    """TCB info of an evaluation number, issued when the others were."""

    def make(number, issued=NOW):
        found = renumbered(installation, installation.collateral(issued), number)
        return Part(found.tcb_info.encode(), found.tcb_info_signature, found.tcb_info_chain)

    return make


def fill(cache, parts, now=NOW):
    for item, part in parts.items():
        cache.put(item, part, now)


# --- what is kept -----------------------------------------------------------------------------------------------------


def test_what_was_put_is_there_for_every_later_process(tmp_path, cache, checks, parts):
    fill(cache, parts)
    for one in (cache, Cache(tmp_path / "cache", checks)):
        for item, part in parts.items():
            kept = one.get(item, NOW + 5)
            assert (kept.part, kept.fetched, kept.item) == (part, NOW, item.name)
    assert [entry.item for entry in cache.entries()] == sorted(item.name for item in parts)


def test_files_are_named_by_a_digest_and_are_the_owners_alone(tmp_path, cache, parts):
    fill(cache, parts)
    files = list((tmp_path / "cache" / "entries").iterdir())
    assert len(files) == len(parts)
    assert all(len(file.stem) == 64 and stat.S_IMODE(file.stat().st_mode) == 0o600 for file in files)
    assert stat.S_IMODE((tmp_path / "cache" / "entries").stat().st_mode) == 0o700
    assert not list((tmp_path / "cache").rglob(".partial-*"))


def test_only_what_verified_is_kept(cache, stranger):
    other = stranger.collateral(NOW)
    bad = Part(other.tcb_info.encode(), other.tcb_info_signature, other.tcb_info_chain)
    with pytest.raises(SignatureInvalid):
        cache.put(ITEM, bad, NOW)
    assert cache.get(ITEM, NOW) is None
    assert cache.entries() == ()
    assert cache.floors() == ()


def test_nothing_is_served_past_its_end_or_before_its_begin(tmp_path, cache, checks, parts):
    fill(cache, parts)
    for one in (cache, Cache(tmp_path / "cache", checks)):
        assert one.get(ITEM, NOW + 30 * DAY) is not None
        assert one.get(ITEM, NOW + 30 * DAY + 1) is None
        assert one.get(ITEM, NOW - 3601) is None
        assert one.get(ITEM, NOW) is not None


def test_what_is_on_disk_is_judged_anew_by_whoever_reads_it(tmp_path, cache, parts, checks):
    fill(cache, parts)
    assert Cache(tmp_path / "cache", Checks(())).get(ITEM, NOW) is None
    for path in (tmp_path / "cache" / "entries").iterdir():
        entry = codec.decode(Entry, path.read_bytes())
        body = entry.part.body
        other = body[:-1] + bytes([body[-1] ^ 1]) if body else b"?"
        forged = replace(entry, part=replace(entry.part, body=other))
        path.write_bytes(codec.encode(forged))
    fresh = Cache(tmp_path / "cache", checks)
    assert [fresh.get(item, NOW) for item in parts if item.name != "amd/Milan/vcek/chain"] == [None] * 6


@pytest.mark.parametrize("damage", ["empty", "half", "noise", "another's", "directory"])
def test_a_damaged_file_is_no_entry_and_can_be_replaced(tmp_path, cache, checks, parts, damage):
    fill(cache, parts)
    files = {codec.decode(Entry, p.read_bytes()).item: p for p in (tmp_path / "cache" / "entries").iterdir()}
    path, other = files[ITEM.name], files["intel/root-crl"]
    if damage == "directory":
        path.unlink()
        path.mkdir()
        with pytest.raises(StoreUnavailable):
            Cache(tmp_path / "cache", checks).get(ITEM, NOW)
        return
    data = path.read_bytes()
    path.write_bytes({"empty": b"", "half": data[: len(data) // 2], "noise": os.urandom(100),
                      "another's": other.read_bytes()}[damage])  # fmt: skip
    fresh = Cache(tmp_path / "cache", checks)
    assert fresh.get(ITEM, NOW) is None
    fresh.put(ITEM, parts[ITEM], NOW)
    assert Cache(tmp_path / "cache", checks).get(ITEM, NOW).part == parts[ITEM]


def test_without_a_directory_it_is_all_in_memory(checks, parts, numbered):
    cache = Cache(None, checks)
    fill(cache, parts)
    assert cache.get(ITEM, NOW).part == parts[ITEM]
    assert cache.entries() == ()
    cache.put(ITEM, numbered(7), NOW)
    with pytest.raises(CollateralStale):
        cache.put(ITEM, numbered(6), NOW)
    assert cache.prune(NOW, everything=True) == 0
    assert cache.get(ITEM, NOW) is None
    with pytest.raises(CollateralStale):
        cache.put(ITEM, numbered(6), NOW)
    with cache.fetching(ITEM):
        pass


def test_memory_is_bounded():
    facts = Facts(0, NOW + 1, None)
    cache = Cache(None, lambda *_: facts)
    for number in range(MAX_IN_MEMORY + 10):
        cache.put(PlacedCrl("tpm", str(number), ""), Part(b"", b"", ""), NOW)
    assert cache.get(PlacedCrl("tpm", "9", ""), NOW) is None
    assert cache.get(PlacedCrl("tpm", "10", ""), NOW) is not None


def test_in_memory_it_is_not_judged_again(tmp_path, parts, checks):
    judged = []

    def counting(item, part, now):
        judged.append(item.name)
        return checks(item, part, now)

    cache = Cache(tmp_path / "cache", counting)
    cache.put(ITEM, parts[ITEM], NOW)
    for _ in range(5):
        cache.get(ITEM, NOW)
    assert judged == [ITEM.name]


# --- floors -----------------------------------------------------------------------------------------------------------


def test_known_failure_an_older_evaluation_number_is_refused(tmp_path, cache, checks, numbered):
    """Stale collateral and rollback: a floor on the evaluation number."""
    cache.put(ITEM, numbered(18), NOW)
    for one in (cache, Cache(tmp_path / "cache", checks)):
        with pytest.raises(CollateralStale, match=r"number 17, issued .* is older than number 18"):
            one.put(ITEM, numbered(17), NOW)
        with pytest.raises(CollateralStale):
            one.put(replace(ITEM, track="17"), numbered(17), NOW)
        assert json.loads(one.get(ITEM, NOW).part.body)["tcbEvaluationDataNumber"] == 18
    cache.put(ITEM, numbered(19), NOW)


def test_an_older_issue_of_the_same_number_is_refused_and_a_greater_number_is_newer_whenever_issued(cache, numbered):
    cache.put(ITEM, numbered(18, issued=NOW), NOW)
    with pytest.raises(CollateralStale):
        cache.put(ITEM, numbered(18, issued=NOW - 1), NOW)
    cache.put(ITEM, numbered(18, issued=NOW), NOW)
    cache.put(ITEM, numbered(18, issued=NOW + 60), NOW)
    cache.put(ITEM, numbered(19, issued=NOW - DAY), NOW)
    with pytest.raises(CollateralStale):
        cache.put(ITEM, numbered(18, issued=NOW + 60), NOW)


def test_known_failure_an_older_crl_is_refused(cache, installation, parts):
    """Stale collateral and rollback: a floor on the CRL's number; the simulator numbers its CRLs by their issue."""
    item = next(item for item in parts if item.name.startswith("intel/pck-crl"))
    fill(cache, parts)
    older, newer = (installation.collateral(NOW + shift) for shift in (-60, 60))
    with pytest.raises(CollateralStale):
        cache.put(item, Part(older.pck_crl, b"", older.pck_crl_chain), NOW)
    cache.put(item, Part(newer.pck_crl, b"", newer.pck_crl_chain), NOW)
    with pytest.raises(CollateralStale):
        cache.put(item, parts[item], NOW)


def test_tracks_share_a_floor_and_families_and_roots_do_not(tmp_path, cache, numbered, stranger):
    cache.put(replace(ITEM, track="early"), numbered(19), NOW)
    with pytest.raises(CollateralStale):
        cache.put(ITEM, numbered(18), NOW)
    other = stranger.collateral(NOW)  # the same family under another root, at number 1
    elsewhere = Cache(tmp_path / "cache", Checks([installation_anchor("tdx", stranger.root_pem)]))
    elsewhere.put(ITEM, Part(other.tcb_info.encode(), other.tcb_info_signature, other.tcb_info_chain), NOW)
    assert len(cache.floors()) == 2


def test_what_is_kept_below_a_floor_that_rose_since_is_not_served(tmp_path, cache, checks, numbered):
    cache.put(ITEM, numbered(18), NOW)
    cache.put(replace(ITEM, track="early"), numbered(19), NOW)
    for one in (cache, Cache(tmp_path / "cache", checks)):
        assert one.get(ITEM, NOW) is None
        assert one.get(replace(ITEM, track="early"), NOW) is not None


def test_floors_survive_pruning_and_restarts(tmp_path, cache, checks, numbered, parts):
    fill(cache, parts)
    cache.put(ITEM, numbered(18), NOW)
    before = cache.floors()
    assert cache.prune(NOW, everything=True) == len(parts)
    assert cache.entries() == ()
    again = Cache(tmp_path / "cache", checks)
    assert again.floors() == before
    assert again.get(ITEM, NOW) is None
    with pytest.raises(CollateralStale):
        again.put(ITEM, numbered(17), NOW)


def test_floors_that_do_not_parse_are_an_error_and_not_a_new_beginning(tmp_path, cache, checks, numbered):
    cache.put(ITEM, numbered(18), NOW)
    floors = tmp_path / "cache" / "floors.json"
    for data in (b"", b"{}", floors.read_bytes()[:-2], floors.read_bytes().replace(b'"18"', b'"x"')):
        floors.write_bytes(data)
        fresh = Cache(tmp_path / "cache", checks)
        for act in (lambda c: c.get(ITEM, NOW), lambda c: c.put(ITEM, numbered(19), NOW), lambda c: c.floors()):
            with pytest.raises(StoreUnavailable, match="floors"):
                act(fresh)


def test_an_entry_is_a_floor_even_where_the_floors_were_not_written(tmp_path, cache, checks, numbered):
    """As after a kill between the two writes."""
    cache.put(ITEM, numbered(18), NOW)
    (tmp_path / "cache" / "floors.json").unlink()
    fresh = Cache(tmp_path / "cache", checks)
    with pytest.raises(CollateralStale):
        fresh.put(ITEM, numbered(17), NOW)
    assert Cache(tmp_path / "cache", checks).prune(NOW, everything=True) == 1
    with pytest.raises(CollateralStale):
        Cache(tmp_path / "cache", checks).put(ITEM, numbered(17), NOW)


# --- pruning ----------------------------------------------------------------------------------------------------------


def test_pruning_removes_what_ended_or_does_not_parse_and_what_a_dead_writer_left(tmp_path, cache, parts):
    assert cache.prune(NOW) == 0
    assert not (tmp_path / "cache").exists()
    fill(cache, parts)
    assert cache.prune(NOW + 30 * DAY) == 0
    (tmp_path / "cache" / "entries" / "noise.json").write_bytes(b"noise")
    (tmp_path / "cache" / "entries" / ".partial-x").write_bytes(b"half")
    assert cache.prune(NOW + 31 * DAY) == 6
    assert {entry.item.split("/")[0] for entry in cache.entries()} == {"amd"}
    assert not list((tmp_path / "cache").rglob(".partial-*"))
    assert cache.get(ITEM, NOW) is None


# --- storms -----------------------------------------------------------------------------------------------------------


def test_a_directory_that_cannot_be_written_is_said_and_one_that_can_be_read_is_read(
    tmp_path, checks, parts, monkeypatch
):
    cache = Cache(tmp_path / "cache", checks)
    fill(cache, parts)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(StoreUnavailable, match="No space"):
        cache.put(ITEM, parts[ITEM], NOW)
    monkeypatch.undo()
    assert not list((tmp_path / "cache").rglob(".partial-*"))
    assert Cache(tmp_path / "cache", checks).get(ITEM, NOW).part == parts[ITEM]
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreUnavailable):
        Cache(tmp_path / "file", checks).put(ITEM, parts[ITEM], NOW)


WRITER = """
import sys
from pathlib import Path
from strongroom.collateral.cache import Cache, Entry
from strongroom.collateral.checks import Facts, Floor
from strongroom.collateral.items import Part, PlacedCrl

def check(item, part, now):
    return Facts(0, 2_000_000_000, Floor("series", part.body.split(b"|")[0].decode(), 0))

cache = Cache(Path(sys.argv[1]), check)
number = int(sys.argv[2])
while True:
    number += int(sys.argv[3])
    try:
        cache.put(PlacedCrl("tpm", "one", ""), Part(b"%d|" % number + b"x" * 200_000, b"", ""), 1)
    except Exception as error:
        if type(error).__name__ != "CollateralStale":
            raise
        number = int(cache.floors()[0].number)
        continue
    print(number, flush=True)
"""


def check_number(_item, part, _now):
    return Facts(0, 2_000_000_000, Floor("series", part.body.split(b"|")[0].decode(), 0))


def start_writer(directory, first, step):
    words = [sys.executable, "-c", WRITER, str(directory), str(first), str(step)]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def number_of(kept):
    return int(kept.part.body.split(b"|")[0])


@pytest.mark.timeout(180)
def test_kill_9_in_the_middle_of_a_write_leaves_a_readable_cache_and_loses_nothing_acknowledged(tmp_path):
    directory, item = tmp_path / "cache", PlacedCrl("tpm", "one", "")
    first = 0
    for attempt in range(12):
        writer = start_writer(directory, first, 1)
        assert writer.stdout.readline()
        time.sleep(0.003 * attempt)
        os.kill(writer.pid, signal.SIGKILL)
        acknowledged = [int(line) for line in writer.stdout.read().split("\n") if line.isdigit()]
        writer.wait()
        writer.stdout.close()
        writer.stderr.close()
        last = max(acknowledged, default=first + 1)
        reader = Cache(directory, check_number)
        found = number_of(reader.get(item, 1))
        assert last <= found <= last + 1
        assert int(reader.floors()[0].number) >= last
        with pytest.raises(CollateralStale):
            reader.put(item, Part(b"%d|" % (found - 1), b"", ""), 1)
        first = found
    Cache(directory, check_number).prune(1)
    assert not list(directory.rglob(".partial-*"))


@pytest.mark.timeout(180)
def test_processes_that_write_at_once_never_let_a_floor_fall_or_a_reader_see_half(tmp_path):
    directory, item = tmp_path / "cache", PlacedCrl("tpm", "one", "")
    writers = [start_writer(directory, 0, step) for step in (1, 2, 3)]
    assert all(writer.stdout.readline() for writer in writers)
    seen, reads, end = 0, 0, time.monotonic() + 1.5
    while time.monotonic() < end:
        kept = Cache(directory, check_number).get(item, 1)
        if kept is None:  # its floor rose between two reads, as it may
            continue
        assert len(kept.part.body) > 200_000
        assert number_of(kept) >= seen
        seen, reads = number_of(kept), reads + 1
    for writer in writers:
        writer.kill()
        writer.communicate()
    assert seen > 3
    assert reads > 3


def test_one_fetch_of_an_item_at_a_time_also_between_processes(tmp_path, checks):
    holder = f"""
from pathlib import Path
from strongroom.collateral.cache import Cache
from strongroom.collateral.items import RootCrl
with Cache(Path({str(tmp_path / "cache")!r}), lambda *_: None).fetching(RootCrl("platform")):
    print("held", flush=True)
    input()
"""
    words = [sys.executable, "-c", holder]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        released = time.monotonic() + 0.3
        threading.Timer(0.3, process.kill).start()  # the kernel gives the lock of a dead process back
        with Cache(tmp_path / "cache", checks).fetching(RootCrl("processor")):
            assert time.monotonic() >= released - 0.05
