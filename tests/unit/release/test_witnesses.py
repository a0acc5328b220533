"""A broker whose log is witnessed: by good witnesses, and by ones that are down, slow or lie."""

import dataclasses
import os
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor

import httpx2
import pytest

from strongroom.appraisal.policies import sign_policy
from strongroom.crypto.signatures import generate_ed25519, raw_public, sign_envelope
from strongroom.errors import (
    LogInvalid,
    LogSetBack,
    MalformedRecord,
    NonceReused,
    ReleaseRefused,
    ServiceUnavailable,
    UsageError,
    WitnessesUnavailable,
)
from strongroom.receipts.cosignature import Quorum, Witness, cosign
from strongroom.receipts.note import Checkpoint, open_checkpoint
from strongroom.receipts.proof import verify_extension, verify_proof
from strongroom.receipts.witness import SIZE_TYPE, parse_submission
from strongroom.records import codec
from strongroom.records.audit import AuditQuery
from strongroom.records.cell import CellKind, Output, Spend
from strongroom.records.policy import Requirement, WitnessPolicy
from strongroom.records.release import Leaf
from strongroom.release.log import Log
from strongroom.release.opening import open_broker
from strongroom.release.state import DATABASE
from strongroom.release.stores.sqlite import SqliteStore
from strongroom.release.wire import CELL_PAYLOAD_TYPE, CellCreation
from strongroom.release.witness_client import Conflict, Seat, WitnessLink
from strongroom.release.witnesses import Witnesses
from strongroom.services.witness import open_witness

WAIT = 20.0


class Place(httpx2.BaseTransport):
    """A real witness behind a wire that a test can change."""

    def __init__(self, directory, name, identity):
        self.service = open_witness(directory / name, name, {identity.log_origin: identity.log})
        self.seat = Seat(f"http://{name}", self.service.witness)
        self.asked = 0
        self.does = self.good

    def handle_request(self, request):
        assert request.url.path == "/add-checkpoint"
        self.asked += 1
        return self.does(request.read())

    def good(self, body):
        reply = self.service.add_checkpoint(body, now=1_800_000_000)
        return answer(reply.status, reply.text, reply.media_type)

    def down(self, _):
        raise httpx2.ConnectError("refused")


def answer(status, text, kind="text/plain"):
    content = text if isinstance(text, bytes) else text.encode()
    return httpx2.Response(status, content=content, headers={"content-type": kind})


class Round:
    """Three witnesses around the broker of a world."""

    def __init__(self, world, directory):
        self.world, self.directory, self.begun = world, directory, []
        self.places = [Place(directory, f"w{number}.example", world.broker.identity) for number in range(3)]
        self.quorum = Quorum(2, tuple(place.seat.witness for place in self.places))

    def link(self, seat):
        return WitnessLink(seat, transport=next(place for place in self.places if place.seat == seat))

    def made(self, least=2, **members):
        members = {"wait_seconds": WAIT, "log": self.world.broker.log, "store": self.world.store} | members
        made = Witnesses([place.seat for place in self.places], least, link=self.link, **members)
        self.begun.append(made)
        return made

    def begin(self, least=2, **members):
        made = self.made(least, **members)
        made.start()
        self.world.broker.witness(made)
        return made

    def append(self, text="leaf"):
        leaf = Leaf("receipts", 0, text, (), "")
        return self.world.store.write(lambda transaction: self.world.broker.log.append(transaction, leaf))

    def holds(self, proof, quorum=None):
        identity = self.world.broker.identity
        return verify_proof(proof, origin=identity.log_origin, log_key=identity.log, witnesses=quorum or self.quorum)

    def end(self):
        for one in self.begun:
            one.close()
        for place in self.places:
            place.service.store.close()


@pytest.fixture
def around(world, tmp_path):
    made = Round(world, tmp_path / "witnesses")
    yield made
    made.end()


# Good ones


def test_a_release_carries_the_signatures_that_are_demanded(around, world, worker):
    around.begin()
    wrapped = world.prepared()
    request = world.request(worker, wrapped)
    answer = world.release(request)
    assert around.holds(answer.proof).event == "release"
    again = world.release(request)
    assert (again.token, again.grants) == (answer.token, answer.grants)
    assert around.holds(again.proof) == around.holds(answer.proof)
    assert around.holds(world.renew(worker, answer.lease_id).proof).event == "renewal"


def test_many_at_once_all_get_their_proof(around):
    witnesses = around.begin()
    with ThreadPoolExecutor(8) as pool:
        proofs = list(pool.map(lambda number: witnesses.settle(around.append(f"leaf {number}")), range(40)))
    assert {around.holds(proof).subject for proof in proofs} == {f"leaf {number}" for number in range(40)}
    assert sorted(proof.index for proof in proofs) == list(range(40))


def test_leaves_that_nobody_waits_for_reach_the_witnesses_too(around, monkeypatch):
    monkeypatch.setattr("strongroom.release.witnesses.IDLE_SECONDS", 0.01)
    reached, place = threading.Event(), around.places[0]

    def does(body):
        if "\n3\n" in parse_submission(body).checkpoint:
            reached.set()
        return place.good(body)

    place.does = does
    around.begin(least=0)
    for number in range(3):
        around.append(str(number))
    assert reached.wait(WAIT)


def test_the_cosigned_checkpoint_is_kept_and_shown(around, world):
    witnesses = around.begin()
    around.holds(witnesses.settle(around.append()))
    witnesses.close()
    text = world.broker.log.checkpoint(world.store)
    identity = world.broker.identity
    assert open_checkpoint(text, identity.log_origin, identity.log).size == 1
    assert len(around.quorum.check(text)) >= 2
    around.append("one more")
    text = world.broker.log.checkpoint(world.store)
    assert open_checkpoint(text, identity.log_origin, identity.log).size == 2
    with pytest.raises(LogInvalid):
        around.quorum.check(text)


def test_a_witness_that_is_behind_catches_up(around):
    for number in range(5):
        around.append(str(number))
    witnesses = around.begin(least=3)
    around.places[2].does = around.places[2].down
    with pytest.raises(WitnessesUnavailable):
        witnesses.settle(around.append("while it is down"))
    around.places[2].does = around.places[2].good
    proof = witnesses.settle(around.append("again"))
    assert around.holds(proof, Quorum(3, around.quorum.witnesses)).subject == "again"


# Bad ones


def of_another_key(place, body):
    checkpoint = opened(body)
    return answer(200, cosign(checkpoint, place.seat.witness.name, generate_ed25519(), time=1))


def of_another_state(place, body):
    changed = Checkpoint(opened(body).origin, opened(body).size + 1, bytes(32))
    return answer(200, cosign(changed, place.seat.witness.name, place.service._key, time=1))


def opened(body):
    origin, size, _ = parse_submission(body).checkpoint.split("\n")[:3]
    return Checkpoint(origin, int(size), bytes(32))


LIES = {
    "another key": of_another_key,
    "another state": of_another_state,
    "a larger size": lambda *_: answer(409, "999999\n", SIZE_TYPE),
    "a smaller size each time": lambda _, body: answer(409, f"{max(parse_submission(body).old - 1, 0)}\n", SIZE_TYPE),
    "the size it was told": lambda _, body: answer(409, f"{parse_submission(body).old}\n", SIZE_TYPE),
    "no size": lambda *_: answer(409, "none", SIZE_TYPE),
    "a size of another type": lambda *_: answer(409, "0\n"),
    "no proof": lambda *_: answer(422, "no"),
    "nothing": lambda *_: answer(200, ""),
    "bytes": lambda *_: answer(200, b"\xff\n"),
    "too much": lambda *_: answer(200, "x" * 100_000),
    "not here": lambda *_: answer(404, ""),
    "an error": lambda *_: answer(500, ""),
    "elsewhere": lambda *_: httpx2.Response(302, headers={"location": "http://w0.example/add-checkpoint"}),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_witness_that_lies_costs_only_its_own_signature(around, lie):
    witnesses, liar = around.begin(), around.places[1]
    liar.does = lambda body: LIES[lie](liar, body)
    proof = witnesses.settle(around.append())
    assert around.holds(proof).subject == "leaf"
    assert liar.seat.witness.name not in proof.checkpoint
    around.places[2].does = around.places[2].down
    with pytest.raises(WitnessesUnavailable):
        witnesses.settle(around.append())


def test_a_slow_witness_is_not_waited_for(around):
    witnesses, slow, go = around.begin(), around.places[0], threading.Event()
    running = threading.Lock()

    def does(body):
        with running:  # never asked twice at once
            assert go.wait(WAIT)
            return slow.good(body)

    slow.does = does
    for number in range(5):
        assert around.holds(witnesses.settle(around.append(str(number)))).subject == str(number)
    assert slow.asked <= 2  # once at the start, once now
    go.set()


def test_without_enough_witnesses_no_key_leaves_and_the_same_request_gets_it_later(around, world, worker):
    around.begin()
    wrapped = world.prepared()
    request = world.request(worker, wrapped)
    for place in around.places[:2]:
        place.does = place.down
    with pytest.raises(WitnessesUnavailable):
        world.release(request)
    with pytest.raises(WitnessesUnavailable):
        world.release(request)
    assert [leaf.event for leaf in world.leaves()].count("release") == 1  # decided once, and given to nobody yet
    for place in around.places:
        place.does = place.good
    other = world.request(worker, wrapped, challenge=request.challenge, artifact="sha256:" + "0" * 64)
    with pytest.raises(NonceReused):
        world.release(other)
    answer = world.release(request)
    assert around.holds(answer.proof).event == "release"
    assert [leaf.event for leaf in world.leaves()].count("release") == 1


def test_while_witnesses_fail_nothing_more_is_decided(around, world, worker):
    """A renewal that was decided, but never answered, would leave the worker a link behind the broker's chain."""
    witnesses = around.begin()
    wrapped = world.prepared()
    lease = world.release(world.request(worker, wrapped)).lease_id
    for place in around.places[:2]:
        place.does = place.down
    with pytest.raises(WitnessesUnavailable):
        witnesses.settle(around.append())
    size, request = world.log_size(), world.renewal(worker, lease)
    for _ in range(3):
        with pytest.raises(WitnessesUnavailable):
            world.broker.renew(lease, codec.encode(request), now=world.now)
    assert world.log_size() == size
    for place in around.places:
        place.does = place.good
    answer = world.broker.renew(lease, codec.encode(request), now=world.now)
    assert around.holds(answer.proof).event == "renewal"


def test_whoever_waits_when_the_broker_ends_is_told(around):
    witnesses, go, asked = around.begin(least=3), threading.Event(), threading.Event()
    place = around.places[0]

    def does(body):
        asked.set()
        assert go.wait(WAIT)
        return place.good(body)

    place.does = does
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(witnesses.settle, around.append())
        assert asked.wait(WAIT)
        witnesses.close()
        with pytest.raises(WitnessesUnavailable):
            waiting.result(WAIT)
        go.set()


def test_with_no_number_demanded_witnesses_are_told_and_not_waited_for(around, world, worker):
    around.begin(least=0)
    for place in around.places:
        place.does = place.down
    assert world.release(world.request(worker, world.prepared())).grants


# At the start


def test_an_old_backup_is_refused(around, world, worker):
    first = around.begin()
    wrapped = world.prepared()
    first.close()
    world.store.close()
    backup = around.directory / "backup.db"
    shutil.copy(world.directory / DATABASE, backup)
    world.open()
    around.begin()
    lease = world.release(world.request(worker, wrapped)).lease_id
    world.admin.revoke_lease(lease, who=world.who, now=world.now)
    world.broker._witnesses.settle(around.append("something after it"))
    world.broker.close()
    for name in (f"{DATABASE}-wal", f"{DATABASE}-shm"):
        (world.directory / name).unlink(missing_ok=True)
    shutil.copy(backup, world.directory / DATABASE)
    world.open()
    with pytest.raises(LogSetBack, match="a witness saw") as refused:
        around.made().start()
    assert refused.value.code == "log.set_back"


@pytest.mark.parametrize("size", [3, 4, 9])
def test_a_log_that_went_on_elsewhere_is_refused(around, world, tmp_path, size):
    """A copy of the broker writes other leaves under the same keys: as many, fewer or more."""
    (tmp_path / "copy").mkdir()
    elsewhere = SqliteStore(tmp_path / "copy" / DATABASE)
    copy = Log(world.broker.identity.log_origin, world.keys.log)
    for number in range(4):
        leaf = Leaf("receipts", 1, f"elsewhere {number}", (), "")
        elsewhere.write(lambda transaction, leaf=leaf: copy.append(transaction, leaf))
    first = around.made(log=copy, store=elsewhere)
    first.start()
    first.close()
    for number in range(size):
        around.append(str(number))
    with pytest.raises(LogSetBack):
        around.made().start()
    elsewhere.close()


def test_a_log_that_is_ahead_of_its_witnesses_begins(around):
    first = around.begin()
    around.holds(first.settle(around.append()))
    first.close()
    for number in range(10):
        around.append(str(number))
    again = around.begin()
    assert around.holds(again.settle(around.append("last"))).subject == "last"


@pytest.mark.parametrize(
    ("least", "down", "begins"), [(1, 0, True), (1, 1, False), (2, 1, True), (2, 2, False), (3, 1, False)]
)
def test_so_many_must_answer_that_none_who_saw_more_is_missed(around, least, down, begins):
    for place in around.places[:down]:
        place.does = place.down
    if begins:
        around.begin(least)
        return
    with pytest.raises(WitnessesUnavailable) as refused:
        around.made(least).start()
    assert all(place.seat.witness.name in refused.value.detail for place in around.places[:down])


def test_demands_that_mean_nothing_are_refused(around, world, tmp_path):
    for least in (-1, 4):
        with pytest.raises(UsageError):
            around.made(least)
    with pytest.raises(UsageError, match="none is named"):
        open_broker(tmp_path / "other", anchors=[], owners=[world.owner.public_key()], profile="development", least=1)


# One seat


def test_a_seat_is_an_address_and_a_key():
    witness = Witness("w.example/1", raw_public(generate_ed25519()))
    seat = Seat.parse(f"http://127.0.0.1:8650/a=b/={witness.key}")
    assert seat == Seat("http://127.0.0.1:8650/a=b", witness)
    for text in ("", witness.key, f"={witness.key}", f"ftp://x={witness.key}", "http://x"):
        with pytest.raises(UsageError):
            Seat.parse(text)
    with pytest.raises(MalformedRecord):
        Seat.parse("http://x=not a key")


def test_what_each_status_means(around):
    around.append()
    text, size = around.world.broker.log.newest(around.world.store)
    place = around.places[0]
    link = around.link(place.seat)
    assert around.quorum.witnesses[0].name in link.ask(0, [], text)
    assert link.ask(0, [], text) == Conflict(size)
    place.does = place.down
    with pytest.raises(ServiceUnavailable):
        link.ask(size, [], text)
    link.close()
    with pytest.raises(ServiceUnavailable):
        link.ask(size, [], text)
    assert codec.decode(Leaf, around.world.store.read(lambda reader: reader.log_leaves(0, 1))[0]).subject == "leaf"


# What auditors are given


def everything(world):
    return world.broker.audit(AuditQuery(0, 0, None, 0, codec.MAX_INTEGER), sees=lambda *_: True)


def test_an_audit_comes_with_the_signatures_of_all_who_answer(around, world):
    around.begin(0)
    for number in range(5):
        around.append(str(number))
    page = everything(world)
    identity = world.broker.identity
    state = open_checkpoint(page.cosigned.checkpoint, identity.log_origin, identity.log)
    assert (state.size, page.cosigned.path) == (5, ())
    assert len(Quorum(3, around.quorum.witnesses).check(page.cosigned.checkpoint)) == 3


def test_an_audit_shows_how_an_older_signed_state_leads_to_the_newest(around, world):
    around.begin(0)
    around.append("one")
    everything(world)
    for place in around.places:
        place.does = place.down
    around.append("two")
    page = everything(world)
    identity = world.broker.identity
    old, new = (
        open_checkpoint(text, identity.log_origin, identity.log) for text in (page.cosigned.checkpoint, page.checkpoint)
    )
    assert (old.size, new.size) == (1, 2)
    verify_extension(old, new, page.cosigned.path)


def test_an_audit_of_a_log_without_witnesses_has_no_signed_state(around, world):
    around.append()
    assert everything(world).cosigned is None
    world.store.write(lambda transaction: transaction.keep_cosigned("no note"))
    assert everything(world).cosigned is None


# Policies that demand witnesses


def demand(world, places, least, *, version=2):
    """Put a policy that wants so many of these."""
    keys = tuple(place.seat.witness.key for place in places)
    made = dataclasses.replace(world.policy(version=version), witnesses=WitnessPolicy(Requirement(keys), least))
    world.admin.put_policy(sign_policy(made, world.owner), who=world.who, now=world.now)
    return Quorum(least, tuple(place.seat.witness for place in places))


@pytest.mark.parametrize("own", [0, 1])
def test_a_release_waits_for_the_witnesses_of_its_policy(around, world, worker, own):
    wrapped = world.prepared()
    wanted = demand(world, around.places[1:], 2)
    around.begin(own)
    request = world.request(worker, wrapped)
    answer = world.release(request)
    assert around.holds(answer.proof, wanted).event == "release"
    assert around.holds(world.release(request).proof, wanted)  # an answer that was kept, too
    assert around.holds(world.renew(worker, answer.lease_id).proof, wanted).event == "renewal"


def test_many_under_many_policies_all_get_their_own_witnesses(around):
    witnesses = around.begin(1)
    groups = [Quorum(1, (place.seat.witness,)) for place in around.places]
    with ThreadPoolExecutor(8) as pool:
        settle = lambda n: witnesses.settle(around.append(f"{n}"), [groups[n % 3], groups[(n + 1) % 3]])  # noqa: E731
        proofs = list(pool.map(settle, range(30)))
    for number, proof in enumerate(proofs):
        for group in (groups[number % 3], groups[(number + 1) % 3]):
            assert around.holds(proof, group).subject == f"{number}"


def test_a_policy_without_demands_waits_for_nobody(around, world, worker):
    around.begin(0)
    for place in around.places:
        place.does = place.down
    assert world.release(world.request(worker, world.prepared())).grants


@pytest.mark.parametrize("witnessed", [True, False])
def test_a_policy_whose_witnesses_are_others_is_refused_before_anything_is_decided(
    around, world, worker, tmp_path, witnessed
):
    wrapped = world.prepared()
    stranger = Place(tmp_path / "other", "w0.example", world.broker.identity)  # the name of another, and its own key
    demand(world, [stranger, around.places[1]], 2)
    if witnessed:
        around.begin(0)
    request = world.request(worker, wrapped)
    for _ in range(2):
        with pytest.raises(ReleaseRefused) as caught:
            world.release(request)
        assert caught.value.detail == "policy.witnesses"
    assert world.appraiser.count == 0
    assert world.admin.leases(now=world.now) == ()
    assert world.leaves()[-1].event == "refusal"
    stranger.service.store.close()


def test_while_the_policys_witness_is_away_nothing_is_decided_under_it(around, world, worker, another_worker):
    wrapped = world.prepared()
    demand(world, around.places[:1], 1)
    witnesses = around.begin(0)
    around.places[0].does = around.places[0].down
    with pytest.raises(WitnessesUnavailable):
        world.release(world.request(worker, wrapped))  # decided, and not answered: it was believed to be there
    size = world.log_size()
    request = world.request(another_worker, wrapped)
    with pytest.raises(WitnessesUnavailable):
        world.release(request)
    assert world.log_size() == size
    witnesses.settle(around.append(), [Quorum(1, (around.places[1].seat.witness,))])  # nobody else is held up
    around.places[0].does = around.places[0].good
    assert around.holds(world.release(request).proof, Quorum(1, (around.places[0].seat.witness,)))


def test_an_answer_that_was_kept_does_not_leave_by_a_start_without_witnesses(around, world, worker):
    wrapped = world.prepared()
    demand(world, around.places, 3)
    around.begin(0)
    request = world.request(worker, wrapped)
    world.release(request)
    world.broker.close()
    world.open()
    with pytest.raises(WitnessesUnavailable):
        world.release(request)


@pytest.mark.parametrize("keys", [("no key",), None])
def test_a_policy_whose_witnesses_are_no_keys_is_not_taken(around, world, keys):
    one = around.places[0].seat.witness.key
    broken = dataclasses.replace(world.policy(), witnesses=WitnessPolicy(Requirement(keys or (one, one)), 1))
    with pytest.raises((MalformedRecord, UsageError)):
        world.admin.put_policy(sign_policy(broken, world.owner), who=world.who, now=world.now)
    assert world.log_size() == 0


@pytest.mark.parametrize(
    ("keys", "least"),
    [(Requirement(any="why"), 1), (Requirement(("a",)), 0), (Requirement(("a",)), 2), (Requirement(("a",)), -1)],
)
def test_numbers_that_ask_for_nothing_or_for_too_many_are_no_policy(keys, least):
    with pytest.raises(ValueError, match="witnesses"):
        WitnessPolicy(keys, least)


def test_a_spends_key_waits_for_the_witnesses_of_its_policy(around, world, worker):
    wrapped = world.prepared()
    wanted = demand(world, around.places, 3)
    around.begin(0)
    lease = world.release(world.request(worker, wrapped)).lease_id
    world.broker.cells.create(
        CellCreation("budget", CellKind.BUDGET, "policy", 5, "model"), who=world.who, now=world.now
    )

    def spend(output):
        request = Spend("budget", lease, os.urandom(32), 1, "why", output)
        body = sign_envelope(CELL_PAYLOAD_TYPE, codec.encode(request), worker.receipt).to_bytes()
        return world.broker.witnessed(world.broker.cells.spend("budget", body, now=world.now))

    assert around.holds(spend(Output(wrapped, worker.keyset)).proof, wanted).event == "cell"
    around.places[0].does = around.places[0].down
    assert spend(None).grant is None  # nothing is released by it
    with pytest.raises(WitnessesUnavailable):
        spend(Output(wrapped, worker.keyset))
