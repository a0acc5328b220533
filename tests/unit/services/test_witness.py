"""A witness, by its rules and over real HTTP. Peer: pymerkle makes the same roots and proofs."""

import sqlite3
import threading

import httpx2
import pymerkle
import pytest

from strongroom.crypto import merkle
from strongroom.crypto.signatures import generate_ed25519, generate_p256, private_to_pem, raw_public
from strongroom.errors import FileUnreadable, MalformedRecord, StoreUnavailable, UsageError
from strongroom.receipts.cosignature import Quorum
from strongroom.receipts.note import Checkpoint, sign_checkpoint
from strongroom.receipts.tiles import Tree
from strongroom.receipts.witness import MAX_BODY_BYTES, add_checkpoint_body
from strongroom.services.server import BackgroundServer
from strongroom.services.witness import DATABASE, KEY, open_witness, witness_app

NAME, ORIGIN, NOW = "witness.example/1", "strongroom.broker/test", 1_800_000_000
KEY_OF_LOG = generate_ed25519()
LOGS = {ORIGIN: raw_public(KEY_OF_LOG)}


class FakeLog:
    """A log that can be told to fork."""

    def __init__(self, seed=b"", key=KEY_OF_LOG, origin=ORIGIN):
        self.tree, self.seed, self.key, self.origin = Tree(), seed, key, origin

    def grow(self, size):
        while len(self.tree) < size:
            self.tree.append(merkle.leaf_hash(self.seed + bytes([len(self.tree)])))
        return self

    def note(self, size):
        return sign_checkpoint(Checkpoint(self.origin, size, self.grow(size).tree.root(size)), self.origin, self.key)

    def body(self, old, size, *, path=None):
        note = self.note(size)
        return add_checkpoint_body(old, self.tree.consistency_path(old, size) if path is None else path, note)


@pytest.fixture
def service(tmp_path):
    made = open_witness(tmp_path / "state", NAME, LOGS)
    yield made
    made.store.close()


def ask(service, body):
    reply = service.add_checkpoint(body, now=NOW)
    return reply.status, reply.text


def cosigned(service, log, old, size):
    status, lines = ask(service, log.body(old, size))
    assert status == 200
    ((found),) = Quorum(1, (service.witness,)).check(log.note(size) + lines)
    assert found.time == NOW


def test_a_growing_log_is_signed_at_every_step(service):
    log, old = FakeLog(), 0
    for size in (0, 1, 2, 3, 7, 8, 8, 100, 200):
        cosigned(service, log, old, size)
        old = size


def test_a_proof_that_a_peer_agrees_with_is_taken(service):
    tree, log = pymerkle.InmemoryTree(algorithm="sha256"), FakeLog()
    for number in range(21):
        tree.append_entry(bytes([number]))
    cosigned(service, log, 0, 13)
    ours = log.grow(21).tree.consistency_path(13, 21)
    assert tree.get_root(21) == log.tree.root(21)
    assert set(ours) <= set(tree.prove_consistency(13, 21).path)
    assert ask(service, log.body(13, 21))[0] == 200


def test_another_size_than_the_newest_is_a_conflict_that_names_it(service):
    log = FakeLog()
    cosigned(service, log, 0, 5)
    for old, size in ((0, 9), (4, 9), (6, 9), (0, 3), (0, 5), (3, 4)):
        reply = service.add_checkpoint(log.body(old, size), now=NOW)
        assert (reply.status, reply.text, reply.media_type) == (409, "5\n", "text/x.tlog.size")
    cosigned(service, log, 5, 9)


def test_a_log_that_shrinks_is_never_signed(service):
    log = FakeLog()
    cosigned(service, log, 0, 9)
    assert ask(service, log.body(5, 5)) == (409, "9\n")
    assert ask(service, log.body(0, 5)) == (409, "9\n")
    assert ask(service, log.body(9, 9))[0] == 200
    assert ask(service, add_checkpoint_body(9, [], log.note(5)))[0] == 400


def test_a_fork_of_the_same_size_is_a_conflict_and_kept_as_proof(service):
    log, fork = FakeLog(), FakeLog(b"fork")
    cosigned(service, log, 0, 5)
    assert service.store.forks() == ()
    assert ask(service, fork.body(5, 5)) == (409, "5\n")
    assert ask(service, FakeLog(b"another").body(5, 5)) == (409, "5\n")
    assert service.store.forks() == (fork.note(5),)
    cosigned(service, log, 5, 6)


def test_a_fork_that_went_on_has_no_proof(service):
    log, fork = FakeLog(), FakeLog(b"fork")
    cosigned(service, log, 0, 5)
    log.grow(9)
    for path in (None, [], log.tree.consistency_path(5, 9), [bytes(32)] * 63):
        assert ask(service, fork.body(5, 9, path=path))[0] == 422
    assert ask(service, log.body(5, 9, path=[*log.tree.consistency_path(5, 9), bytes(32)]))[0] == 422
    cosigned(service, log, 5, 9)


def test_a_proof_from_nothing_is_empty(service):
    assert ask(service, FakeLog().body(0, 3, path=[bytes(32)]))[0] == 422
    assert ask(
        service, add_checkpoint_body(0, [], sign_checkpoint(Checkpoint(ORIGIN, 0, bytes(32)), ORIGIN, KEY_OF_LOG))
    )[0] in {409, 422}


def test_unknown_logs_and_other_keys_are_told_apart(service):
    assert ask(service, FakeLog(origin="another.example").body(0, 3))[0] == 404
    assert ask(service, FakeLog(key=generate_ed25519()).body(0, 3))[0] == 403
    assert ask(service, FakeLog().body(0, 3))[0] == 200


def test_what_does_not_parse_raises(service):
    for body in (b"", b"old 0\n", FakeLog().body(0, 3)[:-1]):
        with pytest.raises(MalformedRecord):
            service.add_checkpoint(body, now=NOW)


def test_of_many_at_once_one_line_of_states_is_signed(service):
    """Each asks from the size 5 to a size of its own; one wins, and all others hear its size."""
    log = FakeLog()
    cosigned(service, log, 0, 5)
    bodies = {size: log.body(5, size) for size in range(6, 22)}
    answers, start = {}, threading.Barrier(len(bodies))

    def submit(size):
        start.wait()
        answers[size] = ask(service, bodies[size])

    threads = [threading.Thread(target=submit, args=(size,)) for size in bodies]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (winner,) = [size for size, (status, _) in answers.items() if status == 200]
    assert {answer for size, answer in answers.items() if size != winner} == {(409, f"{winner}\n")}


def test_two_processes_on_one_file_do_not_take_each_other_back(service, tmp_path):
    second, log = open_witness(tmp_path / "state", NAME, LOGS), FakeLog()
    cosigned(service, log, 0, 5)
    assert ask(second, log.body(0, 4)) == (409, "5\n")
    cosigned(second, log, 5, 7)
    assert ask(service, log.body(5, 6)) == (409, "7\n")
    second.store.close()


def test_a_new_start_remembers(service, tmp_path):
    log = FakeLog()
    cosigned(service, log, 0, 5)
    again = open_witness(tmp_path / "state", NAME, LOGS)
    assert again.witness == service.witness
    assert ask(again, log.body(0, 5)) == (409, "5\n")
    again.store.close()


def test_over_http_statuses_types_and_limits_are_those_of_the_specification(service):
    log = FakeLog()
    with (
        BackgroundServer(witness_app(service, clock=lambda: NOW)) as server,
        httpx2.Client(base_url=server.url) as http,
    ):
        answers = [
            http.post("/add-checkpoint", content=body)
            for body in (
                log.body(0, 3),
                log.body(0, 4),
                b"nonsense",
                b"x" * (MAX_BODY_BYTES + 1),
                FakeLog(origin="another.example").body(0, 3),
                FakeLog(key=generate_ed25519()).body(3, 4),
                FakeLog(b"fork").body(3, 4),
                add_checkpoint_body(9, [], log.note(4)),
            )
        ]
        assert [one.status_code for one in answers] == [200, 409, 400, 413, 404, 403, 422, 400]
        assert (answers[1].text, answers[1].headers["content-type"]) == ("3\n", "text/x.tlog.size")
        assert answers[0].text.startswith(f"— {NAME} ")
        assert http.get("/add-checkpoint").status_code == 405
        assert http.get("/healthz").json() == {"state": "ready"}


def test_key_and_state_belong_together(tmp_path):
    state = tmp_path / "state"
    made = open_witness(state, NAME, LOGS)
    cosigned(made, FakeLog(), 0, 3)
    made.store.close()
    assert {path.stat().st_mode & 0o777 for path in (state / KEY, state / DATABASE)} == {0o600}
    kept = (state / DATABASE).rename(tmp_path / "kept.db")
    with pytest.raises(StoreUnavailable, match="not what it signed before"):
        open_witness(state, NAME, LOGS)
    kept.rename(state / DATABASE)
    (state / KEY).rename(tmp_path / "elsewhere.pem")
    with pytest.raises(FileUnreadable, match="key is missing"):
        open_witness(state, NAME, LOGS)
    again = open_witness(state, NAME, LOGS, key=tmp_path / "elsewhere.pem")
    assert again.witness == made.witness
    again.store.close()
    (tmp_path / "elsewhere.pem").chmod(0o644)
    with pytest.raises(FileUnreadable, match="by others"):
        open_witness(state, NAME, LOGS, key=tmp_path / "elsewhere.pem")
    other = tmp_path / "p256.pem"
    other.write_bytes(private_to_pem(generate_p256()))
    other.chmod(0o600)
    with pytest.raises(FileUnreadable, match="Ed25519"):
        open_witness(state, NAME, LOGS, key=other)


@pytest.mark.parametrize("content", [b"not a database, but long enough to be read as something" * 20, None])
def test_a_foreign_file_is_not_taken_for_a_state(tmp_path, content):
    state = tmp_path / "state"
    state.mkdir()
    if content is None:
        other = sqlite3.connect(state / DATABASE)
        other.execute("CREATE TABLE x (y)")
        other.close()
    else:
        (state / DATABASE).write_bytes(content)
    with pytest.raises(StoreUnavailable):
        open_witness(state, NAME, LOGS)


@pytest.mark.parametrize(("name", "logs"), [("a b", LOGS), ("", LOGS), (NAME, {})])
def test_a_witness_without_a_name_or_a_log_does_not_start(tmp_path, name, logs):
    with pytest.raises(UsageError):
        open_witness(tmp_path / "state", name, logs)
