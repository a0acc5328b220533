"""Erase: an artifact is taken out of a registry, its wrapped data key first; and what that does not reach is said.

What makes an encrypted artifact readable is its data key. It is wrapped in the manifest, so the manifest goes first; then
its layers, as far as no other artifact there needs them (one that was rewrapped shares them), and the signatures. Copies are
not reached, and neither is anybody who has the data key; whoever can unwrap opens each copy of the manifest that is left.

Knows: what belongs to an artifact. Does not know: who asks; a registry says who may. Not covered: artifacts that no tag
names and that share layers with this one.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from strongroom.errors import FileUnreadable, MalformedArtifact, MalformedRecord
from strongroom.records import codec
from strongroom.records.artifact import SealHeader
from strongroom.records.digest import Digest
from strongroom.sealed import signing
from strongroom.sealed.manifest import Manifest
from strongroom.sealed.registries.port import IMAGE_MANIFEST, MAX_MANIFEST_BYTES, Descriptor, Registry

EMPTY = Descriptor.of("application/vnd.oci.empty.v1+json", b"{}").digest
"""The config of every signature in a registry: nobody's own."""


@dataclass(frozen=True, slots=True)
class Erased:
    """What was done: blobs that are `gone`, those `kept` because others need them, those that are `still` there.

    `unreached` says in words where the artifact, or its data key, may be besides.
    """

    digest: Digest
    header: SealHeader
    gone: tuple[Digest, ...]
    kept: tuple[Digest, ...]
    still: tuple[Digest, ...]
    unreached: tuple[str, ...]


def erase(registry: Registry, reference: str) -> Erased:
    """Remove the artifact that `reference` names, with every tag that names it.

    Raises `FileUnreadable`, `MalformedArtifact`, and what the registry raises where it does not let go of the manifest; then
    nothing was removed.
    """
    data = registry.get_manifest(registry.resolve(reference))
    manifest = Manifest.from_bytes(data)
    needed = {blob for other in registry.named() if other != manifest.digest for blob in _blobs(registry, other)}
    own = [
        Descriptor.of(IMAGE_MANIFEST, data),
        manifest.config,
        *manifest.layers,
        *_signatures(registry, manifest.digest),
    ]
    registry.forget(manifest.digest)
    mine = {blob.digest: blob for blob in own}
    unshared = tuple(digest for digest in mine if digest not in needed)
    registry.discard(unshared)
    still = tuple(digest for digest in unshared if registry.has_blob(mine[digest]))
    return Erased(
        digest=manifest.digest,
        header=manifest.header,
        gone=tuple(digest for digest in unshared if digest not in still),
        kept=tuple(digest for digest in mine if digest in needed),
        still=still,
        unreached=(*_who_can_unwrap(manifest.header), *registry.remains, *ELSEWHERE),
    )


ELSEWHERE = (
    "copies in other registries and folders, and whoever pulled it",
    "workers that hold the data key now, until their lease ends: see `strongroom leases`",
)


def _who_can_unwrap(header: SealHeader) -> Iterable[str]:
    broker = header.keys.broker
    if broker is not None:
        yield f"the broker's key {broker.key_id}, which opens each copy of this artifact: end it with `keys retire`"
    if header.keys.recipients:
        yield f"{len(header.keys.recipients)} recipients, who open each copy with their own keys"


def _signatures(registry: Registry, digest: Digest) -> Iterable[Descriptor]:
    """The manifests and bundles of signatures of an artifact."""
    for referrer in registry.referrers(digest, signing.BUNDLE_TYPE):
        try:
            data = registry.get_manifest(referrer)
        except FileUnreadable:
            continue
        yield Descriptor.of(IMAGE_MANIFEST, data)
        yield from (blob for blob in _listed(data) if blob.digest != EMPTY)


def _blobs(registry: Registry, digest: Digest) -> Iterable[Digest]:
    """All that another manifest there needs. Raises `MalformedArtifact` for one that does not say."""
    try:
        data = registry.get_manifest(digest)
    except FileUnreadable:
        return ()
    return (digest, *(blob.digest for blob in _listed(data)))


def _listed(data: bytes) -> list[Descriptor]:
    """The config and layers of a manifest, or the manifests of an index."""
    try:
        value: Any = codec.parse_json(data, limit=MAX_MANIFEST_BYTES)
        config = [value["config"]] if "config" in value else []
        return [Descriptor.from_json(item) for item in (*config, *value.get("layers", ()), *value.get("manifests", ()))]
    except (MalformedRecord, KeyError, TypeError, AttributeError):
        raise MalformedArtifact(
            "something else lies there, and it does not say what it needs", remedy="Remove the artifact by other means."
        ) from None
