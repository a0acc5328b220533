"""CBOR and COSE messages changed: their headers, their wrapping, the spelling of what is signed.

Knows: COSE_Sign1 (RFC 9052) as ES384 signs it, and CBOR (RFC 8949) as far as it is written otherwise here. Does not know:
what a payload says.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils

from strongroom.crypto import cbor, cose
from strongroom_sim.mutants import scalars
from strongroom_sim.mutants.mutant import UNCHANGED, Said

TAGGED, HEADER, ORDER, UNPROTECTED = "cose.tag", "cose.header", "cbor.order", "cose.unprotected"
KEY_ID, CONTENT_TYPE = 4, 3
HALF = 48
P384 = ec.SECP384R1()


@dataclass(frozen=True, slots=True)
class Outcome:
    """A changed message, what must come of it, and the explanation if it may say the same."""

    message: bytes
    where: str
    says: Said | None
    free: str = ""


def signature(key: ec.EllipticCurvePrivateKey, protected: bytes, payload: bytes) -> bytes:
    """R and s over the Sig_structure (RFC 9052 section 4.4)."""
    data = cbor.encode(["Signature1", protected, b"", payload])
    digest = hashlib.sha384(data).digest()
    r, s = utils.decode_dss_signature(key.sign(digest, ec.ECDSA(utils.Prehashed(hashes.SHA384()))))
    return r.to_bytes(HALF, "big") + s.to_bytes(HALF, "big")


def joined(protected: bytes, unprotected: Mapping[Any, Any], payload: bytes, signed: bytes, *, tagged: bool) -> bytes:
    """The message."""
    parts = [protected, unprotected, payload, signed]
    return cbor.encode(cbor.Tag(cose.TAG, parts) if tagged else parts)


def change_message(
    chance: random.Random,
    payload: bytes,
    key: ec.EllipticCurvePrivateKey,
    *,
    tagged: bool,
    either: bool,
    unprotected: bool,
) -> Outcome:
    """The payload signed again in a message that is made otherwise.

    `either`: the tag may be there or not; `unprotected`: nobody looks at the unprotected header.
    """
    header: dict[Any, Any] = {cose.ALGORITHM: int(cose.Algorithm.ES384)}
    good = cbor.encode(header)
    match chance.randrange(6):
        case 0:
            protected, says = _header(chance, header)
            made = joined(protected, {}, payload, signature(key, protected, payload), tagged=tagged)
            return Outcome(made, "cose.header", says, HEADER)
        case 1:
            value, says = scalars.change_raw(chance, signature(key, good, payload), P384)
            return Outcome(joined(good, {}, payload, value, tagged=tagged), "cose.signature", says, scalars.ECDSA)
        case 2:
            made = joined(good, {}, payload, signature(key, good, payload), tagged=not tagged)
            return Outcome(made, "cose.tag", UNCHANGED if either else None, TAGGED)
        case 3:
            other = {chance.choice([KEY_ID, CONTENT_TYPE, 33, "x", cose.ALGORITHM]): chance.randbytes(4)}
            made = joined(good, other, payload, signature(key, good, payload), tagged=tagged)
            return Outcome(made, "cose.unprotected", UNCHANGED if unprotected else None, UNPROTECTED)
        case 4:
            value = signature(key, good, payload)
            value = chance.choice([value[:-1], value + b"\0", b"", value * 2, b"\0" + value])
            return Outcome(joined(good, {}, payload, value, tagged=tagged), "cose.signature size", None)
        case _:
            parts: list[Any] = [good, {}, payload, signature(key, good, payload)]
            at = chance.randrange(4)
            parts[at] = chance.choice([None, 7, "text", [], payload + b"\0" if at == 2 else b"x"])  # noqa: PLR2004
            made = cbor.encode(cbor.Tag(cose.TAG, parts) if tagged else parts)
            return Outcome(made, "cose.part", None)


def _header(chance: random.Random, header: dict[Any, Any]) -> tuple[bytes, Said | None]:
    """A protected header that says something else, or more."""
    match chance.randrange(5):
        case 0:
            return cbor.encode({**header, KEY_ID: chance.randbytes(8)}), UNCHANGED
        case 1:
            return cbor.encode({**header, 2: [KEY_ID], KEY_ID: b"x"}), None  # critical
        case 2:
            stated = chance.choice([-7, -36, -8, 0, -37, True, "ES384", None])
            return cbor.encode({cose.ALGORITHM: stated}), None
        case 3:
            return chance.choice([b"", b"\xa0", b"\x80", b"\xff", cbor.encode({**header, "1": -7})[:-1]]), None
        case _:
            return cbor.encode(header) + b"\0", None


def reordered(chance: random.Random, encoded: bytes) -> bytes:
    """A map of CBOR with its members in another order."""
    found = list(dict(cbor.decode(encoded, open_lengths=True)).items())
    chance.shuffle(found)
    head = cbor.encode(dict(found))[:1]
    return head + b"".join(cbor.encode(name) + cbor.encode(value) for name, value in found)


def opened(encoded: bytes) -> bytes:
    """A map of up to 23 members whose length is left open."""
    return b"\xbf" + encoded[1:] + b"\xff"


def strange(chance: random.Random) -> Any:
    """A value that stands in no field."""
    return chance.choice(
        [None, True, 0, -1, 1 << 63, "", "text", "é", b"", chance.randbytes(8), [], {}, [[]], {1: 1}, b"x" * 2000]
    )
