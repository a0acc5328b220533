"""Copying between folders and a registry: byte for byte, without a key, on from where it stopped, and never a lie."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from oci_service import OciService, served

from strongroom.crypto import signatures
from strongroom.errors import FileUnreadable, MalformedArtifact, SealBroken, ServiceUnavailable, UsageError
from strongroom.records.digest import Digest
from strongroom.sealed import copy as copying
from strongroom.sealed.copy import copy
from strongroom.sealed.outer import sign_artifact
from strongroom.sealed.registries import DirectoryRegistry
from strongroom.sealed.registries.directory import FileWriter
from strongroom.sealed.registries.oci import OciRegistry, blobs
from strongroom.sealed.registries.oci.address import parse_reference
from strongroom.sealed.registries.oci.transport import Backoff, Http
from strongroom.sealed.registries.port import IMAGE_MANIFEST, write_small
from strongroom.sealed.seal import SealedArtifact

SMALL = 512


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copying, "PIECE_BYTES", SMALL)


@pytest.fixture
def target(tmp_path: Path) -> DirectoryRegistry:
    return DirectoryRegistry(tmp_path / "target")


@pytest.fixture
def service() -> Iterator[OciService]:
    with served(OciService()) as running:
        yield running


@pytest.fixture
def remote(service: OciService) -> Iterator[OciRegistry]:
    http = Http(backoff=Backoff(3, 0.0, 1.0), sleep=lambda _: None, timeouts=(5.0, 5.0))
    yield OciRegistry(parse_reference(f"oci://{service.place}/team/model", {})[0], http=http, environ={})
    http.close()


def tree(registry: DirectoryRegistry) -> dict[str, bytes]:
    return {str(p.relative_to(registry.root)): p.read_bytes() for p in registry.root.rglob("*") if p.is_file()}


def place(registry: DirectoryRegistry, digest: str) -> Path:
    return registry.root / "blobs" / "sha256" / digest.removeprefix("sha256:")


def largest(artifact: SealedArtifact) -> tuple[str, Any]:
    """The largest layer, and what a copy calls it."""
    number, layer = max(enumerate(artifact.manifest.layers), key=lambda item: item[1].size)
    return f"layer {number}", layer


# What holds


def test_a_copy_is_the_same_byte_for_byte_wherever_it_went(
    owner: Any,
    artifact: SealedArtifact,
    registry: Any,
    remote: OciRegistry,
    target: DirectoryRegistry,
    service: OciService,
):
    there = copy(registry, "latest", remote, "v1")
    back = copy(remote, "v1", target, "latest")
    assert (there.digest, there.signatures, there.there_before) == (artifact.digest, 1, 0)
    assert (back.digest, back.signatures, back.total_bytes) == (artifact.digest, 1, there.total_bytes)
    assert tree(target) == tree(registry)
    assert len(owner.contents(target)) == 4
    assert len(owner.contents(remote, "v1")) == 4
    assert ("team/model", "v1") in service.manifests


def test_a_copy_by_digest_gets_a_name_and_a_name_only(
    artifact: SealedArtifact, registry: Any, target: DirectoryRegistry
):
    assert copy(registry, artifact.digest, target, "mine").digest == artifact.digest
    assert target.resolve("mine") == artifact.digest
    with pytest.raises(UsageError, match="name"):
        copy(registry, "latest", target, artifact.digest)


def test_what_is_there_is_skipped(artifact: SealedArtifact, registry: Any, remote: OciRegistry, service: OciService):
    copy(registry, "latest", remote, "v1")
    service.seen.clear()
    again = copy(registry, "latest", remote, "v2")
    assert again.there_before == again.total_bytes
    assert service.count("POST") == 0
    assert service.manifests["team/model", "v2"][1] == artifact.manifest.to_bytes()


def test_progress_counts_what_is_there_and_ends_with_all_of_it(artifact: Any, registry: Any, target: DirectoryRegistry):
    for _ in range(2):
        told: list[tuple[int, int]] = []
        copied = copy(
            registry, "latest", target, "v1", progress=lambda done, total, told=told: told.append((done, total))
        )
        assert max(told) == (copied.total_bytes, copied.total_bytes)
    assert copied.total_bytes == sum(x.size for x in (artifact.manifest.config, *artifact.manifest.layers))


def test_signatures_of_others_are_copied_and_what_is_about_something_else_is_not(
    artifact: SealedArtifact, registry: Any, target: DirectoryRegistry, owner: Any
):
    from strongroom.sealed.signing import BUNDLE_TYPE

    sign_artifact(registry, artifact.manifest, signatures.generate_p256())
    for odd in (b"{}", b"[]", b"never", b'{"subject":{"mediaType":"x","digest":"sha256:' + b"0" * 64 + b'","size":1}}'):
        registry.attach(artifact.digest, odd, artifact_type=BUNDLE_TYPE)
    assert copy(registry, "latest", target, "v1").signatures == 2
    assert len(target.referrers(artifact.digest, BUNDLE_TYPE)) == 2
    assert len(owner.contents(target, "v1")) == 4


# On from where it stopped


class Enough(Exception):
    """The end of somebody's patience."""


def fails_after(monkeypatch: pytest.MonkeyPatch, kind: Any, count: int) -> None:
    """`write` of this kind of writer fails once so many bytes were written."""
    written, write = 0, kind.write

    def writing(writer: Any, data: Any) -> None:
        nonlocal written
        if written + len(data) > count:
            raise Enough
        written += len(data)
        write(writer, data)

    monkeypatch.setattr(kind, "write", writing)


def test_into_a_folder_even_the_blob_under_way_goes_on(
    monkeypatch: pytest.MonkeyPatch, artifact: SealedArtifact, registry: Any, target: DirectoryRegistry
):
    _, layer = largest(artifact)
    with monkeypatch.context() as patch:
        fails_after(patch, FileWriter, 2 * SMALL)
        with pytest.raises(Enough):
            copy(registry, "latest", target, "v1", threads=1)
    with pytest.raises(FileUnreadable):
        target.resolve("v1")
    left = [path for path in place(target, layer.digest).parent.iterdir() if path.name.startswith(".known-")]
    assert sum(path.stat().st_size for path in left) > 0
    copied = copy(registry, "latest", target, "v1")
    assert copied.there_before > 0
    assert tree(target) == {**tree(registry), "index.json": tree(target)["index.json"]}


@pytest.mark.parametrize(
    "change", [lambda d: b"x" + d[1:700], lambda d: d + b"more than there can be", lambda d: d[:700]]
)
def test_what_is_taken_up_is_hashed_again_and_left_if_it_is_not_the_beginning(
    artifact: SealedArtifact, registry: Any, target: DirectoryRegistry, change: Any
):
    name, layer = largest(artifact)
    good = place(registry, layer.digest).read_bytes()
    partial = place(target, layer.digest).with_name(".known-" + layer.digest.removeprefix("sha256:"))
    partial.parent.mkdir(parents=True)
    partial.write_bytes(change(good))
    copy(registry, "latest", target, "v1")
    assert place(target, layer.digest).read_bytes() == good
    assert not partial.exists()
    place(target, layer.digest).unlink()
    partial.write_bytes(change(good))
    place(registry, layer.digest).write_bytes(flip(good))
    with pytest.raises(SealBroken) as caught:
        copy(registry, "latest", target, "v2")
    assert name in caught.value.detail
    assert not partial.exists()


def test_two_at_once_do_not_get_in_each_others_way(artifact: SealedArtifact, registry: Any, target: DirectoryRegistry):
    _, layer = largest(artifact)
    good = place(registry, layer.digest).read_bytes()
    with target.push_known(layer) as first:
        first.write(good[:100])
        with target.push_known(layer) as second:
            assert second.size == 0
            second.write(good)
            second.commit()
        first.write(good[100:])
        first.commit()
    assert place(target, layer.digest).read_bytes() == good
    assert [path.name for path in place(target, layer.digest).parent.iterdir()] == [
        layer.digest.removeprefix("sha256:")
    ]


def test_a_beginning_whose_whole_came_another_way_is_swept(artifact: Any, registry: Any, target: DirectoryRegistry):
    _, layer = largest(artifact)
    with target.push_known(layer) as writer:
        writer.write(b"a beginning")
    partial = place(target, layer.digest).with_name(".known-" + layer.digest.removeprefix("sha256:"))
    write_small(target, b"something else")
    assert partial.read_bytes() == b"a beginning"
    write_small(target, place(registry, layer.digest).read_bytes())
    write_small(target, b"something else")
    assert not partial.exists()


def test_to_a_registry_whole_blobs_are_skipped(
    artifact: SealedArtifact, registry: Any, remote: OciRegistry, service: OciService
):
    service.twist("PUT", "uploads", lambda e: e.reply(401), times=99, after=2)
    with pytest.raises(Exception, match="does not let us"):
        copy(registry, "latest", remote, "v1", threads=1)
    assert len(service.blobs) == 2
    assert ("team/model", "v1") not in service.manifests
    service.twists.clear()
    assert copy(registry, "latest", remote, "v1").there_before > 0
    assert remote.resolve("v1") == artifact.digest


def test_a_blob_whose_upload_is_forgotten_is_sent_again_but_not_for_ever(
    monkeypatch: pytest.MonkeyPatch, artifact: SealedArtifact, registry: Any, remote: OciRegistry, service: OciService
):
    init = blobs.Upload.__init__

    def chunky(upload: Any, *args: Any) -> None:
        init(upload, *args)
        upload._chunk = SMALL

    monkeypatch.setattr(blobs.Upload, "__init__", chunky)
    told: list[tuple[int, int]] = []
    service.twist("PATCH", "uploads", lambda e: e.reply(404), times=2, after=1)
    copied = copy(registry, "latest", remote, "v1", threads=1, progress=lambda *now: told.append(now))
    assert max(told) == (copied.total_bytes, copied.total_bytes)
    assert remote.resolve("v1") == artifact.digest
    service.blobs.clear()
    service.twist("PATCH", "uploads", lambda e: e.reply(404), times=99)
    with pytest.raises(ServiceUnavailable, match="forgot"):
        copy(registry, "latest", remote, "v2", threads=1)


# What does not hold


def flip(data: bytes) -> bytes:
    return data[:-1] + bytes([data[-1] ^ 1])


@pytest.mark.parametrize("change", [flip, lambda d: d[:-1], lambda d: d + b"x", lambda _: b""])
def test_a_folder_that_lies_is_refused_naming_the_layer_and_nothing_false_stays(
    artifact: SealedArtifact,
    registry: Any,
    target: DirectoryRegistry,
    remote: OciRegistry,
    service: OciService,
    change: Any,
):
    name, layer = largest(artifact)
    there = place(registry, layer.digest)
    there.write_bytes(change(there.read_bytes()))
    for to in (target, remote):
        with pytest.raises(SealBroken) as caught:
            copy(registry, "latest", to, "v1")
        assert caught.value.detail.startswith(f"{name}, {layer.digest}")
    assert_true(target)
    assert not place(target, layer.digest).exists()
    assert layer.digest not in service.blobs
    assert service.sessions == {}


def assert_true(target: DirectoryRegistry) -> None:
    """Every blob has the digest of its name, and no tag is there."""
    from strongroom.records.digest import digest_bytes

    for path in (target.root / "blobs" / "sha256").iterdir():
        if not path.name.startswith("."):
            assert digest_bytes(path.read_bytes()) == f"sha256:{path.name}"
    assert not (target.root / "index.json").exists()


def test_a_registry_that_lies_is_refused_naming_layer_and_byte(
    artifact: SealedArtifact, registry: Any, target: DirectoryRegistry, remote: OciRegistry, service: OciService
):
    copy(registry, "latest", remote, "v1")
    name, layer = largest(artifact)

    def lie(exchange: Any) -> object:
        return exchange.reply(206, bytes(SMALL), content_range=f"bytes 0-{SMALL - 1}/{layer.size}")

    service.twist("GET", layer.digest, lie, after=1, times=99)
    with pytest.raises(SealBroken) as caught:
        copy(remote, "v1", target, "v1", threads=1)
    assert caught.value.detail == f"{name}, {layer.digest} at byte {SMALL}"
    service.twists.clear()
    service.blobs[layer.digest] = flip(service.blobs[layer.digest])
    with pytest.raises(SealBroken, match="digest") as caught:
        copy(remote, "v1", target, "v1")
    assert caught.value.detail == f"{name}, {layer.digest}"
    assert_true(target)


def test_a_manifest_of_another_artifact_is_refused(
    artifact: SealedArtifact, registry: Any, target: DirectoryRegistry, remote: OciRegistry, service: OciService
):
    copy(registry, "latest", remote, "v1")
    service.manifests["team/model", artifact.digest] = IMAGE_MANIFEST, b'{"schemaVersion":2}'
    with pytest.raises(SealBroken, match="digest"):
        copy(remote, "v1", target, "v1")
    service.manifests["team/model", "v1"] = IMAGE_MANIFEST, b'{"schemaVersion":2}'
    with pytest.raises(FileUnreadable):
        copy(remote, "v1", target, "v1")
    remote.put_manifest(b'{"schemaVersion":2}', media_type=IMAGE_MANIFEST, tag="v1")
    with pytest.raises(MalformedArtifact):
        copy(remote, "v1", target, "v1")
    assert not target.root.exists()


def test_a_missing_layer_and_a_missing_signature_are_said(artifact: Any, registry: Any, target: DirectoryRegistry):
    gone = registry.root.with_name("gone")
    for lost in (artifact.manifest.layers[1].digest, bundle_of(registry, artifact.digest)):
        shutil.copytree(registry.root, gone)
        place(DirectoryRegistry(gone), lost).unlink()
        with pytest.raises(FileUnreadable):
            copy(DirectoryRegistry(gone), "latest", target, "v1")
        shutil.rmtree(gone)
    with pytest.raises(FileUnreadable):
        target.resolve("v1")


def bundle_of(registry: DirectoryRegistry, digest: Digest) -> str:
    import json

    from strongroom.sealed.signing import BUNDLE_TYPE

    (referrer,) = registry.referrers(digest, BUNDLE_TYPE)
    return json.loads(registry.get_manifest(referrer))["layers"][0]["digest"]


def test_the_first_error_stops_the_others_and_is_the_one_that_is_told(
    monkeypatch: pytest.MonkeyPatch, artifact: SealedArtifact, registry: Any, target: DirectoryRegistry
):
    _, layer = largest(artifact)
    push = DirectoryRegistry.push_known

    @contextmanager
    def failing(self: DirectoryRegistry, descriptor: Any) -> Iterator[Any]:
        if descriptor == layer:
            raise Enough
        with push(self, descriptor) as writer:
            yield writer

    monkeypatch.setattr(DirectoryRegistry, "push_known", failing)
    with pytest.raises(Enough):
        copy(registry, "latest", target, "v1")
