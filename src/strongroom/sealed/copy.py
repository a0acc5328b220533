"""Copy: a sealed artifact from one registry to another, byte for byte, without a key.

Order: the layers and the config, several at a time; the manifest; the signatures; last the tag. So whoever finds the tag
finds all of it, and what was interrupted goes on where it stopped: a blob that the target has in its size is not copied
again, and a folder takes up even the blob that was under way. A registry over the network forgets an upload with the
process that made it, so there the blob under way begins again.

Every blob is hashed as it passes, and none is kept under a digest that it does not have. Whether a signature holds is for
who opens the artifact; all that say they sign it are copied, the first `MAX_SIGNATURES` of them.

Knows: the order. Does not know: keys. Not covered: manifests that are not of sealed artifacts, referrers of other types.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from strongroom.errors import MalformedArtifact, MalformedRecord, SealBroken, UsageError
from strongroom.records import codec
from strongroom.records.digest import Digest, is_digest
from strongroom.sealed import signing
from strongroom.sealed.manifest import Manifest
from strongroom.sealed.registries.port import (
    IMAGE_MANIFEST,
    MAX_MANIFEST_BYTES,
    Blob,
    Descriptor,
    Registry,
    UploadLost,
    read_small,
    write_small,
)

MAX_SIGNATURES = 64
MAX_PARTS = 8
PIECE_BYTES = 4 * 1024 * 1024
THREADS = 4
UPLOADS = 3
"""How often the same blob is sent from its beginning where a registry forgets it."""

Progress: TypeAlias = Callable[[int, int], None]
"""Told how many bytes of how many are done."""


@dataclass(frozen=True, slots=True)
class Copied:
    """What a copy did: the artifact, its bytes (config and layers), those that were there before, its signatures."""

    digest: Digest
    total_bytes: int
    there_before: int
    signatures: int


class _Stopped(Exception):
    """Another thread failed; its error is the one that is told."""


def copy(
    source: Registry,
    reference: str,
    target: Registry,
    tag: str,
    *,
    threads: int = THREADS,
    progress: Progress | None = None,
) -> Copied:
    """Copy what `reference` names in `source` to `target`, under `tag`.

    Raises `SealBroken` where the source gives other bytes than its manifest says, naming layer and place; `UsageError`,
    `FileUnreadable`, `MalformedArtifact`, `ServiceUnavailable`. What was copied until then stays, for the next attempt.
    """
    if is_digest(tag):
        raise UsageError("a copy gets a name, and its digest by itself", remedy="Write the target with :TAG.")
    digest = source.resolve(reference)
    data = source.get_manifest(digest)
    manifest = Manifest.from_bytes(data)
    blobs = _blobs_of(manifest)
    work = _Copying(source, target, sum(blob.size for blob in blobs.values()), progress)
    work.all(blobs, threads)
    target.put_manifest(data, media_type=IMAGE_MANIFEST)
    signatures = _copy_signatures(source, target, digest)
    target.put_manifest(data, media_type=IMAGE_MANIFEST, tag=tag)
    return Copied(digest, work.total, work.there_before, signatures)


def _blobs_of(manifest: Manifest) -> dict[str, Descriptor]:
    """Config and layers by what they are called here, each digest once."""
    named = {layer.digest: (f"layer {number}", layer) for number, layer in enumerate(manifest.layers)}
    return {"config": manifest.config, **dict(named.values())}


@dataclass(slots=True)
class _Copying:
    """The blobs of one artifact under way; `total` and `there_before` in bytes."""

    source: Registry
    target: Registry
    total: int
    progress: Progress | None
    there_before: int = 0
    _done: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _stop: threading.Event = field(default_factory=threading.Event)

    def all(self, blobs: Mapping[str, Descriptor], threads: int) -> None:
        """Every blob; the first error stops them all, and is raised when all have stopped."""
        with ThreadPoolExecutor(threads, thread_name_prefix="copy") as pool:
            running = [pool.submit(self._one, name, descriptor) for name, descriptor in blobs.items()]
            try:
                wait(running, return_when=FIRST_EXCEPTION)
            finally:  # an interrupt, too, must not wait for the rest
                self._stop.set()
                pool.shutdown(wait=True, cancel_futures=True)
        found = [future.exception() for future in running if not future.cancelled()]
        for error in (*(e for e in found if not isinstance(e, _Stopped)), *found):
            if error is not None:
                raise error

    def _one(self, name: str, descriptor: Descriptor) -> None:
        if self.target.has_blob(descriptor):
            self._count(descriptor.size, before=True)
            return
        for left in reversed(range(UPLOADS)):
            try:
                self._through(descriptor)
            except UploadLost:
                if not left:
                    raise
            except SealBroken as error:
                raise SealBroken(error.message, detail=f"{name}, {error.detail or descriptor.digest}") from None
            else:
                return

    def _through(self, descriptor: Descriptor) -> None:
        """One blob, from where the target has it; hashed by who writes it."""
        counted = 0
        try:
            with self.source.open_blob(descriptor.digest) as blob:
                if blob.size != descriptor.size:
                    raise SealBroken("a blob has another size than the manifest says", detail=descriptor.digest)
                with self.target.push_known(descriptor) as writer:
                    counted = writer.size
                    self._count(counted, before=True)
                    for piece in _pieces(blob, counted):
                        if self._stop.is_set():
                            raise _Stopped
                        writer.write(piece)
                        counted += len(piece)
                        self._count(len(piece))
                    writer.commit()
        except UploadLost:
            self._count(-counted)
            raise

    def _count(self, count: int, *, before: bool = False) -> None:
        with self._lock:
            self._done += count
            self.there_before += count if before else 0
            done = self._done
        if self.progress is not None:
            self.progress(done, self.total)


def _pieces(blob: Blob, start: int) -> Iterator[memoryview]:
    """The rest of a blob from `start`, in order; each piece is good until the next."""
    room = memoryview(bytearray(min(PIECE_BYTES, blob.size - start)))
    for offset in range(start, blob.size, PIECE_BYTES):
        piece = room[: blob.size - offset]
        blob.read_into(piece, offset)
        yield piece


def _copy_signatures(source: Registry, target: Registry, subject: Digest) -> int:
    """Copy what says it signs the artifact; returns how many there were. What is about something else is passed over."""
    count = 0
    for referrer in source.referrers(subject, signing.BUNDLE_TYPE)[:MAX_SIGNATURES]:
        data = source.get_manifest(referrer)
        parts = _parts_of(data, subject)
        for part in parts:
            if not target.has_blob(part):
                write_small(target, read_small(source, part, limit=signing.MAX_BUNDLE_BYTES))
        if parts:
            target.attach(subject, data, artifact_type=signing.BUNDLE_TYPE)
            count += 1
    return count


def _parts_of(data: bytes, subject: Digest) -> tuple[Descriptor, ...]:
    """The blobs of a signature's manifest, if it is one of this artifact."""
    try:
        value: Any = codec.parse_json(data, limit=MAX_MANIFEST_BYTES)
        if Descriptor.from_json(value["subject"]).digest != subject or value["artifactType"] != signing.BUNDLE_TYPE:
            return ()
        return tuple(Descriptor.from_json(item) for item in (value["config"], *value["layers"][:MAX_PARTS]))
    except (MalformedRecord, MalformedArtifact, LookupError, TypeError):
        return ()
