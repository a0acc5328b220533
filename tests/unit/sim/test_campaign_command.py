"""The command that runs the campaign: its table, its file, its findings, its exit code."""

from __future__ import annotations

import importlib.util
import json
from collections import Counter
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from strongroom_sim import campaign as judging
from strongroom_sim.campaign import Tally
from strongroom_sim.mutants import forges
from strongroom_sim.mutants.explained import EXPLAINED

COMMAND = Path(__file__).resolve().parents[3] / "fuzz" / "campaign.py"


@pytest.fixture(scope="module")
def command() -> ModuleType:
    spec = importlib.util.spec_from_file_location("fuzz_campaign", COMMAND)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_kind_has_its_share_and_none_less_than_a_twentieth(command: ModuleType):
    assert command.SHARES.keys() == set(forges.KINDS)
    assert sum(command.SHARES.values()) == 100
    assert min(command.shares(1_000_000, forges.KINDS).values()) >= 50_000
    assert sum(command.shares(1_000_003, forges.KINDS).values()) >= 1_000_003


def test_pieces_are_all_of_it_and_no_seed_is_used_twice(command: ModuleType):
    wanted = {"cca": 2500, "snp": 10}
    pieces = list(command.pieces(wanted, 3))
    counts: Counter[str] = Counter()
    for kind, count, _ in pieces:
        counts[kind] += count
    assert counts == wanted
    assert len({seed for _, _, seed in pieces}) == len(pieces)
    assert {seed for _, _, seed in pieces}.isdisjoint(seed for _, _, seed in command.pieces(wanted, 4))


def test_a_run_ends_with_a_table_and_a_file(command: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    words = ["--kind", "cca", "--mutations", "120", "--save", str(tmp_path), "--findings", str(tmp_path)]
    assert command.main(words) == 0
    told = capsys.readouterr().out
    assert told.splitlines()[0].split()[:3] == ["kind", "mutations", "aware"]
    (saved,) = tmp_path.iterdir()
    content = json.loads(saved.read_bytes())
    assert content["mutations"] == content["kinds"]["cca"]["mutations"] > 100
    assert content["findings"] == 0
    assert content["commit"]
    assert content["explained"].keys() == EXPLAINED.keys()


def test_a_finding_is_a_file_that_is_judged_again(
    command: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    def wrong(*_: Any) -> str:
        return "planted"

    monkeypatch.setattr(judging, "judge", wrong)
    assert command.main(["--kind", "cca", "--mutations", "20", "--findings", str(tmp_path)]) == 1
    monkeypatch.undo()
    found = sorted(tmp_path.glob("finding-cca-*.json"))
    assert len(found) == 20
    for path in found:
        assert command.main(["--again", str(path)]) == 0
    told = capsys.readouterr().out
    assert told.count("planted") == 20
    assert "cca.profile" in told


def test_tallies_add_up():
    one, other = Tally(mutations=1, explained=Counter(x=2), count=1), Tally(mutations=2, explained=Counter(x=1, y=1))
    one.add(other)
    assert (one.mutations, one.explained, one.count) == (3, Counter(x=3, y=1), 1)


def test_the_newest_long_run_is_long_enough_and_found_nothing():
    newest = max((COMMAND.parents[1] / "bench").glob("mutations-*.json"))
    content = json.loads(newest.read_bytes())
    assert content["mutations"] >= 1_000_000
    assert content["findings"] == 0
    assert content["kinds"].keys() == set(forges.KINDS)
    assert all(found["mutations"] >= 50_000 for found in content["kinds"].values())
    assert sum(found["aware"] for found in content["kinds"].values()) * 2 >= content["mutations"] - 1000
    assert content["explained"].keys() <= EXPLAINED.keys()
    assert all(entry["count"] for entry in content["explained"].values())
