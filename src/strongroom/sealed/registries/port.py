"""The port of a registry: what sealing and opening want of any place that keeps OCI content.

A registry is trusted with nothing. Manifests and small blobs are checked against their digest whoever kept them; of
large blobs ranges are read, and the stream's own tags are the check. Implementations are files beside this one.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from strongroom.errors import MalformedArtifact, SealBroken, ServiceUnavailable
from strongroom.records.digest import Digest, digest_bytes, is_digest

MAX_MANIFEST_BYTES = 4 * 1024 * 1024
MAX_OBJECT_BYTES = 1 << 50

REMOTE_LANES = 8
"""How many ranges of a blob over the network are asked for at once: answers take long, and each is one segment."""

IMAGE_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
IMAGE_INDEX = "application/vnd.oci.image.index.v1+json"


class UploadLost(ServiceUnavailable):
    """A place forgot a blob that was on its way; the same blob may be sent again from its beginning."""


@dataclass(frozen=True, slots=True)
class Descriptor:
    """An OCI content descriptor: what it is, its digest, its size in bytes (image-spec, descriptor.md)."""

    media_type: str
    digest: Digest
    size: int

    def to_json(self) -> dict[str, Any]:
        return {"mediaType": self.media_type, "digest": self.digest, "size": self.size}

    @classmethod
    def from_json(cls, value: Any) -> Descriptor:
        """From JSON that may have more members. Raises `MalformedArtifact`."""
        if isinstance(value, dict):
            kind, digest, size = value.get("mediaType"), value.get("digest"), value.get("size")
            if isinstance(kind, str) and isinstance(digest, str) and isinstance(size, int):
                return cls._possible(kind, digest, size)
        raise MalformedArtifact("a descriptor without a media type, a digest or a size")

    @classmethod
    def _possible(cls, kind: str, digest: str, size: int) -> Descriptor:
        if isinstance(size, bool) or not is_digest(digest) or not 0 <= size <= MAX_OBJECT_BYTES:
            raise MalformedArtifact("a descriptor with a digest that is not SHA-256 or an impossible size")
        return cls(kind, Digest(digest), size)

    @classmethod
    def of(cls, media_type: str, data: bytes) -> Descriptor:
        return cls(media_type, digest_bytes(data), len(data))


class Blob(Protocol):
    """A blob that is open for reading, at any place and from several threads."""

    @property
    def size(self) -> int: ...

    @property
    def lanes(self) -> int | None:
        """How many threads should read it at once; None for as many as there are processors."""

    def read_into(self, buffer: memoryview, offset: int, /) -> None:
        """Fill `buffer` from `offset`, wholly. Raises `SealBroken` where the blob ends before, `FileUnreadable`."""


class BlobWriter(Protocol):
    """A blob on its way in. It is kept by `commit`, and gone if that was not reached."""

    @property
    def size(self) -> int:
        """How many bytes there are by now."""

    def write(self, data: memoryview | bytes, /) -> object: ...

    def commit(self) -> tuple[Digest, int]:
        """Make it durable under its digest; returns digest and size."""


class Registry(Protocol):
    """A place that keeps blobs and manifests by digest, and names some manifests by tag."""

    def push_blob(self) -> AbstractContextManager[BlobWriter]: ...

    def push_known(self, descriptor: Descriptor) -> AbstractContextManager[BlobWriter]:
        """As `push_blob`, for a blob that is known before it comes; `commit` keeps no other, and raises `SealBroken`.

        Of an earlier attempt `size` bytes may be there already; writing goes on after them. Raises `UploadLost` where it
        has to begin again.
        """

    def has_blob(self, descriptor: Descriptor) -> bool:
        """Whether the place says that it has this blob, in this size. A hint; its content is checked by who reads it."""

    def open_blob(self, digest: Digest) -> AbstractContextManager[Blob]:
        """Raises `FileUnreadable` if there is none."""

    def put_manifest(self, data: bytes, *, media_type: str, tag: str | None = None) -> Digest:
        """Keep a manifest by its digest; with `tag` also by that name, which then moves to it at once or not at all."""

    def get_manifest(self, digest: Digest) -> bytes:
        """The manifest with this digest, checked. Raises `FileUnreadable`, `SealBroken`."""

    def resolve(self, reference: str) -> Digest:
        """The digest behind a tag; a digest is its own. Raises `FileUnreadable` if there is none."""

    def attach(self, subject: Digest, data: bytes, *, artifact_type: str) -> Digest:
        """Keep a manifest that refers to `subject`, and list it among that one's referrers."""

    def referrers(self, subject: Digest, artifact_type: str) -> tuple[Digest, ...]:
        """The manifests of this type that say they refer to `subject`, oldest first; a hint and never proof."""

    def discard(self, digests: tuple[Digest, ...]) -> None:
        """Take back blobs and manifests that nothing refers to; for a sealing that failed."""

    def named(self) -> tuple[Digest, ...]:
        """The manifests that tags name, each once; not the lists of referrers that stand under tags."""

    def forget(self, digest: Digest) -> None:
        """Remove a manifest, every tag that names it and the list of its referrers.

        Raises `FileUnreadable`, `ServiceUnavailable`, `NotAuthorised` where the place does not.
        """

    @property
    def remains(self) -> tuple[str, ...]:
        """In words: where this place may keep what was removed from it."""


def read_small(registry: Registry, descriptor: Descriptor, *, limit: int) -> bytes:
    """All of a small blob, its size and digest checked. Raises `FileUnreadable`, `MalformedArtifact`, `SealBroken`."""
    if descriptor.size > limit:
        raise MalformedArtifact(f"a blob of {descriptor.size} bytes exceeds the limit of {limit}")
    with registry.open_blob(descriptor.digest) as blob:
        if blob.size != descriptor.size:
            raise SealBroken("a blob has another size than its descriptor says", detail=descriptor.digest)
        data = bytearray(descriptor.size)
        blob.read_into(memoryview(data), 0)
    return checked(bytes(data), descriptor.digest)


def write_small(registry: Registry, data: bytes) -> Digest:
    """Keep a small blob; returns its digest."""
    with registry.push_blob() as blob:
        blob.write(data)
        return blob.commit()[0]


def checked(data: bytes, digest: Digest) -> bytes:
    """`data`, if it has this digest. Raises `SealBroken`."""
    if digest_bytes(data) != digest:
        raise SealBroken("a blob does not have the digest by which it is known", detail=digest)
    return data


def check_expected(expected: Descriptor | None, digest: Digest, size: int) -> None:
    """Raises `SealBroken` where something was to be written and something else was."""
    if expected is not None and (digest, size) != (expected.digest, expected.size):
        raise SealBroken("these bytes do not have the digest and size by which they are known", detail=expected.digest)
