"""Real evidence, and a simulated installation to derive bad evidence from."""

from __future__ import annotations

from pathlib import Path

import pytest
from dcap_world import Place, make_place


@pytest.fixture(scope="session")
def vectors(vectors: Path) -> Path:
    """The SGX part of the real evidence."""
    return vectors / "sgx"


@pytest.fixture(scope="session")
def place() -> Place:
    return make_place("sgx")


@pytest.fixture(scope="session")
def other_place() -> Place:
    return make_place("sgx")
