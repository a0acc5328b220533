"""ocicrypt both ways with real programs: skopeo encrypts and decrypts, a registry keeps it, umoci unpacks the image.

What is proved here: artifacts of ours decrypt in another implementation to the same bytes, images that it encrypted decrypt
here, through image layouts and through a registry, and neither side opens what was changed.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from strongroom.errors import SealBroken
from strongroom.records.digest import digest_bytes
from strongroom.sealed.ocicrypt.decrypt import decrypt_into_directory, decrypt_into_registry
from strongroom.sealed.ocicrypt.encrypt import encrypt
from strongroom.sealed.registries import DirectoryRegistry
from strongroom.sealed.registries.port import IMAGE_MANIFEST, write_small

pytestmark = pytest.mark.needs("skopeo", "umoci", "docker-registry")

CONTENT = {
    "config.json": b'{"layers": 2}',
    "model.safetensors": os.urandom(5 * 1024 * 1024 + 3),
    "notes/README.md": b"trained on a rainy day",
    "notes/empty": b"",
}
KEYS = {
    "rsa": rsa.generate_private_key(65537, 2048),
    "p256": ec.generate_private_key(ec.SECP256R1()),
    "p384": ec.generate_private_key(ec.SECP384R1()),
    "p521": ec.generate_private_key(ec.SECP521R1()),
}
REGISTRY = """
version: 0.1
storage: {{filesystem: {{rootdirectory: {root}}}}}
http: {{addr: "127.0.0.1:{port}"}}
log: {{level: error}}
"""


def run(*words: str | Path, ok: bool = True, cwd: Path | None = None) -> str:
    done = subprocess.run(list(map(str, words)), capture_output=True, text=True, check=False, timeout=120, cwd=cwd)
    assert (done.returncode == 0) is ok, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def pem(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Each key as NAME.pem and NAME.pub."""
    folder = tmp_path_factory.mktemp("keys")
    for name, key in KEYS.items():
        (folder / f"{name}.pem").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        (folder / f"{name}.pub").write_bytes(public)
    return folder


@pytest.fixture(scope="module")
def remote(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A registry of its own on this machine."""
    folder, program = tmp_path_factory.mktemp("registry"), shutil.which("docker-registry")
    with socket.create_server(("127.0.0.1", 0)) as found:
        port = found.getsockname()[1]
    (folder / "config.yml").write_text(REGISTRY.format(root=folder / "store", port=port))
    with (
        (folder / "log").open("wb") as log,
        subprocess.Popen([program, "serve", str(folder / "config.yml")], stdout=log, stderr=log) as process,
    ):
        try:
            for _ in range(600):
                try:
                    socket.create_connection(("127.0.0.1", port), timeout=1).close()
                    break
                except OSError:
                    assert process.poll() is None, (folder / "log").read_text()
                    time.sleep(0.05)
            yield f"127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(timeout=30)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    for path, data in CONTENT.items():
        place = tmp_path / "model" / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)
    return tmp_path / "model"


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """An image with two layers, as umoci makes it."""
    layout, bundle = tmp_path / "image", tmp_path / "bundle"
    run("umoci", "init", "--layout", layout)
    run("umoci", "new", "--image", f"{layout}:v1")
    for number in (1, 2):
        run("umoci", "unpack", "--rootless", "--image", f"{layout}:v1", f"{bundle}-{number}")
        Path(f"{bundle}-{number}", "rootfs", f"file-{number}").write_bytes(os.urandom(200_000))
        run("umoci", "repack", "--image", f"{layout}:v1", f"{bundle}-{number}")
    return layout


def manifest(layout: Path, tag: str = "v1") -> dict:
    registry = DirectoryRegistry(layout)
    return json.loads(registry.get_manifest(registry.resolve(tag)))


def content(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def through(remote: str, layout: Path, name: str, tmp_path: Path) -> Path:
    """The layout's `v1`, pushed to the registry and pulled from it again."""
    run("skopeo", "copy", "--dest-tls-verify=false", f"oci:{layout}:v1", f"docker://{remote}/{name}:v1")
    pulled = tmp_path / f"pulled-{name}"
    run("skopeo", "copy", "--src-tls-verify=false", f"docker://{remote}/{name}:v1", f"oci:{pulled}:v1")
    return pulled


@pytest.mark.parametrize("by_registry", [False, True])
@pytest.mark.parametrize("names", [["rsa"], ["p256"], ["p384"], ["p521"], list(KEYS)])
@pytest.mark.interop("ocicrypt layers, ModelPack", "strongroom", "skopeo (Debian)")
def test_skopeo_decrypts_what_we_encrypted(source, pem, remote, tmp_path, names, by_registry):
    layout = tmp_path / "ours"
    encrypt(source, DirectoryRegistry(layout), [KEYS[name].public_key() for name in names], tag="v1")
    if by_registry:
        layout = through(remote, layout, "-".join(names), tmp_path)
    for name in names:
        plain = tmp_path / f"plain-{name}"
        run("skopeo", "copy", "--decryption-key", pem / f"{name}.pem", f"oci:{layout}:v1", f"oci:{plain}:v1")
        found = manifest(plain)
        listed = {layer["annotations"]["org.cncf.model.filepath"]: layer for layer in found["layers"]}
        assert {path: layer["digest"] for path, layer in listed.items()} == {
            path: digest_bytes(data) for path, data in CONTENT.items()
        }
        assert listed["model.safetensors"]["mediaType"] == "application/vnd.cncf.model.weight.v1.raw"
        assert found["config"]["mediaType"] == "application/vnd.cncf.model.config.v1+json"
        blob = plain / "blobs" / "sha256" / listed["model.safetensors"]["digest"].removeprefix("sha256:")
        assert blob.read_bytes() == CONTENT["model.safetensors"]


@pytest.mark.interop("ocicrypt layers, ModelPack", "strongroom", "strongroom")
def test_what_went_through_a_registry_decrypts_here_too(source, remote, tmp_path):
    layout = tmp_path / "ours"
    encrypt(source, DirectoryRegistry(layout), [KEYS["p256"].public_key()], tag="v1")
    pulled = through(remote, layout, "ours", tmp_path)
    assert manifest(pulled) == manifest(layout)
    decrypt_into_directory(DirectoryRegistry(pulled), "v1", tmp_path / "out", KEYS["p256"])
    assert content(tmp_path / "out") == CONTENT


@pytest.mark.parametrize("by_registry", [False, True])
@pytest.mark.parametrize("names", [["rsa"], ["p384"], list(KEYS)])
@pytest.mark.interop("ocicrypt layers, image", "skopeo (Debian)", "strongroom")
@pytest.mark.interop("image, decrypted", "strongroom", "umoci (Debian)")
def test_an_image_that_skopeo_encrypted_decrypts_here_and_umoci_unpacks_it(
    image, pem, remote, tmp_path, names, by_registry
):
    layout = tmp_path / "encrypted"
    keys = [word for name in names for word in ("--encryption-key", f"jwe:{pem / name}.pub")]
    run("skopeo", "copy", *keys, f"oci:{image}:v1", f"oci:{layout}:v1")
    if by_registry:
        layout = through(remote, layout, "image-" + "-".join(names), tmp_path)
    for name in names:
        plain = tmp_path / f"plain-{name}"
        decrypt_into_registry(DirectoryRegistry(layout), "v1", DirectoryRegistry(plain), "v1", KEYS[name])
        layers = [[layer["digest"] for layer in manifest(place)["layers"]] for place in (plain, image)]
        assert layers[0] == layers[1]
        run("umoci", "unpack", "--rootless", "--image", f"{plain}:v1", tmp_path / f"unpacked-{name}")
        assert content(tmp_path / f"unpacked-{name}" / "rootfs") == content(tmp_path / "bundle-2" / "rootfs")
    stranger = ec.generate_private_key(ec.SECP384R1())
    with pytest.raises(SealBroken, match="opens none"):
        decrypt_into_registry(DirectoryRegistry(layout), "v1", DirectoryRegistry(tmp_path / "no"), "v1", stranger)
    assert not (tmp_path / "no").exists()


@pytest.mark.parametrize("ours", [True, False])
def test_a_flipped_byte_with_digests_made_anew_opens_on_neither_side(source, image, pem, tmp_path, ours):
    layout = tmp_path / "encrypted"
    if ours:
        encrypt(source, DirectoryRegistry(layout), [KEYS["rsa"].public_key()], tag="v1")
    else:
        run("skopeo", "copy", "--encryption-key", f"jwe:{pem / 'rsa'}.pub", f"oci:{image}:v1", f"oci:{layout}:v1")
    registry, value = DirectoryRegistry(layout), manifest(layout)
    blob = layout / "blobs" / "sha256" / value["layers"][1]["digest"].removeprefix("sha256:")
    data = bytearray(blob.read_bytes())
    data[len(data) // 2] ^= 1
    value["layers"][1]["digest"] = write_small(registry, bytes(data))
    registry.put_manifest(json.dumps(value).encode(), media_type=IMAGE_MANIFEST, tag="v1")
    told = run(
        "skopeo", "copy", "--decryption-key", pem / "rsa.pem", f"oci:{layout}:v1", f"oci:{tmp_path / 'no'}:v1", ok=False
    )
    assert "hmac" in told
    with pytest.raises(SealBroken, match="MAC"):
        decrypt_into_registry(registry, "v1", DirectoryRegistry(tmp_path / "plain"), "v1", KEYS["rsa"])
    assert not (tmp_path / "plain").exists()


def test_the_command_line_encrypts_and_decrypts(source, pem, tmp_path):
    def strongroom(*words: str | Path, code: int = 0) -> dict:
        command = [sys.executable, "-m", "strongroom", "ocicrypt", *map(str, words), "--json"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode == code, done.stdout + done.stderr
        return json.loads(done.stdout)

    layout = tmp_path / "ours"
    recipients = ["--recipient", pem / "rsa.pub", "--recipient", pem / "p256.pub"]
    made = strongroom("encrypt", source, f"dir:{layout}:v1", *recipients)
    assert {file["path"] for file in made["files"]} == set(CONTENT)
    strongroom("decrypt", f"dir:{layout}@{made['digest']}", tmp_path / "out", "--key", pem / "p256.pem")
    assert content(tmp_path / "out") == CONTENT
    plain = strongroom("decrypt", f"dir:{layout}:v1", f"dir:{tmp_path / 'plain'}:v1", "--key", pem / "rsa.pem")
    assert plain["digest"] == DirectoryRegistry(tmp_path / "plain").resolve("v1")
    error = strongroom("decrypt", f"dir:{layout}:v1", tmp_path / "no", "--key", pem / "p384.pem", code=1)["error"]
    assert error["code"] == "sealed.broken"
    assert not (tmp_path / "no").exists()
    strongroom("encrypt", source, f"dir:{layout}:v2", "--recipient", pem / "rsa.pem", code=3)
