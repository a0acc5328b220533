import importlib.util
import time
from pathlib import Path

import pytest

from strongroom.crypto.signatures import private_to_pem
from strongroom.release.present import Failure
from strongroom.release.sweep import Sweep
from strongroom.services.broker import broker_app
from strongroom.services.server import BackgroundServer

_spec = importlib.util.spec_from_file_location("cli_world", Path(__file__).parents[1] / "release" / "conftest.py")
cli_world = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(cli_world)

world, worker = cli_world.world, cli_world.worker
DIGEST = "sha256:" + "ab" * 32


@pytest.fixture
def mine(world, tmp_path):
    """The options of an owner."""
    world.now = int(time.time())
    (tmp_path / "owner.pem").write_bytes(private_to_pem(world.owner))
    with BackgroundServer(broker_app(world.broker)) as server:
        fingerprint = world.broker.identity.fingerprint
        yield ["--broker", server.url, "--broker-fingerprint", fingerprint, "--identity", tmp_path / "owner.pem"]


def test_leases_are_ended_by_what_they_concern_until_it_is_lifted(strongroom, mine, world, worker):
    wrapped = world.prepared()
    world.release(world.request(worker, wrapped))
    named = ["--worker", worker.keyset.digest]
    said = strongroom("leases", "revoke", *named, "--reason", "compromised", *mine).out
    assert said == f"worker:{worker.keyset.digest} revoked, until it is lifted; leases that this ended: 1\n"
    rows = [line.split() for line in strongroom("leases", "revocations", *mine).out.splitlines()]
    assert rows[0] == ["WHAT", "NAME", "SINCE", "REASON", "WHO"]
    assert [(row[0], row[1], row[3]) for row in rows[1:]] == [("worker", worker.keyset.digest, "compromised")]
    again = strongroom("leases", "revoke", *named, "--json", *mine).document
    assert (again["leases"], again["revocation"]["reason"]) == ([], "compromised")
    found = strongroom("leases", "revocations", "--json", *mine).document["revocations"]
    assert [one["subject"]["about"] for one in found] == ["worker"]
    assert strongroom("leases", "lift", *named, *mine).out.endswith(" is no longer revoked\n")
    assert strongroom("leases", "revocations", "--json", *mine).document == {"revocations": []}
    assert [line.split()[1] for line in strongroom("leases", "list", *mine).out.splitlines()[1:]] == ["revoked"]


@pytest.mark.parametrize("option", [[], ["--lease"]])
def test_one_lease_is_ended_by_its_id(strongroom, mine, world, worker, option):
    lease_id = world.release(world.request(worker, world.prepared())).lease_id
    assert strongroom("leases", "revoke", *option, lease_id, *mine).out == f"{lease_id} revoked\n"
    assert strongroom("leases", "revoke", *option, lease_id, "--json", *mine).error == "release.lease_ended"
    assert strongroom("leases", "revocations", "--json", *mine).document == {"revocations": []}


@pytest.mark.parametrize(
    ("option", "name"),
    [
        ("--key", "model"),
        ("--artifact", DIGEST),
        ("--policy", "acme/models"),
        ("--worker", DIGEST),
        ("--machine", "chip_id:" + "00" * 64),
        ("--tenant", "acme"),
        ("--tenant", ""),
    ],
)
def test_there_is_an_option_for_everything(strongroom, mine, option, name):
    made = strongroom("leases", "revoke", option, name, "--json", *mine).document["revocation"]
    assert made["subject"] == {"about": option[2:], "name": name}
    lifted = strongroom("leases", "lift", option, name, "--json", *mine).document
    assert lifted == {"lifted": f"{option[2:]}:{name}", "revocations": []}


@pytest.mark.parametrize(
    "wrong",
    [
        ["revoke"],
        ["revoke", "one", "--lease", "two"],
        ["revoke", "one", "--key", "model"],
        ["revoke", "--key", "model", "--tenant", "acme"],
        ["revoke", "--worker", "model"],
        ["revoke", "--key", "model", "--reason", "because"],
        ["lift"],
        ["lift", "--key", "model"],
        ["lift", "--key", "model", "--tenant", "acme"],
    ],
)
def test_what_makes_no_sense_is_a_matter_of_usage(strongroom, mine, wrong):
    ran = strongroom("leases", *wrong, "--json", *mine)
    assert (ran.code, ran.error) == (2, "usage")


def test_a_key_is_made_to_be_released_once_per_boot(strongroom, mine):
    made = strongroom("keys", "create", "rare", "--policy-id", "p", "--uses", "2", "--per-boot", *mine)
    assert made.out == "rare created, released under policy p, uses 0/2, once per boot\n"
    assert strongroom("keys", "create", "once", "--policy-id", "p", "--per-boot", "--json", *mine).document["per_boot"]
    rows = [
        line.split("active")[1].split("created")[0].strip()
        for line in strongroom("keys", "list", *mine).out.splitlines()[1:]
    ]
    assert rows == ["per boot", "0/2, per boot"]


def test_a_sweep_says_what_it_found(strongroom, mine, world, worker):
    assert strongroom("leases", "sweep", "--json", *mine).error == "usage"
    lease_id = world.release(world.request(worker, world.prepared())).lease_id
    failures = [None, Failure("custody", ("policy.custody.denied",)), Failure("tcb", ("tdx.pck.crl",))]
    asked = []

    class Present:
        def refresh(self):
            asked.append("refresh")

        def again(self, *_words, **_members):
            return failures.pop(0)

    world.broker.present = Present()
    everybody = world.broker.administrators
    world.broker.sweep = Sweep(
        world.store, world.admin.revocations, world.broker.present.again, administrators=everybody
    )
    assert strongroom("leases", "sweep", *mine).out == "leases judged: 1, of which ended: 0; nothing kept of: 0\n"
    lines = strongroom("leases", "sweep", "--dry-run", *mine).out.splitlines()
    assert lines[1].split() == [lease_id, "custody", "policy.custody.denied"]
    assert lines[2] == "leases judged: 1, of which would end: 1; nothing kept of: 0"
    ended = [{"lease_id": lease_id, "what": "tcb", "failed": ["tdx.pck.crl"]}]
    found = strongroom("leases", "sweep", "--json", *mine).document
    assert found == {"judged": 1, "unjudged": 0, "ended": ended, "dry_run": False}
    assert asked == ["refresh"] * 3
