"""HPKE contexts against an independent implementation (pyhpke), and the sealed box for released keys."""

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st
from pyhpke import AEADId, CipherSuite, KDFId, KEMId

from strongroom.crypto import hpke
from strongroom.errors import MalformedMessage, SealBroken

ORACLE = CipherSuite.new(KEMId.DHKEM_X25519_HKDF_SHA256, KDFId.HKDF_SHA256, AEADId.AES256_GCM)

# RFC 9180, appendix A.1.1: the recipient's key, the encapsulation, and the shared secret of the KEM alone.
RFC_PRIVATE = bytes.fromhex("4612c550263fc8ad58375df3f557aac531d26850903e55a9f23f21d8534e8ac8")
RFC_ENCAPSULATION = bytes.fromhex("37fda3567bdbd628e88668c3c8d7e97d1d1253b6d4ea6d44c150f741f1bf4431")
RFC_SHARED_SECRET = bytes.fromhex("fe0e18c9f024ce43799ae393c7e8fe8fce9d218875e8227b0187c04e7d2ea1fc")

Messages = list[tuple[bytes, bytes]]
Ends = tuple[hpke.Context, hpke.Context]

messages = st.lists(st.tuples(st.binary(max_size=200), st.binary(max_size=20)), min_size=1, max_size=5)
modest = settings(max_examples=25, deadline=None)


def public_of(private: X25519PrivateKey) -> bytes:
    return private.public_key().public_bytes_raw()


def test_the_shared_secret_is_that_of_the_rfc():
    private = X25519PrivateKey.from_private_bytes(RFC_PRIVATE)
    dh = hpke._exchange(private, RFC_ENCAPSULATION)
    assert hpke._shared_secret(dh, RFC_ENCAPSULATION, public_of(private)) == RFC_SHARED_SECRET


@modest
@given(info=st.binary(max_size=40), conversation=messages, label=st.binary(max_size=20), length=st.integers(1, 100))
def test_an_independent_receiver_opens_what_we_seal(info: bytes, conversation: Messages, label: bytes, length: int):
    private = hpke.generate_x25519()
    encapsulation, sender = hpke.setup_sender(public_of(private), info)
    oracle_key = ORACLE.kem.deserialize_private_key(private.private_bytes_raw())
    receiver = ORACLE.create_recipient_context(encapsulation, oracle_key, info)
    for plaintext, aad in conversation:
        assert receiver.open(sender.seal(plaintext, aad), aad) == plaintext
    assert receiver.export(label, length) == sender.export(label, length)


@modest
@given(info=st.binary(max_size=40), conversation=messages, label=st.binary(max_size=20), length=st.integers(1, 100))
def test_we_open_what_an_independent_sender_seals(info: bytes, conversation: Messages, label: bytes, length: int):
    private = hpke.generate_x25519()
    encapsulation, sender = ORACLE.create_sender_context(
        ORACLE.kem.deserialize_public_key(public_of(private)), info=info
    )
    receiver = hpke.setup_receiver(private, encapsulation, info)
    for plaintext, aad in conversation:
        assert receiver.open(sender.seal(plaintext, aad), aad) == plaintext
    assert receiver.export(label, length) == sender.export(label, length)


@pytest.fixture
def conversation():
    private = hpke.generate_x25519()
    encapsulation, sender = hpke.setup_sender(public_of(private), b"info")
    return sender, hpke.setup_receiver(private, encapsulation, b"info")


def test_messages_open_only_in_their_order(conversation: Ends):
    sender, receiver = conversation
    first, second = sender.seal(b"first"), sender.seal(b"second")
    with pytest.raises(SealBroken):
        receiver.open(second)
    assert receiver.open(first) == b"first"
    with pytest.raises(SealBroken):
        receiver.open(first)
    assert receiver.open(second) == b"second"


def test_a_flipped_bit_anywhere_in_a_message_is_refused(conversation: Ends):
    sender, receiver = conversation
    sealed = sender.seal(b"prompt")
    for position in range(len(sealed)):
        changed = bytearray(sealed)
        changed[position] ^= 0x80
        with pytest.raises(SealBroken):
            receiver.open(bytes(changed))
    assert receiver.open(sealed) == b"prompt"


def test_a_message_shorter_than_its_tag_is_malformed(conversation: Ends):
    with pytest.raises(MalformedMessage):
        conversation[1].open(bytes(hpke.TAG_BYTES - 1))


def test_other_associated_data_are_refused(conversation: Ends):
    sender, receiver = conversation
    with pytest.raises(SealBroken):
        receiver.open(sender.seal(b"prompt", b"one"), b"other")


def test_another_info_gives_another_conversation():
    private = hpke.generate_x25519()
    encapsulation, sender = hpke.setup_sender(public_of(private), b"info")
    with pytest.raises(SealBroken):
        hpke.setup_receiver(private, encapsulation, b"other").open(sender.seal(b"prompt"))


def test_an_encapsulation_with_the_ignored_bit_flipped_does_not_open():
    """X25519 ignores the top bit, so both give one Diffie-Hellman value; the schedule binds the bytes all the same."""
    private = hpke.generate_x25519()
    encapsulation, sender = hpke.setup_sender(public_of(private), b"info")
    twin = encapsulation[:31] + bytes([encapsulation[31] ^ 0x80])
    with pytest.raises(SealBroken):
        hpke.setup_receiver(private, twin, b"info").open(sender.seal(b"prompt"))


@pytest.mark.parametrize("key", [b"", bytes(31), bytes(33), bytes(32), (1).to_bytes(32, "little")])
def test_keys_of_wrong_length_or_small_order_are_malformed(key: bytes):
    with pytest.raises(MalformedMessage):
        hpke.setup_sender(key, b"")
    with pytest.raises(MalformedMessage):
        hpke.setup_receiver(hpke.generate_x25519(), key, b"")


def test_nonces_never_come_round_again(conversation: Ends):
    sender, _ = conversation
    sender._sequence = (1 << 96) - 1
    with pytest.raises(SealBroken):
        sender.seal(b"one too many")


def test_secrets_do_not_show_in_a_representation(conversation: Ends):
    release_key = hpke.ReleaseKey.generate()
    shown = repr(conversation[0]) + repr(release_key)
    assert repr(conversation[0]._exporter_secret) not in shown
    assert release_key.to_bytes().hex() not in shown
    assert "bytes" not in shown
    assert "object at" not in repr(release_key)


@settings(max_examples=10, deadline=None)
@given(plaintext=st.binary(max_size=200), info=st.binary(max_size=50))
def test_a_sealed_box_opens_for_its_key_and_info(plaintext: bytes, info: bytes):
    key = hpke.ReleaseKey.generate()
    encapsulation, ciphertext = hpke.seal_to(key.public, plaintext, info)
    assert (len(key.public), len(encapsulation), len(ciphertext)) == (1216, 1120, len(plaintext) + 16)
    assert hpke.ReleaseKey.from_bytes(key.to_bytes()).open(encapsulation, ciphertext, info) == plaintext


def test_two_boxes_for_one_plaintext_differ():
    key = hpke.ReleaseKey.generate()
    assert hpke.seal_to(key.public, b"key", b"") != hpke.seal_to(key.public, b"key", b"")


def test_a_sealed_box_opens_for_nobody_else_and_in_no_other_context():
    key, other = hpke.ReleaseKey.generate(), hpke.ReleaseKey.generate()
    encapsulation, ciphertext = hpke.seal_to(key.public, b"data key", b"grant")
    with pytest.raises(SealBroken):
        other.open(encapsulation, ciphertext, b"grant")
    with pytest.raises(SealBroken):
        key.open(encapsulation, ciphertext, b"another grant")


@pytest.mark.parametrize("position", [0, 1087, 1088, 1119])
def test_a_flipped_bit_in_either_half_of_the_encapsulation_is_refused(position: int):
    key = hpke.ReleaseKey.generate()
    encapsulation, ciphertext = hpke.seal_to(key.public, b"data key", b"grant")
    changed = bytearray(encapsulation)
    changed[position] ^= 1
    with pytest.raises(SealBroken):
        key.open(bytes(changed), ciphertext, b"grant")


def test_a_box_with_half_of_another_key_does_not_open():
    """Both halves are needed: neither ML-KEM nor X25519 alone opens a box."""
    key, other = hpke.ReleaseKey.generate(), hpke.ReleaseKey.generate()
    encapsulation, ciphertext = hpke.seal_to(key.public, b"data key", b"")
    seed, scalar = key.to_bytes()[:64], key.to_bytes()[64:]
    for mixed in (seed + other.to_bytes()[64:], other.to_bytes()[:64] + scalar):
        with pytest.raises(SealBroken):
            hpke.ReleaseKey.from_bytes(mixed).open(encapsulation, ciphertext, b"")


def test_wrong_lengths_of_a_box_are_malformed():
    key = hpke.ReleaseKey.generate()
    encapsulation, ciphertext = hpke.seal_to(key.public, b"data key", b"")
    for cut in (encapsulation[:-1], encapsulation + b"\0", b""):
        with pytest.raises(MalformedMessage):
            key.open(cut, ciphertext, b"")
    with pytest.raises(MalformedMessage):
        key.open(encapsulation, ciphertext[:15], b"")
    with pytest.raises(MalformedMessage):
        hpke.ReleaseKey.from_bytes(key.to_bytes()[:-1])


@pytest.mark.parametrize("public", [b"", bytes(1215), bytes(1217), b"\xff" * 1216, bytes(1216)])
def test_public_keys_that_are_none_are_malformed(public: bytes):
    with pytest.raises(MalformedMessage):
        hpke.seal_to(public, b"data key", b"")
