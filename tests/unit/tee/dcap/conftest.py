"""A simulated installation for each kind."""

from __future__ import annotations

import pytest
from dcap_world import Place, make_place


@pytest.fixture(scope="session", params=["tdx", "sgx"])
def place(request: pytest.FixtureRequest) -> Place:
    return make_place(request.param)
