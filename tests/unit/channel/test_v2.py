"""The wire of version 2: against its vectors, written out a second time from its specification, in pieces, and attacked."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from hypothesis import given, settings
from hypothesis import strategies as st

from strongroom.channel import v2
from strongroom.crypto.hpke import ReleaseKey
from strongroom.errors import ChannelRefused, MalformedMessage, StreamTruncated, StrongroomError
from strongroom.records.digest import digest_bytes

DOCUMENT = json.loads((Path(__file__).parents[2] / "vectors" / "channel-v2.json").read_text())
PRIVATE = ReleaseKey.from_bytes(bytes.fromhex(DOCUMENT["private"]))
KEYSET = DOCUMENT["keyset"]
PEER = v2.Peer(PRIVATE.public, KEYSET)
NONCE = bytes(range(32))
HEAD = b'{"a head":"of a request"}'

modest = settings(max_examples=40, deadline=None)
bodies = st.one_of(st.binary(max_size=2000), st.integers(0, 200_000).map(lambda size: b"x" * size))


def opened(kind: str, vector: dict[str, Any], cuts: int = 1) -> tuple[bytes, bytes]:
    body, secret = bytes.fromhex(vector["body"]), bytes.fromhex(vector["secret"])
    if kind == "request":
        request = v2.RequestOpener(PRIVATE, KEYSET, body)
        return request.head, request.body
    opener = v2.RequestSealer(secret, bytes.fromhex(vector["request_head"])).opener()
    size = -(-len(body) // cuts)
    content = b"".join(opener.feed(body[i : i + size]) for i in range(0, len(body), size))
    opener.finish()
    assert opener.head is not None
    return opener.head, content


@pytest.mark.parametrize("vector", DOCUMENT["vectors"], ids=lambda vector: f"{vector['kind']}-{vector['comment']}")
def test_the_vectors(vector: dict[str, Any]):
    if vector["expect"] == "success":
        wanted = vector["head"].encode(), bytes.fromhex(vector["content"])
        assert opened(vector["kind"], vector) == opened(vector["kind"], vector, cuts=50) == wanted
        return
    with pytest.raises(StrongroomError) as caught:
        opened(vector["kind"], vector)
    assert caught.value.code == vector["expect"]


def test_the_vectors_name_the_key_that_they_use():
    assert (PRIVATE.public.hex(), DOCUMENT["version"]) == (DOCUMENT["public"], v2.VERSION)
    assert {vector["expect"] for vector in DOCUMENT["vectors"]} >= {"success", "channel.truncated", "channel.refused"}


def test_sealing_again_what_a_vector_holds_gives_its_bytes():
    vector = DOCUMENT["vectors"][0]
    body = bytes.fromhex(vector["body"])
    sealer = v2.RequestSealer(bytes.fromhex(vector["secret"]), body[: v2.HEAD_BYTES])
    assert sealer.seal(vector["head"].encode(), bytes.fromhex(vector["content"])) == body


def test_the_first_vector_opens_by_the_words_of_the_specification():
    """Written from docs/reference/channel-v2.md with primitives alone."""
    vector = DOCUMENT["vectors"][0]
    body, secret = bytes.fromhex(vector["body"]), bytes.fromhex(vector["secret"])
    head, frames = body[:1168], body[1168:]

    def derive(secret: bytes, salt: bytes, info: bytes, length: int) -> bytes:
        return HKDF(SHA256(), length, salt, info).derive(secret)

    key, base = derive(secret, head, b"request key", 32), derive(secret, head, b"request nonce", 12)
    contents = []
    for number in range(2):
        length, final = int.from_bytes(frames[:4]), frames[4]
        assert final == number
        nonce = (int.from_bytes(base) ^ number).to_bytes(12)
        plaintext = AESGCM(key).decrypt(nonce, frames[5 : 5 + length], frames[:5])
        padding = int.from_bytes(plaintext[:2])
        assert (len(plaintext) - 2) % 512 == 0
        assert plaintext.endswith(bytes(padding))
        contents.append(plaintext[2 : len(plaintext) - padding])
        frames = frames[5 + length :]
    assert frames == b""
    assert contents == [vector["head"].encode(), bytes.fromhex(vector["content"])]
    answer = next(v for v in DOCUMENT["vectors"] if v["kind"] == "answer")
    nonce, frame = bytes.fromhex(answer["body"])[:32], bytes.fromhex(answer["body"])[32:]
    shared = derive(bytes.fromhex(answer["secret"]), bytes.fromhex(answer["request_head"]), b"answer", 32)
    length = int.from_bytes(frame[:4])
    plaintext = AESGCM(derive(shared, nonce, b"answer key", 32)).decrypt(
        derive(shared, nonce, b"answer nonce", 12), frame[5 : 5 + length], frame[:5]
    )
    assert plaintext[2:].rstrip(b"\0") == answer["head"].encode()


@modest
@given(body=bodies, bucket=st.sampled_from([1, 64, 512, 4096]))
def test_what_is_sealed_opens_and_shows_only_buckets(body: bytes, bucket: int):
    sealed = v2.RequestSealer.to(PEER).seal(HEAD, body, bucket=bucket)
    request = v2.RequestOpener(PRIVATE, KEYSET, sealed)
    assert (request.head, request.body) == (HEAD, body)
    frames = 1 + -(-len(body) // v2.MAX_CONTENT)
    assert (len(sealed) - v2.HEAD_BYTES - frames * (5 + 2 + 16)) % bucket == 0


@modest
@given(data=st.data(), events=st.lists(st.binary(max_size=1500), max_size=6))
def test_an_answer_opens_however_it_is_cut_into_pieces(data: st.DataObject, events: list[bytes]):
    sealer = v2.RequestSealer.to(PEER)
    answer = v2.RequestOpener(PRIVATE, KEYSET, sealer.seal(HEAD, b"")).respond(NONCE)
    wire = NONCE + answer.seal(b"head") + b"".join(map(answer.seal, events)) + answer.seal(b"", final=True)
    cuts = sorted(data.draw(st.sets(st.integers(0, len(wire)), max_size=30)))
    opener = sealer.opener()
    pieces = [wire[a:b] for a, b in zip([0, *cuts], [*cuts, len(wire)], strict=True)]
    assert b"".join(map(opener.feed, pieces)) == b"".join(events)
    opener.finish()
    assert opener.head == b"head"


@modest
@given(data=st.data())
def test_any_changed_byte_of_a_request_is_refused(data: st.DataObject):
    sealed = bytearray(v2.RequestSealer.to(PEER).seal(HEAD, b"a body"))
    sealed[data.draw(st.integers(0, len(sealed) - 1))] ^= data.draw(st.integers(1, 255))
    with pytest.raises((ChannelRefused, MalformedMessage)):
        v2.RequestOpener(PRIVATE, KEYSET, bytes(sealed))


@modest
@given(data=st.data())
def test_any_changed_byte_of_an_answer_is_refused(data: st.DataObject):
    sealer, wire = exchange()
    changed = bytearray(wire)
    changed[data.draw(st.integers(0, len(wire) - 1))] ^= data.draw(st.integers(1, 255))
    opener = sealer.opener()
    with pytest.raises((ChannelRefused, MalformedMessage)):  # noqa: PT012 (a change of a length may show only at the end)
        opener.feed(bytes(changed))
        opener.finish()


@modest
@given(data=st.data())
def test_any_cut_is_truncated(data: st.DataObject):
    sealer, wire = exchange()
    opener = sealer.opener()
    opener.feed(wire[: data.draw(st.integers(0, len(wire) - 1))])
    with pytest.raises(StreamTruncated):
        opener.finish()
    sealed = v2.RequestSealer.to(PEER).seal(HEAD, b"a body")
    with pytest.raises(StreamTruncated):
        v2.RequestOpener(PRIVATE, KEYSET, sealed[: data.draw(st.integers(0, len(sealed) - 1))])


def exchange(*events: bytes) -> tuple[v2.RequestSealer, bytes]:
    """One request's sealer and the whole answer to it."""
    sealer = v2.RequestSealer.to(PEER)
    answer = v2.RequestOpener(PRIVATE, KEYSET, sealer.seal(HEAD, b"a body")).respond(NONCE)
    parts = [answer.seal(event) for event in (b"head", *(events or (b"one", b"two")))]
    return sealer, NONCE + b"".join(parts) + answer.seal(b"", final=True)


def test_a_request_for_another_key_or_keyset_does_not_open():
    sealed = v2.RequestSealer.to(PEER).seal(HEAD, b"a body")
    for private, keyset in ((ReleaseKey.generate(), KEYSET), (PRIVATE, digest_bytes(b"another"))):
        with pytest.raises(ChannelRefused):
            v2.RequestOpener(private, keyset, sealed)


def test_an_answer_to_another_request_does_not_open():
    first, second = exchange(), exchange()
    with pytest.raises(ChannelRefused):
        first[0].opener().feed(second[1])


def test_a_request_cannot_be_played_back_as_an_answer():
    sealer = v2.RequestSealer.to(PEER)
    frames = sealer.seal(HEAD, b"a body")[v2.HEAD_BYTES :]
    with pytest.raises(ChannelRefused):
        sealer.opener().feed(NONCE + frames)


def test_what_is_remembered_is_the_whole_head():
    sealed = v2.RequestSealer.to(PEER).seal(HEAD, b"")
    identity = v2.RequestOpener(PRIVATE, KEYSET, sealed).identity
    assert identity == hashlib.sha256(sealed[: v2.HEAD_BYTES]).digest()
    flipped = bytearray(sealed)
    flipped[v2.HEAD_BYTES - 49] ^= 0x80  # the bit of the X25519 share that X25519 itself ignores
    with pytest.raises(ChannelRefused):
        v2.RequestOpener(PRIVATE, KEYSET, bytes(flipped))


KEYS = bytes(32), bytes(12)


def frame(plaintext: bytes, *, final: int = 1, number: int = 0, length: int | None = None) -> bytes:
    prefix = (len(plaintext) + 16 if length is None else length).to_bytes(4) + bytes([final])
    return prefix + AESGCM(bytes(32)).encrypt(number.to_bytes(12), plaintext, prefix)


@pytest.mark.parametrize(
    "wire",
    [
        frame(b"\0"),
        frame(b""),
        frame(b"\0\1"),
        frame(b"\0\3abc\0\0"),
        frame(b"\0\2abc\0\1"),
        frame(b"\xff\xff" + bytes(100)),
        frame(b"\0\0a", final=2),
        frame(b"\0\0a", final=255),
        frame(bytes(v2.MAX_CONTENT + 3)),
        bytes(5),
        b"\xff" * 5,
        frame(b"\0\0a") + b"\0",
        frame(b"\0\0a") + frame(b"\0\0b", number=1),
    ],
    ids=lambda wire: f"{len(wire)}-{wire[:6].hex()}",
)
def test_frames_that_are_none_are_malformed(wire: bytes):
    with pytest.raises(MalformedMessage):
        v2.FrameOpener(*KEYS).feed(wire)


def test_the_longest_frame_is_taken_and_an_announced_longer_one_refused_at_once():
    plaintext = b"\0\0" + bytes(v2.MAX_CONTENT)
    assert v2.FrameOpener(*KEYS).feed(frame(plaintext)) == [plaintext[2:]]
    with pytest.raises(MalformedMessage):
        v2.FrameOpener(*KEYS).feed((v2.MAX_FRAME + 1).to_bytes(4) + b"\0")


def test_frames_are_counted():
    wire = frame(b"\0\0a", final=0) + frame(b"\0\0b", final=0, number=1)
    assert v2.FrameOpener(*KEYS, max_frames=2).feed(wire) == [b"a", b"b"]
    with pytest.raises(MalformedMessage):
        v2.FrameOpener(*KEYS, max_frames=1).feed(wire)


def test_bad_arguments():
    with pytest.raises(ValueError, match="bucket"):
        v2.FrameSealer(*KEYS, bucket=0)
    with pytest.raises(ValueError, match="bucket"):
        v2.FrameSealer(*KEYS, bucket=1000)
    with pytest.raises(MalformedMessage):
        v2.RequestSealer.to(v2.Peer(b"short", KEYSET))
    with pytest.raises(MalformedMessage):
        v2.RequestSealer(b"short", bytes(v2.HEAD_BYTES))
    with pytest.raises(MalformedMessage):
        v2.RequestOpener(PRIVATE, KEYSET, v2.RequestSealer.to(PEER).seal(HEAD, b"")).respond(b"short")
    for head in (b"", bytes(v2.MAX_CONTENT + 1)):
        with pytest.raises(ChannelRefused):
            v2.RequestSealer.to(PEER).seal(head, b"")


def test_nothing_is_sealed_as_nothing_and_the_end_as_an_empty_frame():
    sealer = v2.FrameSealer(*KEYS)
    assert sealer.seal(b"") == b""
    end = sealer.seal(b"", final=True)
    assert len(end) == 5 + 2 + 16
    opener = v2.FrameOpener(*KEYS)
    assert opener.feed(end) == [b""]
    opener.finish()
    with pytest.raises(MalformedMessage):
        opener.feed(b"\0")
