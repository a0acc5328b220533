"""Whole artifacts: skopeo's own vectors open, ours open again, and nothing changed, cut, mixed, renamed or huge does."""

import base64
import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strongroom.errors import FileUnreadable, MalformedArtifact, SealBroken, StrongroomError, UsageError
from strongroom.records.digest import digest_bytes
from strongroom.sealed.manifest import FILE_PATH
from strongroom.sealed.ocicrypt import layer as layers
from strongroom.sealed.ocicrypt import options
from strongroom.sealed.ocicrypt.artifact import Artifact
from strongroom.sealed.ocicrypt.decrypt import decrypt_into_directory, decrypt_into_registry
from strongroom.sealed.ocicrypt.encrypt import encrypt, media_type
from strongroom.sealed.ocicrypt.keys import private_from_pem
from strongroom.sealed.registries import DirectoryRegistry
from strongroom.sealed.registries.port import IMAGE_INDEX, IMAGE_MANIFEST, write_small

from .conftest import VECTORS

CANARY = b"canary-51c0-weights-that-nobody-may-see"
CONTENT = {
    "config.json": b"{}",
    "model.safetensors": CANARY * 40,
    "nested/README.md": b"trained on a rainy day",
    "nested/empty.bin": b"",
    "twin.safetensors": CANARY[::-1] * 40,
}
ANY_ERROR = (SealBroken, MalformedArtifact, FileUnreadable)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    for path, data in CONTENT.items():
        place = tmp_path / "model" / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)
    return tmp_path / "model"


@pytest.fixture
def registry(tmp_path: Path) -> DirectoryRegistry:
    return DirectoryRegistry(tmp_path / "registry")


@pytest.fixture
def artifact(source, registry, keys):
    return encrypt(source, registry, [keys["rsa"].public_key(), keys["p384"].public_key()], tag="v1")


def blob(registry: DirectoryRegistry, digest: str) -> Path:
    return registry.root / "blobs" / "sha256" / digest.removeprefix("sha256:")


def content(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def manifest(registry: DirectoryRegistry, reference: str = "v1") -> dict:
    return json.loads(registry.get_manifest(registry.resolve(reference)))


def put(registry: DirectoryRegistry, value: dict, tag: str = "v1") -> None:
    registry.put_manifest(json.dumps(value).encode(), media_type=IMAGE_MANIFEST, tag=tag)


def refused(registry: DirectoryRegistry, key, tmp_path: Path, kinds=ANY_ERROR) -> StrongroomError:
    """Both ways out refuse, and nothing stays of either."""
    before = sorted(registry.root.rglob("*"))
    with pytest.raises(kinds) as caught:
        decrypt_into_registry(registry, "v1", DirectoryRegistry(tmp_path / "plain"), "v1", key)
    with pytest.raises(kinds):
        decrypt_into_directory(registry, "v1", tmp_path / "out" / "here", key)
    assert not list((tmp_path / "out").iterdir() if (tmp_path / "out").exists() else [])
    assert not (tmp_path / "plain").exists() or content(tmp_path / "plain") == {}
    assert sorted(registry.root.rglob("*")) == before
    return caught.value


# What holds


@pytest.mark.parametrize(("tag", "name"), [(tag, name) for tag, names in VECTORS["opens"].items() for name in names])
def test_what_skopeo_encrypted_opens_to_what_it_was(skopeos, tmp_path, tag, name):
    key = private_from_pem(VECTORS["keys"][name].encode())
    into = DirectoryRegistry(tmp_path / "plain")
    digest = decrypt_into_registry(skopeos, tag, into, "v1", key)
    found = manifest(into)
    assert into.resolve("v1") == digest
    assert [entry["digest"] for entry in found["layers"]] == [VECTORS["plaintext"]]
    assert found["layers"][0]["mediaType"] == "application/vnd.oci.image.layer.v1.tar+gzip"
    assert options.PREFIX not in json.dumps(found)
    assert digest_bytes(blob(into, VECTORS["plaintext"]).read_bytes()) == VECTORS["plaintext"]
    assert found["config"]["digest"] == manifest(skopeos, tag)["config"]["digest"]


def test_what_is_wrapped_otherwise_is_refused_by_name(skopeos, tmp_path, keys):
    with pytest.raises(SealBroken, match="pkcs7"):
        decrypt_into_registry(skopeos, "pkcs7", DirectoryRegistry(tmp_path / "plain"), "v1", keys["rsa"])


@pytest.mark.parametrize("name", ["rsa", "p384"])
def test_each_recipient_opens_what_we_encrypted(artifact, registry, source, keys, tmp_path, name):
    told = []
    found = decrypt_into_directory(
        registry, artifact.digest, tmp_path / "out", keys[name], progress=lambda done, total: told.append((done, total))
    )
    assert content(tmp_path / "out") == content(source) == CONTENT
    assert {file.path: file.size for file in found} == {path: len(data) for path, data in CONTENT.items()}
    assert told[-1] == (sum(map(len, CONTENT.values())),) * 2
    assert (tmp_path / "out").stat().st_mode & 0o077 == 0


def test_it_is_a_model_pack_artifact_whose_layers_are_encrypted(artifact, registry):
    found = manifest(registry)
    assert found["artifactType"] == "application/vnd.cncf.model.manifest.v1+json"
    assert found["config"]["mediaType"] == "application/vnd.cncf.model.config.v1+json"
    assert [entry["annotations"][FILE_PATH] for entry in found["layers"]] == sorted(CONTENT)
    assert {entry["mediaType"] for entry in found["layers"]} == {
        f"application/vnd.cncf.model.{kind}.v1.raw+encrypted" for kind in ("weight", "weight.config", "doc")
    }
    config = json.loads(blob(registry, found["config"]["digest"]).read_bytes())
    assert config["modelfs"] == {"type": "layers", "diffIds": [entry["digest"] for entry in found["layers"]]}
    assert registry.resolve("v1") == artifact.digest


def test_nothing_plain_lies_in_the_registry(artifact, registry):
    assert artifact.files
    everything = b"".join(path.read_bytes() for path in registry.root.rglob("*") if path.is_file())
    for secret in (CANARY, CANARY[::-1], *(digest_bytes(data).encode()[7:] for data in CONTENT.values() if data)):
        assert secret not in everything


def test_no_key_and_no_nonce_is_used_twice(source, registry, keys):
    drawn = []

    def random(count: int) -> bytes:
        drawn.append(os.urandom(count))
        return drawn[-1]

    encrypt(source, registry, [keys["p256"].public_key()], random=random)
    assert len(set(drawn)) == len(drawn) == 1 + 4 * len(CONTENT)


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("a.gguf", "weight"),
        ("b/c.JSON", "weight.config"),
        ("LICENSE", "weight"),
        ("x.py", "code"),
        ("d.csv", "dataset"),
    ],
)
def test_the_media_type_follows_the_name(path, kind):
    assert media_type(path) == f"application/vnd.cncf.model.{kind}.v1.raw"


# What was tampered with


def test_a_wrong_key_opens_nothing(artifact, registry, keys, tmp_path):
    assert artifact.digest
    for name in ("p256", "p521"):
        assert "opens none" in refused(registry, keys[name], tmp_path, SealBroken).message


def test_a_flipped_byte_with_a_digest_made_anew_is_refused(artifact, registry, keys, tmp_path):
    value = manifest(registry, artifact.digest)
    for number in (1, 4):
        data = bytearray(blob(registry, value["layers"][number]["digest"]).read_bytes())
        data[7] ^= 1
        changed = json.loads(json.dumps(value))
        changed["layers"][number]["digest"] = write_small(registry, bytes(data))
        put(registry, changed)
        error = refused(registry, keys["rsa"], tmp_path, SealBroken)
        assert "MAC" in error.message
        assert error.detail == f"layer {number + 1}"


@pytest.mark.parametrize("harm", [lambda data: data[:-1], lambda data: data + b"\0", lambda _: b"", None])
def test_a_layer_that_was_cut_lengthened_or_lost_is_refused(artifact, registry, keys, tmp_path, harm):
    digest = manifest(registry, artifact.digest)["layers"][1]["digest"]
    if harm is None:
        blob(registry, digest).unlink()
    else:
        blob(registry, digest).write_bytes(harm(blob(registry, digest).read_bytes()))
    refused(registry, keys["rsa"], tmp_path)


def _swap_blobs(found: list[dict]) -> None:
    found[1]["digest"], found[4]["digest"] = found[4]["digest"], found[1]["digest"]


def _swap_names(found: list[dict]) -> None:
    one, two = found[1]["annotations"], found[4]["annotations"]
    one[FILE_PATH], two[FILE_PATH] = two[FILE_PATH], one[FILE_PATH]


def _swap_layers(found: list[dict]) -> None:
    found[1], found[4] = found[4], found[1]


def _swap_keys(found: list[dict]) -> None:
    one, two = found[1]["annotations"], found[4]["annotations"]
    one[options.JWE], two[options.JWE] = two[options.JWE], one[options.JWE]


def _swap_macs(found: list[dict]) -> None:
    one, two = found[1]["annotations"], found[4]["annotations"]
    one[options.PUBLIC], two[options.PUBLIC] = two[options.PUBLIC], one[options.PUBLIC]


def _leave_out(found: list[dict]) -> None:
    del found[2]


def _twice(found: list[dict]) -> None:
    found.append(found[2])


def _rename(found: list[dict]) -> None:
    found[1]["annotations"][FILE_PATH] = "other.safetensors"


def _unname(found: list[dict]) -> None:
    del found[1]["annotations"][FILE_PATH]


def _climb(found: list[dict]) -> None:
    found[1]["annotations"][FILE_PATH] = "../../climb"


def _in_the_clear(found: list[dict]) -> None:
    found[1]["mediaType"] = found[1]["mediaType"].removesuffix("+encrypted")


def _huge(found: list[dict]) -> None:
    found[1]["size"] = 1 << 49


def _impossible(found: list[dict]) -> None:
    found[1]["size"] = 1 << 60


def _negative(found: list[dict]) -> None:
    found[1]["size"] = -1


def _too_many(found: list[dict]) -> None:
    found.extend([{"mediaType": "x+encrypted", "digest": found[0]["digest"], "size": 2}] * 4096)


@pytest.mark.parametrize(
    "harm",
    [
        _swap_blobs, _swap_names, _swap_layers, _swap_keys, _swap_macs, _leave_out, _twice, _rename, _unname, _climb,
        _in_the_clear, _huge, _impossible, _negative, _too_many,
    ],
)  # fmt: skip
def test_a_manifest_that_was_changed_is_refused(artifact, registry, keys, tmp_path, harm):
    value = manifest(registry, artifact.digest)
    harm(value["layers"])
    put(registry, value)
    refused(registry, keys["rsa"], tmp_path)


def test_a_layer_of_another_artifact_for_the_same_people_is_refused(artifact, source, registry, keys, tmp_path):
    other = encrypt(source, registry, [keys["rsa"].public_key()], tag="other")
    value, foreign = manifest(registry, artifact.digest), manifest(registry, other.digest)
    value["layers"][1] = foreign["layers"][1]
    put(registry, value)
    assert "taken from elsewhere" in refused(registry, keys["rsa"], tmp_path, SealBroken).message


def test_a_layer_that_is_changed_between_check_and_use_is_not_decrypted(
    artifact, registry, keys, tmp_path, monkeypatch
):
    fetch = layers.fetch

    def fetch_then_change(source, size, fd, **about) -> None:
        fetch(source, size, fd, **about)
        blob(registry, about["digest"]).write_bytes(os.urandom(size))

    monkeypatch.setattr(layers, "fetch", fetch_then_change)
    decrypt_into_directory(registry, artifact.digest, tmp_path / "out", keys["rsa"])
    assert content(tmp_path / "out") == CONTENT


def test_others_artifacts_with_files_that_collide_are_refused(skopeos, tmp_path):
    key = private_from_pem(VECTORS["keys"]["rsa"].encode())
    value = manifest(skopeos, "rsa")
    one, two = (json.loads(json.dumps(value["layers"][0])) for _ in range(2))
    one["annotations"][FILE_PATH], two["annotations"][FILE_PATH] = "a", "a/b"
    put(skopeos, value | {"layers": [one, two]}, "collide")
    with pytest.raises(MalformedArtifact, match="one place"):
        decrypt_into_directory(skopeos, "collide", tmp_path / "out", key)
    put(skopeos, value | {"layers": [one]}, "named")
    decrypt_into_directory(skopeos, "named", tmp_path / "out", key)
    assert digest_bytes((tmp_path / "out" / "a").read_bytes()) == VECTORS["plaintext"]


def test_a_plaintext_that_is_not_what_was_wrapped_is_refused(registry, source, keys, tmp_path, monkeypatch):
    monkeypatch.setattr("strongroom.sealed.source.FileReader.described", _lying)
    encrypt(source, registry, [keys["rsa"].public_key()], tag="v1")
    assert "not what was encrypted" in refused(registry, keys["rsa"], tmp_path, SealBroken).message


def _lying(reader):
    from strongroom.records.artifact import SealedFile

    return SealedFile(reader._file.path, reader._file.size, bytes(32), digest_bytes(b"another"), "x/y")


# What is refused otherwise


def test_an_image_is_no_folder_of_files(skopeos, tmp_path):
    key = private_from_pem(VECTORS["keys"]["rsa"].encode())
    with pytest.raises(UsageError, match="it is an image") as caught:
        decrypt_into_directory(skopeos, "rsa", tmp_path / "out", key)
    assert "dir:PATH:TAG" in caught.value.remedy


def test_a_target_that_exists_is_left_alone(artifact, registry, keys, tmp_path):
    (tmp_path / "out").mkdir()
    with pytest.raises(UsageError, match="exists already"):
        decrypt_into_directory(registry, artifact.digest, tmp_path / "out", keys["rsa"])
    assert list((tmp_path / "out").iterdir()) == []


def test_encrypting_for_nobody_is_a_usage_error_and_leaves_nothing(source, registry):
    with pytest.raises(UsageError):
        encrypt(source, registry, [])
    assert not registry.root.exists()


def test_an_encryption_that_fails_takes_back_what_it_put_there(source, registry, keys, monkeypatch):
    monkeypatch.setattr("strongroom.sealed.ocicrypt.encrypt.MAX_MANIFEST_BYTES", 1000)
    with pytest.raises(UsageError, match="fit into one"):
        encrypt(source, registry, [keys["rsa"].public_key()])
    assert not registry.root.exists()


def test_a_decryption_that_fails_takes_back_only_what_it_put_there(artifact, registry, keys, tmp_path):
    into = DirectoryRegistry(tmp_path / "plain")
    kept = write_small(into, CONTENT["config.json"])
    value = manifest(registry, artifact.digest)
    blob(registry, value["layers"][4]["digest"]).write_bytes(bytes(len(CONTENT["twin.safetensors"])))
    with pytest.raises(SealBroken):
        decrypt_into_registry(registry, "v1", into, "v1", keys["rsa"])
    assert [path.name for path in (into.root / "blobs" / "sha256").iterdir()] == [kept.removeprefix("sha256:")]


@pytest.mark.parametrize(
    "change",
    [
        {"schemaVersion": 1},
        {"mediaType": IMAGE_INDEX},
        {"mediaType": "application/vnd.docker.distribution.manifest.v2+json"},
        {"manifests": []},
        {"layers": []},
        {"layers": {}},
        {"layers": [7]},
        {"config": None},
        {"artifactType": 7},
        {"annotations": []},
        {"annotations": {"a": 7}},
    ],
)
def test_other_manifests_are_malformed(skopeos, change):
    value = manifest(skopeos, "rsa")
    assert Artifact.encrypted(json.dumps(value).encode()).layers
    with pytest.raises(MalformedArtifact):
        Artifact.encrypted(json.dumps(value | change).encode())


@given(st.binary(max_size=200))
def test_the_parser_of_manifests_is_total(data):
    with pytest.raises(MalformedArtifact):
        Artifact.encrypted(data)


@given(st.sampled_from(sorted(VECTORS["layout"])), st.data())
def test_no_flipped_byte_of_skopeos_layout_opens_to_anything_else(tmp_path_factory, path, data):
    root = tmp_path_factory.mktemp("flipped")
    for name, text in VECTORS["layout"].items():
        raw = bytearray(base64.b64decode(text))
        if name == path:
            raw[data.draw(st.integers(0, len(raw) - 1))] ^= 1 << data.draw(st.integers(0, 7))
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(raw)
    into = DirectoryRegistry(root / "plain")
    try:
        decrypt_into_registry(
            DirectoryRegistry(root), "p521", into, "v1", private_from_pem(VECTORS["keys"]["p521"].encode())
        )
        assert [entry["digest"] for entry in manifest(into)["layers"]] == [VECTORS["plaintext"]]
    except StrongroomError:
        assert not into.root.exists() or not content(into.root)
