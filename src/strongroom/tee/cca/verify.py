"""Is it genuine? The whole ordered verification of an Arm CCA token, offline, under given anchors.

Knows: the steps (RMM specification 1.0, section A7.2; Arm CCA Security Model DEN0096, section 12.3). Does not know:
what anyone wants of the realm (`appraisal`), where collateral comes from.

    (1) profiles   (2) collateral   (3) the key of this very platform   (4) anchor   (5) platform signature
    (6) realm key   (7) binding of the realm key to the platform token   (8) realm signature

Arm has no public root: whoever runs a platform, or built it, vouches for its attestation key (CPAK), and that key
itself is the anchor. So an anchor of this kind is the SHA-256 of a SubjectPublicKeyInfo in DER. Both tokens are signed
with ES384: the security model names P-384 and nothing weaker, so ES256 is refused, whatever a header says. Certificates
in an unprotected header are not looked at. A token names no time, so there is nothing to be fresh but the challenge; a
key that was withdrawn is an anchor taken away. A platform under debug is genuine: its life cycle is a claim that
every appraisal judges.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence

from cryptography.hazmat.primitives.asymmetric import ec

from strongroom.crypto import cose, signatures
from strongroom.records.digest import digest_bytes
from strongroom.records.evidence import ArmCollateral
from strongroom.records.verdict import RootClass
from strongroom.tee.anchors import TrustAnchor
from strongroom.tee.cca.parse import Component, Platform, Realm, Token
from strongroom.tee.genuine import Genuine
from strongroom.tee.steps import Doubt, Outcome, Steps, require

KIND = "cca"
LEGACY_PLATFORM = "http://arm.com/CCA-SSD/1.0.0"
"""The profile before Arm's tags; it describes platform and realm claims."""
PLATFORM_PROFILE = "tag:arm.com,2023:cca_platform#1.0.0"
REALM_PROFILE = "tag:arm.com,2023:realm#1.0.0"
PROFILES = {(LEGACY_PLATFORM, ""), (LEGACY_PLATFORM, REALM_PROFILE), (PLATFORM_PROFILE, REALM_PROFILE)}
HASHES = {"sha-256": hashlib.sha256, "sha-384": hashlib.sha384, "sha-512": hashlib.sha512}
"""Names of the IANA Named Information Hash Algorithm Registry, as the specification recommends."""
ALGORITHM = cose.Algorithm.ES384


def verify(token: Token, collateral: ArmCollateral | None, anchors: Sequence[TrustAnchor], now: int) -> Genuine:  # noqa: ARG001 (a token has no time)
    """Judge `token` with `collateral` under `anchors`. Never raises: every doubt is a check."""
    steps = Steps()
    platform, realm = token.platform, token.realm
    profile = steps.run(
        "cca.profile",
        lambda: _profile(platform, realm),
        describe=lambda pair: f"{pair[0]}, {pair[1] or 'none of its own'}",
    )  # (1)
    given = steps.run("cca.collateral", lambda: _given(collateral))  # (2)
    key = steps.run("cca.platform.key", lambda: _platform_key(platform, given.value), given)  # (3)
    anchor = steps.run(  # (4)
        "cca.anchor", lambda: _anchor_of(given.value, anchors), key, describe=lambda found: found.name
    )
    platform_signed = steps.run(  # (5)
        "cca.platform.signature", lambda: _signed(platform, key.value), profile, anchor
    )
    realm_key = steps.run("cca.realm.key", lambda: _realm_key(realm), profile)  # (6)
    bound = steps.run("cca.realm.binding", lambda: _bound(platform, realm), platform_signed)  # (7)
    realm_signed = steps.run("cca.realm.signature", lambda: _signed(realm, realm_key.value), realm_key, bound)  # (8)
    claims: dict[str, str | int] = {}
    if platform_signed.holds:
        claims |= platform_claims(platform)
    if realm_signed.holds:
        claims |= realm_claims(realm)
    return Genuine(
        kind=KIND,
        checks=steps.checks,
        root_class=_root_class(anchor, platform_signed),
        tcb_status=None,
        advisories=(),
        claims=claims,
    )


def platform_anchor(cpak: bytes) -> TrustAnchor:
    """The anchor that a platform's own key is, from its SubjectPublicKeyInfo in DER.

    It is of class `installation`: nobody but the one who names it says that a vendor made it.
    """
    fingerprint = digest_bytes(cpak)
    return TrustAnchor(KIND, fingerprint, RootClass.INSTALLATION, f"CCA platform key {fingerprint}")


def platform_claims(platform: Platform) -> dict[str, str | int]:
    """What a platform token says. Each component is one claim, as `component_text` writes it."""
    return {
        "platform_profile": platform.profile,
        "implementation_id": platform.implementation_id.hex(),
        "instance_id": platform.instance_id.hex(),
        "config": platform.config.hex(),
        "lifecycle": platform.lifecycle,
        "platform_hash": platform.hash_algorithm,
        "components": len(platform.components),
        **{f"component{index}": component_text(found) for index, found in enumerate(platform.components)},
    }


def realm_claims(realm: Realm) -> dict[str, str | int]:
    """What a realm token says; `report_data` is its challenge."""
    return {
        "realm_profile": realm.profile,
        "realm_hash": realm.hash_algorithm,
        "rim": realm.initial.hex(),
        **{f"rem{index}": value.hex() for index, value in enumerate(realm.extensible)},
        "rpv": realm.personalization.hex(),
        "report_data": realm.challenge.hex(),
    }


def component_text(component: Component) -> str:
    """A component as one word: its type, measurement and signer, the last two in hexadecimal, with colons between."""
    return f"{component.kind}:{component.measurement.hex()}:{component.signer.hex()}"


def _root_class(anchor: Outcome[TrustAnchor], signed: Outcome[bool]) -> RootClass | None:
    return anchor.value.root_class if signed.holds else None


def _profile(platform: Platform, realm: Realm) -> tuple[str, str]:
    """Both profiles, once they are a pair whose claims are the ones that were read."""
    pair = platform.profile, realm.profile
    require(pair in PROFILES, f"profiles {platform.profile!r} and {realm.profile or 'none'!r} are no known pair")
    return pair


def _given(collateral: ArmCollateral | None) -> ArmCollateral:
    if collateral is None:
        raise Doubt("no key that endorses this platform was given")
    return collateral


def _platform_key(platform: Platform, collateral: ArmCollateral) -> ec.EllipticCurvePublicKey:
    """The CPAK, once it is said to be of this implementation and of this very instance."""
    mine = (platform.implementation_id, platform.instance_id)
    require(
        mine == (collateral.implementation_id, collateral.instance_id),
        f"no key was given for the platform {platform.instance_id.hex()}",
    )
    key = signatures.public_from_der(collateral.cpak)
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP384R1):
        raise Doubt("the platform's key is not on P-384")
    return key


def _anchor_of(collateral: ArmCollateral, anchors: Sequence[TrustAnchor]) -> TrustAnchor:
    candidates = [anchor for anchor in anchors if anchor.kind == KIND]
    require(candidates, "no trust anchor for CCA was given")
    digest = digest_bytes(collateral.cpak)
    found = [anchor for anchor in candidates if anchor.fingerprint == digest]
    require(found, f"the platform's key {digest} is not among the trust anchors")
    return found[0]


def _realm_key(realm: Realm) -> ec.EllipticCurvePublicKey:
    """The RAK: a point of P-384 where the legacy profile describes the realm, else a COSE_Key."""
    read = cose.key_from_cose if realm.profile else cose.key_from_point
    return read(realm.public_key, ALGORITHM)


def _bound(platform: Platform, realm: Realm) -> bool:
    """The platform token vouches for the realm's key: its challenge is the hash of the claim's bytes."""
    digest = HASHES.get(realm.public_key_hash)
    if digest is None:
        raise Doubt(f"the realm's key is hashed with {realm.public_key_hash!r}, which is not admitted")
    expected = digest(realm.public_key).digest()
    require(hmac.compare_digest(expected, platform.challenge), "the platform token is about another realm key")
    return True


def _signed(part: Platform | Realm, key: ec.EllipticCurvePublicKey) -> bool:
    cose.verify(part.message, key, ALGORITHM)
    return True
