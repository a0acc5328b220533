"""Keys change: a data key is wrapped anew, or all is encrypted anew under another one.

`rewrap` is for the keys that wrap (a broker's key was rotated, a recipient came or went): layers stay as they are, and
whoever had the data key still has it. `rekey` is for the data key itself (a worker that held it is distrusted): every stream
is decrypted and encrypted again, a segment at a time, and what comes of it is the next edition of the line, so that a floor
shuts the old one out.

Knows: the order. Does not know: who may open it (`wrap`). Not covered: copies of the old artifact, which open under the old
key for ever; nobody can take those back.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from strongroom.crypto import segments
from strongroom.crypto.segments import Random, Stream
from strongroom.crypto.signatures import SigningKey
from strongroom.records.artifact import KeyWrap, SealedFile, SealHeader
from strongroom.sealed.manifest import Manifest
from strongroom.sealed.open import OpenedArtifact
from strongroom.sealed.registries.port import Descriptor, Registry
from strongroom.sealed.seal import Progress, SealedArtifact, Sealing, edition_after, signed_index
from strongroom.sealed.signing import Signer
from strongroom.sealed.streams import checked
from strongroom.sealed.wrapping import Wrap


def rewrap(registry: Registry, manifest: Manifest, keys: KeyWrap, *, signer: SigningKey | Signer, tag: str) -> Manifest:
    """The artifact of `manifest`, whose data key is wrapped as `keys` say, published in its own registry under `tag`.

    Raises `StoreUnavailable`, `FileUnreadable`; then nothing of it stays.
    """
    made = Manifest(replace(manifest.header, keys=keys), manifest.layers)
    publishing = Sealing(registry, secrets.token_bytes, manifest.header.segment_bytes, pad_to=1)
    try:
        publishing.publish(made, signer, tag)
    except BaseException:
        registry.discard(tuple(digest for digest in publishing.put if digest not in manifest.signed_digests()))
        raise
    return made


def rekey(
    artifact: OpenedArtifact,
    target: Registry,
    *,
    wrap: Wrap,
    signer: SigningKey | Signer,
    tag: str,
    random: Random = secrets.token_bytes,
    progress: Progress | None = None,
) -> SealedArtifact:
    """Encrypt `artifact` anew into `target` under `tag`, with a new data key and artifact id, as the next edition.

    Nothing plain is written anywhere, and no more than a few segments of it are in memory. Sizes stay padded as they were.
    Raises `SealBroken`, `StoreUnavailable`, and what `wrap` raises; then none of its blobs stay.
    """
    streams, index = artifact.streams, artifact.index
    old = streams.manifest.header
    sealing = Sealing(target, random, old.segment_bytes, pad_to=1)
    reading = _Reading(sum(layer.size for layer in streams.manifest.layers), progress)
    try:
        for number, file in enumerate(index.files, start=1):
            reading.file, reading.number = file, number
            sealing.layers.append(streams.use(number, lambda stream: reading.sealed(stream, sealing)))
        signed = signed_index(index.name, index.kind, index.files, signer)
        before = streams.use(0, lambda stream: stream.shape.plaintext_bytes)
        layers = (sealing.index(signed, least=before), *sealing.layers)
        of = edition_after(old.of, sealing.artifact_id)
        keys = wrap(of, sealing.data_key)
        header = SealHeader(of.artifact_id, of.line, of.edition, old.kind, old.segment_bytes, keys)
        manifest = Manifest(header, layers)
        sealing.publish(manifest, signer, tag)
    except BaseException:
        target.discard(tuple(sealing.put))
        raise
    return SealedArtifact(manifest.digest, manifest, signed)


@dataclass(slots=True)
class _Reading:
    """Reads old streams for new ones, one after the other, and tells how far it is."""

    total: int
    progress: Progress | None
    number: int = 0
    file: SealedFile | None = None
    done: int = 0

    def sealed(self, stream: Stream, sealing: Sealing) -> Descriptor:
        if self.file is not None:
            checked(stream, self.file)
        return sealing.stream(self.number, _Plain(stream, self._read))

    def _read(self, count: int) -> None:
        self.done += count
        if self.progress is not None:
            self.progress(min(self.done, self.total), self.total)


@dataclass(slots=True)
class _Plain:
    """The plaintext of a stream in order, its padding too; each segment is verified before it is handed on."""

    stream: Stream = field(repr=False)
    on_read: Callable[[int], None]
    at: int = 0

    def readinto(self, buffer: memoryview, /) -> int:
        count = min(len(buffer), self.stream.shape.plaintext_bytes - self.at)
        segments.read_into(self.stream, buffer[:count], self.at, threads=1)
        self.at += count
        self.on_read(count)
        return count
