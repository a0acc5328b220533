"""COSE_Sign1: one algorithm, which the caller fixes; nothing from the header that nobody signed."""

from __future__ import annotations

from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given, settings
from hypothesis import strategies as st

from strongroom.crypto import cbor, cose
from strongroom.crypto.cose import Algorithm
from strongroom.errors import MalformedEvidence, SignatureInvalid, UsageError

KEYS = {
    Algorithm.ES256: ec.generate_private_key(ec.SECP256R1()),
    Algorithm.ES384: ec.generate_private_key(ec.SECP384R1()),
    Algorithm.ES512: ec.generate_private_key(ec.SECP521R1()),
}
KEY = KEYS[Algorithm.ES384]
PUBLIC = KEY.public_key()


def signed(protected: bytes, *, unprotected: Any = None, key: Any = KEY, payload: bytes = b"payload") -> bytes:
    """A message with whatever header, correctly signed on P-384 with SHA-384."""
    to_be_signed = cbor.encode(["Signature1", protected, b"", payload])
    r, s = decode_dss_signature(key.sign(to_be_signed, ec.ECDSA(hashes.SHA384())))
    signature = r.to_bytes(48, "big") + s.to_bytes(48, "big")
    return cbor.encode(cbor.Tag(18, [protected, unprotected or {}, payload, signature]))


@pytest.mark.parametrize("algorithm", list(Algorithm))
@pytest.mark.parametrize("tagged", [True, False])
def test_what_is_signed_verifies_with_its_own_algorithm_only(algorithm: Algorithm, tagged: Any):
    message = cose.parse(cose.sign(b"payload", KEYS[algorithm], algorithm, tagged=tagged), tagged=tagged)
    assert message.payload == b"payload"
    cose.verify(message, KEYS[algorithm].public_key(), algorithm)
    for other in set(Algorithm) - {algorithm}:
        with pytest.raises(SignatureInvalid):
            cose.verify(message, KEYS[algorithm].public_key(), other)
        with pytest.raises(SignatureInvalid):
            cose.verify(message, KEYS[other].public_key(), algorithm)


HEADERS = {
    "no header": b"",
    "no map": cbor.encode([]),
    "not CBOR": b"\xff",
    "an empty map": cbor.encode({}),
    "alg none": cbor.encode({1: 0}),
    "another alg": cbor.encode({1: -7}),
    "alg ES512": cbor.encode({1: -36}),
    "alg HMAC": cbor.encode({1: 5}),
    "alg as text": cbor.encode({1: "ES384"}),
    "alg null": cbor.encode({1: None}),
    "a critical header": cbor.encode({1: -35, 2: [99], 99: 0}),
    "the algorithm twice": bytes.fromhex("a2013822013822"),
    "a number that is not the shortest": bytes.fromhex("a101390022"),
}


@pytest.mark.parametrize("protected", HEADERS.values(), ids=HEADERS.keys())
def test_alg_none_or_other_alg_is_refused_however_good_the_signature(protected: bytes):
    with pytest.raises(SignatureInvalid):
        cose.verify(cose.parse(signed(protected)), PUBLIC, Algorithm.ES384)


def test_the_unprotected_header_is_ignored_and_chooses_nothing():
    right = cose.parse(signed(cbor.encode({1: -35}), unprotected={1: -7, 4: b"kid", 33: b"certificate"}))
    cose.verify(right, PUBLIC, Algorithm.ES384)
    for protected in (b"", cbor.encode({})):
        wrong = cose.parse(signed(protected, unprotected={1: -35}))
        with pytest.raises(SignatureInvalid):
            cose.verify(wrong, PUBLIC, Algorithm.ES384)


def test_further_protected_headers_are_signed_and_not_looked_at():
    cose.verify(cose.parse(signed(cbor.encode({1: -35, 4: b"kid"}))), PUBLIC, Algorithm.ES384)


def test_another_payload_header_key_or_signature_does_not_hold():
    message = cose.parse(cose.sign(b"payload", KEY, Algorithm.ES384))
    other = ec.generate_private_key(ec.SECP384R1()).public_key()
    changed = [
        cose.Sign1(message.protected, {}, b"Payload", message.signature),
        cose.Sign1(cbor.encode({1: -35, 4: b""}), {}, message.payload, message.signature),
        *(cose.Sign1(message.protected, {}, message.payload, s) for s in (b"", bytes(96), message.signature + b"\0")),
        cose.Sign1(message.protected, {}, message.payload, message.signature[48:] + message.signature[:48]),
    ]
    for wrong in changed:
        with pytest.raises(SignatureInvalid):
            cose.verify(wrong, PUBLIC, Algorithm.ES384)
    with pytest.raises(SignatureInvalid):
        cose.verify(message, other, Algorithm.ES384)


GOOD = [cbor.encode({1: -35}), {}, b"payload", bytes(96)]
MALFORMED: dict[str, Any] = {
    "no array": {},
    "three parts": GOOD[:3],
    "five parts": [*GOOD, b""],
    "a detached payload": [GOOD[0], {}, None, GOOD[3]],
    "a header that is a map": [{}, *GOOD[1:]],
    "an unprotected header that is bytes": [GOOD[0], b"", *GOOD[2:]],
    "a payload that is text": [GOOD[0], {}, "payload", GOOD[3]],
    "a signature that is an array": [*GOOD[:3], []],
    "another tag": cbor.Tag(98, GOOD),
    "two tags": cbor.Tag(18, cbor.Tag(18, GOOD)),
}


@pytest.mark.parametrize("value", MALFORMED.values(), ids=MALFORMED.keys())
def test_what_is_no_message_is_malformed(value: Any):
    with pytest.raises(MalformedEvidence):
        cose.parse(cbor.encode(value))


def test_the_tag_is_there_or_not_as_the_caller_says():
    bare, tagged = (cose.sign(b"payload", KEY, Algorithm.ES384, tagged=tagged) for tagged in (False, True))
    assert cose.parse(bare).payload == cose.parse(tagged).payload
    for data, wanted in ((bare, True), (tagged, False)):
        with pytest.raises(MalformedEvidence, match="tagged"):
            cose.parse(data, tagged=wanted)
    with pytest.raises(MalformedEvidence, match="limit"):
        cose.parse(bare, limit=len(bare) - 1)


def test_a_key_on_another_curve_does_not_sign():
    with pytest.raises(UsageError):
        cose.sign(b"payload", KEY, Algorithm.ES256)


def point(algorithm: Algorithm = Algorithm.ES384) -> bytes:
    return KEYS[algorithm].public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)


@pytest.mark.parametrize("algorithm", list(Algorithm))
def test_a_key_is_read_from_its_point_and_from_its_cose_form(algorithm: Algorithm):
    raw = point(algorithm)
    half = len(raw) // 2
    number = {Algorithm.ES256: 1, Algorithm.ES384: 2, Algorithm.ES512: 3}[algorithm]
    members = {1: 2, -1: number, -2: raw[1 : 1 + half], -3: raw[1 + half :]}
    expected = KEYS[algorithm].public_key()
    assert cose.key_from_point(raw, algorithm) == expected
    assert cose.key_from_cose(cbor.encode(members), algorithm) == expected
    assert cose.key_from_cose(cbor.encode({**members, 3: int(algorithm)}), algorithm) == expected
    for wrong in (
        {**members, 1: 1},
        {**members, -1: number % 3 + 1},
        {**members, 3: -8},
        {**members, -3: True},
        {**members, -2: members[-2][1:]},
        {**members, -4: b"private"},
        {**members, -2: bytes(half)},
        {1: 2},
    ):
        with pytest.raises(MalformedEvidence):
            cose.key_from_cose(cbor.encode(wrong), algorithm)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        bytes(97),
        b"\x04" + bytes(96),
        b"\x03" + point()[1:],
        point()[:-1],
        point() + b"\0",
        b"\x02" + point()[1:49],
    ],
)
def test_what_is_no_uncompressed_point_of_the_curve_is_no_key(raw: bytes):
    with pytest.raises(MalformedEvidence):
        cose.key_from_point(raw, Algorithm.ES384)


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_no_changed_message_verifies(data: st.DataObject):
    message = bytearray(cose.sign(b"payload", KEY, Algorithm.ES384))
    at = data.draw(st.integers(0, len(message) - 1))
    message[at] ^= 1 << data.draw(st.integers(0, 7))
    try:
        parsed = cose.parse(bytes(message))
        cose.verify(parsed, PUBLIC, Algorithm.ES384)
    except (MalformedEvidence, SignatureInvalid):
        return
    pytest.fail(f"byte {at}")
