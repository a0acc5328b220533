"""The manifest of a sealed artifact: a CNCF ModelPack artifact (OCI image manifest) with opaque names.

Layer n is the stream of file n and is called `n`; all that the manifest tells besides is in the seal header, an
annotation. The config that ModelPack wants follows from the layers and says nothing more. A manifest has one form:
parsing builds it again and compares bytes, so two readers cannot see two things. The digest of the manifest is the
digest of the artifact.

Knows: packaging. Does not know: keys, signatures, what is inside. Format: docs/reference/sealed-format.md.
"""

from __future__ import annotations

from dataclasses import dataclass

import rfc8785

from strongroom.errors import MalformedArtifact, MalformedRecord
from strongroom.records import codec
from strongroom.records.artifact import MAX_FILES, ArtifactKind, SealHeader
from strongroom.records.digest import Digest, digest_bytes
from strongroom.sealed.registries.port import IMAGE_MANIFEST, MAX_MANIFEST_BYTES, Descriptor

CONFIG_TYPE = "application/vnd.cncf.model.config.v1+json"
LAYER_TYPE = "application/vnd.cncf.model.weight.v1.raw+tink-aes256-gcm-hkdf"
FILE_PATH = "org.cncf.model.filepath"
HEADER = "dev.strongroom.seal"


def artifact_type(kind: ArtifactKind) -> str:
    """The OCI artifact type: ModelPack's own for models, one of ours for the other kinds."""
    if kind is ArtifactKind.MODEL:
        return "application/vnd.cncf.model.manifest.v1+json"
    return f"application/vnd.strongroom.{kind}.v1+json"


@dataclass(frozen=True, slots=True)
class Manifest:
    """What anybody can see of an artifact. `layers` are the streams in order, the sealed index first."""

    header: SealHeader
    layers: tuple[Descriptor, ...]

    def to_bytes(self) -> bytes:
        layers = [
            {**layer.to_json(), "annotations": {FILE_PATH: str(number)}} for number, layer in enumerate(self.layers)
        ]
        return rfc8785.dumps(
            {
                "schemaVersion": 2,
                "mediaType": IMAGE_MANIFEST,
                "artifactType": artifact_type(self.header.kind),
                "config": self.config.to_json(),
                "layers": layers,
                "annotations": {HEADER: codec.encode(self.header).decode()},
            }
        )

    def config_bytes(self) -> bytes:
        """The ModelPack config: nothing but the digests of the layers, which hold ciphertext."""
        files = {"type": "layers", "diffIds": [layer.digest for layer in self.layers]}
        return rfc8785.dumps({"descriptor": {}, "modelfs": files, "config": {}})

    @property
    def config(self) -> Descriptor:
        return Descriptor.of(CONFIG_TYPE, self.config_bytes())

    @property
    def digest(self) -> Digest:
        return digest_bytes(self.to_bytes())

    def signed_digests(self) -> tuple[Digest, ...]:
        """All blobs of the artifact, which is what the outer signature covers: manifest, config, layers."""
        return (self.digest, self.config.digest, *(layer.digest for layer in self.layers))

    @classmethod
    def from_bytes(cls, data: bytes) -> Manifest:
        """Raises `MalformedArtifact` for anything that `to_bytes` would not have written."""
        try:
            manifest = cls._parse(data)
            again = manifest.to_bytes()
        except (MalformedRecord, KeyError, TypeError) as error:
            reason = error.message if isinstance(error, MalformedRecord) else "a member is missing or of the wrong type"
            raise MalformedArtifact(f"this is not the manifest of a sealed artifact: {reason}") from None
        if again != data:
            raise MalformedArtifact("this manifest is not in the one form that sealed artifacts have")
        return manifest

    @classmethod
    def _parse(cls, data: bytes) -> Manifest:
        value = codec.parse_json(data, limit=MAX_MANIFEST_BYTES)
        header = codec.decode(SealHeader, value["annotations"][HEADER])
        layers = tuple(Descriptor.from_json(layer) for layer in value["layers"])
        if not 2 <= len(layers) <= MAX_FILES + 1 or any(layer.media_type != LAYER_TYPE for layer in layers):  # noqa: PLR2004
            raise MalformedArtifact("the layers are not the streams of an index and of files")
        return cls(header, layers)
