import importlib.util
import time
from pathlib import Path

import pytest

from strongroom.crypto.signatures import (
    fingerprint,
    generate_ed25519,
    generate_p256,
    private_to_pem,
    public_to_pem,
)
from strongroom.services.broker import broker_app
from strongroom.services.server import BackgroundServer

_spec = importlib.util.spec_from_file_location("cli_world", Path(__file__).parents[1] / "release" / "conftest.py")
cli_world = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(cli_world)

world = cli_world.world
SOMEONE = generate_p256()
NAME = fingerprint(SOMEONE.public_key())


@pytest.fixture
def folder(world, tmp_path):
    world.now = int(time.time())
    (tmp_path / "root.pem").write_bytes(private_to_pem(world.owner))
    (tmp_path / "someone.pem").write_bytes(private_to_pem(SOMEONE))
    (tmp_path / "someone.pem.pub").write_bytes(public_to_pem(SOMEONE.public_key()))
    return tmp_path


@pytest.fixture
def at(world, folder):
    """The options under which somebody speaks to the broker."""
    with BackgroundServer(broker_app(world.broker)) as server:
        broker = ["--broker", server.url, "--broker-fingerprint", world.broker.identity.fingerprint]
        yield lambda who: [*broker, "--identity", folder / f"{who}.pem"]


def test_administrators_are_appointed_listed_and_removed(strongroom, world, folder, at):
    key = folder / "someone.pem.pub"
    made = strongroom("administrators", "add", key, "--role", "operator", "--tenant", "acme", *at("root"))
    assert made.out == f"{NAME} appointed, operator of acme\n"
    lines = [line.split() for line in strongroom("administrators", "list", *at("root")).out.splitlines()]
    assert lines[0] == ["ADMINISTRATOR", "ROLE", "TENANT", "ADDED", "BY"]
    assert lines[1] == [world.who, "root", "*", "-", "--owner"]
    assert [lines[2][:3], lines[2][4]] == [[NAME, "operator", "acme"], world.who[:19]]
    listed = strongroom("administrators", "list", "--json", *at("root")).document["administrators"]
    assert [one["fingerprint"] for one in listed] == [world.who, NAME]
    gone = strongroom("administrators", "remove", NAME, *at("root"))
    assert gone.out == f"{NAME} removed, operator of acme\n"
    again = strongroom("administrators", "remove", NAME, "--json", *at("root"))
    assert (again.code, again.error) == (2, "usage")


def test_who_is_there_for_everybody_is_called_so(strongroom, folder, at):
    add = ["add", folder / "someone.pem.pub", "--role", "auditor", "--tenant", "*"]
    assert strongroom("administrators", *add, *at("root")).out == f"{NAME} appointed, auditor of every tenant\n"
    gone = strongroom("administrators", "remove", NAME, "--json", *at("root")).document
    assert (gone["role"], gone["tenant"]) == ("auditor", "*")


def test_a_refusal_names_role_and_verb(strongroom, folder, at):
    add = ["add", folder / "someone.pem.pub", "--role", "operator", "--tenant", "acme"]
    strongroom("administrators", *add, *at("root"))
    ran = strongroom("keys", "create", "acme/key", "--policy-id", "acme/policy", "--json", *at("someone"))
    assert (ran.code, ran.error) == (1, "admin.not_permitted")
    assert ran.document["error"]["detail"] == "operator keys.create"
    assert ran.document["error"]["remedy"] == "Ask who may: root or owner."


@pytest.mark.parametrize(
    ("role", "tenant"), [("root", "acme"), ("owner", ""), ("owner", "A"), ("owner", "a/b"), ("", "a")]
)
def test_what_makes_no_sense_is_a_matter_of_usage(strongroom, folder, at, role, tenant):
    add = ["add", folder / "someone.pem.pub", "--role", role, "--tenant", tenant]
    ran = strongroom("administrators", *add, "--json", *at("root"))
    assert (ran.code, ran.error) == (2, "usage")


def test_a_tenant_is_always_said(strongroom, folder, at):
    ran = strongroom("administrators", "add", folder / "someone.pem.pub", "--role", "owner", "--json", *at("root"))
    assert (ran.code, ran.error) == (2, "usage")


def test_an_appointed_key_is_on_p256(strongroom, folder, at):
    (folder / "ed.pub").write_bytes(public_to_pem(generate_ed25519().public_key()))
    ran = strongroom(
        "administrators", "add", folder / "ed.pub", "--role", "owner", "--tenant", "acme", "--json", *at("root")
    )
    assert (ran.code, ran.error) == (2, "usage")
