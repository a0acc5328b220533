import random
import threading

import pytest
import sqlalchemy as sa

from strongroom.errors import StoreUnavailable
from strongroom.records.destruction import KeyOrigin
from strongroom.release.stores import sqlite
from strongroom.release.stores.lives import KeyOrder, StoredDestruction
from strongroom.release.stores.port import KeyState, StoredKey
from strongroom.release.stores.schema import Keys
from strongroom.release.stores.statements import Connection

PIECE = 12


def key(name, version=1):
    return StoredKey(name, version, "policy", random.Random(f"{name} {version}").randbytes(60), KeyState.ACTIVE, 5)


@pytest.fixture
def store(tmp_path, monkeypatch):
    """A store of an SQLite that by itself overwrites nothing (some are built so that they do)."""
    monkeypatch.setattr(sqlite, "PRAGMAS", (*sqlite.PRAGMAS, "secure_delete = OFF"))
    made = sqlite.SqliteStore(tmp_path / "broker.db")
    yield made
    made.close()


def pieces_in_files(store, keys):
    """How many pieces of what is wrapped in `keys` stand anywhere in the raw files: database, journal, index of it."""
    files = sorted(store._path.parent.glob("broker.db*"))
    assert {file.name for file in files} >= {"broker.db", "broker.db-wal", "broker.db-shm"}
    raw = b"\0".join(file.read_bytes() for file in files)
    cut = [one.wrapped[at : at + PIECE] for one in keys for at in range(0, len(one.wrapped) - PIECE + 1, PIECE)]
    return sum(piece in raw for piece in cut), len(cut)


@pytest.mark.parametrize("seed", range(4))
def test_no_trace_of_a_destroyed_key_is_in_the_files_whatever_happened_to_it_before(store, seed):
    order = random.Random(seed)
    names = [f"key-{number}" for number in range(150)]
    keys = [key(name, version) for name in names for version in range(1, order.randint(2, 4))]
    order.shuffle(keys)  # so that pages are split and balanced in between
    for one in keys:
        store.write(lambda t, one=one: t.put_key(one))
        if order.random() < 0.1:
            store.scrub()
    retired = order.sample(names, 120)
    for name in retired:
        store.write(lambda t, name=name: t.set_key_state(name, KeyState.RETIRED))
    ended = set(retired[:40])
    gone, left = [one for one in keys if one.id in ended], [one for one in keys if one.id not in ended]
    found, pieces = pieces_in_files(store, gone)
    assert found == pieces
    for name in ended:
        store.write(lambda t, name=name: t.destroy_key(name, StoredDestruction(7, b"signed")))
    store.scrub()
    assert pieces_in_files(store, gone)[0] == 0
    found, pieces = pieces_in_files(store, left)
    assert found == pieces
    kept = {(one.id, one.version): one for one in store.read(lambda r: r.keys())}
    assert {(one.id, one.version) for one in keys} == set(kept)
    assert all(kept[one.id, one.version].wrapped == one.wrapped for one in left)
    assert {(kept[one.id, one.version].wrapped, kept[one.id, one.version].state) for one in gone} == {
        (b"", KeyState.DESTROYED)
    }


def test_traces_of_before_keys_were_overwritten_go_too(store):
    """A database may be older than the care that is taken now."""
    keys = [key(f"key-{number}") for number in range(150)]
    for one in keys:
        store.write(lambda t, one=one: t.put_key(one))
    for one in keys:
        change = sa.update(Keys).where(Keys.c.id == one.id).values(state=KeyState.RETIRED.value)
        store.write(lambda t, change=change: t._connection.execute(change))
    for one in keys[:100]:
        store.write(lambda t, one=one: t.destroy_key(one.id, StoredDestruction(7, b"signed")))
    store.scrub()
    assert pieces_in_files(store, keys[:100])[0] == 0


def test_without_overwriting_a_trace_stays(store):
    """So the test above can fail."""
    for number in range(200):
        store.write(lambda t, number=number: t.put_key(key(f"key-{number}")))
    store.write(lambda t: t._connection.execute(sa.delete(Keys).where(Keys.c.id != "key-0")))
    store.scrub()
    assert pieces_in_files(store, [key(f"key-{number}") for number in range(1, 200)])[0] > 0


def test_a_destroyed_key_keeps_its_name_and_never_changes_again(store):
    store.write(lambda t: t.put_key(key("a")))
    store.write(lambda t: t.destroy_key("a", StoredDestruction(3, b"signed")))
    assert not store.write(lambda t: t.put_key(key("a")))
    assert store.write(lambda t: t.set_key_state("a", KeyState.RETIRED)) == 0
    assert store.read(lambda r: r.destruction("a")) == StoredDestruction(3, b"signed")
    assert store.read(lambda r: r.destruction("b")) is None


def test_overwriting_ends_with_what_it_was_for(store):
    driver = store._writer
    rows = sqlite.SqliteTransaction(Connection(driver))

    def mode():
        return driver.execute("PRAGMA secure_delete").fetchone()[0]

    def fail():
        with rows.overwriting():
            assert mode() == 1
            raise KeyError

    for number, name in enumerate(("OFF", "ON", "FAST")):
        driver.execute(f"PRAGMA secure_delete = {name}")
        with pytest.raises(KeyError):
            fail()
        assert mode() == number


def test_orders_only_get_stricter(store):
    put = [KeyOrder(2, 100), KeyOrder(2, 100), KeyOrder(2, 150), KeyOrder(2, 50), KeyOrder(3, 300)]
    assert [store.write(lambda t, one=one: t.put_order("a", one)) for one in put] == [True, False, False, True, True]
    assert store.read(lambda r: r.key_orders("a")) == (KeyOrder(2, 50), KeyOrder(3, 300))
    assert store.read(lambda r: r.key_orders("b")) == ()


def test_only_what_was_imported_is_said_to_be(store):
    store.write(lambda t: t.mark_imported("a", 1))
    assert [store.read(lambda r, v=v: r.key_origin("a", v)) for v in (1, 2)] == [KeyOrigin.IMPORTED, KeyOrigin.CREATED]


def test_where_somebody_reads_all_the_time_the_journal_is_not_said_to_be_cut(store, monkeypatch):
    monkeypatch.setattr(sqlite, "PRAGMAS", (*sqlite.PRAGMAS, "busy_timeout = 1"))
    store.write(lambda t: t.put_key(key("a")))
    reading, end = threading.Event(), threading.Event()

    def read(reader):
        reader.keys()
        reading.set()
        assert end.wait(30)

    thread = threading.Thread(target=store.read, args=[read])
    thread.start()
    assert reading.wait(30)
    store.write(lambda t: t.destroy_key("a", StoredDestruction(1, b"signed")))
    try:
        with pytest.raises(StoreUnavailable, match="journal"):
            store.scrub()
    finally:
        end.set()
        thread.join(30)
    store.scrub()
    assert pieces_in_files(store, [key("a")])[0] == 0
