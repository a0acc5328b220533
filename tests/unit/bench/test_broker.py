"""`bench broker` measures what it says, with numbers that are small enough for a test; how fast is not asked here."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from strongroom.bench import broker as bench
from strongroom.bench.estate import Estate, requests
from strongroom.errors import AppraisalRefused
from strongroom.records import codec
from strongroom.records.evidence import Collateral, EvidenceBundle
from strongroom.records.release import ReleaseRequest
from strongroom.tee.tdx import parse_quote


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Less of everything, in a folder of the test's."""
    less = {"BATCH": 4, "THREADS": (1, 2), "CONNECTIONS": 2, "GROUP": 8, "GROUPS": 2, "LEAVES": 1000}
    for name, value in (less | {"CHECKPOINTS": 2, "COMMITS": 2, "VERIFICATIONS": 2, "REAL_DISK": tmp_path}).items():
        monkeypatch.setattr(bench, name, value)
    return tmp_path


def test_every_figure_is_measured_and_nothing_stays(small: Path):
    told: list[tuple[int, int]] = []
    found = {f.id: f for f in bench.broker(pairs=5, progress=lambda done, total: told.append((done, total)))}
    assert set(found) == {"releases", "http_cpu", "log_rows", "checkpoint"}
    assert all(figure.value > 0 and figure.runs == 5 for figure in found.values())
    assert "ECDSA" in found["releases"].baseline
    assert "releases/s over 2 connections" in found["http_cpu"].baseline
    assert "SQLite" in found["log_rows"].baseline
    assert told[-1] == (10, 10)
    assert list(small.iterdir()) == []


def test_every_worker_has_a_chip_and_a_nonce_of_its_own_and_is_fully_verified(tmp_path: Path):
    estate, now = Estate.make(tmp_path), int(time.time())
    with estate.broker() as broker:
        wrapped = estate.furnish(broker)
        workers = [estate.worker() for _ in range(3)]
        bodies = requests(lambda purpose: broker.challenge(purpose, now=now), workers, wrapped)
        asked = [codec.decode(ReleaseRequest, body) for body in bodies]
        quotes = [parse_quote(request.bundle.evidence.quote) for request in asked]
        assert len({request.challenge.nonce for request in asked}) == 3
        assert len({quote.pck_chain for quote in quotes}) == 3
        assert broker.release(bodies[0], now=now).grants
        bare = codec.encode(ReleaseRequest(asked[1].challenge, _without_collateral(asked[1]), asked[1].keys))
        with pytest.raises(AppraisalRefused):
            broker.release(bare, now=now)


def _without_collateral(request: ReleaseRequest) -> EvidenceBundle:
    return EvidenceBundle(request.bundle.evidence, Collateral())
