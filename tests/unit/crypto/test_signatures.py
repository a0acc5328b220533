"""Signatures, keys and envelopes. Peers: `cryptography` itself, securesystemslib (DSSE), a vector of RFC 8032."""

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st
from securesystemslib.dsse import Envelope as PeerEnvelope
from securesystemslib.signer import CryptoSigner, SSlibKey

from strongroom.crypto import signatures
from strongroom.errors import MalformedRecord, SignatureInvalid, UsageError
from strongroom.records.digest import is_digest
from strongroom.records.envelope import MAX_SIGNATURES, Envelope

KIND = "application/vnd.strongroom.test+json"
KEYS = {
    "ed25519": signatures.generate_ed25519(),
    "p256": signatures.generate_p256(),
    "p384": signatures.generate_p384(),
    "p521": ec.generate_private_key(ec.SECP521R1()),
}
OTHERS = {
    "ed25519": signatures.generate_ed25519(),
    "p256": signatures.generate_p256(),
    "p384": signatures.generate_p384(),
    "p521": ec.generate_private_key(ec.SECP521R1()),
}
each_key = pytest.mark.parametrize("name", KEYS)


@each_key
def test_a_signature_holds_for_its_key_and_data_only(name: str):
    key, other = KEYS[name], OTHERS[name]
    signature = signatures.sign(key, b"data")
    signatures.verify(key.public_key(), signature, b"data")
    for public, data in ((key.public_key(), b"date"), (other.public_key(), b"data")):
        with pytest.raises(SignatureInvalid):
            signatures.verify(public, signature, data)


@each_key
@given(position=st.integers(0, 10_000), bit=st.integers(0, 7))
@settings(max_examples=30, deadline=None)
def test_a_flipped_bit_in_a_signature_is_refused(name: str, position: int, bit: int):
    signature = bytearray(signatures.sign(KEYS[name], b"data"))
    signature[position % len(signature)] ^= 1 << bit
    with pytest.raises(SignatureInvalid):
        signatures.verify(KEYS[name].public_key(), bytes(signature), b"data")


@each_key
@given(signature=st.binary(max_size=150))
@settings(max_examples=30, deadline=None)
def test_bytes_that_are_no_signature_are_refused_and_nothing_else_happens(name: str, signature: bytes):
    with pytest.raises(SignatureInvalid):
        signatures.verify(KEYS[name].public_key(), signature, b"data")


@each_key
def test_a_signature_with_trailing_bytes_is_refused(name: str):
    signature = signatures.sign(KEYS[name], b"data")
    with pytest.raises(SignatureInvalid):
        signatures.verify(KEYS[name].public_key(), signature + b"\0", b"data")


def test_ecdsa_hashes_as_strong_as_the_curve():
    for name, algorithm in (("p256", hashes.SHA256()), ("p384", hashes.SHA384())):
        public = KEYS[name].public_key()
        public.verify(signatures.sign(KEYS[name], b"data"), b"data", ec.ECDSA(algorithm))
        with pytest.raises(SignatureInvalid):
            signatures.verify(public, KEYS[name].sign(b"data", ec.ECDSA(hashes.SHA512())), b"data")


def test_ed25519_is_that_of_rfc_8032():
    key = Ed25519PrivateKey.from_private_bytes(
        bytes.fromhex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb")
    )
    assert (
        signatures.raw_public(key).hex()
        == signatures.raw_public(key.public_key()).hex()
        == "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c"
    )
    assert signatures.sign(key, b"\x72").hex() == (
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
        "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
    )


@each_key
def test_keys_survive_their_files(name: str):
    key = KEYS[name]
    again = signatures.private_from_pem(signatures.private_to_pem(key))
    assert signatures.private_to_pem(again) == signatures.private_to_pem(key)
    public = key.public_key()
    assert signatures.public_from_pem(signatures.public_to_pem(public)) == public
    assert signatures.public_from_der(signatures.public_to_der(public)) == public


@each_key
def test_a_fingerprint_names_one_key(name: str):
    found = signatures.fingerprint(KEYS[name].public_key())
    assert is_digest(found)
    assert found != signatures.fingerprint(OTHERS[name].public_key())
    again = signatures.public_from_pem(signatures.public_to_pem(KEYS[name].public_key()))
    assert found == signatures.fingerprint(again)


def foreign_private_keys():
    pkcs8, plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    pem = serialization.Encoding.PEM
    brainpool = ec.generate_private_key(ec.BrainpoolP256R1())
    k256 = ec.generate_private_key(ec.SECP256K1())
    rsa_key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    locked = KEYS["p256"].private_bytes(pem, pkcs8, serialization.BestAvailableEncryption(b"canary-passphrase"))
    return {
        "brainpool": brainpool.private_bytes(pem, pkcs8, plain),
        "secp256k1": k256.private_bytes(pem, pkcs8, plain),
        "RSA": rsa_key.private_bytes(pem, pkcs8, plain),
        "encrypted": locked,
        "public": signatures.public_to_pem(KEYS["p256"].public_key()),
        "cut": signatures.private_to_pem(KEYS["p256"])[:100],
        "empty": b"",
        "two": signatures.private_to_pem(KEYS["p256"]) + signatures.private_to_pem(OTHERS["p256"]),
        "too large": signatures.private_to_pem(KEYS["p256"]) + b"\n" * 20_000,
    }


@pytest.mark.parametrize(("name", "pem"), foreign_private_keys().items())
def test_other_private_keys_are_refused_without_a_word_of_their_content(name: str, pem: bytes):
    with pytest.raises(MalformedRecord) as refused:
        signatures.private_from_pem(pem)
    said = str(refused.value.as_dict())
    assert not any(line.decode() in said for line in pem.splitlines()[1:-1] if line), name


def test_other_public_keys_are_refused():
    spki = serialization.PublicFormat.SubjectPublicKeyInfo
    k256 = ec.generate_private_key(ec.SECP256K1()).public_key()
    for reader, encoding in (
        (signatures.public_from_pem, serialization.Encoding.PEM),
        (signatures.public_from_der, serialization.Encoding.DER),
    ):
        data = k256.public_bytes(encoding, spki)
        for foreign in (data, b"", data[:40], b"\0" * 20_000):
            with pytest.raises(MalformedRecord):
                reader(foreign)


def test_a_public_key_in_der_has_one_form():
    public = KEYS["p384"].public_key()
    canonical = signatures.public_to_der(public)
    point = public.public_bytes(serialization.Encoding.X962, serialization.PublicFormat.CompressedPoint)
    inner = canonical[2:-100] + b"\x03" + bytes([len(point) + 1]) + b"\0" + point
    compressed = b"\x30" + bytes([len(inner)]) + inner
    assert serialization.load_der_public_key(compressed) == public, "the peer reads the compressed form"
    for other in (compressed, canonical + b"\0"):
        with pytest.raises(MalformedRecord):
            signatures.public_from_der(other)


@pytest.mark.parametrize("length", [0, 31, 33, 64])
def test_a_raw_ed25519_key_has_32_bytes(length: int):
    with pytest.raises(MalformedRecord):
        signatures.ed25519_public(bytes(length))


def test_a_key_on_a_curve_of_another_kind_does_not_sign():
    with pytest.raises(UsageError):
        signatures.sign(ec.generate_private_key(ec.SECP256K1()), b"data")


@each_key
@given(payload=st.binary(max_size=200))
@settings(max_examples=10, deadline=None)
def test_an_envelope_travels_and_opens(name: str, payload: bytes):
    key = KEYS[name]
    envelope = signatures.sign_envelope(KIND, payload, key)
    assert envelope.signatures[0][0] == signatures.fingerprint(key.public_key())
    again = Envelope.from_bytes(envelope.to_bytes())
    assert signatures.open_envelope(again, KIND, [key.public_key()]) == payload


def test_an_envelope_without_trusted_keys_never_opens():
    with pytest.raises(SignatureInvalid, match="no key is trusted"):
        signatures.open_envelope(signatures.sign_envelope(KIND, b"payload", KEYS["p256"]), KIND, [])


def test_an_envelope_without_signatures_never_opens():
    with pytest.raises(SignatureInvalid):
        signatures.open_envelope(Envelope(KIND, b"payload", ()), KIND, [KEYS["p256"].public_key()])


def test_an_envelope_of_another_type_is_refused_although_the_signature_holds():
    envelope = signatures.sign_envelope(KIND, b"payload", KEYS["p256"])
    with pytest.raises(SignatureInvalid):
        signatures.open_envelope(envelope, KIND + "2", [KEYS["p256"].public_key()])


def test_a_signature_does_not_carry_over_to_another_type():
    envelope = signatures.sign_envelope(KIND, b"payload", KEYS["p256"])
    moved = Envelope(KIND + "2", envelope.payload, envelope.signatures)
    with pytest.raises(SignatureInvalid):
        signatures.open_envelope(moved, KIND + "2", [KEYS["p256"].public_key()])


def test_a_changed_payload_is_refused():
    envelope = signatures.sign_envelope(KIND, b"payload", KEYS["ed25519"])
    changed = Envelope(KIND, b"payl0ad", envelope.signatures)
    with pytest.raises(SignatureInvalid):
        signatures.open_envelope(changed, KIND, [KEYS["ed25519"].public_key()])


def test_a_keyid_proves_nothing():
    trusted = KEYS["ed25519"].public_key()
    forged = signatures.sign_envelope(KIND, b"payload", OTHERS["ed25519"])
    claimed = Envelope(KIND, b"payload", ((signatures.fingerprint(trusted), forged.signatures[0][1]),))
    with pytest.raises(SignatureInvalid):
        signatures.open_envelope(claimed, KIND, [trusted])
    own = signatures.sign_envelope(KIND, b"payload", KEYS["ed25519"])
    unnamed = Envelope(KIND, b"payload", (("", own.signatures[0][1]),))
    assert signatures.open_envelope(unnamed, KIND, [trusted]) == b"payload"


def test_one_trusted_signature_among_foreign_ones_is_enough():
    ours = signatures.sign_envelope(KIND, b"payload", KEYS["p384"])
    foreign = signatures.sign_envelope(KIND, b"payload", OTHERS["p256"]).signatures
    crowd = Envelope(KIND, b"payload", foreign * (MAX_SIGNATURES - 1) + ours.signatures)
    trusted = [OTHERS["ed25519"].public_key(), KEYS["p384"].public_key()]
    assert signatures.open_envelope(crowd, KIND, trusted) == b"payload"


def test_the_signed_bytes_are_those_of_the_dsse_specification():
    envelope = Envelope("http://example.com/HelloWorld", b"hello world", ())
    assert envelope.pre_authentication_encoding() == b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"


@pytest.mark.parametrize("name", ["ed25519", "p256"])
def test_securesystemslib_opens_our_envelopes(name: str):
    key = KEYS[name]
    ours = signatures.sign_envelope(KIND, b"payload", key)
    peer = PeerEnvelope.from_dict(ours.__to_json__())
    peer_key = SSlibKey.from_crypto(key.public_key(), keyid=ours.signatures[0][0])
    assert peer.pae() == ours.pre_authentication_encoding()
    assert peer.verify([peer_key], 1)


@pytest.mark.parametrize("name", ["ed25519", "p256"])
def test_we_open_the_envelopes_of_securesystemslib(name: str):
    key = KEYS[name]
    peer = PeerEnvelope(b"payload", KIND, {})
    peer.sign(CryptoSigner(key))
    ours = Envelope.__from_json__(peer.to_dict(), "envelope")
    assert signatures.open_envelope(ours, KIND, [key.public_key()]) == b"payload"


def test_verify_agrees_with_cryptography_on_who_is_refused():
    public = OTHERS["p256"].public_key()
    signature = signatures.sign(KEYS["p256"], b"data")
    with pytest.raises(InvalidSignature):
        public.verify(signature, b"data", ec.ECDSA(hashes.SHA256()))
    with pytest.raises(SignatureInvalid):
        signatures.verify(public, signature, b"data")
