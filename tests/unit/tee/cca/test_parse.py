"""CCA tokens as bytes: exactly the claims of the specification, or unreadable."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strongroom.crypto import cbor, cose
from strongroom.errors import MalformedEvidence
from strongroom.tee.cca import parse, parse_token
from strongroom.tee.cca.parse import MAX_TOKEN_BYTES
from strongroom_sim.cca import Realm, assemble, sign

CHALLENGE = bytes(range(64))
MISSING = object()


def token(place: Any, *, platform: dict[Any, Any] | None = None, realm: dict[Any, Any] | None = None) -> bytes:
    """A token with some claims changed, added or taken out; signed, not that a parser looks."""
    mine = place.realm
    claims = [mine.platform_claims(mine.public_key) | (platform or {}), mine.claims(CHALLENGE) | (realm or {})]
    parts = [{label: value for label, value in part.items() if value is not MISSING} for part in claims]
    return assemble(sign(parts[0], place.platform.key), sign(parts[1], mine.key))


@pytest.mark.parametrize("legacy", [True, False])
@pytest.mark.parametrize("wrapped", [True, False])
def test_a_token_is_read_claim_by_claim(place: Any, legacy: Any, wrapped: Any):
    realm = Realm(place.platform, rim=bytes(range(64)), rpv=b"p" * 64, legacy=legacy)
    data = assemble(realm.platform_token(realm.public_key), sign(realm.claims(CHALLENGE), realm.key), wrapped=wrapped)
    found = parse_token(data)
    assert (found.realm.challenge, found.realm.initial) == (CHALLENGE, bytes(range(64)))
    assert (found.realm.personalization, found.realm.extensible) == (b"p" * 64, (bytes(64),) * 4)
    assert found.realm.public_key == realm.public_key
    assert bool(found.realm.profile) is not legacy
    assert found.platform.instance_id == place.platform.instance_id
    assert [component.kind for component in found.platform.components] == ["RSE_BL2", "AP_BL31", "RMM"]


def test_what_the_specification_makes_optional_may_be_absent(place: Any):
    component = {parse.MEASUREMENT: bytes(48), parse.SIGNER: bytes(64)}
    changes = {parse.SERVICE: MISSING, parse.COMPONENTS: [component]}
    found = parse_token(token(place, platform=changes, realm={parse.PROFILE: MISSING}))
    assert (found.platform.service, found.realm.profile) == ("", "")
    assert found.platform.components[0].kind == found.platform.components[0].version == ""


PART = {parse.MEASUREMENT: bytes(32), parse.SIGNER: bytes(32)}
PLATFORM_WRONG: dict[str, tuple[Any, Any]] = {
    "no profile": (parse.PROFILE, MISSING),
    "a profile of bytes": (parse.PROFILE, b"x"),
    "an empty profile": (parse.PROFILE, ""),
    "no challenge": (parse.CHALLENGE, MISSING),
    "a short challenge": (parse.CHALLENGE, bytes(31)),
    "no implementation": (parse.IMPLEMENTATION_ID, MISSING),
    "a long implementation": (parse.IMPLEMENTATION_ID, bytes(33)),
    "no instance": (parse.INSTANCE_ID, MISSING),
    "a short instance": (parse.INSTANCE_ID, b"\x01" + bytes(31)),
    "an instance of another type": (parse.INSTANCE_ID, b"\x02" + bytes(32)),
    "no config": (parse.CONFIG, MISSING),
    "a config of text": (parse.CONFIG, "cf"),
    "no lifecycle": (parse.LIFECYCLE, MISSING),
    "a lifecycle without a state": (parse.LIFECYCLE, 0x7000),
    "a lifecycle between states": (parse.LIFECYCLE, 0x3100),
    "a negative lifecycle": (parse.LIFECYCLE, -1),
    "a lifecycle that is too long": (parse.LIFECYCLE, 0x1_3000),
    "a lifecycle of text": (parse.LIFECYCLE, "secured"),
    "no components": (parse.COMPONENTS, MISSING),
    "an empty list of components": (parse.COMPONENTS, []),
    "too many components": (parse.COMPONENTS, [PART] * 65),
    "a component without a measurement": (parse.COMPONENTS, [{parse.SIGNER: bytes(32)}]),
    "a component without a signer": (parse.COMPONENTS, [{parse.MEASUREMENT: bytes(32)}]),
    "a component with a short measurement": (parse.COMPONENTS, [{**PART, parse.MEASUREMENT: bytes(20)}]),
    "a component with a claim of its own": (parse.COMPONENTS, [{**PART, 9: 0}]),
    "a component that is no map": (parse.COMPONENTS, [bytes(32)]),
    "no hash": (parse.PLATFORM_HASH, MISSING),
    "an unknown claim": (4711, 0),
    "an unknown claim by name": ("debug", False),
}
REALM_WRONG: dict[str, tuple[Any, Any]] = {
    "no challenge": (parse.CHALLENGE, MISSING),
    "a challenge of 63 bytes": (parse.CHALLENGE, bytes(63)),
    "no personalization": (parse.PERSONALIZATION, MISSING),
    "a short personalization": (parse.PERSONALIZATION, bytes(32)),
    "no initial measurement": (parse.INITIAL, MISSING),
    "an empty initial measurement": (parse.INITIAL, b""),
    "no extensible measurements": (parse.EXTENSIBLE, MISSING),
    "three extensible measurements": (parse.EXTENSIBLE, [bytes(64)] * 3),
    "five extensible measurements": (parse.EXTENSIBLE, [bytes(64)] * 5),
    "an extensible measurement of 20 bytes": (parse.EXTENSIBLE, [bytes(64)] * 3 + [bytes(20)]),
    "an extensible measurement of text": (parse.EXTENSIBLE, [bytes(64)] * 3 + ["0" * 64]),
    "no hash": (parse.REALM_HASH, MISSING),
    "no key": (parse.PUBLIC_KEY, MISSING),
    "an empty key": (parse.PUBLIC_KEY, b""),
    "a key as a map": (parse.PUBLIC_KEY, {1: 2}),
    "no hash of the key": (parse.PUBLIC_KEY_HASH, MISSING),
    "a number for a hash": (parse.PUBLIC_KEY_HASH, -16),
    "an unknown claim": (4711, 0),
}


@pytest.mark.parametrize(("label", "value"), PLATFORM_WRONG.values(), ids=PLATFORM_WRONG.keys())
def test_a_platform_claim_outside_its_rule_is_unreadable(place: Any, label: Any, value: Any):
    with pytest.raises(MalformedEvidence):
        parse_token(token(place, platform={label: value}))


@pytest.mark.parametrize(("label", "value"), REALM_WRONG.values(), ids=REALM_WRONG.keys())
def test_a_realm_claim_outside_its_rule_is_unreadable(place: Any, label: Any, value: Any):
    with pytest.raises(MalformedEvidence):
        parse_token(token(place, realm={label: value}))


def test_what_is_no_collection_of_both_tokens_is_unreadable(place: Any):
    platform = place.realm.platform_token(place.realm.public_key)
    realm = sign(place.realm.claims(CHALLENGE), place.realm.key)
    bare = cose.sign(b"\xa0", place.realm.key, cose.Algorithm.ES384, tagged=False)
    good = {parse.PLATFORM: platform, parse.REALM: realm}
    wrong: list[Any] = [
        good,
        cbor.Tag(18, good),
        cbor.Tag(parse.BARE, [platform, realm]),
        cbor.Tag(parse.BARE, {parse.PLATFORM: platform}),
        cbor.Tag(parse.BARE, {parse.REALM: realm}),
        cbor.Tag(parse.BARE, {**good, 44258: b""}),
        cbor.Tag(parse.BARE, {**good, parse.REALM: [263, realm]}),
        cbor.Tag(parse.BARE, {**good, parse.REALM: bare}),
        cbor.Tag(parse.BARE, {**good, parse.REALM: b""}),
        cbor.Tag(parse.WRAPPED, good),
        cbor.Tag(parse.WRAPPED, {parse.PLATFORM: [263, platform], parse.REALM: [601, realm]}),
        cbor.Tag(parse.WRAPPED, {parse.PLATFORM: [263, platform], parse.REALM: [263, realm, 4]}),
        cbor.Tag(parse.WRAPPED, {parse.PLATFORM: [263, platform], parse.REALM: [True, realm]}),
        cbor.Tag(parse.WRAPPED, {parse.PLATFORM: [263, platform], parse.REALM: [263, "text"]}),
    ]
    parse_token(cbor.encode(cbor.Tag(parse.BARE, good)))
    for value in wrong:
        with pytest.raises(MalformedEvidence):
            parse_token(cbor.encode(value))


def test_a_payload_that_is_no_map_is_unreadable(place: Any):
    realm = sign(place.realm.claims(CHALLENGE), place.realm.key)
    for payload in (b"", b"\x80", b"\xff", b"\xbf\xff"):
        with pytest.raises(MalformedEvidence):
            parse_token(assemble(cose.sign(payload, place.platform.key, cose.Algorithm.ES384), realm))


def test_every_truncation_and_every_trailing_byte_is_unreadable(place: Any):
    data = place.realm.quote(CHALLENGE)
    for length in [*range(100), *range(100, len(data), 11), len(data) - 1]:
        with pytest.raises(MalformedEvidence):
            parse_token(data[:length])
    for tail in (b"\0", data):
        with pytest.raises(MalformedEvidence):
            parse_token(data + tail)
    with pytest.raises(MalformedEvidence, match="limit"):
        parse_token(bytes(MAX_TOKEN_BYTES + 1))


def test_real_tokens_are_read(vectors: Path):
    example = parse_token((vectors / "example_token.cbor").read_bytes())
    assert (example.realm.profile, len(example.realm.public_key)) == ("", 97)
    assert len(example.platform.components) == 13
    veraison = parse_token((vectors / "veraison_evidence.cbor").read_bytes())
    assert veraison.realm.profile == "tag:arm.com,2023:realm#1.0.0"
    assert (veraison.platform.lifecycle, veraison.realm.public_key_hash) == (0x3000, "sha-512")


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=400), st.sampled_from([b"", b"\xd9\x01\x8f\xa2\x19\xac\xca", b"\xd9\x03\x8b"]))
def test_any_bytes_are_unreadable(data: bytes, start: bytes):
    with pytest.raises(MalformedEvidence):
        parse_token(start + data)
