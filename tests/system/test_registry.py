"""Debian's real registry (docker-registry 2.8): what we put there is what others take, and what they keep is what we get.

Peers: skopeo and oras-py, which know nothing of sealed artifacts. The registry has no referrers API, so signatures are
found by the fallback tag.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest

from strongroom.crypto.hpke import ReleaseKey
from strongroom.crypto.signatures import generate_p256, private_to_pem, public_to_pem
from strongroom.demo import processes
from strongroom.demo import registry as registries
from strongroom.demo.canaries import Canary, hunt
from strongroom.demo.processes import Process
from strongroom.demo.stack import stack

pytestmark = pytest.mark.needs("docker-registry")

PASSWORD = "rain"
HASH = "$2b$05$abcdefghijklmnopqrstuuKp9zB1RaekCvrZrb628mJeaLkYv1Dqe"
MIB = 1 << 20
KILLS = 3


@dataclass(frozen=True)
class Running:
    """A registry that runs; `storage` is where it keeps what it has."""

    place: str
    storage: Path

    def blob(self, digest: str) -> Path:
        name = digest.removeprefix("sha256:")
        return self.storage / "docker" / "registry" / "v2" / "blobs" / "sha256" / name[:2] / name / "data"


@contextmanager
def running(folder: Path, *, htpasswd: Path | None = None) -> Iterator[Running]:
    """docker-registry on a free port, with its storage in `folder`."""
    process = Process(registries.command(folder, htpasswd=htpasswd), folder / "log")
    try:
        yield Running(registries.address(process), folder / "storage")
    finally:
        process.stop()


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tmp_path_factory.mktemp("registry")) as made:
        yield made


@dataclass(frozen=True)
class Owner:
    """Keys in files, and a folder to seal."""

    folder: Path

    def seal(self, reference: str, *, source: str = "model") -> str:
        words = ["seal", self.folder / source, reference, "--identity", self.folder / "owner.pem"]
        return str(processes.must(*words, "--recipient", self.folder / "recipient.pub")["digest"])

    def open(self, reference: str, target: Path) -> None:
        words = ["open", reference, target, "--key", self.folder / "recipient", "--signer", self.folder / "owner.pub"]
        processes.must(*words)

    def signed(self, reference: str) -> bool:
        return bool(processes.must("inspect", reference, "--signer", self.folder / "owner.pub")["signed"])


@pytest.fixture(scope="module")
def owner(tmp_path_factory: pytest.TempPathFactory) -> Owner:
    folder = tmp_path_factory.mktemp("owner")
    signer, recipient = generate_p256(), ReleaseKey.generate()
    (folder / "owner.pem").write_bytes(private_to_pem(signer))
    (folder / "owner.pub").write_bytes(public_to_pem(signer.public_key()))
    (folder / "recipient").write_bytes(recipient.to_bytes())
    (folder / "recipient.pub").write_bytes(recipient.public)
    (folder / "model" / "deep").mkdir(parents=True)
    (folder / "model" / "weights.bin").write_bytes(random.Random(1).randbytes(9 * MIB + 17))
    (folder / "model" / "deep" / "empty").write_bytes(b"")
    (folder / "large").mkdir()
    (folder / "large" / "weights.bin").write_bytes(random.Random(2).randbytes(96 * MIB))
    return Owner(folder)


def tree(folder: Path) -> dict[str, str]:
    """Every file below a folder, by its path: the digest of its content."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            with path.open("rb") as file:
                found[path.relative_to(folder).as_posix()] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


@pytest.mark.interop("artifact in docker-registry", "strongroom", "strongroom")
def test_what_is_sealed_to_a_registry_opens_from_it(owner: Owner, registry: Running, tmp_path: Path):
    reference = f"oci://{registry.place}/team/model:v1"
    digest = owner.seal(reference)
    assert owner.signed(reference)
    owner.open(f"oci://{registry.place}/team/model@{digest}", tmp_path / "out")
    assert tree(tmp_path / "out") == tree(owner.folder / "model")
    tags = httpx2.get(f"http://{registry.place}/v2/team/model/tags/list", trust_env=False).json()["tags"]
    assert sorted(tags) == ["sha256-" + digest.removeprefix("sha256:"), "v1"]


def test_a_copy_to_a_registry_and_back_is_the_same_byte_for_byte(owner: Owner, registry: Running, tmp_path: Path):
    digest = owner.seal(f"dir:{tmp_path / 'here'}:v1")
    there = f"oci://{registry.place}/team/copy:v1"
    for source, target in ((f"dir:{tmp_path / 'here'}:v1", there), (there, f"dir:{tmp_path / 'back'}:v1")):
        copied = processes.must("copy", source, target)
        assert (copied["digest"], copied["signatures"], copied["there_before"]) == (digest, 1, 0)
    assert tree(tmp_path / "back") == tree(tmp_path / "here")
    again = processes.must("copy", there, f"dir:{tmp_path / 'back'}:v1")
    assert again["there_before"] == again["bytes"]


def test_a_byte_that_the_registry_changed_is_refused(owner: Owner, registry: Running, tmp_path: Path):
    reference = f"oci://{registry.place}/team/flipped:v1"
    digest = owner.seal(reference)
    manifest = json.loads(registry.blob(digest).read_bytes())
    layer = max(manifest["layers"], key=lambda item: item["size"])
    with registry.blob(layer["digest"]).open("r+b") as file:
        file.seek(3 * MIB)
        byte = file.read(1)
        file.seek(3 * MIB)
        file.write(bytes([byte[0] ^ 1]))
    opened = processes.run(
        "open", reference, tmp_path / "out", "--key", owner.folder / "recipient", "--signer", owner.folder / "owner.pub"
    )
    assert (opened.code, opened.error) == (1, "sealed.broken")
    copied = processes.run("copy", reference, f"dir:{tmp_path / 'copy'}:v1")
    assert (copied.code, copied.error) == (1, "sealed.broken")
    assert layer["digest"] in copied.document["error"]["detail"]
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "copy" / "blobs" / "sha256" / layer["digest"].removeprefix("sha256:")).exists()


def test_what_is_not_there_or_nobody_answers_is_said_by_its_code(registry: Running):
    for name, code, error in (
        (f"{registry.place}/team/never:v1", 3, "file.unreadable"),
        (f"{registry.place}/team/never@sha256:{'0' * 64}", 3, "file.unreadable"),
        ("127.0.0.1:1/team/never:v1", 4, "service.unavailable"),
        (f"{registry.place}/Team/never:v1", 2, "usage"),
    ):
        refused = processes.run("inspect", f"oci://{name}")
        assert (refused.code, refused.error) == (code, error)


# --- killed ---------------------------------------------------------------------------------------------------------------


def killed(words: list[str | Path], when: Callable[[], bool]) -> None:
    """Run a command and kill it (SIGKILL) as soon as `when` says so; it must not have ended before."""
    process = subprocess.Popen(processes.command(*words), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(60_000):
            if when() or process.poll() is not None:
                break
            time.sleep(0.0005)
        assert process.poll() is None, "it ended before it could be killed"
    finally:
        process.kill()
        process.wait()
    assert process.returncode == -signal.SIGKILL


def bytes_in(folder: Path, pattern: str) -> int:
    total = 0
    for path in folder.glob(pattern):
        try:
            total += path.stat().st_size
        except FileNotFoundError:
            continue
    return total


def test_a_copy_into_a_folder_that_is_killed_goes_on_where_it_stopped(owner: Owner, registry: Running, tmp_path: Path):
    reference = f"oci://{registry.place}/team/large:v1"
    owner.seal(reference, source="large")
    target, blobs = f"dir:{tmp_path / 'copy'}:v1", tmp_path / "copy" / "blobs" / "sha256"
    for number in range(KILLS):
        killed(["copy", reference, target], lambda: bytes_in(blobs, ".known-*") > (number + 1) * 8 * MIB)  # noqa: B023
        assert processes.run("inspect", target).error == "file.unreadable"
    left = bytes_in(blobs, ".known-*")
    copied = processes.must("copy", reference, target)
    assert left >= KILLS * 8 * MIB
    assert copied["there_before"] >= left
    assert bytes_in(blobs, ".*") == 0
    owner.open(target, tmp_path / "out")
    assert tree(tmp_path / "out") == tree(owner.folder / "large")


def test_a_copy_to_a_registry_that_is_killed_skips_what_is_there(owner: Owner, registry: Running, tmp_path: Path):
    source, target = f"dir:{tmp_path / 'here'}:v1", f"oci://{registry.place}/team/killed:v1"
    digest = owner.seal(source, source="large")
    uploads = registry.storage / "docker/registry/v2/repositories/team/killed/_uploads"
    for _ in range(KILLS):
        killed(["copy", source, target], lambda: bytes_in(uploads, "*/data") > 8 * MIB)
        assert processes.run("inspect", target).error == "file.unreadable"
    copied = processes.must("copy", source, target)
    assert copied["there_before"] > 0  # all but the layer that was under way
    assert copied["digest"] == digest
    assert owner.signed(target)


@contextmanager
def cut_once(place: str, after: int) -> Iterator[str]:
    """The way to `place` by a relay that cuts one connection after so many bytes."""
    host, _, port = place.partition(":")
    listener, cuts = socket.create_server(("127.0.0.1", 0)), [after]

    def pump(source: socket.socket, sink: socket.socket, limits: list[int]) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
                if limits:
                    limits[0] -= len(data)
                    if limits[0] < 0:
                        limits.clear()
                        break
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                inward, _ = listener.accept()
                outward = socket.create_connection((host, int(port)))
                threading.Thread(target=pump, args=(inward, outward, cuts), daemon=True).start()
                threading.Thread(target=pump, args=(outward, inward, []), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield f"127.0.0.1:{listener.getsockname()[1]}"
        assert not cuts, "nothing was cut"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def test_a_copy_survives_a_connection_that_is_cut_in_the_middle_of_a_chunk(
    owner: Owner, registry: Running, tmp_path: Path
):
    digest = owner.seal(f"dir:{tmp_path / 'here'}:v1", source="large")
    with cut_once(registry.place, 10 * MIB) as place:
        copied = processes.must("copy", f"dir:{tmp_path / 'here'}:v1", f"oci://{place}/team/cut:v1")
    assert copied["digest"] == digest
    owner.open(f"oci://{registry.place}/team/cut:v1", tmp_path / "out")
    assert tree(tmp_path / "out") == tree(owner.folder / "large")


# --- peers ----------------------------------------------------------------------------------------------------------------


@pytest.mark.needs("skopeo")
@pytest.mark.interop("artifact in docker-registry", "strongroom", "skopeo (Debian)")
@pytest.mark.interop("artifact in docker-registry", "skopeo (Debian), copying", "strongroom")
def test_skopeo_takes_what_we_put_there_and_we_take_what_skopeo_put_there(
    owner: Owner, registry: Running, tmp_path: Path
):
    digest = owner.seal(f"oci://{registry.place}/team/skopeo:v1")
    copy = ["skopeo", "--insecure-policy", "copy", "--quiet", "--src-tls-verify=false", "--dest-tls-verify=false"]
    subprocess.run([*copy, f"docker://{registry.place}/team/skopeo:v1", f"dir:{tmp_path / 'dir'}"], check=True)
    manifest = (tmp_path / "dir" / "manifest.json").read_bytes()
    assert "sha256:" + hashlib.sha256(manifest).hexdigest() == digest
    for layer in json.loads(manifest)["layers"]:
        name = layer["digest"].removeprefix("sha256:")
        assert hashlib.sha256((tmp_path / "dir" / name).read_bytes()).hexdigest() == name
    there, listing = f"docker://{registry.place}/team/moved", "sha256-" + digest.removeprefix("sha256:")
    subprocess.run([*copy, f"dir:{tmp_path / 'dir'}", f"{there}:v2"], check=True)
    signature = ["--all", f"docker://{registry.place}/team/skopeo:{listing}", f"{there}:{listing}"]
    subprocess.run([*copy, *signature], check=True)
    moved = f"oci://{registry.place}/team/moved@{digest}"
    assert owner.signed(moved)
    owner.open(moved, tmp_path / "out")
    assert tree(tmp_path / "out") == tree(owner.folder / "model")


@pytest.mark.interop("artifact in docker-registry", "strongroom", "oras (PyPI)")
def test_oras_takes_what_we_put_there(owner: Owner, registry: Running, tmp_path: Path):
    digest = owner.seal(f"oci://{registry.place}/team/oras:v1")
    script = (
        "import sys, oras.client\n"
        "made = oras.client.OrasClient(hostname=sys.argv[1], insecure=True)\n"
        "made.pull(target=sys.argv[1] + '/team/oras:v1', outdir=sys.argv[2])\n"
    )
    subprocess.run(
        [sys.executable, "-c", script, registry.place, tmp_path / "out"],
        check=True,
        capture_output=True,
        env={**os.environ, "HOME": str(tmp_path), "NO_PROXY": "127.0.0.1"},
    )
    layers = json.loads(registry.blob(digest).read_bytes())["layers"]
    assert tree(tmp_path / "out") == {layer["digest"]: layer["digest"].removeprefix("sha256:") for layer in layers}


# --- who are you? ---------------------------------------------------------------------------------------------------------


def test_a_registry_with_passwords_lets_in_who_is_logged_in(
    owner: Owner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    with running(tmp_path, htpasswd=users(tmp_path)) as closed:
        reference = f"oci://{closed.place}/team/model:v1"
        (tmp_path / "docker").mkdir()
        monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
        monkeypatch.delenv("REGISTRY_AUTH_FILE", raising=False)
        monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
        refused = processes.run("inspect", reference)
        assert (refused.code, refused.error) == (1, "admin.not_authorised")
        assert f"docker login {closed.place}" in refused.document["error"]["remedy"]
        log_in(tmp_path / "docker" / "config.json", closed.place, "wrong")
        assert processes.run("inspect", reference).error == "admin.not_authorised"
        log_in(tmp_path / "docker" / "config.json", closed.place, PASSWORD)
        owner.seal(reference)
        owner.open(reference, tmp_path / "out")
        assert tree(tmp_path / "out") == tree(owner.folder / "model")
        assert PASSWORD not in (tmp_path / "log").read_text()


@pytest.mark.needs("skopeo")
def test_a_login_by_skopeo_counts(owner: Owner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with running(tmp_path, htpasswd=users(tmp_path)) as closed:
        monkeypatch.setenv("REGISTRY_AUTH_FILE", str(tmp_path / "auth.json"))
        login = ["skopeo", "login", "--tls-verify=false", "--username", "ann", "--password-stdin", closed.place]
        subprocess.run(login, input=PASSWORD.encode(), check=True, capture_output=True)
        reference = f"oci://{closed.place}/team/model:v1"
        owner.seal(reference)
        assert owner.signed(reference)
        shutil.move(tmp_path / "auth.json", tmp_path / "gone.json")
        assert processes.run("inspect", reference).error == "file.unreadable"


def users(folder: Path) -> Path:
    """A file with one user, ann."""
    place = folder / "htpasswd"
    place.write_text(f"ann:{HASH}\n")
    return place


def log_in(path: Path, place: str, password: str) -> None:
    auth = base64.b64encode(f"ann:{password}".encode()).decode()
    path.write_text(json.dumps({"auths": {place: {"auth": auth}}}))


# --- the demo -------------------------------------------------------------------------------------------------------------


def test_the_demo_keeps_its_artifact_in_a_registry_that_the_host_and_an_attacker_can_look_into(
    owner: Owner, tmp_path: Path
):
    with stack(tmp_path) as made:
        assert made.use_registry() == "docker-registry on this machine"
        digest = owner.seal(f"{made.registry}:mine")
        (largest,) = [p for p in (made.host / "registry").rglob("data") if p.stat().st_size > MIB]
        seen, _ = hunt([Canary("a layer", largest.read_bytes()[MIB : MIB + 64])], [made.host])
        assert [one.file for one in seen] == ["data"]
        shutil.copytree(made.host / "registry", made.host / "copy")
        elsewhere = made.registry_over(made.host / "copy")
        assert elsewhere != made.registry
        assert owner.signed(f"{elsewhere}:mine")
        assert processes.must("inspect", f"{elsewhere}:mine")["digest"] == digest


@pytest.mark.needs("model")
def test_the_demo_without_a_registry_keeps_its_artifact_in_a_folder_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("PATH", str(tmp_path))
    with stack(tmp_path / "stack") as made:
        assert "docker-registry is not installed" in made.use_registry()
        assert made.registry_over(tmp_path) == f"dir:{tmp_path}"
    outcome = processes.run("demo")
    assert outcome.code == 0, outcome.document
    assert all(attack["refused"] for attack in outcome.document["attacks"])


def test_what_was_erased_is_gone_and_what_others_need_stays(owner: Owner, registry: Running, tmp_path: Path):
    one, two = (f"oci://{registry.place}/team/erased:{tag}" for tag in ("one", "two"))
    owner.seal(one)
    keys = ["--open-with", owner.folder / "recipient", "--recipient", owner.folder / "recipient.pub"]
    processes.must("copy", one, two)
    processes.must("rewrap", two, "--identity", owner.folder / "owner.pem", *keys)
    told = processes.must("erase", one, "--yes")
    assert told["still"] == []
    assert len(told["kept"]) == 4  # config, index and two files, which the rewrapped one shares
    assert "garbage" in " ".join(told["unreached"])
    assert processes.run("inspect", one).error == "file.unreadable"
    owner.open(two, tmp_path / "two")
    assert tree(tmp_path / "two") == tree(owner.folder / "model")
    assert processes.must("erase", two, "--yes")["kept"] == []
