"""Bad input, at the command line and over HTTP: one clear error with a code and a remedy, never a traceback, nothing half-written.

Most commands run in this process, by the entry point itself; where a process is the point, it is a real one.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import random
import re
import socket
import sqlite3
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import click
import httpx2
import pytest
from world import EchoEngine, World, world

from strongroom.appraisal.policies import sign_policy, to_toml
from strongroom.cli import main
from strongroom.crypto.signatures import generate_p256, private_to_pem, public_to_pem
from strongroom.demo import processes
from strongroom.records import codec
from strongroom.records.policy import Requirement
from strongroom.release.client import BrokerClient
from strongroom_sim import abi

JSON_SUFFIX = "--json"


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def error(self) -> dict[str, str]:
        return json.loads(self.out)["error"]


def call(*words: str | Path) -> Ended:
    """The command line's own entry point, in this process."""
    out, err, argv = io.StringIO(), io.StringIO(), sys.argv
    sys.argv = ["strongroom", *map(str, words)]
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            main.run()
    except SystemExit as ended:
        return Ended(int(ended.code or 0), out.getvalue(), err.getvalue())
    finally:
        sys.argv = argv
    raise AssertionError("a command returned")


def snapshot(folder: Path) -> dict[str, str]:
    """Every file below `folder` with the digest of its content; the broker's own database apart, which counts attempts."""
    found = (path for path in folder.rglob("*") if "broker" not in path.relative_to(folder).parts[:1])
    return {
        str(path): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder"
        for path in sorted(found)
    }


class Desk:
    """Good files of every kind, and a broker and a worker that answer."""

    def __init__(self, made: World, worker: str) -> None:
        self.world, self.folder, self.worker = made, made.folder, worker
        self.broker, self.fingerprint = made.server.url, made.broker.identity.fingerprint
        self.stranger = generate_p256()
        for name, key in (("owner", made.owner), ("stranger", self.stranger)):
            self.put(f"{name}.pem", private_to_pem(key))
            self.put(f"{name}.pem.pub", public_to_pem(key.public_key()))
        self.put("policy.toml", to_toml(made.policy).encode())
        self.put("policy.json", sign_policy(made.policy, made.owner).to_bytes())
        self.put("foreign.json", sign_policy(replace(made.policy, version=2), self.stranger).to_bytes())
        client = made.client(worker)
        client.ask("Hello")
        self.put("receipt.json", codec.encode(client.last_receipt))
        self.put("bundle.json", codec.encode(client.last_receipt.bundle))
        self.put("quote.bin", client.last_receipt.bundle.evidence.quote)
        self.put("collateral.json", codec.encode(client.last_receipt.bundle.collateral))
        self.put("plain.bin", b"plain")

    def put(self, name: str, data: bytes) -> Path:
        path = self.folder / name
        path.write_bytes(data)
        return path

    def __getitem__(self, name: str) -> Path:
        return self.folder / name

    @property
    def at_broker(self) -> list[str | Path]:
        return ["--broker", self.broker, "--broker-fingerprint", self.fingerprint, "--identity", self["owner.pem"]]

    @property
    def trust(self) -> list[str | Path]:
        return ["--anchor", self.world.anchor_file, "--accept-simulated"]

    def told(self, **changed: str | Path) -> list[str | Path]:
        """What a worker is told."""
        told = {
            "broker": self.broker, "broker-fingerprint": self.fingerprint, "signer": self["owner.pem.pub"],
            "image": "sha256:" + "0" * 64, "collateral": self["collateral.json"], "tee-root": self.folder,
            "profile": "development", "listen": "127.0.0.1:0",
        }  # fmt: skip
        return [word for name, value in (told | changed).items() for word in (f"--{name}", value)]

    def refused(self, exit_code: int, *codes: str) -> Callable[..., Ended]:
        """Runs a command for people and for programs; both must end in this exit code and one of these error codes."""

        def run(*words: str | Path) -> Ended:
            before = snapshot(self.folder)
            said, read = call(*words), call(*words, JSON_SUFFIX)
            assert (said.code, read.code) == (exit_code, exit_code), (words, said, read)
            assert read.error["code"] in codes, read.error
            assert set(read.error) == {"code", "message", "detail", "remedy"}
            assert read.error["message"]
            assert read.error["remedy"]
            assert said.err.count("strongroom: ") == 1
            assert f"  code:   {read.error['code']}\n" in said.err
            assert "  remedy: " in said.err
            assert said.out == ""
            assert "Traceback" not in said.out + said.err + read.out + read.err
            assert snapshot(self.folder) == before, "something stayed behind"
            return read

        return run


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    with world(tmp_path_factory.mktemp("desk")) as made, made.serving() as served:
        yield Desk(made, served.url)


# --- records in files -----------------------------------------------------------------------------------------------


def changed(data: bytes, **members: object) -> bytes:
    return json.dumps({**json.loads(data), **members}).encode()


def without_first(data: bytes) -> bytes:
    value = json.loads(data)
    del value[next(name for name in value if name != "type")]
    return json.dumps(value).encode()


BREAKS: dict[str, Callable[[bytes], bytes]] = {
    "an unknown member": lambda data: changed(data, surprise=1),
    "a missing member": without_first,
    "a member twice": lambda data: data.replace(b"{", b'{"twice":1,"twice":2,', 1),
    "trailing bytes": lambda data: data + b"}",
    "another record behind it": lambda data: data + data,
    "half of it": lambda data: data[: len(data) // 2],
    "a number with a fraction": lambda data: data.replace(b"{", b'{"fraction":1.5,', 1),
    "deep nesting": lambda data: data.replace(b"{", b'{"deep":' + b"[" * 20_000 + b"]" * 20_000 + b",", 1),
    "bytes that are not text": lambda data: data.replace(b"{", b'{"text":"\xff",', 1),
    "a number without end": lambda data: data.replace(b"{", b'{"number":' + b"9" * 10_000 + b",", 1),
}
VERSIONED = {"an unknown version": lambda data: changed(data, type=json.loads(data)["type"].replace("/v1", "/v2"))}


def commands(desk: Desk) -> dict[str, tuple[str, list[str | Path]]]:
    """Each command that reads a record from a file: the good file, and the words around a FILE that replaces it."""
    broker = ["--broker-fingerprint", desk.fingerprint]
    policy = ["--policy", desk["policy.toml"]]
    return {
        "evidence show": ("bundle.json", ["evidence", "show", "FILE"]),
        "evidence verify": ("bundle.json", ["evidence", "verify", "FILE", *policy, *desk.trust]),
        "evidence verify --collateral": (
            "collateral.json", ["evidence", "verify", desk["quote.bin"], "--collateral", "FILE", *desk.trust],
        ),
        "policy check": ("policy.json", ["policy", "check", "FILE", "--owner", desk["owner.pem.pub"]]),
        "policy put": ("policy.json", ["policy", "put", "FILE", *desk.at_broker]),
        "policy explain": ("bundle.json", ["policy", "explain", "FILE", *policy, "--anchor", desk.world.anchor_file]),
        "receipt verify": ("receipt.json", ["receipt", "verify", "FILE", *policy, *desk.trust, *broker]),
        "log verify": ("receipt.json", ["log", "verify", "FILE", *broker]),
        "chat --policy": (
            "policy.json", ["chat", desk.worker, "Hi", "--policy", "FILE", "--owner", desk["owner.pem.pub"], *desk.trust],
        ),
    }  # fmt: skip


@pytest.mark.parametrize("kind", BREAKS | VERSIONED)
def test_a_broken_record_is_unreadable_for_every_command_that_reads_it(desk, tmp_path, kind):
    for good, words in commands(desk).values():
        if kind in VERSIONED and good == "policy.json":  # an envelope has no version of its own
            continue
        broken = tmp_path / "broken"
        broken.write_bytes((BREAKS | VERSIONED)[kind](desk[good].read_bytes()))
        desk.refused(3, "record.malformed", "unreadable")(*(broken if word == "FILE" else word for word in words))


def test_the_same_commands_accept_the_good_files(desk):
    for good, words in commands(desk).values():
        assert call(*(desk[good] if word == "FILE" else word for word in words)).code == 0, words


@pytest.mark.parametrize("path", ["missing", "folder/below", "."])
def test_a_file_that_cannot_be_read_is_said_to_be_so(desk, path):
    for name, (_, words) in commands(desk).items():
        if path == "." and "--collateral" in words and words[words.index("--collateral") + 1] == "FILE":
            continue  # a folder is collateral, whatever else lies in it
        assert desk.refused(3, "file.unreadable")(*(desk[path] if word == "FILE" else word for word in words)), name


def test_missing_key_files_are_unreadable(desk, tmp_path):
    refused, missing = desk.refused(3, "file.unreadable"), tmp_path / "missing.pem"
    refused("policy", "sign", desk["policy.toml"], "--identity", missing, "-o", tmp_path / "out.json")
    refused("policy", "check", desk["policy.json"], "--owner", missing)
    refused("keys", "list", "--broker", desk.broker, "--broker-fingerprint", desk.fingerprint, "--identity", missing)
    refused("broker", "serve", "--state", tmp_path / "state", "--owner", missing)
    refused("inspect", f"dir:{desk['registry']}:model", "--signer", missing)
    refused(
        "open", f"dir:{desk['registry']}:model", tmp_path / "out", "--key", missing, "--signer", desk["owner.pem.pub"]
    )
    refused("serve", f"dir:{desk['registry']}:model", *desk.told(signer=missing))
    refused("evidence", "verify", desk["bundle.json"], "--anchor", missing)
    refused("seal", desk["plain.bin"], f"dir:{tmp_path / 'r'}", "--identity", desk["owner.pem"], "--recipient", missing)
    assert list(tmp_path.iterdir()) == []


def test_a_key_file_with_other_bytes_in_it_is_unreadable(desk, tmp_path):
    garbage = tmp_path / "garbage.pem"
    garbage.write_bytes(b"-----BEGIN PUBLIC KEY-----\nbm90IGEga2V5\n-----END PUBLIC KEY-----\n")
    refused = desk.refused(3, "record.malformed", "evidence.malformed", "file.unreadable", "unreadable")
    refused("policy", "check", desk["policy.json"], "--owner", garbage)
    refused("policy", "sign", desk["policy.toml"], "--identity", garbage, "-o", tmp_path / "out.json")
    refused("evidence", "verify", desk["bundle.json"], "--anchor", garbage)
    refused("seal", desk["plain.bin"], f"dir:{tmp_path / 'r'}", "--identity", desk["owner.pem"], "--recipient", garbage)
    assert list(tmp_path.iterdir()) == [garbage]


def test_garbage_is_no_evidence(desk, tmp_path):
    chance = random.Random(7)
    quote = desk["quote.bin"].read_bytes()
    samples = [
        b"",
        b"\n",
        b"{",
        b"zz",
        b"\xff" * 64,
        chance.randbytes(5000),
        quote[:-1],
        quote + b"\1",
        b"\4\0" + bytes(5000),
    ]
    for number, garbage in enumerate(samples):
        path = tmp_path / f"garbage-{number}"
        path.write_bytes(garbage)
        desk.refused(3, "unreadable", "record.malformed", "evidence.malformed")("evidence", "show", path)
        desk.refused(3, "unreadable", "record.malformed", "evidence.malformed")(
            "evidence", "verify", path, "--collateral", desk["collateral.json"]
        )


def spans(text: bytes, pattern: bytes) -> set[int]:
    return {at for match in re.finditer(pattern, text) for at in range(*match.span(1))}


HINTS = (rb'"keyid":"([^"]*)"', rb'"pck_crl_chain":"([^"]*)"')
"""What a document carries and nothing rests on: names of keys, and certificates that the quote brings itself."""


def test_a_receipt_with_a_changed_byte_is_never_accepted(desk, tmp_path):
    good, chance, path = desk["receipt.json"].read_bytes(), random.Random(8), tmp_path / "receipt.json"
    words = ["--policy", desk["policy.toml"], *desk.trust, "--broker-fingerprint", desk.fingerprint, JSON_SUFFIX]
    hints = set().union(*(spans(good, pattern) for pattern in HINTS))
    places = [at for at in range(len(good)) if at not in hints]
    tried = {(at, chance.randrange(7)) for at in chance.sample(places, 60)}
    tried |= {(at, 0) for at in chance.sample(sorted(spans(good, rb'"chain":"sha256:([0-9a-f]{64})"')), 3)}
    tried |= {(at, 0) for at in chance.sample(sorted(spans(good, rb'"(?:sig|payload)":"[^"=]*([^"=])=+"')), 3)}
    seen = set()
    for at, bit in sorted(tried):
        path.write_bytes(good[:at] + bytes([good[at] ^ 1 << bit]) + good[at + 1 :])
        ended = call("receipt", "verify", path, *words)
        assert ended.code in {1, 3}, (good[max(0, at - 80) : at + 20], ended)
        assert "Traceback" not in ended.out + ended.err
        seen.add(ended.error["code"])
    assert {"record.malformed", "appraisal.refused"} <= seen


# --- policies -------------------------------------------------------------------------------------------------------


def test_a_policy_in_toml_that_lacks_a_member_or_has_one_too_many_is_refused(desk, tmp_path):
    lines = desk["policy.toml"].read_text().splitlines(keepends=True)
    members = [number for number, line in enumerate(lines) if " = " in line]
    assert len(members) > 20
    path, target = tmp_path / "policy.toml", tmp_path / "signed.json"
    for number in members:
        path.write_text("".join(lines[:number] + lines[number + 1 :]))
        ended = call("policy", "sign", path, "--identity", desk["owner.pem"], "-o", target, JSON_SUFFIX)
        assert (ended.code, ended.error["code"]) == (3, "record.malformed"), lines[number]
    refused = desk.refused(3, "record.malformed")
    for text in (
        "surprise = 1\n",
        "levels = []\n",
        "= 1\n",
        '"\n',
        "version = " + "9" * 5000 + "\n",
        "[[[\n",
        "\x00\n",
    ):
        path.write_text(text + "".join(line for line in lines if not line.startswith("levels")))
        refused("policy", "check", path)
    path.write_bytes(b"\xff" + desk["policy.toml"].read_bytes())
    refused("policy", "check", path)
    assert not target.exists()


def test_an_unsigned_or_foreign_policy_never_comes_into_force(desk, tmp_path):
    envelope = json.loads(desk["policy.json"].read_bytes())
    unsigned = tmp_path / "unsigned.json"
    unsigned.write_text(json.dumps({**envelope, "signatures": []}))
    before = desk.world.admin.policies()
    desk.refused(3, "record.malformed")("policy", "put", desk["policy.toml"], *desk.at_broker)
    desk.refused(3, "record.malformed")("policy", "put", unsigned, *desk.at_broker)
    desk.refused(1, "signature.invalid")("policy", "put", desk["foreign.json"], *desk.at_broker)
    desk.refused(1, "signature.invalid")("policy", "check", desk["foreign.json"], "--owner", desk["owner.pem.pub"])
    desk.refused(2, "usage")("policy", "check", desk["foreign.json"])
    stranger = ["--broker", desk.broker, "--broker-fingerprint", desk.fingerprint, "--identity", desk["stranger.pem"]]
    desk.refused(1, "admin.not_authorised")("policy", "put", desk["policy.json"], *stranger)
    assert desk.world.admin.policies() == before


def test_a_target_that_is_already_there_is_never_overwritten(desk, tmp_path):
    there = tmp_path / "there"
    there.write_bytes(b"mine")
    refused = desk.refused(2, "usage")
    refused("keys", "new", there)
    refused("policy", "sign", desk["policy.toml"], "--identity", desk["owner.pem"], "-o", there)
    refused("policy", "new", "p", "--evidence", desk["bundle.json"], "--artifact", "sha256:" + "0" * 64, "-o", there)
    assert there.read_bytes() == b"mine"


def test_half_a_key_pair_is_never_left(desk, tmp_path):
    (tmp_path / "key.pub").write_bytes(b"mine")
    desk.refused(2, "usage")("keys", "new", tmp_path / "key")
    assert [path.name for path in tmp_path.iterdir()] == ["key.pub"]


# --- artifacts and keys at the broker -------------------------------------------------------------------------------


def test_an_artifact_that_is_not_there_or_is_not_one(desk, tmp_path):
    signer, key = ["--signer", desk["owner.pem.pub"]], desk["plain.bin"]
    empty, odd = tmp_path / "empty", tmp_path / "odd"
    empty.mkdir()
    odd.mkdir()
    (odd / "index.json").write_text('{"manifests": 5}')
    for place in (f"dir:{desk['missing']}", f"dir:{desk['registry']}:nothing", f"dir:{empty}"):
        desk.refused(3, "file.unreadable")("inspect", place)
        desk.refused(3, "file.unreadable")("open", place, tmp_path / "out", "--key", key, *signer)
    desk.refused(3, "sealed.malformed")("inspect", f"dir:{odd}")
    for place in ("registry", "oci://host", "dir:", "s3://bucket"):
        desk.refused(2, "usage")("inspect", place)
    assert not (tmp_path / "out").exists()


def test_sealing_under_a_key_that_the_broker_does_not_have_leaves_nothing(desk, tmp_path):
    target = f"dir:{tmp_path / 'registry'}:x"
    words = ["seal", desk["plain.bin"], target, "--key", "unheard-of", *desk.at_broker]
    desk.refused(2, "usage")(*words)
    desk.refused(2, "usage")("seal", desk["plain.bin"], target, "--identity", desk["owner.pem"])
    desk.refused(2, "usage")("seal", desk["missing"], target, "--identity", desk["owner.pem"])
    assert not (tmp_path / "registry").exists()


def test_a_broker_that_is_away_or_another_one(desk):
    with socket.create_server(("127.0.0.1", 0)) as held:
        nobody = f"http://127.0.0.1:{held.getsockname()[1]}"
    away = ["--broker", nobody, "--broker-fingerprint", desk.fingerprint, "--identity", desk["owner.pem"]]
    other = ["--broker", desk.broker, "--broker-fingerprint", "sha256:" + "1" * 64, "--identity", desk["owner.pem"]]
    for words in (["keys", "list"], ["leases", "list"], ["policy", "put", desk["policy.json"]]):
        desk.refused(4, "service.unavailable")(*words, *away)
        desk.refused(1, "signature.invalid")(*words, *other)
    desk.refused(2, "usage")("keys", "list", "--broker", "not an address", *away[2:])
    desk.refused(2, "usage")("keys", "list", "--broker", desk.broker, "--broker-fingerprint", "x", *away[4:])
    desk.refused(4, "service.unavailable")("chat", nobody, "Hi", "--policy", desk["policy.toml"], *desk.trust)
    desk.refused(4, "service.unavailable")("chat", desk.broker, "Hi", "--policy", desk["policy.toml"], *desk.trust)
    desk.refused(2, "usage")("chat", "ftp://x", "Hi", "--policy", desk["policy.toml"], *desk.trust)


def test_a_user_is_refused_with_the_policy_of_another_model(desk, tmp_path):
    path = tmp_path / "policy.toml"
    path.write_text(to_toml(replace(desk.world.policy, artifacts=Requirement(one_of=("sha256:" + "5" * 64,)))))
    ended = desk.refused(1, "appraisal.refused")("chat", desk.worker, "Hi", "--policy", path, *desk.trust)
    assert "artifacts" in ended.error["detail"]


# --- the broker's own state -----------------------------------------------------------------------------------------


@pytest.fixture
def state(desk, tmp_path) -> Path:
    """The state directory of a broker that has run and was stopped in order."""
    from strongroom.release.opening import open_broker

    folder = tmp_path / "state"
    made = open_broker(
        folder, anchors=desk.world.anchors, owners=[desk.world.owner.public_key()], profile="development"
    )
    who = made.identity.fingerprint
    made.administration.create_key("one", "policy", who=who, now=1)
    made.administration.create_key("two", "policy", who=who, now=1)
    made.close()
    return folder


def serve(desk: Desk, state: Path, **changed: str) -> list[str | Path]:
    told = {"profile": "development", "listen": "127.0.0.1:0"} | changed
    options = [word for name, value in told.items() for word in (f"--{name}", value)]
    return [
        "broker",
        "serve",
        "--state",
        state,
        "--owner",
        desk["owner.pem.pub"],
        "--anchor",
        desk.world.anchor_file,
        *options,
    ]


def overwrite(path: Path, at: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        file.write(data)


def sql(*statements: str) -> Callable[[Path], None]:
    def act(path: Path) -> None:
        with contextlib.closing(sqlite3.connect(path)) as connection, connection:
            for statement in statements:
                connection.execute(statement)

    return act


def replaced(path: Path, make: Callable[[Path], None]) -> None:
    path.unlink()
    make(path)


DAMAGES: dict[str, Callable[[Path], None]] = {
    "other bytes": lambda path: path.write_bytes(random.Random(9).randbytes(9000)),
    "a text": lambda path: path.write_text("this is a text"),
    "a damaged header": lambda path: overwrite(path, 16, b"\xff" * 60),
    "damaged pages": lambda path: overwrite(path, 4096, b"\xa5" * (path.stat().st_size - 4096)),
    "half of the file": lambda path: os.truncate(path, path.stat().st_size // 2),
    "a newer schema": sql("PRAGMA user_version = 99"),
    "another program's database": lambda path: replaced(path, sql("CREATE TABLE t (x)", "PRAGMA application_id = 1")),
    "a leaf that was removed": sql("DELETE FROM leaves WHERE position = 1"),
    "a leaf that was changed": sql("UPDATE leaves SET leaf = x'00' WHERE position = 0"),
    "a checkpoint that was changed": sql("UPDATE meta SET value = 'x' WHERE name = 'checkpoint'"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_database_is_refused_and_left_as_it_is(desk, state, damage):
    DAMAGES[damage](state / "broker.db")
    before = (state / "broker.db").read_bytes()
    ended = desk.refused(4, "store.unavailable")(*serve(desk, state))
    assert (state / "broker.db").read_bytes() == before
    assert "newer" in ended.error["remedy"] or damage != "a newer schema"


def test_a_broker_without_its_keys_or_with_open_ones_does_not_start(desk, state):
    (state / "keys" / "root.key").chmod(0o644)
    desk.refused(3, "file.unreadable")(*serve(desk, state))
    (state / "keys" / "root.key").chmod(0o600)
    (state / "keys" / "root.key").write_bytes(b"short")
    desk.refused(3, "file.unreadable")(*serve(desk, state))
    (state / "keys" / "root.key").unlink()
    desk.refused(3, "file.unreadable")(*serve(desk, state))
    (state / "keys").rename(state / "elsewhere")
    desk.refused(4, "store.unavailable")(*serve(desk, state))
    assert not (state / "keys").exists(), "new keys were made over an old database"


def test_a_second_broker_on_one_database_is_refused(desk):
    desk.refused(4, "store.unavailable")(*serve(desk, desk.folder / "broker"))


def test_a_state_directory_that_cannot_be_one(desk, tmp_path):
    blocked = tmp_path / "file"
    blocked.write_bytes(b"")
    desk.refused(2, "usage")(*serve(desk, blocked))
    desk.refused(3, "file.unreadable")(*serve(desk, blocked / "below"))


def test_a_port_in_use_is_said_to_be_so(desk, state, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as held:
        taken = f"127.0.0.1:{held.getsockname()[1]}"
        desk.refused(4, "service.address_in_use")(*serve(desk, state, listen=taken))
        proxy = ["proxy", desk.worker, "--policy", desk["policy.toml"], *desk.trust]
        receipts = tmp_path / "receipts"
        text = call(*proxy, "--listen", taken, "--receipts", receipts)
        assert text.code == 4
        assert "service.address_in_use" in text.err
        assert call(*proxy, "--listen", taken, JSON_SUFFIX).error["code"] == "service.address_in_use"
        done = processes.run(*serve(desk, state, listen=taken))
        assert (done.code, done.error) == (4, "service.address_in_use")
    for listen in ("nowhere", "127.0.0.1:99999", "127.0.0.1:x", ":1"):
        desk.refused(2, "usage")(*serve(desk, state, listen=listen))
    desk.refused(2, "usage")(*proxy, "--listen", "0.0.0.0:0")


def test_production_beside_the_simulator_is_refused_before_anything_is_made(desk, tmp_path):
    refused = desk.refused(1, "appraisal.simulated")
    refused(*serve(desk, tmp_path / "state", profile="production"))
    refused("broker", "serve", "--state", tmp_path / "state", "--owner", desk["owner.pem.pub"])
    assert list(tmp_path.iterdir()) == []


# --- workers --------------------------------------------------------------------------------------------------------


def test_a_worker_where_there_is_no_tee_does_not_start(desk, tmp_path):
    done = processes.run("serve", f"dir:{desk['registry']}:model", *desk.told(**{"tee-root": tmp_path}))
    assert (done.code, done.error) == (4, "device.unavailable")


def test_a_production_worker_at_a_simulated_tee_does_not_start(desk):
    done = processes.run("serve", f"dir:{desk['registry']}:model", *desk.told(profile="production"))
    assert done.code in {1, 2, 4}
    assert done.error in {"usage", "device.unavailable", "confinement.unavailable", "appraisal.simulated"}


@pytest.mark.parametrize(("content", "code"), [(None, "file.unreadable"), (b"{}", "record.malformed")])
def test_a_worker_without_good_collateral_ends_before_it_asks_for_a_key(desk, tmp_path, content, code):
    collateral, stop = tmp_path / "collateral.json", threading.Event()
    if content is not None:
        collateral.write_bytes(content)
    with abi.Device(desk.world.place().device, tmp_path / "tee") as device:
        serving = threading.Thread(target=device.serve, args=(stop.is_set,))
        serving.start()
        told = desk.told(**{"tee-root": tmp_path / "tee", "collateral": collateral})
        done = processes.run("serve", f"dir:{desk['registry']}:model", *told)
        stop.set()
        serving.join()
    assert (done.code, done.error) == (3, code)


def test_a_worker_whose_port_is_taken_has_wiped_when_it_says_so(desk):
    engine = EchoEngine()
    with (
        socket.create_server(("127.0.0.1", 0)) as held,
        desk.world.serving(engine, port=held.getsockname()[1]) as served,
    ):
        assert served.ended()
    assert served.error.code == "service.address_in_use"
    assert engine.killed


# --- over HTTP ------------------------------------------------------------------------------------------------------

PATHS = {
    "/v1/challenges": 64 * 1024,
    "/v1/releases": 1024 * 1024,
    "/v1/leases/x/renew": 1024 * 1024,
    "/v1/receipts": 64 * 1024,
    "/v1/keys": 512 * 1024,
    "/v1/keys/x/wrap": 512 * 1024,
    "/v1/policies": 512 * 1024,
}


def announced(url: str, path: str, length: int, *, chunked: bool = False) -> tuple[int, dict[str, str]]:
    """The answer to a request whose body never comes, or comes without end."""
    host, _, port = url.removeprefix("http://").partition(":")
    framing = "transfer-encoding: chunked" if chunked else f"content-length: {length}"
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        connection.sendall(f"POST {path} HTTP/1.1\r\nhost: {host}\r\n{framing}\r\n\r\n".encode())
        sent = 0
        with contextlib.suppress(ConnectionError):
            while chunked and sent <= length:
                connection.sendall(b"4000\r\n" + b"x" * 0x4000 + b"\r\n")
                sent += 0x4000
        answer = b""
        with contextlib.suppress(ConnectionError):
            while b"\r\n\r\n" not in answer or not answer.endswith(b"}"):
                if not (part := connection.recv(65536)):
                    break
                answer += part
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split(b" ")[1]), json.loads(body)


@pytest.mark.parametrize("path", PATHS)
def test_an_oversize_body_is_refused_before_it_is_read(desk, path):
    status, problem = announced(desk.broker, path, PATHS[path] + 1)
    assert (status, problem["code"]) == (413, "record.malformed")
    status, problem = announced(desk.broker, path, PATHS[path] + 1, chunked=True)
    assert (status, problem["code"]) == (413, "record.malformed")


@pytest.mark.parametrize("kind", BREAKS | VERSIONED)
def test_a_broken_record_over_http_is_a_problem_with_a_code(desk, kind):
    good = {
        "/v1/challenges": b'{"purpose":"release","type":"strongroom/challenge-request/v1"}',
        "/v1/releases": codec.encode(release_request(desk)),
    }
    size = desk.world.broker.store.read(lambda reader: reader.log_size())
    for path, body in good.items():
        answer = httpx2.post(desk.broker + path, content=(BREAKS | VERSIONED)[kind](body))
        assert answer.status_code == 400
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["code"] == "record.malformed"
        assert answer.json()["remedy"]
    assert desk.world.broker.store.read(lambda reader: reader.log_size()) == size


def release_request(desk: Desk):
    from strongroom.records.release import PURPOSE_RELEASE, KeyRequest, ReleaseRequest, Use

    opener = desk.world.opener()
    bundle = codec.decode(type(desk.world.client(desk.worker).verify().bundle), desk["bundle.json"].read_bytes())
    challenge = desk.world.admin.challenge(PURPOSE_RELEASE)
    return ReleaseRequest(challenge, bundle, (KeyRequest(opener.digest, opener.wrapped, Use.OPEN),))


def test_a_key_that_the_broker_does_not_have_is_refused_as_403(desk):
    request = release_request(desk)
    wrapped = replace(request.keys[0].wrapped, key_id="unheard-of")
    body = codec.encode(replace(request, keys=(replace(request.keys[0], wrapped=wrapped),)))
    answer = httpx2.post(desk.broker + "/v1/releases", content=body)
    assert (answer.status_code, answer.json()["code"], answer.json()["detail"]) == (
        403,
        "release.refused",
        "key.unknown",
    )


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nothing", 404),
        ("GET", "/v1/releases", 405),
        ("DELETE", "/v1/keys", 405),
        ("GET", "/tile/0/999", 404),
        ("GET", "/tile/../../etc/passwd", 404),
        ("GET", "/v1/keys", 401),
        ("POST", "/v1/policies", 401),
    ],
)
def test_any_other_request_is_a_problem_too(desk, method, path, status):
    answer = httpx2.request(method, desk.broker + path)
    assert answer.status_code == status
    assert answer.json()["code"] in {"usage", "admin.not_authorised"}
    assert "Traceback" not in answer.text


def test_a_worker_takes_no_content_in_the_clear_and_no_odd_request_for_evidence(desk):
    clear = httpx2.post(desk.worker + "/v1/chat/completions", json={"messages": []})
    assert clear.status_code == 403
    assert clear.json()["error"]["code"] == "channel.refused"
    path = desk.worker + "/.well-known/strongroom/evidence"
    for body in (b"", b"{}", b'{"type":"strongroom/evidence-request/v2","nonce":""}', b"x" * 10_000):
        answer = httpx2.post(path, content=body)
        assert 400 <= answer.status_code < 500, (body, answer.status_code)
        assert answer.json()["error"]["code"]
        time.sleep(0.06)  # the worker gives evidence at a bounded rate
    short = b'{"type":"strongroom/evidence-request/v1","nonce":"AAAA"}'
    assert 400 <= httpx2.post(path, content=short).status_code < 500


# --- every command --------------------------------------------------------------------------------------------------


def leaves(command: click.Command, words: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            found = command.get_command(context, name)
            assert found is not None
            yield from leaves(found, (*words, name))
    else:
        yield words, command


EVERY = dict(leaves(main.strongroom))


@pytest.mark.parametrize("words", EVERY, ids=" ".join)
def test_every_command_speaks_json_also_of_its_errors(words):
    assert any(JSON_SUFFIX in parameter.opts for parameter in EVERY[words].params), "it has no --json"
    ended = call(*words, "--no-such-option", JSON_SUFFIX)
    assert (ended.code, ended.error["code"]) == (2, "usage")
    assert "--no-such-option" in ended.error["message"]


def test_an_unknown_command_is_a_usage_error(desk):
    desk.refused(2, "usage")("no-such-command")
    desk.refused(2, "usage")("keys", "no-such-command")


def test_a_command_that_is_interrupted_says_so_and_leaves_nothing(desk, monkeypatch, tmp_path):
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(BrokerClient, "wrap", interrupted)
    words = ["seal", desk["plain.bin"], f"dir:{tmp_path / 'registry'}", "--key", "model", *desk.at_broker]
    ended = call(*words, JSON_SUFFIX)
    assert (ended.code, ended.error["code"]) == (4, "unavailable")
    assert list(tmp_path.iterdir()) == []
