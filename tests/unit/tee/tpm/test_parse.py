"""The parsers of TPM structures read what is there, all of it, and nothing else."""

from __future__ import annotations

import random
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from strongroom.errors import MalformedEvidence, StrongroomError
from strongroom.records import codec
from strongroom.records.tpm import TpmQuote
from strongroom.tee.tpm import parse
from strongroom.tee.tpm.commands import EK_ECC, EK_RSA
from strongroom.tee.tpm.parse import parse_attest, parse_key, parse_public, parse_quote, parse_signature, read_quote
from strongroom_sim.tpm import AK_ATTRIBUTES, Statement, attest, public_area, signature

P256 = ec.generate_private_key(ec.SECP256R1())
RSA = rsa.generate_private_key(65537, 2048)
ATTEST = attest(Statement(b"nonce", resets=5), [("sha256", (0, 7, 16)), ("sha1", (23,))], bytes(32))


def spki(key: Any) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def test_an_attestation_is_read_whole():
    found = parse_attest(ATTEST)
    assert (found.magic, found.extra_data, found.reset_count, found.clock_safe) == (0xFF544347, b"nonce", 5, True)
    assert found.selection == (("sha256", (0, 7, 16)), ("sha1", (23,)))
    assert found.raw == ATTEST


@pytest.mark.parametrize("cut", [1, 5, 40, len(ATTEST) - 1])
def test_a_cut_attestation_is_malformed(cut: int):
    with pytest.raises(MalformedEvidence):
        parse_attest(ATTEST[:cut])


@pytest.mark.parametrize(
    "data",
    [
        ATTEST + b"\0",
        b"",
        bytes(5000),
        attest(Statement(b"", kind=0x8017), [("sha256", (0,))], bytes(32)),
        attest(Statement(b""), [("sha256", (0,)), ("sha256", (1,))], bytes(32)),
        attest(Statement(b""), [], bytes(32)).replace(b"\0\0\0\0\0\x20", b"\0\0\0\x09\0\x20"),
    ],
)
def test_an_attestation_of_another_form_is_malformed(data: bytes):
    with pytest.raises(MalformedEvidence):
        parse_attest(data)


def test_an_unknown_bank_and_an_unsafe_truth_value_are_malformed():
    with pytest.raises(MalformedEvidence):
        parse_attest(
            attest(Statement(b""), [("sha256", (0,))], bytes(32)).replace(b"\0\0\0\x01\0\x0b", b"\0\0\0\x01\0\x12")
        )
    at = ATTEST.index(b"strngsim") - 1
    with pytest.raises(MalformedEvidence):
        parse_attest(ATTEST[:at] + b"\x02" + ATTEST[at + 1 :])


def test_keys_are_read_in_all_their_forms():
    area = public_area(P256.public_key())
    for form in (area, len(area).to_bytes(2, "big") + area):
        found = parse_key(form)
        assert found.raw == area
        assert (found.attributes, found.scheme, found.name_hash) == (AK_ATTRIBUTES, (parse.ECDSA, "sha256"), "sha256")
        assert found.key.public_numbers() == P256.public_key().public_numbers()
    big = parse_key(public_area(RSA.public_key(), scheme=(parse.RSAPSS, "sha384"), name_hash="sha384"))
    assert big.scheme == (parse.RSAPSS, "sha384")
    assert len(big.name) == 4 + 96
    bare = parse_key(spki(RSA.public_key()))
    assert (bare.attributes, bare.name[:5]) == (None, "spki:")


def test_the_templates_of_endorsement_keys_are_keys_of_their_form():
    filled = parse_public(EK_RSA[:-256] + RSA.public_key().public_numbers().n.to_bytes(256, "big"))
    assert filled.symmetric == (128, parse.CFB)
    with pytest.raises(MalformedEvidence):
        parse_public(EK_ECC)  # its point is a placeholder of zeros


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x30\x03\x02\x01\x00",
        spki(ed25519.Ed25519PrivateKey.generate().public_key()),
        spki(ec.generate_private_key(ec.SECP521R1()).public_key()),
        spki(P256.public_key()) + b"\0",
        public_area(P256.public_key()) + b"\0",
        public_area(P256.public_key(), attributes=1),
        public_area(P256.public_key()).replace(b"\0\x18\0\x0b", b"\0\x1a\0\x0b", 1),
        b"\0\x08" + public_area(P256.public_key())[2:],
        public_area(P256.public_key())[:-1] + b"\0",
        public_area(RSA.public_key()).replace(b"\x08\0\0\0\0\0", b"\x04\0\0\0\0\0", 1),
        public_area(P256.public_key()).replace(b"\0\x03\0\x10", b"\0\x05\0\x10", 1),
        b"\x30" * 5000,
    ],
)
def test_a_key_of_another_form_is_malformed(data: bytes):
    with pytest.raises(MalformedEvidence):
        parse_key(data)


def test_signatures_are_read_whole():
    made = signature(P256, b"data")
    assert parse_signature(made).algorithm == parse.ECDSA
    assert isinstance(parse_signature(signature(RSA, b"data")).value, bytes)
    for data in (made[:-1], made + b"\0", b"\0\x05\0\x0b" + made[4:], b"", b"\0\x18\0\x12" + made[4:]):
        with pytest.raises(MalformedEvidence):
            parse_signature(data)


@pytest.mark.parametrize(
    "pcrs",
    [
        {"sm3": {"0": "00" * 32}},
        {"sha256": {"24": "00" * 32}},
        {"sha256": {"00": "00" * 32}},
        {"sha256": {"+1": "00" * 32}},
        {"sha256": {"\u0661": "00" * 32}},
        {"sha256": {"0": "00" * 31}},
        {"sha256": {"0": "AA" * 32}},
        {"sha256": {"0": "0 " * 32}},
    ],
)
def test_registers_of_another_form_are_malformed(place: Any, pcrs: Any):
    with pytest.raises(MalformedEvidence):
        read_quote(replace(place.good, pcrs=pcrs))


def test_a_record_of_another_form_is_malformed(place: Any):
    data = codec.encode(place.good)
    for changed in (
        b"",
        b"{}",
        data[:-1],
        bytes(40_000),
        data.replace(b"tpm-quote/v1", b"tpm-quote/v2"),
        b"\xff" + data,
    ):
        with pytest.raises(MalformedEvidence):
            parse_quote(changed)


def test_whatever_comes_in_the_parsers_return_or_raise_one_of_our_errors(place: Any):
    chance = random.Random(0)
    seeds = [
        ATTEST,
        signature(P256, b"x"),
        public_area(P256.public_key()),
        public_area(RSA.public_key()),
        codec.encode(place.good),
    ]
    for number in range(3000):
        data = bytearray(seeds[number % len(seeds)])
        for _ in range(chance.randint(1, 3)):
            at = chance.randrange(len(data))
            data[at : at + chance.randint(0, 2)] = chance.randbytes(chance.randint(0, 2))
            if not data:
                break
        for read in (parse_attest, parse_signature, parse_key, parse_quote):
            with suppress(StrongroomError):
                read(bytes(data))


def test_the_record_of_a_quote_survives_its_codec(place: Any):
    good = place.good
    assert codec.decode(TpmQuote, codec.encode(good)) == good
