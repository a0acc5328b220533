from __future__ import annotations

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from hypothesis import example, given
from hypothesis import strategies as st

from strongroom.tee.dcap import signatures
from strongroom.tee.steps import Doubt

# Numbers at the edges of DER's shortest form: none, leading zeros, and the bit that would make them negative.
EDGES = (0, 1, 0x7F, 0x80, 0xFF, 0x100, 0x7FFF, 0x8000, 1 << 247, (1 << 248) - 1, 1 << 248, 1 << 255, (1 << 256) - 1)
NUMBERS = st.sampled_from(EDGES) | st.integers(0, (1 << 256) - 1) | st.integers(0, 31).map(lambda at: 0x80 << 8 * at)


@given(r=NUMBERS, s=NUMBERS)
@example(r=0, s=0)
@example(r=1 << 255, s=0x7F << 248)
def test_two_numbers_are_framed_as_cryptography_frames_them(r: int, s: int):
    framed = signatures.to_der(r.to_bytes(32, "big") + s.to_bytes(32, "big"))
    assert framed == encode_dss_signature(r, s)
    assert decode_dss_signature(framed) == (r, s)


def test_every_pair_of_edges_is_framed_as_cryptography_frames_it():
    for r in EDGES:
        for s in EDGES:
            assert signatures.to_der(r.to_bytes(32, "big") + s.to_bytes(32, "big")) == encode_dss_signature(r, s)


@pytest.mark.parametrize("length", [0, 63, 65, 72])
def test_a_signature_of_another_length_is_a_doubt(length: int):
    key = ec.generate_private_key(ec.SECP256R1())
    with pytest.raises(Doubt, match=f"the signature of it has {length} bytes"):
        signatures.check(key.public_key(), bytes(length), b"", "it")


def test_only_the_signed_bytes_hold():
    key = ec.generate_private_key(ec.SECP256R1())
    for turn in range(64):  # some of them start with zeros or a high bit
        data = turn.to_bytes(2, "big")
        r, s = decode_dss_signature(key.sign(data, ec.ECDSA(hashes.SHA256())))
        raw = r.to_bytes(32, "big") + s.to_bytes(32, "big")
        assert signatures.check(key.public_key(), raw, data, "it")
        with pytest.raises(Doubt, match="does not hold"):
            signatures.check(key.public_key(), raw, data + b"x", "it")
