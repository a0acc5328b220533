"""Blobs in a bucket: ranges of them are read, and new ones go up in parts until their digest is known.

A blob that fits into one part is put under its digest at once. A longer one goes to `partial/`, and when it is whole the
store copies it to its digest: an object appears at once or not at all, so nothing half-written ever has a digest. Memory
is bounded by the parts in flight.

Knows: parts, lengths, digests. Does not know: tags. Not covered: blobs of more than 10000 parts; sweeping `partial/` after
writers that were killed, which a lifecycle rule of the bucket does.
"""

from __future__ import annotations

import hashlib
import os
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from strongroom.errors import StrongroomError, UsageError
from strongroom.records.digest import Digest
from strongroom.sealed.registries.port import REMOTE_LANES, Descriptor, check_expected
from strongroom.sealed.registries.s3.bucket import Bucket

PART_BYTES = 64 * 1024 * 1024
IN_FLIGHT = 2
MAX_PARTS = 10_000
PARTIAL = "partial/"


def blob_key(digest: Digest) -> str:
    """Where an OCI layout keeps a blob (image-spec, image-layout.md)."""
    return "blobs/sha256/" + digest.removeprefix("sha256:")


@dataclass(frozen=True, slots=True)
class S3Blob:
    """A blob that is read by ranges, from several threads."""

    bucket: Bucket
    key: str
    size: int
    lanes: int | None = REMOTE_LANES

    def read_into(self, buffer: memoryview, offset: int, /) -> None:
        self.bucket.read_into(self.key, buffer, offset, self.size)


@dataclass(slots=True)
class S3Writer:
    """A blob on its way into `bucket`; `close` takes back what was not committed."""

    bucket: Bucket
    part_bytes: int
    expected: Descriptor | None = None
    size: int = 0
    _hash: Any = field(default_factory=hashlib.sha256)
    _part: bytearray = field(default_factory=bytearray)
    _upload: _Upload | None = None

    def write(self, data: memoryview | bytes, /) -> None:
        self._hash.update(data)
        self.size += len(data)
        view = memoryview(data)
        while view:
            if len(self._part) == self.part_bytes:
                self._flush()
            room = self.part_bytes - len(self._part)
            self._part += view[:room]
            view = view[room:]

    def commit(self) -> tuple[Digest, int]:
        digest = Digest("sha256:" + self._hash.hexdigest())
        check_expected(self.expected, digest, self.size)
        if self._upload is None:
            self.bucket.put(blob_key(digest), self._part)
        else:
            self._flush()
            self._upload.complete()
            self.bucket.copy(self._upload.key, blob_key(digest), self.size)
        return digest, self.size

    def close(self) -> None:
        if self._upload is not None:
            self._upload.close()

    def _flush(self) -> None:
        if self._upload is None:
            self._upload = _Upload.begin(self.bucket)
        self._upload.add(self._part)
        self._part = bytearray()


@dataclass(slots=True)
class _Upload:
    """A multipart upload to a key of its own below `partial/`, a few parts at a time."""

    bucket: Bucket
    key: str
    upload: str
    _pool: ThreadPoolExecutor
    _parts: list[Future[str]] = field(default_factory=list)

    @classmethod
    def begin(cls, bucket: Bucket) -> _Upload:
        key = PARTIAL + os.urandom(16).hex()
        return cls(bucket, key, bucket.begin(key), ThreadPoolExecutor(IN_FLIGHT, thread_name_prefix="upload"))

    def add(self, data: bytearray) -> None:
        number = len(self._parts) + 1
        if number > MAX_PARTS:
            raise UsageError("this blob is too large for an S3 store", remedy="Split the file.")
        if number > IN_FLIGHT:
            self._parts[number - IN_FLIGHT - 1].result()
        self._parts.append(self._pool.submit(self.bucket.add, self.key, self.upload, number, data))

    def complete(self) -> None:
        self.bucket.complete(self.key, self.upload, [part.result() for part in self._parts])

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)
        self.bucket.abandon(self.key, self.upload)
        with suppress(StrongroomError):  # what failed before is what matters
            self.bucket.delete(self.key)
