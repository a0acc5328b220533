"""The encrypted streams of one artifact, as they lie in a registry, under its data key.

Knows: which blob is which file's stream, and its length. Does not know: signatures, where the data key comes from, where
plaintext goes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from strongroom.crypto import segments
from strongroom.crypto.segments import Stream
from strongroom.errors import SealBroken, UsageError
from strongroom.records import codec
from strongroom.records.artifact import KeyWrap, SealedFile, StreamContext
from strongroom.sealed.manifest import Manifest
from strongroom.sealed.registries.port import Registry, read_small
from strongroom.sealed.wrapping import Wrap

MAX_PADDING = 1 << 26

T = TypeVar("T")


def read_manifest(registry: Registry, reference: str) -> Manifest:
    """The manifest behind a tag or digest, and its config. Raises `FileUnreadable`, `MalformedArtifact`, `SealBroken`."""
    manifest = Manifest.from_bytes(registry.get_manifest(registry.resolve(reference)))
    if read_small(registry, manifest.config, limit=codec.MAX_BYTES) != manifest.config_bytes():
        raise SealBroken("the config is not this artifact's")
    return manifest


@dataclass(slots=True, eq=False)
class Streams:
    """The streams of an artifact under its data key, each bound to its number; `close` overwrites the key."""

    registry: Registry
    manifest: Manifest
    _key: bytearray = field(repr=False)

    def use(self, number: int, work: Callable[[Stream], T]) -> T:
        """What `work` makes of stream `number`. Raises `SealBroken`, which names the layer, or what `work` raises."""
        if not self._key:
            raise UsageError("this artifact was closed")
        header, layer = self.manifest.header, self.manifest.layers[number]
        with self.registry.open_blob(layer.digest) as blob:
            if blob.size != layer.size:
                raise SealBroken("a stream is longer or shorter than it was sealed", detail=f"layer {number}")
            try:
                stream = segments.open_stream(
                    blob,
                    ciphertext_bytes=layer.size,
                    key=self._key,
                    aad=StreamContext(header.artifact_id, number).to_bytes(),
                    segment_bytes=header.segment_bytes,
                    lanes=blob.lanes,
                )
                return work(stream)
            except SealBroken as error:
                raise SealBroken(error.message, detail=f"layer {number} {error.detail}".rstrip()) from None

    def read_into(self, number: int, file: SealedFile, buffer: memoryview, offset: int, threads: int | None) -> None:
        """Fill `buffer` with what stream `number` holds of `file` from `offset`."""
        self.use(number, lambda stream: segments.read_into(checked(stream, file), buffer, offset, threads=threads))

    def wrapped(self, wrap: Wrap) -> KeyWrap:
        """The data key, wrapped anew. Raises what `wrap` raises."""
        if not self._key:
            raise UsageError("this artifact was closed")
        return wrap(self.manifest.header.of, bytes(self._key))

    def close(self) -> None:
        self._key[:] = bytes(len(self._key))
        self._key.clear()


def checked(stream: Stream, file: SealedFile) -> Stream:
    """`stream`, if its length is that of `file` and its padding. Raises `SealBroken`."""
    if not 0 <= stream.shape.plaintext_bytes - file.size <= MAX_PADDING:
        raise SealBroken("a stream is longer or shorter than the sealed index says")
    return stream
