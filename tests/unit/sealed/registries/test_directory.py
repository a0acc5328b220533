"""A registry in a folder: whole blobs or none, tags that move at once, and what a killed writer left is swept."""

import fcntl
import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from strongroom.errors import FileUnreadable, MalformedArtifact, SealBroken, UsageError
from strongroom.records.digest import Digest, digest_bytes
from strongroom.sealed.registries import DirectoryRegistry, from_reference
from strongroom.sealed.registries.port import IMAGE_INDEX, IMAGE_MANIFEST, Descriptor, read_small, write_small

TYPE = "application/octet-stream"


@pytest.fixture
def registry(tmp_path: Path) -> DirectoryRegistry:
    return DirectoryRegistry(tmp_path / "a" / "registry")


def blobs(registry: DirectoryRegistry) -> list[str]:
    return sorted(path.name for path in (registry.root / "blobs" / "sha256").iterdir())


def test_a_blob_is_kept_under_its_digest_and_read_at_any_place(registry: DirectoryRegistry):
    with registry.push_blob() as writer:
        writer.write(b"01234")
        writer.write(memoryview(b"56789"))
        digest, size = writer.commit()
    assert (digest, size) == (digest_bytes(b"0123456789"), 10)
    buffer = bytearray(4)
    with registry.open_blob(digest) as blob:
        blob.read_into(memoryview(buffer), 3)
        assert (bytes(buffer), blob.size) == (b"3456", 10)
        with pytest.raises(SealBroken, match="ends before"):
            blob.read_into(memoryview(buffer), 7)


def test_a_blob_that_was_not_committed_is_gone(registry: DirectoryRegistry):
    with registry.push_blob() as writer:
        writer.write(b"half")
    with pytest.raises(ZeroDivisionError), registry.push_blob() as writer:
        writer.write(b"x" * (1 // 0))
    assert blobs(registry) == []


def test_what_a_killed_writer_left_is_swept_and_a_living_writers_is_not(registry: DirectoryRegistry):
    with registry.push_blob() as living:
        living.write(b"whole")
        dead = registry.root / "blobs" / "sha256" / ".partial-dead"
        dead.write_bytes(b"half")
        write_small(registry, b"other")
        assert not dead.exists()
        living.commit()
    assert blobs(registry) == sorted(digest_bytes(data).removeprefix("sha256:") for data in (b"whole", b"other"))


def test_a_tag_names_the_newest_and_others_stay(registry: DirectoryRegistry):
    for tag, data in (("one", b"{1}"), ("two", b"{2}"), ("one", b"{3}")):
        registry.put_manifest(data, media_type=IMAGE_MANIFEST, tag=tag)
    assert registry.resolve("one") == digest_bytes(b"{3}")
    assert registry.get_manifest(registry.resolve("two")) == b"{2}"
    assert len(json.loads((registry.root / "index.json").read_bytes())["manifests"]) == 2
    assert json.loads((registry.root / "oci-layout").read_bytes()) == {"imageLayoutVersion": "1.0.0"}


def test_tags_of_writers_at_one_time_are_all_kept(registry: DirectoryRegistry):
    def put(number: int) -> Digest:
        return registry.put_manifest(b"%d" % number, media_type=IMAGE_MANIFEST, tag=f"t{number}")

    with ThreadPoolExecutor(8) as pool:
        digests = list(pool.map(put, range(24)))
    assert [registry.resolve(f"t{number}") for number in range(24)] == digests


def test_entries_that_others_wrote_into_the_index_stay(registry: DirectoryRegistry):
    registry.put_manifest(b"{1}", media_type=IMAGE_MANIFEST, tag="one")
    index = registry.root / "index.json"
    value = json.loads(index.read_bytes())
    foreign = {**Descriptor.of(IMAGE_MANIFEST, b"foreign").to_json(), "platform": {"os": "linux"}}
    value["manifests"].append(foreign)
    index.write_text(json.dumps(value))
    registry.put_manifest(b"{2}", media_type=IMAGE_MANIFEST, tag="two")
    assert foreign in json.loads(index.read_bytes())["manifests"]


def test_referrers_are_listed_under_the_fallback_tag_each_once(registry: DirectoryRegistry):
    subject = digest_bytes(b"subject")
    assert registry.referrers(subject, TYPE) == ()
    digests = tuple(registry.attach(subject, data, artifact_type=TYPE) for data in (b"{1}", b"{2}"))
    registry.attach(subject, b"{1}", artifact_type=TYPE)
    registry.attach(subject, b"{3}", artifact_type="another/type")
    assert registry.referrers(subject, TYPE) == tuple(reversed(digests))
    listing = json.loads(registry.get_manifest(registry.resolve(subject.replace(":", "-"))))
    assert (listing["mediaType"], len(listing["manifests"])) == (IMAGE_INDEX, 3)


def test_a_manifest_with_another_digest_is_refused(registry: DirectoryRegistry):
    digest = registry.put_manifest(b"{1}", media_type=IMAGE_MANIFEST)
    (registry.root / "blobs" / "sha256" / digest.removeprefix("sha256:")).write_bytes(b"{2}")
    with pytest.raises(SealBroken, match="digest"):
        registry.get_manifest(digest)


def test_a_small_blob_is_read_only_at_the_size_and_limit_that_were_said(registry: DirectoryRegistry):
    descriptor = Descriptor(TYPE, write_small(registry, b"12345"), 5)
    assert read_small(registry, descriptor, limit=5) == b"12345"
    with pytest.raises(MalformedArtifact, match="limit"):
        read_small(registry, descriptor, limit=4)
    with pytest.raises(SealBroken, match="another size"):
        read_small(registry, Descriptor(TYPE, descriptor.digest, 4), limit=5)


@pytest.mark.parametrize("index", [b"", b"[]", b"{}", b'{"manifests":[1]}', b'{"manifests":{}}', b"\0" * 5_000_000])
def test_an_index_that_does_not_parse_is_malformed(registry: DirectoryRegistry, index: bytes):
    registry.root.mkdir(parents=True)
    (registry.root / "index.json").write_bytes(index)
    with pytest.raises(MalformedArtifact):
        registry.resolve("latest")


def test_a_name_that_is_not_there_is_unreadable(registry: DirectoryRegistry):
    with pytest.raises(FileUnreadable, match="by the name 'latest'"):
        registry.resolve("latest")
    with pytest.raises(FileUnreadable), registry.open_blob(digest_bytes(b"missing")):
        pass


def test_taking_back_leaves_what_others_keep_there(registry: DirectoryRegistry):
    one, two = write_small(registry, b"1"), write_small(registry, b"2")
    registry.discard((one,))
    assert blobs(registry) == [two.removeprefix("sha256:")]
    registry.discard((one, two))
    assert not registry.root.exists()


def test_a_folder_that_cannot_be_written_is_one_clear_error(tmp_path: Path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(FileUnreadable, match="cannot be written: Not a directory"):
        write_small(DirectoryRegistry(tmp_path / "file"), b"x")


def test_locks_do_not_outlive_their_use(registry: DirectoryRegistry):
    registry.put_manifest(b"{1}", media_type=IMAGE_MANIFEST, tag="one")
    fd = os.open(registry.root, os.O_RDONLY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    finally:
        os.close(fd)


HEX = "sha256:" + "ab" * 32


@pytest.mark.parametrize(
    ("text", "path", "name"),
    [
        ("dir:models", "models", "latest"),
        ("dir:/srv/models:smol-v1.2", "/srv/models", "smol-v1.2"),
        (f"dir:/srv/models@{HEX}", "/srv/models", HEX),
        ("dir:/srv/a:b/models", "/srv/a:b/models", "latest"),
        ("dir:./x:y:z", "x:y", "z"),
    ],
)
def test_a_reference_names_a_folder_and_a_tag_or_digest(text: str, path: str, name: str):
    registry, reference = from_reference(text)
    assert isinstance(registry, DirectoryRegistry)
    assert (str(registry.root), reference) == (path, name)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "dir:",
        "models",
        "oci://host",
        "s3://bucket",
        "s3://b/",
        "s3:/bucket/key",
        "s3://bucket/a//b",
        "s3://bucket/../b",
        "dir",
    ],
)
def test_other_references_are_usage_errors_that_name_what_is_supported(text: str):
    with pytest.raises(UsageError) as caught:
        from_reference(text)
    assert "oci://HOST/NAME" in caught.value.remedy.replace("[:PORT]", "")
