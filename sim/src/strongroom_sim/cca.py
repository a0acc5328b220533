"""A simulated Arm CCA platform with realms: tokens in the structure of the RMM specification 1.0 (section A7.2.3).

Knows: the claims of both tokens, how one vouches for the other's key, how registers are extended. Does not know: how
a guest reaches it, where keys are kept; all of it lives in memory. Every platform token says `strongroom-sim` in its
verification service, and its key is made anew, so its anchor is of class `installation`.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from strongroom.crypto import cbor, cose
from strongroom.crypto.signatures import generate_p384, public_to_der
from strongroom.errors import UsageError
from strongroom.records.evidence import ArmCollateral
from strongroom.tee.anchors import TrustAnchor
from strongroom.tee.cca import parse, platform_anchor
from strongroom.tee.cca.verify import LEGACY_PLATFORM, PLATFORM_PROFILE, REALM_PROFILE

SECURED = 0x3000
FIRMWARE = ("RSE_BL2", "AP_BL31", "RMM")
REGISTER_BYTES = 64
REGISTERS = 4
HASH_NAME = "sha-512"
MARK = "strongroom-sim (simulated, protects nothing)"

Claims = dict[int, Any]


class CcaPlatform:
    """One simulated machine with its attestation key (CPAK)."""

    def __init__(self, *, lifecycle: int = SECURED) -> None:
        """`lifecycle` as the platform token states it; other than secured to see it noticed."""
        self.key = generate_p384()
        self.implementation_id = hashlib.sha256(b"strongroom-sim/cca/v1").digest()
        self.instance_id = b"\x01" + secrets.token_bytes(32)
        self.lifecycle = lifecycle

    @property
    def cpak(self) -> bytes:
        """The platform's public key, SubjectPublicKeyInfo in DER."""
        return public_to_der(self.key.public_key())

    @property
    def anchor(self) -> TrustAnchor:
        """The key as a trust anchor."""
        return platform_anchor(self.cpak)

    @property
    def collateral(self) -> ArmCollateral:
        """The key with the platform that it is of."""
        return ArmCollateral(self.cpak, self.implementation_id, self.instance_id)

    def claims(self, challenge: bytes, *, legacy: bool) -> Claims:
        """What the platform token says, over the hash of a realm's key."""
        measured = [hashlib.sha256(f"strongroom-sim/{name}".encode()).digest() for name in FIRMWARE]
        signer = hashlib.sha256(b"strongroom-sim/firmware-signer").digest()
        return {
            parse.PROFILE: LEGACY_PLATFORM if legacy else PLATFORM_PROFILE,
            parse.CHALLENGE: challenge,
            parse.IMPLEMENTATION_ID: self.implementation_id,
            parse.INSTANCE_ID: self.instance_id,
            parse.CONFIG: b"\xcf\xcf\xcf\xcf",
            parse.LIFECYCLE: self.lifecycle,
            parse.PLATFORM_HASH: "sha-256",
            parse.SERVICE: MARK,
            parse.COMPONENTS: [
                {parse.COMPONENT_TYPE: name, parse.MEASUREMENT: value, parse.SIGNER: signer}
                for name, value in zip(FIRMWARE, measured, strict=True)
            ],
        }


class Realm:
    """One simulated realm on a platform. Its initial measurement is fixed; four registers can be extended."""

    def __init__(
        self, platform: CcaPlatform, *, rim: bytes, rpv: bytes = bytes(REGISTER_BYTES), legacy: bool = False
    ) -> None:
        """`rim` and `rpv` of 64 bytes; `legacy` tokens have a bare point for a key and no profile of the realm."""
        if len(rim) != REGISTER_BYTES or len(rpv) != REGISTER_BYTES:
            raise UsageError("a measurement of the simulated realm has the wrong size")
        self.platform = platform
        self.key = generate_p384()
        self._legacy = legacy
        self._rim, self._rpv = rim, rpv
        self._registers = [bytes(REGISTER_BYTES)] * REGISTERS

    def extend(self, register: int, measurement: bytes) -> None:
        """What RSI_MEASUREMENT_EXTEND does to measurements 1 to 4, which are REM0 to REM3 (0 is the RIM, which is fixed).

        SHA-512 over the register and up to 64 bytes.
        """
        if register not in range(1, REGISTERS + 1) or not 1 <= len(measurement) <= REGISTER_BYTES:
            raise UsageError(f"register {register} cannot be extended by {len(measurement)} bytes")
        self._registers[register - 1] = hashlib.sha512(self._registers[register - 1] + measurement).digest()

    def quote(self, report_data: bytes) -> bytes:
        """A token over a challenge of 64 bytes and the registers as they are now."""
        if len(report_data) != REGISTER_BYTES:
            raise UsageError(f"a challenge of {len(report_data)} bytes where {REGISTER_BYTES} are needed")
        realm = self.claims(report_data)
        return assemble(self.platform_token(realm[parse.PUBLIC_KEY]), sign(realm, self.key))

    def claims(self, challenge: bytes) -> Claims:
        """What the realm token says."""
        profile = {} if self._legacy else {parse.PROFILE: REALM_PROFILE}
        return {
            **profile,
            parse.CHALLENGE: challenge,
            parse.PERSONALIZATION: self._rpv,
            parse.INITIAL: self._rim,
            parse.EXTENSIBLE: list(self._registers),
            parse.REALM_HASH: HASH_NAME,
            parse.PUBLIC_KEY: self.public_key,
            parse.PUBLIC_KEY_HASH: HASH_NAME,
        }

    @property
    def public_key(self) -> bytes:
        """The realm's key as its profile writes it."""
        public = self.key.public_key()
        point = public.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        if self._legacy:
            return point
        half = len(point) // 2
        return cbor.encode(
            {cose.KEY_TYPE: cose.EC2, cose.CURVE: 2, cose.X: point[1 : 1 + half], cose.Y: point[1 + half :]}
        )

    def platform_claims(self, public_key: bytes) -> Claims:
        """What the platform token says beside a realm token with this key."""
        return self.platform.claims(hashlib.sha512(public_key).digest(), legacy=self._legacy)

    def platform_token(self, public_key: bytes) -> bytes:
        """The platform token that vouches for `public_key`."""
        return sign(self.platform_claims(public_key), self.platform.key)


def sign(claims: Mapping[int, Any], key: EllipticCurvePrivateKey) -> bytes:
    """Claims as one signed token."""
    return cose.sign(cbor.encode(claims), key, cose.Algorithm.ES384)


def assemble(platform: bytes, realm: bytes, *, wrapped: bool = False) -> bytes:
    """Both tokens as a collection; `wrapped` as records of CMW."""
    members: dict[int, Any] = {parse.PLATFORM: platform, parse.REALM: realm}
    if wrapped:
        members = {label: [parse.EAT_CWT, value] for label, value in members.items()}
    return cbor.encode(cbor.Tag(parse.WRAPPED if wrapped else parse.BARE, members))
