"""Recipients of every kind, and what skopeo encrypted to some of them."""

import base64
import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from strongroom.sealed.ocicrypt.keys import PrivateKey
from strongroom.sealed.registries import DirectoryRegistry

VECTORS = json.loads((Path(__file__).parent / "vectors" / "skopeo.json").read_text())


@pytest.fixture(scope="session")
def keys() -> dict[str, PrivateKey]:
    """One private key of each kind."""
    made = {"rsa": rsa.generate_private_key(65537, 2048)}
    curves = {"p256": ec.SECP256R1(), "p384": ec.SECP384R1(), "p521": ec.SECP521R1()}
    return made | {name: ec.generate_private_key(curve) for name, curve in curves.items()}


@pytest.fixture
def skopeos(tmp_path: Path) -> DirectoryRegistry:
    """The layout that skopeo wrote."""
    for path, data in VECTORS["layout"].items():
        place = tmp_path / "skopeo" / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(base64.b64decode(data))
    return DirectoryRegistry(tmp_path / "skopeo")
