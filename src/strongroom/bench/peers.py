"""Other people's programs that `bench open` is held against: tink (PyPI) and skopeo (a Debian package), where they are.

Knows: how each is asked. Does not know: what is measured.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from hashlib import sha256
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from strongroom.errors import Unavailable

LAYER = "application/vnd.oci.image.layer.v1.tar"
CONFIG = "application/vnd.cncf.model.config.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"


def tink_streaming(key: bytes, segment_bytes: int) -> Any:
    """Tink's own implementation of our stream format under `key` (32 bytes)."""
    import tink
    from tink import secret_key_access, streaming_aead
    from tink.proto import aes_gcm_hkdf_streaming_pb2, common_pb2, tink_pb2

    made = aes_gcm_hkdf_streaming_pb2.AesGcmHkdfStreamingKey(
        version=0,
        key_value=key,
        params=aes_gcm_hkdf_streaming_pb2.AesGcmHkdfStreamingParams(
            ciphertext_segment_size=segment_bytes, derived_key_size=32, hkdf_hash_type=common_pb2.SHA256
        ),
    )
    data = tink_pb2.KeyData(
        type_url="type.googleapis.com/google.crypto.tink.AesGcmHkdfStreamingKey",
        value=made.SerializeToString(),
        key_material_type=tink_pb2.KeyData.SYMMETRIC,
    )
    entry = tink_pb2.Keyset.Key(key_data=data, status=tink_pb2.ENABLED, key_id=1, output_prefix_type=tink_pb2.RAW)
    keyset = tink_pb2.Keyset(primary_key_id=1, key=[entry]).SerializeToString()
    streaming_aead.register()
    return tink.proto_keyset_format.parse(keyset, secret_key_access.TOKEN).primitive(streaming_aead.StreamingAead)


class Ocicrypt:
    """One file as the layer of an OCI artifact, encrypted by skopeo; `decrypt` has skopeo decrypt it into a new layout."""

    def __init__(self, place: Path, file: Path) -> None:
        """Raises `Unavailable` where skopeo fails."""
        self._place = place
        key = rsa.generate_private_key(65537, 2048)
        (place / "skopeo.key").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        (place / "skopeo.pub").write_bytes(
            key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        )
        self._digest = _layout(place / "bare", file)
        self._copy("bare", "encrypted", "--encryption-key", f"jwe:{place / 'skopeo.pub'}")
        shutil.rmtree(place / "bare")

    def decrypt(self) -> None:
        """Raises `Unavailable` where skopeo fails or gives other bytes."""
        self._copy("encrypted", "decrypted", "--decryption-key", str(self._place / "skopeo.key"))
        if not (self._place / "decrypted" / "blobs" / "sha256" / self._digest).is_file():
            raise Unavailable("skopeo decrypted something else than was encrypted")

    def forget(self) -> None:
        """Remove what was decrypted."""
        shutil.rmtree(self._place / "decrypted", ignore_errors=True)

    def _copy(self, source: str, target: str, *options: str) -> None:
        command = ["skopeo", "copy", "-q", "--insecure-policy", "--dest-oci-accept-uncompressed-layers", *options]
        places = [f"oci:{self._place / name}:model" for name in (source, target)]
        ran = subprocess.run([*command, *places], capture_output=True, check=False)
        if ran.returncode:
            raise Unavailable(f"skopeo ended with {ran.returncode}", detail=ran.stderr.decode(errors="replace")[-300:])


def _layout(place: Path, file: Path) -> str:
    """An OCI layout with `file` as its one layer; returns the layer's digest in hexadecimal."""
    blobs = place / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    digest = sha256()
    with file.open("rb") as source, (blobs / "layer").open("wb") as target:
        while block := source.read(1 << 20):
            digest.update(block)
            target.write(block)
    (blobs / "layer").rename(blobs / digest.hexdigest())
    layer = {"mediaType": LAYER, "digest": f"sha256:{digest.hexdigest()}", "size": file.stat().st_size}
    config = _put(blobs, CONFIG, b"{}")
    manifest = json.dumps({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [layer]}).encode()
    entry = {**_put(blobs, MANIFEST, manifest), "annotations": {"org.opencontainers.image.ref.name": "model"}}
    (place / "index.json").write_text(json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]}))
    (place / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    return digest.hexdigest()


def _put(blobs: Path, media: str, data: bytes) -> dict[str, Any]:
    name = sha256(data).hexdigest()
    (blobs / name).write_bytes(data)
    return {"mediaType": media, "digest": f"sha256:{name}", "size": len(data)}
