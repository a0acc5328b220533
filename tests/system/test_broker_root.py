"""A broker whose root key is in a token (SoftHSM): made there, never outside, and missed at once where it is another's.

What is proved here: keys wrapped under a token's root open after a restart; a broker does not start without its root, or with
another's; the PIN is nowhere but where its owner put it.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from softhsm import PIN, Token

from strongroom.crypto.signatures import generate_p256, public_to_pem
from strongroom.records.digest import Digest
from strongroom.records.release import Edition
from strongroom.release.client import BrokerClient
from strongroom_sim import Installation

pytestmark = pytest.mark.needs("softhsm2-util")

READ_ROOT = """
for key in session.get_objects({pkcs11.Attribute.CLASS: pkcs11.ObjectClass.SECRET_KEY}):
    try:
        key[pkcs11.Attribute.VALUE]
    except pkcs11.AttributeSensitive:
        print(key[pkcs11.Attribute.LABEL], 'stays inside', key[pkcs11.Attribute.NEVER_EXTRACTABLE])
"""
IMPORT_ROOT = """
session.create_object({
    pkcs11.Attribute.CLASS: pkcs11.ObjectClass.SECRET_KEY, pkcs11.Attribute.KEY_TYPE: pkcs11.KeyType.AES,
    pkcs11.Attribute.TOKEN: True, pkcs11.Attribute.LABEL: 'known', pkcs11.Attribute.VALUE: bytes(32)})
"""


@dataclass
class Place:
    """An owner, an installation of fake chips, and a broker's folder."""

    root: Path
    owner: Any = field(default_factory=generate_p256)

    def __post_init__(self) -> None:
        self.root.mkdir(exist_ok=True)
        Installation.create(self.root / "installation", now=1_790_000_000)
        (self.root / "owner.pub").write_bytes(public_to_pem(self.owner.public_key()))
        self.state = self.root / "broker"
        self.log = self.root / "broker.log"

    def command(self, uri: str | None) -> list[str]:
        words = [
            "broker", "serve", "--state", self.state, "--owner", self.root / "owner.pub", "--anchor",
            self.root / "installation" / "root.pem", "--profile", "development", "--listen", "127.0.0.1:0", "--json",
            *(("--root", uri) if uri else ()),
        ]  # fmt: skip
        return [sys.executable, "-m", "strongroom", *map(str, words)]

    @contextmanager
    def serving(self, token: Token) -> Iterator[BrokerClient]:
        """The broker in a process of its own, and its owner's client."""
        command = self.command(token.uri("root"))
        with self.log.open("ab") as log:
            child = subprocess.Popen(command, env={**os.environ, **token.env}, stdout=subprocess.PIPE, stderr=log)
        assert child.stdout is not None
        try:
            ready = json.loads(child.stdout.readline())
            seen = Path(f"/proc/{child.pid}/cmdline").read_bytes()
            assert PIN.encode() not in seen
            client = BrokerClient(ready["url"], fingerprint=Digest(ready["fingerprint"]), identity=self.owner)
            yield client
            client.close()
        finally:
            child.send_signal(signal.SIGTERM)
            output, _ = child.communicate(timeout=60)
            self.log.write_bytes(self.log.read_bytes() + output)

    def refused(self, uri: str | None, token: Token) -> dict[str, Any]:
        """What a start that must not succeed says."""
        env = {**os.environ, **token.env}
        done = subprocess.run(
            self.command(uri),
            env=env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.returncode in {2, 4}, done.stdout + done.stderr
        assert PIN not in done.stdout + done.stderr
        return json.loads(done.stdout)["error"]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.fixture
def token(tmp_path: Path) -> Token:
    return Token(tmp_path / "token")


def test_what_a_token_wrapped_opens_after_a_restart_and_the_pin_is_nowhere(place: Place, token: Token):
    of = Edition.first(b"artifact")
    with place.serving(token) as client:
        client.create_key("model", "policy")
        wrapped = client.wrap("model", of, bytes(range(32)))
    assert token.python(READ_ROOT) == "root stays inside True\n"
    with place.serving(token) as client:
        client.rotate_key("model")
        again = client.rewrap(wrapped)  # unwraps under version 1, wraps under version 2
        assert (again.key_version, again.of) == (2, of)
    for path in (place.log, *(path for path in place.state.rglob("*") if path.is_file())):
        assert PIN.encode() not in path.read_bytes()
    assert not (place.state / "keys" / "root.key").exists()


def test_a_broker_does_not_start_without_its_root_or_with_another(place: Place, token: Token, tmp_path: Path):
    with place.serving(token) as client:
        client.create_key("model", "policy")
    assert place.refused(None, token)["code"] == "usage"
    missing = place.refused(token.uri("another"), token)
    assert (missing["code"], "not in the token" in missing["message"]) == ("token.unavailable", True)
    elsewhere = Token(tmp_path / "elsewhere")
    assert place.refused(elsewhere.uri("root"), elsewhere)["code"] == "token.unavailable"
    other = Place(tmp_path / "other")
    with other.serving(elsewhere):
        pass  # which makes another root of the same name
    restored = place.refused(elsewhere.uri("root"), elsewhere)
    assert restored["code"] == "store.unavailable"
    assert "root key" in restored["message"]
    with place.serving(token) as client:
        assert [key.key_id for key in client.keys()] == ["model"]  # noqa: SIM118 (not a dict)


def test_a_database_of_another_brokers_root_is_refused(place: Place, token: Token, tmp_path: Path):
    with place.serving(token) as client:
        client.create_key("model", "policy")
    other = Place(tmp_path / "other")
    elsewhere = Token(tmp_path / "elsewhere")
    with other.serving(elsewhere) as client:
        client.create_key("model", "policy")
    (place.state / "broker.db").write_bytes((other.state / "broker.db").read_bytes())
    for name in ("broker.db-wal", "broker.db-shm"):
        (place.state / name).unlink(missing_ok=True)
    assert place.refused(token.uri("root"), token)["code"] == "store.unavailable"


def test_a_key_that_was_ever_outside_is_no_root(place: Place, token: Token):
    token.python(IMPORT_ROOT)
    refused = place.refused(token.uri("known"), token)
    assert (refused["code"], "no root" in refused["message"]) == ("usage", True)
    assert not (place.state / "keys").exists()


def test_a_wrong_pin_is_refused_and_not_repeated(place: Place, token: Token, tmp_path: Path):
    wrong = "canary-wrong-27182818"
    (tmp_path / "wrong").write_text(wrong)
    refused = place.refused(token.uri("root", pin=tmp_path / "wrong"), token)
    assert refused["code"] == "token.unavailable"
    assert wrong not in json.dumps(refused)
