"""CCA tokens that are wrong in one way each: for every check the one that fails it, and fails nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

from strongroom.crypto.signatures import generate_p384
from strongroom.records.evidence import ArmCollateral
from strongroom.tee.cca import parse
from strongroom_sim.cca import CcaPlatform, Realm, assemble, sign

RIM = bytes(range(64))
CHALLENGE = bytes(64)


class Broken(NamedTuple):
    """A token, the platform key that comes with it, and the time at which it is judged, which does not matter."""

    quote: bytes
    collateral: ArmCollateral | None
    now: int


def broken(platform: CcaPlatform, now: int) -> Mapping[str, Broken]:
    """Check -> what fails exactly this check under the key of `platform`."""
    realm, other, foreign = Realm(platform, rim=RIM), Realm(platform, rim=RIM), CcaPlatform()
    mine, good = platform.collateral, realm.quote(CHALLENGE)
    claims = realm.claims(CHALLENGE)
    platform_claims, platform_token = realm.platform_claims(realm.public_key), realm.platform_token(realm.public_key)
    unknown = {**platform_claims, parse.PROFILE: "tag:arm.com,2099:cca_platform#1.0.0"}
    no_key = b"\x04" + bytes(96)
    return {
        "cca.profile": Broken(assemble(sign(unknown, platform.key), sign(claims, realm.key)), mine, now),
        "cca.collateral": Broken(good, None, now),
        "cca.platform.key": Broken(good, replace(mine, instance_id=foreign.instance_id), now),
        "cca.anchor": Broken(Realm(foreign, rim=RIM).quote(CHALLENGE), foreign.collateral, now),
        "cca.platform.signature": Broken(
            assemble(sign(platform_claims, foreign.key), sign(claims, realm.key)), mine, now
        ),
        "cca.realm.key": Broken(
            assemble(realm.platform_token(no_key), sign({**claims, parse.PUBLIC_KEY: no_key}, realm.key)), mine, now
        ),
        "cca.realm.binding": Broken(
            assemble(other.platform_token(other.public_key), sign(claims, realm.key)), mine, now
        ),
        "cca.realm.signature": Broken(assemble(platform_token, sign(claims, generate_p384())), mine, now),
    }
