"""Oblivious HTTP: the vectors of RFC 9458 and of the chunked draft, pyhpke as oracle, every change and every cut refused."""

from dataclasses import dataclass

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.hkdf import HKDF, HKDFExpand
from hypothesis import given
from hypothesis import strategies as st
from pyhpke import AEADId, CipherSuite, KDFId, KEMId, KEMKey

from strongroom.channel import ehbp, ohttp
from strongroom.crypto import hpke
from strongroom.errors import (
    ChannelKeyMismatch,
    ChannelRefused,
    MalformedMessage,
    StreamTruncated,
    StrongroomError,
)

KEY = X25519PrivateKey.from_private_bytes(bytes(range(32)))
PUBLIC = KEY.public_key().public_bytes_raw()
GET = bytes.fromhex("00034745540568747470730b6578616d706c652e636f6d012f")


@dataclass
class Vector:
    private: str
    request: str
    response: str
    labels: ohttp.Labels
    pieces: tuple[bytes, ...]


WHOLE = Vector(  # RFC 9458, appendix A
    "3c168975674b2fa8e465970b79c8dcf09f1c741626480bd4c6162fc5b6a98e1a",
    "010020000100014b28f881333e7c164ffc499ad9796f877f4e1051ee6d31bad19dec96c208b4726374e469135906992e1268c594d2a10c695d"
    "858c40a026e7965e7d86b83dd440b2c0185204b4d63525",
    "c789e7151fcba46158ca84b04464910d86f9013e404feea014e7be4a441f234f857fbd",
    ohttp.WHOLE,
    (b"\x01\x40\xc8",),
)
CHUNKED = Vector(  # draft-ietf-ohai-chunked-ohttp-08, appendix A
    "1c190d72acdbe4dbc69e680503bb781a932c70a12c8f3754434c67d8640d8698",
    "010020000100018811eb457e100811c40a0aa71340a1b81d804bb986f736f2f566a7199761a0321c2ad24942d4d692563012f2980c8fef437a"
    "336b9b2fc938ef77a5834f1d2e33d8fd25577afe31bd1c79d094f76b6250ae6549b473ecd950501311001c6c1395d0ef7c1022297966307b8a7f",
    "bcce7f4cb921309ba5d62edf1769ef091179bf1cc87fa0e2c02de4546945aa3d1e4812b348b5bd4c594c16b6170b07b475845d1f3200ed9d8a79"
    "6617a5b27265f4d73247f639",
    ohttp.CHUNKED,
    (b"\x01", b"\x40\xc8"),
)


@pytest.mark.parametrize("vector", [WHOLE, CHUNKED], ids=["RFC 9458", "draft-08"])
def test_the_examples_of_the_specifications_are_opened_and_answered_byte_for_byte(vector):
    private = X25519PrivateKey.from_private_bytes(bytes.fromhex(vector.private))
    request, response = bytes.fromhex(vector.request), bytes.fromhex(vector.response)
    opener = ohttp.RequestOpener(private, request[: ohttp.OPENING_BYTES], labels=vector.labels, key_id=1)
    assert opener.open(request[ohttp.OPENING_BYTES :]) == GET
    sealer = opener.respond(response[: opener.nonce_bytes])
    chunks = b"".join(map(sealer.chunks, vector.pieces)) + sealer.final() if vector is CHUNKED else b""
    assert response[: opener.nonce_bytes] + (chunks or sealer.whole(vector.pieces[0])) == response


def pair(aead: int = hpke.AES_256_GCM, labels: ohttp.Labels = ohttp.CHUNKED, message: bytes = b"a request"):
    """Both ends of an exchange whose request has arrived, and the encapsulated request."""
    sealer = ohttp.RequestSealer(PUBLIC, labels=labels, aead=aead)
    sealed = sealer.seal(message)
    opener = ohttp.RequestOpener(KEY, sealed[: ohttp.OPENING_BYTES], labels=labels)
    assert opener.open(sealed[ohttp.OPENING_BYTES :]) == message
    return sealer, opener, sealed


def opened(back: ohttp.ResponseOpener, sealed: bytes) -> bytes:
    return back.feed(sealed) + back.finish()


@pytest.mark.parametrize("labels", [ohttp.WHOLE, ohttp.CHUNKED], ids=["whole", "chunked"])
@pytest.mark.parametrize("aead", ohttp.SUITES)
def test_every_suite_goes_both_ways(aead, labels):
    sealer, opener, _ = pair(aead, labels, b"m" * 40_000)
    nonce = bytes(range(opener.nonce_bytes))
    assert opener.nonce_bytes == sealer.nonce_bytes == hpke.AEAD_KEY_BYTES[aead]
    back, there = sealer.opener(nonce), opener.respond(nonce)
    if labels is ohttp.WHOLE:
        assert back.whole(there.whole(b"answer")) == b"answer"
    else:
        assert back.feed(there.chunks(b"a" * 40_000) + there.chunks(b"") + there.final()) == b"a" * 40_000
        assert back.finish() == b""


@pytest.mark.parametrize(
    ("aead", "oracle"), [(1, AEADId.AES128_GCM), (2, AEADId.AES256_GCM), (3, AEADId.CHACHA20_POLY1305)]
)
def test_an_independent_hpke_reads_our_requests_and_we_read_its(aead, oracle):
    suite = CipherSuite.new(KEMId.DHKEM_X25519_HKDF_SHA256, KDFId.HKDF_SHA256, oracle)
    header = bytes([0]) + b"".join(number.to_bytes(2) for number in (0x20, 1, aead))
    info = b"message/bhttp chunked request\x00" + header
    sealer = ohttp.RequestSealer(PUBLIC, aead=aead)
    sealed = sealer.seal(b"asked")
    context = suite.create_recipient_context(sealed[7:39], KEMKey.from_pyca_cryptography_key(KEY), info=info)
    assert sealed[:7] == header
    assert sealed[39] == len(b"asked") + 16
    assert context.open(sealed[40 : 40 + 21]) == b"asked"
    assert sealed[61] == 0
    assert context.open(sealed[62:], aad=b"final") == b""

    enc, sender = suite.create_sender_context(KEMKey.from_pyca_cryptography_key(KEY.public_key()), info=info)
    chunk = sender.seal(b"as")
    body = bytes([0x40, len(chunk)]) + chunk + b"\x00" + sender.seal(b"ked", aad=b"final")
    opener = ohttp.RequestOpener(KEY, header + enc)
    assert opener.open(body) == b"asked"

    nonce = bytes(opener.nonce_bytes)
    secret = sender.export(b"message/bhttp chunked response", opener.nonce_bytes)
    prk = HKDF.extract(hashes.SHA256(), enc + nonce, secret)
    key = HKDFExpand(hashes.SHA256(), hpke.AEAD_KEY_BYTES[aead], b"key").derive(prk)
    base = HKDFExpand(hashes.SHA256(), 12, b"nonce").derive(prk)
    box = (ChaCha20Poly1305 if aead == 3 else AESGCM)(key)
    wanted = b"\x13" + box.encrypt(base, b"yes", None) + b"\x00"
    wanted += box.encrypt(base[:-1] + bytes([base[-1] ^ 1]), b"", b"final")
    answer = opener.respond(nonce)
    assert answer.chunks(b"yes") + answer.final() == wanted


@given(st.lists(st.binary(max_size=50), max_size=5), st.integers(1, 60))
def test_an_answer_in_any_pieces_is_the_same_answer(pieces, step):
    sealer, opener, _ = pair()
    nonce = bytes(32)
    there, back = opener.respond(nonce), sealer.opener(nonce)
    sealed = b"".join(map(there.chunks, pieces)) + there.final()
    got = b"".join(back.feed(sealed[at : at + step]) for at in range(0, len(sealed), step))
    assert got + back.finish() == b"".join(pieces)


@given(st.data())
def test_an_answer_that_is_cut_or_changed_anywhere_is_refused(data):
    sealer, opener, _ = pair()
    there = opener.respond(bytes(32))
    sealed = there.chunks(b"first") + there.chunks(b"second") + there.final()
    if data.draw(st.booleans()):
        broken = sealed[: data.draw(st.integers(0, len(sealed) - 1))]
    else:
        at = data.draw(st.integers(0, len(sealed) - 1))
        broken = sealed[:at] + bytes([sealed[at] ^ data.draw(st.integers(1, 255))]) + sealed[at + 1 :]
    back = sealer.opener(bytes(32))
    with pytest.raises((ChannelRefused, MalformedMessage, StreamTruncated)):
        opened(back, broken)


@given(st.data())
def test_a_request_that_is_cut_or_changed_anywhere_is_refused(data):
    sealer = ohttp.RequestSealer(PUBLIC)
    sealed = sealer.seal(b"a request")
    if data.draw(st.booleans()):
        broken = sealed[: data.draw(st.integers(0, len(sealed) - 1))]
    else:
        at = data.draw(st.integers(0, len(sealed) - 1))
        broken = sealed[:at] + bytes([sealed[at] ^ data.draw(st.integers(1, 255))]) + sealed[at + 1 :]
        if broken[7:39] != sealed[7:39] and int.from_bytes(broken[7:39]) ^ int.from_bytes(sealed[7:39]) == 0x80:
            return
    with pytest.raises(StrongroomError):
        ohttp.RequestOpener(KEY, broken[:39]).open(broken[39:])


def test_chunks_cannot_be_left_out_repeated_swapped_or_made_the_last():
    sealer, opener, _ = pair()
    there = opener.respond(bytes(32))
    one, two, end = there.chunks(b"one"), there.chunks(b"two"), there.final()
    for broken in (one + end, one + one + two + end, two + one + end, end, one + two, one + b"\x00" + two[1:]):
        back = sealer.opener(bytes(32))
        with pytest.raises((ChannelRefused, StreamTruncated)):
            opened(back, broken)


def test_a_key_that_serves_both_channels_opens_nothing_of_one_as_the_other():
    sealed = ehbp.RequestSealer(PUBLIC)
    frame = sealed.seal(b"asked")
    header = bytes([0]) + b"".join(number.to_bytes(2) for number in (0x20, 1, 2))
    with pytest.raises(ChannelKeyMismatch):
        ohttp.RequestOpener(KEY, header + sealed.encapsulation).open(bytes([len(frame) - 4]) + frame[4:] + b"\x00")
    sealer = ohttp.RequestSealer(PUBLIC, labels=ohttp.WHOLE)
    whole = sealer.seal(b"asked")
    with pytest.raises(ChannelKeyMismatch):
        ehbp.RequestOpener(KEY, whole[7:39]).open(ehbp.frame(whole[39:]))
    with pytest.raises(ChannelKeyMismatch):
        ohttp.RequestOpener(KEY, whole[:39]).open(b"\x00" + whole[39:])


def test_wrong_suites_keys_and_sizes_are_refused():
    _, _, sealed = pair()
    for at, value in ((1, 1), (3, 1), (5, 1), (6, 4)):
        with pytest.raises(MalformedMessage):
            ohttp.RequestOpener(KEY, sealed[:at] + bytes([value]) + sealed[at + 1 : 39])
    with pytest.raises(ChannelKeyMismatch):
        ohttp.RequestOpener(KEY, b"\x07" + sealed[1:39])
    with pytest.raises(MalformedMessage):
        ohttp.RequestOpener(KEY, sealed[:38])
    with pytest.raises(MalformedMessage):
        ohttp.ChunkReader().feed(bytes.fromhex("80100001"))
    with pytest.raises(MalformedMessage):
        ohttp.ChunkReader().feed(b"\x00" + bytes(ohttp.MAX_CHUNK + 1))
    with pytest.raises(MalformedMessage):
        ohttp.ChunkReader(max_chunks=2).feed(b"\x01x" * 3)


def test_a_list_of_key_configurations_is_read_as_far_as_we_could_use_it():
    ours = ohttp.encode_key_list(PUBLIC)
    assert ohttp.parse_key_list(ours) == (ohttp.KeyConfig(0, PUBLIC, ohttp.SUITES),)
    example = bytes.fromhex(
        "01002031e1f05a740102115220e9af918f738674aec95f54db6e04eb705aae8e79815500080001000100010003"
    )
    other_kem = bytes.fromhex("0002 0010") + bytes(65)
    many = b"".join(len(config).to_bytes(2) + config for config in (other_kem[1:], example))
    assert [(config.key_id, config.aeads) for config in ohttp.parse_key_list(many)] == [(1, (1, 3))]
    for broken in (b"", ours[:-1], ours + b"\x00", b"\x00\x02\x00\x00", b"\x00\x05\x00\x00\x20aa", ours[2:]):
        with pytest.raises(MalformedMessage):
            ohttp.parse_key_list(broken)
    with pytest.raises(MalformedMessage):
        ohttp.encode_key_list(b"short")
