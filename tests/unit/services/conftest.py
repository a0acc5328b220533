"""The broker of the release room's tests, over real HTTP on a loopback port."""

import importlib.util
from collections.abc import Iterator
from pathlib import Path

import pytest

from strongroom.release.client import BrokerClient
from strongroom.services.broker import broker_app
from strongroom.services.server import BackgroundServer

_spec = importlib.util.spec_from_file_location("release_world", Path(__file__).parents[1] / "release" / "conftest.py")
release_world = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(release_world)

world, worker, another_worker = release_world.world, release_world.worker, release_world.another_worker


@pytest.fixture
def url(world) -> Iterator[str]:
    with BackgroundServer(broker_app(world.broker, clock=lambda: world.now)) as server:
        yield server.url


@pytest.fixture
def owner(world, url) -> Iterator[BrokerClient]:
    """An owner's client."""
    client = BrokerClient(
        url, fingerprint=world.broker.identity.fingerprint, identity=world.owner, clock=lambda: world.now
    )
    yield client
    client.close()


@pytest.fixture
def client(world, url) -> Iterator[BrokerClient]:
    """A worker's client, which holds no owner's key."""
    made = BrokerClient(url, fingerprint=world.broker.identity.fingerprint, clock=lambda: world.now)
    yield made
    made.close()
