"""Many at once: one nonce from a hundred sides, floods of challenges and of bad evidence, broken bodies at every path."""

import dataclasses
import threading
from collections import Counter

import anyio.to_thread
import httpx2
import pytest

from strongroom.errors import NonceReused, ReleaseRefused, StrongroomError
from strongroom.records import codec
from strongroom.records.release import KeyRequest, ReleaseRequest, Use
from strongroom.release import refusals
from strongroom.release.client import BrokerClient

AT_ONCE = 100
JUDGED_AT_ONCE = 40
"""Threads that starlette's own limiter gives to requests."""
WAIT = 60


def together(number, work):
    """`work` of each number on a thread of its own, all let go at once; the results or errors, in order."""
    gate, outcomes = threading.Barrier(number), [None] * number

    def run(own):
        gate.wait(WAIT)
        try:
            outcomes[own] = work(own)
        except Exception as error:  # noqa: BLE001 (the test looks at it)
            outcomes[own] = error

    threads = [threading.Thread(target=run, args=(own,)) for own in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT)
    return outcomes


@pytest.fixture
def attempts(world, worker):
    """Bodies for one nonce: each a little different from the others."""
    wrapped, challenge = world.prepared(), world.challenge()
    first = world.request(worker, wrapped, challenge=challenge)
    return [
        codec.encode(dataclasses.replace(first, keys=(KeyRequest(first.keys[0].artifact, wrapped, Use.OPEN),) * number))
        for number in range(1, 11)
    ]


def at_the_door(world, _):
    return lambda body: codec.encode(world.broker.release(body, now=world.now))


def over_http(_, http):
    def send(body):
        answer = http.post("/v1/releases", content=body)
        if answer.status_code != 200:
            assert (answer.status_code, answer.json()["code"]) == (403, NonceReused.code)
            raise NonceReused("as the broker said")
        return answer.content

    return send


@pytest.fixture
def http(url):
    limits = httpx2.Limits(max_connections=AT_ONCE)
    with httpx2.Client(base_url=url, timeout=WAIT, limits=limits) as client:
        yield client


@pytest.mark.parametrize("way", [at_the_door, over_http])
def test_100_different_attempts_with_one_nonce_release_exactly_once(world, http, attempts, way):
    send = way(world, http)
    outcomes = together(AT_ONCE, lambda own: send(attempts[own % len(attempts)]))
    answers = {outcome for outcome in outcomes if isinstance(outcome, bytes)}
    assert len(answers) == 1  # ten sent the bytes that won, and have one answer
    assert Counter(type(outcome) for outcome in outcomes) == {bytes: 10, NonceReused: 90}
    assert len(world.admin.leases(now=world.now)) == 1
    assert [leaf.event for leaf in world.leaves()].count("release") == 1


@pytest.mark.parametrize("way", [at_the_door, over_http])
def test_the_same_bytes_100_times_are_one_decision_and_one_answer(world, http, attempts, way):
    send, size = way(world, http), world.log_size()
    outcomes = together(AT_ONCE, lambda _: send(attempts[0]))
    assert len(set(outcomes)) == 1
    assert isinstance(outcomes[0], bytes)
    assert world.log_size() == size + 1


def files(world):
    return {path.name: path.stat().st_size for path in world.directory.iterdir()}


def test_a_flood_of_challenges_stores_not_a_byte(world, http):
    asked = b'{"purpose":"release","type":"strongroom/challenge-request/v1"}'
    before = files(world)
    for _ in range(300):
        assert http.post("/v1/challenges", content=asked).status_code == 200
    assert files(world) == before


def test_a_flood_of_challenges_that_are_not_the_brokers_stores_not_a_byte(world, http, worker):
    good = world.request(worker, world.prepared())
    before = files(world)
    for number in range(100):
        forged = dataclasses.replace(good.challenge, nonce=number.to_bytes(32, "big"))
        answer = http.post("/v1/releases", content=codec.encode(dataclasses.replace(good, challenge=forged)))
        assert (answer.status_code, answer.json()["detail"]) == (403, "challenge.mac")
    assert files(world) == before


class Crowd:
    """Threads that send bad evidence for as long as the test lasts."""

    def __init__(self, world, url, worker, wrapped, number):
        self.world, self.url, self.worker, self.wrapped = world, url, worker, wrapped
        self.stop, self.refused, self.surprises = threading.Event(), Counter(), []
        self.threads = [threading.Thread(target=self.flood) for _ in range(number)]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stop.set()
        for thread in self.threads:
            thread.join(WAIT)

    def flood(self):
        client = BrokerClient(self.url, fingerprint=self.world.broker.identity.fingerprint)
        while not self.stop.is_set():
            challenge = client.challenge("release")
            bundle = self.worker.prove(challenge.nonce, "session")  # evidence for another purpose
            request = ReleaseRequest(challenge, bundle, (KeyRequest("sha256:" + "0" * 64, self.wrapped, Use.OPEN),))
            try:
                client.release(request)
            except StrongroomError as error:
                self.refused[error.code] += 1
            else:
                self.surprises.append(request)
        client.close()


def test_a_flood_of_bad_evidence_starves_no_good_worker_and_grows_the_log_by_its_budget(
    world, url, client, worker, another_worker
):
    wrapped, size = world.prepared(), None
    most, now, lock = 0, 0, threading.Lock()
    judge = world.broker._judge.release

    def counted(*given, **members):
        nonlocal most, now
        with lock:
            now += 1
            most = max(most, now)
        try:
            return judge(*given, **members)
        finally:
            with lock:
                now -= 1

    world.broker._judge.release = counted
    size = world.log_size()
    with Crowd(world, url, another_worker, wrapped, 8) as crowd:
        answered = 0
        while answered < 20 or sum(crowd.refused.values()) < 2 * refusals.REFUSALS_PER_MINUTE:
            challenge = client.challenge("release")
            bundle = worker.prove(challenge.nonce, "release")
            artifact = bundle.evidence.statement.artifacts[0]
            client.release(ReleaseRequest(challenge, bundle, (KeyRequest(artifact, wrapped, Use.OPEN),)))
            answered += 1
    assert not crowd.surprises
    assert set(crowd.refused) == {ReleaseRefused.code}
    assert world.log_size() == size + answered + refusals.REFUSALS_PER_MINUTE  # the clock of this broker stands still
    assert 1 <= most <= JUDGED_AT_ONCE


def test_no_more_are_judged_at_once_than_there_are_threads():
    async def limit():
        return anyio.to_thread.current_default_thread_limiter().total_tokens

    assert anyio.run(limit) == JUDGED_AT_ONCE


def test_a_flood_that_is_refused_leaves_rows_only_as_long_as_answers_are_kept(world, worker):
    """Each refused attempt uses its challenge up, and is kept for the same bytes: a minute's worth, and no more."""
    wrapped = world.prepared()
    world.appraiser.admits = False

    def rows():
        counts = ("select count(*) from nonces", "select count(*) from answers")
        return [world.store._writer.execute(count).fetchone()[0] for count in counts]

    counts = []
    for _ in range(4):
        for _ in range(20):
            with pytest.raises(StrongroomError):
                world.release(world.request(worker, wrapped))
        counts.append(rows())
        world.now += 200  # beyond every challenge and every kept answer
    assert counts == [counts[0]] + [[20, 20]] * 3
