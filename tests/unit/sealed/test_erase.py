"""Erase: what belongs to the artifact is gone, what others need stays, and what was not reached is said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from strongroom.crypto.hpke import ReleaseKey
from strongroom.errors import FileUnreadable, MalformedArtifact
from strongroom.records.artifact import KeyWrap
from strongroom.records.digest import digest_bytes
from strongroom.records.release import WrappedKey
from strongroom.sealed.erase import erase
from strongroom.sealed.registries import DirectoryRegistry
from strongroom.sealed.rotate import rewrap
from strongroom.sealed.seal import SealedArtifact
from strongroom.sealed.wrapping import wrap_to

from .conftest import CONTENT, Owner


def blobs(registry: DirectoryRegistry) -> set[str]:
    folder = registry.root / "blobs" / "sha256"
    return {path.name for path in folder.iterdir()} if folder.exists() else set()


def test_nothing_of_it_stays(owner: Owner, artifact: SealedArtifact, registry: DirectoryRegistry):
    done = erase(registry, "latest")
    assert done.digest == artifact.digest
    assert (done.kept, done.still) == ((), ())
    assert {layer.digest for layer in artifact.manifest.layers} < set(done.gone)
    assert blobs(registry) <= {digest_bytes(b"{}").removeprefix("sha256:")}
    with pytest.raises(FileUnreadable):
        owner.opener(registry)


def test_another_artifact_stays_whole(owner: Owner, source: Path, registry: DirectoryRegistry):
    owner.seal(source, registry, tag="one")
    owner.seal(source, registry, tag="two")
    erase(registry, "one")
    assert owner.contents(registry, "two") == CONTENT


def test_layers_that_a_rewrapped_artifact_shares_are_kept(
    owner: Owner, artifact: SealedArtifact, registry: DirectoryRegistry
):
    with owner.open(registry) as opened:
        keys = opened.streams.wrapped(wrap_to([owner.recipient.public]))
    rewrap(registry, artifact.manifest, keys, signer=owner.signer, tag="new")
    done = erase(registry, "latest")
    assert {layer.digest for layer in artifact.manifest.layers} <= set(done.kept)
    assert artifact.digest in done.gone
    assert owner.contents(registry, "new") == CONTENT
    assert erase(registry, "new").kept == ()


def test_every_tag_that_names_it_goes(owner: Owner, artifact: SealedArtifact, registry: DirectoryRegistry):
    kind = "application/vnd.oci.image.manifest.v1+json"
    registry.put_manifest(artifact.manifest.to_bytes(), media_type=kind, tag="also")
    erase(registry, "also")
    for tag in ("latest", "also"):
        with pytest.raises(FileUnreadable):
            registry.resolve(tag)
    assert registry.named() == ()
    assert owner


def test_who_can_still_open_a_copy_is_said(owner: Owner, source: Path, registry: DirectoryRegistry):
    def wrap(of: Any, data_key: bytes) -> KeyWrap:
        boxes = wrap_to([owner.recipient.public, ReleaseKey.generate().public])(of, data_key)
        return KeyWrap(WrappedKey("models", 1, digest_bytes(b"broker"), of, b"wrapped"), boxes.recipients)

    owner.seal(source, registry, wrap=wrap)
    told = " ".join(erase(registry, "latest").unreached)
    for word in ("models", "2 recipients", "backups", "other registries", "workers"):
        assert word in told


def test_what_cannot_be_removed_is_said(
    artifact: SealedArtifact, registry: DirectoryRegistry, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(DirectoryRegistry, "discard", lambda *_: None)
    done = erase(registry, "latest")
    assert {layer.digest for layer in artifact.manifest.layers} <= set(done.still)
    assert artifact.digest in done.gone


def test_beside_something_unknown_nothing_is_removed(artifact: SealedArtifact, registry: DirectoryRegistry):
    registry.put_manifest(b"[1]", media_type="text/plain", tag="strange")
    before = blobs(registry)
    with pytest.raises(MalformedArtifact):
        erase(registry, "latest")
    assert blobs(registry) == before
    assert registry.resolve("latest") == artifact.digest
