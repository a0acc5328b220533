"""The wire: against published vectors, against a second implementation, against itself in pieces, and attacked."""

import hashlib
import hmac
from itertools import pairwise

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from ehbp.derive import FrameDecryptor, derive_response_keys, encrypt_chunk, frame_chunk
from ehbp.identity import ServerIdentity
from ehbp.session import SessionRecoveryToken
from hypothesis import given, settings
from hypothesis import strategies as st
from pyhpke import AEADId, CipherSuite, KDFId, KEMId

from strongroom.channel import ehbp
from strongroom.errors import ChannelKeyMismatch, ChannelRefused, MalformedMessage, StreamTruncated

# The inputs and outputs of EHBP's own vectors derive.json and response-decryption.json
# (https://github.com/tinfoilsh/encrypted-http-body-protocol, test-vectors/).
SECRET, ENCAPSULATION, NONCE = bytes(range(32)), bytes(range(32, 64)), bytes(range(64, 96))
KEY = bytes.fromhex("40ec528847cd4e928449f2ed1a70a7d1e8ee317d5e900424fc1dd5b0475b97f7")
BASE_NONCE = bytes.fromhex("f8b0ce9466f27aa6243c65f9")
PLAINTEXT = b"hello from test vector"
RESPONSE = bytes.fromhex("0000002647e74d9a561b60ff42ac7ffbb4caf6b6d5ad0bb7621e41840d2ab7de7208ff7a59d0a2a482cc")

PRIVATE = X25519PrivateKey.generate()
PUBLIC = PRIVATE.public_key().public_bytes_raw()

modest = settings(max_examples=25, deadline=None)
pieces = st.lists(st.binary(min_size=1, max_size=300), min_size=1, max_size=6)


def request_of(*plaintexts: bytes) -> tuple[ehbp.RequestSealer, list[bytes]]:
    sealer = ehbp.RequestSealer(PUBLIC)
    return sealer, [sealer.seal(plaintext) for plaintext in plaintexts]


def opener_of(sealer: ehbp.RequestSealer) -> ehbp.RequestOpener:
    return ehbp.RequestOpener.from_header(PRIVATE, sealer.encapsulation.hex())


def exchange_of(*plaintexts: bytes) -> tuple[ehbp.ResponseOpener, list[bytes]]:
    """An answer's opener and frames."""
    sealer, frames = request_of(b"request")
    opener = opener_of(sealer)
    opener.open(b"".join(frames))
    response = opener.respond(NONCE)
    return sealer.opener(NONCE), [response.seal(plaintext) for plaintext in plaintexts]


def flipped(data: bytes, position: int) -> bytes:
    changed = bytearray(data)
    changed[position] ^= 1
    return bytes(changed)


def test_response_keys_are_those_of_the_published_vector():
    assert ehbp.response_key(SECRET, ENCAPSULATION, NONCE) == (KEY, BASE_NONCE)


def test_the_published_vector_is_derived_again_from_hmac_alone():
    prk = hmac.digest(ENCAPSULATION + NONCE, SECRET, hashlib.sha256)
    assert hmac.digest(prk, b"key\x01", hashlib.sha256) == KEY
    assert hmac.digest(prk, b"nonce\x01", hashlib.sha256)[:12] == BASE_NONCE


def test_the_published_answer_opens_and_is_sealed_alike():
    assert ehbp.ResponseOpener(SECRET, ENCAPSULATION, NONCE).feed(RESPONSE) == PLAINTEXT
    assert ehbp.ResponseSealer(SECRET, ENCAPSULATION, NONCE).seal(PLAINTEXT) == RESPONSE


def test_a_session_recovery_token_of_the_peer_opens_our_answer():
    sealer, frames = request_of(b"request")
    opener = opener_of(sealer)
    opener.open(b"".join(frames))
    response = opener.respond(NONCE)
    body = response.seal(b"first") + bytes(4) + response.seal(b"second")
    token = SessionRecoveryToken(sealer._context.export(b"ehbp response", 32), sealer.encapsulation)
    recovered = SessionRecoveryToken.from_json(token.to_json())
    assert recovered.decrypt_response_body(NONCE, body) == b"firstsecond"


def test_the_key_configuration_is_the_peers():
    encoded = ehbp.encode_key_config(PUBLIC)
    assert len(encoded) == 41
    assert encoded == ServerIdentity(PUBLIC).marshal_public_config()
    assert ehbp.parse_key_config(encoded) == PUBLIC


@pytest.mark.parametrize("position", [0, 1, 2, 35, 36, 37, 38, 39, 40])
def test_an_unknown_key_id_or_suite_in_a_key_configuration_is_malformed(position: int):
    with pytest.raises(MalformedMessage):
        ehbp.parse_key_config(flipped(ehbp.encode_key_config(PUBLIC), position))


@pytest.mark.parametrize("change", [lambda c: c[:-1], lambda c: c + b"\0", lambda c: b"\0\x29" + c, lambda _: b""])
def test_a_key_configuration_of_another_length_is_malformed(change: object):
    with pytest.raises(MalformedMessage):
        ehbp.parse_key_config(change(ehbp.encode_key_config(PUBLIC)))  # type: ignore[operator]


def test_a_key_of_another_length_has_no_key_configuration():
    with pytest.raises(MalformedMessage):
        ehbp.encode_key_config(PUBLIC[:-1])


@modest
@given(plaintexts=pieces)
def test_an_independent_receiver_opens_our_request(plaintexts: list[bytes]):
    sealer, frames = request_of(*plaintexts)
    suite = CipherSuite.new(KEMId.DHKEM_X25519_HKDF_SHA256, KDFId.HKDF_SHA256, AEADId.AES256_GCM)
    private = suite.kem.deserialize_private_key(PRIVATE.private_bytes_raw())
    receiver = suite.create_recipient_context(sealer.encapsulation, private, b"ehbp request")
    assert [receiver.open(frame[4:], b"") for frame in frames] == plaintexts
    keys = derive_response_keys(receiver.export(b"ehbp response", 32), sealer.encapsulation, NONCE)
    answer = b"".join(frame_chunk(encrypt_chunk(keys, i, plaintext)) for i, plaintext in enumerate(plaintexts))
    assert sealer.opener(NONCE).feed(answer) == b"".join(plaintexts)


@modest
@given(plaintexts=pieces)
def test_an_independent_client_is_understood(plaintexts: list[bytes]):
    sent = ServerIdentity(PUBLIC).encrypt_request_stream(iter(plaintexts))
    assert sent is not None
    opener = ehbp.RequestOpener(PRIVATE, sent.encapsulated_key)
    assert opener.open(b"".join(sent.frames)) == b"".join(plaintexts)
    response = opener.respond(NONCE)
    decryptor = sent.token.create_response_decryptor(NONCE)
    assert [decryptor.push(response.seal(plaintext))[0] for plaintext in plaintexts] == plaintexts
    decryptor.finish()


@modest
@given(plaintexts=pieces, cuts=st.lists(st.integers(0, 2000), max_size=8))
def test_frames_are_found_however_the_bytes_arrive(plaintexts: list[bytes], cuts: list[int]):
    body = b"".join(bytes(4) + ehbp.frame(plaintext) for plaintext in plaintexts)
    edges = [0, *sorted(min(cut, len(body)) for cut in cuts), len(body)]
    reader = ehbp.FrameReader()
    arrived = [frame for start, end in pairwise(edges) for frame in reader.feed(body[start:end])]
    reader.finish()
    assert arrived == plaintexts


def test_a_long_answer_is_cut_into_frames_that_can_be_used_at_once():
    opener, (body,) = exchange_of(b"x" * (2 * ehbp.SEAL_FRAME + 1))
    lengths = [len(opener.feed(bytes([byte]))) for byte in body]
    assert [length for length in lengths if length] == [ehbp.SEAL_FRAME, ehbp.SEAL_FRAME, 1]
    opener.finish()


def test_nothing_is_sealed_as_nothing():
    assert exchange_of(b"")[1] == [b""]


def test_a_frame_that_announces_too_much_is_refused_before_it_arrives():
    with pytest.raises(MalformedMessage):
        ehbp.FrameReader(max_frame=100).feed((101).to_bytes(4))
    with pytest.raises(MalformedMessage):
        ehbp.FrameReader().feed(b"\xff\xff\xff\xff")
    assert ehbp.FrameReader(max_frame=100).feed((100).to_bytes(4) + bytes(100)) == [bytes(100)]


def test_ten_thousand_empty_frames_are_nothing_and_too_many_are_refused():
    sealer, frames = request_of(b"after empty frames")
    assert opener_of(sealer).open(bytes(4 * 10_000) + frames[0]) == b"after empty frames"
    with pytest.raises(MalformedMessage):
        opener_of(sealer).open(bytes(4 * ehbp.MAX_FRAMES) + frames[0])


@pytest.mark.parametrize("kept", [1, 3, 4, 5, -1])
def test_half_a_frame_at_the_end_is_truncation(kept: int):
    sealer, frames = request_of(b"whole", b"cut")
    with pytest.raises(StreamTruncated):
        opener_of(sealer).open(frames[0] + frames[1][:kept])
    opener, answer = exchange_of(b"whole", b"cut")
    assert opener.feed(answer[0] + answer[1][:kept]) == b"whole"
    with pytest.raises(StreamTruncated):
        opener.finish()


@pytest.mark.parametrize("body", [b"", bytes(4), bytes(400)])
def test_a_sealed_request_without_a_frame_is_malformed(body: bytes):
    """Nothing in it would prove that the sender of the encapsulation is the one who will read the answer."""
    with pytest.raises(MalformedMessage):
        opener_of(request_of()[0]).open(body)


def test_a_request_for_another_key_is_told_apart():
    sealer = ehbp.RequestSealer(X25519PrivateKey.generate().public_key().public_bytes_raw())
    with pytest.raises(ChannelKeyMismatch):
        opener_of(sealer).open(sealer.seal(b"request"))


def test_a_flipped_bit_in_any_frame_of_a_request_is_refused():
    sealer, frames = request_of(b"one", b"two", b"three")
    for index in range(len(frames)):
        changed = [flipped(frame, -1) if i == index else frame for i, frame in enumerate(frames)]
        with pytest.raises(ChannelKeyMismatch if index == 0 else ChannelRefused):
            opener_of(sealer).open(b"".join(changed))


def test_a_flipped_bit_in_any_frame_of_an_answer_is_refused():
    for index in range(3):
        opener, frames = exchange_of(b"one", b"two", b"three")
        for frame in frames[:index]:
            opener.feed(frame)
        with pytest.raises(ChannelRefused):
            opener.feed(flipped(frames[index], -1))


@pytest.mark.parametrize("order", [(1, 0), (0, 0), (0, 2)])
def test_frames_that_are_moved_repeated_or_left_out_are_refused(order: tuple[int, int]):
    sealer, frames = request_of(b"one", b"two", b"three")
    with pytest.raises(ChannelRefused):
        opener_of(sealer).open(frames[order[0]] + frames[order[1]])
    opener, answer = exchange_of(b"one", b"two", b"three")
    with pytest.raises(ChannelRefused):
        opener.feed(answer[order[0]] + answer[order[1]])


def test_the_answer_to_another_request_does_not_open():
    opener, _ = exchange_of(b"mine")
    _, frames = exchange_of(b"yours")
    with pytest.raises(ChannelRefused):
        opener.feed(frames[0])


def test_a_request_is_no_answer():
    sealer, frames = request_of(b"request")
    with pytest.raises(ChannelRefused):
        sealer.opener(NONCE).feed(frames[0])


def test_another_nonce_gives_other_keys():
    sealer, frames = request_of(b"request")
    opener = opener_of(sealer)
    opener.open(frames[0])
    answer = opener.respond(NONCE).seal(b"answer")
    with pytest.raises(ChannelRefused):
        sealer.opener(flipped(NONCE, 0)).feed(answer)


def test_a_frame_shorter_than_its_tag_is_malformed():
    opener, _ = exchange_of()
    with pytest.raises(MalformedMessage):
        opener.feed(ehbp.frame(bytes(15)))
    with pytest.raises(MalformedMessage):
        opener_of(request_of()[0]).open(ehbp.frame(bytes(15)))


@pytest.mark.parametrize(
    "value", ["", "00", "0" * 63, "0" * 65, "A" * 64, "g" * 64, "0" * 64 + "\n", " " + "0" * 63, "0x" + "0" * 62]
)
def test_header_values_that_are_not_64_lower_case_digits_are_malformed(value: str):
    with pytest.raises(MalformedMessage):
        ehbp.RequestOpener.from_header(PRIVATE, value)


def test_an_encapsulation_of_small_order_is_malformed():
    with pytest.raises(MalformedMessage):
        ehbp.RequestOpener(PRIVATE, bytes(32))


def test_lengths_of_derivation_inputs_are_exact():
    for lengths in ((31, 32, 32), (32, 33, 32), (32, 32, 12)):
        with pytest.raises(MalformedMessage):
            ehbp.response_key(*map(bytes, lengths))


def test_the_peer_refuses_what_we_refuse():
    """A cross-check of the flip: the official decryptor sees the same frames as broken."""
    sealer, frames = request_of(b"request")
    opener = opener_of(sealer)
    opener.open(frames[0])
    sealed = opener.respond(NONCE).seal(b"answer")
    keys = derive_response_keys(sealer._context.export(b"ehbp response", 32), sealer.encapsulation, NONCE)
    assert FrameDecryptor(keys).push(sealed) == [b"answer"]
    with pytest.raises(Exception, match="decrypt"):
        FrameDecryptor(keys).push(flipped(sealed, -1))
