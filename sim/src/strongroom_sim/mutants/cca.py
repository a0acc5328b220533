"""Mutants of CCA tokens: claims of platform and realm, their messages, the collection around them; signed anew by both.

Knows: the claims (RMM specification 1.0, section A7.2.3), and what each makes a verdict say. Does not know: how mutants are
judged.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from strongroom.appraisal.kinds import KINDS
from strongroom.crypto import cbor
from strongroom.crypto.signatures import generate_p384
from strongroom.records.evidence import Collateral
from strongroom.tee.cca import parse
from strongroom.tee.cca.verify import LEGACY_PLATFORM, PLATFORM_PROFILE, REALM_PROFILE
from strongroom_sim.cca import Claims, Realm, assemble, sign
from strongroom_sim.conformance import Sample
from strongroom_sim.mutants import messages
from strongroom_sim.mutants.mutant import (
    UNCHANGED,
    Base,
    Change,
    Forge,
    Maker,
    Mutant,
    Said,
    other,
    swapped,
    with_collateral,
    with_quote,
)
from strongroom_sim.subjects import DATA, Hardware

WRAPPED, ORDER, TEXT, HASH, KEY = "cca.wrapped", "cca.order", "cca.text", "cca.key_hash", "cca.key"
ALGORITHMS = {"sha-256": hashlib.sha256, "sha-384": hashlib.sha384, "sha-512": hashlib.sha512}
Says = tuple[Claims, Claims, str, Said | None, str]


@dataclass(frozen=True, slots=True)
class Token:
    """One realm on the platform: its claims, its form, the good sample."""

    realm: Realm
    wrapped: bool
    platform_claims: Claims
    realm_claims: Claims
    base: Base


class Cca:
    """One platform with realms of both profiles, all of whose keys are at hand."""

    def __init__(self, hardware: Hardware) -> None:
        self.platform = hardware.arm
        self.now = hardware.now
        self.tokens = [
            self._token(Realm(self.platform, rim=DATA, legacy=legacy), wrapped=wrapped)
            for legacy in (False, True)
            for wrapped in (False, True)
        ]

    def _token(self, realm: Realm, *, wrapped: bool) -> Token:
        said = realm.claims(DATA)
        below = realm.platform_claims(said[parse.PUBLIC_KEY])
        quote = assemble(sign(below, self.platform.key), sign(said, realm.key), wrapped=wrapped)
        sample = Sample(quote, Collateral(arm=self.platform.collateral), self.now)
        return Token(realm, wrapped, below, said, Base.of(KINDS["cca"], [self.platform.anchor], sample))

    def quote(self, token: Token, platform: Mapping[Any, Any], realm: Mapping[Any, Any]) -> bytes:
        """Both tokens with these claims, signed anew."""
        return assemble(sign(platform, self.platform.key), sign(realm, token.realm.key), wrapped=token.wrapped)


def _platform(chance: random.Random, token: Token) -> Says:
    """One claim of the platform token."""
    found = dict(token.platform_claims)
    says: Said | None = None
    where, free = "platform", ""
    match chance.randrange(8):
        case 0:
            found[parse.CONFIG] = chance.randbytes(chance.choice([0, 1, 4, 33, 1024]))
            where, says = "config", {"config": found[parse.CONFIG].hex()}
        case 1:
            found[parse.LIFECYCLE] = value = chance.choice(
                [0, 0x2FFF, 0x30FF, 0x4000, 0x6001, 0x7000, chance.randrange(1 << 16)]
            )
            where, says = "lifecycle", {"lifecycle": value} if value >> 12 < 7 and not value >> 8 & 0xF else None  # noqa: PLR2004
        case 2:
            found[parse.PLATFORM_HASH] = text = chance.choice(["sha-512", "x", "", "é"])
            where, says = "platform hash", {"platform_hash": text} if text and text.isascii() else None
        case 3:
            found[parse.SERVICE] = f"https://example/{chance.randrange(1 << 30)}"
            where, says, free = "service", UNCHANGED, TEXT
        case 4:
            name = chance.choice([parse.IMPLEMENTATION_ID, parse.INSTANCE_ID, parse.CHALLENGE])
            found[name], where = other(chance, found[name]), "identity"
        case 5:
            names = (LEGACY_PLATFORM, PLATFORM_PROFILE, "x", "tag:arm.com,2023:cca_platform#2.0.0")
            found[parse.PROFILE] = chance.choice([name for name in names if name != found[parse.PROFILE]])
            pair = found[parse.PROFILE], token.realm_claims.get(parse.PROFILE, "")
            known = {(LEGACY_PLATFORM, ""), (LEGACY_PLATFORM, REALM_PROFILE), (PLATFORM_PROFILE, REALM_PROFILE)}
            where, says = "profile", {"platform_profile": found[parse.PROFILE]} if pair in known else None
        case _:
            found, where, says, free = _component(chance, found)
    return found, token.realm_claims, where, says, free


def _component(chance: random.Random, found: Claims) -> tuple[Claims, str, Said | None, str]:
    """One piece of firmware: measured otherwise, added, left out, with other words beside it."""
    pieces = [dict(piece) for piece in found[parse.COMPONENTS]]
    at = chance.randrange(len(pieces))
    piece = pieces[at]
    says: Said | None = UNCHANGED
    free = ""
    match chance.randrange(5):
        case 0:
            piece[chance.choice([parse.VERSION, parse.COMPONENT_HASH])] = f"v{chance.randrange(1 << 30)}"
            where, free = "component.text", TEXT
        case 1:
            del pieces[at]
            where = "component left out"
        case 2:
            pieces.insert(at, {**piece, parse.MEASUREMENT: chance.randbytes(32)})
            where = "component added"
        case 3:
            piece[chance.choice([parse.MEASUREMENT, parse.SIGNER])] = chance.randbytes(chance.choice([0, 20, 33]))
            where, says = "component.size", None
        case _:
            name = chance.choice([parse.MEASUREMENT, parse.SIGNER])
            piece[name], where = other(chance, piece[name]), "component"
    if says is not None:
        told: dict[str, str | int | None] = {f"component{index}": None for index in range(4)}
        told |= {f"component{index}": _word(one) for index, one in enumerate(pieces)}
        says = {**told, "components": len(pieces)}
    return {**found, parse.COMPONENTS: pieces}, where, says, free


def _word(piece: Mapping[int, Any]) -> str:
    return f"{piece[parse.COMPONENT_TYPE]}:{piece[parse.MEASUREMENT].hex()}:{piece[parse.SIGNER].hex()}"


def _realm(chance: random.Random, token: Token) -> Says:
    """One claim of the realm token; the platform token vouches for its key as it is then."""
    found, below = dict(token.realm_claims), dict(token.platform_claims)
    says: Said | None = None
    where, free = "realm", ""
    match chance.randrange(7):
        case 0:
            found[parse.CHALLENGE] = other(chance, found[parse.CHALLENGE])
            where, says = "challenge", {"report_data": found[parse.CHALLENGE].hex()}
        case 1:
            found[parse.PERSONALIZATION] = other(chance, found[parse.PERSONALIZATION])
            where, says = "personalization", {"rpv": found[parse.PERSONALIZATION].hex()}
        case 2:
            found[parse.INITIAL] = value = chance.choice([other(chance, DATA), bytes(32), bytes(48), bytes(20), b""])
            where, says = "initial", {"rim": value.hex()} if len(value) in {32, 48, 64} else None
        case 3:
            registers, at = list(found[parse.EXTENSIBLE]), chance.randrange(4)
            registers[at] = other(chance, registers[at])
            found[parse.EXTENSIBLE] = registers
            where, says = "extensible", {f"rem{at}": registers[at].hex()}
        case 4:
            found[parse.EXTENSIBLE] = found[parse.EXTENSIBLE][:1] * chance.choice([0, 1, 2, 3, 5, 8])
            where = "extensible count"
        case 5:
            found[parse.REALM_HASH] = text = chance.choice(["sha-256", "x", ""])
            where, says = "realm hash", {"realm_hash": text} if text else None
        case _:
            name = chance.choice([*ALGORITHMS, "sha-1", "md5", ""])
            found[parse.PUBLIC_KEY_HASH] = name
            where, free = "key hash", HASH
            if name in ALGORITHMS:
                below[parse.CHALLENGE] = ALGORITHMS[name](found[parse.PUBLIC_KEY]).digest()
                says = UNCHANGED
                if not chance.randrange(3):
                    below[parse.CHALLENGE], says = other(chance, below[parse.CHALLENGE]), None
    return below, found, where, says, free


def _claim(chance: random.Random, forge: Cca) -> Mutant:
    token = chance.choice(forge.tokens)
    platform, realm, where, says, free = chance.choice((_platform, _realm))(chance, token)
    return with_quote(token.base, Change(forge.quote(token, platform, realm), where, says, free=free))


def _shape(chance: random.Random, forge: Cca) -> Mutant:
    """A claim of another type, one that nobody knows, one that is missing."""
    token = chance.choice(forge.tokens)
    parts: list[dict[Any, Any]] = [dict(token.platform_claims), dict(token.realm_claims)]
    mine = chance.choice(parts)
    name = chance.choice(tuple(mine))
    says: Said | None = None
    free = ""
    match chance.randrange(3):
        case 0:
            mine[chance.choice([1, 99999, "x", parse.PLATFORM, -1])] = messages.strange(chance)
        case 1:
            del mine[name]
            if name == parse.SERVICE:
                says, free = UNCHANGED, TEXT
            if name == parse.PROFILE and mine is parts[1] and parts[0][parse.PROFILE] == LEGACY_PLATFORM:
                says = {"realm_profile": ""}
        case _:
            mine[name] = chance.choice([None, True, -1, [], {}, [[]], b"", "", 1 << 40])
            if name == parse.CONFIG and mine[name] == b"":
                says = {"config": ""}
    quote = forge.quote(token, parts[0], parts[1])
    return with_quote(token.base, Change(quote, "shape", says, free=free))


def _message(chance: random.Random, forge: Cca) -> Mutant:
    """One of the two messages made otherwise."""
    token = chance.choice(forge.tokens)
    of_realm = chance.randrange(2)
    said = token.realm_claims if of_realm else token.platform_claims
    key = token.realm.key if of_realm else forge.platform.key
    payload = cbor.encode(said)
    if not chance.randrange(6):
        payload = messages.reordered(chance, payload)
        made = messages.Outcome(_signed(payload, key), "payload order", UNCHANGED, ORDER)
    else:
        made = messages.change_message(chance, payload, key, tagged=True, either=False, unprotected=True)
    platform = sign(token.platform_claims, forge.platform.key) if of_realm else made.message
    realm = made.message if of_realm else sign(token.realm_claims, token.realm.key)
    quote = assemble(platform, realm, wrapped=token.wrapped)
    return with_quote(token.base, Change(quote, made.where, made.says, free=made.free))


def _signed(payload: bytes, key: Any) -> bytes:
    protected = cbor.encode({1: -35})
    return messages.joined(protected, {}, payload, messages.signature(key, protected, payload), tagged=True)


def _collection(chance: random.Random, forge: Cca) -> Mutant:
    """What stands around both messages; and messages of two machines put together."""
    token = chance.choice(forge.tokens)
    stranger = chance.choice([one for one in forge.tokens if one.realm is not token.realm])
    platform, realm = sign(token.platform_claims, forge.platform.key), sign(token.realm_claims, token.realm.key)
    members: dict[Any, Any] = {parse.PLATFORM: platform, parse.REALM: realm}
    says: Said | None = None
    free, where = "", "collection"
    match chance.randrange(6):
        case 0:
            quote, says, free = assemble(platform, realm, wrapped=not token.wrapped), UNCHANGED, WRAPPED
        case 1:
            body = b"".join(cbor.encode(name) + cbor.encode(members[name]) for name in (parse.REALM, parse.PLATFORM))
            quote, says, free = cbor.encode(cbor.Tag(parse.BARE, 0))[:-1] + b"\xa2" + body, UNCHANGED, ORDER
        case 2:
            quote = cbor.encode(cbor.Tag(parse.BARE, {**members, chance.choice([1, "x"]): b""}))
        case 3:
            quote = cbor.encode(cbor.Tag(chance.choice([18, 55799, 400, parse.WRAPPED]), members))
        case 4:
            other_realm = sign(stranger.realm_claims, stranger.realm.key)
            quote, where = assemble(platform, other_realm, wrapped=token.wrapped), "realm of another"
        case _:
            quote, where = assemble(realm, platform, wrapped=token.wrapped), "swapped"
    return with_quote(token.base, Change(quote, where, says, free=free))


def _key(chance: random.Random, forge: Cca) -> Mutant:
    """The realm's key: another one, another spelling of it, one that nobody vouches for."""
    token = chance.choice(forge.tokens)
    fresh = generate_p384()
    realm = Realm(forge.platform, rim=DATA, legacy=parse.PROFILE not in token.realm_claims)
    claims = {**token.realm_claims, parse.PUBLIC_KEY: realm.public_key}
    below = {**token.platform_claims, parse.CHALLENGE: hashlib.sha512(realm.public_key).digest()}
    says: Said | None = None
    match chance.randrange(4):
        case 0:
            key, says = realm.key, UNCHANGED
        case 1:
            key = fresh
        case 2:
            key, below = realm.key, token.platform_claims
        case _:
            key = token.realm.key
            value = other(chance, token.realm_claims[parse.PUBLIC_KEY])
            claims = {**claims, parse.PUBLIC_KEY: value}
            below = {**below, parse.CHALLENGE: hashlib.sha512(value).digest()}
    quote = assemble(sign(below, forge.platform.key), sign(claims, key), wrapped=token.wrapped)
    return with_quote(token.base, Change(quote, "realm key", says, free=KEY))


def _endorsement(chance: random.Random, forge: Cca) -> Mutant:
    """What is said of the platform's key: of another platform, another key, another form."""
    token, arm = chance.choice(forge.tokens), forge.platform.collateral
    name = chance.choice(("cpak", "implementation_id", "instance_id"))
    value = getattr(arm, name)
    made = chance.choice([other(chance, value), value + b"\0", value[:-1], b"", chance.randbytes(len(value))])
    return with_collateral(token.base, Collateral(arm=swapped(arm, **{name: made})), Change(b"", f"endorsement {name}"))


def forge(hardware: Hardware) -> Forge:
    """The mutants of `cca`."""
    made = Cca(hardware)
    ways: Mapping[str, tuple[int, Callable[[random.Random, Cca], Mutant]]] = {
        "claim": (10, _claim),
        "shape": (3, _shape),
        "message": (4, _message),
        "collection": (2, _collection),
        "key": (1, _key),
        "endorsement": (1, _endorsement),
    }
    return Forge(
        "cca",
        [token.base for token in made.tokens],
        {name: Maker(weight, _bind(make, made)) for name, (weight, make) in ways.items()},
    )


def _bind(make: Callable[[random.Random, Cca], Mutant], made: Cca) -> Callable[[random.Random], Mutant]:
    return lambda chance: make(chance, made)
