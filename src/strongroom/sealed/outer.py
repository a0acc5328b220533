"""The outer signature: the owner's word about the ciphertext, kept beside it as an OCI referrer.

It names every blob of the artifact as it lies in an OCI layout (`blobs/sha256/<hex>`), so that the stock
`model-signing` verifies it on the layout's folder. Anybody can check it without a data key.

Knows: the shape of the referrer. Does not know: the statement's format (`sealed.signing`).
"""

from __future__ import annotations

from typing import Any

import rfc8785

from strongroom.crypto.signatures import PublicKey, SigningKey
from strongroom.errors import MalformedArtifact, MalformedRecord, SignatureInvalid, StrongroomError
from strongroom.records import codec
from strongroom.records.digest import Digest
from strongroom.sealed import signing
from strongroom.sealed.manifest import Manifest
from strongroom.sealed.registries.port import (
    IMAGE_MANIFEST,
    MAX_MANIFEST_BYTES,
    Descriptor,
    Registry,
    read_small,
    write_small,
)

EMPTY_CONFIG = b"{}"
EMPTY_TYPE = "application/vnd.oci.empty.v1+json"
MAX_TRIED = 16


def sign_artifact(registry: Registry, manifest: Manifest, signer: SigningKey | signing.Signer) -> tuple[Digest, ...]:
    """Sign the artifact and attach the signature to it; returns the digests of what was put there."""
    bundle = signing.sign_files(_files(manifest), signer)
    config, layer = write_small(registry, EMPTY_CONFIG), write_small(registry, bundle)
    subject = Descriptor.of(IMAGE_MANIFEST, manifest.to_bytes())
    referrer = rfc8785.dumps(
        {
            "schemaVersion": 2,
            "mediaType": IMAGE_MANIFEST,
            "artifactType": signing.BUNDLE_TYPE,
            "config": Descriptor(EMPTY_TYPE, config, len(EMPTY_CONFIG)).to_json(),
            "layers": [Descriptor(signing.BUNDLE_TYPE, layer, len(bundle)).to_json()],
            "subject": subject.to_json(),
        }
    )
    try:
        return layer, registry.attach(subject.digest, referrer, artifact_type=signing.BUNDLE_TYPE)
    except BaseException:
        registry.discard((layer,))
        raise


def check_signature(registry: Registry, manifest: Manifest, trust: PublicKey | signing.Trust) -> None:
    """Return if a signature of this artifact holds that `trust` admits; other people's may stand beside it.

    Raises `SignatureInvalid` where there is none; where none holds, what is wrong with the first.
    """
    wrong: StrongroomError | None = None
    for referrer in registry.referrers(manifest.digest, signing.BUNDLE_TYPE)[:MAX_TRIED]:
        try:
            _check_one(registry, manifest, referrer, trust)
        except StrongroomError as error:
            wrong = wrong or error
        else:
            return
    raise wrong or SignatureInvalid("this artifact carries no signature", detail="outer signature")


def _check_one(registry: Registry, manifest: Manifest, referrer: Digest, trust: PublicKey | signing.Trust) -> None:
    try:
        value: Any = codec.parse_json(registry.get_manifest(referrer), limit=MAX_MANIFEST_BYTES)
        subject, (layer,) = Descriptor.from_json(value["subject"]), (Descriptor.from_json(x) for x in value["layers"])
    except (MalformedRecord, KeyError, TypeError, ValueError):
        raise MalformedArtifact("a signature is not packaged as an OCI referrer") from None
    if subject.digest != manifest.digest:
        raise SignatureInvalid("a signature of another artifact", detail="outer signature")
    signed = signing.verify_files(read_small(registry, layer, limit=signing.MAX_BUNDLE_BYTES), trust)
    if signed != _files(manifest):
        raise SignatureInvalid("a signature that is about other blobs than this artifact's", detail="outer signature")


def _files(manifest: Manifest) -> signing.SignedFiles:
    names = (digest.removeprefix("sha256:") for digest in manifest.signed_digests())
    return signing.SignedFiles(manifest.digest, "sha256", {f"blobs/sha256/{name}": name for name in names})
