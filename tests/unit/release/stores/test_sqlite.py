import os
import signal
import sqlite3
import subprocess
import sys
import threading
from dataclasses import replace

import pytest

from strongroom.errors import StoreUnavailable
from strongroom.records.cell import Cell, CellKind
from strongroom.records.digest import digest_bytes
from strongroom.records.release import Lease, LeaseState
from strongroom.release.stores.administrators import StoredAdministrator
from strongroom.release.stores.cells import KeyUses
from strongroom.release.stores.port import KeyState, StoredAnswer, StoredKey, StoredLease, StoredPolicy
from strongroom.release.stores.sqlite import SqliteStore, _translated

NAME, OTHER = digest_bytes(b"a request"), digest_bytes(b"another")
LEASE = Lease("lease", NAME, OTHER, "policy", ("a", "b"), 10, 20, LeaseState.ACTIVE, 0, NAME)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "broker.db"


@pytest.fixture
def store(path):
    made = SqliteStore(path)
    yield made
    made.close()


def test_administrators_are_kept_in_order_replaced_and_removed(store):
    first, second = StoredAdministrator(NAME, b"1", OTHER, 10), StoredAdministrator(OTHER, b"2", NAME, 9)
    for each in (first, second):
        store.write(lambda t, each=each: t.put_administrator(each))
    assert store.read(lambda r: r.administrators()) == (second, first)
    newer = replace(first, appointment=b"3", added=8)
    store.write(lambda t: t.put_administrator(newer))
    assert store.read(lambda r: r.administrators()) == (newer, second)
    assert store.write(lambda t: t.remove_administrator(NAME))
    assert not store.write(lambda t: t.remove_administrator(NAME))
    assert store.read(lambda r: r.administrators()) == (second,)


def test_a_nonce_is_consumed_once_in_each_scope(store):
    def consume(scope, nonce):
        return store.write(lambda t: t.consume(scope, nonce, 100))

    assert [consume("a", b"n"), consume("a", b"n"), consume("b", b"n"), consume("a", b"m")] == [True, False, True, True]
    assert store.read(lambda r: r.is_consumed("a", b"n", 100))
    assert not store.read(lambda r: r.is_consumed("c", b"n", 100))


def test_what_was_forgotten_counts_as_consumed(store):
    store.write(lambda t: t.consume("a", b"n", 100))
    store.write(lambda t: t.forget(100))
    store.write(lambda t: t.forget(50))  # the line never moves back
    assert not store.write(lambda t: t.consume("a", b"n", 100))
    assert not store.write(lambda t: t.consume("a", b"never seen", 99))
    assert store.write(lambda t: t.consume("a", b"n", 101))


def test_an_answer_is_kept_until_its_time(store):
    answer = StoredAnswer(True, b"yes")
    store.write(lambda t: t.keep_answer(NAME, answer, 100))
    assert store.read(lambda r: r.answer(NAME, 99)) == answer
    assert store.read(lambda r: r.answer(NAME, 100)) is None
    assert store.read(lambda r: r.answer(OTHER, 99)) is None


def test_keys_have_versions_and_one_state(store):
    first, second = (StoredKey("a", version, "p", b"w", KeyState.ACTIVE, 5) for version in (1, 2))
    assert store.write(lambda t: [t.put_key(first), t.put_key(first), t.put_key(second)]) == [True, False, True]
    assert store.read(lambda r: (r.key("a"), r.key("a", 1), r.key("b"))) == (second, first, None)
    assert store.write(lambda t: t.set_key_state("a", KeyState.RETIRED)) == 2
    assert {key.state for key in store.read(lambda r: r.keys())} == {KeyState.RETIRED}


def test_a_policys_version_only_grows(store):
    def put(version):
        return store.write(lambda t: t.put_policy(StoredPolicy("p", version, NAME, b"e%d" % version)))

    assert [put(2), put(2), put(1), put(3)] == [True, False, False, True]
    assert store.read(lambda r: r.policy("p")).version == 3
    assert [policy.version for policy in store.read(lambda r: r.policies())] == [3]


def test_a_lease_is_renewed_in_order_and_ends_once(store):
    store.write(lambda t: t.add_lease(StoredLease(LEASE, b"k" * 32, 0)))
    once, twice = (replace(LEASE, expires=30 + n, renewals=n, chain=OTHER) for n in (1, 2))
    assert store.write(lambda t: [t.renew_lease(twice), t.renew_lease(once), t.renew_lease(once)]) == [
        False,
        True,
        False,
    ]
    assert store.read(lambda r: r.lease("lease")) == StoredLease(once, b"k" * 32, 0)
    assert store.write(lambda t: [t.advance_receipts("lease", n) for n in (5, 5, 4, 6)]) == [True, False, False, True]
    assert store.write(lambda t: [t.revoke_lease("lease"), t.revoke_lease("lease"), t.renew_lease(twice)]) == [
        True,
        False,
        False,
    ]


CELL = Cell("cell", CellKind.BUDGET, "policy", 9, "outputs", 9, None, 0, 5)


def test_a_cell_changes_only_from_what_it_was(store):
    spent, again = (replace(CELL, value=9 - n, digest=NAME, changes=n) for n in (1, 2))
    assert store.write(lambda t: [t.add_cell(CELL), t.add_cell(replace(CELL, value=99))]) == [True, False]
    assert store.write(
        lambda t: [t.change_cell(spent, again), t.change_cell(CELL, spent), t.change_cell(CELL, again)]
    ) == [False, True, False]
    assert store.read(lambda r: (r.cell("cell"), r.cell("other"), r.cells())) == (spent, None, (spent,))


def test_a_cell_never_falls_below_zero(store):
    store.write(lambda t: t.add_cell(CELL))
    with pytest.raises(StoreUnavailable):
        store.write(lambda t: t.change_cell(CELL, replace(CELL, value=-1)))
    assert store.read(lambda r: r.cell("cell")) == CELL


def test_a_cell_is_asked_once_under_each_lease_until_the_lease_ends(store):
    asked = [("lease", b"n"), ("lease", b"n"), ("other", b"n"), ("lease", b"m")]
    store.write(lambda t: t.add_lease(StoredLease(LEASE, b"k" * 32, 0)))
    assert store.write(lambda t: [t.cell_ask(*pair) for pair in asked]) == [True, False, True, True]
    store.write(lambda t: t.forget_cell_asks(LEASE.expires - 1))
    assert store.read(lambda r: [r.cell_asked(*pair) for pair in asked[1:]]) == [True, False, True]
    store.write(lambda t: t.forget_cell_asks(LEASE.expires))
    assert store.read(lambda r: [r.cell_asked(*pair) for pair in asked[1:]]) == [False, False, False]


def test_uses_stop_at_their_limit(store):
    store.write(lambda t: t.limit_key("a", 3))
    assert store.write(lambda t: [t.use_key("a", n) for n in (2, 2, 1, 1)]) == [True, False, True, False]
    assert store.write(lambda t: t.use_key("without a limit", 1)) is False
    assert store.read(lambda r: (r.key_uses("a"), r.key_uses("b"))) == (KeyUses(3, 3), None)


def test_a_database_of_the_first_schema_is_brought_up_to_date(path):
    store = SqliteStore(path)
    store.write(lambda t: (t.add_lease(StoredLease(LEASE, b"k" * 32, 0)), t.log_extend([b"leaf"], "checkpoint")))
    store.close()
    with sqlite3.connect(path) as connection:
        for table in ("cells", "cell_asks", "key_limits", "decisions", "collaterals"):
            connection.execute(f"DROP TABLE {table}")
        connection.execute("PRAGMA user_version = 1")
    connection.close()
    for _ in range(2):
        store = SqliteStore(path)
        store.write(lambda t: t.add_cell(CELL))
        assert store.read(lambda r: (r.cell("cell"), r.lease("lease").lease, r.log_size())) == (CELL, LEASE, 1)
        store.close()


def test_a_work_that_raises_leaves_nothing_behind(store):
    def half(transaction):
        transaction.consume("a", b"n", 100)
        transaction.log_extend([b"leaf"], "checkpoint")
        raise KeyError

    with pytest.raises(KeyError):
        store.write(half)
    assert store.read(lambda r: (r.is_consumed("a", b"n", 100), r.log_size(), r.log_checkpoint())) == (False, 0, None)


def test_many_threads_write_one_after_the_other(store):
    def append():
        for _ in range(5):
            store.write(lambda t: t.log_extend([b"%d" % t.log_size()], "checkpoint"))

    threads = [threading.Thread(target=append) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert store.read(lambda r: r.log_leaves(0, 99)) == tuple(b"%d" % n for n in range(30))


def test_every_commit_is_durable_by_itself(store):
    values = [store._writer.execute(f"PRAGMA {name}").fetchone()[0] for name in ("journal_mode", "synchronous")]
    assert values == ["wal", 2]


def test_only_the_broker_reads_the_database(store, path):
    store.write(lambda t: t.consume("a", b"n", 100))
    assert {file.stat().st_mode & 0o777 for file in path.parent.iterdir()} == {0o600}


def test_a_second_broker_on_the_same_database_is_refused(store, path):
    with pytest.raises(StoreUnavailable, match="another broker"):
        SqliteStore(path)
    store.close()
    SqliteStore(path).close()
    store._held = os.open(os.devnull, os.O_RDONLY)  # for the fixture to close


def test_a_full_disk_is_mended_by_room_and_not_by_a_backup(path):
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE small (x)")
    connection.execute("PRAGMA max_page_count = 2")
    with pytest.raises(StoreUnavailable) as refused, _translated():
        connection.execute("CREATE TABLE too_much (x)")
    connection.close()
    assert refused.value.detail == "SQLITE_FULL"
    assert "Make room" in refused.value.remedy


def test_a_newer_database_is_refused(path):
    SqliteStore(path).close()
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(StoreUnavailable, match="schema 99") as refused:
        SqliteStore(path)
    assert "newer" in refused.value.remedy


def test_somebody_elses_database_is_refused_and_left_alone(path):
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE theirs (x)")
    connection.close()
    with pytest.raises(StoreUnavailable, match="not a broker's"):
        SqliteStore(path)


@pytest.mark.parametrize("damage", ["head", "page", "cut"])
def test_a_corrupt_database_is_refused_with_a_remedy(path, damage):
    store = SqliteStore(path)
    for number in range(200):
        store.write(lambda t, n=number: t.consume("a", b"%032d" % n, 100))
    store.close()
    data = bytearray(path.read_bytes())
    if damage == "head":
        data[:16] = b"not a database!!"
    elif damage == "page":
        data[4096 * 2 : 4096 * 6] = b"\xff" * 4096 * 4
    path.write_bytes(data[: len(data) // 2] if damage == "cut" else data)
    with pytest.raises(StoreUnavailable) as refused:
        SqliteStore(path)
    assert refused.value.remedy


def test_a_database_in_a_folder_that_is_missing_is_refused(tmp_path):
    with pytest.raises(StoreUnavailable):
        SqliteStore(tmp_path / "missing" / "broker.db")


WRITER = """
import sys
from pathlib import Path
from strongroom.release.stores.sqlite import SqliteStore
store = SqliteStore(Path(sys.argv[1]))
number = store.read(lambda r: r.log_size())
while True:
    store.write(lambda t: (t.consume("a", number.to_bytes(8, "big"), 100), t.log_extend([b"%d" % number], str(number))))
    print(number, flush=True)
    number += 1
"""


def test_a_kill_at_any_moment_loses_no_acknowledged_write(path):
    acknowledged = -1
    for rounds in range(3):
        writer = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True)
        for _ in range(7 + 5 * rounds):
            acknowledged = int(writer.stdout.readline())
        os.kill(writer.pid, signal.SIGKILL)
        rest = writer.stdout.read().split()
        writer.wait()
        writer.stdout.close()
        acknowledged = int(rest[-1]) if rest else acknowledged
        store = SqliteStore(path)
        size = store.read(lambda r: r.log_size())
        assert size > acknowledged
        assert store.read(lambda r: r.log_leaves(0, r.log_size())) == tuple(b"%d" % n for n in range(size))
        assert store.read(lambda r: r.log_checkpoint()) == str(size - 1)
        assert all(store.read(lambda r, n=n: r.is_consumed("a", n.to_bytes(8, "big"), 100)) for n in range(size))
        store.close()
