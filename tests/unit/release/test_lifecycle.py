import dataclasses
import secrets

import pytest

from strongroom.crypto.signatures import generate_ed25519, sign_envelope
from strongroom.errors import LeaseEnded, LogInvalid, ReleaseRefused, SignatureInvalid, StoreUnavailable, UsageError
from strongroom.receipts.destruction import check_destruction, leaf_of, sign_destruction
from strongroom.records import codec
from strongroom.records.cell import CellKind, Output, Spend
from strongroom.records.destruction import KeyOrigin
from strongroom.records.digest import digest_bytes
from strongroom.records.release import Edition, LeaseState
from strongroom.release.keys import seal_import
from strongroom.release.lifecycle import row_digest
from strongroom.release.opening import _check_root
from strongroom.release.roots import FileRoot
from strongroom.release.stores.port import KeyState
from strongroom.release.wire import CELL_PAYLOAD_TYPE, CellCreation, ImportContext, RekeyOrder

KEK = secrets.token_bytes(32)


def sealed(world, kek=KEK, *, key_id="own", max_uses=None, changed=None):
    identity = world.broker.identity
    context = ImportContext(identity.fingerprint, key_id, "policy", max_uses)
    request = seal_import(identity.wrapping, kek, dataclasses.replace(context, **(changed or {})))
    return dataclasses.replace(request, policy_id="policy", max_uses=max_uses)


def take(world, request, key_id="own"):
    return world.broker.lifecycle.import_key(key_id, request, who=world.who, now=world.now)


def known(world):
    return world.admin.keys()


def destroy(world, key_id="model"):
    return world.broker.lifecycle.destroy(key_id, who=world.who, now=world.now)


def order(world, least, since=0, key_id="model"):
    return world.broker.lifecycle.order(key_id, RekeyOrder(least, since), who=world.who, now=world.now)


def spend(world, worker, lease_id, wrapped):
    """For a grant of the output key of the budget `epsilon`."""
    request = Spend("epsilon", lease_id, secrets.token_bytes(32), 1, "query", Output(wrapped, worker.keyset))
    envelope = sign_envelope(CELL_PAYLOAD_TYPE, codec.encode(request), worker.receipt)
    return world.broker.cells.spend("epsilon", envelope.to_bytes(), now=world.now)


def test_an_owners_own_key_wraps_and_is_released_like_one_of_the_brokers(world, worker):
    world.put_policy()
    info = take(world, sealed(world, max_uses=3))
    assert (info.origin, info.version, info.max_uses, info.used) == (KeyOrigin.IMPORTED, 1, 3, 0)
    assert world.leaves()[-1].detail == "imported uses=3"
    assert world.release(world.request(worker, world.wrap(key_id="own"))).grants
    assert world.broker.administration._ring._kek(world.store.read(lambda r: r.key("own"))) == KEK
    rotated = world.admin.rotate_key("own", who=world.who, now=world.now)
    assert rotated.origin is KeyOrigin.CREATED
    assert [key.origin for key in known(world)] == [KeyOrigin.IMPORTED, KeyOrigin.CREATED]


def test_an_import_is_neither_over_a_key_nor_twice(world):
    world.admin.create_key("model", "policy", who=world.who, now=world.now)
    before = world.store.read(lambda r: r.keys())
    with pytest.raises(UsageError, match="already"):
        take(world, sealed(world, key_id="model"), "model")
    assert world.store.read(lambda r: r.keys()) == before
    request = sealed(world)
    take(world, request)
    size = world.log_size()
    with pytest.raises(UsageError, match="already"):
        take(world, request)
    assert world.log_size() == size


@pytest.mark.parametrize(
    "changed", [{"key_id": "other"}, {"policy_id": "other"}, {"max_uses": 9}, {"broker": digest_bytes(b"other")}]
)
def test_an_import_is_bound_to_broker_name_policy_and_limit(world, changed):
    with pytest.raises(ReleaseRefused, match="not sealed for this"):
        take(world, sealed(world, changed=changed))
    assert world.log_size() == 0


@pytest.mark.parametrize(
    "kek", [b"", KEK[:31], KEK + b"k", bytes(32), b"k" * 32], ids=["empty", "short", "long", "zeros", "same"]
)
def test_what_is_no_key_is_not_imported(world, kek):
    with pytest.raises(ReleaseRefused, match="32 random bytes"):
        take(world, sealed(world, kek))
    assert world.store.read(lambda r: r.keys()) == ()


def test_an_import_needs_a_name_and_a_limit_that_can_be(world):
    with pytest.raises(UsageError):
        take(world, sealed(world, key_id="NO"), "NO")
    with pytest.raises(UsageError):
        take(world, sealed(world, max_uses=0))


def test_only_a_retired_key_is_destroyed(world):
    world.prepared()
    with pytest.raises(ReleaseRefused, match="only a retired key") as refused:
        destroy(world)
    assert refused.value.detail == "key.active"
    with pytest.raises(UsageError, match="no such key"):
        destroy(world, "absent")
    assert all(key.state is KeyState.ACTIVE for key in known(world))


def test_a_destruction_ends_its_leases_overwrites_all_versions_and_is_proved(world, worker, another_worker):
    wrapped = world.prepared()
    world.admin.rotate_key("model", who=world.who, now=world.now)
    world.admin.create_key("other", "policy", who=world.who, now=world.now)
    held = world.release(world.request(worker, wrapped)).lease_id
    kept = world.release(world.request(another_worker, world.wrap(key_id="other", of=Edition.first(b"b")))).lease_id
    world.admin.retire_key("model", who=world.who, now=world.now)
    rows = [key for key in world.store.read(lambda r: r.keys()) if key.id == "model"]
    document = destroy(world)
    proved = check_destruction(document, world.broker.identity.fingerprint)
    assert (proved.key_id, proved.who, proved.time) == ("model", world.who, world.now)
    assert [(one.version, one.row) for one in proved.versions] == [(key.version, row_digest(key)) for key in rows]
    states = {lease.id: lease.state for lease in world.admin.leases(now=world.now)}
    assert states == {held: LeaseState.REVOKED, kept: LeaseState.ACTIVE}
    revoked, destroyed = world.leaves()[-2:]
    assert (revoked.event, revoked.subject, revoked.detail) == ("revocation", held, "key")
    assert (destroyed.event, destroyed.subject, destroyed.detail) == ("destruction", "model", "versions=2")
    raw = b"".join(path.read_bytes() for path in world.directory.glob("broker.db*"))
    assert not any(key.wrapped in raw for key in rows)
    with pytest.raises(LeaseEnded):
        world.renew(worker, held)
    assert world.renew(another_worker, kept).lease_id == kept


def test_a_destruction_that_is_overtaken_is_stated_at_the_time_of_its_leaf(world):
    world.prepared()
    world.admin.retire_key("model", who=world.who, now=world.now)
    world.admin.create_key("later", "policy", who=world.who, now=world.now + 5)
    proved = check_destruction(destroy(world), world.broker.identity.fingerprint)
    assert proved.time == world.leaves()[-1].time == world.now + 5


def test_a_destruction_ends_the_lease_to_which_a_cell_granted_the_key(world, worker):
    """It does not hold the key by its record, and yet its worker has what was sealed under it."""
    lease = world.release(world.request(worker, world.prepared())).lease_id
    world.admin.create_key("outputs", "policy", who=world.who, now=world.now)
    cell = CellCreation("epsilon", CellKind.BUDGET, "policy", 10, "outputs")
    world.broker.cells.create(cell, who=world.who, now=world.now)
    spend(world, worker, lease, world.wrap(key_id="outputs", of=Edition.first(b"an output")))
    world.admin.retire_key("outputs", who=world.who, now=world.now)
    destroy(world, "outputs")
    assert [one.state for one in world.admin.leases(now=world.now)] == [LeaseState.REVOKED]


def test_nothing_is_done_with_a_destroyed_key_and_its_name_is_never_given_again(world, worker):
    wrapped = world.prepared()
    request = world.request(worker, wrapped)
    world.admin.retire_key("model", who=world.who, now=world.now)
    destroy(world)
    for act in (
        lambda: world.admin.create_key("model", "policy", who=world.who, now=world.now),
        lambda: take(world, sealed(world, key_id="model"), "model"),
        lambda: world.admin.rotate_key("model", who=world.who, now=world.now),
        lambda: world.admin.retire_key("model", who=world.who, now=world.now),
        lambda: world.admin.rewrap(wrapped, who=world.who, now=world.now),
        world.wrap,
        lambda: order(world, 2),
    ):
        with pytest.raises(UsageError):
            act()
    with pytest.raises(ReleaseRefused, match="no such key"):
        world.release(request)
    assert [key.state for key in known(world)] == [KeyState.DESTROYED]


def test_asked_again_the_broker_gives_the_same_statement_and_writes_nothing(world):
    world.prepared()
    world.admin.retire_key("model", who=world.who, now=world.now)
    first, size = destroy(world), world.log_size()
    world.broker.close()
    world.open()
    world.now += 1000
    world.put_policy(version=2)
    again = destroy(world)
    assert (again.destruction, again.proof.leaf) == (first.destruction, first.proof.leaf)
    assert world.log_size() == size + 1  # the policy's
    assert check_destruction(again, world.broker.identity.fingerprint).time == world.now - 1000


def test_no_proof_leaves_while_traces_may_be_there(world, monkeypatch):
    world.prepared()
    world.admin.retire_key("model", who=world.who, now=world.now)

    def busy():
        raise StoreUnavailable("what was deleted may still be in the database's journal")

    monkeypatch.setattr(world.store, "scrub", busy)
    for _ in range(2):
        with pytest.raises(StoreUnavailable, match="journal"):
            destroy(world)
    monkeypatch.undo()
    assert check_destruction(destroy(world), world.broker.identity.fingerprint).key_id == "model"


def test_a_proof_that_was_changed_or_is_another_brokers_is_refused(world):
    wrapped = world.prepared()
    world.admin.create_key("other", "policy", who=world.who, now=world.now)
    for name in ("model", "other"):
        world.admin.retire_key(name, who=world.who, now=world.now)
    document, other = destroy(world), destroy(world, "other")
    fingerprint = world.broker.identity.fingerprint
    statement = check_destruction(document, fingerprint)
    with pytest.raises(SignatureInvalid):
        check_destruction(document, digest_bytes(b"another broker"))
    with pytest.raises(LogInvalid):
        check_destruction(dataclasses.replace(document, proof=other.proof), fingerprint)
    forged = sign_destruction(statement, generate_ed25519())
    with pytest.raises(SignatureInvalid):
        check_destruction(dataclasses.replace(document, destruction=forged), fingerprint)
    changes = ({"versions": ()}, {"key_id": "third"}, {"broker": digest_bytes(b"x")}, {"time": world.now + 1})
    for change in changes:
        signed = sign_destruction(dataclasses.replace(statement, **change), world.keys.signing)
        with pytest.raises(LogInvalid):
            check_destruction(dataclasses.replace(document, destruction=signed), fingerprint)
        leaf = leaf_of(dataclasses.replace(statement, **change))
        proof = world.store.write(lambda t, leaf=leaf: world.broker.log.append(t, leaf))
        signed_and_logged = dataclasses.replace(document, destruction=signed, proof=proof)
        if change.keys() & {"versions", "broker"}:  # what no honest broker would say
            with pytest.raises(LogInvalid):
                check_destruction(signed_and_logged, fingerprint)
        else:
            assert check_destruction(signed_and_logged, fingerprint)
    assert codec.decode(type(document), codec.encode(document)) == document
    assert wrapped.key_id == statement.key_id


def test_after_the_date_of_an_order_old_versions_are_refused_and_rewrapping_mends_it(world, worker, another_worker):
    old = world.prepared()
    world.admin.rotate_key("model", who=world.who, now=world.now)
    since = world.now + 100
    assert [key.refused_from for key in order(world, 2, since)] == [since, None]
    assert world.leaves()[-1].detail == f"ordered least=2 since={since}"
    answer = world.release(world.request(worker, old))
    world.now = since
    with pytest.raises(ReleaseRefused, match="version 1") as refused:
        world.release(world.request(another_worker, old))
    assert refused.value.detail == "key.version"
    assert "strongroom rewrap" in refused.value.remedy
    assert world.leaves()[-1].event == "refusal"
    new = world.admin.rewrap(old, who=world.who, now=world.now)
    assert world.release(world.request(another_worker, new)).grants
    assert world.renew(worker, answer.lease_id).lease_id == answer.lease_id  # it holds the data key, which is the same


def test_an_order_of_the_same_or_less_changes_nothing(world):
    world.prepared()
    world.admin.rotate_key("model", who=world.who, now=world.now)
    order(world, 2, 50)
    size = world.log_size()
    for since in (50, 60):
        assert [key.refused_from for key in order(world, 2, since)] == [50, None]
    assert world.log_size() == size
    assert [key.refused_from for key in order(world, 2, 40)] == [40, None]


@pytest.mark.parametrize(("least", "since"), [(1, 0), (0, 0), (3, 0), (2, -1)])
def test_an_order_is_about_versions_that_there_are_and_leaves_the_newest(world, least, since):
    world.prepared()
    world.admin.rotate_key("model", who=world.who, now=world.now)
    with pytest.raises(ReleaseRefused):
        order(world, least, since)
    assert [key.refused_from for key in known(world)] == [None, None]


def test_only_an_active_key_is_ordered_about(world):
    with pytest.raises(UsageError):
        order(world, 2)
    world.prepared()
    world.admin.rotate_key("model", who=world.who, now=world.now)
    world.admin.retire_key("model", who=world.who, now=world.now)
    with pytest.raises(UsageError):
        order(world, 2)


def test_an_order_holds_for_the_output_keys_of_spends(world, worker):
    lease_id = world.release(world.request(worker, world.prepared())).lease_id
    world.admin.create_key("outputs", "policy", who=world.who, now=world.now)
    cell = CellCreation("epsilon", CellKind.BUDGET, "policy", 10, "outputs")
    world.broker.cells.create(cell, who=world.who, now=world.now)
    old = world.wrap(key_id="outputs", of=Edition.first(b"an output"))
    world.admin.rotate_key("outputs", who=world.who, now=world.now)
    order(world, 2, key_id="outputs")
    with pytest.raises(ReleaseRefused) as refused:
        spend(world, worker, lease_id, old)
    assert refused.value.detail == "key.version"
    assert world.broker.cells.show("epsilon").value == 10
    new = world.admin.rewrap(old, who=world.who, now=world.now)
    assert spend(world, worker, lease_id, new).grant is not None


@pytest.mark.parametrize("act", ["destroy", "order"])
def test_what_happens_while_evidence_is_judged_counts(world, worker, monkeypatch, act):
    wrapped = world.prepared()
    world.admin.rotate_key("model", who=world.who, now=world.now)
    judge = world.broker._judge.release

    def slow(*arguments, **members):
        yes = judge(*arguments, **members)
        if act == "order":
            order(world, 2)
        else:
            world.admin.retire_key("model", who=world.who, now=world.now)
            destroy(world)
        return yes

    monkeypatch.setattr(world.broker._judge, "release", slow)
    with pytest.raises(ReleaseRefused) as refused:
        world.release(world.request(worker, wrapped))
    assert refused.value.detail == {"destroy": "facts.changed", "order": "key.version"}[act]
    assert world.admin.leases(now=world.now) == ()


def test_a_broker_starts_over_keys_that_are_all_destroyed(world):
    world.prepared()
    world.admin.retire_key("model", who=world.who, now=world.now)
    destroy(world)
    _check_root(world.store, world.keys)
    world.admin.create_key("zzz", "policy", who=world.who, now=world.now)
    with pytest.raises(StoreUnavailable):
        _check_root(world.store, dataclasses.replace(world.keys, root=FileRoot.generate()))
