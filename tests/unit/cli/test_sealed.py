"""The commands around sealed artifacts: editions, floors, keys that change; with a real broker behind them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from strongroom.crypto.signatures import generate_p256, private_from_pem, private_to_pem, public_to_pem
from strongroom.release.opening import open_broker
from strongroom.services.broker import broker_app
from strongroom.services.server import BackgroundServer
from strongroom.tee.anchors import VENDOR_ANCHORS

Command = Callable[..., tuple[int, Any]]


@pytest.fixture
def command(strongroom: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Command:
    """Runs a command in a folder of its own; gives its exit code and what it printed as JSON."""
    monkeypatch.chdir(tmp_path)

    def go(*words: str) -> tuple[int, Any]:
        ran = strongroom(*words, "--json")
        return ran.code, json.loads(ran.out or ran.err)

    return go


@pytest.fixture
def owner(command: Command, tmp_path: Path) -> Path:
    """A folder with an owner's keys and a little model."""
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "weights.bin").write_bytes(b"weights" * 100)
    key = generate_p256()
    (tmp_path / "owner").write_bytes(private_to_pem(key))
    (tmp_path / "owner.pub").write_bytes(public_to_pem(key.public_key()))
    for name in ("me", "other"):
        assert command("keys", "new", name, "--kind", "recipient")[0] == 0
    return tmp_path


SEAL = ("seal", "model", "dir:store:one", "--identity", "owner", "--recipient", "me.pub")


@pytest.fixture
def broker(owner: Path) -> Iterator[tuple[str, ...]]:
    """A broker's address and fingerprint, as options."""
    key = private_from_pem((owner / "owner").read_bytes())
    made = open_broker(owner / "broker", anchors=VENDOR_ANCHORS, owners=[key.public_key()], profile="development")
    with BackgroundServer(broker_app(made)) as server:
        yield ("--broker", server.url, "--broker-fingerprint", made.identity.fingerprint)


def opened(command: Command, reference: str, target: str, *options: str, key: str = "me") -> tuple[int, Any]:
    return command("open", reference, target, "--key", key, "--signer", "owner.pub", *options)


def test_a_later_edition_follows_and_a_floor_shuts_the_earlier_out(command: Command, owner: Path):
    assert command(*SEAL)[0] == 0
    (owner / "model" / "weights.bin").write_bytes(b"better weights")
    code, _ = command(
        "seal", "model", "dir:store:two", "--identity", "owner", "--recipient", "me.pub", "--follows", "dir:store:one"
    )
    assert code == 0
    one, two = (command("inspect", f"dir:store:{tag}")[1] for tag in ("one", "two"))
    assert one["line"] == two["line"]
    assert (one["edition"], two["edition"]) == (1, 2)
    floor = f"{one['line']}:2"
    assert opened(command, "dir:store:two", "new", "--floor", floor)[0] == 0
    assert (owner / "new" / "weights.bin").read_bytes() == b"better weights"
    code, told = opened(command, "dir:store:one", "old", "--floor", floor)
    assert (code, told["error"]["code"]) == (1, "sealed.edition")
    assert not (owner / "old").exists()


@pytest.mark.usefixtures("owner")
@pytest.mark.parametrize("floor", ["", "1", "00:1", "0" * 32, "0" * 32 + ":0", "0" * 32 + ":x", "Z" * 32 + ":1"])
def test_a_floor_that_is_none_is_a_usage_error(command: Command, floor: str):
    assert command(*SEAL)[0] == 0
    assert opened(command, "dir:store:one", "there", "--floor", floor)[0] == 2


def test_what_somebody_else_signed_cannot_be_followed(command: Command, owner: Path):
    assert command(*SEAL)[0] == 0
    (owner / "stranger").write_bytes(private_to_pem(generate_p256()))
    code, _ = command(
        "seal",
        "model",
        "dir:store:two",
        "--identity",
        "stranger",
        "--recipient",
        "me.pub",
        "--follows",
        "dir:store:one",
    )
    assert code == 1


@pytest.mark.usefixtures("owner")
def test_rewrapped_for_somebody_else(command: Command):
    digest = command(*SEAL)[1]["digest"]
    code, told = command(
        "rewrap", "dir:store:one", "--identity", "owner", "--open-with", "me", "--recipient", "other.pub"
    )
    assert (code, told["before"]) == (0, digest)
    assert opened(command, "dir:store:one", "mine")[0] == 1
    assert opened(command, "dir:store:one", "theirs", key="other")[0] == 0


@pytest.mark.usefixtures("owner")
def test_a_rewrap_without_any_key_is_a_usage_error(command: Command):
    command(*SEAL)
    assert command("rewrap", "dir:store:one", "--identity", "owner", "--recipient", "other.pub")[0] == 2
    assert command("rewrap", "dir:store:one", "--identity", "owner")[0] == 2
    assert command("rewrap", "dir:store:one", "--identity", "owner", "--open-with", "me")[0] == 2


def test_rekeyed_into_the_next_edition(command: Command, owner: Path):
    before = command(*SEAL)[1]["digest"]
    code, told = command(
        "rekey",
        "dir:store:one",
        "dir:elsewhere:new",
        "--identity",
        "owner",
        "--open-with",
        "me",
        "--recipient",
        "me.pub",
    )
    assert (code, told["before"], told["edition"]) == (0, before, 2)
    assert opened(command, "dir:elsewhere:new", "back", "--floor", f"{told['line']}:2")[0] == 0
    assert (owner / "back" / "weights.bin").read_bytes() == b"weights" * 100


def test_a_rotated_key_takes_an_artifact_along(command: Command, owner: Path, broker: tuple[str, ...]):
    identity = ("--identity", "owner")
    assert command("keys", "create", "k", "--policy-id", "p", *identity, *broker)[0] == 0
    assert command(*SEAL, "--key", "k", *broker)[0] == 0
    code, told = command("keys", "rotate", "k", *identity, *broker)
    assert (code, told["version"]) == (0, 2)
    assert command("rewrap", "dir:store:one", *identity, *broker)[0] == 0
    assert opened(command, "dir:store:one", "mine")[0] == 0  # recipients stay
    (manifest,) = [
        json.loads(path.read_bytes())["annotations"]["dev.strongroom.seal"]
        for path in sorted((owner / "store" / "blobs" / "sha256").iterdir())
        if b'"key_version\\":2' in path.read_bytes()
    ]
    assert json.loads(manifest)["keys"]["broker"]["key_id"] == "k"


def test_erased_only_on_the_word_yes(command: Command, owner: Path):
    command(*SEAL)
    assert command("erase", "dir:store:one")[0] == 2
    assert opened(command, "dir:store:one", "still")[0] == 0
    code, told = command("erase", "dir:store:one", "--yes")
    assert (code, told["still"]) == (0, [])
    assert any("recipients" in text for text in told["unreached"])
    assert opened(command, "dir:store:one", "gone")[0] == 3
    assert not (owner / "gone").exists()
