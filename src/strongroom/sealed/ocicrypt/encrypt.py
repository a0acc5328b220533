"""Encrypt: plain files become a ModelPack artifact whose layers skopeo, containerd and guests' agents decrypt.

Each file is one layer with a key of its own, wrapped to every recipient. Names, media types and sizes stay readable, and
nothing is signed: the format has no place for either.

Knows: the order of things. Does not know: ciphers (`layer`), wrapping (`jwe`), places (`registry`).
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import rfc8785

from strongroom.crypto.segments import Random
from strongroom.errors import UsageError
from strongroom.records.artifact import ARTIFACT_ID_BYTES
from strongroom.records.digest import Digest
from strongroom.sealed.manifest import CONFIG_TYPE, FILE_PATH
from strongroom.sealed.ocicrypt import jwe, layer, options
from strongroom.sealed.ocicrypt.artifact import ENCRYPTED, Artifact, Layer
from strongroom.sealed.ocicrypt.keys import Recipient
from strongroom.sealed.registries.port import (
    IMAGE_MANIFEST,
    MAX_MANIFEST_BYTES,
    Descriptor,
    Registry,
    write_small,
)
from strongroom.sealed.seal import Progress
from strongroom.sealed.source import PlainFile, find_files, opened

MODEL_TYPE = "application/vnd.cncf.model.manifest.v1+json"
_LAYER = "application/vnd.cncf.model.{}.v1.raw"
_KINDS = {
    "weight.config": {".json", ".yaml", ".yml", ".toml", ".model", ".jinja"},
    "doc": {".md", ".txt", ".pdf", ".rst"},
    "code": {".py", ".sh", ".ipynb"},
    "dataset": {".csv", ".jsonl", ".parquet", ".arrow"},
}


@dataclass(frozen=True, slots=True)
class EncryptedFiles:
    """What encryption made: the digest of the manifest, and the files in the order of their layers."""

    digest: Digest
    files: tuple[PlainFile, ...]


def encrypt(
    source: Path,
    registry: Registry,
    recipients: Sequence[Recipient],
    *,
    tag: str = "latest",
    random: Random = secrets.token_bytes,
    progress: Progress | None = None,
) -> EncryptedFiles:
    """Encrypt a folder or a file into `registry` under `tag`.

    Raises `UsageError`, `FileUnreadable`, `StoreUnavailable`; then nothing of this stays.
    """
    files = find_files(source)
    if not 1 <= len(recipients) <= jwe.MAX_RECIPIENTS:
        raise UsageError(f"1 to {jwe.MAX_RECIPIENTS} recipients can open an artifact", remedy="Name --recipient PEM.")
    work = _Encryption(registry, tuple(recipients), random, random(ARTIFACT_ID_BYTES), len(files))
    total, done = sum(file.size for file in files), 0

    def on_read(count: int) -> None:
        nonlocal done
        done += count
        if progress is not None:
            progress(done, total)

    try:
        layers = tuple(work.layer(number, file, on_read) for number, file in enumerate(files, start=1))
        return EncryptedFiles(work.publish(layers, tag), files)
    except BaseException:
        registry.discard(tuple(work.put))
        raise


def media_type(path: str) -> str:
    """ModelPack's type of a file, by the end of its name (model-spec, config.md); weights where it says nothing else."""
    suffix = PurePosixPath(path).suffix.lower()
    return _LAYER.format(next((kind for kind, ends in _KINDS.items() if suffix in ends), "weight"))


@dataclass(slots=True)
class _Encryption:
    """One encryption under way; `put` lists what a failure takes back."""

    registry: Registry
    recipients: tuple[Recipient, ...]
    random: Random
    artifact_id: bytes
    count: int
    put: list[Digest] = field(default_factory=list)

    def layer(self, number: int, file: PlainFile, on_read: Callable[[int], None]) -> Layer:
        key, nonce = self.random(options.KEY_BYTES), self.random(options.NONCE_BYTES)
        with opened(file, pad_to=1, on_read=on_read) as reader, self.registry.push_blob() as blob:
            mac = layer.encrypt(reader, blob, key=key, nonce=nonce)
            plain = reader.described().sha256
            digest, size = blob.commit()
            self.put.append(digest)
        place = options.Place(self.artifact_id, number, self.count, file.path)
        private = options.PrivateOptions(key, nonce, plain, place).to_bytes()
        wrapped = jwe.encrypt(private, self.recipients, random=self.random)
        notes = {FILE_PATH: file.path, **options.notes(mac, wrapped)}
        return Layer(Descriptor(media_type(file.path) + ENCRYPTED, digest, size), notes)

    def publish(self, layers: tuple[Layer, ...], tag: str) -> Digest:
        config = _config(layers)
        data = Artifact(Descriptor.of(CONFIG_TYPE, config), layers, MODEL_TYPE).to_bytes()
        if len(data) > MAX_MANIFEST_BYTES:
            raise UsageError(
                "so many files for so many recipients do not fit into one manifest", remedy="Pack the files."
            )
        self.put.append(write_small(self.registry, config))
        self.put.append(self.registry.put_manifest(data, media_type=IMAGE_MANIFEST))
        return self.registry.put_manifest(data, media_type=IMAGE_MANIFEST, tag=tag)


def _config(layers: Sequence[Layer]) -> bytes:
    """The ModelPack config. Its digests are those of the ciphertext: a plaintext's would tell short files by guessing."""
    files = {"type": "layers", "diffIds": [layer.descriptor.digest for layer in layers]}
    return rfc8785.dumps({"descriptor": {}, "modelfs": files, "config": {}})
