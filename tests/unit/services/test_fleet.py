"""Whom a fleet picks, and how it stands to workers; no network but where a test opens one."""

import asyncio
import json
import secrets
from collections import Counter
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import httpx2
import pytest

from strongroom.errors import UsageError
from strongroom.records import codec
from strongroom.records.digest import digest_bytes
from strongroom.records.fleet import FleetEntry, FleetRecord
from strongroom.services import fleet as fleets
from strongroom.services.door import STICKY_SECONDS, Sticky
from strongroom.services.fleet import Fleet, Member, Standing, _models


@dataclass
class Clock:
    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


def verified(name: str, ends: int = 2000) -> Any:
    """What `Member` needs of a verification."""
    return SimpleNamespace(keyset=SimpleNamespace(digest=digest_bytes(name.encode())), ends=ends)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def fleet(clock) -> Fleet:
    made = Fleet(lambda _: SimpleNamespace(), clock=clock, ticks=clock)  # type: ignore[arg-type,return-value]
    for name in "abcd":
        member = made.add(f"http://{name}")
        member.standing, member.verification = Standing.READY, verified(name)
    return made


def affinities(count: int) -> list[bytes]:
    return [secrets.token_bytes(16) for _ in range(count)]


def test_equal_affinities_meet_one_worker_and_all_workers_are_met(fleet):
    picked = {affinity: fleet.pick(affinity) for affinity in affinities(400)}
    assert all(fleet.pick(affinity) is member for affinity, member in picked.items())
    assert min(Counter(member.url for member in picked.values()).values()) > 50


def test_who_goes_moves_only_its_own(fleet):
    before = {affinity: fleet.pick(affinity) for affinity in affinities(200)}
    gone = fleet.members["http://a"]
    gone.standing = Standing.DRAINING
    for affinity, member in before.items():
        now = fleet.pick(affinity)
        assert now is not gone
        assert now is member or member is gone


@pytest.mark.parametrize("standing", [Standing.AWAY, Standing.DRAINING, Standing.REFUSED])
def test_only_the_ready_are_picked(fleet, standing):
    for member in fleet.members.values():
        member.standing = standing
    assert fleet.pick(b"") is None
    assert fleet.record().entries == ()


def test_nobody_is_picked_after_its_lease(fleet, clock):
    clock.now = 2000.0
    assert fleet.pick(b"") is None


def test_who_has_much_more_to_do_than_others_is_passed_over(fleet):
    affinity = secrets.token_bytes(16)
    first = fleet.pick(affinity)
    assert first is not None
    first.in_flight = 8
    assert fleet.pick(affinity) is not first
    for member in fleet.members.values():
        member.in_flight = 8
    assert fleet.pick(affinity) is first


def test_load_counts_what_others_sent_and_the_places_at_the_engine():
    member = Member("http://a", SimpleNamespace(), True, 0.0)  # type: ignore[arg-type]
    member.in_flight, member.busy, member.slots = 2, 6, 4
    assert member.load == 1.5


def test_a_fleet_is_bounded_and_an_address_counts_once(fleet, monkeypatch):
    assert fleet.add("http://a/") is fleet.members["http://a"]
    monkeypatch.setattr(fleets, "MAX_WORKERS", 4)
    with pytest.raises(UsageError):
        fleet.add("http://e")


@pytest.mark.parametrize("url", ["ftp://a", "http://u:p@a", "http://a/path", "http://a?x", "", "http://"])
def test_what_is_no_address_of_a_worker_is_refused(fleet, url):
    with pytest.raises(UsageError):
        fleet.add(url)


@pytest.mark.parametrize("told", [None, [], {}, {"slots": True}, {"slots": -1}, {"slots": "4"}, {"slots": 1 << 30}])
def test_what_a_worker_says_of_its_load_is_judged(told):
    assert fleets._count(told, "slots") == 0


def test_only_names_that_can_be_written_are_kept_of_what_a_worker_says():
    """A lone surrogate is text to JSON, and no record could hold it."""
    said = json.dumps({"data": [{"id": name} for name in ("a", "\ud800", "b\x00", "\u00e9t\u00e9", 1)]}).encode()
    network = httpx2.MockTransport(lambda _: httpx2.Response(200, stream=httpx2.ByteStream(said)))
    member = Member("http://w", SimpleNamespace(network=lambda: network), True, 0.0)  # type: ignore[arg-type]
    names = asyncio.run(_models(member))
    assert names == ("a", "\u00e9t\u00e9")
    codec.encode(FleetRecord((FleetEntry("sha256:" + "a" * 64, "sha256:" + "b" * 64, names, 1, 1),), 1))


def caller(host: str) -> Any:
    return SimpleNamespace(client=SimpleNamespace(host=host))


def test_callers_keep_their_worker_for_a_time_that_each_request_renews(clock):
    sticky, member = Sticky(clock), Member("http://a", SimpleNamespace(), True, 0.0)  # type: ignore[arg-type]
    sticky.put(caller("192.0.2.1"), member)
    assert sticky.get(caller("192.0.2.2")) is None
    for _ in range(3):
        clock.now += STICKY_SECONDS - 1
        assert sticky.get(caller("192.0.2.1")) is member
    clock.now += STICKY_SECONDS
    assert sticky.get(caller("192.0.2.1")) is None


def test_addresses_of_callers_are_not_kept_and_the_memory_is_bounded(clock, monkeypatch):
    monkeypatch.setattr("strongroom.services.door.MAX_STICKY", 10)
    sticky, member = Sticky(clock), Member("http://a", SimpleNamespace(), True, 0.0)  # type: ignore[arg-type]
    for number in range(20):
        sticky.put(caller(f"192.0.2.{number}"), member)
    assert len(sticky._known) == 10
    assert sticky.get(caller("192.0.2.0")) is None
    assert sticky.get(caller("192.0.2.19")) is member
    assert b"192.0.2" not in b"".join(sticky._known)
