from collections.abc import Iterator

import pytest
from world import World, world


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with world(tmp_path_factory.mktemp("world"), lease_seconds=3) as found:
        yield found
