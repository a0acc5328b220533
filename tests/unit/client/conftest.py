from collections.abc import Iterator

import pytest
from world import Served, World, world


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with world(tmp_path_factory.mktemp("world")) as found:
        yield found


@pytest.fixture(scope="module")
def served(made: World) -> Iterator[Served]:
    with made.serving() as found:
        assert found.error is None, found.error
        yield found
