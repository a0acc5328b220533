"""A year in the life of a verifier's collateral: a busy vendor, an outage, a mirror that turns back, a TCB recovery."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from vendors import Reply, Service, intel, raw_server, renumbered, served

from strongroom.collateral import Cache, Checks, CollateralSource, Needs, needs_of
from strongroom.collateral.fetchers import IntelFetcher
from strongroom.collateral.http import Backoff, Http
from strongroom.errors import CollateralStale, ServiceUnavailable, Unavailable
from strongroom.records import codec
from strongroom.tee.anchors import TrustAnchor, installation_anchor
from strongroom.tee.genuine import Genuine
from strongroom.tee.tdx import parse_quote, verify
from strongroom_sim import Chip, Installation

NOW = 1_790_000_000
DAY = 86_400


@dataclass
class Verifier:
    """Someone who verifies one machine's quotes, day by day."""

    installation: Installation
    directory: Path
    service: Service
    url: str
    waits: list[float]

    @property
    def anchor(self) -> TrustAnchor:
        return installation_anchor("tdx", self.installation.root_pem)

    @property
    def quote(self) -> bytes:
        return Chip(self.installation, mrtd=bytes(48)).quote(bytes(64))

    @property
    def needs(self) -> Needs:
        return needs_of("tdx", self.quote)

    def source(self, *, offline: bool = False, url: str | None = None) -> CollateralSource:
        """As after a restart."""
        http = Http(backoff=Backoff(attempts=4), sleep=self.waits.append)
        fetcher = IntelFetcher(url or self.url, http=http)
        return CollateralSource(Cache(self.directory, Checks([self.anchor])), [fetcher], offline=offline)

    def judge(self, now: int, source: CollateralSource | None = None) -> Genuine:
        collateral = (source or self.source()).collateral(self.needs, now=now)
        return verify(parse_quote(self.quote), collateral.intel, [self.anchor], now)

    def publish(self, now: int, number: int = 1, revoked: tuple[str, ...] = ()) -> None:
        """The vendor signs everything anew."""
        signed = self.installation.collateral(now, revoked=revoked)
        self.service.answers = dict(intel(renumbered(self.installation, signed, number)))


@pytest.fixture
def verifier(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Verifier]:
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    installation = Installation.create(tmp_path / "installation", now=NOW)
    service = Service()
    with served(service) as url:
        made = Verifier(installation, tmp_path / "cache", service, url, [])
        made.publish(NOW)
        yield made


def test_a_year_in_the_life_of_collateral(verifier: Verifier) -> None:
    # The vendor is busy, and says for how long.
    good = dict(verifier.service.answers)
    for target, reply in good.items():
        verifier.service.answers[target] = lambda times, reply=reply: (
            Reply(status=429, headers={"retry-after": "3"}) if times == 0 else reply
        )
    assert verifier.judge(NOW).holds
    assert verifier.waits == [3.0] * 4

    # An outage of three weeks: what was signed for thirty days holds, also after restarts.
    verifier.service.answers = {}
    for day in (1, 7, 20):
        assert verifier.judge(NOW + day * DAY).holds
    with pytest.raises(ServiceUnavailable):
        verifier.judge(NOW + 31 * DAY)

    # The vendor is back, with a TCB recovery.
    now = NOW + 32 * DAY
    verifier.publish(now, number=2)
    assert verifier.judge(now).claims["tcb_evaluation_number"] == 2

    # Somebody puts a mirror between that still has the old numbers, freshly issued. It changes nothing.
    now += 2 * DAY
    verifier.publish(now, number=1)
    assert verifier.judge(now).claims["tcb_evaluation_number"] == 2
    with pytest.raises(CollateralStale):
        verifier.source().collateral(verifier.needs, now=now, renew=True)

    # Not even when everything that was kept has ended, or was pruned: then there is none rather than an old one.
    later = now + 40 * DAY
    verifier.publish(later, number=1)
    Cache(verifier.directory, Checks([verifier.anchor])).prune(later, everything=True)
    with pytest.raises(CollateralStale):
        verifier.judge(later)

    # The platform's certificate is revoked. The next renewal brings it, and the quote no longer holds.
    verifier.publish(later, number=2)
    assert verifier.judge(later).holds
    verifier.publish(later + DAY, number=2, revoked=("pck",))
    found = verifier.judge(later + DAY)
    assert {check.id for check in found.checks if check.status == "fail"} == {"tdx.pck.crl"}

    # A list from before the revocation is an older one.
    verifier.publish(later + DAY - 60, number=2)
    with pytest.raises(CollateralStale):
        verifier.source().collateral(verifier.needs, now=later + DAY, renew=True)


def test_a_verifier_without_a_network_lives_on_what_was_carried_in(verifier: Verifier) -> None:
    verifier.judge(NOW)
    asked = len(verifier.service.seen)
    offline = verifier.source(offline=True, url="http://127.0.0.1:1")
    assert verifier.judge(NOW + 25 * DAY, offline).holds
    with pytest.raises(Unavailable):
        verifier.judge(NOW + 31 * DAY, offline)
    assert len(verifier.service.seen) == asked


def test_through_a_proxy_that_cuts_bodies_nothing_half_is_ever_believed(
    verifier: Verifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = b'{"tcbInfo":{"id":"TDX"'
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 4000\r\n\r\n"
    with raw_server(head + body) as (proxy, requests):
        monkeypatch.setenv("HTTP_PROXY", proxy)
        with pytest.raises(ServiceUnavailable):
            verifier.judge(NOW, verifier.source(url="http://pcs.invalid"))
        assert requests
        assert all(request.startswith(b"GET http://pcs.invalid/tdx/certification/v4/tcb?") for request in requests)
    assert Cache(verifier.directory, Checks([verifier.anchor])).entries() == ()


FETCH = """
import sys, time
from pathlib import Path
from strongroom.cli.main import strongroom
while True:
    words = ["collateral", "fetch", sys.argv[1], "--cache", sys.argv[2], "--intel", sys.argv[3], "--anchor", sys.argv[4]]
    strongroom(words + ["--at", sys.argv[5], "--renew", "--json"], standalone_mode=False)
    print("fetched", file=sys.stderr, flush=True)
"""


@pytest.mark.timeout(180)
def test_a_fetch_that_is_killed_at_any_moment_leaves_a_cache_that_serves(verifier: Verifier, tmp_path: Path) -> None:
    quote = tmp_path / "quote.bin"
    quote.write_bytes(verifier.quote)
    root = verifier.installation.directory / "root.pem"
    words = [quote, verifier.directory, verifier.url, root, NOW]
    for delay in (0.0, 0.01, 0.02, 0.05):
        with subprocess.Popen(
            [sys.executable, "-c", FETCH, *map(str, words)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        ) as process:
            assert process.stderr is not None
            assert process.stderr.readline() == b"fetched\n"
            time.sleep(delay)
            os.kill(process.pid, signal.SIGKILL)
        offline = verifier.source(offline=True)
        assert verifier.judge(NOW, offline).holds
        floors = json.loads((verifier.directory / "floors.json").read_bytes())["floors"]
        assert len(floors) == 4
    assert codec.encode(verifier.source(offline=True).collateral(verifier.needs, now=NOW))
