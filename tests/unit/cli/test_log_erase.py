"""Somebody is erased from a broker's log, from the command line."""

import importlib.util
import time
from pathlib import Path

import pytest

from strongroom.crypto.signatures import private_to_pem
from strongroom.records.digest import digest_bytes
from strongroom.services.broker import broker_app
from strongroom.services.server import BackgroundServer

_spec = importlib.util.spec_from_file_location("cli_world", Path(__file__).parents[1] / "release" / "conftest.py")
cli_world = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(cli_world)

world = cli_world.world


@pytest.fixture
def mine(world, tmp_path):
    """The options of an owner."""
    world.now = int(time.time())
    (tmp_path / "owner.pem").write_bytes(private_to_pem(world.owner))
    with BackgroundServer(broker_app(world.broker)) as server:
        fingerprint = world.broker.identity.fingerprint
        yield ["--broker", server.url, "--broker-fingerprint", fingerprint, "--identity", tmp_path / "owner.pem"]


def test_a_person_and_a_name_are_erased(strongroom, world, mine):
    world.prepared()
    assert strongroom("log", "erase", "--who", world.who, "--yes", *mine).out.startswith("3 members of leaves")
    found = strongroom("log", "erase", "--subject", "model", "--yes", "--json", *mine)
    assert found.document == {"openings": 2}
    assert world.who not in {digest for leaf in world.leaves()[:3] for digest in leaf.digests}
    assert [leaf.event for leaf in world.leaves()[3:]] == ["erasure", "erasure"]
    again = strongroom("log", "erase", "--subject", "model", "--yes", "--json", *mine)
    assert again.document == {"openings": 0}


@pytest.mark.parametrize(
    "wrong",
    [
        ["--yes"],
        ["--who", digest_bytes(b"somebody"), "--subject", "model", "--yes"],
        ["--who", digest_bytes(b"somebody")],
        ["--who", "nobody", "--yes"],
    ],
)
def test_what_is_not_clear_erases_nothing(strongroom, world, mine, wrong):
    world.prepared()
    before = world.leaves()
    ran = strongroom("log", "erase", *wrong, "--json", *mine)
    assert (ran.code, ran.error) == (2, "usage")
    assert world.leaves() == before
