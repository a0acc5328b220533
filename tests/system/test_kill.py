"""kill -9 of broker, worker and engine at random moments: nothing acknowledged is lost, no nonce releases a key twice.

Fifty kills in all. The seed is printed with each failure; STRONGROOM_KILL_SEED repeats it, as far as schedulers repeat anything.
"""

from __future__ import annotations

import ctypes
import functools
import os
import random
import signal
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx2
import pytest

from strongroom.client.client import Client as User
from strongroom.client.documents import check_document
from strongroom.crypto import merkle
from strongroom.demo.canaries import Canary, hunt
from strongroom.demo.model import find_model
from strongroom.errors import LeaseEnded, NonceReused, ReleaseRefused, ServiceUnavailable, StrongroomError
from strongroom.receipts.hidden import reveal
from strongroom.receipts.note import Checkpoint, open_checkpoint
from strongroom.receipts.proof import verify_extension
from strongroom.receipts.tiles import Tree, bundles_of, parse_bundle
from strongroom.records import codec
from strongroom.records.digest import Digest, digest_bytes
from strongroom.records.release import (
    PURPOSE_RELEASE,
    Edition,
    KeyRequest,
    Leaf,
    LeaseState,
    LogProof,
    ReleaseAnswer,
    ReleaseRequest,
    RenewalRequest,
    Use,
    renewal_purpose,
)
from strongroom.records.worker import Statement
from strongroom.release import leaves
from strongroom.release.attempts import RETRY_SECONDS
from strongroom.release.client import BrokerClient
from strongroom.release.grants import open_grant
from strongroom.sealed.open import Opener
from strongroom.sealed.registries import from_reference
from strongroom.worker.attester import Attester
from strongroom.worker.keys import WorkerKeys

SEED = int(os.environ.get("STRONGROOM_KILL_SEED") or random.SystemRandom().randrange(1 << 32))
BROKER_KILLS, FIRST_START_KILLS, WORKER_KILLS, ENGINE_KILLS = 30, 4, 9, 7
assert BROKER_KILLS + FIRST_START_KILLS + WORKER_KILLS + ENGINE_KILLS >= 50

pytestmark = pytest.mark.timeout(300)


# --- what was acknowledged ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Acknowledged:
    """A yes that a client holds: the leaf that must stay in the log, and its proof where the answer carried one."""

    event: str
    subject: str
    detail: str = ""
    proof: LogProof | None = None


@dataclass
class Ledger:
    """What all clients hold together, and what surprised them."""

    acknowledged: list[Acknowledged] = field(default_factory=list)
    answered: dict[bytes, set[Digest]] = field(default_factory=lambda: defaultdict(set))  # nonce: evidence sent for it
    retried: Counter = field(default_factory=Counter)
    surprises: list[BaseException] = field(default_factory=list)

    def leases(self) -> list[str]:
        return [a.subject for a in list(self.acknowledged) if a.event == leaves.RELEASE]

    def revoked(self) -> set[str]:
        return {a.subject for a in list(self.acknowledged) if a.event == leaves.REVOCATION}


class Client(threading.Thread):
    """One client in a loop, until told to stop. What it does not expect ends it, and is kept."""

    def __init__(self, estate, ledger: Ledger, seed: str) -> None:
        super().__init__(daemon=True)
        self.estate, self.ledger, self.random = estate, ledger, random.Random(seed)
        self.broker: BrokerClient = estate.client(owner=True)
        self.stopping = threading.Event()

    def run(self) -> None:
        while not self.stopping.is_set():
            try:
                self.turn()
            except ServiceUnavailable:  # the honest error of a request in flight
                self.estate.up.wait(30)
            except BaseException as error:  # noqa: BLE001 (shown by the test)
                self.ledger.surprises.append(error)
                return

    def turn(self) -> None:
        raise NotImplementedError

    def stop(self) -> None:
        self.stopping.set()
        self.join(60)
        self.broker.close()
        assert not self.is_alive()


def require_honest(error: ReleaseRefused) -> None:
    """A refusal that may come in this story: the policy changed meanwhile, or the nonce was used by an attempt that was cut off."""
    if error.detail != "facts.changed" and not isinstance(error, NonceReused):
        raise error


class Prover(Client):
    """A worker's side with the production attester: proves, renews, posts receipts, and retries what was cut off."""

    def __init__(self, estate, ledger: Ledger, seed: str, opener: Opener) -> None:
        super().__init__(estate, ledger, seed)
        self.opener = opener
        self.keys = WorkerKeys.generate(now=int(time.time()))
        statement = Statement("inference", IMAGE, None, (opener.digest,), digest_bytes(b"configuration"))
        self.attester = Attester(
            estate.chip(), lambda: estate.collateral_record, kind="tdx", keyset=self.keys.keyset, statement=statement
        )
        self.open: list[ReleaseRequest] = []  # sent, and nobody knows what came of it
        self.last: tuple[ReleaseRequest, ReleaseAnswer, float] | None = None

    def turn(self) -> None:
        while self.open:
            self.finish(self.open[0])
        if self.last is not None:
            self.repeat(*self.last)
        request = self.prove(self.broker.challenge(PURPOSE_RELEASE))
        self.open.append(request)
        answer = self.finish(request)
        if answer is not None:
            self.random.choice([self.prove_again, self.renew, self.post_receipts])(request, answer)

    def prove(self, challenge) -> ReleaseRequest:
        bundle = self.attester.prove(challenge.nonce, PURPOSE_RELEASE)
        self.ledger.answered[challenge.nonce].add(bundle.evidence.digest)
        return ReleaseRequest(challenge, bundle, (KeyRequest(self.opener.digest, self.opener.wrapped, Use.OPEN),))

    def finish(self, request: ReleaseRequest) -> ReleaseAnswer | None:
        """Send, or send again what was cut off: a grant, which opens, or a refusal for a policy that changed meanwhile."""
        asked = time.monotonic()
        try:
            answer = self.broker.release(request)
        except ReleaseRefused as error:
            require_honest(error)
            self.open.remove(request)
            return None
        self.open.remove(request)
        self.acknowledge(leaves.RELEASE, answer)
        open_grant(
            answer.grants[0],
            broker=self.broker.identity,
            release_key=self.keys.release,
            evidence=request.bundle.evidence,
            artifact=self.opener.digest,
            wrapped=self.opener.wrapped,
            lease_id=answer.lease_id,
        )
        self.last = (request, answer, asked)
        return answer

    def repeat(self, request: ReleaseRequest, answer: ReleaseAnswer, asked: float) -> None:
        """The same bytes again, perhaps at a broker that died in between: what was kept, or no; never something new."""
        try:
            again = self.broker.release(request)
        except ReleaseRefused:
            assert time.monotonic() - asked > RETRY_SECONDS - 2
        else:
            assert again == answer
        self.ledger.retried["same bytes"] += 1
        self.last = None

    def prove_again(self, request: ReleaseRequest, _: ReleaseAnswer) -> None:
        """Other evidence for a nonce that was answered."""
        with pytest.raises(NonceReused):
            self.broker.release(self.prove(request.challenge))
        self.ledger.retried["same nonce"] += 1

    def renew(self, _: ReleaseRequest, answer: ReleaseAnswer) -> None:
        purpose = renewal_purpose(answer.lease_id)
        challenge = self.broker.challenge(purpose)
        bundle = self.attester.prove(challenge.nonce, purpose)
        self.ledger.answered[challenge.nonce].add(bundle.evidence.digest)
        try:
            renewed = self.broker.renew(RenewalRequest(challenge, bundle, answer.lease_id))
        except LeaseEnded:
            return  # the owner was quicker
        except ReleaseRefused as error:
            require_honest(error)
            return
        self.acknowledge(leaves.RENEWAL, renewed)

    def post_receipts(self, _: ReleaseRequest, answer: ReleaseAnswer) -> None:
        count = self.random.randint(1, 9)
        root = self.random.randbytes(32)
        try:
            proof = self.broker.post_receipts(answer.lease_id, self.keys.receipt, count, root)
        except LeaseEnded:
            return
        self.ledger.acknowledged.append(
            Acknowledged(leaves.RECEIPTS, answer.lease_id, codec.decode(Leaf, proof.leaf).detail, proof)
        )

    def acknowledge(self, event: str, answer: ReleaseAnswer) -> None:
        detail = codec.decode(Leaf, answer.proof.leaf).detail
        self.ledger.acknowledged.append(Acknowledged(event, answer.lease_id, detail, answer.proof))


class Owner(Client):
    """An owner: new versions of the policy, new keys, wrapped keys, revoked leases."""

    def __init__(self, estate, ledger: Ledger, seed: str, artifact: Digest) -> None:
        super().__init__(estate, ledger, seed)
        self.artifact, self.version, self.count = artifact, 1, 0

    def turn(self) -> None:
        self.random.choice([self.put_policy, self.create_key, self.revoke])()
        self.stopping.wait(0.05)  # each policy refuses what was being decided under the one before

    def put_policy(self) -> None:
        policy = self.estate.policy(self.artifact, version=self.version + 1)
        info = self.broker.put_policy(self.estate.signed(policy))  # once more the same, if the first was cut off
        assert (info.version, info.digest) == (policy.version, policy.digest)
        self.version = policy.version
        self.hold(leaves.POLICY, policy.id, f"version={policy.version}")

    def create_key(self) -> None:
        self.count += 1
        name = f"key-{self.count}"
        self.broker.create_key(name, "later")
        self.hold(leaves.KEY, name, "created")
        self.broker.wrap(name, Edition.first(self.random.randbytes(16)), self.random.randbytes(32))
        self.hold(leaves.KEY, name, "wrapped")

    def revoke(self) -> None:
        held = self.ledger.leases()
        if not held:
            return
        lease = self.random.choice(held)
        try:
            self.broker.revoke(lease)
        except LeaseEnded:
            return
        self.hold(leaves.REVOCATION, lease, "lease")

    def hold(self, event: str, subject: str, detail: str) -> None:
        self.ledger.acknowledged.append(Acknowledged(event, subject, detail))


# --- the auditor ----------------------------------------------------------------------------------------------------


class Auditor:
    """Reads the whole log from its tiles after each restart, and holds it against what clients hold."""

    def __init__(self, estate, ledger: Ledger) -> None:
        self.estate, self.ledger = estate, ledger
        self.entries: tuple[bytes, ...] = ()
        self.opened: dict[int, Leaf] = {}
        self.seen: Checkpoint | None = None

    def audit(self) -> None:
        acknowledged = list(self.ledger.acknowledged)
        broker = self.estate.client(owner=True)
        try:
            origin, key = broker.identity.log_origin, broker.identity.log
            checkpoint, entries = self.read(functools.partial(open_checkpoint, name=origin, public=key))
            tree = Tree(map(merkle.leaf_hash, entries))
            assert merkle.root([merkle.leaf_hash(entry) for entry in entries]) == checkpoint.root
            assert entries[: len(self.entries)] == self.entries, "the log changed what it said before"
            for proof in [a.proof for a in acknowledged if a.proof is not None]:
                held = open_checkpoint(proof.checkpoint, origin, key)
                assert proof.index < len(entries), "an acknowledged entry is gone"
                assert entries[proof.index] == proof.leaf
                verify_extension(held, checkpoint, tree.consistency_path(held.size))
            if self.seen is not None:
                verify_extension(self.seen, checkpoint, tree.consistency_path(self.seen.size))
            self.entries, self.seen = entries, checkpoint
            self.check_leaves(acknowledged, self.open(broker, entries))
            self.check_state(broker, acknowledged)
        finally:
            broker.close()

    def open(self, broker: BrokerClient, entries: tuple[bytes, ...]) -> list[Leaf]:
        """All leaves with what they hide, which the owner may be shown."""
        newest = self.opened[len(self.opened) - 1].time if self.opened else 0
        for page in broker.audit(since=newest):
            for logged in page.leaves:
                assert logged.index >= len(entries) or logged.leaf == entries[logged.index]
                leaf, hidden = reveal(codec.decode(Leaf, logged.leaf), logged.openings)
                assert hidden == 0, "what opens a leaf is gone"
                self.opened[logged.index] = leaf
        return [self.opened[index] for index in range(len(entries))]

    def read(self, opened: Callable[[str], Checkpoint]) -> tuple[Checkpoint, tuple[bytes, ...]]:
        with httpx2.Client(base_url=self.estate.url) as http:
            checkpoint = opened(http.get("/checkpoint").text)
            tiles = bundles_of(checkpoint.size)
            bundles = [parse_bundle(http.get("/" + tile.path).raise_for_status().content, tile) for tile in tiles]
        return checkpoint, tuple(entry for entries in bundles for entry in entries)

    def check_leaves(self, acknowledged: list[Acknowledged], logged: list[Leaf]) -> None:
        """Every acknowledged act is a leaf; each nonce was answered yes at most once; each lease was begun once."""
        there = Counter((leaf.event, leaf.subject, leaf.detail) for leaf in logged)
        wanted = Counter((a.event, a.subject, a.detail) for a in acknowledged if a.event in ONCE)
        missing = {act: count for act, count in wanted.items() if there[act] != count}
        assert not missing, missing
        yes = [leaf for leaf in logged if leaf.event in {leaves.RELEASE, leaves.RENEWAL}]
        decided = Counter(leaf.digests[2] for leaf in yes)
        for nonce, evidence in list(self.ledger.answered.items()):
            assert sum(decided[one] for one in list(evidence)) <= 1, f"nonce {nonce.hex()} was answered twice"
        assert set(decided.values()) <= {1}
        begun = Counter(leaf.subject for leaf in logged if leaf.event == leaves.RELEASE)
        assert set(begun.values()) <= {1}

    def check_state(self, broker: BrokerClient, acknowledged: list[Acknowledged]) -> None:
        """The tables say what the log says."""
        revoked = {a.subject for a in acknowledged if a.event == leaves.REVOCATION}
        found = {lease.id: lease for lease in broker.leases()}
        assert {a.subject for a in acknowledged if a.event == leaves.RELEASE} <= set(found)
        assert all(found[lease].state is LeaseState.REVOKED for lease in revoked)
        keys = {key.key_id for key in broker.keys()}  # noqa: SIM118 (not a dict)
        assert {a.subject for a in acknowledged if a.event == leaves.KEY} <= keys
        versions = [int(a.detail.removeprefix("version=")) for a in acknowledged if a.event == leaves.POLICY]
        assert broker.policies()[0].version >= max(versions, default=0)

    def audit_at_rest(self) -> None:
        """With nobody writing, the leases and the log's decisions are one to one: no half of a transaction exists."""
        self.audit()
        logged = [codec.decode(Leaf, entry) for entry in self.entries]
        broker = self.estate.client(owner=True)
        found = broker.leases()
        broker.close()
        renewals = Counter(leaf.subject for leaf in logged if leaf.event == leaves.RENEWAL)
        heads = {
            leaf.subject: leaf.digests[leaves.CHAIN]
            for leaf in logged
            if leaf.event in {leaves.RELEASE, leaves.RENEWAL}
        }
        assert {lease.id for lease in found} == {leaf.subject for leaf in logged if leaf.event == leaves.RELEASE}
        assert {lease.id: lease.renewals for lease in found} == {lease.id: renewals[lease.id] for lease in found}
        assert {lease.id: lease.chain for lease in found} == heads


IN_FLIGHT = frozenset({"engine.unavailable", "channel.truncated", "service.unavailable"})
"""What a user may be told whose answer was under way."""

ONCE = frozenset({leaves.RELEASE, leaves.POLICY, leaves.KEY, leaves.RECEIPTS, leaves.REVOCATION})
"""What has a leaf of its own; renewals of one lease look alike and are held against their proofs."""

IMAGE = digest_bytes(b"the image of the tests")


# --- the broker -----------------------------------------------------------------------------------------------------


def test_a_broker_killed_in_its_first_start_starts_again_over_what_it_left(estate):
    chance = random.Random(f"{SEED} first start")
    for number in range(FIRST_START_KILLS):
        state = estate.host / f"broker-{number}"
        first = estate.begin(state, port=0)
        time.sleep(chance.uniform(0.3, 1.2))
        first.process.kill()
        first.process.wait()
        second = estate.begin(state, port=0)
        assert second.line(state="ready"), f"seed {SEED}"
        assert sorted(path.name for path in state.iterdir() if "unfinished" in path.name) == []
        second.process.kill()


def test_a_broker_killed_at_random_moments_loses_nothing_and_releases_no_key_twice(estate, tmp_path):
    print(f"seed {SEED}")  # noqa: T201 (shown with a failure)
    chance = random.Random(f"{SEED} broker")
    opener = prepare(estate, tmp_path / "artifact")
    ledger = Ledger()
    clients = [Prover(estate, ledger, f"{SEED} prover {n}", opener) for n in range(3)]
    clients.append(Owner(estate, ledger, f"{SEED} owner", opener.digest))
    auditor = Auditor(estate, ledger)
    for client in clients:
        client.start()
    for _ in range(BROKER_KILLS):
        time.sleep(chance.uniform(0, 0.5))  # the random moment is the test
        estate.kill()
        if chance.random() < 0.15:  # in the middle of its start, too
            unready = estate.begin()
            time.sleep(chance.uniform(0.2, 1.0))
            unready.process.kill()
            unready.process.wait()
        estate.start()
        auditor.audit()
        assert not ledger.surprises, ledger.surprises
    for client in clients:
        client.stop()
    auditor.audit_at_rest()
    assert not ledger.surprises, ledger.surprises
    counts = Counter(a.event for a in ledger.acknowledged)
    assert min(counts[event] for event in (*ONCE, leaves.RENEWAL)) > 0, counts
    assert min(ledger.retried["same bytes"], ledger.retried["same nonce"]) > 0
    assert not any(b"Traceback" in process.log.read_bytes() for process in estate.ended)


def prepare(estate, source: Path) -> Opener:
    """A broker with a key, a small sealed artifact, and a policy for it."""
    estate.start()
    source.mkdir()
    (source / "file").write_bytes(b"a small artifact")
    broker = estate.client(owner=True)
    broker.create_key("model", "policy")
    opener = estate.seal(source, "small")
    broker.put_policy(estate.signed(estate.policy(opener.digest)))
    broker.close()
    return opener


# --- workers and engines --------------------------------------------------------------------------------------------


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the worker's process keeps temporary files, if it does."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    return folder


@pytest.fixture(scope="module")
def house(new_estate):
    """An estate with the real model sealed, for workers in processes of their own; and what must not be seen of it."""
    model = find_model()
    if model is None:
        pytest.skip("missing program: model")
    estate = new_estate()
    estate.start()
    broker = estate.client(owner=True)
    broker.create_key("model", "policy")
    opener = estate.seal(model, "model")
    broker.put_policy(estate.signed(estate.policy(opener.digest, lease_seconds=30)))
    broker.close()
    with model.open("rb") as file:
        file.seek(model.stat().st_size // 3)
        return estate, Canary("the weights", file.read(64))


@pytest.fixture(scope="module", autouse=True)
def orphans_come_to_us() -> Iterator[None]:
    """What outlives a killed worker becomes a child of this process, which so can see it and wait for its end."""
    libc = ctypes.CDLL(None, use_errno=True)
    set_child_subreaper = 36
    assert libc.prctl(set_child_subreaper, 1, 0, 0, 0) == 0
    yield
    libc.prctl(set_child_subreaper, 0, 0, 0, 0)


@pytest.mark.needs("model")
def test_a_worker_killed_while_it_starts_leaves_no_child_and_no_plaintext(house, tmp_path, scratch):
    estate, canary = house
    chance = random.Random(f"{SEED} worker")
    before, orphans = children(), 0
    for number in range(WORKER_KILLS):
        with estate.served_chip(estate.host / f"tee-start-{number}") as tee:
            worker = estate.worker("model", tee, tmp_path / f"worker-{number}.log")
            time.sleep(chance.uniform(0.1, 2.0))
            worker.process.kill()
            worker.process.wait()
            left = children() - before
            orphans += len(left)
            await_end(left)
            worker.stop()
    assert orphans > 0, "no kill came late enough to leave anybody behind"
    assert not list(scratch.iterdir())
    assert_nothing_left(estate, canary)
    auditor = Auditor(estate, Ledger())
    auditor.audit_at_rest()


@pytest.mark.needs("model")
def test_a_worker_whose_engine_is_killed_and_may_not_start_again_wipes_its_keys_and_ends(house, tmp_path, scratch):
    estate, canary = house
    chance = random.Random(f"{SEED} engine")
    before, told = children(), []
    for number in range(ENGINE_KILLS):
        with estate.served_chip(estate.host / f"tee-engine-{number}") as tee:
            worker = estate.worker("model", tee, tmp_path / f"engine-{number}.log", "--restarts", "0")
            asking = user(estate, worker.line(state="serving")["detail"])
            answer = asking.stream("Count to a hundred.", max_tokens=400)
            if chance.random() < 0.5:
                assert next(answer)
            time.sleep(chance.uniform(0, 0.3))
            engine = set().union(*(descendants(nursery) for nursery in direct(worker.process.pid)))
            os.kill(chance.choice(sorted(engine)), signal.SIGKILL)
            told.append(what_came_of(asking, answer))
            outcome = worker.outcome()
            assert (outcome.code, outcome.error) == (4, "engine.unavailable"), (SEED, outcome)
            said = worker.log.read_bytes()
            assert b'"state": "wiped"' in said
            assert b"Traceback" not in said
            await_end(children() - before)
            worker.stop()
    assert set(told) - {"complete"} <= IN_FLIGHT, (SEED, told)
    assert set(told) != {"complete"}
    assert not list(scratch.iterdir())
    assert_nothing_left(estate, canary)


def direct(process: int) -> set[int]:
    """The children of a worker: the process that makes its engines, which holds neither keys nor plaintext."""
    tables = Path(f"/proc/{process}/task").glob("*/children")
    return {int(word) for table in tables for word in table.read_text(encoding="utf-8").split()}


def user(estate, url: str) -> User:
    """A user who has verified nothing yet."""
    (artifact,) = (
        Opener(*from_reference(f"dir:{estate.host / 'registry'}:model"), signer_public=estate.owner.public_key()),
    )
    return User(
        url,
        policy=estate.policy(artifact.digest),
        anchor=estate.anchor,
        broker=estate.fingerprint,
        accept_simulated=True,
    )


def what_came_of(asking: User, answer: Iterator[str]) -> str:
    """An honest error, or, where the answer was quicker than the kill, all of it with its receipt."""
    try:
        "".join(answer)
    except StrongroomError as error:
        return error.code
    return check_document(asking.last_receipt, asking.trust).receipt.outcome


def assert_nothing_left(estate, canary: Canary) -> None:
    """No plaintext in any file of the host's, nor in a folder that an engine made for itself in /tmp."""
    found, searched = hunt([canary], [estate.host, *Path("/tmp").glob("strongroom-????????????????")])  # noqa: S108
    assert searched > 0
    assert not found


def parents() -> dict[int, int]:
    """Each process's parent."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                found[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except (FileNotFoundError, ProcessLookupError):
                continue
    return found


def children() -> set[int]:
    return {pid for pid, parent in parents().items() if parent == os.getpid()}


def descendants(pid: int) -> set[int]:
    found, family = set(), parents()
    wanted = {pid}
    while wanted := {child for child, parent in family.items() if parent in wanted}:
        found |= wanted
    return found


def await_end(pids: set[int], seconds: float = 15) -> None:
    """Wait until orphans that came to us have ended. A zombie has: its memory is given back."""
    deadline = time.monotonic() + seconds
    left = set(pids)
    while left and time.monotonic() < deadline:
        for pid in sorted(left):
            try:
                ended, _ = os.waitpid(pid, os.WNOHANG)
            except ChildProcessError:
                ended = pid
            left -= {ended}
        time.sleep(0.02)
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert not left, f"seed {SEED}: these outlived their worker: {left}"
