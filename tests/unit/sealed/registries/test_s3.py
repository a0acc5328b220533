"""A registry in a bucket: its index between writers, and a store's errors by our names. Real stores are in `tests/system`."""

from datetime import UTC, datetime, timedelta
from typing import Self

import pytest
from botocore import exceptions as boto

from strongroom.errors import (
    FileUnreadable,
    MalformedArtifact,
    NotAuthorised,
    SealBroken,
    ServiceUnavailable,
    UsageError,
)
from strongroom.records.digest import Digest, digest_bytes
from strongroom.sealed.registries import from_reference
from strongroom.sealed.registries.layout import index_bytes, parse_index, tagged, with_tag
from strongroom.sealed.registries.port import IMAGE_MANIFEST, Descriptor
from strongroom.sealed.registries.s3 import Bucket, S3Registry
from strongroom.sealed.registries.s3.blobs import MAX_PARTS, S3Writer
from strongroom.sealed.registries.s3.bucket import ConditionsUnknown, Listed, s3_errors
from strongroom.sealed.registries.s3.registry import ANNOUNCED, INDEX, WAITS

NOW = datetime(2026, 11, 21, tzinfo=UTC)


class FakeBucket:
    """Objects in memory. `kept` says what becomes of conditions; `before_write` runs before each write of the index."""

    def __init__(self, kept: str = "yes") -> None:
        self.objects: dict[str, bytes] = {}
        self.written: dict[str, datetime] = {}
        self.kept = kept
        self.before_write: list = []
        self.parts: list[int] = []

    def size(self, key: str) -> int:
        return len(self.get(key, limit=1 << 40)[0])

    def get(self, key: str, *, limit: int) -> tuple[bytes, str]:
        if key not in self.objects:
            raise FileUnreadable("missing", detail="NoSuchKey")
        assert len(self.objects[key]) <= limit
        return self.objects[key], digest_bytes(self.objects[key])

    def put(self, key: str, data: bytes) -> None:
        if key == INDEX and self.before_write:
            self.before_write.pop(0)()
        self.objects[key], self.written[key] = bytes(data), NOW

    def put_if(self, key: str, data: bytes, etag: str | None) -> bool:
        if self.kept == "unknown":
            raise ConditionsUnknown("none")
        if key == INDEX and self.before_write:
            self.before_write.pop(0)()
        there = digest_bytes(self.objects[key]) if key in self.objects else None
        if self.kept == "yes" and there != etag:
            return False
        self.objects[key] = data
        return True

    def delete(self, key: str) -> None:
        self.objects.pop(key, None)

    def listing(self, start: str) -> list[Listed]:
        return [Listed(key, self.written[key]) for key in self.objects if key.startswith(start)]

    def begin(self, key: str) -> str:
        return "upload of " + key

    def add(self, key: str, upload: str, number: int, data: bytearray) -> str:
        assert upload.endswith(key)
        self.parts.append(len(data))
        return str(number)

    def abandon(self, *_: str) -> None:
        self.parts.clear()


def registry(bucket: FakeBucket) -> S3Registry:
    return S3Registry(bucket, sleep=lambda _: None)


def other(bucket: FakeBucket, tag: str, data: bytes):
    """What another writer does in one go."""

    def write() -> None:
        entries = parse_index(bucket.objects[INDEX]) if INDEX in bucket.objects else []
        bucket.objects[INDEX] = index_bytes(with_tag(entries, Descriptor.of(IMAGE_MANIFEST, data), tag))

    return write


def put(bucket: FakeBucket, tag: str, data: bytes = b"{ours}") -> Digest:
    return registry(bucket).put_manifest(data, media_type=IMAGE_MANIFEST, tag=tag)


def names(bucket: FakeBucket) -> dict[str, Digest]:
    entries = parse_index(bucket.objects[INDEX])
    found = {entry["annotations"]["org.opencontainers.image.ref.name"] for entry in entries}
    return {tag: tagged(entries, tag).digest for tag in found}


@pytest.mark.parametrize("kept", ["yes", "no", "unknown"])
def test_what_others_wrote_before_stays(kept: str):
    bucket = FakeBucket(kept)
    other(bucket, "theirs", b"1")()
    ours = put(bucket, "ours")
    assert names(bucket) == {"theirs": digest_bytes(b"1"), "ours": ours}
    assert not [key for key in bucket.objects if key.startswith("partial/")]
    assert b"imageLayoutVersion" in bucket.objects["oci-layout"]


def test_what_another_writes_between_reading_and_writing_is_kept_where_conditions_hold():
    bucket = FakeBucket()
    bucket.before_write = [other(bucket, "theirs", b"1"), other(bucket, "too", b"2")]
    put(bucket, "ours")
    assert set(names(bucket)) == {"ours", "theirs", "too"}


def test_a_change_that_another_undoes_is_made_again_where_conditions_are_ignored():
    bucket = FakeBucket("no")
    other(bucket, "base", b"0")()
    stale = bucket.objects[INDEX]
    bucket.objects[ANNOUNCED + "slow"], bucket.written[ANNOUNCED + "slow"] = b"", NOW
    waited = []

    def sleep(_: float) -> None:
        """The other writer, which had read before us, ends: it writes what it had made of the index that it read."""
        if not waited:
            entries = with_tag(parse_index(stale), Descriptor.of(IMAGE_MANIFEST, b"1"), "theirs")
            bucket.objects[INDEX] = index_bytes(entries)
            bucket.delete(ANNOUNCED + "slow")
        waited.append(1)

    ours = S3Registry(bucket, sleep=sleep).put_manifest(b"{ours}", media_type=IMAGE_MANIFEST, tag="ours")
    assert names(bucket) == {"base": digest_bytes(b"0"), "theirs": digest_bytes(b"1"), "ours": ours}


def test_a_tag_that_another_moved_on_is_not_moved_back():
    bucket = FakeBucket("no")
    bucket.objects[ANNOUNCED + "next"], bucket.written[ANNOUNCED + "next"] = b"", NOW

    def sleep(_: float) -> None:
        other(bucket, "v1", b"newer")()
        bucket.delete(ANNOUNCED + "next")

    S3Registry(bucket, sleep=sleep).put_manifest(b"{ours}", media_type=IMAGE_MANIFEST, tag="v1")
    assert names(bucket) == {"v1": digest_bytes(b"newer")}


@pytest.mark.parametrize(("age", "heeded"), [(timedelta(minutes=1), True), (timedelta(minutes=11), False)])
def test_a_writer_that_does_not_end_is_an_error_until_it_is_surely_dead(age: timedelta, heeded: bool):  # noqa: FBT001
    bucket, slept = FakeBucket("no"), []
    bucket.objects[ANNOUNCED + "dead"], bucket.written[ANNOUNCED + "dead"] = b"", NOW - age
    made = S3Registry(bucket, sleep=slept.append)
    if heeded:
        with pytest.raises(ServiceUnavailable, match="may be undone"):
            made.put_manifest(b"{ours}", media_type=IMAGE_MANIFEST, tag="ours")
        assert len(slept) == WAITS
    else:
        made.put_manifest(b"{ours}", media_type=IMAGE_MANIFEST, tag="ours")
    assert set(names(bucket)) == {"ours"}


def test_others_who_never_let_us_write_are_an_error_and_not_a_loop():
    bucket = FakeBucket()
    bucket.before_write = [other(bucket, f"t{number}", b"%d" % number) for number in range(100)]
    with pytest.raises(ServiceUnavailable, match="kept changing"):
        put(bucket, "ours")
    assert "ours" not in names(bucket)


def test_a_referrer_that_another_attaches_at_the_same_time_is_kept():
    bucket, subject, kind = FakeBucket(), digest_bytes(b"subject"), "application/octet-stream"
    bucket.before_write = [lambda: registry(bucket).attach(subject, b"{theirs}", artifact_type=kind)]
    ours = registry(bucket).attach(subject, b"{ours}", artifact_type=kind)
    assert registry(bucket).referrers(subject, kind) == (digest_bytes(b"{theirs}"), ours)
    assert registry(bucket).attach(subject, b"{ours}", artifact_type=kind) == ours
    assert len(registry(bucket).referrers(subject, kind)) == 2


def test_an_index_that_is_full_is_not_written():
    bucket = FakeBucket()
    entry = {**Descriptor.of(IMAGE_MANIFEST, b"x").to_json(), "annotations": {"x": "y" * (4 * 1024 * 1024 - 400)}}
    bucket.objects[INDEX] = index_bytes([entry])
    with pytest.raises(UsageError, match="full"):
        put(bucket, "v" * 128)
    assert parse_index(bucket.objects[INDEX]) == [entry]


def test_a_bucket_that_is_not_there_is_no_empty_index():
    bucket = FakeBucket()

    def get(key: str, *, limit: int) -> tuple[bytes, str]:
        raise FileUnreadable(f"{key} {limit}", detail="NoSuchBucket")

    bucket.get = get
    with pytest.raises(FileUnreadable):
        registry(bucket).resolve("v1")


def test_a_blob_of_too_many_parts_is_refused_and_taken_back():
    bucket = FakeBucket()
    with pytest.raises(UsageError, match="too large"), S3Registry(bucket, part_bytes=1).push_blob() as writer:
        writer.write(bytes(MAX_PARTS + 2))
    assert bucket.parts == []


def test_memory_is_bounded_by_parts():
    writer = S3Writer(FakeBucket(), 4)
    writer.write(b"0123456789")
    assert [part.result() for part in writer._upload._parts] == ["1", "2"]
    assert (writer.bucket.parts, len(writer._part)) == ([4, 4], 2)
    writer.close()


# Errors


def answer(code: str, status: int = 400) -> boto.ClientError:
    return boto.ClientError({"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}, "GetObject")


@pytest.mark.parametrize(
    ("raised", "kind"),
    [
        (answer("NoSuchKey"), FileUnreadable),
        (answer("NoSuchBucket"), FileUnreadable),
        (answer("404"), FileUnreadable),
        (answer("AccessDenied"), NotAuthorised),
        (answer("403"), NotAuthorised),
        (answer("ExpiredToken"), NotAuthorised),
        (boto.NoCredentialsError(), NotAuthorised),
        (answer("PermanentRedirect"), UsageError),
        (answer("SlowDown"), ServiceUnavailable),
        (answer("InternalError"), ServiceUnavailable),
        (answer("<b>canary</b>"), ServiceUnavailable),
        (boto.ClientError({}, "GetObject"), ServiceUnavailable),
        (boto.EndpointConnectionError(endpoint_url="http://x"), ServiceUnavailable),
        (boto.ReadTimeoutError(endpoint_url="http://x"), ServiceUnavailable),
        (boto.ParamValidationError(report="x"), UsageError),
        (boto.ProfileNotFound(profile="x"), UsageError),
        (ValueError("Invalid endpoint"), UsageError),
        (ConnectionResetError(), ServiceUnavailable),
    ],
)
def test_what_boto_raises_has_a_name_of_ours_and_a_remedy(raised: Exception, kind: type):
    with pytest.raises(kind) as caught, s3_errors("it"):
        raise raised
    assert type(caught.value) is kind
    assert caught.value.remedy
    assert "canary" not in f"{caught.value.message}{caught.value.detail}"


class Body:
    """The body of an answer that may break off."""

    def __init__(self, data: bytes, *, breaks: bool = False) -> None:
        self.data, self.breaks = data, breaks

    def readinto(self, buffer: memoryview) -> int:
        if not self.data and self.breaks:
            raise boto.ResponseStreamingError(error="gone")
        count = min(len(buffer), 2, len(self.data))
        buffer[:count], self.data = self.data[:count], self.data[count:]
        return count

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None: ...


class Client:
    """Answers prepared beforehand, in order."""

    def __init__(self, *answers: object) -> None:
        self.answers = list(answers)

    def get_object(self, **_: object) -> object:
        found = self.answers.pop(0)
        if isinstance(found, Exception):
            raise found
        return found


def ranged(data: bytes, of: str = "bytes 2-5/10", *, breaks: bool = False) -> dict[str, object]:
    return {"Body": Body(data, breaks=breaks), "ContentLength": 4, "ContentRange": of, "ETag": '"e"'}


def read(*answers: object) -> bytes:
    buffer = bytearray(4)
    Bucket(Client(*answers), "bucket", "p").read_into("key", memoryview(buffer), 2, 10)
    return bytes(buffer)


def test_a_body_that_breaks_off_is_fetched_again_a_few_times():
    assert read(ranged(b"23", breaks=True), ranged(b"2"), ranged(b"2345")) == b"2345"
    with pytest.raises(ServiceUnavailable):
        read(*(ranged(b"23", breaks=True) for _ in range(4)), ranged(b"2345"))


@pytest.mark.parametrize("of", ["bytes 2-5/11", "bytes 0-3/10", "bytes 2-4/10", "", None])
def test_another_range_than_was_asked_for_is_refused(of: str | None):
    with pytest.raises(SealBroken, match="other bytes"):
        read(ranged(b"2345", of))


@pytest.mark.parametrize("code", ["InvalidRange", "416", "InvalidArgument"])
def test_a_range_beyond_the_end_is_a_blob_that_shrank(code: str):
    with pytest.raises(SealBroken, match="shorter"):
        read(answer(code))


def test_an_object_longer_than_its_limit_is_not_read():
    with pytest.raises(MalformedArtifact, match="limit of 3"):
        Bucket(Client(ranged(b"2345")), "bucket", "p").get("key", limit=3)


# References

HEX = "sha256:" + "ab" * 32


@pytest.mark.parametrize(
    ("text", "bucket", "prefix", "name"),
    [
        ("s3://models/smol", "models", "smol", "latest"),
        ("s3://my.bucket-1/team/smol:v1.2", "my.bucket-1", "team/smol", "v1.2"),
        (f"s3://models/a/b@{HEX}", "models", "a/b", HEX),
    ],
)
def test_a_reference_names_a_bucket_a_prefix_and_a_tag_or_digest(
    text: str, bucket: str, prefix: str, name: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    found, reference = from_reference(text)
    assert isinstance(found, S3Registry)
    assert (found.bucket.name, found.bucket.prefix, reference) == (bucket, prefix, name)


def test_without_its_package_the_scheme_is_a_usage_error_with_its_remedy(monkeypatch: pytest.MonkeyPatch):
    import sys

    for name in [name for name in sys.modules if name.startswith("strongroom.sealed.registries.s3")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "boto3", None)
    with pytest.raises(UsageError) as caught:
        from_reference("s3://bucket/prefix")
    assert caught.value.remedy == "pip install 'strongroom[s3]'"
