import importlib.util
import time
from pathlib import Path

import pytest

from strongroom.crypto.signatures import private_to_pem
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


def test_cells_are_made_listed_and_shown(strongroom, mine):
    made = strongroom("cells", "create", "steps", "--kind", "counter", "--policy-id", "p", *mine)
    assert made.out == "steps created, a counter at 0, moved under policy p\n"
    budget = ["--kind", "budget", "--limit", "9", "--output-key", "outputs", "--policy-id", "p"]
    assert strongroom("cells", "create", "epsilon", *budget, "--json", *mine).document["value"] == 9
    lines = [line.split() for line in strongroom("cells", "list", *mine).out.splitlines()]
    assert lines[0] == ["CELL", "KIND", "VALUE", "LIMIT", "CHANGES", "POLICY"]
    assert lines[1:] == [["epsilon", "budget", "9", "9", "0", "p"], ["steps", "counter", "0", "-", "0", "p"]]
    found = strongroom("cells", "list", "--json", *mine).document["cells"]
    assert [(cell["id"], cell["limit"]) for cell in found] == [("epsilon", 9), ("steps", None)]
    shown = strongroom("cells", "show", "epsilon", *mine).out
    assert "output key  outputs" in shown
    assert "digest      none yet" in shown
    assert strongroom("cells", "show", "epsilon", "--json", *mine).document == found[0]


@pytest.mark.parametrize(
    "wrong",
    [
        ["create", "epsilon", "--kind", "budget", "--policy-id", "p"],
        ["create", "epsilon", "--kind", "budget", "--limit", "0", "--policy-id", "p"],
        ["create", "epsilon", "--kind", "counter", "--limit", "5", "--policy-id", "p"],
        ["create", "Not A Name", "--kind", "counter", "--policy-id", "p"],
        ["create", "epsilon", "--kind", "scale", "--policy-id", "p"],
        ["show", "epsilon"],
    ],
)
def test_what_makes_no_sense_is_a_matter_of_usage(strongroom, mine, wrong):
    ran = strongroom("cells", *wrong, "--json", *mine)
    assert (ran.code, ran.error) == (2, "usage")


def test_a_key_is_given_its_uses(strongroom, mine):
    made = strongroom("keys", "create", "rare", "--policy-id", "p", "--uses", "2", *mine)
    assert made.out == "rare created, released under policy p, uses 0/2\n"
    strongroom("keys", "create", "often", "--policy-id", "p", *mine)
    rows = [line.split() for line in strongroom("keys", "list", *mine).out.splitlines()]
    assert [(row[0], row[4]) for row in rows] == [("KEY", "USES"), ("often", "-"), ("rare", "0/2")]
    assert strongroom("keys", "create", "none", "--policy-id", "p", "--uses", "0", "--json", *mine).code == 2
