import dataclasses
import threading

import pytest

from strongroom.crypto.signatures import ed25519_public, generate_ed25519, open_envelope, sign_envelope
from strongroom.errors import LeaseEnded, MalformedRecord, NonceReused, ReleaseRefused, SignatureInvalid, UsageError
from strongroom.receipts.hidden import reveal
from strongroom.receipts.proof import verify_proof
from strongroom.records import codec
from strongroom.records.cell import Advance, CellKind, CellView, Look, Output, Spend
from strongroom.records.digest import digest_bytes
from strongroom.records.envelope import Envelope
from strongroom.records.release import Edition
from strongroom.records.revocation import About, Subject
from strongroom.release import leaves
from strongroom.release.grants import read_grant
from strongroom.release.wire import CELL_PAYLOAD_TYPE, CELL_VIEW_PAYLOAD_TYPE, CellCreation

FIRST, SECOND = digest_bytes(b"a first checkpoint"), digest_bytes(b"a second checkpoint")
OUTPUT = Edition.first(b"an output's id..")
OUTPUT_KEY = b"o" * 32
_NONCES = iter(range(1, 1_000_000))


def nonce():
    return next(_NONCES).to_bytes(32, "big")


@pytest.fixture
def lease(world, worker):
    """The id of a lease that `worker` holds."""
    return world.release(world.request(worker, world.prepared())).lease_id


def create(world, cell_id, kind, *, limit=None, output_key=None, policy_id="policy"):
    wanted = CellCreation(cell_id, kind, policy_id, limit, output_key)
    return world.broker.cells.create(wanted, who=world.who, now=world.now)


@pytest.fixture
def counter(world):
    return create(world, "steps", CellKind.COUNTER)


@pytest.fixture
def budget(world):
    return create(world, "epsilon", CellKind.BUDGET, limit=10, output_key="outputs")


@pytest.fixture
def wrapped(world):
    world.admin.create_key("outputs", "policy", who=world.who, now=world.now)
    return world.wrap(key_id="outputs", of=OUTPUT, data_key=OUTPUT_KEY)


def signed(request, worker):
    return sign_envelope(CELL_PAYLOAD_TYPE, codec.encode(request), worker.receipt).to_bytes()


def advancing(lease, expected, number, digest=FIRST, cell_id="steps"):
    return Advance(cell_id, lease, nonce(), expected, number, digest)


def spending(lease, amount=1, *, output=None, cell_id="epsilon", purpose="a-query"):
    return Spend(cell_id, lease, nonce(), amount, purpose, output)


def ask(world, worker, request):
    verb = world.broker.cells.advance if isinstance(request, Advance) else world.broker.cells.spend
    return verb(request.cell_id, signed(request, worker), now=world.now)


def refusal(world, worker, request):
    with pytest.raises(ReleaseRefused) as refused:
        ask(world, worker, request)
    return refused.value.detail


def value(world, cell_id):
    return world.broker.cells.show(cell_id).value


def leaf_of(world, answer):
    identity = world.broker.identity
    logged = verify_proof(answer.proof, origin=identity.log_origin, log_key=identity.log)
    return reveal(logged, answer.openings)[0]


# --- owners ---------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("counter", "budget")
def test_a_cell_is_made_once_and_logged(world):
    assert [cell.value for cell in world.broker.cells.all()] == [10, 0]
    assert [(leaf.event, leaf.subject, leaf.detail) for leaf in world.leaves()] == [
        ("cell", "steps", "created counter policy=policy limit=None output=None"),
        ("cell", "epsilon", "created budget policy=policy limit=10 output=outputs"),
    ]
    with pytest.raises(UsageError, match="already"):
        create(world, "epsilon", CellKind.BUDGET, limit=99)
    assert world.log_size() == 2


@pytest.mark.parametrize(
    ("kind", "members"),
    [
        (CellKind.BUDGET, {}),
        (CellKind.BUDGET, {"limit": 0}),
        (CellKind.BUDGET, {"limit": -1}),
        (CellKind.COUNTER, {"limit": 5}),
        (CellKind.COUNTER, {"output_key": "outputs"}),
        (CellKind.BUDGET, {"limit": 1, "output_key": "no name"}),
        (CellKind.BUDGET, {"limit": 1, "policy_id": ""}),
    ],
)
def test_a_cell_that_makes_no_sense_is_refused(world, kind, members):
    with pytest.raises(UsageError):
        create(world, "cell", kind, **members)
    assert world.broker.cells.all() == ()


def test_a_cell_that_is_not_there_is_not_shown(world):
    with pytest.raises(UsageError):
        world.broker.cells.show("cell")


# --- counters -------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("counter")
def test_a_counter_advances_and_keeps_the_digest(world, worker, lease):
    request = advancing(lease, 0, 1)
    answer = ask(world, worker, request)
    wanted = leaves.cell_changed(request, keyset=worker.keyset.digest, time=world.now, value=1)
    assert leaf_of(world, answer) == wanted
    assert wanted.digests == (worker.keyset.digest, request.request_digest, FIRST)
    assert ask(world, worker, advancing(lease, 1, 40, SECOND)).value == 40
    stands = world.broker.cells.show("steps")
    assert (stands.value, stands.digest, stands.changes) == (40, SECOND, 2)


@pytest.mark.usefixtures("counter")
def test_a_counter_never_goes_back(world, worker, lease):
    ask(world, worker, advancing(lease, 0, 7))
    assert refusal(world, worker, advancing(lease, 0, 8)) == "cell.expected"
    assert refusal(world, worker, advancing(lease, 8, 9)) == "cell.expected"
    for expected, number in ((7, 7), (7, 6), (-1, 8)):
        with pytest.raises(MalformedRecord):
            ask(world, worker, advancing(lease, expected, number))
    assert world.broker.cells.show("steps").digest == FIRST
    assert value(world, "steps") == 7


@pytest.mark.usefixtures("counter")
def test_a_no_stays_a_no(world, worker, lease):
    early = advancing(lease, 3, 4)
    assert refusal(world, worker, early) == "cell.expected"
    ask(world, worker, advancing(lease, 0, 3))
    assert refusal(world, worker, early) == "cell.expected"  # the answer that was kept
    world.now += 60
    assert refusal(world, worker, early) == "cell.nonce"
    assert value(world, "steps") == 3


@pytest.mark.usefixtures("counter")
def test_a_look_is_signed_for_the_one_who_asked(world, worker, lease):
    ask(world, worker, advancing(lease, 0, 5))
    look = Look("steps", lease, nonce())
    size = world.log_size()
    envelope = world.broker.cells.look("steps", signed(look, worker), now=world.now)
    payload = open_envelope(envelope, CELL_VIEW_PAYLOAD_TYPE, [ed25519_public(world.broker.identity.signing)])
    view = codec.decode(CellView, payload)
    assert (view.nonce, view.cell) == (look.nonce, world.broker.cells.show("steps"))
    assert world.log_size() == size


# --- budgets --------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("budget")
def test_a_budget_falls_to_nothing_and_not_below(world, worker, lease):
    answer = ask(world, worker, spending(lease, 4))
    assert (answer.value, answer.grant) == (6, None)
    assert leaf_of(world, answer).detail == f"spend lease={lease} value=6 amount=4 purpose=a-query"
    assert refusal(world, worker, spending(lease, 7)) == "cell.spent"
    assert ask(world, worker, spending(lease, 6)).value == 0
    assert refusal(world, worker, spending(lease, 1)) == "cell.spent"


@pytest.mark.parametrize("members", [{"amount": 0}, {"amount": -3}, {"purpose": ""}, {"purpose": "of two words"}])
@pytest.mark.usefixtures("budget")
def test_a_spend_that_makes_no_sense_is_refused(world, worker, lease, members):
    with pytest.raises(MalformedRecord):
        ask(world, worker, spending(lease, **members))
    assert value(world, "epsilon") == 10


@pytest.mark.usefixtures("budget")
def test_the_same_request_is_debited_once(world, worker, lease):
    request = spending(lease, 4)
    first = ask(world, worker, request)
    size = world.log_size()
    world.now += 59
    assert ask(world, worker, request) == first
    beside = Envelope.from_bytes(signed(request, worker))
    beside = dataclasses.replace(beside, signatures=(*beside.signatures, ("another", b"s" * 64)))
    assert world.broker.cells.spend("epsilon", beside.to_bytes(), now=world.now) == first
    for _ in range(3):
        world.now += 60
        assert refusal(world, worker, request) == "cell.nonce"
    assert (value(world, "epsilon"), world.log_size()) == (6, size)


@pytest.mark.usefixtures("budget")
def test_the_same_nonce_for_another_request_is_refused(world, worker, lease):
    request = spending(lease, 4)
    ask(world, worker, request)
    assert refusal(world, worker, dataclasses.replace(request, amount=5)) == "cell.nonce"
    assert value(world, "epsilon") == 6


@pytest.mark.usefixtures("budget")
def test_a_spend_grants_the_output_key(world, worker, lease, wrapped):
    request = spending(lease, 3, output=Output(wrapped, worker.keyset))
    answer = ask(world, worker, request)
    grant = read_grant(answer.grant, world.broker.identity)
    assert worker.release.open(grant.encapsulation, grant.ciphertext, codec.encode(grant.context)) == OUTPUT_KEY
    context = grant.context
    assert (context.use, context.nonce, context.evidence) == ("seal", request.nonce, request.request_digest)
    assert (context.lease_id, context.artifact_id) == (lease, OUTPUT.artifact_id)
    assert leaf_of(world, answer).digests == (worker.keyset.digest, request.request_digest, grant.digest)
    assert ask(world, worker, request) == answer
    assert value(world, "epsilon") == 7


@pytest.mark.usefixtures("budget")
def test_without_a_debit_there_is_no_grant(world, worker, lease, wrapped):
    assert refusal(world, worker, spending(lease, 11, output=Output(wrapped, worker.keyset))) == "cell.spent"
    assert value(world, "epsilon") == 10


@pytest.mark.parametrize("why", ["retired", "policy", "name", "keyset", "broker", "edition", "changed", "used up"])
@pytest.mark.usefixtures("budget")
def test_without_a_grant_there_is_no_debit(world, worker, another_worker, lease, wrapped, why):
    output, wanted = Output(wrapped, worker.keyset), why
    if why == "retired":
        world.admin.retire_key("outputs", who=world.who, now=world.now)
        wanted = "key.unknown"
    elif why == "policy":
        create(world, "other", CellKind.BUDGET, limit=10, output_key="foreign")
        world.admin.create_key("foreign", "another-policy", who=world.who, now=world.now)
        world.put_policy(policy_id="another-policy")
        output, wanted = Output(world.wrap(key_id="foreign", of=OUTPUT), worker.keyset), "cell.output"
        assert refusal(world, worker, spending(lease, 3, output=output, cell_id="other")) == wanted
    elif why == "name":
        output, wanted = Output(world.wrap(), worker.keyset), "cell.output"
    elif why == "keyset":
        output, wanted = Output(wrapped, another_worker.keyset), "lease.keyset"
    elif why == "broker":
        output, wanted = Output(dataclasses.replace(wrapped, broker=FIRST), worker.keyset), "key.broker"
    elif why == "edition":
        world.put_policy(version=2, editions={OUTPUT.line.hex(): 2})
        wanted = "key.edition"
    elif why == "changed":
        output, wanted = Output(dataclasses.replace(wrapped, ciphertext=b"c" * 60), worker.keyset), "key.wrapped"
    else:
        create(world, "rare", CellKind.BUDGET, limit=10, output_key="once")
        world.admin.create_key("once", "policy", who=world.who, now=world.now, max_uses=1)
        output = Output(world.wrap(key_id="once", of=OUTPUT), worker.keyset)
        answer = ask(world, worker, spending(lease, 3, output=output, cell_id="rare"))
        assert leaf_of(world, answer).detail.endswith(" uses=1/1")
        assert refusal(world, worker, spending(lease, 3, output=output, cell_id="rare")) == "key.uses"
        assert value(world, "rare") == 7
        return
    assert refusal(world, worker, spending(lease, 3, output=output)) == wanted
    assert value(world, "epsilon") == 10


@pytest.mark.usefixtures("budget")
def test_a_key_that_changed_meanwhile_takes_the_debit_with_it(world, worker, lease, wrapped, monkeypatch):
    output = type(world.broker.cells)._output

    def and_then_retired(*arguments, **named):
        judged = output(*arguments, **named)
        world.admin.retire_key("outputs", who=world.who, now=world.now)
        return judged

    monkeypatch.setattr(type(world.broker.cells), "_output", and_then_retired)
    assert refusal(world, worker, spending(lease, 3, output=Output(wrapped, worker.keyset))) == "facts.changed"
    assert value(world, "epsilon") == 10


# --- who may --------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("budget")
def test_only_the_leases_own_worker_is_heard(world, worker, another_worker, lease):
    size = world.log_size()
    with pytest.raises(SignatureInvalid):
        ask(world, another_worker, spending(lease))
    request = codec.encode(spending(lease))
    for kind, key in (("application/json", worker.receipt), (CELL_PAYLOAD_TYPE, generate_ed25519())):
        with pytest.raises(SignatureInvalid):
            world.broker.cells.spend("epsilon", sign_envelope(kind, request, key).to_bytes(), now=world.now)
    assert (value(world, "epsilon"), world.log_size()) == (10, size)  # strangers write nothing into the log


@pytest.mark.usefixtures("budget", "counter")
def test_nothing_moves_once_the_lease_has_ended(world, worker, lease):
    spent = spending(lease)
    ask(world, worker, spent)
    world.admin.revoke_lease(lease, who=world.who, now=world.now)
    for request in (spent, spending(lease), advancing(lease, 0, 1)):
        with pytest.raises(LeaseEnded, match="revoked"):
            ask(world, worker, request)
    second = world.release(world.request(worker, world.wrap())).lease_id
    world.now += 300
    for lease_id, why in ((second, "expired"), ("no-such-lease", "no such")):
        with pytest.raises(LeaseEnded, match=why):
            ask(world, worker, spending(lease_id))
    assert (value(world, "epsilon"), value(world, "steps")) == (9, 0)


@pytest.mark.usefixtures("budget")
def test_a_lease_revoked_while_the_request_was_read_moves_nothing(world, worker, lease, wrapped, monkeypatch):
    output = type(world.broker.cells)._output

    def and_then_revoked(*arguments, **named):
        judged = output(*arguments, **named)
        world.admin.revoke_lease(lease, who=world.who, now=world.now)
        return judged

    monkeypatch.setattr(type(world.broker.cells), "_output", and_then_revoked)
    with pytest.raises(LeaseEnded):
        ask(world, worker, spending(lease, output=Output(wrapped, worker.keyset)))
    assert value(world, "epsilon") == 10


def test_the_cells_policy_is_the_leases(world, worker, lease):
    create(world, "epsilon", CellKind.BUDGET, limit=10, policy_id="another-policy")
    assert refusal(world, worker, spending(lease)) == "cell.policy"
    assert refusal(world, worker, spending(lease, cell_id="unknown")) == "cell.unknown"


@pytest.mark.usefixtures("counter", "budget")
def test_each_kind_has_its_own_verb(world, worker, lease):
    assert refusal(world, worker, spending(lease, cell_id="steps")) == "cell.kind"
    assert refusal(world, worker, advancing(lease, 10, 11, cell_id="epsilon")) == "cell.kind"


@pytest.mark.usefixtures("budget")
def test_a_request_that_does_not_parse_is_refused(world, worker, lease):
    cells = world.broker.cells
    good = spending(lease)
    with pytest.raises(ReleaseRefused, match="another cell"):
        cells.spend("other", signed(good, worker), now=world.now)
    for body in (
        b"",
        b"{}",
        codec.encode(good),
        signed(good, worker) + b" " * 65_536,
        signed(advancing(lease, 0, 1, cell_id="epsilon"), worker),
        signed(dataclasses.replace(good, nonce=b"short"), worker),
    ):
        with pytest.raises(MalformedRecord):
            cells.spend("epsilon", body, now=world.now)
    assert value(world, "epsilon") == 10


@pytest.mark.usefixtures("budget")
def test_refusals_are_logged_within_bounds(world, worker, lease):
    size = world.log_size()
    request = spending(lease, 11)
    assert refusal(world, worker, request) == "cell.spent"
    leaf = world.leaves()[-1]
    assert (leaf.event, leaf.subject) == ("refusal", "cell:epsilon")
    assert leaf.digests == (request.request_digest, worker.keyset.digest)
    assert leaf.detail == "code=release.refused unlogged=0 checks=cell.spent"
    for _ in range(70):
        refusal(world, worker, spending(lease, 11))
    assert world.log_size() == size + 60


@pytest.mark.usefixtures("budget", "counter")
def test_cells_survive_a_restart(world, worker, lease):
    request = spending(lease, 4)
    answer = ask(world, worker, request)
    ask(world, worker, advancing(lease, 0, 2))
    world.broker.close()
    world.open()
    assert ask(world, worker, request) == answer
    assert (value(world, "epsilon"), value(world, "steps")) == (6, 2)


@pytest.mark.usefixtures("budget")
def test_what_was_asked_is_forgotten_with_the_lease(world, worker, lease):
    request = spending(lease)
    ask(world, worker, request)
    second = world.release(world.request(worker, world.wrap())).lease_id
    world.now += 299
    world.renew(worker, second)
    world.now += 1
    assert world.store.read(lambda reader: reader.cell_asked(lease, request.nonce))
    other = spending(second)
    ask(world, worker, other)
    assert not world.store.read(lambda reader: reader.cell_asked(lease, request.nonce))
    assert world.store.read(lambda reader: reader.cell_asked(second, other.nonce))


# --- at once --------------------------------------------------------------------------------------------------------


def at_once(work, arguments):
    """What `work` of each of `arguments` gave: True for a yes, or the detail of its refusal."""
    outcomes, barrier = [], threading.Barrier(len(arguments))

    def run(argument):
        barrier.wait()
        try:
            work(argument)
            outcomes.append(True)
        except ReleaseRefused as refused:
            outcomes.append(refused.detail)

    threads = [threading.Thread(target=run, args=(argument,)) for argument in arguments]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return outcomes


@pytest.mark.usefixtures("budget")
def test_a_hundred_spends_at_once_on_a_budget_of_ten_succeed_ten_times(world, worker, lease):
    outcomes = at_once(lambda request: ask(world, worker, request), [spending(lease) for _ in range(100)])
    assert outcomes.count(True) == 10
    assert outcomes.count("cell.spent") == 90
    assert value(world, "epsilon") == 0
    spends = [leaf for leaf in world.leaves() if leaf.detail.startswith("spend ")]
    assert len(spends) == 10
    assert len({leaf.digests[1] for leaf in spends}) == 10


@pytest.mark.usefixtures("budget")
def test_the_same_spend_many_times_at_once_is_debited_once(world, worker, lease):
    request = spending(lease)
    assert at_once(lambda _: ask(world, worker, request), range(30)) == [True] * 30
    assert value(world, "epsilon") == 9


@pytest.mark.usefixtures("counter")
def test_of_many_advances_from_one_number_one_succeeds(world, worker, lease):
    requests = [advancing(lease, 0, number) for number in range(1, 31)]
    outcomes = at_once(lambda request: ask(world, worker, request), requests)
    assert (outcomes.count(True), outcomes.count("cell.expected")) == (1, 29)
    assert world.broker.cells.show("steps").changes == 1


@pytest.mark.usefixtures("budget")
def test_a_reused_nonce_is_the_error_that_says_so(world, worker, lease):
    request = spending(lease)
    ask(world, worker, request)
    world.now += 60
    with pytest.raises(NonceReused):
        ask(world, worker, request)


# --- revocations and boots --------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("budget")
def test_a_revoked_output_key_is_granted_to_nobody_and_takes_no_debit(world, worker, lease, wrapped):
    subject = Subject(About.KEY, "outputs")
    assert world.admin.revocations.revoke(subject, who=world.who, now=world.now).leases == ()
    spend = spending(lease, 3, output=Output(wrapped, worker.keyset))
    assert refusal(world, worker, spend) == "revoked.key"
    assert value(world, "epsilon") == 10
    world.admin.revocations.lift(subject, who=world.who, now=world.now)
    ask(world, worker, spending(lease, 3, output=Output(wrapped, worker.keyset)))
    assert value(world, "epsilon") == 7


@pytest.mark.usefixtures("budget")
def test_revoking_a_key_ends_the_lease_whose_spends_it_was_granted_to(world, worker, lease, wrapped):
    ask(world, worker, spending(lease, 3, output=Output(wrapped, worker.keyset)))
    world.renew(worker, lease)
    ended = world.admin.revocations.revoke(Subject(About.KEY, "outputs"), who=world.who, now=world.now).leases
    assert [each.id for each in ended] == [lease]
    with pytest.raises(LeaseEnded):
        ask(world, worker, spending(lease))


def test_an_output_key_per_boot_is_granted_once_in_the_boot_of_the_lease(world, worker, lease):
    create(world, "rare", CellKind.BUDGET, limit=10, output_key="once")
    world.admin.create_key("once", "policy", who=world.who, now=world.now, per_boot=True)
    output = Output(world.wrap(key_id="once", of=OUTPUT), worker.keyset)
    answer = ask(world, worker, spending(lease, 3, output=output, cell_id="rare"))
    assert leaf_of(world, answer).detail.endswith(" uses=b")
    assert refusal(world, worker, spending(lease, 3, output=output, cell_id="rare")) == "key.boot"
    assert value(world, "rare") == 7
