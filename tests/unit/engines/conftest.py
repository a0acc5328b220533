"""Makes the modules in `children` importable, here and in the processes that tests start."""

import sys
from pathlib import Path

import pytest

CHILDREN = str(Path(__file__).parent / "children")


@pytest.fixture(autouse=True)
def children_are_importable(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "path", [*sys.path, CHILDREN])
