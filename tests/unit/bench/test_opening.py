"""`bench open` measures what it says, on a model that is small enough for a test; how fast is not asked here."""

from __future__ import annotations

from pathlib import Path

import pytest

from strongroom.bench import opening
from strongroom.errors import Unavailable


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Less of everything, in a folder of the test's."""
    monkeypatch.setattr(opening, "CACHE_MISSES", 2 * opening.MIB)
    monkeypatch.setattr(opening, "PART", 2 * opening.MIB)
    monkeypatch.setattr(opening, "SHARED_MEMORY", tmp_path)
    return tmp_path


def test_every_figure_is_measured_and_nothing_stays(small: Path):
    told: list[tuple[int, int]] = []
    found = opening.opening(pairs=5, mebibytes=8, progress=lambda done, total: told.append((done, total)))
    assert {figure.id for figure in found} >= {"decrypt", "two_threads", "open", "seal", "memory", "tink"}
    assert all(figure.value > 0 for figure in found if figure.id != "memory")
    assert told[-1][0] == told[-1][1]
    assert list(small.iterdir()) == []


def test_where_there_is_no_room_it_says_so(small: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(opening, "_free", lambda _: 0)
    with pytest.raises(Unavailable, match="no room"):
        opening.opening(pairs=5, mebibytes=8, progress=lambda _done, _total: None)
    assert list(small.iterdir()) == []
