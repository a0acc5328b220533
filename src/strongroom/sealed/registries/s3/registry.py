"""A registry in a bucket: an OCI image layout (image-spec 1.1, image-layout.md) whose files are objects.

A copy of the objects below the prefix into a folder is a valid layout. `index.json` is changed by compare-and-swap: it is
replaced only if it is still the one that was read (If-Match, If-None-Match). Some stores ignore such conditions; that is
tried out before the first change. There, writers announce themselves by an object below `partial/` before they read the
index, and after writing each waits until those whom it saw are done, then reads again whether its change is still there.

Safety: with strong consistency of reads and listings, which S3 promises, no change is lost silently either way: who
cannot be sure says so by an error.
Knows: objects and their names. Does not know: what it keeps. Not covered: collecting blobs that nothing refers to; stores
without conditions whose clock jumps.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TypeAlias

from strongroom.errors import FileUnreadable, MalformedArtifact, ServiceUnavailable, StrongroomError, UsageError
from strongroom.records.digest import Digest, is_digest
from strongroom.sealed.registries.layout import (
    LAYOUT,
    Entries,
    fallback_tag,
    index_bytes,
    named,
    parse_index,
    referrers_of,
    tagged,
    with_referrer,
    with_tag,
    without,
)
from strongroom.sealed.registries.port import (
    IMAGE_INDEX,
    IMAGE_MANIFEST,
    MAX_MANIFEST_BYTES,
    Descriptor,
    checked,
    write_small,
)
from strongroom.sealed.registries.s3.blobs import PART_BYTES, PARTIAL, S3Blob, S3Writer, blob_key
from strongroom.sealed.registries.s3.bucket import Bucket, ConditionsUnknown

INDEX = "index.json"
ATTEMPTS = 24
PAUSE_SECONDS = 0.1
MAX_PAUSE_SECONDS = 2.0
WAITS = 60
ANNOUNCED = PARTIAL + "writer-"
DEAD_AFTER = timedelta(minutes=10)
"""A writer of small objects that was announced so long ago was killed."""
NO_ETAG = '"00000000000000000000000000000000"'

Change: TypeAlias = Callable[[Entries], Entries | None]
"""Takes the entries of the index as they are; returns them as they should be, or None if they are so already."""


@dataclass(slots=True)
class S3Registry:
    """The OCI layout in `bucket`. `part_bytes` is the size of the parts in which longer blobs go up."""

    bucket: Bucket
    part_bytes: int = PART_BYTES
    sleep: Callable[[float], None] = time.sleep
    _conditional: bool | None = field(default=None, init=False)

    @contextmanager
    def push_blob(self) -> Iterator[S3Writer]:
        writer = S3Writer(self.bucket, self.part_bytes)
        try:
            yield writer
        finally:
            writer.close()

    @contextmanager
    def push_known(self, descriptor: Descriptor) -> Iterator[S3Writer]:
        """As the port has it; a store keeps nothing of an attempt that ended early."""
        with self.push_blob() as writer:
            writer.expected = descriptor
            yield writer

    def has_blob(self, descriptor: Descriptor) -> bool:
        try:
            return self.bucket.size(blob_key(descriptor.digest)) == descriptor.size
        except FileUnreadable:
            return False

    @contextmanager
    def open_blob(self, digest: Digest) -> Iterator[S3Blob]:
        key = blob_key(digest)
        yield S3Blob(self.bucket, key, self.bucket.size(key))

    def put_manifest(self, data: bytes, *, media_type: str, tag: str | None = None) -> Digest:
        digest = write_small(self, data)
        if tag is not None:
            self._change(_naming(Descriptor(media_type, digest, len(data)), tag))
        return digest

    def get_manifest(self, digest: Digest) -> bytes:
        size = self.bucket.size(blob_key(digest))
        if size > MAX_MANIFEST_BYTES:
            raise MalformedArtifact(f"a manifest of {size} bytes exceeds the limit of {MAX_MANIFEST_BYTES}")
        return checked(self.bucket.get(blob_key(digest), limit=MAX_MANIFEST_BYTES)[0], digest)

    def resolve(self, reference: str) -> Digest:
        if is_digest(reference):
            return Digest(reference)
        found = tagged(self._index()[0], reference)
        if found is None:
            raise FileUnreadable(
                f"{self.bucket} has nothing by the name {reference!r}", remedy="Check the reference and its tag."
            )
        return found.digest

    def attach(self, subject: Digest, data: bytes, *, artifact_type: str) -> Digest:
        digest = write_small(self, data)
        referrer = Descriptor(IMAGE_MANIFEST, digest, len(data))

        def change(entries: Entries) -> Entries | None:
            listed = self._listed(entries, subject)
            if digest in referrers_of(listed, artifact_type):
                return None
            listing = index_bytes(with_referrer(listed, referrer, artifact_type))
            write_small(self, listing)
            return with_tag(entries, Descriptor.of(IMAGE_INDEX, listing), fallback_tag(subject))

        self._change(change)
        return digest

    def referrers(self, subject: Digest, artifact_type: str) -> tuple[Digest, ...]:
        return referrers_of(self._listed(self._index()[0], subject), artifact_type)

    def discard(self, digests: tuple[Digest, ...]) -> None:
        for digest in digests:
            with suppress(StrongroomError):  # what failed before is what matters
                self.bucket.delete(blob_key(digest))

    def named(self) -> tuple[Digest, ...]:
        return named(self._index()[0])

    def forget(self, digest: Digest) -> None:
        listing = tagged(self._index()[0], fallback_tag(digest))
        self._change(lambda entries: None if without(entries, digest) == entries else without(entries, digest))
        for gone in (digest, *(() if listing is None else (listing.digest,))):
            self.bucket.delete(blob_key(gone))

    @property
    def remains(self) -> tuple[str, ...]:
        return ("older versions of objects, where the bucket keeps them; replicas and backups of the bucket",)

    def _listed(self, entries: Entries, subject: Digest) -> Entries:
        listing = tagged(entries, fallback_tag(subject))
        return [] if listing is None else parse_index(self.get_manifest(listing.digest))

    def _index(self) -> tuple[Entries, str | None]:
        """The entries of the index and its entity tag; none and None where there is no index yet."""
        try:
            data, etag = self.bucket.get(INDEX, limit=MAX_MANIFEST_BYTES)
        except FileUnreadable as error:
            if error.detail == "NoSuchBucket":
                raise
            return [], None
        return parse_index(data), etag

    def _change(self, change: Change) -> None:
        """Change the index, so that nobody's change is lost. Raises `ServiceUnavailable` where that is not sure."""
        if self._conditional is None:
            self._conditional = self._try_conditions()
        once = self._swap if self._conditional else self._write_announced
        for attempt in range(ATTEMPTS):
            if once(change):
                return
            self._pause(attempt)
        raise ServiceUnavailable(
            f"others kept changing the index of {self.bucket}", remedy="Try again when fewer write to it."
        )

    def _swap(self, change: Change) -> bool:
        entries, etag = self._index()
        wanted = change(entries)
        return wanted is None or self.bucket.put_if(INDEX, _limited(wanted), etag)

    def _write_announced(self, change: Change) -> bool:
        """Write without conditions; whether the change is there when all writers that could undo it are done."""
        mark = ANNOUNCED + os.urandom(16).hex()
        self.bucket.put(mark, b"")
        try:
            wanted = change(self._index()[0])
            if wanted is not None:
                self.bucket.put(INDEX, _limited(wanted))
            others = self._writers()
            now = others.pop(mark, None)
        finally:
            self.bucket.delete(mark)
        self._await(set(others) if now is None else {key for key, at in others.items() if now - at < DEAD_AFTER})
        return change(self._index()[0]) is None

    def _writers(self) -> dict[str, datetime]:
        return {found.key: found.written for found in self.bucket.listing(ANNOUNCED)}

    def _await(self, writers: set[str]) -> None:
        for attempt in range(WAITS):
            writers = writers & self._writers().keys() if writers else writers
            if not writers:
                return
            self._pause(attempt)
        raise ServiceUnavailable(
            f"somebody began to write the index of {self.bucket} and does not end, so this change may be undone",
            remedy=f"Look whether the tag is there; if a writer was killed, try again in {DEAD_AFTER}.",
        )

    def _try_conditions(self) -> bool:
        """Whether the store keeps to conditions on writes; the file that every layout has is there afterwards."""
        try:
            fresh = self.bucket.put_if("oci-layout", LAYOUT, None)
            kept = not (fresh and self.bucket.put_if("oci-layout", LAYOUT, None))
            return kept and not self.bucket.put_if("oci-layout", LAYOUT, NO_ETAG)
        except ConditionsUnknown:
            self.bucket.put("oci-layout", LAYOUT)
            return False

    def _pause(self, attempt: int) -> None:
        longest = min(PAUSE_SECONDS * 1.5**attempt, MAX_PAUSE_SECONDS)
        self.sleep(random.uniform(longest / 2, longest))  # noqa: S311 (so that writers do not meet again)


def _naming(descriptor: Descriptor, tag: str) -> Change:
    """Point `tag` at `descriptor`. Done, too, when somebody has moved it on to something that was not there before."""
    before: list[Descriptor | None] = []

    def change(entries: Entries) -> Entries | None:
        found = tagged(entries, tag)
        if found == descriptor or (before and found not in before):
            return None
        before.append(found)
        return with_tag(entries, descriptor, tag)

    return change


def _limited(entries: Entries) -> bytes:
    data = index_bytes(entries)
    if len(data) > MAX_MANIFEST_BYTES:
        raise UsageError("the index of this registry is full", remedy="Use another prefix.")
    return data
