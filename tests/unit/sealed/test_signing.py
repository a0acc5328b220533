"""Model signatures: ours hold for the stock `model-signing`, its hold for us, and nothing else does."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from blake3 import blake3
from click.testing import CliRunner
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given, settings
from hypothesis import strategies as st
from model_signing import hashing as peer_hashing
from model_signing import signing as peer_signing
from model_signing import verifying as peer_verifying
from model_signing._cli import main as peer_command

from strongroom.crypto import signatures
from strongroom.errors import MalformedArtifact, SignatureInvalid, UsageError
from strongroom.records.digest import Digest
from strongroom.sealed import signing
from strongroom.sealed.registries import DirectoryRegistry
from strongroom.sealed.seal import SealedArtifact
from strongroom.sealed.signing import SignedFiles, sign_files, statement, verify_files
from strongroom.sealed.signing.bundle import PAYLOAD_TYPE

KEY = signatures.generate_p256()
FILES = SignedFiles("little", "sha256", {"a/b": "11" * 32, "a.b": "22" * 32, "c": "33" * 32})
BUNDLE = sign_files(FILES, KEY)


def peer_verify(folder: Path, bundle: bytes, tmp_path: Path, key: Any = KEY, *, only_signed: bool = False) -> None:
    (tmp_path / "public.pem").write_bytes(signatures.public_to_pem(key.public_key()))
    (tmp_path / "bundle.sig").write_bytes(bundle)
    config = peer_verifying.Config().use_elliptic_key_verifier(public_key=tmp_path / "public.pem")
    config.set_ignore_unsigned_files(only_signed).verify(folder, tmp_path / "bundle.sig")


@pytest.mark.interop("signature inside an artifact, on the plain folder", "strongroom", "model-signing (PyPI)")
def test_the_inner_signature_holds_on_the_plain_folder_for_model_signing(
    owner: Any, source: Path, registry: DirectoryRegistry, tmp_path: Path
):
    (source / "nested.json").write_bytes(b"sorts otherwise as text than as a path")
    (source / ".gitattributes").write_bytes(b"which model-signing leaves out of account")
    artifact = owner.seal(source, registry)
    bundle = artifact.index.signature.encode()
    with owner.open(registry) as opened:
        opened.into_directory(tmp_path / "opened")
    peer_verify(source, bundle, tmp_path, owner.signer)
    peer_verify(tmp_path / "opened", bundle, tmp_path, owner.signer)
    (source / "twin").write_bytes(b"changed")
    # Its command line knows no hash but SHA-256.
    command = ["verify", "key", str(tmp_path / "opened"), "--signature", str(tmp_path / "bundle.sig")]
    result = CliRunner().invoke(peer_command, [*command, "--public_key", str(tmp_path / "public.pem")])
    assert (result.exit_code, result.stdout) == (0, "Verification succeeded\n")
    with pytest.raises(ValueError, match="Hash mismatch for 'twin'"):
        peer_verify(source, bundle, tmp_path, owner.signer)


@pytest.mark.interop("signature beside an artifact, on its layout", "strongroom", "model-signing (PyPI)")
def test_the_outer_signature_holds_on_the_layouts_folder_for_model_signing(
    owner: Any, artifact: SealedArtifact, registry: DirectoryRegistry, tmp_path: Path
):
    (referrer,) = registry.referrers(artifact.digest, signing.BUNDLE_TYPE)
    layer = json.loads(registry.get_manifest(referrer))["layers"][0]["digest"]
    bundle = (registry.root / "blobs" / "sha256" / layer.removeprefix("sha256:")).read_bytes()
    peer_verify(registry.root, bundle, tmp_path, owner.signer, only_signed=True)
    place = registry.root / "blobs" / "sha256" / artifact.manifest.layers[1].digest.removeprefix("sha256:")
    place.write_bytes(place.read_bytes()[:-1] + b"\0")
    with pytest.raises(ValueError, match="Hash mismatch"):
        peer_verify(registry.root, bundle, tmp_path, owner.signer, only_signed=True)


@pytest.mark.parametrize("algorithm", ["sha256", "blake3"])
def test_we_verify_what_model_signing_signs(algorithm: Any, source: Path, tmp_path: Path):
    (tmp_path / "private.pem").write_bytes(signatures.private_to_pem(KEY))
    config = peer_signing.Config().use_elliptic_key_signer(private_key=tmp_path / "private.pem")
    config.set_hashing_config(peer_hashing.Config().use_file_serialization(hashing_algorithm=algorithm))
    config.sign(source, tmp_path / "peer.sig")
    bundle = (tmp_path / "peer.sig").read_bytes()
    signed = verify_files(bundle, KEY.public_key())
    assert (signed.name, signed.algorithm) == ("little-model", algorithm)
    assert set(signed.digests) == {"model.gguf", "nested/deep/tokenizer.json", "nested/empty", "twin"}
    if algorithm == "blake3":
        assert signed.digests["twin"] == blake3((source / "twin").read_bytes()).hexdigest()
    with pytest.raises(SignatureInvalid):
        verify_files(bundle, signatures.generate_p256().public_key())


def test_our_statement_is_the_one_model_signing_writes(source: Path, tmp_path: Path):
    (source / "nested.json").write_bytes(b"sorts otherwise as text than as a path")
    (tmp_path / "private.pem").write_bytes(signatures.private_to_pem(KEY))
    config = peer_signing.Config().use_elliptic_key_signer(private_key=tmp_path / "private.pem")
    config.sign(source, tmp_path / "peer.sig")
    peer = json.loads(base64.b64decode(json.loads((tmp_path / "peer.sig").read_bytes())["dsseEnvelope"]["payload"]))
    peer["predicate"]["serialization"]["ignore_paths"].sort()  # it writes them in any order
    assert peer == statement._to_json(verify_files((tmp_path / "peer.sig").read_bytes(), KEY.public_key()))


def test_what_was_signed_comes_back():
    assert verify_files(sign_files(FILES, KEY), KEY.public_key()) == FILES


@settings(max_examples=50, deadline=None)
@given(data=st.data())
def test_a_flipped_bit_of_payload_or_signature_is_refused(data: st.DataObject):
    bundle = json.loads(BUNDLE)
    envelope = bundle["dsseEnvelope"]
    holder, member = data.draw(st.sampled_from([(envelope, "payload"), (envelope["signatures"][0], "sig")]))
    raw = bytearray(base64.b64decode(holder[member]))
    raw[data.draw(st.integers(0, len(raw) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    holder[member] = base64.b64encode(raw).decode()
    with pytest.raises(SignatureInvalid):
        verify_files(json.dumps(bundle), KEY.public_key())


def signed_statement(change: Any) -> bytes:
    """A bundle whose signature holds over a statement that was changed before."""
    made = statement._to_json(FILES)
    change(made)
    bundle = json.loads(sign_files(FILES, KEY))
    envelope = signatures.sign_envelope(PAYLOAD_TYPE, json.dumps(made).encode(), KEY)
    return json.dumps({**bundle, "dsseEnvelope": envelope.__to_json__()}).encode()


CHANGES = {
    "another statement type": lambda s: s.update(_type="https://in-toto.io/Statement/v0.1"),
    "another predicate": lambda s: s.update(predicateType="https://model_signing/Digests/v0.1"),
    "two subjects": lambda s: s["subject"].append(s["subject"][0]),
    "no subject": lambda s: s.update(subject=[]),
    "another root": lambda s: s["subject"][0]["digest"].update(sha256="00" * 32),
    "no resources": lambda s: s["predicate"].update(resources=[]),
    "a resource twice": lambda s: s["predicate"]["resources"].append(s["predicate"]["resources"][0]),
    "another order": lambda s: s["predicate"]["resources"].reverse(),
    "a path that climbs": lambda s: s["predicate"]["resources"][0].update(name="../a"),
    "mixed hashes": lambda s: s["predicate"]["resources"][0].update(algorithm="blake3"),
    "an unknown hash": lambda s: s["predicate"]["serialization"].update(hash_type="md5"),
    "shards": lambda s: s["predicate"]["serialization"].update(method="shards"),
    "a digest that is none": lambda s: s["predicate"]["resources"][0].update(digest="zz"),
    "no predicate": lambda s: s.pop("predicate"),
    "a list for an object": lambda s: s.update(predicate=[]),
    "a number for a name": lambda s: s["predicate"]["resources"][0].update(name=1),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_a_signed_statement_of_another_shape_is_malformed(change: Any):
    assert verify_files(signed_statement(lambda _: None), KEY.public_key()) == FILES
    with pytest.raises(MalformedArtifact):
        verify_files(signed_statement(change), KEY.public_key())


@pytest.mark.parametrize("bundle", [b"", b"{}", b"[]", b"null", b'{"mediaType":1}', b'{"dsseEnvelope":{}}', b"\xff"])
def test_bytes_that_are_no_bundle_are_malformed(bundle: bytes):
    with pytest.raises(MalformedArtifact):
        verify_files(bundle, KEY.public_key())


def test_a_payload_of_another_type_is_refused():
    bundle = json.loads(sign_files(FILES, KEY))
    payload = base64.b64decode(bundle["dsseEnvelope"]["payload"])
    other = signatures.sign_envelope("application/vnd.strongroom.job.v1+json", payload, KEY)
    with pytest.raises(SignatureInvalid):
        verify_files(json.dumps({**bundle, "dsseEnvelope": other.__to_json__()}), KEY.public_key())


@pytest.mark.parametrize("key", [signatures.generate_ed25519(), ec.generate_private_key(ec.SECP256K1())])
def test_only_keys_on_curves_of_model_signing_sign_artifacts(key: Any):
    with pytest.raises(UsageError):
        sign_files(FILES, key)
    with pytest.raises(SignatureInvalid):
        verify_files(sign_files(FILES, KEY), key.public_key())


def test_a_signature_of_another_artifact_is_refused(owner: Any, source: Path, registry: DirectoryRegistry):
    one, two = owner.seal(source, registry, tag="one"), owner.seal(source, registry, tag="two")
    (referrer,) = registry.referrers(one.digest, signing.BUNDLE_TYPE)
    (own,) = registry.referrers(two.digest, signing.BUNDLE_TYPE)
    data = registry.get_manifest(referrer)
    registry.discard((own,))
    place_other(registry, two.digest, data)
    with pytest.raises(SignatureInvalid, match="another artifact"):
        owner.opener(registry, "two")
    place_other(registry, two.digest, data.replace(one.digest.encode(), two.digest.encode()))
    with pytest.raises(SignatureInvalid, match="other blobs"):
        owner.opener(registry, "two")


def place_other(registry: DirectoryRegistry, subject: Digest, data: bytes) -> None:
    """List a referrer as the only one of `subject`, as a store that lies would."""
    index = registry.root / "index.json"
    value = json.loads(index.read_bytes())
    tag = subject.replace(":", "-")
    value["manifests"] = [
        entry for entry in value["manifests"] if entry["annotations"]["org.opencontainers.image.ref.name"] != tag
    ]
    index.write_text(json.dumps(value))
    registry.attach(subject, data, artifact_type=signing.BUNDLE_TYPE)
