import threading
import time

import pytest

from strongroom.errors import StoreUnavailable
from strongroom.release.stores.group import Grouped
from strongroom.release.stores.sqlite import SqliteStore

WAIT = 30


def together(store, works):
    """Run `works` while a first one is held, so that they share the next commit; each result or error, in order."""
    held, go = threading.Event(), threading.Event()
    outcomes = [None] * len(works)

    def hold(_):
        held.set()
        assert go.wait(WAIT)

    def run(number, work):
        try:
            outcomes[number] = store.write(work)
        except Exception as error:  # noqa: BLE001 (the test looks at it)
            outcomes[number] = error

    threads = [threading.Thread(target=store.write, args=[hold])]
    threads[0].start()
    assert held.wait(WAIT)
    threads += [threading.Thread(target=run, args=each) for each in enumerate(works)]
    for thread in threads[1:]:
        thread.start()
    until = time.monotonic() + WAIT
    while len(store._group._queue) < len(works) and time.monotonic() < until:
        time.sleep(0.001)
    go.set()
    for thread in threads:
        thread.join(WAIT)
    return outcomes


@pytest.fixture
def store(tmp_path):
    made = SqliteStore(tmp_path / "broker.db")
    yield made
    made.close()


@pytest.fixture
def groups(store, monkeypatch):
    sizes = []
    commit = store._commit

    def counted(group):
        sizes.append(len(group))
        commit(group)

    monkeypatch.setattr(store._group, "_commit", counted)
    return sizes


def consume(nonce):
    return lambda transaction: transaction.consume("a", nonce, 100)


def test_works_that_wait_share_a_commit_and_one_that_raises_takes_back_its_own_alone(store, groups):
    def half(transaction):
        transaction.consume("a", b"half", 100)
        raise KeyError

    one, failed, two = together(store, [consume(b"one"), half, consume(b"two")])
    assert (one, type(failed), two) == (True, KeyError, True)
    assert groups == [1, 3]
    seen = store.read(lambda r: [r.is_consumed("a", nonce, 100) for nonce in (b"one", b"half", b"two")])
    assert seen == [True, False, True]


def test_one_nonce_in_one_group_is_consumed_once(store, groups):
    assert sorted(together(store, [consume(b"n")] * 5)) == [False, False, False, False, True]
    assert groups == [1, 5]


def test_where_the_database_fails_nobodys_work_counts(store):
    def broken(_):
        raise StoreUnavailable("the broker's database does not answer")

    outcomes = together(store, [consume(b"one"), broken, consume(b"two")])
    assert {type(outcome) for outcome in outcomes} == {StoreUnavailable}
    assert not store.read(lambda r: r.is_consumed("a", b"one", 100) or r.is_consumed("a", b"two", 100))
    assert store.write(consume(b"one"))


def test_a_commit_that_fails_is_told_to_all_and_the_next_one_goes_on():
    def commit(group):
        for waiting in group:
            waiting.result = waiting.work(None)

    grouped = Grouped(commit)
    with pytest.raises(ZeroDivisionError):
        grouped.run(lambda _: 1 / 0)
    assert grouped.run(lambda _: 7) == 7
