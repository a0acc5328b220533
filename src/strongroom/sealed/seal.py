"""Seal: plain files become a signed artifact in a registry. They are read once, and nothing plain is written anywhere.

Order: the files' streams, then the sealed index with the inner signature, the manifest, the outer signature, and last
the tag. Whoever finds the tag finds all of it; a sealing that fails takes back what it had put there.

Knows: the order. Does not know: who may open it (`wrap`), where it lies (`registry`).
"""

from __future__ import annotations

import io
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from strongroom.crypto import segments
from strongroom.crypto.segments import Random
from strongroom.crypto.signatures import SigningKey
from strongroom.errors import UsageError
from strongroom.records import codec
from strongroom.records.artifact import (
    ARTIFACT_ID_BYTES,
    ArtifactKind,
    SealedFile,
    SealedIndex,
    SealHeader,
    StreamContext,
)
from strongroom.records.digest import Digest
from strongroom.records.release import Edition
from strongroom.sealed import signing
from strongroom.sealed.manifest import LAYER_TYPE, Manifest
from strongroom.sealed.outer import sign_artifact
from strongroom.sealed.registries.port import IMAGE_MANIFEST, Descriptor, Registry, write_small
from strongroom.sealed.source import PlainFile, find_files, opened, padding
from strongroom.sealed.streams import MAX_PADDING
from strongroom.sealed.wrapping import Wrap

Progress: TypeAlias = Callable[[int, int], None]
"""Told how many bytes of how many are done."""


@dataclass(frozen=True, slots=True)
class SealedArtifact:
    """What sealing made: the artifact's digest, its manifest, and the sealed index for the owner's eyes."""

    digest: Digest
    manifest: Manifest
    index: SealedIndex


def seal(
    source: Path,
    registry: Registry,
    *,
    kind: ArtifactKind,
    wrap: Wrap,
    signer: SigningKey | signing.Signer,
    tag: str = "latest",
    name: str | None = None,
    segment_bytes: int = segments.SEGMENT_BYTES,
    pad_to: int = 1,
    follows: Edition | None = None,
    random: Random = secrets.token_bytes,
    progress: Progress | None = None,
) -> SealedArtifact:
    """Seal a folder or a file into `registry` under `tag`; sizes are padded to multiples of `pad_to` bytes.

    It becomes the first edition of a line of its own, or the edition after the one that it `follows`. Raises `UsageError`,
    `FileUnreadable`, `StoreUnavailable`, and what `wrap` raises; then none of its blobs stay.
    """
    return seal_files(
        find_files(source),
        registry,
        name=name or source.resolve().name,
        kind=kind,
        wrap=wrap,
        signer=signer,
        tag=tag,
        segment_bytes=segment_bytes,
        pad_to=pad_to,
        follows=follows,
        random=random,
        progress=progress,
    )


def seal_files(
    files: Sequence[PlainFile],
    registry: Registry,
    *,
    name: str,
    kind: ArtifactKind,
    wrap: Wrap,
    signer: SigningKey | signing.Signer,
    tag: str = "latest",
    segment_bytes: int = segments.SEGMENT_BYTES,
    pad_to: int = 1,
    follows: Edition | None = None,
    random: Random = secrets.token_bytes,
    progress: Progress | None = None,
) -> SealedArtifact:
    """`seal` for files that were found already, wherever they lie: on a disk, or in memory (`source.described`)."""
    if not 1 <= pad_to <= MAX_PADDING:
        raise UsageError(f"sizes are padded to multiples of 1 to {MAX_PADDING} bytes")
    sealing = Sealing(registry, random, segment_bytes, pad_to)
    try:
        listed = sealing.files(files, progress)
        index = signed_index(name, kind, listed, signer)
        layers = (sealing.index(index), *sealing.layers)
        of = edition_after(follows, sealing.artifact_id)
        header = SealHeader(of.artifact_id, of.line, of.edition, kind, segment_bytes, wrap(of, sealing.data_key))
        manifest = Manifest(header, layers)
        sealing.publish(manifest, signer, tag)
    except BaseException:
        registry.discard(tuple(sealing.put))
        raise
    return SealedArtifact(manifest.digest, manifest, index)


def edition_after(earlier: Edition | None, artifact_id: bytes) -> Edition:
    """The edition that a new artifact becomes."""
    return Edition.first(artifact_id) if earlier is None else Edition(artifact_id, earlier.line, earlier.edition + 1)


@dataclass(slots=True)
class Sealing:
    """One sealing under way; `put` lists what a failure takes back."""

    registry: Registry
    random: Random
    segment_bytes: int
    pad_to: int
    data_key: bytes = field(init=False, repr=False)
    artifact_id: bytes = field(init=False)
    layers: list[Descriptor] = field(default_factory=list)
    put: list[Digest] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.data_key = self.random(segments.KEY_BYTES)
        self.artifact_id = self.random(ARTIFACT_ID_BYTES)

    def files(self, files: Sequence[PlainFile], progress: Progress | None) -> tuple[SealedFile, ...]:
        total, done, listed = sum(file.size for file in files), 0, []

        def on_read(count: int) -> None:
            nonlocal done
            done += count
            if progress is not None:
                progress(done, total)

        for number, file in enumerate(files, start=1):
            with opened(file, pad_to=self.pad_to, on_read=on_read) as reader:
                self.layers.append(self.stream(number, reader))
                listed.append(reader.described())
        return tuple(listed)

    def index(self, index: SealedIndex, *, least: int = 0) -> Descriptor:
        """File 0, padded to `least` bytes at the least. Raises `UsageError` for an index that no reader would read."""
        data = codec.encode(index)
        if len(data) > codec.MAX_BYTES:
            raise UsageError(
                "these files have too many or too long names, or tensors, for one artifact",
                remedy="Seal them as several artifacts.",
            )
        zeros = max(padding(len(data), self.pad_to), least - len(data))
        return self.stream(0, io.BytesIO(data + bytes(zeros)))

    def publish(self, manifest: Manifest, signer: SigningKey | signing.Signer, tag: str) -> None:
        """Config, manifest, outer signature, and last the tag."""
        data = manifest.to_bytes()
        self.put.append(write_small(self.registry, manifest.config_bytes()))
        self.put.append(self.registry.put_manifest(data, media_type=IMAGE_MANIFEST))
        self.put.extend(sign_artifact(self.registry, manifest, signer))
        self.registry.put_manifest(data, media_type=IMAGE_MANIFEST, tag=tag)

    def stream(self, number: int, reader: segments.Reader) -> Descriptor:
        """What `reader` gives, as stream `number`."""
        aad = StreamContext(self.artifact_id, number).to_bytes()
        with self.registry.push_blob() as blob:
            segments.encrypt(
                reader, blob, key=self.data_key, aad=aad, segment_bytes=self.segment_bytes, random=self.random
            )
            digest, size = blob.commit()
        self.put.append(digest)
        return Descriptor(LAYER_TYPE, digest, size)


def signed_index(
    name: str, kind: ArtifactKind, files: tuple[SealedFile, ...], signer: SigningKey | signing.Signer
) -> SealedIndex:
    """The sealed index with the owner's inner signature. Raises `UsageError` for what makes no artifact."""
    stated = signing.about_files(name, files)
    if not stated.digests:
        raise UsageError("there is nothing here but git's own files", remedy="Name a folder with content.")
    bundle = signing.sign_files(stated, signer)
    try:
        return SealedIndex(name, kind, files, bundle.decode())
    except ValueError as error:
        raise UsageError(f"these files make no artifact: {error}") from None
