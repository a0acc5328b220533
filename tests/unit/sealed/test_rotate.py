"""Keys change: wrapped anew, encrypted anew; and what is older than the floor is refused, whoever offers it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from strongroom.crypto.hpke import ReleaseKey
from strongroom.errors import EditionRefused, SealBroken, SignatureInvalid, StoreUnavailable
from strongroom.records.artifact import SealHeader
from strongroom.records.release import Edition
from strongroom.sealed.open import Floor, Opener
from strongroom.sealed.registries import DirectoryRegistry
from strongroom.sealed.rotate import rekey, rewrap
from strongroom.sealed.seal import SealedArtifact
from strongroom.sealed.wrapping import unwrap, wrap_to

from .conftest import CANARY, CONTENT, Owner, content_of


def blobs(registry: DirectoryRegistry) -> set[str]:
    return {path.name for path in (registry.root / "blobs" / "sha256").iterdir()}


def test_another_recipient_and_not_one_layer_moved(owner: Owner, artifact: SealedArtifact, registry: DirectoryRegistry):
    other, before = ReleaseKey.generate(), blobs(registry)
    with owner.open(registry) as opened:
        keys = opened.streams.wrapped(wrap_to([other.public]))
    made = rewrap(registry, artifact.manifest, keys, signer=owner.signer, tag="latest")
    assert made.layers == artifact.manifest.layers
    assert made.header.of == artifact.manifest.header.of
    opener = owner.opener(registry)
    with pytest.raises(SealBroken):
        unwrap(opener.header, owner.recipient)
    with opener.open(unwrap(opener.header, other)) as opened:
        assert content_of(opened, "model.gguf") == CONTENT["model.gguf"]
    assert before < blobs(registry)


def test_a_rewrapping_that_fails_leaves_what_was_there(
    owner: Owner, artifact: SealedArtifact, registry: DirectoryRegistry, monkeypatch: pytest.MonkeyPatch
):
    before = blobs(registry)

    def full(*_: object, **__: object) -> None:
        raise StoreUnavailable("no room")

    with owner.open(registry) as opened:
        keys = opened.streams.wrapped(wrap_to([ReleaseKey.generate().public]))
    monkeypatch.setattr(DirectoryRegistry, "attach", full)
    with pytest.raises(StoreUnavailable):
        rewrap(registry, artifact.manifest, keys, signer=owner.signer, tag="latest")
    assert blobs(registry) == before
    assert owner.contents(registry) == CONTENT


def rekeyed(owner: Owner, registry: DirectoryRegistry, **options: Any) -> SealedArtifact:
    told: list[tuple[int, int]] = []
    with owner.open(registry) as opened:
        made = rekey(
            opened,
            registry,
            wrap=wrap_to([owner.recipient.public]),
            signer=owner.signer,
            tag="latest",
            progress=lambda done, total: told.append((done, total)),
            **options,
        )
    assert told
    assert all(done <= total for done, total in told)
    return made


def test_after_a_rekey_the_old_key_opens_nothing_of_the_new(
    owner: Owner, artifact: SealedArtifact, registry: DirectoryRegistry
):
    old_key = unwrap(artifact.manifest.header, owner.recipient)
    made = rekeyed(owner, registry)
    assert owner.contents(registry) == CONTENT
    assert not {layer.digest for layer in made.manifest.layers} & {layer.digest for layer in artifact.manifest.layers}
    with pytest.raises(SealBroken):
        owner.opener(registry).open(old_key)
    assert not any(CANARY in path.read_bytes() for path in registry.root.rglob("*") if path.is_file())


def test_a_rekeyed_artifact_is_the_next_edition_of_its_line(
    owner: Owner, artifact: SealedArtifact, registry: DirectoryRegistry
):
    first = artifact.manifest.header
    second = rekeyed(owner, registry).manifest.header
    third = rekeyed(owner, registry).manifest.header
    assert (first.edition, second.edition, third.edition) == (1, 2, 3)
    assert first.artifact_id == first.line == second.line == third.line
    assert len({first.artifact_id, second.artifact_id, third.artifact_id}) == 3


def test_padding_survives_a_rekey(owner: Owner, source: Path, registry: DirectoryRegistry):
    before = owner.seal(source, registry, pad_to=512)
    after = rekeyed(owner, registry)
    assert [layer.size for layer in before.manifest.layers] == [layer.size for layer in after.manifest.layers]
    assert owner.contents(registry) == CONTENT


def test_a_rekey_of_something_broken_ends_and_leaves_nothing_new(
    owner: Owner, artifact: SealedArtifact, registry: DirectoryRegistry
):
    place = registry.root / "blobs" / "sha256" / artifact.manifest.layers[4].digest.removeprefix("sha256:")
    data = bytearray(place.read_bytes())
    data[-1] ^= 1
    place.write_bytes(data)
    before = blobs(registry)
    with pytest.raises(SealBroken, match="segment"):
        rekeyed(owner, registry)
    assert blobs(registry) == before
    assert registry.resolve("latest") == artifact.digest


def test_a_store_that_offers_an_older_edition_is_found_out(
    owner: Owner, artifact: SealedArtifact, registry: DirectoryRegistry
):
    floor = Floor(artifact.manifest.header.line, 2)
    made = rekeyed(owner, registry)
    public = owner.signer.public_key()
    assert Opener(registry, "latest", signer_public=public, floor=floor).digest == made.digest
    registry.put_manifest(
        artifact.manifest.to_bytes(), media_type="application/vnd.oci.image.manifest.v1+json", tag="latest"
    )
    assert owner.opener(registry).digest == artifact.digest  # signed, whole, and old
    with pytest.raises(EditionRefused, match="edition 1"):
        Opener(registry, "latest", signer_public=public, floor=floor)
    with pytest.raises(EditionRefused, match="another line"):
        Opener(registry, "latest", signer_public=public, floor=Floor(bytes(16), 1))


def test_an_edition_cannot_be_raised_by_a_store(owner: Owner, artifact: SealedArtifact, registry: DirectoryRegistry):
    header = replace(artifact.manifest.header, edition=9, artifact_id=bytes(16))
    changed = replace(artifact.manifest, header=header)
    registry.put_manifest(changed.to_bytes(), media_type="application/vnd.oci.image.manifest.v1+json", tag="latest")
    with pytest.raises(SignatureInvalid):
        Opener(registry, "latest", signer_public=owner.signer.public_key(), floor=Floor(header.line, 9))


def test_a_later_artifact_can_be_sealed_from_other_files(owner: Owner, source: Path, registry: DirectoryRegistry):
    one = owner.seal(source, registry)
    (source / "model.gguf").write_bytes(b"retrained")
    two = owner.seal(source, registry, follows=one.manifest.header.of)
    assert two.manifest.header.of == Edition(two.manifest.header.artifact_id, one.manifest.header.line, 2)
    assert owner.contents(registry)["model.gguf"] == b"retrained"


@pytest.mark.parametrize(("line", "edition"), [(b"x" * 16, 1), (b"a" * 16, 2), (b"a" * 16, 0), (b"short", 2)])
def test_only_the_first_edition_bears_its_lines_id(artifact: SealedArtifact, line: bytes, edition: int):
    header = artifact.manifest.header
    with pytest.raises(ValueError, match=r"edition|artifact id"):
        SealHeader(b"a" * 16, line, edition, header.kind, header.segment_bytes, replace(header.keys, broker=None))
