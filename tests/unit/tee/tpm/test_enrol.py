"""Enrolment: the credential that only one TPM opens, the certificate of its key, and the note that comes of it."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import replace
from typing import Any

import pytest

from strongroom.crypto.signatures import generate_p256
from strongroom.errors import DeviceUnavailable, MalformedEvidence, SignatureInvalid, UsageError
from strongroom.records.envelope import Envelope
from strongroom.records.evidence import TpmCollateral
from strongroom.records.policy.requirement import Requirement
from strongroom.records.verdict import RootClass
from strongroom.tee.tpm import enrol, parse_key
from strongroom.tee.tpm.collect import Collector
from strongroom.tee.tpm.credential import kdfa, kdfe, make_credential
from strongroom.tee.tpm.parse import RESTRICTED, parse_public
from strongroom_sim.tpm import AK_ATTRIBUTES, Tpm, public_area
from strongroom_sim.tpm_wire import Wire

from .conftest import NOW

LIFE = 86_400


def collector(tpm: Tpm) -> Collector:
    return Collector(connect=lambda: Wire(tpm))


def endorsed(
    place: Any, tpm: Tpm | None = None, collateral: TpmCollateral | None = None, **asked: Any
) -> enrol.Endorsed:
    tpm = tpm or place.tpm
    _, ek, _ = collector(tpm).keys()
    return enrol.check_endorsement(parse_key(ek), collateral or tpm.ek_collateral(NOW), place.anchors, NOW, **asked)


@pytest.mark.parametrize("algorithm", ["rsa", "ecc"])
def test_the_right_tpm_opens_its_credential_and_no_other_does(place: Any, algorithm: str):
    _, ek, ak = collector(place.tpm).keys(algorithm)
    credential = make_credential(parse_key(ek), parse_key(ak).name, b"a secret of thirty-two bytes ..x")
    assert collector(place.tpm).activate(credential, algorithm) == b"a secret of thirty-two bytes ..x"
    for other in (Tpm(place.maker, NOW), replace_ak(place.tpm)):
        with pytest.raises(DeviceUnavailable):
            collector(other).activate(credential, algorithm)
    spoilt = replace(credential, blob=credential.blob[:-1] + bytes([credential.blob[-1] ^ 1]))
    with pytest.raises(DeviceUnavailable):
        collector(place.tpm).activate(spoilt, algorithm)


def replace_ak(tpm: Tpm) -> Tpm:
    """The same endorsement keys with another attestation key."""
    return Tpm(tpm.maker, NOW, tpm.ek_rsa, tpm.ek_ecc)


def test_key_derivation_is_the_specifications():
    """One block each, computed here by hand from the formulas of Part 1, section 11.4.10."""
    wanted = hmac.digest(b"k", b"\0\0\0\1STORAGE\0uv\0\0\0\x80", "sha256")[:16]
    assert kdfa("sha256", b"k", "STORAGE", b"u", b"v", 128) == wanted
    two = hmac.digest(b"k", b"\0\0\0\2X\0\0\0\2\0", "sha256")
    assert kdfa("sha256", b"k", "X", b"", b"", 512)[32:] == two
    assert kdfe("sha256", b"z", "IDENTITY", b"u", b"v", 256) == hashlib.sha256(b"\0\0\0\1zIDENTITY\0uv").digest()


def test_a_credential_that_does_not_fit_and_a_key_that_is_no_endorsement_key_are_usage_errors(place: Any):
    _, ek, _ = collector(place.tpm).keys()
    for value in (b"", bytes(33)):
        with pytest.raises(UsageError):
            make_credential(parse_key(ek), "000b" + "00" * 32, value)
    with pytest.raises(UsageError):
        make_credential(parse_key(place.tpm.ak_public), "000b" + "00" * 32, bytes(32))
    unrestricted = bytearray(ek)
    attributes = int.from_bytes(ek[4:8], "big") & ~RESTRICTED
    unrestricted[4:8] = attributes.to_bytes(4, "big")
    with pytest.raises(UsageError):
        make_credential(parse_public(bytes(unrestricted)), "000b" + "00" * 32, bytes(32))


def test_an_endorsement_key_is_known_by_its_certificate(place: Any):
    found = endorsed(place)
    assert found.root_class is RootClass.INSTALLATION
    assert found.fingerprint.startswith("sha256:")


def test_an_endorsement_certificate_that_does_not_hold_is_refused(place: Any, other_place: Any):
    good = place.tpm.ek_collateral(NOW)
    other = Tpm(place.maker, NOW)
    ak_certificate = place.maker.collateral(place.maker.certify_ak(place.tpm.ek_rsa.public_key(), NOW), NOW)
    cases = {
        "trust anchors": other_place.tpm.ek_collateral(NOW),
        "another key": other.ek_collateral(NOW),
        "decrypts": ak_certificate,
        "no list": replace(good, crls=()),
    }
    for reason, collateral in cases.items():
        with pytest.raises(SignatureInvalid, match=reason):
            endorsed(place, collateral=collateral)
    with pytest.raises(MalformedEvidence):
        endorsed(place, collateral=TpmCollateral("nonsense", ()))


def test_missing_revocation_lists_are_admitted_only_with_a_reason(place: Any):
    bare = replace(place.tpm.ek_collateral(NOW), crls=())
    with pytest.raises(SignatureInvalid):
        endorsed(place, collateral=bare)
    assert endorsed(place, collateral=bare, revocation=Requirement(any="this maker publishes none"))


def test_a_key_that_is_no_attestation_key_is_not_enrolled(place: Any):
    key = place.tpm.ak.public_key()
    for public in (
        public_area(key, attributes=AK_ATTRIBUTES & ~RESTRICTED),
        public_area(key, name_hash="sha1"),
        public_area(key, scheme=None),
    ):
        with pytest.raises(SignatureInvalid):
            enrol.challenge(endorsed(place), parse_key(public))


def finished(place: Any, *, now: int = NOW) -> Envelope:
    waiting = enrol.challenge(endorsed(place), parse_key(place.tpm.ak_public))
    answer = collector(place.tpm).activate(waiting.credential)
    return enrol.finish(waiting, answer, place.verifier, now=now, life=LIFE)


def test_a_wrong_answer_enrols_nobody(place: Any):
    waiting = enrol.challenge(endorsed(place), parse_key(place.tpm.ak_public))
    assert waiting.expected.hex() not in repr(waiting)
    for answer in (b"", bytes(32), waiting.expected[:-1]):
        with pytest.raises(SignatureInvalid):
            enrol.finish(waiting, answer, place.verifier, now=NOW, life=LIFE)


def test_a_note_holds_in_its_time_under_its_verifier(place: Any):
    data = finished(place).to_bytes()
    word = enrol.open_enrolment(data, place.anchors, NOW)
    assert (word.ak_name, word.source) == (parse_key(place.tpm.ak_public).name, "enrolment")
    for now in (NOW - 1, NOW + LIFE + 1):
        with pytest.raises(SignatureInvalid):
            enrol.open_enrolment(data, place.anchors, now)
    for anchors in ([], place.anchors[:1], [enrol.enrolment_anchor(generate_p256().public_key(), RootClass.SILICON)]):
        with pytest.raises(SignatureInvalid):
            enrol.open_enrolment(data, anchors, NOW)


def test_a_note_signed_by_another_than_it_names_is_refused(place: Any):
    envelope = finished(place)
    from strongroom.crypto.signatures import sign_envelope

    forged = sign_envelope(enrol.PAYLOAD_TYPE, envelope.payload, generate_p256())
    with pytest.raises(SignatureInvalid):
        enrol.open_enrolment(forged.to_bytes(), place.anchors, NOW)


@pytest.mark.parametrize(
    "data", [b"", b"{}", b"[]", bytes(9000), b'{"payload":"","payloadType":"x","signatures":[{"sig":""}]}']
)
def test_what_is_no_note_is_malformed(place: Any, data: bytes):
    with pytest.raises(MalformedEvidence):
        enrol.open_enrolment(data, place.anchors, NOW)
