"""Blind RSA with a peer: `@cloudflare/blindrsa-ts` from npm, at every step in each part."""

import base64
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization

from strongroom.crypto import blind_rsa

PEER = Path(__file__).parent / "blind_rsa_peer"
KEY = blind_rsa.generate()
PUBLIC = KEY.public_key()
SPKI = blind_rsa.public_to_der(PUBLIC)
PKCS8 = KEY.private_bytes(serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())

pytestmark = pytest.mark.needs("node", "npm")


@pytest.fixture(scope="module")
def peer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Asks the npm package, installed into a directory of its own, for one step."""
    place = tmp_path_factory.mktemp("npm") / "peer"
    shutil.copytree(PEER, place, ignore=shutil.ignore_patterns("node_modules"))
    command = ["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts"]
    installed = subprocess.run(command, cwd=place, capture_output=True, text=True, check=False)
    if installed.returncode != 0:
        pytest.skip(f"missing npm package: @cloudflare/blindrsa-ts (npm ci failed)\n{installed.stderr[-2000:]}")

    def ask(step: str, **given: bytes) -> dict[str, Any]:
        asked = {
            "step": step,
            **{name: base64.b64encode(data).decode() for name, data in {"spki": SPKI, **given}.items()},
        }
        program = ["node", "peer.mjs"]
        ran = subprocess.run(
            program,
            cwd=place,
            input=json.dumps(asked),
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert ran.returncode == 0, ran.stderr[-2000:]
        said = json.loads(ran.stdout)
        return {name: base64.b64decode(value) if isinstance(value, str) else value for name, value in said.items()}

    return ask


@pytest.mark.interop("blind RSA signature", "strongroom", "blindrsa-ts (npm)")
def test_the_peer_signs_what_we_blinded_and_verifies_what_we_made_of_it(peer):
    prepared = blind_rsa.prepare(b"a credit")
    blinded = blind_rsa.blind(PUBLIC, prepared)
    signed = peer("sign", blinded=blinded.request, pkcs8=PKCS8)["signed"]
    assert signed == blind_rsa.blind_sign(KEY, blinded.request)
    signature = blind_rsa.finalize(PUBLIC, prepared, signed, blinded.inverse)
    assert peer("verify", prepared=prepared, signature=signature) == {"holds": True}
    assert peer("verify", prepared=prepared[:-1] + b"x", signature=signature) == {"holds": False}


@pytest.mark.interop("blind RSA signature", "blindrsa-ts (npm)", "strongroom")
def test_we_sign_what_the_peer_blinded_and_verify_what_it_made_of_it(peer):
    made = peer("blind", message=b"a credit")
    signed = blind_rsa.blind_sign(KEY, made["blinded"])
    signature = peer("finalize", prepared=made["prepared"], signed=signed, inverse=made["inverse"])["signature"]
    blind_rsa.verify(PUBLIC, made["prepared"], signature)
    assert made["prepared"][blind_rsa.PREFIX_BYTES :] == b"a credit"
