"""A service's own SQLite file: durable transactions, and no other program's file, version or wreck is taken for it."""

import stat

import pytest

from strongroom.errors import StoreUnavailable
from strongroom.services.database import Database

TABLE = ["CREATE TABLE t (n INTEGER PRIMARY KEY) STRICT"]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "own.db"


def count(database: Database) -> int:
    with database.transaction() as connection:
        return int(connection.execute("SELECT count(*) FROM t").fetchone()[0])


def add_and_fail(database: Database) -> None:
    with database.transaction() as connection:
        connection.execute("INSERT INTO t VALUES (2)")
        raise ZeroDivisionError


@pytest.mark.parametrize("journal", ["WAL", "DELETE"])
def test_what_was_written_is_there_again_and_what_raised_is_undone(path, journal):
    first = Database(path, 7, 1, TABLE, journal=journal)
    with first.transaction() as connection:
        connection.execute("INSERT INTO t VALUES (1)")
    with pytest.raises(ZeroDivisionError):
        add_and_fail(first)
    second = Database(path, 7, 1, TABLE, journal=journal, checked=True)
    assert (count(first), count(second)) == (1, 1)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    for each in (first, second):
        each.close()
    with pytest.raises(StoreUnavailable, match=r"own\.db does not answer"):
        count(first)


@pytest.mark.parametrize("mark", [(8, 1), (7, 2), (0, 0)])
def test_another_programs_or_versions_file_is_refused_with_its_owners_remedy(path, mark):
    Database(path, *mark, TABLE).close()
    with pytest.raises(StoreUnavailable, match="another program") as refused:
        Database(path, 7, 1, TABLE, remedy="Do this.")
    assert refused.value.remedy == "Do this."


def test_a_wreck_is_refused_where_it_is_looked_through(path):
    made = Database(path, 7, 1, TABLE, journal="DELETE")
    with made.transaction() as connection:
        connection.executemany("INSERT INTO t VALUES (?)", [(number,) for number in range(5000)])
    made.close()
    content = bytearray(path.read_bytes())
    content[-8192:-4096] = b"\xff" * 4096
    path.write_bytes(content)
    with pytest.raises(StoreUnavailable):
        Database(path, 7, 1, TABLE, journal="DELETE", checked=True)


def test_a_place_that_is_none_is_unavailable(tmp_path):
    with pytest.raises(StoreUnavailable, match="cannot be used"):
        Database(tmp_path / "no" / "own.db", 7, 1, TABLE)
