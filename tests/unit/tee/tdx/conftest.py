"""Real evidence, and a simulated installation to derive bad evidence from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from dcap_world import Place, collateral_of, make_place

from strongroom.records.evidence import IntelCollateral


@pytest.fixture(scope="session")
def vectors(vectors: Path) -> Path:
    """The TDX part of the real evidence."""
    return vectors / "tdx"


@pytest.fixture(scope="session")
def read_collateral(vectors: Path) -> Callable[[str], IntelCollateral]:
    return lambda name: collateral_of((vectors / name).read_bytes())


@pytest.fixture(scope="session")
def place() -> Place:
    return make_place("tdx")


@pytest.fixture(scope="session")
def other_place() -> Place:
    return make_place("tdx")
