"""The index of an OCI image layout (image-spec 1.1, image-layout.md): which tag names what, and who refers to whom.

Referrers are listed under the fallback tag of the distribution spec (`sha256-<hex>`), as registries without the referrers
API have it. Entries that others wrote stay as they are.

Knows: the shape of an index. Does not know: where it is kept, or how it is replaced. Not covered: nested indexes.
"""

from __future__ import annotations

import re
from typing import Any, TypeAlias

import rfc8785

from strongroom.errors import MalformedArtifact, MalformedRecord
from strongroom.records import codec
from strongroom.records.digest import Digest
from strongroom.sealed.registries.port import IMAGE_INDEX, MAX_MANIFEST_BYTES, Descriptor

TAG_ANNOTATION = "org.opencontainers.image.ref.name"
LAYOUT = b'{"imageLayoutVersion":"1.0.0"}'

_LIST = re.compile(r"sha256-[0-9a-f]{64}")

Entries: TypeAlias = list[dict[str, Any]]
"""The `manifests` of an image index."""


def parse_index(data: bytes) -> Entries:
    """The `manifests` of an image index. Raises `MalformedArtifact`."""
    try:
        value = codec.parse_json(data, limit=MAX_MANIFEST_BYTES)
    except MalformedRecord as error:
        raise MalformedArtifact(f"an image index does not parse: {error.message}") from None
    entries = value.get("manifests") if isinstance(value, dict) else None
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise MalformedArtifact("this is not an image index")
    try:
        rfc8785.dumps(entries)
    except rfc8785.CanonicalizationError:
        raise MalformedArtifact("an image index holds what cannot be written again") from None
    return entries


def index_bytes(entries: Entries) -> bytes:
    """An image index of `entries`, in canonical JSON."""
    return rfc8785.dumps({"schemaVersion": 2, "mediaType": IMAGE_INDEX, "manifests": entries})


def tagged(entries: Entries, tag: str) -> Descriptor | None:
    """What `tag` names. Raises `MalformedArtifact` where that is no descriptor."""
    for entry in entries:
        if _has_tag(entry, tag):
            return Descriptor.from_json(entry)
    return None


def with_tag(entries: Entries, descriptor: Descriptor, tag: str) -> Entries:
    """`entries` with `tag` pointing at `descriptor`, and at nothing else."""
    kept = [entry for entry in entries if not _has_tag(entry, tag)]
    return [*kept, {**descriptor.to_json(), "annotations": {TAG_ANNOTATION: tag}}]


def without(entries: Entries, digest: Digest) -> Entries:
    """`entries` without a manifest under any tag, and without the list of its referrers."""
    return [item for item in entries if item.get("digest") != digest and not _has_tag(item, fallback_tag(digest))]


def named(entries: Entries) -> tuple[Digest, ...]:
    """The digests of what is listed, lists of referrers left out. Raises `MalformedArtifact`."""
    found = (item for item in entries if not _LIST.fullmatch(_tag_of(item)))
    return tuple(dict.fromkeys(Descriptor.from_json(item).digest for item in found))


def fallback_tag(subject: Digest) -> str:
    """The tag that lists referrers where there is no API for them (distribution-spec, Referrers Tag Schema)."""
    return subject.replace(":", "-")


def with_referrer(entries: Entries, descriptor: Descriptor, artifact_type: str) -> Entries:
    """A list of referrers with one more, which is in it once."""
    kept = [entry for entry in entries if entry.get("digest") != descriptor.digest]
    return [*kept, {**descriptor.to_json(), "artifactType": artifact_type}]


def referrers_of(entries: Entries, artifact_type: str) -> tuple[Digest, ...]:
    """The digests of this type in a list of referrers, or whose type a tool has dropped; oldest first, each once.

    Raises `MalformedArtifact`.
    """
    found = (Descriptor.from_json(item) for item in entries if item.get("artifactType", artifact_type) == artifact_type)
    return tuple(dict.fromkeys(item.digest for item in found))


def is_fallback_tag(tag: str) -> bool:
    """Whether a tag is one that lists referrers."""
    return _LIST.fullmatch(tag) is not None


def _has_tag(entry: dict[str, Any], tag: str) -> bool:
    return _tag_of(entry) == tag


def _tag_of(entry: dict[str, Any]) -> str:
    annotations = entry.get("annotations")
    tag = annotations.get(TAG_ANNOTATION) if isinstance(annotations, dict) else None
    return tag if isinstance(tag, str) else ""
