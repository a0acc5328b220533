"""Every published vector of the sealed format gets what it says under `expect`, by us and, for streams, by tink."""

from __future__ import annotations

import base64
import hashlib
import io
import json
from pathlib import Path

import pytest

from strongroom.bench.peers import tink_streaming
from strongroom.crypto import segments
from strongroom.crypto.hpke import ReleaseKey
from strongroom.crypto.signatures import public_from_pem
from strongroom.errors import SealBroken, StrongroomError
from strongroom.sealed.open import Floor, Opener
from strongroom.sealed.registries import DirectoryRegistry
from strongroom.sealed.wrapping import unwrap

VECTORS = Path(__file__).parents[2] / "vectors"
STREAMS = sorted((VECTORS / "streams").glob("*.vector"))
ARTIFACTS = sorted((VECTORS / "artifacts").glob("*.json"))


class Held:
    def __init__(self, data: bytes) -> None:
        self.data = data

    def read_into(self, buffer: memoryview, offset: int, /) -> None:
        part = self.data[offset : offset + len(buffer)]
        if len(part) != len(buffer):
            raise SealBroken("a blob ends before its size")
        buffer[:] = part


def parsed(path: Path) -> tuple[dict[str, str], bytes]:
    head, _, body = path.read_text().partition("\n\n")
    return dict(line.split(": ", 1) for line in head.splitlines()), base64.b64decode(body)


def ours(said: dict[str, str], data: bytes) -> str:
    """SHA-256 of the plaintext, or the code of the error."""
    try:
        stream = segments.open_stream(
            Held(data),
            ciphertext_bytes=len(data),
            key=bytes.fromhex(said["key"]),
            aad=bytes.fromhex(said["aad"]),
            segment_bytes=int(said["segment_bytes"]),
        )
        return hashlib.sha256(stream.read(0, stream.shape.plaintext_bytes)).hexdigest()
    except StrongroomError as error:
        return error.code


@pytest.mark.parametrize("path", STREAMS, ids=lambda path: path.stem)
def test_a_stream_gets_what_it_expects(path: Path):
    said, data = parsed(path)
    assert ours(said, data) == (said["plaintext"] if said["expect"] == "success" else said["expect"])


@pytest.mark.parametrize("path", STREAMS, ids=lambda path: path.stem)
def test_tink_agrees(path: Path):
    said, data = parsed(path)
    peer = tink_streaming(bytes.fromhex(said["key"]), int(said["segment_bytes"]))
    try:
        with peer.new_decrypting_stream(io.BytesIO(data), bytes.fromhex(said["aad"])) as stream:
            found = hashlib.sha256(stream.read()).hexdigest()
    except Exception:  # noqa: BLE001 (tink raises many things)
        found = ""
    assert found == said.get("plaintext", "")


@pytest.mark.parametrize("path", ARTIFACTS, ids=lambda path: path.stem)
def test_an_artifact_gets_what_it_expects(path: Path, tmp_path: Path):
    said = json.loads(path.read_bytes())
    for name, content in said["files"].items():
        place = tmp_path / "layout" / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(base64.b64decode(content))
    floor = said["floor"] and Floor(bytes.fromhex(said["floor"][0]), said["floor"][1])
    target = tmp_path / "opened"
    try:
        opener = Opener(
            DirectoryRegistry(tmp_path / "layout"),
            "latest",
            signer_public=public_from_pem(said["signer"].encode()),
            floor=floor,
        )
        with opener.open(unwrap(opener.header, ReleaseKey.from_bytes(base64.b64decode(said["recipient"])))) as opened:
            opened.into_directory(target)
        found = "success"
    except StrongroomError as error:
        found = error.code
        assert not target.exists()
    assert found == said["expect"]
    opened_files = {
        file.relative_to(target).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in target.rglob("*")
        if file.is_file()
    }
    assert opened_files == said["plaintext"]


def test_there_are_vectors_that_open_and_vectors_that_do_not():
    for found in (
        [parsed(path)[0]["expect"] for path in STREAMS],
        [json.loads(p.read_bytes())["expect"] for p in ARTIFACTS],
    ):
        assert found.count("success") >= 4
        assert len(found) - found.count("success") >= 10
