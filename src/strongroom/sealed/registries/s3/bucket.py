"""A bucket of an S3 store below a prefix: the few requests that a registry makes, and their errors by our names.

Endpoint, region, proxies and credentials are boto's own business (environment, profiles, roles of a machine). The SHA-256 of
every body travels in its signature, so that a store refuses what was damaged on the way, whether or not it knows newer
checksums. Every request is tried a fixed number of times, and a body that breaks off is fetched again.

Knows: requests of the Amazon S3 API (2006-03-01), conditional writes among them. Does not know: what the objects are.
Not covered: versions of objects, storage classes, encryption by the store, object locks.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

import boto3
from botocore import exceptions as boto
from botocore.config import Config

from strongroom.errors import (
    FileUnreadable,
    MalformedArtifact,
    NotAuthorised,
    SealBroken,
    ServiceUnavailable,
    StrongroomError,
    UsageError,
)

ATTEMPTS = 4
CONNECT_SECONDS = 10
READ_SECONDS = 60
CONNECTIONS = 32
MAX_LISTED = 1000
COPY_BYTES = 5 * 1024**3
"""More than this no CopyObject takes; the rest goes part by part (Amazon S3 API, CopyObject)."""

_MISSING = {"404", "NoSuchKey", "NoSuchBucket", "NotFound", "NoSuchUpload"}
_DENIED = {"401", "403", "AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken"}
_CHANGED = {"412", "PreconditionFailed", "409", "ConditionalRequestConflict", "OperationAborted"}
_BEYOND = {"416", "InvalidRange", "InvalidArgument"}
_ELSEWHERE = {"301", "307", "PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException"}
_NO_IDENTITY = (
    boto.NoCredentialsError,
    boto.PartialCredentialsError,
    boto.CredentialRetrievalError,
    boto.NoAuthTokenError,
    boto.TokenRetrievalError,
    boto.SSOError,
    boto.LoginError,
)
_MISTAKEN = (
    boto.ParamValidationError,
    boto.ValidationError,
    boto.ProfileNotFound,
    boto.ConfigParseError,
    boto.BaseEndpointResolverError,
    boto.EndpointProviderError,
    boto.InvalidConfigError,
    ValueError,
)


T = TypeVar("T")


class ConditionsUnknown(ServiceUnavailable):
    """The store says that it does not know conditional writes."""


@dataclass(frozen=True, slots=True)
class Listed:
    """An object in a listing, and when the store says that it was written."""

    key: str
    written: datetime


@dataclass(frozen=True, slots=True, eq=False)
class Bucket:
    """Objects of the bucket `name` whose keys begin with `prefix/`; keys here are what follows it."""

    client: Any
    name: str
    prefix: str
    copy_bytes: int = COPY_BYTES

    @classmethod
    def connect(cls, name: str, prefix: str) -> Bucket:
        """With endpoint, region and credentials as boto finds them; nothing is sent yet. Raises `UsageError`."""
        config = Config(
            connect_timeout=CONNECT_SECONDS,
            read_timeout=READ_SECONDS,
            max_pool_connections=CONNECTIONS,
            retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            s3={"payload_signing_enabled": True},
        )
        with s3_errors("no way to this store"):
            return cls(boto3.session.Session().client("s3", config=config), name, prefix)

    def __str__(self) -> str:
        return f"s3://{self.name}/{self.prefix}"

    def size(self, key: str) -> int:
        """The length of an object in bytes. Raises `FileUnreadable` if there is none."""
        with s3_errors(f"{key} in {self}"):
            size = self.client.head_object(**self._of(key))["ContentLength"]
        return int(size)

    def get(self, key: str, *, limit: int) -> tuple[bytes, str]:
        """All of a small object, and its entity tag.

        Raises `FileUnreadable` if there is none, `MalformedArtifact` if it is longer than `limit` bytes.
        """
        with s3_errors(f"{key} in {self}"):
            return self._body(key, limit)

    def read_into(self, key: str, buffer: memoryview, offset: int, size: int) -> None:
        """Fill `buffer` from `offset` of an object that has `size` bytes. Raises `SealBroken` if it has not."""
        if offset < 0 or offset + len(buffer) > size:
            raise SealBroken("a blob ends before its size")
        if not buffer:
            return
        with s3_errors(f"{key} in {self}"):
            try:
                self._range(key, buffer, offset, size)
            except boto.ClientError as error:
                if _code(error) in _BEYOND:
                    raise SealBroken("a blob is shorter than it was when it was opened", detail=key) from None
                raise

    def put(self, key: str, data: bytes | bytearray) -> None:
        """Write an object, whatever was there."""
        with s3_errors(f"{key} in {self}"):
            self.client.put_object(**self._of(key), Body=data)

    def put_if(self, key: str, data: bytes, etag: str | None) -> bool:
        """Write an object if it still has this entity tag, or, with None, if there is none; whether it was written.

        A store may ignore the condition. Raises `ConditionsUnknown` where it says so.
        """
        condition = {"IfNoneMatch": "*"} if etag is None else {"IfMatch": etag}
        with s3_errors(f"{key} in {self}"):
            try:
                self.client.put_object(**self._of(key), Body=data, **condition)
            except boto.ClientError as error:
                if _code(error) in _CHANGED or (etag is not None and _code(error) in _MISSING - {"NoSuchBucket"}):
                    return False
                if _code(error) in {"501", "NotImplemented"}:
                    raise ConditionsUnknown("this store knows no conditional writes") from None
                raise
        return True

    def delete(self, key: str) -> None:
        """Remove an object, if it is there."""
        with s3_errors(f"{key} in {self}"):
            self.client.delete_object(**self._of(key))

    def listing(self, start: str) -> list[Listed]:
        """Objects whose keys begin with `start`, at most 1000."""
        with s3_errors(f"{start} in {self}"):
            found = self.client.list_objects_v2(
                Bucket=self.name, Prefix=f"{self.prefix}/{start}", MaxKeys=MAX_LISTED
            ).get("Contents", [])
            return [Listed(item["Key"].removeprefix(f"{self.prefix}/"), item["LastModified"]) for item in found]

    def begin(self, key: str) -> str:
        """Begin a multipart upload; returns its id."""
        with s3_errors(f"{key} in {self}"):
            return str(self.client.create_multipart_upload(**self._of(key))["UploadId"])

    def add(self, key: str, upload: str, number: int, data: bytes | bytearray) -> str:
        """Upload part `number`, from 1; returns its entity tag."""
        with s3_errors(f"{key} in {self}"):
            answer = self.client.upload_part(**self._of(key), UploadId=upload, PartNumber=number, Body=data)
            return str(answer["ETag"])

    def complete(self, key: str, upload: str, etags: list[str]) -> None:
        """Make one object of the parts."""
        parts = [{"PartNumber": number, "ETag": etag} for number, etag in enumerate(etags, start=1)]
        with s3_errors(f"{key} in {self}"):
            self.client.complete_multipart_upload(**self._of(key), UploadId=upload, MultipartUpload={"Parts": parts})

    def abandon(self, key: str, upload: str) -> None:
        """Give up an upload; what failed before is what matters."""
        with suppress(StrongroomError), s3_errors(f"{key} in {self}"):
            self.client.abort_multipart_upload(**self._of(key), UploadId=upload)

    def copy(self, source: str, target: str, size: int) -> None:
        """Copy an object of `size` bytes inside the store; it appears at once or not at all.

        Raises `ServiceUnavailable` where the store did not copy all of it, and then nothing is at `target`.
        """
        with s3_errors(f"{target} in {self}"):
            if size <= self.copy_bytes:
                self.client.copy_object(**self._of(target), CopySource=self._of(source))
            else:
                self._copy_parts(source, target, size)
        if self.size(target) != size:
            self.delete(target)
            raise ServiceUnavailable(
                "the store did not copy what was uploaded", remedy="Use a store that knows UploadPartCopy."
            )

    def _copy_parts(self, source: str, target: str, size: int) -> None:
        upload = self.begin(target)
        etags: list[str] = []
        try:
            for number, start in enumerate(range(0, size, self.copy_bytes), start=1):
                end = min(start + self.copy_bytes, size) - 1
                answer = self.client.upload_part_copy(
                    **self._of(target),
                    UploadId=upload,
                    PartNumber=number,
                    CopySource=self._of(source),
                    CopySourceRange=f"bytes={start}-{end}",
                )
                etags.append(str(answer.get("CopyPartResult", {}).get("ETag", "")))
            self.complete(target, upload, etags)
        except BaseException:
            self.abandon(target, upload)
            raise

    def _of(self, key: str) -> dict[str, str]:
        return {"Bucket": self.name, "Key": f"{self.prefix}/{key}"}

    def _body(self, key: str, limit: int) -> tuple[bytes, str]:
        def fetch() -> tuple[bytes, str]:
            answer = self.client.get_object(**self._of(key))
            with answer["Body"] as body:
                if answer["ContentLength"] > limit:
                    size = answer["ContentLength"]
                    raise MalformedArtifact(f"an object of {size} bytes exceeds the limit of {limit}", detail=key)
                data = bytearray(answer["ContentLength"])
                _fill(memoryview(data), body)
            return bytes(data), answer["ETag"]

        return _again(fetch)

    def _range(self, key: str, buffer: memoryview, offset: int, size: int) -> None:
        end = offset + len(buffer) - 1

        def fetch() -> None:
            answer = self.client.get_object(**self._of(key), Range=f"bytes={offset}-{end}")
            with answer["Body"] as body:
                if answer.get("ContentRange") != f"bytes {offset}-{end}/{size}":
                    raise SealBroken("the store answered with other bytes than were asked for", detail=key)
                _fill(buffer, body)

        _again(fetch)


def _fill(buffer: memoryview, body: Any) -> None:
    while buffer:
        count = body.readinto(buffer)
        if count == 0:
            raise boto.IncompleteReadError(actual_bytes=0, expected_bytes=len(buffer))
        buffer = buffer[count:]


def _again(fetch: Callable[[], T]) -> T:
    """`fetch`, once more where a body broke off; requests themselves are tried again by boto."""
    for _ in range(ATTEMPTS - 1):
        try:
            return fetch()
        except (boto.ResponseStreamingError, boto.ReadTimeoutError, boto.IncompleteReadError):
            continue
    return fetch()


@contextmanager
def s3_errors(what: str) -> Iterator[None]:
    """Turn what boto raises into our errors. `what` names the object, or begins the sentence."""
    try:
        yield
    except boto.ClientError as error:
        raise _answered(error, what) from None
    except _NO_IDENTITY:
        raise NotAuthorised(
            "no credentials for this store were found",
            remedy="Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE.",
        ) from None
    except _MISTAKEN as error:
        raise UsageError(
            f"{what}: {type(error).__name__}",
            remedy="Check the names of bucket and prefix, and AWS_ENDPOINT_URL, AWS_REGION and AWS_PROFILE.",
        ) from None
    except (boto.BotoCoreError, OSError) as error:
        raise ServiceUnavailable(
            f"{what}: the store does not answer ({type(error).__name__})",
            remedy="Check AWS_ENDPOINT_URL and the network, then try again.",
        ) from None


def _answered(error: boto.ClientError, what: str) -> StrongroomError:
    code = _code(error)
    if code in _MISSING:
        return FileUnreadable(
            f"{what} is not there", remedy="Check the reference: bucket, prefix and tag.", detail=code
        )
    if code in _DENIED:
        remedy = (
            "Give these credentials s3:GetObject, s3:PutObject, s3:DeleteObject, s3:ListBucket and "
            "s3:AbortMultipartUpload there; without s3:ListBucket a missing object, too, is answered like this."
        )
        return NotAuthorised(f"{what}: the store denies it", remedy=remedy, detail=code)
    if code in _ELSEWHERE:
        return UsageError(
            f"{what}: the bucket is in another region", remedy="Set AWS_REGION to the bucket's.", detail=code
        )
    return ServiceUnavailable(f"{what}: the store answers with an error", remedy="Try again later.", detail=code)


def _code(error: boto.ClientError) -> str:
    """The store's word for what is wrong, if it is a word at all."""
    code = str(error.response.get("Error", {}).get("Code", ""))
    return code if re.fullmatch(r"[A-Za-z0-9]{1,64}", code) else "unknown"
