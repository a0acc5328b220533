"""What the broker keeps for auditors: in the decision's transaction, once, for so long, in bounded pages."""

import sqlite3

import pytest

from strongroom.errors import AppraisalRefused, LogInvalid, MalformedRecord
from strongroom.receipts.hidden import reveal
from strongroom.records import codec
from strongroom.records.audit import AuditQuery
from strongroom.records.digest import digest_record
from strongroom.records.evidence import Collateral
from strongroom.records.names import tenant_of
from strongroom.records.release import Grant, Leaf
from strongroom.records.revocation import About, Subject
from strongroom.release import archive
from strongroom.release.attempts import FORGET_SECONDS
from strongroom.release.state import DATABASE

EVER = codec.MAX_INTEGER
EVERYTHING = lambda *_: True  # noqa: E731
COLLATERAL, KEY_ID = Collateral(), "model"


@pytest.fixture
def fresh(worker):
    """Makes workers that nobody met before."""
    return type(worker)


def pages(world, *, lease=None, since=0, until=EVER):
    start = size = 0
    while True:
        page = world.broker.audit(AuditQuery(start, size, lease, since, until), sees=EVERYTHING)
        yield page
        start, size = page.next, page.size
        if start == size:
            return


def everything(world, **wanted):
    return [leaf for page in pages(world, **wanted) for leaf in page.leaves]


def test_a_release_and_its_renewal_are_kept_whole_and_their_collateral_once(world, worker):
    request = world.request(worker, world.prepared())
    answer = world.release(request)
    world.renew(worker, answer.lease_id)
    (page,) = pages(world, lease=answer.lease_id)
    kept = [leaf.decision for leaf in page.leaves if leaf.decision]
    assert kept[0].token == answer.token
    assert kept[0].evidence == request.bundle.evidence
    assert page.collateral == (COLLATERAL,)
    assert [policy.payload for policy in page.policies] == [codec.encode(world.policy())]
    grant = codec.decode(Grant, answer.grants[0].payload)
    assert kept[0].grants == (grant.summary,)
    assert digest_record(kept[0].grants[0]) in codec.decode(Leaf, answer.proof.leaf).digests
    assert kept[1].grants == ()


def test_the_sealed_key_itself_is_nowhere_in_the_archive(world, worker):
    answer = world.release(world.request(worker, world.prepared()))
    grant = codec.decode(Grant, answer.grants[0].payload)
    (page,) = pages(world)
    assert codec.b64encode(grant.ciphertext).encode() not in codec.encode(page)


def test_a_refusal_leaves_its_leaf_and_nothing_else(world, worker):
    request = world.request(worker, world.prepared())
    world.appraiser.admits = False
    with pytest.raises(AppraisalRefused):
        world.release(request)
    assert everything(world)[-1].decision is None
    assert codec.decode(Leaf, everything(world)[-1].leaf).event == "refusal"


def test_a_lease_shows_its_own_leaves_and_those_of_policies_and_keys(world, worker, another_worker):
    wrapped = world.prepared()
    mine = world.release(world.request(worker, wrapped)).lease_id
    other = world.release(world.request(another_worker, wrapped)).lease_id
    found = everything(world, lease=mine)
    subjects = {reveal(codec.decode(Leaf, leaf.leaf), leaf.openings)[0].subject for leaf in found}
    assert mine in subjects
    assert KEY_ID in subjects
    assert other not in subjects


def test_what_opens_a_leaf_is_given_to_those_whose_name_it_hides(world):
    admin = world.admin
    for name in ("acme/key", "beta/key"):
        admin.create_key(name, f"{tenant_of(name)}/policy", who=world.who, now=world.now)
        admin.revocations.revoke(Subject(About.KEY, name), who=world.who, now=world.now)
    for tenant in ("acme", "beta", ""):
        admin.revocations.revoke(Subject(About.TENANT, tenant), who=world.who, now=world.now)
    admin.revocations.revoke(Subject(About.WORKER, world.who), who=world.who, now=world.now)

    def of_acme(*names):
        return any(tenant_of(name) == "acme" for name in names)

    page = world.broker.audit(AuditQuery(0, 0, None, 0, EVER), sees=of_acme)
    shown = [reveal(codec.decode(Leaf, leaf.leaf), leaf.openings)[0].subject for leaf in page.leaves if leaf.openings]
    assert shown == ["acme/key", "key:acme/key", "tenant:acme"]
    assert len(page.leaves) == 8


def test_a_span_comes_with_the_leaf_before_it_and_the_leaf_after_it(world, fresh):
    wrapped = world.prepared()
    times = []
    for _ in range(4):
        world.now += 10
        times.append(world.now)
        world.release(world.request(fresh(), wrapped))
    found = [codec.decode(Leaf, leaf.leaf).time for leaf in everything(world, since=times[1], until=times[2])]
    assert found == times
    assert everything(world, since=world.now + 1) == []


def test_pages_are_bounded_and_all_of_one_size_while_the_log_grows(world, monkeypatch, fresh):
    wrapped = world.prepared()
    for _ in range(5):
        world.release(world.request(fresh(), wrapped))
    monkeypatch.setattr(archive, "PAGE_LEAVES", 3)
    found = []
    size = world.log_size()
    for page in pages(world):
        assert page.size == size
        assert len(page.leaves) <= 3
        found += [leaf.index for leaf in page.leaves]
        world.release(world.request(fresh(), wrapped))
    assert found == list(range(size))


def test_a_page_ends_by_its_bytes_and_by_the_leaves_it_looked_at(world, monkeypatch, fresh):
    wrapped = world.prepared()
    for _ in range(3):
        world.release(world.request(fresh(), wrapped))
    whole = everything(world)
    for limit in ("PAGE_BYTES", "SCANNED_LEAVES"):
        with monkeypatch.context() as patch:
            patch.setattr(archive, limit, 1)
            assert len(list(pages(world))) == world.log_size()
            assert everything(world) == whole


@pytest.mark.parametrize("query", [AuditQuery(0, 99, None, 0, EVER), AuditQuery(0, -1, None, 0, EVER)])
def test_a_size_that_the_log_does_not_have_is_refused(world, query):
    world.prepared()
    with pytest.raises(LogInvalid):
        world.broker.audit(query, sees=EVERYTHING)


def test_an_empty_log_has_nothing_to_show(world):
    with pytest.raises(LogInvalid):
        world.broker.audit(AuditQuery(0, 0, None, 0, EVER), sees=EVERYTHING)


@pytest.mark.parametrize("start", [-1, 99])
def test_a_place_outside_of_the_log_is_refused(world, start):
    world.prepared()
    with pytest.raises(MalformedRecord):
        world.broker.audit(AuditQuery(start, 0, None, 0, EVER), sees=EVERYTHING)


def test_after_its_days_a_decision_is_dropped_and_shared_collateral_stays_for_the_younger_one(world, fresh):
    wrapped, begun = world.prepared(), world.now
    world.release(world.request(fresh(), wrapped))
    world.now += 10 * archive.DAY
    world.release(world.request(fresh(not_after=world.now + 100), wrapped))
    world.now = begun + archive.KEEP_DAYS * archive.DAY + FORGET_SECONDS
    world.release(world.request(fresh(not_after=world.now + 100), wrapped))
    kept = [leaf.decision is not None for leaf in everything(world)]
    assert kept == [False] * 4 + [True] * 2
    assert world.store.read(lambda r: r.collateral(COLLATERAL.digest)) is not None


def test_zero_days_keep_nothing(world, worker):
    wrapped = world.prepared()
    world.broker._attempts.archive = archive.Archive(world.broker.log, days=0)
    world.release(world.request(worker, wrapped))
    (page,) = pages(world)
    assert [leaf.decision for leaf in page.leaves] == [None] * world.log_size()
    assert page.collateral == page.policies == ()


def test_a_database_from_before_there_was_an_archive_gets_its_tables(world, worker):
    wrapped = world.prepared()
    world.broker.close()
    with sqlite3.connect(world.directory / DATABASE) as old:
        old.executescript("DROP TABLE decisions; DROP TABLE collaterals; PRAGMA user_version = 1")
    old.close()
    world.open()
    world.release(world.request(worker, wrapped))
    assert everything(world)[-1].decision is not None
