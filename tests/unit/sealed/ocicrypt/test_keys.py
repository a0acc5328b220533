"""Recipients' keys as PEM: which are admitted, and nothing of a key in an error."""

import pytest
from cryptography.hazmat.primitives import serialization as ser
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from hypothesis import given
from hypothesis import strategies as st

from strongroom.errors import MalformedRecord
from strongroom.sealed.ocicrypt.keys import PrivateKey, private_from_pem, recipient_from_pem


def private_pem(
    key: PrivateKey, form: ser.PrivateFormat = ser.PrivateFormat.PKCS8, password: bytes | None = None
) -> bytes:
    hiding = ser.NoEncryption() if password is None else ser.BestAvailableEncryption(password)
    return key.private_bytes(ser.Encoding.PEM, form, hiding)


def public_pem(key: PrivateKey) -> bytes:
    return key.public_key().public_bytes(ser.Encoding.PEM, ser.PublicFormat.SubjectPublicKeyInfo)


@pytest.mark.parametrize("name", ["rsa", "p256", "p384", "p521"])
@pytest.mark.parametrize("form", [ser.PrivateFormat.PKCS8, ser.PrivateFormat.TraditionalOpenSSL])
def test_keys_of_every_kind_and_form_are_read(keys, name, form):
    key = keys[name]
    assert private_from_pem(private_pem(key, form)).private_numbers() == key.private_numbers()
    assert recipient_from_pem(public_pem(key)).public_numbers() == key.public_key().public_numbers()


@pytest.mark.parametrize(
    "key",
    [
        rsa.generate_private_key(65537, 1024),  # noqa: S505 (to be refused)
        ec.generate_private_key(ec.SECP256K1()),
        ed25519.Ed25519PrivateKey.generate(),
    ],
)
def test_weak_and_foreign_keys_are_refused(key):
    with pytest.raises(MalformedRecord, match="private key is neither"):
        private_from_pem(private_pem(key))
    with pytest.raises(MalformedRecord, match="public key is neither"):
        recipient_from_pem(public_pem(key))


def test_encrypted_files_halves_of_the_wrong_kind_and_several_keys_are_refused(keys):
    for data in (
        private_pem(keys["p256"], password=b"x"),
        public_pem(keys["p256"]),
        private_pem(keys["p256"]) * 2,
        b"\0" * 40_000,
    ):
        with pytest.raises(MalformedRecord):
            private_from_pem(data)
    for data in (private_pem(keys["p256"]), public_pem(keys["p256"]) * 2):
        with pytest.raises(MalformedRecord):
            recipient_from_pem(data)


@given(st.binary(max_size=300))
def test_the_readers_are_total(data):
    for read in (private_from_pem, recipient_from_pem):
        with pytest.raises(MalformedRecord):
            read(b"-----BEGIN PRIVATE KEY-----\n" + data)
