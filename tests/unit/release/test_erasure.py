"""Somebody is erased from a log that stays as it is."""

import pytest

from strongroom.errors import LogInvalid, MalformedRecord
from strongroom.receipts.hidden import reveal
from strongroom.records import codec
from strongroom.records.audit import AuditQuery
from strongroom.records.cell import CellKind
from strongroom.records.digest import digest_bytes
from strongroom.records.release import Leaf
from strongroom.records.revocation import About, Subject
from strongroom.release.leaves import administrator_event
from strongroom.release.roles import Administrator, Role
from strongroom.release.state import DATABASE
from strongroom.release.wire import CellCreation

OTHER = digest_bytes(b"another owner")


def salts(world):
    found = world.store.read(lambda r: [r.openings(position) for position in range(r.log_size())])
    return [opening.salt for openings in found for opening in openings]


def values(world):
    found = world.store.read(lambda r: [r.openings(position) for position in range(r.log_size())])
    return [opening.value for openings in found for opening in openings]


def files(world):
    return b"".join(path.read_bytes() for path in world.directory.glob(f"{DATABASE}*"))


def erase(world, value, *, who=OTHER):
    return world.broker.erasure.erase(value, who=who, now=world.now)


def test_the_log_shows_nobody_who_did_what(world, worker):
    world.release(world.request(worker, world.prepared()))
    seen = codec.encode([codec.to_json(leaf) for leaf in world.logged()]).decode()
    assert world.who not in seen
    assert '"model"' not in seen
    assert '"policy"' in seen  # as an event, which is no name
    assert not any(leaf.subject in {"policy", "model"} for leaf in world.logged())
    assert [leaf.subject for leaf in world.leaves()[:3]] == ["policy", "model", "model"]


def test_who_was_erased_is_found_by_nobody_and_nothing_else_changed(world):
    world.prepared()
    world.admin.create_key("another", "policy", who=OTHER, now=world.now)
    before, logged = world.leaves(), world.logged()
    assert erase(world, world.who) == 3
    after = world.leaves()
    assert world.logged()[:-1] == logged
    assert world.who not in values(world)
    assert [leaf.subject for leaf in after[:-1]] == [leaf.subject for leaf in before]
    assert after[3] == before[3]  # by somebody else
    assert (after[-1].event, after[-1].digests, after[-1].detail) == ("erasure", (OTHER,), "openings=3")
    for old, new in zip(before[:3], after[:3], strict=True):
        assert world.who in old.digests
        assert world.who not in new.digests


def test_nothing_of_what_was_erased_is_left_in_the_files(world):
    for number in range(300):
        world.admin.create_key(f"key-{number}", "policy", who=(world.who, OTHER)[number % 2], now=world.now)
    gone = [
        opening.salt
        for openings in world.store.read(lambda r: [r.openings(position) for position in range(r.log_size())])
        for opening in openings
        if opening.value == world.who
    ]
    assert len(gone) == 150
    assert all(salt in files(world) for salt in gone)
    assert erase(world, world.who) == 150
    content = files(world)
    assert not [salt for salt in gone if salt in content]
    assert all(salt in content for salt in salts(world))
    assert world.who.encode() not in content


def test_whoever_erases_themselves_does_not_come_back_by_that(world):
    world.prepared()
    assert erase(world, world.who, who=world.who) == 3
    assert world.who not in values(world)
    assert world.leaves()[-1].event == "erasure"


def test_asking_again_is_harmless_and_leaves_no_leaf(world):
    world.prepared()
    erase(world, world.who)
    size = world.log_size()
    assert erase(world, world.who) == 0
    assert world.log_size() == size


def test_a_name_goes_with_its_cell_and_with_details_that_say_it(world):
    make = world.broker.cells.create
    make(CellCreation("budget", CellKind.BUDGET, "rules", 5, "outputs"), who=world.who, now=world.now)
    make(CellCreation("another", CellKind.BUDGET, "rules-2", 5, "outputs-2"), who=world.who, now=world.now)
    assert erase(world, "rules") == 1
    assert erase(world, "outputs") == 0  # the same detail
    assert [value for value in values(world) if "outputs" in value] == [
        "created budget policy=rules-2 limit=5 output=outputs-2"
    ]
    assert erase(world, "budget") == 1
    assert "another" in values(world)


def test_a_tenant_goes_with_all_its_names_and_no_others(world):
    leaves = [
        Leaf("key", world.now, name, (world.who,), "created")
        for name in ("acme/one", "acme/two", "acme-b/one", "a%me/x")
    ]
    leaves.append(Leaf("refusal", world.now, "cell:acme/steps", (OTHER,), "code=x"))
    leaves.append(Leaf("cell", world.now, "own", (world.who,), "created counter policy=acme/p limit=None output=None"))
    world.store.write(lambda transaction: world.broker.log.append_all(transaction, leaves))
    assert erase(world, "acme/") == 4
    assert [value for value in values(world) if "acme/" in value] == []
    assert {"acme-b/one", "a%me/x", "own"} <= set(values(world))
    assert erase(world, "a%me/") == 1


def test_a_name_goes_from_what_was_revoked_too(world):
    revocations = world.admin.revocations
    for about, name in ((About.KEY, "acme/one"), (About.POLICY, "acme/p"), (About.TENANT, "acme"), (About.KEY, "b/k")):
        revocations.revoke(Subject(about, name), who=OTHER, now=world.now)
    assert erase(world, "acme/one") == 1
    assert erase(world, "acme/") == 2
    assert [value for value in values(world) if value != OTHER] == ["key:b/k"]
    assert revocations.all()  # what is in force stays so


def test_a_tenant_goes_from_what_was_said_of_its_administrators(world):
    for tenant in ("acme", "acme-b"):
        person = Administrator(OTHER, b"", Role.OWNER, tenant, None, None)
        leaf = administrator_event(person, "added", time=world.now, who=world.who)
        world.store.write(lambda transaction, leaf=leaf: world.broker.log.append(transaction, leaf))
    assert erase(world, "acme/") == 1
    assert [value for value in values(world) if "tenant=" in value] == ["added role=owner tenant=acme-b"]


def test_a_name_that_is_a_number_takes_no_numbers_along(world):
    make = world.broker.cells.create
    make(CellCreation("budget", CellKind.BUDGET, "rules", 5, None), who=world.who, now=world.now)
    assert erase(world, "5") == 0


def test_an_auditor_gets_what_is_kept_and_can_check_it(world, worker):
    world.release(world.request(worker, world.prepared()))
    erase(world, "model")
    page = world.broker.audit(AuditQuery(0, 0, None, 0, codec.MAX_INTEGER), sees=lambda *_: True)
    opened = [reveal(codec.decode(Leaf, leaf.leaf), leaf.openings) for leaf in page.leaves]
    assert [closed for _, closed in opened] == [0, 1, 1, 0, 0]
    assert opened[1][0].digests == (world.who,)
    first = page.leaves[0]
    with pytest.raises((LogInvalid, MalformedRecord)):
        reveal(codec.decode(Leaf, page.leaves[1].leaf), first.openings)


def test_an_old_database_is_given_the_table(world):
    import sqlite3

    world.prepared()
    world.broker.close()
    with sqlite3.connect(world.directory / DATABASE) as connection:
        connection.execute("drop table openings")
        connection.execute("pragma user_version = 2")
    world.open()
    assert values(world) == []
    world.admin.create_key("another", "policy", who=world.who, now=world.now)
    assert sorted(values(world)) == sorted(["another", world.who])
