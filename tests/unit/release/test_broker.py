import dataclasses
import sqlite3
import threading
from contextlib import closing

import pytest

from strongroom.crypto.signatures import sign_envelope
from strongroom.errors import (
    AppraisalRefused,
    ClockWrong,
    LeaseEnded,
    MalformedRecord,
    NonceReused,
    ReleaseRefused,
    SignatureInvalid,
    StrongroomError,
    UsageError,
)
from strongroom.receipts.chain import chain_head, token_digest
from strongroom.receipts.proof import verify_proof
from strongroom.records import codec
from strongroom.records.digest import digest_bytes
from strongroom.records.release import Edition, LeaseState, renewal_purpose
from strongroom.release import leaves
from strongroom.release.attempts import CHALLENGES, RETRY_SECONDS
from strongroom.release.broker import Broker
from strongroom.release.challenges import LIFETIME_SECONDS
from strongroom.release.grants import open_grant
from strongroom.release.wire import MAX_EVIDENCE_BYTES, RECEIPTS_PAYLOAD_TYPE, ReceiptsRoot


def leaf_of(world, answer):
    identity = world.broker.identity
    return verify_proof(answer.proof, origin=identity.log_origin, log_key=identity.log)


def receipts(worker, lease_id, *, sequence=1, count=2, root=b"r" * 32, key=None):
    record = ReceiptsRoot(lease_id, sequence, count, root)
    return sign_envelope(RECEIPTS_PAYLOAD_TYPE, codec.encode(record), key or worker.receipt)


def test_a_proven_worker_opens_the_key_that_its_owner_wrapped(world, worker):
    wrapped = world.prepared()
    request = world.request(worker, wrapped)
    answer = world.release(request)
    opened = open_grant(
        answer.grants[0],
        broker=world.broker.identity,
        release_key=worker.release,
        evidence=request.bundle.evidence,
        artifact=request.keys[0].artifact,
        wrapped=wrapped,
        lease_id=answer.lease_id,
    )
    assert opened == bytes(range(32))
    assert answer.lease_seconds == 300


def test_a_release_is_in_the_log_before_it_is_answered(world, worker):
    request = world.request(worker, world.prepared())
    answer = world.release(request)
    leaf = leaf_of(world, answer)
    assert (leaf.event, leaf.subject, leaf.time) == (leaves.RELEASE, answer.lease_id, world.now)
    assert leaf.digests[:4] == (
        worker.keyset.digest,
        worker.statement.digest,
        request.bundle.evidence.digest,
        token_digest(answer.token),
    )
    assert leaf.digests[leaves.CHAIN] == chain_head(None, answer.token)
    assert leaf.detail == "level=simulated lease_seconds=300"


def test_the_same_bytes_get_the_kept_answer_and_no_new_decision(world, worker):
    request = world.request(worker, world.prepared())
    first, size = world.release(request), world.log_size()
    world.now += RETRY_SECONDS - 1
    assert world.release(request) == first
    assert (world.log_size(), world.appraiser.count) == (size, 1)


def test_the_same_bytes_are_refused_when_the_answer_is_kept_no_longer(world, worker):
    request = world.request(worker, world.prepared())
    world.release(request)
    world.now += RETRY_SECONDS
    with pytest.raises(NonceReused):
        world.release(request)


def test_a_refusal_is_kept_too(world, worker):
    request = world.request(worker, world.prepared())
    world.appraiser.admits = False
    for _ in range(2):
        with pytest.raises(AppraisalRefused) as refused:
            world.release(request)
        assert refused.value.failed == ("policy.test",)
    assert world.appraiser.count == 1


def test_a_nonce_is_spent_also_by_an_attempt_that_failed(world, worker):
    wrapped = world.prepared()
    challenge = world.challenge()
    world.appraiser.admits = False
    with pytest.raises(AppraisalRefused):
        world.release(world.request(worker, wrapped, challenge=challenge))
    world.appraiser.admits = True
    other_bytes = dataclasses.replace(world.request(worker, wrapped, challenge=challenge), keys=())
    with pytest.raises(NonceReused):
        world.release(other_bytes)


def test_many_threads_with_one_nonce_get_exactly_one_decision(world, worker, another_worker):
    wrapped = world.prepared()
    challenge = world.challenge()
    bodies = [codec.encode(world.request(w, wrapped, challenge=challenge)) for w in (worker, another_worker)] * 4
    together, outcomes = threading.Barrier(len(bodies)), []

    def attempt(body):
        together.wait()
        try:
            outcomes.append(world.broker.release(body, now=world.now).lease_id)
        except StrongroomError as error:
            outcomes.append(error.code)

    threads = [threading.Thread(target=attempt, args=(body,)) for body in bodies]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    released = {outcome for outcome in outcomes if outcome != NonceReused.code}
    assert len(released) == 1
    assert outcomes.count(NonceReused.code) == 4  # the other worker's bytes; the winner's own four share one answer
    assert len(world.admin.leases(now=world.now)) == 1


def test_a_decision_survives_a_new_start_of_the_broker(world, worker):
    request = world.request(worker, world.prepared())
    first = world.release(request)
    world.broker.close()
    world.open()
    assert world.release(request) == first
    world.now += RETRY_SECONDS
    with pytest.raises(NonceReused):
        world.release(request)


def test_an_expired_challenge_is_refused(world, worker):
    request = world.request(worker, world.prepared())
    world.now += LIFETIME_SECONDS
    with pytest.raises(ReleaseRefused, match="expired"):
        world.release(request)


def test_a_clock_set_back_revives_no_nonce(world, worker, another_worker):
    wrapped = world.prepared()
    used = world.request(worker, wrapped)
    world.release(used)
    world.now += 1000
    world.release(world.request(another_worker, wrapped))  # forgets what had expired
    world.now -= 1000
    with pytest.raises(ClockWrong):
        world.release(dataclasses.replace(used, keys=()))
    challenge = used.challenge
    assert not world.store.write(lambda t: t.consume(CHALLENGES, challenge.nonce, challenge.expires))


def test_a_challenge_of_another_purpose_is_refused(world, worker):
    wrapped = world.prepared()
    challenge = world.challenge(renewal_purpose("a-lease"))
    with pytest.raises(ReleaseRefused, match="another purpose"):
        world.release(world.request(worker, wrapped, challenge=challenge))


@pytest.mark.parametrize("member", ["nonce", "purpose", "expires", "mac"])
def test_a_challenge_with_any_member_changed_is_not_the_brokers(world, worker, member):
    challenge = world.challenge()
    changes = {"nonce": b"n" * 32, "purpose": "renew:x", "expires": challenge.expires + 1, "mac": b"m" * 32}
    changed = dataclasses.replace(challenge, **{member: changes[member]})
    with pytest.raises(ReleaseRefused, match="not one of this broker's"):
        world.release(world.request(worker, world.prepared(), challenge=changed))


def test_an_artifact_that_the_statement_does_not_name_is_refused(world, worker):
    request = world.request(worker, world.prepared(), artifact=digest_bytes(b"another artifact"))
    with pytest.raises(ReleaseRefused, match="names the artifact asked for") as refused:
        world.release(request)
    assert refused.value.detail == "statement.artifacts"


def test_a_key_without_a_policy_is_released_to_nobody(world, worker):
    world.admin.create_key("model", "policy", who=world.who, now=world.now)
    with pytest.raises(ReleaseRefused, match="no policy yet"):
        world.release(world.request(worker, world.wrap()))


def test_a_key_of_another_broker_is_refused(world, worker):
    wrapped = dataclasses.replace(world.prepared(), broker=digest_bytes(b"another broker"))
    with pytest.raises(ReleaseRefused, match="another broker"):
        world.release(world.request(worker, wrapped))


@pytest.mark.parametrize(
    "change",
    [
        {"of": Edition.first(b"another artifact")},
        {"of": Edition(b"artifact", b"its line", 9)},
        {"ciphertext": b"c" * 60},
        {"ciphertext": b""},
    ],
)
def test_a_wrapped_key_that_was_changed_is_refused(world, worker, change):
    wrapped = dataclasses.replace(world.prepared(), **change)
    with pytest.raises(ReleaseRefused, match="changed or is another"):
        world.release(world.request(worker, wrapped))


def test_every_policy_of_the_keys_must_admit_the_worker(world, worker):
    wrapped = world.prepared()
    world.admin.create_key("second", "missing", who=world.who, now=world.now)
    request = world.request(worker, wrapped)
    second = dataclasses.replace(request.keys[0], wrapped=world.wrap(key_id="second"))
    with pytest.raises(ReleaseRefused, match="no policy yet"):
        world.release(dataclasses.replace(request, keys=(*request.keys, second)))
    world.put_policy(policy_id="missing", lease_seconds=60)
    request = dataclasses.replace(world.request(worker, wrapped), keys=(*request.keys, second))
    answer = world.release(request)
    assert len(answer.grants) == 2
    assert answer.lease_seconds == 60  # the shorter of the two
    assert world.appraiser.count == 2


def test_a_lease_never_outlives_the_keyset(world, worker):
    worker.keyset = dataclasses.replace(worker.keyset, not_after=world.now + 7)
    assert world.release(world.request(worker, world.prepared())).lease_seconds == 7
    worker.keyset = dataclasses.replace(worker.keyset, not_after=world.now)
    with pytest.raises(ReleaseRefused, match="keyset has ended"):
        world.release(world.request(worker, world.wrap()))


def test_a_request_for_no_key_is_refused(world, worker):
    request = dataclasses.replace(world.request(worker, world.prepared()), keys=())
    with pytest.raises(ReleaseRefused, match="1 to 16 keys"):
        world.release(request)


@pytest.mark.parametrize(
    "body", [b"", b"{}", b"[]", b"null", b"\xff", b"{" * 5000, b'{"type":"strongroom/release-request/v2"}']
)
def test_bytes_that_are_no_request_are_malformed(world, body):
    with pytest.raises(MalformedRecord):
        world.broker.release(body, now=world.now)


def test_an_oversize_request_is_refused_before_it_is_parsed(world):
    with pytest.raises(MalformedRecord, match="exceeds"):
        world.broker.release(b"x" * (MAX_EVIDENCE_BYTES + 1), now=world.now)


def test_a_renewal_extends_the_lease_and_the_chain(world, worker):
    first = world.release(world.request(worker, world.prepared()))
    world.now += 200
    second = world.renew(worker, first.lease_id)
    (lease,) = world.admin.leases(now=world.now)
    assert (lease.expires, lease.renewals) == (world.now + 300, 1)
    assert lease.chain == chain_head(chain_head(None, first.token), second.token)
    assert leaf_of(world, second).digests[leaves.CHAIN] == lease.chain
    assert second.grants == ()


def test_a_lease_that_ran_out_is_not_renewed(world, worker):
    first = world.release(world.request(worker, world.prepared()))
    world.now += 300
    with pytest.raises(LeaseEnded, match="expired"):
        world.renew(worker, first.lease_id)
    assert world.admin.leases(now=world.now)[0].state is LeaseState.EXPIRED


def test_a_revoked_lease_is_not_renewed(world, worker):
    first = world.release(world.request(worker, world.prepared()))
    world.admin.revoke_lease(first.lease_id, who=world.who, now=world.now)
    with pytest.raises(LeaseEnded, match="revoked"):
        world.renew(worker, first.lease_id)


def test_an_unknown_lease_is_not_renewed(world, worker):
    world.prepared()
    with pytest.raises(LeaseEnded, match="no such lease"):
        world.renew(worker, "unknown")


def test_only_the_worker_that_has_the_lease_renews_it(world, worker, another_worker):
    first = world.release(world.request(worker, world.prepared()))
    with pytest.raises(ReleaseRefused, match="another keyset"):
        world.renew(another_worker, first.lease_id)
    another_worker.keyset = worker.keyset
    another_worker.statement = dataclasses.replace(worker.statement, workload="job")
    with pytest.raises(ReleaseRefused, match="another statement"):
        world.renew(another_worker, first.lease_id)


def test_a_retired_key_is_neither_released_nor_renewed(world, worker):
    wrapped = world.prepared()
    first = world.release(world.request(worker, wrapped))
    world.admin.retire_key("model", who=world.who, now=world.now)
    with pytest.raises(ReleaseRefused, match="retired"):
        world.renew(worker, first.lease_id)
    with pytest.raises(ReleaseRefused, match="retired"):
        world.release(world.request(worker, wrapped))


def test_a_revocation_while_the_evidence_is_judged_wins(world, worker):
    first = world.release(world.request(worker, world.prepared()))
    judged = world.appraiser.__call__

    def revoke_meanwhile(bundle, **members):
        world.admin.revoke_lease(first.lease_id, who=world.who, now=world.now)
        return judged(bundle, **members)

    world.broker._judge._appraiser = revoke_meanwhile
    with pytest.raises(LeaseEnded, match="revoked"):
        world.renew(worker, first.lease_id)
    assert world.admin.leases(now=world.now)[0].renewals == 0


def test_a_policy_put_while_the_evidence_is_judged_is_not_overtaken(world, worker):
    wrapped = world.prepared()
    judged = world.appraiser.__call__

    def put_meanwhile(bundle, **members):
        world.put_policy(version=2)
        return judged(bundle, **members)

    world.broker._judge._appraiser = put_meanwhile
    with pytest.raises(ReleaseRefused, match="changed while"):
        world.release(world.request(worker, wrapped))
    assert world.admin.leases(now=world.now) == ()


def test_receipts_are_logged_once_under_a_live_lease(world, worker):
    answer = world.release(world.request(worker, world.prepared()))
    envelope = receipts(worker, answer.lease_id)
    proof = world.broker.post_receipts(envelope, now=world.now)
    leaf = verify_proof(proof, origin=world.broker.identity.log_origin, log_key=world.broker.identity.log)
    assert leaf.digests == (worker.keyset.digest, "sha256:" + (b"r" * 32).hex())
    with pytest.raises(NonceReused):
        world.broker.post_receipts(envelope, now=world.now)
    world.now += 300
    with pytest.raises(LeaseEnded):
        world.broker.post_receipts(receipts(worker, answer.lease_id, sequence=2), now=world.now)


def test_receipts_that_the_leases_worker_did_not_sign_are_refused(world, worker, another_worker):
    answer = world.release(world.request(worker, world.prepared()))
    with pytest.raises(SignatureInvalid):
        world.broker.post_receipts(receipts(worker, answer.lease_id, key=another_worker.receipt), now=world.now)
    with pytest.raises(MalformedRecord):
        world.broker.post_receipts(receipts(worker, answer.lease_id, root=b"short"), now=world.now)


def test_a_flood_of_refusals_grows_the_log_only_so_far(world, worker):
    wrapped = world.prepared()
    world.broker._attempts.refusals.__init__(per_minute=3)
    world.appraiser.admits, size = False, world.log_size()
    for _ in range(8):
        with pytest.raises(AppraisalRefused):
            world.release(world.request(worker, wrapped))
    assert world.log_size() == size + 3
    world.now += 60
    with pytest.raises(AppraisalRefused):
        world.release(world.request(worker, wrapped))
    assert world.leaves()[-1].detail == "code=appraisal.refused unlogged=5 checks=policy.test"


def test_what_was_forgotten_leaves_no_rows_behind(world, worker):
    wrapped = world.prepared()
    for _ in range(3):
        world.release(world.request(worker, wrapped))
        world.now += 1000
    world.release(world.request(worker, wrapped))
    with closing(sqlite3.connect(world.store._path)) as connection:
        counts = ("select count(*) from nonces", "select count(*) from answers")
        rows = [connection.execute(count).fetchone()[0] for count in counts]
    assert rows == [1, 1]


def test_a_broker_without_owners_does_not_start(world):
    with pytest.raises(UsageError, match="without an owner"):
        Broker(world.store, world.keys, appraiser=world.appraiser, owner_keys=[])


LINE = b"a line of models"


def test_no_key_of_an_edition_before_the_policys_floor_is_released(world, worker, another_worker):
    """A store that lies shows the worker an old artifact, which its owner signed; the broker does not open it."""
    world.prepared()
    old, new = (world.wrap(of=Edition(bytes([n]) * 16, LINE, n)) for n in (2, 3))
    other = world.wrap(of=Edition(b"x", b"another line", 1))
    assert world.release(world.request(worker, old)).grants
    world.put_policy(version=2, editions={LINE.hex(): 3})
    with pytest.raises(ReleaseRefused) as refused:
        world.release(world.request(worker, old))
    assert refused.value.detail == "key.edition"
    assert world.release(world.request(worker, new)).grants
    assert world.release(world.request(another_worker, other)).grants


def test_an_old_edition_cannot_call_itself_a_new_one(world, worker):
    world.prepared()
    old = world.wrap(of=Edition(b"old", LINE, 2))
    world.put_policy(version=2, editions={LINE.hex(): 3})
    for of in (Edition(b"old", LINE, 3), Edition(b"old", b"another line", 2), Edition.first(b"old")):
        with pytest.raises(ReleaseRefused) as refused:
            world.release(world.request(worker, dataclasses.replace(old, of=of)))
        assert refused.value.detail == "key.wrapped"


@pytest.mark.parametrize("editions", [{"": 1}, {"0" * 31: 1}, {"A" * 32: 1}, {"0" * 32: 0}])
def test_floors_that_mean_nothing_are_no_policy(world, editions):
    with pytest.raises(ValueError, match="editions"):
        world.policy(editions=editions)
