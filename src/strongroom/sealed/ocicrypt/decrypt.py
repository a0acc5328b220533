"""Decrypt: an artifact that was encrypted here, by skopeo or by others becomes a folder, or a plain image in a registry.

All keys are unwrapped before any layer is fetched. Each layer is proved whole before any of it is decrypted (`layer`), and
nothing is handed out before all layers were. Where the artifact was encrypted here, names, order and number of its layers
are proved as well; elsewhere nothing but the manifest's digest vouches for them.

Knows: artifacts. Does not know: ciphers. Not covered: authorship; whoever has a recipient's public key can make an artifact.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from strongroom.errors import FileUnreadable, MalformedArtifact, SealBroken, UsageError
from strongroom.records import codec
from strongroom.records.digest import Digest
from strongroom.sealed.files import file_errors, sync_directory
from strongroom.sealed.ocicrypt import layer as layers
from strongroom.sealed.ocicrypt import options
from strongroom.sealed.ocicrypt.artifact import Artifact, Layer
from strongroom.sealed.ocicrypt.keys import PrivateKey
from strongroom.sealed.registries.port import IMAGE_MANIFEST, Descriptor, Registry, read_small, write_small
from strongroom.sealed.seal import Progress

MAX_CONFIG_BYTES = codec.MAX_BYTES


@dataclass(frozen=True, slots=True)
class DecryptedFile:
    """A file that was written: its path below the target, and its size in bytes."""

    path: str
    size: int


def decrypt_into_directory(
    registry: Registry, reference: str, target: Path, key: PrivateKey, *, progress: Progress | None = None
) -> tuple[DecryptedFile, ...]:
    """All files of an artifact as plaintext in the new folder `target`.

    Raises `UsageError` if there is something at `target` or the layers are no files, `SealBroken`, `MalformedArtifact`,
    `FileUnreadable`, `StoreUnavailable`; then nothing of this stays.
    """
    if os.path.lexists(target):
        raise UsageError(f"{target} exists already", remedy="Name a folder that does not exist yet.")
    opening = _Opening.of(registry, reference, key, progress)
    paths = _paths(opening.artifact)
    partial = target.with_name(f".partial-{target.name}-{os.urandom(8).hex()}")
    try:
        with file_errors(f"{target} cannot be written"):
            target.parent.mkdir(parents=True, exist_ok=True)
            partial.mkdir(mode=0o700)
            for number, path in enumerate(paths):
                _write(opening, number, partial / path)
            partial.rename(target)
            sync_directory(target.parent)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    sizes = (layer.descriptor.size for layer in opening.artifact.layers)
    return tuple(DecryptedFile(path, size) for path, size in zip(paths, sizes, strict=True))


def decrypt_into_registry(
    registry: Registry, reference: str, into: Registry, tag: str, key: PrivateKey, *, progress: Progress | None = None
) -> Digest:
    """The artifact in the clear, for instance an image, in another registry under `tag`; returns its digest.

    Raises as `decrypt_into_directory` does; then no blob stays that was not there before.
    """
    opening = _Opening.of(registry, reference, key, progress)
    artifact, put = opening.artifact, _Put(into, [])
    try:
        config = read_small(registry, artifact.config, limit=MAX_CONFIG_BYTES)
        plain = []
        for number, layer in enumerate(artifact.layers):
            with file_errors("no room to decrypt a layer into"), tempfile.TemporaryFile() as file:
                opening.layer(number, file.fileno())
                size, private = layer.descriptor.size, opening.private[number]
                put.file(file.fileno(), size, private.digest)
            plain.append(layer.plain(Descriptor(layer.plain_type, private.digest, size)))
        data = Artifact(artifact.config, tuple(plain), artifact.artifact_type, artifact.annotations).to_bytes()
        put.small(config)
        put.small(data)
        return into.put_manifest(data, media_type=IMAGE_MANIFEST, tag=tag)
    except BaseException:
        into.discard(tuple(put.new))
        raise


@dataclass(frozen=True, slots=True)
class _Opening:
    """An artifact whose layers' private options are unwrapped, and agree with what the manifest says."""

    registry: Registry
    artifact: Artifact
    private: tuple[options.PrivateOptions, ...]
    macs: tuple[bytes, ...]
    on_read: Callable[[int], None]

    @classmethod
    def of(cls, registry: Registry, reference: str, key: PrivateKey, progress: Progress | None) -> _Opening:
        artifact = Artifact.read(registry, reference)
        macs = tuple(options.mac_of(layer.annotations) for layer in artifact.layers)
        private = tuple(options.unwrap(layer.annotations, key) for layer in artifact.layers)
        _check_places(artifact.layers, private)
        total, done = sum(layer.descriptor.size for layer in artifact.layers), 0

        def on_read(count: int) -> None:
            nonlocal done
            done += count
            if progress is not None:
                progress(done, total)

        return cls(registry, artifact, private, macs, on_read)

    def layer(self, number: int, fd: int) -> None:
        """Plaintext of a layer into the empty file `fd`, once all of it is proved."""
        try:
            self._layer(self.artifact.layers[number].descriptor, self.private[number], self.macs[number], fd)
        except SealBroken as error:
            raise SealBroken(error.message, detail=f"layer {number + 1}") from None

    def _layer(self, found: Descriptor, private: options.PrivateOptions, mac: bytes, fd: int) -> None:
        with self.registry.open_blob(found.digest) as blob:
            if blob.size != found.size:
                raise SealBroken("a layer is longer or shorter than the manifest says")
            layers.fetch(blob, found.size, fd, digest=found.digest, key=private.key, mac=mac, on_read=self.on_read)
        if layers.decrypt_in_place(fd, found.size, key=private.key, nonce=private.nonce) != private.digest:
            raise SealBroken("a layer is not what was encrypted")


@dataclass(frozen=True, slots=True)
class _Put:
    """Puts blobs into a registry and remembers which were new."""

    registry: Registry
    new: list[Digest]

    def small(self, data: bytes) -> None:
        digest = Descriptor.of("", data).digest
        self._remember(digest)
        write_small(self.registry, data)

    def file(self, fd: int, size: int, digest: Digest) -> None:
        self._remember(digest)
        with self.registry.push_blob() as blob:
            for offset in range(0, size, layers.CHUNK_BYTES):
                blob.write(os.pread(fd, min(layers.CHUNK_BYTES, size - offset), offset))
            if blob.commit() != (digest, size):
                raise FileUnreadable("a layer changed while it was written")

    def _remember(self, digest: Digest) -> None:
        try:
            with self.registry.open_blob(digest):
                return
        except FileUnreadable:
            self.new.append(digest)


def _check_places(listed: tuple[Layer, ...], private: tuple[options.PrivateOptions, ...]) -> None:
    """Layers that say where they belong are there, all of them and nothing else. Raises `SealBroken`."""
    places = [each.place for each in private]
    if not any(places):
        return
    artifacts = {None if place is None else place.artifact_id for place in places}
    for number, (layer, place) in enumerate(zip(listed, places, strict=True), start=1):
        expected = place is not None and (place.layer, place.layers, place.path) == (number, len(listed), layer.path)
        if not expected or len(artifacts) != 1:
            raise SealBroken("layers were renamed, moved, left out or taken from elsewhere", detail=f"layer {number}")


def _paths(artifact: Artifact) -> tuple[str, ...]:
    """Where each layer's file goes. Raises `UsageError` for layers that are no files, `MalformedArtifact`."""
    paths = tuple(layer.path for layer in artifact.layers)
    if any(path is None for path in paths):
        raise UsageError(
            "the layers of this artifact have no paths: it is an image",
            remedy="Decrypt it into an image layout (dir:PATH:TAG), and unpack that with an image tool.",
        )
    named = tuple(path for path in paths if path is not None)
    parents = {path[:at] for path in named for at, letter in enumerate(path) if letter == "/"}
    if len(set(named)) != len(named) or set(named) & parents:
        raise MalformedArtifact("two files in one place")
    return named


def _write(opening: _Opening, number: int, place: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    fd = os.open(place, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        opening.layer(number, fd)
        os.fsync(fd)
    finally:
        os.close(fd)
