"""`bench platform` as people type it: measuring, saving, comparing, refusing."""

import json

import pytest
from platforms import CODE, PROTECTED, saved

from strongroom.bench.platform import run as running
from strongroom.cli import platform


@pytest.fixture
def files(tmp_path):
    def write(name, run):
        path = tmp_path / name
        path.write_text(json.dumps(run.as_json()))
        return path

    return write


@pytest.fixture
def measured(monkeypatch):
    """Measuring is the business of other tests."""
    monkeypatch.setattr(platform, "_model", lambda: None)
    monkeypatch.setattr(running, "run", lambda **_: saved())


@pytest.mark.usefixtures("measured")
def test_a_run_is_printed_and_saved(strongroom, tmp_path):
    ran = strongroom("bench", "platform", "--save", tmp_path)
    assert ran.code == 0
    assert "memory.copy" in ran.out
    assert "pcie.to_device: not measured: no GPU" in ran.out
    assert len(list(tmp_path.glob("platform-*.json"))) == 1
    assert strongroom("bench", "platform", "--save", tmp_path).code == 2


@pytest.mark.usefixtures("measured")
def test_a_run_for_programs_is_what_is_saved(strongroom, tmp_path):
    ran = strongroom("bench", "platform", "--save", tmp_path, "--json")
    assert ran.document == json.loads(next(tmp_path.glob("*.json")).read_text())


def test_two_saved_runs_are_compared_with_a_plot(strongroom, files, tmp_path):
    words = (
        "bench",
        "platform",
        "--compare",
        files("a", saved()),
        files("b", saved(factor=1.5, environment=PROTECTED)),
    )
    ran = strongroom(*words, "--plot", tmp_path / "costs.svg")
    assert ran.code == 0
    assert "1.5" in ran.out
    assert "slower" in ran.out
    assert "NOT ALIKE" not in ran.out
    assert (tmp_path / "costs.svg").read_text().startswith("<svg")
    assert {each["verdict"] for each in strongroom(*words, "--json").document["figures"]} == {"slower"}


def test_unlike_runs_are_refused_or_said_to_be_unlike(strongroom, files):
    words = ("bench", "platform", "--compare", files("a", saved()), files("b", saved(code=CODE | {"python": "3.13"})))
    ran = strongroom(*words)
    assert ran.code == 2
    assert "python: 3.11.7 and 3.13" in ran.err
    ran = strongroom(*words, "--anyway")
    assert ran.code == 0
    assert "NOT ALIKE  python: 3.11.7 and 3.13" in ran.out


def test_a_file_that_is_no_run_ends_with_3(strongroom, files, tmp_path):
    bad = tmp_path / "bad"
    bad.write_text("{}")
    assert strongroom("bench", "platform", "--compare", files("a", saved()), bad).code == 3


@pytest.mark.parametrize(
    "words", [("platform", "--anyway"), ("platform", "--plot", "x.svg"), ("verify", "--anyway")], ids=str
)
def test_options_without_meaning_are_refused(strongroom, words):
    assert strongroom("bench", *words).code == 2


def test_sizes_shrink_together():
    found = platform.sizes(64, 8)
    assert (found.copy_mib, found.fault_mib, found.disk_mib, found.tokens) == (64, 64, 64, 8)
    assert platform.sizes(None, 64) == platform.Sizes()
    assert platform.sizes(4096, 64).disk_mib == platform.Sizes().disk_mib
