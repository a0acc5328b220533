"""Power cuts, torn and lost writes, a full disk, corrupted pages: what was acknowledged is there, or the broker says no."""

import contextlib
import dataclasses
import random
import resource
import shutil
import sqlite3

import pytest
from consistency import Looked

from strongroom.appraisal import ear
from strongroom.errors import Refused, StoreUnavailable, StrongroomError
from strongroom.receipts.identity import token_key
from strongroom.receipts.proof import verify_proof
from strongroom.records import codec
from strongroom.records.release import Leaf
from strongroom.release import leaves
from strongroom.release.broker import Broker
from strongroom.release.grants import open_grant, read_grant
from strongroom.release.state import DATABASE
from strongroom.release.stores.sqlite import SqliteStore

SECTOR, PAGE = 512, 4096
WAL = f"{DATABASE}-wal"
WAL_HEADER = 32  # sqlite.org/fileformat.html, section 4.1
CUTS_EACH = 6


class Life:
    """A broker under a mixed load, one act after the other, and what was acknowledged of it."""

    def __init__(self, world, worker, seed):
        self.world, self.worker, self.random = world, worker, random.Random(seed)
        self.wrapped = world.prepared()
        self.answers = []  # requests with their answers

    def act(self):
        """Something that writes, chosen at random."""
        self.random.choice([self.release, self.release, self.renew, self.policy, self.refused, self.revoke])()

    def release(self):
        request = self.world.request(self.worker, self.wrapped)
        self.answers.append((request, self.world.release(request)))

    def renew(self):
        if self.answers:
            with contextlib.suppress(Refused):  # it may be one that was revoked
                self.world.renew(self.worker, self.random.choice(self.answers)[1].lease_id)

    def revoke(self):
        if self.answers:
            lease = self.random.choice(self.answers)[1].lease_id
            with contextlib.suppress(Refused):
                self.world.admin.revoke_lease(lease, who=self.world.who, now=self.world.now)

    def policy(self):
        newest = self.world.store.read(lambda r: r.policy("policy")).version
        self.world.put_policy(version=newest + 1)

    def refused(self):
        request = dataclasses.replace(self.world.request(self.worker, self.wrapped), keys=())
        with pytest.raises(Refused):
            self.world.release(request)


@pytest.fixture
def life(world, worker):
    return Life(world, worker, 7)


def by_hand(store):
    """From now on the WAL goes into the database only when `checkpoint` says so."""
    checkpoint(store)
    for driver in (store._writer, *store._idle):
        driver.execute("PRAGMA wal_autocheckpoint = 0")


def checkpoint(store):
    busy, *_ = store._writer.execute("PRAGMA wal_checkpoint(FULL)").fetchone()
    assert busy == 0


def files(folder):
    """Database and WAL as they stand: after a commit, what is durable."""
    return {name: (folder / name).read_bytes() if (folder / name).exists() else b"" for name in (DATABASE, WAL)}


def cut(chance, before, after):
    """What a power cut can leave of the writes between two durable states: each sector old, new, empty or rubbish."""
    size = chance.choice([len(before), len(after), chance.randint(*sorted((len(before), len(after))))])
    left = bytearray(before.ljust(size, b"\0")[:size])
    step, kept = chance.choice([SECTOR, PAGE]), chance.random()
    for start in range(0, size, step):
        old, new = before[start : start + step], after[start : min(start + step, size)]
        if old == new:
            continue
        fate = chance.random()
        for at in range(start, min(start + step, size)):
            same = at < min(len(before), len(after)) and before[at] == after[at]
            if same or at >= len(after):  # a byte that nobody wrote does not change (sqlite.org/psow.html)
                continue
            if fate < kept:
                left[at] = after[at]
            elif fate > 0.9:
                left[at] = chance.choice([0, chance.randrange(256)])
    return bytes(left)


def cut_wal(chance, before, after):
    """As `cut`; but where the WAL starts anew, its header is synchronised before any frame is written (sqlite.org/src/info/ff5be73dee)."""
    if before[:WAL_HEADER] == after[:WAL_HEADER] or not before:
        return cut(chance, before, after)
    begun = after[:WAL_HEADER] + before[WAL_HEADER:]
    return cut(chance, before, begun) if chance.random() < 0.3 else cut(chance, begun, after)


def reopened(world, folder):
    """The broker over the files in `folder`. Raises `StoreUnavailable`."""
    store = SqliteStore(folder / DATABASE)
    try:
        return Broker(store, world.keys, appraiser=world.appraiser, owner_keys=[world.owner.public_key()])
    except BaseException:
        store.close()
        raise


def check(world, folder, acknowledged, entries):
    """What a power cut left: everything acknowledged is there, in a log that verifies and tables that agree with it."""
    broker = reopened(world, folder)
    try:
        looked = Looked(broker.identity)
        looked.look(broker.store)
        assert looked.entries[: len(entries)] == entries
        assert len(looked.entries) <= len(entries) + 1
        for request, answer in acknowledged:
            looked.holds(answer.proof)
            assert broker.release(codec.encode(request), now=world.now) == answer
    finally:
        broker.close()


@pytest.mark.parametrize("seed", range(4))
def test_a_power_cut_in_any_write_loses_nothing_that_was_acknowledged(world, worker, tmp_path, seed):
    chance, life = random.Random(seed), Life(world, worker, seed)
    by_hand(world.store)
    cuts = 0
    for number in range(12):
        before, acknowledged = files(tmp_path), list(life.answers)
        entries = list(world.store.read(lambda r: r.log_leaves(0, r.log_size())))
        if number % 4 == 3:
            checkpoint(world.store)  # the WAL stays, and is written from its start next
        else:
            life.act()
        after = files(tmp_path)
        changed = [name for name in before if before[name] != after[name]]
        assert len(changed) <= 1, "a commit writes the WAL, a checkpoint the database; in between is an fsync"
        for _ in range(CUTS_EACH if changed else 0):
            folder = tmp_path / f"cut-{cuts}"
            folder.mkdir()
            for name, content in before.items():
                left = cut_wal if name == WAL else cut
                (folder / name).write_bytes(left(chance, content, after[name]) if name in changed else content)
            check(world, folder, acknowledged, entries)
            shutil.rmtree(folder)
            cuts += 1
    assert cuts > 6 * CUTS_EACH


def test_a_wal_cut_at_any_place_leaves_a_state_that_was_durable(life, world, tmp_path):
    """Not what a power cut does, whose lost part was never acknowledged: here acknowledged commits are cut off, whole."""
    by_hand(world.store)
    states = [list(world.store.read(lambda r: r.log_leaves(0, r.log_size())))]
    for _ in range(6):
        life.release()
        states.append(list(world.store.read(lambda r: r.log_leaves(0, r.log_size()))))
    whole = files(tmp_path)
    for _ in range(30):
        folder = tmp_path / "cut"
        folder.mkdir()
        (folder / DATABASE).write_bytes(whole[DATABASE])
        (folder / WAL).write_bytes(whole[WAL][: life.random.randrange(len(whole[WAL]))])
        broker = reopened(world, folder)
        looked = Looked(broker.identity)
        looked.look(broker.store)
        broker.close()
        assert looked.entries in states
        shutil.rmtree(folder)


# --- a full disk ------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def full_disk(tmp_path):
    """No file of this process grows beyond what the WAL has now, but for a page."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, ((tmp_path / WAL).stat().st_size + PAGE, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@contextlib.contextmanager
def full_database(store):
    """SQLite itself says that there is no room (SQLITE_FULL)."""
    writer = store._writer
    (pages,), (before,) = (writer.execute(f"PRAGMA {name}").fetchone() for name in ("page_count", "max_page_count"))
    writer.execute(f"PRAGMA max_page_count = {pages}")
    try:
        yield
    finally:
        writer.execute(f"PRAGMA max_page_count = {before}")


@pytest.mark.parametrize("kind", ["disk", "database"])
def test_a_full_disk_is_503_keeps_nothing_half_and_goes_on_when_there_is_room(world, life, tmp_path, kind):
    for _ in range(5):
        life.act()
    looked = Looked(world.broker.identity)
    looked.look(world.store)
    size, requests, failed = len(looked.entries), [], 0
    with full_disk(tmp_path) if kind == "disk" else full_database(world.store):
        for _ in range(30):
            request = world.request(life.worker, life.wrapped)
            requests.append(request)
            try:
                life.answers.append((request, world.release(request)))  # there may be room for the first ones
            except StoreUnavailable as full:
                failed += 1
                assert full.remedy  # noqa: PT017 (each of them)
        assert failed > 10
        looked.look(world.store)  # what is there can be read, and is whole
        assert len(looked.entries) == size + len(requests) - failed
    for request in requests:
        answer = world.release(request)  # the same bytes: now a first decision, or the one that was kept
        assert {r.challenge.nonce: a for r, a in life.answers}.get(request.challenge.nonce, answer) == answer
    looked.look(world.store)
    assert len(looked.entries) == size + len(requests)


# --- corrupted pages ---------------------------------------------------------------------------------------------------


@pytest.fixture
def ended(world, tmp_path):
    """Ends the broker, so that a test can damage its files; afterwards the good ones are there again."""
    good = tmp_path / "good"

    def end():
        world.broker.close()
        good.write_bytes((tmp_path / DATABASE).read_bytes())

    yield end
    shutil.move(good, tmp_path / DATABASE)
    world.open()  # for the one who closes it


DAMAGES = {
    "rubbish": lambda chance, _, page: chance.randbytes(len(page)),
    "zeros": lambda _, __, page: bytes(len(page)),
    "one byte": lambda chance, _, page: flipped(chance, page),
    "half of it": lambda chance, _, page: page[: len(page) // 2] + chance.randbytes(len(page) // 2),
    "another page": lambda chance, data, _: page_of(data, chance.randrange(len(data) // PAGE)),
}


def page_of(data, number):
    return bytes(data[number * PAGE : (number + 1) * PAGE])


def flipped(chance, page):
    at = chance.randrange(len(page))
    return page[:at] + bytes([page[at] ^ 1 << chance.randrange(8)]) + page[at + 1 :]


@pytest.mark.parametrize("kind", DAMAGES)
def test_a_corrupted_page_never_releases_something_wrong(ended, world, life, tmp_path, kind):
    for _ in range(30):
        life.act()
    life.release()
    looked = Looked(world.broker.identity)
    looked.look(world.store)
    ended()
    whole, chance = (tmp_path / DATABASE).read_bytes(), random.Random(kind)
    outcomes = {"refused to start": 0, "served": 0}
    for number in range(60):
        data = bytearray(whole)
        for _ in range(chance.choice([1, 1, 3])):
            page = chance.randrange(len(data) // PAGE)
            data[page * PAGE : (page + 1) * PAGE] = DAMAGES[kind](chance, data, page_of(data, page))
        folder = tmp_path / f"damaged-{number}"
        folder.mkdir()
        (folder / DATABASE).write_bytes(data)
        try:
            broker = reopened(world, folder)
        except StoreUnavailable as refused:
            assert refused.remedy  # noqa: PT017 (each of them)
            outcomes["refused to start"] += 1
        else:
            serve(world, life, broker, looked)
            outcomes["served"] += 1
            broker.close()
        shutil.rmtree(folder)
    assert outcomes["refused to start"] > 0, outcomes


def serve(world, life, broker, looked):
    """A broker that started over a damaged database gives the right thing or an error of ours, over the log that was there."""
    entries = list(broker.store.read(lambda r: r.log_leaves(0, r.log_size())))
    assert entries == looked.entries
    for request, answer in life.answers[-5:]:
        try:
            again = broker.release(codec.encode(request), now=world.now)
        except StrongroomError:
            continue
        if again != answer:  # changed in its row: what a client takes of it is right all the same
            with contextlib.suppress(StrongroomError):
                assert opened(world, life.worker, life.wrapped, request, again) == bytes(range(32))
    request = world.request(life.worker, life.wrapped)
    with contextlib.suppress(StrongroomError):
        answer = broker.release(codec.encode(request), now=world.now)
        assert opened(world, life.worker, life.wrapped, request, answer) == bytes(range(32))
        added = broker.store.read(lambda r: r.log_leaves(len(entries), r.log_size()))
        decided = [codec.decode(Leaf, leaf).event for leaf in added]
        assert decided.count("release") == 1
        assert decided[-1] == "release"
    for verb in (broker.administration.keys, broker.administration.policies, broker.cells.all):
        with contextlib.suppress(StrongroomError):
            verb()
    with contextlib.suppress(StrongroomError):
        broker.administration.leases(now=world.now)


def opened(world, worker, wrapped, request, answer):
    """As a worker takes its answer: grant, token and proof."""
    identity, evidence = world.broker.identity, request.bundle.evidence
    leaf = verify_proof(answer.proof, origin=identity.log_origin, log_key=identity.log)
    verdict = ear.from_token(answer.token, token_key(identity))
    grants = [read_grant(envelope, identity) for envelope in answer.grants]
    leaves.check_decided(leaf, leaves.RELEASE, evidence=evidence, answer=answer, grants=grants, level=verdict.level)
    return open_grant(
        answer.grants[0],
        broker=identity,
        release_key=worker.release,
        evidence=evidence,
        artifact=request.keys[0].artifact,
        wrapped=wrapped,
        lease_id=answer.lease_id,
    )


def test_every_page_of_the_log_is_under_the_checkpoint_at_the_start(ended, world, life, tmp_path):
    """What SQLite cannot see, a leaf changed within its row, the log's own checkpoint does."""
    life.release()
    ended()
    with contextlib.closing(sqlite3.connect(tmp_path / DATABASE)) as connection, connection:
        connection.execute("UPDATE leaves SET leaf = CAST(replace(leaf, 'version=1', 'version=2') AS BLOB)")
    with pytest.raises(StoreUnavailable, match="its own checkpoint"):
        reopened(world, tmp_path)
