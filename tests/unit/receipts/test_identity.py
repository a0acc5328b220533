"""A broker's identity: opened by its fingerprint, refused for every other."""

import dataclasses

import pytest

from strongroom.crypto.signatures import (
    generate_ed25519,
    generate_p256,
    generate_p384,
    public_to_der,
    raw_public,
    sign_envelope,
)
from strongroom.errors import MalformedRecord, SignatureInvalid, UsageError
from strongroom.receipts.identity import PAYLOAD_TYPE, open_identity, sign_identity, token_key
from strongroom.records import codec
from strongroom.records.envelope import Envelope
from strongroom.records.release import BrokerIdentity

SIGNING, TOKEN, LOG, OTHER = generate_ed25519(), generate_p384(), generate_ed25519(), generate_ed25519()
IDENTITY = BrokerIdentity(
    raw_public(SIGNING), public_to_der(TOKEN.public_key()), raw_public(LOG), "broker.example/log", bytes(1216)
)


def test_an_identity_is_opened_by_its_fingerprint():
    travelled = Envelope.from_bytes(sign_identity(IDENTITY, SIGNING).to_bytes())
    assert open_identity(travelled, IDENTITY.fingerprint) == IDENTITY
    assert open_identity(travelled, None) == IDENTITY


@pytest.mark.parametrize(
    "change",
    [
        {"signing": raw_public(OTHER)},
        {"log": raw_public(OTHER)},
        {"log_origin": "other.example/log"},
        {"token": public_to_der(generate_p384().public_key())},
        {"wrapping": b"\1" + bytes(1215)},
    ],
)
def test_no_key_of_a_broker_can_be_exchanged(change: dict[str, object]):
    """Neither under its signature, nor by somebody who signs with the exchanged key."""
    changed = dataclasses.replace(IDENTITY, **change)
    signer = OTHER if "signing" in change else SIGNING
    with pytest.raises(SignatureInvalid):
        open_identity(sign_identity(changed, signer), IDENTITY.fingerprint)
    moved = Envelope(PAYLOAD_TYPE, codec.encode(changed), sign_identity(IDENTITY, SIGNING).signatures)
    with pytest.raises(SignatureInvalid):
        open_identity(moved, None)


def test_an_identity_signed_by_another_key_is_refused():
    with pytest.raises(SignatureInvalid):
        open_identity(sign_envelope(PAYLOAD_TYPE, codec.encode(IDENTITY), OTHER), IDENTITY.fingerprint)
    with pytest.raises(UsageError):
        sign_identity(IDENTITY, OTHER)


def test_what_the_broker_signed_for_another_purpose_is_no_identity():
    with pytest.raises(SignatureInvalid):
        open_identity(sign_envelope("application/json", codec.encode(IDENTITY), SIGNING), IDENTITY.fingerprint)


def test_a_payload_that_is_no_identity_is_refused():
    for payload in (b"", b"{}", codec.encode(dataclasses.replace(IDENTITY, signing=b"short"))):
        with pytest.raises(MalformedRecord):
            open_identity(sign_envelope(PAYLOAD_TYPE, payload, SIGNING), IDENTITY.fingerprint)


def test_tokens_are_verified_with_a_key_on_p384_only():
    assert token_key(IDENTITY) == TOKEN.public_key()
    for token in (b"", bytes(32), public_to_der(generate_p256().public_key()), public_to_der(LOG.public_key())):
        with pytest.raises(MalformedRecord):
            token_key(dataclasses.replace(IDENTITY, token=token))
