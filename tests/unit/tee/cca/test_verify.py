"""Tokens of a simulated platform: each check alone, and the failures that other verifiers are known for."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from strongroom.crypto import cbor, cose
from strongroom.crypto.signatures import generate_ed25519, generate_p256, generate_p384, public_to_der
from strongroom.errors import MalformedEvidence
from strongroom.records.evidence import ArmCollateral
from strongroom.records.verdict import RootClass, Status, all_passed
from strongroom.tee.anchors import TrustAnchor
from strongroom.tee.cca import parse, parse_token, platform_anchor, verify
from strongroom.tee.genuine import Genuine
from strongroom_sim.broken.cca import Broken, broken
from strongroom_sim.cca import CcaPlatform, Realm, assemble, sign

NOW = 1_790_000_000
CHALLENGE = bytes(range(64))
CHECKS = [
    "cca.profile",
    "cca.collateral",
    "cca.platform.key",
    "cca.anchor",
    "cca.platform.signature",
    "cca.realm.key",
    "cca.realm.binding",
    "cca.realm.signature",
]


def failed(genuine: Genuine) -> set[str]:
    return {check.id for check in genuine.checks if check.status is Status.FAIL}


@pytest.fixture(scope="module")
def cases(place: Any) -> Mapping[str, Broken]:
    return broken(place.platform, NOW)


def both(place: Any, platform: bytes | None = None, realm: bytes | None = None) -> bytes:
    """A token of a good platform and a good realm token, unless others are given."""
    mine = place.realm
    return assemble(platform or mine.platform_token(mine.public_key), realm or sign(mine.claims(CHALLENGE), mine.key))


@pytest.mark.parametrize("legacy", [True, False])
def test_a_good_token_is_genuine_under_its_platforms_key(place: Any, legacy: Any):
    realm = Realm(place.platform, rim=b"r" * 64, rpv=b"p" * 64, legacy=legacy)
    realm.extend(1, b"event")  # REM0
    genuine = place.judge(realm.quote(CHALLENGE))
    assert [check.id for check in genuine.checks] == CHECKS
    assert all_passed(genuine.checks)
    assert genuine.root_class is RootClass.INSTALLATION
    assert (genuine.tcb_status, genuine.advisories) == (None, ())
    claims = genuine.claims
    assert (claims["report_data"], claims["rim"], claims["rpv"]) == (CHALLENGE.hex(), "72" * 64, "70" * 64)
    assert claims["rem0"] == hashlib.sha512(bytes(64) + b"event").hexdigest()
    assert claims["rem1"] == claims["rem3"] == "00" * 64
    assert (claims["realm_hash"], claims["lifecycle"]) == ("sha-512", 0x3000)
    assert claims["instance_id"] == place.platform.instance_id.hex()
    assert claims["components"] == 3
    assert str(claims["component2"]).startswith("RMM:")


def test_a_wrapped_collection_says_the_same(place: Any):
    realm = place.realm
    parts = realm.platform_token(realm.public_key), sign(realm.claims(CHALLENGE), realm.key)
    bare, wrapped = place.judge(assemble(*parts)), place.judge(assemble(*parts, wrapped=True))
    assert all_passed(bare.checks)
    assert (bare.checks, bare.claims) == (wrapped.checks, wrapped.claims)


def test_there_is_a_broken_token_for_every_check(cases: Mapping[str, Broken]):
    assert sorted(cases) == sorted(CHECKS)


@pytest.mark.parametrize("identifier", CHECKS)
def test_each_check_fails_alone(place: Any, cases: Mapping[str, Broken], identifier: str):
    case = cases[identifier]
    genuine = verify(parse_token(case.quote), case.collateral, [place.platform.anchor], case.now)
    assert [check.id for check in genuine.checks] == CHECKS
    assert failed(genuine) == {identifier}
    assert all(check.detail for check in genuine.checks if check.status is not Status.PASS)


def test_without_the_signatures_that_hold_nothing_is_claimed(place: Any, cases: Mapping[str, Broken]):
    for identifier, case in cases.items():
        genuine = verify(parse_token(case.quote), case.collateral, [place.platform.anchor], NOW)
        assert not {"rim", "rem0", "report_data"} & set(genuine.claims), identifier
        platform_holds = identifier.startswith("cca.realm.")
        assert ("implementation_id" in genuine.claims) is platform_holds
        assert (genuine.root_class is RootClass.INSTALLATION) is platform_holds


def test_no_anchor_or_one_of_another_kind_is_no_success(place: Any):
    parsed = parse_token(place.realm.quote(CHALLENGE))
    other_kind = TrustAnchor("tdx", place.platform.anchor.fingerprint, RootClass.SILICON, "the same digest")
    for anchors in ([], [other_kind], [platform_anchor(b"")]):
        genuine = verify(parsed, place.platform.collateral, anchors, NOW)
        assert failed(genuine) == {"cca.anchor"}
        assert genuine.root_class is None


def test_collateral_with_foreign_root(place: Any, other_place: Any):
    """A key that says it is of this platform, and that nobody who is trusted named."""
    forged = replace(place.platform.collateral, cpak=other_place.platform.cpak)
    assert failed(place.judge(place.realm.quote(CHALLENGE), forged)) == {"cca.anchor"}


def test_the_key_of_another_trusted_platform_does_not_vouch_for_this_one(place: Any, other_place: Any):
    parsed = parse_token(place.realm.quote(CHALLENGE))
    anchors = [place.platform.anchor, other_place.platform.anchor]
    assert failed(verify(parsed, other_place.platform.collateral, anchors, NOW)) == {"cca.platform.key"}
    renamed = replace(place.platform.collateral, cpak=other_place.platform.cpak)
    assert failed(verify(parsed, renamed, anchors, NOW)) == {"cca.platform.signature"}
    assert all_passed(verify(parsed, place.platform.collateral, anchors, NOW).checks)


def test_a_platform_key_that_is_not_on_p384_is_none(place: Any):
    for key in (generate_p256(), generate_ed25519()):
        cpak = public_to_der(key.public_key())
        collateral = replace(place.platform.collateral, cpak=cpak)
        genuine = verify(parse_token(place.realm.quote(CHALLENGE)), collateral, [platform_anchor(cpak)], NOW)
        assert failed(genuine) == {"cca.platform.key"}
    for cpak in (b"", b"\x30\x00", place.platform.cpak + b"\0"):
        collateral = replace(place.platform.collateral, cpak=cpak)
        genuine = verify(parse_token(place.realm.quote(CHALLENGE)), collateral, [platform_anchor(cpak)], NOW)
        assert failed(genuine) == {"cca.platform.key"}


@pytest.mark.parametrize("algorithm", [cose.Algorithm.ES256, cose.Algorithm.ES512, None])
def test_alg_none_or_other_alg(place: Any, algorithm: cose.Algorithm | None):
    protected = cbor.encode({1: int(algorithm)} if algorithm else {})
    right = parse_token(place.realm.quote(CHALLENGE))
    platform, realm = (
        cbor.encode(cbor.Tag(18, [protected, {1: -35}, part.message.payload, part.message.signature]))
        for part in (right.platform, right.realm)
    )
    assert failed(place.judge(both(place, platform=platform))) == {"cca.platform.signature"}
    assert failed(place.judge(both(place, realm=realm))) == {"cca.realm.signature"}


def test_rak_swapped_between_platform_and_realm(place: Any):
    """Two realms of one platform: neither may show the other's platform token."""
    first, second = Realm(place.platform, rim=b"a" * 64), Realm(place.platform, rim=b"b" * 64)
    mixed = assemble(second.platform_token(second.public_key), sign(first.claims(CHALLENGE), first.key))
    genuine = place.judge(mixed)
    assert failed(genuine) == {"cca.realm.binding"}
    assert "rim" not in genuine.claims


def test_the_platforms_own_key_does_not_sign_for_a_realm(place: Any):
    claims = place.realm.claims(CHALLENGE)
    assert failed(place.judge(both(place, realm=sign(claims, place.platform.key)))) == {"cca.realm.signature"}


@pytest.mark.parametrize("name", ["sha-256", "sha-384", "sha-512"])
def test_the_realm_says_with_which_hash_its_key_is_bound(place: Any, name: str):
    realm = place.realm
    digest = hashlib.new(name.replace("-", ""), realm.public_key).digest()
    claims = sign(realm.claims(CHALLENGE) | {parse.PUBLIC_KEY_HASH: name}, realm.key)
    platform = sign(place.platform.claims(digest, legacy=False), place.platform.key)
    assert all_passed(place.judge(assemble(platform, claims)).checks)
    padded = sign(place.platform.claims(digest.ljust(64, b"\0")[:64][::-1], legacy=False), place.platform.key)
    assert failed(place.judge(assemble(padded, claims))) == {"cca.realm.binding"}


@pytest.mark.parametrize("name", ["sha-1", "md5", "SHA-512", "sha512", "sha-224", "none"])
def test_a_hash_that_is_not_admitted_binds_nothing(place: Any, name: str):
    claims = sign(place.realm.claims(CHALLENGE) | {parse.PUBLIC_KEY_HASH: name}, place.realm.key)
    assert failed(place.judge(both(place, realm=claims))) == {"cca.realm.binding"}


LEGACY, MODERN = "http://arm.com/CCA-SSD/1.0.0", "tag:arm.com,2023:cca_platform#1.0.0"
REALM = "tag:arm.com,2023:realm#1.0.0"


@pytest.mark.parametrize(
    ("platform", "realm"),
    [
        (MODERN, None),
        (MODERN, LEGACY),
        (REALM, REALM),
        (MODERN, "tag:arm.com,2025:realm#2.0.0"),
        ("x", None),
        (LEGACY, "x"),
    ],
)
def test_profiles_that_are_no_known_pair_fail(place: Any, platform: str, realm: str | None):
    mine = place.realm
    claims = mine.claims(CHALLENGE) | {parse.PROFILE: realm}
    if realm is None:
        del claims[parse.PROFILE]
    platform_token = sign(mine.platform_claims(mine.public_key) | {parse.PROFILE: platform}, place.platform.key)
    assert failed(place.judge(assemble(platform_token, sign(claims, mine.key)))) == {"cca.profile"}


def test_a_key_in_the_form_of_the_other_profile_is_none(place: Any):
    """A point where a COSE_Key belongs, and the other way round: one profile, one form."""
    legacy, modern = Realm(place.platform, rim=bytes(64), legacy=True), place.realm
    for realm, foreign in ((legacy, modern.public_key), (modern, legacy.public_key)):
        claims = realm.claims(CHALLENGE) | {parse.PUBLIC_KEY: foreign}
        assert failed(place.judge(assemble(realm.platform_token(foreign), sign(claims, realm.key)))) == {
            "cca.realm.key"
        }


def test_a_certificate_in_the_unprotected_header_is_not_looked_at(place: Any):
    right = parse_token(place.realm.quote(CHALLENGE)).platform.message
    thief = generate_p384()
    stolen = cose.parse(cose.sign(right.payload, thief, cose.Algorithm.ES384))
    for message in (right, stolen):
        parts = [message.protected, {33: b"certificate", 4: b"kid"}, message.payload, message.signature]
        genuine = place.judge(both(place, platform=cbor.encode(cbor.Tag(18, parts))))
        assert failed(genuine) == ({"cca.platform.signature"} if message is stolen else set())


@pytest.mark.parametrize("lifecycle", [0x0000, 0x1000, 0x2000, 0x4000, 0x50FF, 0x6000])
def test_a_platform_that_is_not_secured_is_genuine_and_says_so(lifecycle: int):
    platform = CcaPlatform(lifecycle=lifecycle)
    token = parse_token(Realm(platform, rim=bytes(64)).quote(CHALLENGE))
    genuine = verify(token, platform.collateral, [platform.anchor], NOW)
    assert all_passed(genuine.checks)
    assert genuine.claims["lifecycle"] == lifecycle


def test_no_changed_byte_of_a_token_is_accepted(place: Any):
    quote = place.realm.quote(CHALLENGE)
    for position in range(0, len(quote), 3):
        changed = bytearray(quote)
        changed[position] ^= 1 << (position % 8)
        try:
            parsed = parse_token(bytes(changed))
        except MalformedEvidence:
            continue
        genuine = verify(parsed, place.platform.collateral, [place.platform.anchor], NOW)
        assert not all_passed(genuine.checks), position


def test_missing_collateral_is_a_failed_check(place: Any):
    parsed = parse_token(place.realm.quote(CHALLENGE))
    assert failed(verify(parsed, None, [place.platform.anchor], NOW)) == {"cca.collateral"}
    empty = ArmCollateral(b"", b"", b"")
    assert failed(verify(parsed, empty, [place.platform.anchor], NOW)) == {"cca.platform.key"}
