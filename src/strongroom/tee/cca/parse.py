"""The bytes of an Arm CCA attestation token (RMM specification 1.0, section A7.2.3; draft-ffm-rats-cca-token).

Knows: the collection of a platform token and a realm token, under tag 399 (bare) or 907 (as CMW records of type
`application/eat+cwt`); both tokens as tagged COSE_Sign1; every claim with its label, type and size. Does not know:
whether any of it is true (`verify`). Refused, with `MalformedEvidence`: a claim with a label that is not in the
specification, a size outside its rule, a life cycle that no state has, anything after the end. Not covered: tokens of
RMM 2.0 (profile `…#2.0.0`), device claims.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from strongroom.crypto import cbor, cose
from strongroom.errors import MalformedEvidence

MAX_TOKEN_BYTES = 32 * 1024
BARE, WRAPPED = 399, 907
EAT_CWT = 263
"""CoAP content format of `application/eat+cwt`."""
PLATFORM, REALM = 44234, 44241

PROFILE, CHALLENGE = 265, 10
IMPLEMENTATION_ID, INSTANCE_ID, CONFIG, LIFECYCLE = 2396, 256, 2401, 2395
COMPONENTS, SERVICE, PLATFORM_HASH = 2399, 2400, 2402
PERSONALIZATION, REALM_HASH, PUBLIC_KEY = 44235, 44236, 44237
INITIAL, EXTENSIBLE, PUBLIC_KEY_HASH = 44238, 44239, 44240
COMPONENT_TYPE, MEASUREMENT, VERSION, SIGNER, COMPONENT_HASH = 1, 2, 4, 5, 6

HASH_BYTES = {32, 48, 64}
CHALLENGE_BYTES = 64
IMPLEMENTATION_BYTES = 32
INSTANCE_BYTES = 33
INSTANCE_FIRST = 1
EXTENSIBLE_MEASUREMENTS = 4
LIFECYCLE_STATES = range(7)
MAX_TEXT = 256
MAX_COMPONENTS = 64
MAX_CONFIG_BYTES = 1024
MAX_KEY_BYTES = 512


@dataclass(frozen=True, slots=True)
class Component:
    """One piece of the platform's firmware: what it is, its measurement, and the hash of who signed it."""

    kind: str
    measurement: bytes
    version: str
    signer: bytes
    hash_algorithm: str


@dataclass(frozen=True, slots=True)
class Platform:
    """The platform token's claims; `challenge` is the hash of the key that signs the realm token."""

    message: cose.Sign1
    profile: str
    challenge: bytes
    implementation_id: bytes
    instance_id: bytes
    config: bytes
    lifecycle: int
    components: tuple[Component, ...]
    service: str
    hash_algorithm: str


@dataclass(frozen=True, slots=True)
class Realm:
    """The realm token's claims; `profile` is empty where there is none. `public_key` is the claim's bytes as they stood.

    `initial` is the RIM, `extensible` are REM0 to REM3, `personalization` is the RPV.
    """

    message: cose.Sign1
    profile: str
    challenge: bytes
    personalization: bytes
    initial: bytes
    extensible: tuple[bytes, ...]
    hash_algorithm: str
    public_key: bytes
    public_key_hash: str


@dataclass(frozen=True, slots=True)
class Token:
    """Both tokens of one attestation."""

    platform: Platform
    realm: Realm


def parse_token(data: bytes) -> Token:
    """Read one token, nothing after it. Raises `MalformedEvidence`."""
    found = cbor.decode(data, limit=MAX_TOKEN_BYTES, depth=4, tags={BARE, WRAPPED})
    if not isinstance(found, cbor.Tag):
        raise MalformedEvidence("a CCA token that is not tagged as one")
    collection = cbor.Fields(found.value, "a CCA token")
    platform, realm = (_member(collection, label, wrapped=found.tag == WRAPPED) for label in (PLATFORM, REALM))
    collection.end()
    return Token(_platform(platform), _realm(realm))


def _member(collection: cbor.Fields, label: int, *, wrapped: bool) -> cose.Sign1:
    """One of the two messages; wrapped, it is a CMW record: its type and its value."""
    sizes = range(1, MAX_TOKEN_BYTES)
    if not wrapped:
        return cose.parse(collection.octets(label, sizes), tagged=True)
    kind, value = collection.items(label, range(2, 3))
    if type(kind) is not int or kind != EAT_CWT or not isinstance(value, bytes):
        raise MalformedEvidence("a CCA token whose record is not an attestation token")
    return cose.parse(value, tagged=True)


def _platform(message: cose.Sign1) -> Platform:
    fields = cbor.Fields(cbor.decode(message.payload, limit=MAX_TOKEN_BYTES, depth=4), "a CCA platform token")
    instance_id = fields.octets(INSTANCE_ID, {INSTANCE_BYTES})
    if instance_id[0] != INSTANCE_FIRST:
        raise MalformedEvidence("a CCA platform whose instance id is of no known type")
    lifecycle = fields.integer(LIFECYCLE, range(1 << 16))
    if lifecycle >> 12 not in LIFECYCLE_STATES or lifecycle >> 8 & 0xF:
        raise MalformedEvidence(f"a CCA platform in a life cycle {lifecycle:#06x} that no state has")
    platform = Platform(
        message=message,
        profile=fields.text(PROFILE, MAX_TEXT),
        challenge=fields.octets(CHALLENGE, HASH_BYTES),
        implementation_id=fields.octets(IMPLEMENTATION_ID, {IMPLEMENTATION_BYTES}),
        instance_id=instance_id,
        config=fields.octets(CONFIG, range(MAX_CONFIG_BYTES + 1)),
        lifecycle=lifecycle,
        components=tuple(_component(item) for item in fields.items(COMPONENTS, range(1, MAX_COMPONENTS + 1))),
        service=_optional_text(fields, SERVICE),
        hash_algorithm=fields.text(PLATFORM_HASH, MAX_TEXT),
    )
    fields.end()
    return platform


def _component(item: Any) -> Component:
    fields = cbor.Fields(item, "a CCA software component")
    component = Component(
        kind=_optional_text(fields, COMPONENT_TYPE),
        measurement=fields.octets(MEASUREMENT, HASH_BYTES),
        version=_optional_text(fields, VERSION),
        signer=fields.octets(SIGNER, HASH_BYTES),
        hash_algorithm=_optional_text(fields, COMPONENT_HASH),
    )
    fields.end()
    return component


def _realm(message: cose.Sign1) -> Realm:
    fields = cbor.Fields(cbor.decode(message.payload, limit=MAX_TOKEN_BYTES, depth=3), "a CCA realm token")
    extensible = fields.items(EXTENSIBLE, range(EXTENSIBLE_MEASUREMENTS, EXTENSIBLE_MEASUREMENTS + 1))
    if not all(isinstance(value, bytes) and len(value) in HASH_BYTES for value in extensible):
        raise MalformedEvidence("a CCA realm token with a measurement of the wrong size")
    realm = Realm(
        message=message,
        profile=_optional_text(fields, PROFILE),
        challenge=fields.octets(CHALLENGE, {CHALLENGE_BYTES}),
        personalization=fields.octets(PERSONALIZATION, {CHALLENGE_BYTES}),
        initial=fields.octets(INITIAL, HASH_BYTES),
        extensible=extensible,
        hash_algorithm=fields.text(REALM_HASH, MAX_TEXT),
        public_key=fields.octets(PUBLIC_KEY, range(1, MAX_KEY_BYTES + 1)),
        public_key_hash=fields.text(PUBLIC_KEY_HASH, MAX_TEXT),
    )
    fields.end()
    return realm


def _optional_text(fields: cbor.Fields, label: int) -> str:
    return fields.text(label, MAX_TEXT) if fields.has(label) else ""
