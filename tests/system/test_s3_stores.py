"""Sealed artifacts in real S3 stores: moto, which knows conditional writes, and nanio, which ignores them.

What is proved here: our requests are those of the S3 API as two independent servers understand it, a copy of the bucket is an
OCI layout, nothing tampered opens, and writers at one time lose nothing, or say so.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import boto3
import pytest
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from werkzeug.serving import make_server

from strongroom.crypto.hpke import ReleaseKey
from strongroom.crypto.signatures import generate_p256
from strongroom.errors import (
    FileUnreadable,
    MalformedArtifact,
    NotAuthorised,
    SealBroken,
    ServiceUnavailable,
    SignatureInvalid,
    StrongroomError,
    UsageError,
)
from strongroom.records.artifact import ArtifactKind
from strongroom.records.digest import Digest, digest_bytes
from strongroom.sealed.erase import erase
from strongroom.sealed.open import Opener, inspect
from strongroom.sealed.registries import DirectoryRegistry, from_reference
from strongroom.sealed.registries.port import IMAGE_MANIFEST, write_small
from strongroom.sealed.registries.s3 import S3Registry
from strongroom.sealed.seal import seal
from strongroom.sealed.wrapping import unwrap, wrap_to

MIB = 1024 * 1024
PART = 5 * MIB  # the least that S3 takes
PREFIX = "team/models"
CONTENT = {"weights.bin": os.urandom(12 * MIB + 17), "notes.txt": b"trained on a rainy day", "empty": b""}
ANY_ERROR = (SealBroken, MalformedArtifact, SignatureInvalid, FileUnreadable)


class OneAtATime:
    """An application that answers one request at a time: S3 judges a condition and writes in one step, moto in two."""

    def __init__(self, application) -> None:
        self.application, self.lock = application, threading.Lock()

    def __call__(self, environ, start_response):
        with self.lock:
            return list(self.application(environ, start_response))


@pytest.fixture(scope="session")
def moto() -> Iterator[str]:
    application = OneAtATime(DomainDispatcherApplication(create_backend_app))
    server = make_server("127.0.0.1", 0, application, threaded=True, request_handler=MotoRequestHandler)
    serving = threading.Thread(target=server.serve_forever, daemon=True)
    serving.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    serving.join()
    server.server_close()


@pytest.fixture(scope="session")
def nanio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as found:
        port = found.getsockname()[1]
    folder = tmp_path_factory.mktemp("nanio")
    words = [sys.executable, "-m", "nanio", "serve", "--data-dir", str(folder), "--host", "127.0.0.1"]
    environment = os.environ | {"NANIO_ACCESS_KEY": "tester", "NANIO_SECRET_KEY": "not-a-secret"}
    with (
        (folder / "log").open("wb") as log,
        subprocess.Popen([*words, "--port", str(port)], env=environment, stdout=log, stderr=log) as process,
    ):
        try:
            _await_port(process, port)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(timeout=30)


def _await_port(process: subprocess.Popen[bytes], port: int) -> None:
    for _ in range(600):
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            assert process.poll() is None, "nanio ended"
            time.sleep(0.05)
        else:
            return
    raise AssertionError("nanio does not listen")


@dataclass
class Store:
    """A bucket of its own in one of the stores, as a test sees it from outside."""

    name: str
    client: object
    bucket: str

    @property
    def reference(self) -> str:
        return f"s3://{self.bucket}/{PREFIX}"

    def registry(self, *, part_bytes: int = PART) -> S3Registry:
        registry, _ = from_reference(self.reference)
        registry.part_bytes = part_bytes
        return registry

    def stored(self) -> list[str]:
        found = self.client.list_objects_v2(Bucket=self.bucket).get("Contents", [])
        return [item["Key"].removeprefix(PREFIX + "/") for item in found]

    def get(self, key: str) -> bytes:
        return self.client.get_object(Bucket=self.bucket, Key=f"{PREFIX}/{key}")["Body"].read()

    def put(self, key: str, data: bytes) -> None:
        self.client.put_object(Bucket=self.bucket, Key=f"{PREFIX}/{key}", Body=data)

    def delete(self, key: str) -> None:
        self.client.delete_object(Bucket=self.bucket, Key=f"{PREFIX}/{key}")

    def uploads(self) -> list[object]:
        return self.client.list_multipart_uploads(Bucket=self.bucket).get("Uploads", [])


def _store(name: str, url: str, monkeypatch: pytest.MonkeyPatch) -> Store:
    for variable, value in (
        ("AWS_ENDPOINT_URL", url),
        ("AWS_ACCESS_KEY_ID", "tester"),
        ("AWS_SECRET_ACCESS_KEY", "not-a-secret"),
        ("AWS_DEFAULT_REGION", "us-east-1"),
        ("AWS_EC2_METADATA_DISABLED", "true"),
        ("AWS_CONFIG_FILE", "/dev/null"),
        ("AWS_SHARED_CREDENTIALS_FILE", "/dev/null"),
        ("NO_PROXY", "127.0.0.1"),
    ):
        monkeypatch.setenv(variable, value)
    client = boto3.client("s3")
    bucket = f"b-{os.urandom(8).hex()}"
    client.create_bucket(Bucket=bucket)
    return Store(name, client, bucket)


@pytest.fixture(params=["moto", "nanio"])
def store(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Store:
    return _store(request.param, request.getfixturevalue(request.param), monkeypatch)


@pytest.fixture
def conditional(moto: str, monkeypatch: pytest.MonkeyPatch) -> Store:
    return _store("moto", moto, monkeypatch)


@pytest.fixture
def unconditional(nanio: str, monkeypatch: pytest.MonkeyPatch) -> Store:
    return _store("nanio", nanio, monkeypatch)


@pytest.fixture(scope="module")
def owner():
    return generate_p256()


@pytest.fixture(scope="module")
def recipient() -> ReleaseKey:
    return ReleaseKey.generate()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / "model").mkdir()
    for name, data in CONTENT.items():
        (tmp_path / "model" / name).write_bytes(data)
    return tmp_path / "model"


def sealed(store: Store, source: Path, owner, recipient: ReleaseKey, **options) -> Digest:
    wanted = {"kind": ArtifactKind.MODEL, "wrap": wrap_to([recipient.public]), "tag": "v1", **options}
    return seal(source, store.registry(), signer=owner, **wanted).digest


def contents(registry, reference: str, owner, recipient: ReleaseKey, target: Path) -> dict[str, bytes]:
    opener = Opener(registry, reference, signer_public=owner.public_key())
    with opener.open(unwrap(opener.header, recipient)) as artifact:
        artifact.into_directory(target)
    return {path.name: path.read_bytes() for path in target.iterdir()}


# What holds


@pytest.mark.interop("artifact in a bucket of moto and nanio", "strongroom", "strongroom")
def test_what_was_sealed_into_a_bucket_is_inspected_and_opened(store, source, owner, recipient, tmp_path):
    digest = sealed(store, source, owner, recipient)
    registry, reference = from_reference(f"{store.reference}:v1")
    assert inspect(registry, reference, signer_public=owner.public_key()).signed is True
    assert registry.resolve("v1") == digest
    assert contents(registry, digest, owner, recipient, tmp_path / "out") == CONTENT
    assert not [key for key in store.stored() if key.startswith("partial/")]
    assert store.uploads() == []


@pytest.mark.interop("artifact in a bucket, copied as a folder", "boto3 (PyPI), copying", "strongroom")
def test_a_copy_of_the_bucket_is_an_oci_layout(store, source, owner, recipient, tmp_path):
    sealed(store, source, owner, recipient)
    for key in store.stored():
        place = tmp_path / "layout" / key
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(store.get(key))
    assert json.loads((tmp_path / "layout" / "oci-layout").read_bytes()) == {"imageLayoutVersion": "1.0.0"}
    local = DirectoryRegistry(tmp_path / "layout")
    assert contents(local, "v1", owner, recipient, tmp_path / "out") == CONTENT


def test_a_blob_is_read_by_ranges_from_several_threads(store):
    data = os.urandom(3 * PART + 5)
    digest = write_small(store.registry(), data)
    assert digest == digest_bytes(data)
    with store.registry().open_blob(digest) as blob, ThreadPoolExecutor(4) as pool:
        assert blob.size == len(data)

        def read(offset: int) -> bytes:
            buffer = bytearray(min(MIB, len(data) - offset))
            blob.read_into(memoryview(buffer), offset)
            return bytes(buffer)

        assert b"".join(pool.map(read, range(0, len(data), MIB))) == data
        with pytest.raises(SealBroken, match="ends before"):
            blob.read_into(memoryview(bytearray(2)), len(data) - 1)


@pytest.mark.parametrize("size", [0, 1, PART - 1, PART, PART + 1, 2 * PART])
def test_blobs_of_every_length_at_the_edges_of_parts_are_kept(store, size):
    data = os.urandom(size)
    digest = write_small(store.registry(), data)
    assert store.stored() == ["blobs/sha256/" + digest.removeprefix("sha256:")]
    assert store.get(store.stored()[0]) == data


def test_a_blob_too_long_for_one_copy_is_copied_in_parts(conditional):
    registry = conditional.registry()
    registry.bucket = type(registry.bucket)(registry.bucket.client, registry.bucket.name, PREFIX, copy_bytes=PART)
    data = os.urandom(2 * PART + 7)
    digest = write_small(registry, data)
    assert conditional.stored() == ["blobs/sha256/" + digest.removeprefix("sha256:")]
    assert conditional.get(conditional.stored()[0]) == data
    assert conditional.uploads() == []


def test_a_store_that_does_not_copy_parts_is_caught(unconditional):
    registry = unconditional.registry()
    registry.bucket = type(registry.bucket)(registry.bucket.client, registry.bucket.name, PREFIX, copy_bytes=PART)
    with pytest.raises(ServiceUnavailable):
        write_small(registry, os.urandom(2 * PART + 7))
    assert unconditional.stored() == []


# What was tampered with


def layers(store: Store, digest: Digest) -> list[str]:
    manifest = json.loads(store.get("blobs/sha256/" + digest.removeprefix("sha256:")))
    return ["blobs/sha256/" + layer["digest"].removeprefix("sha256:") for layer in manifest["layers"]]


def flip(store: Store, keys: list[str]) -> None:
    data = bytearray(store.get(keys[-1]))
    data[len(data) // 2] ^= 1
    store.put(keys[-1], bytes(data))


def cut(store: Store, keys: list[str]) -> None:
    store.put(keys[-1], store.get(keys[-1])[:-1])


def lengthen(store: Store, keys: list[str]) -> None:
    store.put(keys[-1], store.get(keys[-1]) + b"\0")


def swap(store: Store, keys: list[str]) -> None:
    one, two = store.get(keys[-1]), store.get(keys[-2])
    store.put(keys[-1], two)
    store.put(keys[-2], one)


def lose(store: Store, keys: list[str]) -> None:
    store.delete(keys[-1])


@pytest.mark.parametrize("harm", [flip, cut, lengthen, swap, lose])
def test_a_changed_store_opens_nothing(store, source, owner, recipient, tmp_path, harm):
    digest = sealed(store, source, owner, recipient)
    harm(store, layers(store, digest))
    with pytest.raises(ANY_ERROR):
        contents(store.registry(), "v1", owner, recipient, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_blob_that_shrinks_while_it_is_open_is_noticed(store):
    registry = store.registry()
    digest = write_small(registry, b"0123456789")
    with registry.open_blob(digest) as blob:
        store.put("blobs/sha256/" + digest.removeprefix("sha256:"), b"0123")
        for offset in (2, 6):
            with pytest.raises(SealBroken):
                blob.read_into(memoryview(bytearray(4)), offset)


def test_an_index_that_was_rolled_back_shows_the_older_artifact_and_never_under_the_newer_digest(
    store, source, owner, recipient, tmp_path
):
    older = sealed(store, source, owner, recipient)
    rolled_back = store.get("index.json")
    (source / "notes.txt").write_bytes(b"a sunny day")
    newer = sealed(store, source, owner, recipient)
    store.put("index.json", rolled_back)
    registry = store.registry()
    assert registry.resolve("v1") == older, "a tag proves nothing"
    with pytest.raises(SignatureInvalid):
        contents(registry, newer, owner, recipient, tmp_path / "out")
    assert contents(registry, older, owner, recipient, tmp_path / "out") == CONTENT


def test_a_manifest_that_was_replaced_is_refused(store):
    registry = store.registry()
    digest = registry.put_manifest(b"{1}", media_type=IMAGE_MANIFEST, tag="one")
    store.put("blobs/sha256/" + digest.removeprefix("sha256:"), b"{2}")
    with pytest.raises(SealBroken, match="digest"):
        registry.get_manifest(digest)
    store.put("index.json", b"{}")
    with pytest.raises(MalformedArtifact):
        registry.resolve("one")


# What was interrupted


def test_an_upload_that_was_interrupted_leaves_nothing(store):
    with pytest.raises(TypeError), store.registry().push_blob() as writer:
        writer.write(os.urandom(3 * PART) + None)
    with store.registry().push_blob() as writer:
        writer.write(os.urandom(3 * PART))
        assert len(store.uploads()) == 1
    assert store.stored() == []
    assert store.uploads() == []


def test_a_writer_that_was_killed_leaves_nothing_under_a_digest(store):
    code = (
        "import os, sys\n"
        "from strongroom.sealed.registries import from_reference\n"
        f"registry, _ = from_reference({store.reference!r})\n"
        f"registry.part_bytes = {PART}\n"
        "with registry.push_blob() as writer:\n"
        f"    writer.write(os.urandom({4 * PART}))\n"
        "    print('up', flush=True)\n"
        "    sys.stdin.read()\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"up\n"
        process.kill()
        process.wait()
    assert [key for key in store.stored() if not key.startswith("partial/")] == []
    assert len(store.uploads()) == 1, "what a lifecycle rule takes away"
    write_small(store.registry(), b"others go on")


def test_a_sealing_that_fails_takes_back_what_it_put_there(store, source, owner, recipient):
    def refuse(*_: bytes) -> object:
        raise ServiceUnavailable("no broker")

    with pytest.raises(ServiceUnavailable, match="no broker"):
        sealed(store, source, owner, recipient, wrap=refuse)
    assert store.stored() == []


# Writers at one time


def race(store: Store, count: int) -> tuple[dict[str, Digest], dict[str, StrongroomError]]:
    """As many writers, each with a registry of its own: what they put, and what they were refused."""
    put: dict[str, Digest] = {}
    refused: dict[str, StrongroomError] = {}
    start = threading.Barrier(count)

    def write(number: int) -> None:
        registry = store.registry()
        start.wait()
        try:
            put[f"t{number}"] = registry.put_manifest(b"%d" % number, media_type=IMAGE_MANIFEST, tag=f"t{number}")
        except StrongroomError as error:
            refused[f"t{number}"] = error

    with ThreadPoolExecutor(count) as pool:
        list(pool.map(write, range(count)))
    return put, refused


def test_tags_of_writers_at_one_time_are_all_kept_where_conditions_hold(conditional):
    put, refused = race(conditional, 8)
    assert refused == {}
    registry = conditional.registry()
    assert {tag: registry.resolve(tag) for tag in put} == put
    assert len(put) == 8


def test_where_conditions_are_ignored_a_tag_that_is_lost_is_never_lost_silently(unconditional):
    put, refused = race(unconditional, 4)
    registry = unconditional.registry()
    assert {tag: registry.resolve(tag) for tag in put} == put
    assert len(put) + len(refused) == 4
    assert not [key for key in unconditional.stored() if key.startswith("partial/")]


def test_referrers_of_writers_at_one_time_are_all_kept(conditional):
    subject, kind = digest_bytes(b"subject"), "application/octet-stream"

    def attach(number: int) -> Digest:
        return conditional.registry().attach(subject, b"%d" % number, artifact_type=kind)

    with ThreadPoolExecutor(6) as pool:
        attached = set(pool.map(attach, range(6)))
    assert set(conditional.registry().referrers(subject, kind)) == attached
    assert len(attached) == 6


# What is refused


def test_a_bucket_that_is_not_there_and_a_name_that_is_not_there_are_unreadable(store):
    registry, reference = from_reference(f"s3://b-{os.urandom(8).hex()}/{PREFIX}")
    for attempt in (
        lambda: registry.resolve(reference),
        lambda: write_small(registry, b"x"),
        lambda: registry.put_manifest(b"{}", media_type=IMAGE_MANIFEST, tag="v1"),
        lambda: store.registry().resolve("missing"),
        lambda: store.registry().get_manifest(digest_bytes(b"missing")),
    ):
        with pytest.raises(FileUnreadable):
            attempt()


def test_wrong_credentials_are_not_authorised(unconditional, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another")
    with pytest.raises(NotAuthorised) as caught:
        unconditional.registry().resolve("v1")
    assert "s3:GetObject" in caught.value.remedy


def test_no_credentials_are_not_authorised(conditional, monkeypatch):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(NotAuthorised, match="no credentials"):
        conditional.registry().resolve("v1")


def test_a_store_that_does_not_answer_is_unavailable(conditional, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as found:
        port = found.getsockname()[1]
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
    with pytest.raises(ServiceUnavailable, match="does not answer"):
        conditional.registry().resolve("v1")


@pytest.mark.parametrize(("name", "value"), [("AWS_ENDPOINT_URL", "nonsense"), ("AWS_PROFILE", "nobody")])
def test_settings_that_mean_nothing_are_usage_errors(conditional, monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    with pytest.raises(UsageError):
        conditional.registry().resolve("v1")


def test_what_was_erased_is_gone_and_another_stays(store, source, owner, recipient, tmp_path):
    first = sealed(store, source, owner, recipient, tag="one")
    sealed(store, source, owner, recipient, tag="two")
    done = erase(store.registry(), "one")
    assert (done.digest, done.kept, done.still) == (first, (), ())
    with pytest.raises(FileUnreadable):
        store.registry().resolve("one")
    assert contents(store.registry(), "two", owner, recipient, tmp_path / "two")
    erase(store.registry(), "two")
    assert store.registry().named() == ()
