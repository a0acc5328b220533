"""The manifest: one form, and nothing in it that tells more than sizes."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strongroom.errors import MalformedArtifact
from strongroom.records.artifact import (
    ArtifactKind,
    KeyWrap,
    RecipientKey,
    SealedFile,
    SealedIndex,
    SealHeader,
    is_plain_path,
)
from strongroom.records.digest import digest_bytes
from strongroom.records.release import Edition, WrappedKey
from strongroom.sealed.manifest import LAYER_TYPE, Manifest, artifact_type
from strongroom.sealed.registries.port import Descriptor

BOX = RecipientKey(digest_bytes(b"recipient"), b"encapsulation", b"ciphertext")


def manifest(kind: ArtifactKind = ArtifactKind.MODEL, layers: int = 3) -> Manifest:
    header = SealHeader(bytes(range(16)), bytes(range(16)), 1, kind, 1 << 20, KeyWrap(None, (BOX,)))
    return Manifest(header, tuple(Descriptor.of(LAYER_TYPE, bytes([number])) for number in range(layers)))


@pytest.mark.parametrize("kind", list(ArtifactKind))
def test_a_manifest_comes_back_as_it_was(kind: ArtifactKind):
    assert Manifest.from_bytes(manifest(kind).to_bytes()) == manifest(kind)


def test_a_model_is_a_modelpack_artifact_with_numbers_for_names():
    value = json.loads(manifest().to_bytes())
    assert value["artifactType"] == "application/vnd.cncf.model.manifest.v1+json"
    assert value["config"]["mediaType"] == "application/vnd.cncf.model.config.v1+json"
    assert [layer["annotations"] for layer in value["layers"]] == [{"org.cncf.model.filepath": n} for n in "012"]
    assert len({artifact_type(kind) for kind in ArtifactKind}) == len(ArtifactKind)


def test_the_config_tells_nothing_but_the_digests_of_ciphertext():
    config = json.loads(manifest().config_bytes())
    digests = [layer.digest for layer in manifest().layers]
    assert config == {"descriptor": {}, "modelfs": {"type": "layers", "diffIds": digests}, "config": {}}


@settings(max_examples=50, deadline=None)
@given(data=st.data())
def test_a_changed_manifest_is_another_one_or_malformed(data: st.DataObject):
    changed = bytearray(manifest().to_bytes())
    changed[data.draw(st.integers(0, len(changed) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    try:
        found = Manifest.from_bytes(bytes(changed))
    except MalformedArtifact:
        return
    assert found != manifest()
    assert found.to_bytes() == bytes(changed)


@settings(max_examples=50, deadline=None)
@given(
    st.one_of(
        st.binary(max_size=200), st.recursive(st.none() | st.text(), st.lists).map(lambda v: json.dumps(v).encode())
    )
)
def test_any_other_bytes_are_malformed(data: bytes):
    with pytest.raises(MalformedArtifact):
        Manifest.from_bytes(data)


CHANGES: dict[str, Any] = {
    "an unknown member": lambda v: v.update(extra=1),
    "a subject": lambda v: v.update(subject=v["config"]),
    "another annotation": lambda v: v["annotations"].update(title="secret"),
    "a named layer": lambda v: v["layers"][1]["annotations"].update({"org.cncf.model.filepath": "model.gguf"}),
    "another config": lambda v: v["config"].update(digest="sha256:" + "0" * 64),
    "another artifact type": lambda v: v.update(artifactType="application/vnd.oci.image"),
    "only an index": lambda v: v.update(layers=v["layers"][:1]),
    "no layers": lambda v: v.update(layers=[]),
    "a layer of another type": lambda v: v["layers"][0].update(mediaType="application/vnd.oci.image.layer.v1.tar"),
    "a negative size": lambda v: v["layers"][0].update(size=-1),
    "a true size": lambda v: v["layers"][0].update(size=True),
    "another digest algorithm": lambda v: v["layers"][0].update(digest="sha512:" + "0" * 128),
    "no header": lambda v: v["annotations"].clear(),
    "an unknown version": lambda v: v["annotations"].update(
        {k: t.replace("seal/v1", "seal/v2") for k, t in v["annotations"].items()}
    ),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_a_manifest_of_another_shape_is_malformed(change: Any):
    value = json.loads(manifest().to_bytes())
    change(value)
    with pytest.raises(MalformedArtifact):
        Manifest.from_bytes(json.dumps(value, sort_keys=True, separators=(",", ":")).encode())


def test_a_header_names_somebody_who_can_open_it_and_each_once():
    with pytest.raises(ValueError, match="nobody"):
        KeyWrap(None, ())
    with pytest.raises(ValueError, match="once"):
        KeyWrap(None, (BOX, BOX))
    wrapped = WrappedKey("key", 1, digest_bytes(b"broker"), Edition.first(bytes(16)), b"")
    with pytest.raises(ValueError, match="another artifact"):
        SealHeader(bytes(range(16)), bytes(range(16)), 1, ArtifactKind.MODEL, 1 << 20, KeyWrap(wrapped, ()))
    with pytest.raises(ValueError, match="16 bytes"):
        SealHeader(b"short", b"short", 1, ArtifactKind.MODEL, 1 << 20, KeyWrap(None, (BOX,)))


@pytest.mark.parametrize("path", ["a", "a/b", "a.b/c d", ".gitignore", "ä/模型.gguf", "a" * 1024])
def test_a_path_below_the_artifact_is_plain(path: str):
    assert is_plain_path(path)
    assert SealedFile(path, 0, bytes(32), BOX.recipient, "").path == path


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/a",
        "a/",
        "a//b",
        ".",
        "..",
        "../a",
        "a/../b",
        "a/./b",
        "a\\b",
        "a\0b",
        "a\nb",
        "\ud800",
        "a\u202eb",
        "a" * 1025,
    ],
)
def test_a_path_that_climbs_or_hides_is_refused(path: str):
    with pytest.raises(ValueError, match="path"):
        SealedFile(path, 0, bytes(32), BOX.recipient, "")


@pytest.mark.parametrize("paths", [[], ["a", "a"], ["a", "a/b"], ["a/b/c", "a/b"]])
def test_an_index_holds_files_that_do_not_stand_in_each_others_place(paths: list[str]):
    with pytest.raises(ValueError, match="files"):
        SealedIndex(
            "name", ArtifactKind.MODEL, tuple(SealedFile(path, 0, bytes(32), BOX.recipient, "") for path in paths), ""
        )


def test_nothing_is_kept_outside_the_registry(registry: Any, artifact: Any, tmp_path: Path):
    assert sorted(path.name for path in tmp_path.iterdir()) == ["little-model", "registry"]
    assert registry.resolve("latest") == artifact.digest
