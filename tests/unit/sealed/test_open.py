"""Opening: into memory, into a folder, and never anything that was changed, cut, mixed or taken from elsewhere."""

import errno
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from strongroom.crypto import signatures
from strongroom.errors import (
    FileUnreadable,
    MalformedArtifact,
    SealBroken,
    SignatureInvalid,
    StoreUnavailable,
    StrongroomError,
    UsageError,
)
from strongroom.records.digest import Digest, digest_bytes
from strongroom.sealed import open as opening
from strongroom.sealed import signing
from strongroom.sealed.manifest import Manifest
from strongroom.sealed.open import Opener, inspect
from strongroom.sealed.outer import sign_artifact
from strongroom.sealed.registries import DirectoryRegistry, from_reference
from strongroom.sealed.registries.port import IMAGE_MANIFEST, write_small
from strongroom.sealed.seal import SealedArtifact
from strongroom.sealed.source import FileReader
from strongroom.sealed.wrapping import unwrap

ANY_ERROR = (SealBroken, MalformedArtifact, SignatureInvalid, FileUnreadable)


def memfds() -> list[Path]:
    """The memory files with plaintext that this process holds."""
    places = []
    for entry in Path("/proc/self/fd").iterdir():
        try:
            places.append(entry.readlink())
        except OSError:
            continue
    return [place for place in places if "memfd:strongroom" in str(place)]


def blob(registry: DirectoryRegistry, digest: str) -> Path:
    return registry.root / "blobs" / "sha256" / digest.removeprefix("sha256:")


def content(source: Path) -> dict[str, bytes]:
    return {str(path.relative_to(source)): path.read_bytes() for path in source.rglob("*") if path.is_file()}


# What holds


def test_every_file_opens_into_a_sealed_memfd(
    owner: Any, artifact: SealedArtifact, source: Path, registry: DirectoryRegistry
):
    with owner.open(registry, artifact.digest) as opened:
        for file in opened.files:
            fd = opened.into_memfd(file.path, deep=True)
            assert Path(f"/proc/self/fd/{fd}").read_bytes() == (source / file.path).read_bytes()
            for forbidden in (lambda fd=fd: os.pwrite(fd, b"x", 0), lambda fd=fd: os.ftruncate(fd, 1 << 20)):
                with pytest.raises(PermissionError):
                    forbidden()
            assert not os.get_inheritable(fd)
            os.close(fd)


def test_all_files_open_into_a_folder_of_their_owner(
    owner: Any, artifact: SealedArtifact, source: Path, registry: DirectoryRegistry, tmp_path: Path
):
    told: list[tuple[int, int]] = []
    with owner.open(registry, artifact.digest) as opened:
        opened.into_directory(tmp_path / "new" / "out", progress=lambda done, total: told.append((done, total)))
    assert content(tmp_path / "new" / "out") == content(source)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["out"]
    total = sum(file.size for file in artifact.index.files)
    assert max(told) == (total, total)


def test_a_small_file_is_read_whole_and_a_large_one_is_not(owner: Any, artifact: SealedArtifact, registry: Any):
    with owner.open(registry, artifact.digest) as opened:
        assert opened.read("nested/deep/tokenizer.json") == b'{"canary-name": 1}'
        with pytest.raises(UsageError, match="exceeds the limit"):
            opened.read("twin", limit=100)
        with pytest.raises(FileUnreadable):
            opened.read("missing")


def test_a_closed_artifact_opens_nothing_more_and_its_key_is_gone(owner: Any, artifact: SealedArtifact, registry: Any):
    opened = owner.open(registry, artifact.digest)
    key = opened._streams._key
    opened.close()
    with pytest.raises(UsageError, match="closed"):
        opened.read("twin")
    assert not any(key)


def test_no_key_shows_in_the_form_of_an_opened_artifact(owner: Any, artifact: SealedArtifact, registry: Any):
    opened = owner.open(registry, artifact.digest)
    assert "_key" not in repr(opened)
    assert opened._streams._key.hex() not in repr(opened)


def test_anybody_can_inspect_and_see_whose_signature_holds(
    owner: Any, artifact: SealedArtifact, registry: DirectoryRegistry
):
    public, stranger = owner.signer.public_key(), signatures.generate_p256().public_key()
    summary = inspect(registry, "latest", signer_public=public)
    assert (summary.digest, summary.signed, summary.kind) == (artifact.digest, True, "model")
    assert len(summary.recipients) == 1
    assert inspect(registry, "latest").signed is None
    assert inspect(registry, "latest", signer_public=stranger).signed is False


def test_a_strangers_signature_beside_the_owners_does_no_harm(owner: Any, artifact: SealedArtifact, registry: Any):
    sign_artifact(registry, artifact.manifest, signatures.generate_p256())
    assert len(owner.contents(registry)) == 4


# What does not hold


def roles(registry: DirectoryRegistry, artifact: SealedArtifact) -> dict[str, Path]:
    """Each blob of the artifact and its signature, by what it is."""
    names = {artifact.digest: "manifest", artifact.manifest.config.digest: "config"}
    names |= {layer.digest: f"layer-{number}" for number, layer in enumerate(artifact.manifest.layers)}
    (referrer,) = registry.referrers(artifact.digest, "application/vnd.dev.sigstore.bundle.v0.3+json")
    names[referrer] = "referrer"
    found = {}
    for path in blob(registry, artifact.digest).parent.iterdir():
        data = path.read_bytes()
        other = "empty" if data == b"{}" else "bundle" if b"dsseEnvelope" in data else "listing"
        found[names.get(Digest("sha256:" + path.name), other)] = path
    return found


@pytest.fixture(scope="module")
def standing(owner: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[DirectoryRegistry, SealedArtifact]:
    """An artifact that examples may change, as long as they put it back."""
    folder = tmp_path_factory.mktemp("standing")
    (folder / "source" / "nested").mkdir(parents=True)
    (folder / "source" / "weights").write_bytes(bytes(range(256)) * 3)
    (folder / "source" / "nested" / "words").write_bytes(b"some words")
    registry = DirectoryRegistry(folder / "registry")
    return registry, owner.seal(folder / "source", registry)


ROLES = ["manifest", "config", "layer-0", "layer-1", "layer-2", "referrer", "bundle", "listing"]


@pytest.mark.parametrize("role", ROLES)
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_flipped_bit_of_any_blob_is_refused_and_leaves_nothing_behind(
    role: str, data: st.DataObject, owner: Any, standing: Any
):
    registry, artifact = standing
    place = roles(registry, artifact)[role]
    whole = place.read_bytes()
    changed = bytearray(whole)
    changed[data.draw(st.integers(0, len(whole) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    target = registry.root.parent / "out"
    place.write_bytes(changed)
    try:
        with pytest.raises(ANY_ERROR):
            owner.contents(registry)
        with pytest.raises(ANY_ERROR), owner.open(registry) as opened:
            opened.into_directory(target)
    finally:
        place.write_bytes(whole)
    assert memfds() == []
    assert sorted(path.name for path in registry.root.parent.iterdir()) == ["registry", "source"]
    assert len(owner.contents(registry)) == 2


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("change", ["missing", "cut", "emptied", "longer", "a pipe"])
def test_a_blob_that_is_missing_or_of_another_length_is_refused(
    role: str, change: str, owner: Any, artifact: SealedArtifact, registry: DirectoryRegistry, tmp_path: Path
):
    place = roles(registry, artifact)[role]
    whole = place.read_bytes()
    place.unlink()
    if change == "a pipe":
        os.mkfifo(place)
    elif change != "missing":
        place.write_bytes({"cut": whole[:-1], "emptied": b"", "longer": whole + b"\0"}[change])
    with pytest.raises(ANY_ERROR), owner.open(registry) as opened:
        opened.into_directory(tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert [path for path in tmp_path.iterdir() if "partial" in path.name] == []
    with pytest.raises(ANY_ERROR):
        owner.contents(registry)
    assert memfds() == []


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_changed_index_of_the_layout_never_leads_to_other_plaintext(data: st.DataObject, owner: Any, standing: Any):
    registry, _ = standing
    expected = owner.contents(registry)
    place = registry.root / "index.json"
    whole = place.read_bytes()
    changed = bytearray(whole)
    changed[data.draw(st.integers(0, len(whole) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    place.write_bytes(changed)
    try:
        assert owner.contents(registry) == expected
    except StrongroomError as error:
        assert isinstance(error, ANY_ERROR)  # noqa: PT017 (either outcome is right, a third is not)
    finally:
        place.write_bytes(whole)


def test_layers_that_changed_places_are_refused(owner: Any, artifact: SealedArtifact, registry: DirectoryRegistry):
    one, two = (blob(registry, artifact.manifest.layers[number].digest) for number in (1, 4))
    assert one.stat().st_size == two.stat().st_size
    first = one.read_bytes()
    one.write_bytes(two.read_bytes())
    two.write_bytes(first)
    with pytest.raises(SealBroken, match="does not open"):
        owner.contents(registry)


def test_layers_swapped_in_the_manifest_are_refused_without_and_with_a_signature(
    owner: Any, artifact: SealedArtifact, registry: DirectoryRegistry
):
    index, one, *others, two = artifact.manifest.layers
    swapped = Manifest(artifact.manifest.header, (index, two, *others, one))
    publish(registry, swapped)
    with pytest.raises(SignatureInvalid, match="no signature"):
        owner.opener(registry)
    sign_artifact(registry, swapped, owner.signer)
    with pytest.raises(SealBroken):
        owner.contents(registry)


def test_a_layer_of_another_artifact_under_the_same_key_is_refused(
    owner: Any, source: Path, registry: DirectoryRegistry
):
    def same_key(count: int) -> bytes:
        return bytes(32) if count == 32 else os.urandom(count)

    one, two = (owner.seal(source, registry, random=same_key, tag=tag) for tag in ("one", "two"))
    shutil.copy(blob(registry, two.manifest.layers[1].digest), blob(registry, one.manifest.layers[1].digest))
    with pytest.raises(SealBroken, match="does not open"):
        owner.contents(registry, "one")
    assert len(owner.contents(registry, "two")) == 4


def test_a_header_of_another_artifact_opens_nothing_even_if_signed(
    owner: Any, source: Path, registry: DirectoryRegistry
):
    one, two = owner.seal(source, registry), owner.seal(source, registry)
    mixed = Manifest(two.manifest.header, one.manifest.layers)
    publish(registry, mixed)
    sign_artifact(registry, mixed, owner.signer)
    with pytest.raises(SealBroken):
        owner.contents(registry)


@pytest.mark.parametrize(
    "change", [{"segment_bytes": 128}, {"artifact_id": bytes(16), "line": bytes(16)}, {"kind": "adapter"}]
)
def test_a_changed_header_opens_nothing_even_if_signed(
    owner: Any, artifact: SealedArtifact, registry: DirectoryRegistry, change: dict[str, Any]
):
    changed = Manifest(replace(artifact.manifest.header, **change), artifact.manifest.layers)
    publish(registry, changed)
    with pytest.raises(SignatureInvalid):
        owner.opener(registry)
    sign_artifact(registry, changed, owner.signer)
    with pytest.raises((SealBroken, MalformedArtifact)):
        owner.contents(registry)


def test_an_artifact_of_another_owner_is_refused(owner: Any, artifact: SealedArtifact, registry: DirectoryRegistry):
    with pytest.raises(SignatureInvalid):
        Opener(registry, "latest", signer_public=signatures.generate_p256().public_key())
    with pytest.raises(SignatureInvalid):
        Opener(registry, "latest", signer_public=signatures.generate_ed25519().public_key())
    assert owner.opener(registry).digest == artifact.digest


def test_a_pinned_digest_opens_that_artifact_wherever_the_tag_went(
    owner: Any, artifact: SealedArtifact, source: Path, registry: DirectoryRegistry
):
    (source / "twin").write_bytes(b"newer")
    owner.seal(source, registry)
    assert owner.contents(registry)["twin"] == b"newer"
    again, reference = from_reference(f"dir:{registry.root}@{artifact.digest}")
    assert owner.contents(again, reference)["twin"] != b"newer"


def test_another_data_key_opens_nothing(owner: Any, artifact: SealedArtifact, registry: DirectoryRegistry):
    for key in (bytes(32), bytes(31), b""):
        with pytest.raises(SealBroken):
            owner.opener(registry, artifact.digest).open(key)


def test_a_hash_that_the_owner_signed_wrongly_is_seen_when_hashes_are_compared(
    owner: Any, source: Path, registry: DirectoryRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    described = FileReader.described
    monkeypatch.setattr(FileReader, "described", lambda reader: replace(described(reader), blake3=bytes(32)))
    owner.seal(source, registry)
    with owner.open(registry) as opened:
        os.close(opened.into_memfd("twin"))
        with pytest.raises(SealBroken, match="hash"):
            opened.into_memfd("twin", deep=True)
        with pytest.raises(SealBroken, match="hash"):
            opened.into_directory(tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert memfds() == []


@pytest.mark.parametrize(
    "change",
    [
        lambda files: files[1:],
        lambda files: (replace(files[0], path="other"), *files[1:]),
        lambda files: (replace(files[0], sha256=digest_bytes(b"")), *files[1:]),
    ],
)
def test_an_inner_signature_about_other_files_is_refused(owner: Any, artifact: SealedArtifact, change: Any):
    opening._check_inner(artifact.index, owner.signer.public_key())
    with pytest.raises(SignatureInvalid, match="inner"):
        opening._check_inner(replace(artifact.index, files=change(artifact.index.files)), owner.signer.public_key())


@pytest.mark.parametrize("wrong", ["another key", "another name"])
def test_an_artifact_whose_inner_signature_does_not_hold_is_refused(
    wrong: str, owner: Any, source: Path, registry: DirectoryRegistry, monkeypatch: pytest.MonkeyPatch
):
    def sign(files: signing.SignedFiles, key: Any) -> bytes:
        if files.name.startswith("sha256:"):  # the outer one
            return signed(files, key)
        if wrong == "another key":
            return signed(files, signatures.generate_p256())
        return signed(replace(files, name="another name"), key)

    signed = signing.sign_files
    monkeypatch.setattr(signing, "sign_files", sign)
    owner.seal(source, registry)
    with pytest.raises(SignatureInvalid):
        owner.open(registry)


def test_a_folder_that_exists_is_not_written_into(
    owner: Any, artifact: SealedArtifact, registry: DirectoryRegistry, tmp_path: Path
):
    (tmp_path / "out").symlink_to(tmp_path / "elsewhere")
    with owner.open(registry, artifact.digest) as opened, pytest.raises(UsageError, match="exists already"):
        opened.into_directory(tmp_path / "out")


def test_git_files_are_sealed_although_the_inner_signature_is_silent_about_them(
    owner: Any, source: Path, registry: DirectoryRegistry
):
    (source / ".gitattributes").write_bytes(b"*.gguf filter=lfs")
    owner.seal(source, registry)
    assert owner.contents(registry)[".gitattributes"] == b"*.gguf filter=lfs"


def test_a_key_that_is_no_recipients_says_so(owner: Any, artifact: SealedArtifact):
    with pytest.raises(SealBroken, match="not sealed to it"):
        unwrap(artifact.manifest.header, type(owner.recipient).generate())


def test_an_artifact_without_a_broker_says_so(owner: Any, artifact: SealedArtifact, registry: DirectoryRegistry):
    with pytest.raises(UsageError, match="no broker"):
        _ = owner.opener(registry, artifact.digest).wrapped


def publish(registry: DirectoryRegistry, manifest: Manifest) -> None:
    write_small(registry, manifest.config_bytes())
    registry.put_manifest(manifest.to_bytes(), media_type=IMAGE_MANIFEST, tag="latest")


@pytest.mark.parametrize("reason", [errno.ENOSPC, errno.ENOMEM])
def test_memory_or_a_disk_that_is_full_is_one_clear_error_and_nothing_stays(
    owner: Any,
    artifact: SealedArtifact,
    registry: DirectoryRegistry,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    reason: int,
):
    before = len(list(Path("/proc/self/fd").iterdir()))

    def full(*_: object) -> int:
        raise OSError(reason, os.strerror(reason))

    with owner.open(registry) as opened:
        monkeypatch.setattr("strongroom.sealed.files.os.pwrite", full)
        with pytest.raises(StoreUnavailable, match=os.strerror(reason)):
            opened.into_memfd("model.gguf")
        with pytest.raises(StoreUnavailable, match=os.strerror(reason)):
            opened.into_directory(tmp_path / "out")
    assert artifact.digest
    assert not [path for path in tmp_path.iterdir() if "out" in path.name]
    assert len(list(Path("/proc/self/fd").iterdir())) == before
