"""Sealing: what goes in, what anybody can see of it, and what stays when it fails."""

import errno
import os
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from strongroom.errors import FileUnreadable, StoreUnavailable, UsageError
from strongroom.records.artifact import ArtifactKind, KeyWrap
from strongroom.records.digest import digest_bytes
from strongroom.records.release import Edition, WrappedKey
from strongroom.sealed.registries import DirectoryRegistry
from strongroom.sealed.registries.directory import FileWriter
from strongroom.sealed.seal import SealedArtifact, seal, seal_files
from strongroom.sealed.source import described, find_files
from strongroom.sealed.wrapping import wrap_to

CONTENT = {"model.gguf": b"canary-weights", "nested/canary-name.json": b"{}"}


def stored(registry: DirectoryRegistry) -> bytes:
    return b"".join(path.read_bytes() for path in registry.root.rglob("*") if path.is_file())


def files_in(registry: DirectoryRegistry) -> list[Path]:
    return [path for path in registry.root.rglob("*") if path.is_file()] if registry.root.exists() else []


def test_nothing_outside_tells_names_content_or_plaintext_digests(
    artifact: SealedArtifact, source: Path, registry: DirectoryRegistry
):
    kept = stored(registry) + "".join(path.name for path in registry.root.rglob("*")).encode()
    secrets = [b"canary", b"gguf", b"tokenizer", b"nested", b"little-model", b"blake3"]
    for file in artifact.index.files:
        secrets += [file.blake3, file.blake3.hex().encode(), file.path.encode(), file.sha256[7:].encode()]
        secrets.append(digest_bytes((source / file.path).read_bytes()).removeprefix("sha256:").encode())
    assert [secret for secret in secrets if secret in kept] == []


def test_the_sealed_index_lists_every_file_in_order(artifact: SealedArtifact):
    assert [file.path for file in artifact.index.files] == [
        "model.gguf",
        "nested/deep/tokenizer.json",
        "nested/empty",
        "twin",
    ]
    assert (artifact.index.name, artifact.index.kind) == ("little-model", ArtifactKind.MODEL)
    assert artifact.index.files[0].media == "application/vnd.gguf"


def test_sealing_twice_makes_two_unrelated_artifacts(owner: Any, source: Path, registry: DirectoryRegistry):
    one, two = owner.seal(source, registry), owner.seal(source, registry)
    blobs = [{layer.digest for layer in artifact.manifest.layers} for artifact in (one, two)]
    assert not blobs[0] & blobs[1]
    assert one.manifest.header.artifact_id != two.manifest.header.artifact_id


def test_one_file_can_be_sealed_alone(owner: Any, source: Path, registry: DirectoryRegistry):
    owner.seal(source / "model.gguf", registry)
    assert owner.contents(registry) == {"model.gguf": (source / "model.gguf").read_bytes()}


@pytest.mark.parametrize("kind", list(ArtifactKind))
def test_every_kind_of_artifact_can_be_sealed_and_opened(
    owner: Any, source: Path, registry: DirectoryRegistry, kind: ArtifactKind
):
    artifact = owner.seal(source, registry, kind=kind)
    assert owner.open(registry).index.kind is kind is artifact.manifest.header.kind


def test_padded_sizes_tell_less_and_open_all_the_same(owner: Any, source: Path, registry: DirectoryRegistry):
    artifact = owner.seal(source, registry, pad_to=4096)
    assert len({layer.size for layer in artifact.manifest.layers}) == 1
    assert owner.contents(registry) == {f.path: (source / f.path).read_bytes() for f in artifact.index.files}


def test_progress_counts_every_byte_up_to_the_total(owner: Any, source: Path, registry: DirectoryRegistry):
    told: list[tuple[int, int]] = []
    artifact = owner.seal(source, registry, progress=lambda done, total: told.append((done, total)))
    total = sum(file.size for file in artifact.index.files)
    assert told[-1] == (total, total)
    assert told == sorted(told)


def test_a_broker_can_hold_the_key_instead_of_recipients(owner: Any, source: Path, registry: DirectoryRegistry):
    kept: list[bytes] = []

    def wrap(of: Edition, data_key: bytes) -> KeyWrap:
        kept.append(data_key)
        return KeyWrap(WrappedKey("models", 1, digest_bytes(b"broker"), of, b"wrapped"), ())

    owner.seal(source, registry, wrap=wrap)
    opener = owner.opener(registry)
    assert opener.wrapped.artifact_id == opener.header.artifact_id
    assert len(opener.open(kept[0]).files) == 4


def test_a_key_that_nobody_can_unwrap_seals_nothing(owner: Any, source: Path, registry: DirectoryRegistry):
    with pytest.raises(ValueError, match="nobody"):
        owner.seal(source, registry, wrap=lambda _id, _key: KeyWrap(None, ()))
    assert files_in(registry) == []


def test_a_file_that_grows_while_it_is_sealed_is_refused(owner: Any, source: Path, registry: DirectoryRegistry):
    def grow(_done: int, _total: int) -> None:
        with (source / "twin").open("ab") as file:
            file.write(b"more")

    with pytest.raises(FileUnreadable, match="changed while it was sealed"):
        owner.seal(source / "twin", registry, progress=grow)
    assert files_in(registry) == []


def test_a_file_that_shrinks_while_it_is_sealed_is_refused(owner: Any, source: Path, registry: DirectoryRegistry):
    with pytest.raises(FileUnreadable, match="shorter"):
        owner.seal(source, registry, progress=lambda _done, _total: os.truncate(source / "twin", 3))
    assert files_in(registry) == []


def test_a_full_disk_is_one_clear_error_and_nothing_stays(
    owner: Any, source: Path, registry: DirectoryRegistry, monkeypatch: pytest.MonkeyPatch
):
    written = 0

    def write(_fd: int, data: memoryview) -> int:
        nonlocal written
        written += len(data)
        if written > 1500:
            raise OSError(errno.ENOSPC, "full")
        return len(data)

    monkeypatch.setattr("strongroom.sealed.files.os.write", write)
    with pytest.raises(StoreUnavailable, match="No space left on device"):
        owner.seal(source, registry)
    monkeypatch.undo()
    assert files_in(registry) == []
    assert not registry.root.exists()


@pytest.mark.parametrize("failing_at", range(1, 8))
def test_a_failure_at_any_blob_takes_back_those_before_it(
    failing_at: int, owner: Any, source: Path, registry: DirectoryRegistry, monkeypatch: pytest.MonkeyPatch
):
    commit, count = FileWriter.commit, 0

    def failing(writer: FileWriter) -> object:
        nonlocal count
        count += 1
        if count == failing_at:
            raise OSError(errno.EIO, "gone")
        return commit(writer)

    monkeypatch.setattr(FileWriter, "commit", failing)
    with pytest.raises(OSError, match="gone"):
        owner.seal(source, registry)
    assert files_in(registry) == []


def test_what_an_artifact_cannot_hold_is_a_usage_error(
    owner: Any, source: Path, registry: DirectoryRegistry, tmp_path: Path
):
    (tmp_path / "nothing").mkdir()
    (source / "link").symlink_to("twin")
    with pytest.raises(UsageError, match="holds 0 files"):
        owner.seal(tmp_path / "nothing", registry)
    with pytest.raises(UsageError, match="not a plain file"):
        owner.seal(source, registry)
    (source / "link").rename(source / "twin")
    (source / "back\\slash").write_bytes(b"")
    (source / "twin").unlink()
    with pytest.raises(UsageError, match="name"):
        owner.seal(source, registry)
    assert files_in(registry) == []


def test_a_source_that_is_not_there_is_unreadable(owner: Any, registry: DirectoryRegistry, tmp_path: Path):
    with pytest.raises(FileUnreadable):
        owner.seal(tmp_path / "missing", registry)


@pytest.mark.parametrize("options", [{"pad_to": 0}, {"pad_to": 1 << 31}, {"segment_bytes": 8}])
def test_options_without_meaning_are_usage_errors(
    owner: Any, source: Path, registry: DirectoryRegistry, options: dict[str, int]
):
    with pytest.raises(UsageError):
        owner.seal(source, registry, **options)
    assert files_in(registry) == []


def test_open_descriptors_are_sealed_as_files_are(owner: Any, registry: DirectoryRegistry):
    fd = os.memfd_create("output")
    os.write(fd, b"made in memory")
    seal_files(
        [described("a/output", fd)],
        registry,
        name="outputs",
        kind=ArtifactKind.OUTPUT,
        wrap=wrap_to([owner.recipient.public]),
        signer=owner.signer,
    )
    os.close(fd)
    assert owner.contents(registry) == {"a/output": b"made in memory"}


def test_descriptors_that_are_no_files_or_stand_in_each_others_place_are_usage_errors(
    owner: Any, source: Path, registry: DirectoryRegistry
):
    ends = os.pipe()
    for path, fd in (("pipe", ends[0]), ("../out", os.open(source / "twin", os.O_RDONLY))):
        with pytest.raises(UsageError):
            described(path, fd)
        os.close(fd)
    os.close(ends[1])
    (one,) = find_files(source / "twin")
    for files in ([], [one, one]):
        with pytest.raises(UsageError):
            seal_files(
                files,
                registry,
                name="outputs",
                kind=ArtifactKind.OUTPUT,
                wrap=wrap_to([owner.recipient.public]),
                signer=owner.signer,
            )
    assert files_in(registry) == []


def test_only_a_key_on_p256_signs(source: Path, registry: DirectoryRegistry):
    with pytest.raises(UsageError, match="P-256"):
        seal(
            source,
            registry,
            kind=ArtifactKind.MODEL,
            wrap=lambda _id, _key: KeyWrap(None, ()),
            signer=Ed25519PrivateKey.generate(),
        )
    assert files_in(registry) == []
