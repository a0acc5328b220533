import sqlite3

import pytest

from strongroom.errors import StoreUnavailable
from strongroom.records.release import LogProof
from strongroom.release.stores.checked import from_row, read_back
from strongroom.release.stores.schema import schema
from strongroom.release.stores.sqlite import SqliteStore


def test_a_row_that_makes_no_sense_is_the_stores_error():
    @from_row
    def number(row):
        return int(row)

    assert number("7") == 7
    for row in ("seven", None):
        with pytest.raises(StoreUnavailable, match="corrupt"):
            number(row)


def test_a_record_of_our_own_that_does_not_parse_is_the_stores_error():
    for body in (b"", b"{}", b"\xff"):
        with pytest.raises(StoreUnavailable, match="corrupt"):
            read_back(LogProof, body)


@pytest.mark.parametrize(
    ("table", "values"),
    [
        ("leases", {"state": "actiwe"}),
        ("leases", {"key_ids": "[a"}),
        ("keys", {"state": "retirec"}),
        ("cells", {"kind": "bucket"}),
    ],
)
def test_a_changed_row_is_noticed_when_it_is_read(tmp_path, table, values):
    path = tmp_path / "broker.db"
    SqliteStore(path).close()
    with sqlite3.connect(path) as connection:
        row = {
            column.name: b"x" if str(column.type) == "BLOB" else 1 if str(column.type) == "INTEGER" else "active"
            for column in schema.tables[table].columns
        } | values
        names, marks = ",".join(f'"{name}"' for name in row), ",".join("?" * len(row))
        connection.execute(f"INSERT INTO {table} ({names}) VALUES ({marks})", list(row.values()))  # noqa: S608 (ours)
    connection.close()
    store = SqliteStore(path)
    with pytest.raises(StoreUnavailable, match="corrupt"):
        store.read(lambda reader: getattr(reader, table)())
    store.close()


def test_a_value_of_another_type_is_found_at_the_start(tmp_path):
    path = tmp_path / "broker.db"
    SqliteStore(path).close()
    with sqlite3.connect(path) as connection:  # the file as a flipped bit in a record's head would leave it
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute("UPDATE sqlite_schema SET sql = replace(sql, 'STRICT', '') WHERE name = 'leaves'")
    connection.close()
    with sqlite3.connect(path) as connection:
        connection.execute("INSERT INTO leaves VALUES (0, 'text')")
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute("UPDATE sqlite_schema SET sql = rtrim(sql) || ' STRICT' WHERE name = 'leaves'")
    connection.close()
    with pytest.raises(StoreUnavailable, match="corrupt"):
        SqliteStore(path)


def test_a_changed_nonce_is_found_at_the_start(tmp_path):
    """It is in the table and once more in an index, which must say the same; else a used nonce could be used again."""
    path, nonce = tmp_path / "broker.db", bytes(range(100, 132))
    store = SqliteStore(path)
    store.write(lambda transaction: transaction.consume("challenge", nonce, 100))
    store.close()
    data = path.read_bytes()
    assert data.count(nonce) == 2
    path.write_bytes(data.replace(nonce, bytes([nonce[0] ^ 1]) + nonce[1:], 1))
    with pytest.raises(StoreUnavailable, match="corrupt"):
        SqliteStore(path)
