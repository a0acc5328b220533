"""A small sealed artifact of several files and segments, its owner, and one recipient."""

import os
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

from strongroom.crypto import signatures
from strongroom.crypto.hpke import ReleaseKey
from strongroom.records.artifact import ArtifactKind
from strongroom.sealed.open import OpenedArtifact, Opener
from strongroom.sealed.registries import DirectoryRegistry
from strongroom.sealed.seal import SealedArtifact, seal
from strongroom.sealed.wrapping import unwrap, wrap_to

CANARY = b"canary-7f3a-weights-that-nobody-may-see"
CONTENT = {
    "model.gguf": CANARY + bytes(range(256)) * 3,
    "nested/deep/tokenizer.json": b'{"canary-name": 1}',
    "nested/empty": b"",
    "twin": CANARY[::-1] + bytes(range(256)) * 3,
}
SEGMENT_BYTES = 256


@dataclass(frozen=True)
class Owner:
    """Who seals, and who may open."""

    signer: EllipticCurvePrivateKey
    recipient: ReleaseKey

    def seal(self, source: Path, registry: DirectoryRegistry, **options: object) -> SealedArtifact:
        wanted = {"kind": ArtifactKind.MODEL, "segment_bytes": SEGMENT_BYTES, "wrap": wrap_to([self.recipient.public])}
        return seal(source, registry, signer=self.signer, **{**wanted, **options})

    def opener(self, registry: DirectoryRegistry, reference: str = "latest") -> Opener:
        return Opener(registry, reference, signer_public=self.signer.public_key())

    def open(self, registry: DirectoryRegistry, reference: str = "latest") -> OpenedArtifact:
        opener = self.opener(registry, reference)
        return opener.open(unwrap(opener.header, self.recipient))

    def contents(self, registry: DirectoryRegistry, reference: str = "latest") -> dict[str, bytes]:
        """All that is in the artifact, by way of memory."""
        with self.open(registry, reference) as artifact:
            return {file.path: content_of(artifact, file.path) for file in artifact.files}


def content_of(artifact: OpenedArtifact, path: str) -> bytes:
    fd = artifact.into_memfd(path)
    try:
        return os.pread(fd, 1 << 20, 0)
    finally:
        os.close(fd)


def write_files(folder: Path, content: dict[str, bytes]) -> Path:
    for path, data in content.items():
        place = folder / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)
    return folder


@pytest.fixture(scope="session")
def owner() -> Owner:
    return Owner(signatures.generate_p256(), ReleaseKey.generate())


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_files(tmp_path / "little-model", CONTENT)


@pytest.fixture
def registry(tmp_path: Path) -> DirectoryRegistry:
    return DirectoryRegistry(tmp_path / "registry")


@pytest.fixture
def artifact(owner: Owner, source: Path, registry: DirectoryRegistry) -> SealedArtifact:
    return owner.seal(source, registry)
