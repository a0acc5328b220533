"""The manifest of an encrypted artifact: an OCI image manifest whose layers are all `…+encrypted`.

Everybody's manifests are read, so there is no one form; but what is read is checked, and what is written again holds only
what was understood. A layer in the clear is refused: nothing would prove its content.

Knows: manifests. Does not know: keys. Format: image-spec 1.1, manifest.md; ModelPack's annotation for paths.
Not covered: indexes of several images, subjects, layers elsewhere (`urls`, which are never fetched).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import rfc8785

from strongroom.errors import MalformedArtifact, MalformedRecord
from strongroom.records import codec
from strongroom.records.artifact import MAX_FILES, is_plain_path
from strongroom.sealed.manifest import FILE_PATH
from strongroom.sealed.ocicrypt import options
from strongroom.sealed.registries.port import IMAGE_INDEX, IMAGE_MANIFEST, MAX_MANIFEST_BYTES, Descriptor, Registry

ENCRYPTED = "+encrypted"


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer and its annotations, encrypted or not."""

    descriptor: Descriptor
    annotations: Mapping[str, str]

    @property
    def path(self) -> str | None:
        """What the manifest calls its file. Raises `MalformedArtifact` for a path that climbs."""
        path = self.annotations.get(FILE_PATH)
        if path is not None and not is_plain_path(path):
            raise MalformedArtifact("a layer has a path that is empty, absolute, too long, or climbs")
        return path

    def plain(self, descriptor: Descriptor) -> Layer:
        """The same layer without encryption; its content is at `descriptor`."""
        kept = {name: text for name, text in self.annotations.items() if not name.startswith(options.PREFIX)}
        return Layer(descriptor, kept)

    @property
    def plain_type(self) -> str:
        """Its media type without encryption."""
        return self.descriptor.media_type.removesuffix(ENCRYPTED)

    def to_json(self) -> dict[str, Any]:
        return self.descriptor.to_json() | ({"annotations": dict(self.annotations)} if self.annotations else {})


@dataclass(frozen=True, slots=True)
class Artifact:
    """A manifest: the config, the layers in order, and what it says of itself."""

    config: Descriptor
    layers: tuple[Layer, ...]
    artifact_type: str | None = None
    annotations: Mapping[str, str] = field(default_factory=dict)

    def to_bytes(self) -> bytes:
        value: dict[str, Any] = {"schemaVersion": 2, "mediaType": IMAGE_MANIFEST, "config": self.config.to_json()}
        value["layers"] = [layer.to_json() for layer in self.layers]
        if self.artifact_type is not None:
            value["artifactType"] = self.artifact_type
        if self.annotations:
            value["annotations"] = dict(self.annotations)
        return rfc8785.dumps(value)

    @classmethod
    def encrypted(cls, data: bytes) -> Artifact:
        """Parse the manifest of an encrypted artifact. Raises `MalformedArtifact`."""
        try:
            value = codec.parse_json(data, limit=MAX_MANIFEST_BYTES)
        except MalformedRecord as error:
            raise MalformedArtifact(f"this manifest does not parse: {error.message}") from None
        if not isinstance(value, dict) or value.get("mediaType") == IMAGE_INDEX or "manifests" in value:
            raise MalformedArtifact(
                "this is no image manifest", remedy="Of an index of several images, name one by its digest."
            )
        if value.get("schemaVersion") != 2 or value.get("mediaType", IMAGE_MANIFEST) != IMAGE_MANIFEST:  # noqa: PLR2004
            raise MalformedArtifact("this is no OCI image manifest")
        listed, kind = value.get("layers"), value.get("artifactType")
        if not isinstance(listed, list) or not 1 <= len(listed) <= MAX_FILES or not isinstance(kind, str | None):
            raise MalformedArtifact(f"this manifest has not 1 to {MAX_FILES} layers")
        layers = tuple(_layer(entry) for entry in listed)
        return cls(Descriptor.from_json(value.get("config")), layers, kind, _annotations(value))

    @classmethod
    def read(cls, registry: Registry, reference: str) -> Artifact:
        """The encrypted artifact behind a tag or digest. Raises `FileUnreadable`, `MalformedArtifact`, `SealBroken`."""
        return cls.encrypted(registry.get_manifest(registry.resolve(reference)))


def _layer(value: Any) -> Layer:
    descriptor = Descriptor.from_json(value)
    if not descriptor.media_type.endswith(ENCRYPTED):
        raise MalformedArtifact(
            "a layer is not encrypted", remedy="Encrypt all layers; nothing proves the content of one in the clear."
        )
    return Layer(descriptor, _annotations(value))


def _annotations(value: dict[str, Any]) -> dict[str, str]:
    found = value.get("annotations")
    if found is None:
        return {}
    if not isinstance(found, dict) or not all(isinstance(text, str) for text in found.values()):
        raise MalformedArtifact("annotations that are not text")
    return found
