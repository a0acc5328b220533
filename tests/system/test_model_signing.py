"""OpenSSF Model Signing between us and the stock `model-signing`: keys, certificates, and keys in a PKCS #11 token (SoftHSM).

What is proved here: what one signs, the other verifies, and both refuse the same changes; a token's key never leaves it, and
its PIN is nowhere but where its owner put it.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from certified import START, Holder, authority, certify, person, usage
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, load_der_public_key
from model_signing import hashing as peer_hashing
from model_signing import signing as peer_signing
from model_signing import verifying as peer_verifying
from softhsm import PIN, Token

from strongroom.crypto.signatures import private_to_pem, public_to_pem

CURVES = {"P-256": ec.SECP256R1(), "P-384": ec.SECP384R1(), "P-521": ec.SECP521R1()}
NOW = "2026-06-01T00:00:00Z"
AFTER = "2028-01-01T00:00:00Z"


@dataclass
class Place:
    """A model in a folder, and a CA that certifies Anna, who signs it."""

    root: Path
    ca: Holder
    middle: Holder
    anna: Holder

    def __post_init__(self) -> None:
        self.model = self.root / "model"
        for path, data in {"weights.gguf": bytes(range(256)) * 40, "sub/tokenizer.json": b"{}", "empty": b""}.items():
            (self.model / path).parent.mkdir(parents=True, exist_ok=True)
            (self.model / path).write_bytes(data)
        for name, holder in {"ca": self.ca, "middle": self.middle, "anna": self.anna}.items():
            (self.root / f"{name}.pem").write_bytes(holder.pem)
        (self.root / "key.pem").write_bytes(private_to_pem(self.anna.key))
        (self.root / "key.pub").write_bytes(public_to_pem(self.anna.key.public_key()))

    def run(self, *words: str | Path, code: int = 0, env: dict[str, str] | None = None) -> dict[str, Any]:
        """Run strongroom; what it says is searched for the PIN, and so are its own arguments."""
        command = [sys.executable, "-m", "strongroom", *map(str, words), "--json"]
        done = subprocess.run(
            command, cwd=self.root, env={**os.environ, **(env or {})}, stdin=subprocess.DEVNULL, capture_output=True,
            text=True, check=False, timeout=120,
        )  # fmt: skip
        assert PIN not in " ".join(command) + done.stdout + done.stderr
        assert done.returncode == code, done.stdout + done.stderr
        return json.loads(done.stdout)

    def sign(self, *words: str | Path, **options: Any) -> Path:
        (self.root / "model.sig").unlink(missing_ok=True)
        self.run("sign", self.model, "-o", "model.sig", *words, **options)
        return self.root / "model.sig"

    def verify(self, *words: str | Path, code: int = 0) -> dict[str, Any]:
        return self.run("verify-signature", self.model, "--signature", "model.sig", *words, code=code)

    @property
    def by_key(self) -> tuple[str, ...]:
        return "--signer", "key.pub"

    @property
    def by_name(self) -> tuple[str, ...]:
        return "--root", "ca.pem", "--subject", "Anna", "--at", NOW

    def peer_by_key(self) -> None:
        config = peer_verifying.Config().use_elliptic_key_verifier(public_key=self.root / "key.pub")
        config.verify(self.model, self.root / "model.sig")

    def peer_by_certificate(self, root: str = "ca.pem") -> None:
        config = peer_verifying.Config().use_certificate_verifier(certificate_chain=[self.root / root])
        config.verify(self.model, self.root / "model.sig")

    def peer_command(self, *words: str | Path, code: int = 0) -> str:
        """The stock command line, in a process of its own."""
        command = [sys.executable, "-m", "model_signing", "verify", *map(str, words), "--signature", "model.sig"]
        done = subprocess.run(command, cwd=self.root, capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout


def place_on(curve: Any, root: Path) -> Place:
    ca = authority("Root", key=ec.generate_private_key(curve))
    middle = authority("Middle", ca, key=ec.generate_private_key(curve))
    return Place(root, ca, middle, person("Anna", middle, key=ec.generate_private_key(curve)))


@pytest.fixture(params=CURVES.values(), ids=CURVES.keys())
def any_place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    return place_on(request.param, tmp_path)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return place_on(ec.SECP256R1(), tmp_path)


WITH_KEY = ("--identity", "key.pem")
CERTIFIED = (*WITH_KEY, "--certificate", "anna.pem", "--certificate", "middle.pem")


# Keys


@pytest.mark.interop("model signature, by key", "strongroom", "model-signing (PyPI)")
def test_what_we_sign_with_a_key_the_peer_verifies(any_place: Place):
    any_place.sign(*WITH_KEY)
    any_place.peer_by_key()
    any_place.verify(*any_place.by_key)


@pytest.mark.interop("model signature, by key", "model-signing (PyPI)", "strongroom")
def test_what_the_peer_signs_with_a_key_we_verify(any_place: Place):
    config = peer_signing.Config().use_elliptic_key_signer(private_key=any_place.root / "key.pem")
    config.sign(any_place.model, any_place.root / "model.sig")
    assert any_place.verify(*any_place.by_key)["signed"] == 3


# Certificates


@pytest.mark.interop("model signature, by certificate", "strongroom", "model-signing (PyPI)")
def test_what_we_sign_under_a_certificate_the_peer_verifies(any_place: Place):
    any_place.sign(*CERTIFIED)
    any_place.peer_by_certificate()
    any_place.verify(*any_place.by_name)
    any_place.verify(*any_place.by_key)


@pytest.mark.interop("model signature, by certificate", "model-signing (PyPI)", "strongroom")
def test_what_the_peer_signs_under_a_certificate_we_verify(any_place: Place):
    root = any_place.root
    config = peer_signing.Config().use_certificate_signer(
        private_key=root / "key.pem",
        signing_certificate=root / "anna.pem",
        certificate_chain=[root / "middle.pem", root / "ca.pem"],
    )
    config.sign(any_place.model, root / "model.sig")
    assert any_place.verify(*any_place.by_name)["name"] == "model"


def test_the_stock_command_line_verifies_what_ours_signs(place: Place):
    place.sign(*WITH_KEY)
    assert "succeeded" in place.peer_command("key", "model", "--public_key", "key.pub")
    place.sign(*CERTIFIED)
    assert "succeeded" in place.peer_command("certificate", "model", "--certificate_chain", "ca.pem")
    (place.model / "more").write_bytes(b"")
    assert "succeeded" not in place.peer_command("certificate", "model", "--certificate_chain", "ca.pem", code=1)


# What both refuse


CHANGES = {
    "a flipped byte": lambda model: (model / "weights.gguf").write_bytes(bytes(range(256)) * 39 + bytes(256)),
    "a missing file": lambda model: (model / "sub/tokenizer.json").unlink(),
    "another file": lambda model: (model / "sub/more").write_bytes(b"more"),
    "a link": lambda model: (model / "link").symlink_to("weights.gguf"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_both_refuse_a_changed_model(place: Place, change: Any):
    place.sign(*CERTIFIED)
    change(place.model)
    with pytest.raises(ValueError, match=r"mismatch|symlink"):
        place.peer_by_certificate()
    words = place.run(
        "verify-signature",
        place.model,
        "--signature",
        "model.sig",
        *place.by_name,
        code=2 if change is CHANGES["a link"] else 1,
    )
    assert words["error"]["code"] == ("usage" if change is CHANGES["a link"] else "signature.invalid")


def test_both_refuse_another_root_and_another_key(place: Place):
    place.sign(*CERTIFIED)
    other = authority("Root")
    (place.root / "other.pem").write_bytes(other.pem)
    with pytest.raises(Exception, match=r"certificate|issuer"):
        place.peer_by_certificate("other.pem")
    place.verify("--root", "other.pem", "--subject", "Anna", "--at", NOW, code=1)
    (place.root / "key.pub").write_bytes(public_to_pem(other.key.public_key()))
    place.sign(*WITH_KEY)
    with pytest.raises(ValueError, match="mismatch"):
        place.peer_by_key()
    place.verify(*place.by_key, code=1)


def test_we_refuse_another_name_and_a_certificate_that_expired(place: Place):
    """The stock verifier asks for no name, and sets its clock back to where every certificate holds."""
    place.sign(*CERTIFIED)
    place.peer_by_certificate()
    place.verify("--root", "ca.pem", "--subject", "Berta", "--at", NOW, code=1)
    refused = place.verify("--root", "ca.pem", "--subject", "Anna", "--at", AFTER, code=1)
    assert "valid from" in refused["error"]["message"]


@pytest.mark.filterwarnings("ignore:The 'warn' method is deprecated")
def test_both_refuse_a_certificate_for_something_else(place: Place):
    for wrong in ({"key_usage": usage(signs=False), "purposes": ()}, {"key_usage": None, "purposes": ()}):
        other = person("Anna", place.middle, key=place.anna.key, **wrong)
        (place.root / "anna.pem").write_bytes(other.pem)
        config = peer_signing.Config().use_certificate_signer(
            private_key=place.root / "key.pem", signing_certificate=place.root / "anna.pem",
            certificate_chain=[place.root / "middle.pem"],
        )  # fmt: skip
        config.sign(place.model, place.root / "model.sig")
        with pytest.raises(ValueError, match="cannot be used for signing"):
            place.peer_by_certificate()
        place.verify(*place.by_name, code=1)
        place.run("sign", place.model, "-o", "new.sig", *CERTIFIED, code=2)


# What is left out, links, shards


def test_paths_left_out_are_the_peers_too(place: Place):
    (place.model / ".git").mkdir()
    (place.model / ".git/HEAD").write_bytes(b"main")
    (place.model / "README.md").write_bytes(b"draft")
    place.run("sign", place.model, "-o", place.model / "model.sig", *WITH_KEY, "--ignore", "README.md")
    shutil.copy(place.model / "model.sig", place.root)
    for text in (b"draft", b"final"):
        (place.model / "README.md").write_bytes(text)
        place.peer_by_key()
        found = place.verify(*place.by_key)
    assert {"README.md", ".git", "model.sig"} <= set(found["ignored"])
    (place.model / "README.txt").write_bytes(b"")
    place.verify(*place.by_key, code=1)
    place.verify(*place.by_key, "--ignore", "README.txt")
    place.verify(*place.by_key, "--ignore-unsigned")
    with pytest.raises(ValueError, match="Extra files"):
        place.peer_by_key()


def test_links_to_files_count_for_both_where_that_is_said(place: Place):
    (place.root / "blob").write_bytes(b"far away")
    (place.model / "linked").symlink_to(place.root / "blob")
    place.run("sign", place.model, "-o", "no.sig", *WITH_KEY, code=2)
    place.sign(*WITH_KEY, "--allow-symlinks")
    place.verify(*place.by_key, "--allow-symlinks")
    place.peer_command("key", "model", "--public_key", "key.pub", "--allow_symlinks")
    (place.root / "blob").write_bytes(b"far awaz")
    place.verify(*place.by_key, "--allow-symlinks", code=1)
    place.peer_command("key", "model", "--public_key", "key.pub", "--allow_symlinks", code=1)


@pytest.mark.parametrize("algorithm", ["sha256", "blake2"])
@pytest.mark.interop("model signature, by shards", "model-signing (PyPI)", "strongroom")
def test_what_the_peer_signs_by_shards_we_verify(place: Place, algorithm: Any):
    (place.model / "empty").unlink()
    config = peer_signing.Config().use_elliptic_key_signer(private_key=place.root / "key.pem")
    shards = peer_hashing.Config().use_shard_serialization(hashing_algorithm=algorithm, shard_size=4096)
    config.set_hashing_config(shards).sign(place.model, place.root / "model.sig")
    assert place.verify(*place.by_key)["signed"] == 4
    data = bytearray((place.model / "weights.gguf").read_bytes())
    data[5000] ^= 1
    (place.model / "weights.gguf").write_bytes(data)
    assert "weights.gguf:4096:8192" in place.verify(*place.by_key, code=1)["error"]["detail"]


# A token


@pytest.fixture
def token(tmp_path: Path) -> Token:
    return Token(tmp_path / "token")


NEW_KEY = """
from pkcs11.util.ec import encode_ec_public_key, encode_named_curve_parameters
parameters = {{pkcs11.Attribute.EC_PARAMS: encode_named_curve_parameters({curve!r})}}
curve = session.create_domain_parameters(pkcs11.KeyType.EC, parameters, local=True)
how = dict(mechanism=pkcs11.Mechanism.EC_KEY_PAIR_GEN, store=True, label={label!r}, id=b'\\1')
public, private = curve.generate_keypair(**how)
print(encode_ec_public_key(public).hex())
"""
STORE_CERTIFICATE = """
session.create_object({{
    pkcs11.Attribute.CLASS: pkcs11.ObjectClass.CERTIFICATE, pkcs11.Attribute.CERTIFICATE_TYPE: pkcs11.CertificateType.X_509,
    pkcs11.Attribute.TOKEN: True, pkcs11.Attribute.LABEL: 'signer', pkcs11.Attribute.ID: b'\\1',
    pkcs11.Attribute.SUBJECT: b'', pkcs11.Attribute.VALUE: bytes.fromhex({der!r})}})
"""


def made_inside(token: Token, curve: str = "secp256r1", label: str = "signer") -> Any:
    return load_der_public_key(bytes.fromhex(token.python(NEW_KEY.format(curve=curve, label=label))))


needs_softhsm = pytest.mark.needs("softhsm2-util")


@needs_softhsm
@pytest.mark.parametrize("curve", ["secp256r1", "secp384r1", "secp521r1"])
@pytest.mark.interop("model signature, by a key in SoftHSM", "strongroom", "model-signing (PyPI)")
def test_a_key_in_a_token_signs_for_both(place: Place, token: Token, curve: str):
    (place.root / "key.pub").write_bytes(public_to_pem(made_inside(token, curve)))
    place.sign("--identity", token.uri(), env=token.env)
    place.peer_by_key()
    place.verify(*place.by_key)


@needs_softhsm
def test_key_and_certificate_in_a_token_sign_for_both(place: Place, token: Token):
    public = made_inside(token)
    anna = person("Anna", place.middle, public=public)
    token.python(STORE_CERTIFICATE.format(der=anna.certificate.public_bytes(Encoding.DER).hex()))
    in_token = ("--identity", token.uri(), "--certificate", token.uri(source=None), "--certificate", "middle.pem")
    place.sign(*in_token, env=token.env)
    place.peer_by_certificate()
    place.verify(*place.by_name)
    place.run(
        "sign",
        place.model,
        "-o",
        "no.sig",
        "--identity",
        token.uri(),
        "--certificate",
        "anna.pem",
        code=2,
        env=token.env,
    )


@needs_softhsm
def test_an_artifact_is_sealed_with_a_key_in_a_token(place: Place, token: Token):
    anna = person("Anna", place.middle, public=made_inside(token))
    (place.root / "anna.pem").write_bytes(anna.pem)
    place.run("keys", "new", "reader.key", "--kind", "recipient")
    chain = ("--certificate", "anna.pem", "--certificate", "middle.pem")
    place.run(
        "seal", place.model, "dir:registry:v1", "--recipient", "reader.key.pub", "--identity", token.uri(source="env"), *chain,
        env={**token.env, "TOKEN_PIN": PIN},
    )  # fmt: skip
    assert place.run("inspect", "dir:registry:v1", *place.by_name)["signed"] is True
    assert place.run("inspect", "dir:registry:v1", "--root", "ca.pem", "--subject", "Berta", code=1)["signed"] is False
    place.run("open", "dir:registry:v1", "opened", "--key", "reader.key", *place.by_name)
    assert (place.root / "opened/weights.gguf").read_bytes() == (place.model / "weights.gguf").read_bytes()
    place.run(
        "open",
        "dir:registry:v1",
        "again",
        "--key",
        "reader.key",
        "--root",
        "anna.pem",
        "--subject",
        "Berta",
        "--at",
        NOW,
        code=1,
    )
    place.run("seal", place.model, "dir:registry:v2", "--key", "k", "--broker", "http://127.0.0.1:1", "--broker-fingerprint", "x",
              "--identity", token.uri(), code=2, env=token.env)  # fmt: skip


@needs_softhsm
def test_a_pin_is_nowhere_but_where_its_owner_put_it(place: Place, token: Token):
    made_inside(token)
    sign = ("sign", place.model, "-o", "model.sig", "--identity")
    (token.root / "pin").write_text("wrong-" + PIN)
    wrong = place.run(*sign, token.uri(), code=4, env=token.env)["error"]
    assert wrong["code"] == "token.unavailable"
    assert "PinIncorrect" in wrong["message"]
    place.run(
        *sign,
        token.uri(source="env"),
        code=4,
        env={**token.env, "TOKEN_PIN": "wrong-" + PIN, "STRONGROOM_TRACEBACK": "1"},
    )
    nobody = place.run(*sign, token.uri(source=None), code=2, env=token.env)["error"]
    assert "nobody is here to ask" in nobody["message"]
    argument = subprocess.run(
        [sys.executable, "-m", "strongroom", *map(str, sign), f"{token.uri(source=None)}&pin-value={PIN}"],
        cwd=place.root, env={**os.environ, **token.env}, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert argument.returncode == 2
    assert PIN not in argument.stdout + argument.stderr
    assert not (place.root / "model.sig").exists()
    place.sign("--identity", token.uri(source="env"), env={**token.env, "TOKEN_PIN": PIN})
    assert PIN.encode() not in (place.root / "model.sig").read_bytes()


@needs_softhsm
def test_a_token_or_a_key_that_is_not_there_is_unavailable(place: Place, token: Token):
    made_inside(token)
    made_inside(token, label="twin")
    made_inside(token, label="twin")
    sign = ("sign", place.model, "-o", "model.sig", "--identity")
    other = token.uri().replace("strong%20room", "other")
    for uri in (
        other,
        token.uri("nothing"),
        token.uri("twin"),
        token.uri().replace(".so", "-not.so"),
    ):
        assert place.run(*sign, uri, code=4, env=token.env)["error"]["code"] == "token.unavailable"
    (token.root / "rsa.pem").write_bytes(rsa_key())
    token.tool(
        "--import", token.root / "rsa.pem", "--token", "strong room", "--label", "rsa", "--id", "02", "--pin", PIN
    )
    assert "not on P-256" in place.run(*sign, token.uri("rsa"), code=2, env=token.env)["error"]["message"]


def rsa_key() -> bytes:
    return private_to_pem(rsa.generate_private_key(65537, 2048))


@needs_softhsm
def test_a_key_that_was_made_outside_and_imported_signs(place: Place, token: Token):
    token.tool(
        "--import", place.root / "key.pem", "--token", "strong room", "--label", "signer", "--id", "0a", "--pin", PIN
    )
    place.sign("--identity", token.uri().replace("object=signer", "id=%0a"), env=token.env)
    place.peer_by_key()
    place.verify(*place.by_key)


def test_a_self_signed_certificate_of_a_person_is_a_root_that_may_be_named(place: Place):
    alone = certify("Anna", key=place.anna.key, key_usage=usage(), start=START)
    (place.root / "anna.pem").write_bytes(alone.pem)
    place.sign(*WITH_KEY, "--certificate", "anna.pem")
    place.peer_by_certificate("anna.pem")
    place.verify("--root", "anna.pem", "--subject", "Anna", "--at", NOW)
