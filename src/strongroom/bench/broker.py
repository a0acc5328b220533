"""`bench broker`: how many releases a broker makes, what one costs over HTTP, how fast its log grows and is verified.

Method: runs of all measures take turns. Every release is durable and logged, and its TDX evidence, of a simulated chip of its own
over a nonce of its own, is fully verified; workers and evidence are made before a clock starts (`estate`). `releases` calls the broker
without HTTP from as many threads as pay off in a trial. `http` serves from a process of its own, whose CPU time is counted. The
database lies on a real disk. These are no ratios: beside each stands, measured in the same run, what the hardware gives.
Knows: how to measure. Does not know: what is good (the goals say it).
"""

from __future__ import annotations

import http.client
import itertools
import json
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from strongroom.bench.estate import Estate, requests
from strongroom.bench.figures import Figure, figure
from strongroom.crypto import merkle
from strongroom.crypto.signatures import generate_ed25519, public_to_pem, raw_public
from strongroom.errors import Unavailable
from strongroom.receipts.note import Checkpoint, open_checkpoint, sign_checkpoint
from strongroom.receipts.proof import verify_extension
from strongroom.receipts.tiles import Tree
from strongroom.records import codec
from strongroom.records.digest import digest_bytes
from strongroom.records.release import Challenge, Leaf, WrappedKey
from strongroom.release import leaves, wire
from strongroom.release.broker import Broker

RELEASES_GOAL, HTTP_CPU_GOAL_MS = 1000.0, 1.5
ROWS_GOAL, CHECKPOINT_GOAL_MS = 15_000.0, 10.0
BATCH = 100
"""Releases of one run."""
THREADS = (1, 2, 8, 32)
CONNECTIONS = 16
GROUP, GROUPS = 256, 8
LEAVES = 1_000_000
CHECKPOINTS = 50
COMMITS, VERIFICATIONS = 50, 200
REAL_DISK = Path("/var/tmp")  # noqa: S108 (it outlives a reboot, so it is no memory; what lies below is made with mode 0700)
MESSAGE = bytes(632)
"""As long as what a TDX quote signs."""
START_SECONDS = 60.0
ORIGIN = "strongroom.bench/log"

Progress = Callable[[int, int], None]
Measure = Callable[[], float]


def broker(*, pairs: int, progress: Progress) -> list[Figure]:
    """All figures, from `pairs` runs each. Raises `Unavailable` where a release is refused."""
    with tempfile.TemporaryDirectory(prefix="strongroom-bench-", dir=REAL_DISK) as folder:
        place = Path(folder)
        bare = {"verifications": _verifications(), "commits": _commits(place / "baseline.db")}
        samples: dict[str, list[float]] = {}
        threads = _at_the_door(place, bare, samples, pairs, lambda done: progress(done, 2 * pairs))
        _over_http(place, samples, pairs, lambda done: progress(pairs + done, 2 * pairs))
        return _figures(samples, threads)


def _figures(samples: dict[str, list[float]], threads: int) -> list[Figure]:
    found = {name: median(values) for name, values in samples.items()}
    verifications = f"{found['verifications']:.0f} bare ECDSA verifications/s on one thread"
    commits = f"{found['commits']:.0f} durable commits/s of one row in SQLite"
    door = f"{verifications}; {commits}; {threads} threads"
    apart = (
        f"{verifications}; {found['http_releases']:.0f} releases/s over {CONNECTIONS} connections; "
        f"besides {found['challenge']:.2f} ms for its challenge"
    )
    rows = f"{commits}; groups of {GROUP}"
    wanted: list[tuple[str, str, str, Any]] = [
        ("releases", "1/s", door, (">=", RELEASES_GOAL)),
        ("http_cpu", "ms", apart, ("<=", HTTP_CPU_GOAL_MS)),
        ("log_rows", "1/s", rows, (">=", ROWS_GOAL)),
        ("checkpoint", "ms", f"{verifications}; {LEAVES} leaves", ("<=", CHECKPOINT_GOAL_MS)),
    ]
    return [figure(name, samples[name], unit=unit, baseline=base, goal=goal) for name, unit, base, goal in wanted]


def _at_the_door(
    place: Path, bare: dict[str, Measure], samples: dict[str, list[float]], pairs: int, progress: Callable[[int], None]
) -> int:
    """All that needs no process of its own; how many threads paid off."""
    estate = Estate.make(place)
    with estate.broker() as opened:
        door = _Door(estate, opened, estate.furnish(opened))
        door.rate(THREADS[-1])  # so that what is imported and cached once is there
        threads = max(THREADS, key=door.rate)
        measures = bare | {
            "releases": lambda: door.rate(threads),
            "log_rows": lambda: _rows(opened),
            "checkpoint": _checkpoint(),
        }
        for turn in range(pairs):
            for name, measure in measures.items():
                samples.setdefault(name, []).append(measure())
            progress(turn + 1)
    return threads


@dataclass(frozen=True, slots=True)
class _Door:
    """The broker without HTTP."""

    estate: Estate
    broker: Broker
    wrapped: WrappedKey

    def rate(self, threads: int) -> float:
        """Releases in a second, of a batch of new workers."""
        workers = [self.estate.worker() for _ in range(BATCH)]
        bodies = requests(self.challenge, workers, self.wrapped)

        def release(body: bytes) -> None:
            self.broker.release(body, now=int(time.time()))

        with ThreadPoolExecutor(threads) as pool:
            return BATCH / _timed(lambda: list(pool.map(release, bodies)))

    def challenge(self, purpose: str) -> Challenge:
        return self.broker.challenge(purpose, now=int(time.time()))


def _rows(opened: Broker) -> float:
    """Leaves in a second, appended in groups, each group in one durable transaction under one checkpoint."""
    who, now = digest_bytes(b"owner"), int(time.time())
    group = [Leaf(leaves.RECEIPTS, now, f"lease-{n}", (who, who), "count=1 sequence=1") for n in range(GROUP)]

    def append() -> None:
        for _ in range(GROUPS):
            opened.store.write(lambda transaction: opened.log.append_all(transaction, group))

    return GROUP * GROUPS / _timed(append)


def _checkpoint() -> Measure:
    """Milliseconds to verify the checkpoint of a log that has grown: its signature, and that it extends an older one."""
    tree = Tree(merkle.leaf_hash(number.to_bytes(4, "big")) for number in range(LEAVES))
    key = generate_ed25519()
    public, turns = raw_public(key), itertools.count(1)
    text = sign_checkpoint(Checkpoint(ORIGIN, LEAVES, tree.root()), ORIGIN, key)

    def measure() -> float:
        size = LEAVES - next(turns) * (LEAVES // 1009 or 1) % LEAVES or 1
        old, path = Checkpoint(ORIGIN, size, tree.root(size)), tree.consistency_path(size)

        def verify() -> None:
            for _ in range(CHECKPOINTS):
                verify_extension(old, open_checkpoint(text, ORIGIN, public), path)

        return _timed(verify) / CHECKPOINTS * 1000

    return measure


def _verifications() -> Measure:
    scheme = ec.ECDSA(hashes.SHA256())
    key = ec.generate_private_key(ec.SECP256R1())
    public, signature = key.public_key(), key.sign(MESSAGE, scheme)
    return lambda: (
        VERIFICATIONS / _timed(lambda: [public.verify(signature, MESSAGE, scheme) for _ in range(VERIFICATIONS)])
    )


def _commits(path: Path) -> Measure:
    """One row, one commit, each on the disk before the next, as the broker's own database is set."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE rows (data BLOB)")

    def measure() -> float:
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.execute("PRAGMA synchronous = FULL")
            insert = "INSERT INTO rows VALUES (zeroblob(300))"
            return COMMITS / _timed(lambda: [connection.execute(insert) for _ in range(COMMITS)])

    return measure


def _over_http(place: Path, samples: dict[str, list[float]], pairs: int, progress: Callable[[int], None]) -> None:
    estate = Estate.make(place / "http")
    with estate.broker() as opened:
        wrapped = estate.furnish(opened)
    with _served(estate) as served:
        served.batch(estate, wrapped)  # so that what is imported and cached once is there
        for turn in range(pairs):
            for name, value in served.batch(estate, wrapped).items():
                samples.setdefault(name, []).append(value)
            progress(turn + 1)


@dataclass(frozen=True, slots=True)
class _Served:
    """A broker in the process `pid`, on this port of 127.0.0.1."""

    pid: int
    port: int

    def batch(self, estate: Estate, wrapped: WrappedKey) -> dict[str, float]:
        """CPU time of the broker's process for one challenge and for one release (ms), and releases in a second."""
        workers = [estate.worker() for _ in range(BATCH)]
        with closing(http.client.HTTPConnection("127.0.0.1", self.port)) as connection:
            asked = self._cpu()
            bodies = requests(lambda purpose: _challenge(connection, purpose), workers, wrapped)
            answered = self._cpu()  # evidence is made by this process, not by that one
        shares = [bodies[first::CONNECTIONS] for first in range(CONNECTIONS)]
        with ThreadPoolExecutor(CONNECTIONS) as pool:
            before = self._cpu()
            seconds = _timed(lambda: list(pool.map(self._release, shares)))
            after = self._cpu()
        return {
            "challenge": (answered - asked) / BATCH * 1000,
            "http_cpu": (after - before) / BATCH * 1000,
            "http_releases": BATCH / seconds,
        }

    def _release(self, bodies: Sequence[bytes]) -> None:
        with closing(http.client.HTTPConnection("127.0.0.1", self.port)) as connection:
            for body in bodies:
                _post(connection, wire.RELEASES_PATH, body)

    def _cpu(self) -> float:
        """CPU seconds of all threads of the process: its clock, by the number that clock_getcpuclockid(3) gives."""
        return time.clock_gettime((~self.pid << 3) | 2)


def _challenge(connection: http.client.HTTPConnection, purpose: str) -> Challenge:
    body = codec.encode(wire.ChallengeRequest(purpose))
    return codec.decode(Challenge, _post(connection, wire.CHALLENGES_PATH, body))


def _post(connection: http.client.HTTPConnection, path: str, body: bytes) -> bytes:
    connection.request("POST", path, body, {"content-type": "application/json"})
    with connection.getresponse() as response:
        answer = response.read()
        if response.status != http.client.OK:
            raise Unavailable(f"the broker answered {response.status}", detail=answer[:300].decode(errors="replace"))
    return answer


@contextmanager
def _served(estate: Estate) -> Iterator[_Served]:
    """`strongroom broker serve` on the estate, ended at the end."""
    owner = estate.place / "owner.pub"
    owner.write_bytes(public_to_pem(estate.owner.public_key()))
    command = [
        sys.executable, "-m", "strongroom", "broker", "serve", "--state", estate.state, "--owner", owner,
        "--anchor", estate.anchor, "--profile", "development", "--listen", "127.0.0.1:0", "--json",
    ]  # fmt: skip
    with subprocess.Popen([str(word) for word in command], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as child:
        try:
            line = child.stdout.readline() if child.stdout else b""
            if not line:
                raise Unavailable("the broker did not start")
            yield _Served(child.pid, int(json.loads(line)["url"].rpartition(":")[2]))
        finally:
            child.terminate()
            child.wait(START_SECONDS)


def _timed(work: Callable[[], object]) -> float:
    """Seconds."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
